"""Reading the event log for all subscriptions of a process together.

The follower reads for those that memory cannot serve: subscriptions to what another process runs,
those that come late, and those that fell behind.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from weakref import WeakValueDictionary

from chat_api.db import event_log as db_event_log
from chat_api.db.database import Database, StatementRefused
from chat_api.db.event_log import Page
from chat_api.generation import events

Place = tuple[str, int, int]
"""Message id, attempt, and the number of the last event that was read."""


class Then(Enum):
    """What follows a page of the log."""

    MORE = "more"
    END = "end"
    STORED = "stored"  # the generation has ended, and the rest of its events is gone


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page means to a subscription: bytes to send, the place after them, what follows."""

    frames: bytes
    attempt: int
    number: int
    then: Then
    urgent: bool = False


class SharedPage:
    """A page for all subscriptions at one place, which share the bytes that they send."""

    def __init__(self, page: Page, place: Place) -> None:
        self._page = page
        self._place = place
        self._readings: dict[bool, Reading] = {}

    def read(self, *, one_attempt: bool) -> Reading:
        """Return what the page means, also to the other subscriptions of this kind."""
        reading = self._readings.get(one_attempt)
        if reading is None:
            reading = _read(self._page, self._place, one_attempt=one_attempt)
            self._readings[one_attempt] = reading
        return reading


def _read(page: Page, place: Place, *, one_attempt: bool) -> Reading:
    message_id, attempt, number = place
    if page.gone:
        return Reading(b"", attempt, number, Then.END)
    frames: list[bytes] = []
    if page.attempt != attempt and page.seam is not None and number <= page.seam:
        attempt = page.attempt  # which goes on from this place
    elif page.attempt != attempt:
        if one_attempt:
            return Reading(b"", attempt, number, Then.END)
        seen, told = (attempt, number), events.place_of_reset(page.attempt)
        attempt = page.attempt
        if page.seam is not None and page.rows:
            # It goes on from an earlier place: what was seen after that died with the process.
            so_far = events.collected(page.rows)
            number = so_far.last_event
            snapshot = events.snapshot(so_far.written.text, so_far.written.reasoning)
            frames.append(events.frame(message_id, attempt, number, snapshot))
        else:
            number = 0
            if seen != told:
                frames.append(events.frame(message_id, *told, events.reset(attempt)))
    for event in events.unpack(page.rows, number):
        if page.last_event is not None and event.number > page.last_event:
            break
        data = event.data
        if one_attempt and (content := events.snapshot_content(data)) is not None:
            if number > 0:
                return Reading(b"".join(frames), attempt, number, Then.END)
            data = events.token(content)
        frames.append(events.frame(message_id, attempt, event.number, data))
        number = event.number
    then = Then.MORE
    if page.ended and number == page.last_event:
        then = Then.END
    elif page.ended and not frames:
        then = Then.STORED
    # A page that is full has a successor.
    return Reading(b"".join(frames), attempt, number, then, urgent=bool(frames) and page.more)


class Waiting(Protocol):
    """A subscription, as the follower knows it."""

    @property
    def place(self) -> Place:
        """The event after which it waits for more."""

    def take(self, page: SharedPage) -> None:
        """There is something new at its place."""

    def leave(self) -> None:
        """What follows its place cannot be read."""


class Load:
    """Bytes that are read once for all subscriptions that want them at the same time."""

    def __init__(self, read: Coroutine[Any, Any, bytes | None]) -> None:
        self._task = asyncio.create_task(read, name="read-stored")
        self._task.add_done_callback(_see)

    async def frames(self) -> bytes | None:
        """Return the bytes once they are read."""
        return await asyncio.shield(self._task)


def _see(task: asyncio.Task[bytes | None]) -> None:
    if not task.cancelled():
        task.exception()  # seen, even where every subscription has ended


class Follower:
    """Reads the log for every waiting subscription in one statement, in turn.

    Subscriptions at the same place are given the same page. One that has sent its page asks again,
    and is then the last in the queue.
    """

    def __init__(self, db: Database, *, every_seconds: float) -> None:
        self._db = db
        self._every = every_seconds
        self._waiting: dict[Waiting, None] = {}  # in the order in which they asked
        self._present = asyncio.Event()  # a subscription waits
        self._asked = asyncio.Event()  # one is not to wait for the next round
        self._loads: WeakValueDictionary[Hashable, Load] = WeakValueDictionary()

    def share(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, bytes | None]]) -> Load:
        """Return the load of `key` that other subscriptions hold, else a new one by `read`."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = Load(read())
        return load

    def ask(self, subscription: Waiting, *, urgent: bool) -> None:
        """Have its `take` called when there is something new at its place.

        `urgent` for one that has something to catch up with: it is looked up at once.
        """
        self._waiting[subscription] = None
        self._present.set()
        if urgent:
            self._asked.set()

    def forget(self, subscription: Waiting) -> None:
        """It does not wait any more."""
        self._waiting.pop(subscription, None)

    async def step(self) -> None:
        """Read one round, once a subscription waits."""
        await self._present.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._every)
        self._asked.clear()
        if not self._waiting:
            self._present.clear()
            return
        waiting: dict[Place, list[Waiting]] = {}
        for subscription in self._waiting:
            waiting.setdefault(subscription.place, []).append(subscription)
        places = list(waiting)
        pages = await self._pages(places)
        if sum(page.size for page in pages.values() if page) >= db_event_log.ROUND_BYTES:
            self._asked.set()  # the last places were left for the next round
        for index, page in pages.items():
            self._give(waiting[places[index]], page, places[index])

    def _give(self, subscriptions: Sequence[Waiting], page: Page | None, place: Place) -> None:
        shared = None if page is None else SharedPage(page, place)
        for subscription in subscriptions:
            if subscription not in self._waiting or subscription.place != place:
                continue  # it has left, or gone on, while the page was read
            del self._waiting[subscription]
            if shared is None:
                subscription.leave()
            else:
                subscription.take(shared)

    async def _pages(self, places: Sequence[Place], first: int = 0) -> dict[int, Page | None]:
        """Return the pages by index, from `first` on; none for a place that cannot be read."""
        try:
            pages = await db_event_log.read_pages(self._db, places)
        except StatementRefused:
            if len(places) == 1:
                return {first: None}
            middle = len(places) // 2
            found = await self._pages(places[:middle], first)
            return found | await self._pages(places[middle:], first + middle)
        return {first + index: page for index, page in pages.items()}
