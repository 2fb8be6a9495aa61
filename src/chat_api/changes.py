"""The change feed: subscriptions of clients to the changes of a user's conversations."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chat_api import sse
from chat_api.background import Background
from chat_api.db import changes as db_changes
from chat_api.db.changes import Page, Place
from chat_api.db.database import Database
from chat_api.errors import BadRequest, Draining
from chat_api.generation.rounds import Rounds
from chat_api.generation.sink import Sink
from chat_api.telemetry import log

# How long a change may wait for the poll that finds it.
POLL_SECONDS = 0.25
_TICK_SECONDS = 0.25
_MOVED_SECONDS = 1.0
_CURSOR = re.compile("0|[1-9][0-9]{0,17}")


def read_cursor(text: str) -> int:
    """Return the number of the change whose id this is. Raise BadRequest for anything else."""
    if _CURSOR.fullmatch(text) is None:
        raise BadRequest("The cursor is not an id of an event of this service.")
    return int(text)


class FramedPage(NamedTuple):
    """A page for all subscriptions at one place, which share the bytes that they send."""

    page: Page
    frames: bytes


class ChangeSubscription:
    """Writes a user's changes to a sink, from a place on, each once and in order."""

    def __init__(
        self, feed: "ChangeFeed", sink: Sink, place: Place, *, begins: bool, clock_now: float
    ) -> None:
        """With `begins`, the client is first told the place itself."""
        self._feed = feed
        self._sink = sink
        self.place = place
        self._begins = begins
        self._page: FramedPage | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._leaving = False
        self._beat = False
        self._last_sent = clock_now

    async def run(self) -> None:
        """Write to the sink until the subscription is ended or the client disconnects."""
        await self._write(sse.RETRY)
        if self._begins:
            await self._write(_frame(self.place[1], b'{"cursor":true}'))
        self._feed.ask(self, urgent=False)
        while not self._leaving:
            if self._beat:
                self._beat = False
                await self._write(sse.HEARTBEAT)
            elif self._page is not None:
                page, frames = self._page
                self._page = None
                if frames:
                    await self._write(frames)
                self.place = (self.place[0], page.number)
                self._feed.ask(self, urgent=page.is_full)
            else:
                self._alarm = asyncio.get_running_loop().create_future()
                await self._alarm
                self._alarm = None

    async def _write(self, data: bytes) -> None:
        await self._sink.write(data)
        self._last_sent = self._feed.now()

    def _wake(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def take(self, page: FramedPage, /) -> None:
        """Send a page of changes."""
        self._page = page
        self._wake()

    def look_at_clock(
        self, now: float, *, heartbeat_seconds: float, slow_reader_seconds: float
    ) -> None:
        """Send a heartbeat after a silence; disconnect a client that reads nothing."""
        blocked_since = self._sink.blocked_since
        if blocked_since is not None:
            if now - blocked_since > slow_reader_seconds:
                log.info("slow_change_subscription_dropped")
                self._sink.abort()
        elif now - self._last_sent > heartbeat_seconds:
            self._beat = True
            self._wake()

    def leave(self) -> None:
        """End before the next change: the client has disconnected or must reconnect."""
        self._leaving = True
        self._wake()

    def send_away(self) -> None:
        """End now, even if the client reads nothing."""
        if self._sink.blocked_since is None:
            self.leave()
        else:
            self._sink.abort()

    def close(self) -> None:
        """Release everything; must be called after every end of the subscription."""
        self._feed.close(self)


def _frame(number: int, data: bytes) -> bytes:
    return sse.encode(str(number), data)


class ChangeFeed(Rounds[Place, Page, FramedPage]):
    """Reads the changes of all connected users of this process, and owns their subscriptions."""

    def __init__(
        self,
        db: Database,
        upkeep: Database,
        *,
        heartbeat_seconds: float,
        slow_reader_seconds: float,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`db` serves a subscription's beginning, `upkeep` the poll."""
        super().__init__(every_seconds=poll_seconds)
        self._db = db
        self._upkeep = upkeep
        self._heartbeat_seconds = heartbeat_seconds
        self._slow_reader_seconds = slow_reader_seconds
        self.now = clock
        self._open: set[ChangeSubscription] = set()
        self._is_closed = False

    def tasks(self) -> tuple[Background, ...]:
        """Return the tasks that read, and that look at clocks and for users who have moved."""
        return (
            Background("follow-changes", self.step),
            Background("look-at-changes", self._look_at_clocks, every_seconds=_TICK_SECONDS),
            Background("send-moved-away", self._send_moved_away, every_seconds=_MOVED_SECONDS),
        )

    async def subscribe(self, user_id: str, cursor: int | None, sink: Sink) -> ChangeSubscription:
        """Return a subscription to the changes after the cursor or, without one, after now.

        Raise Draining, UserMoving or DatabaseUnavailable.
        """
        last = await db_changes.last_number(self._db, user_id)
        if self._is_closed:
            raise Draining
        place = (user_id, last if cursor is None else cursor)
        subscription = ChangeSubscription(
            self, sink, place, begins=cursor is None, clock_now=self.now()
        )
        self._open.add(subscription)
        return subscription

    def close(self, subscription: ChangeSubscription) -> None:
        """Remove a subscription that has ended."""
        self.forget(subscription)
        self._open.discard(subscription)

    def send_away(self) -> None:
        """End every subscription and refuse new ones: clients reconnect to other processes."""
        self._is_closed = True
        for subscription in list(self._open):
            subscription.send_away()

    async def _read(self, places: Sequence[Place]) -> dict[int, Page]:
        return await db_changes.read_pages(self._upkeep, places)

    def _shared(self, page: Page, place: Place) -> FramedPage:  # noqa: ARG002  # asked by Rounds
        return FramedPage(page, b"".join(_frame(*change) for change in page.changes))

    async def _look_at_clocks(self) -> None:
        now = self.now()
        for subscription in list(self._open):
            subscription.look_at_clock(
                now,
                heartbeat_seconds=self._heartbeat_seconds,
                slow_reader_seconds=self._slow_reader_seconds,
            )

    async def _send_moved_away(self) -> None:
        """End the subscriptions of users whose changes are in another cell by now."""
        if not self._open:
            return
        moved = await db_changes.moved_lately(self._upkeep)
        for subscription in list(self._open):
            if subscription.place[0] in moved:
                subscription.send_away()
