"""Reading the event log for all subscriptions of a process together.

The follower reads for those that memory cannot serve: subscriptions to what another process runs,
those that come late, and those that fell behind.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakValueDictionary

from chat_api.db import event_log as db_event_log
from chat_api.db.database import Database
from chat_api.db.event_log import Page
from chat_api.generation import events
from chat_api.generation.rounds import Rounds

Place = tuple[str, int, int]
"""Message id, attempt, and the number of the last event that was read."""


class Then(Enum):
    """What a subscription does after a page of the log."""

    MORE = "more"
    END = "end"
    STORED = "stored"  # the generation has ended, and the rest of its events is gone


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a page for a subscription: bytes to send, the next place, and `Then`."""

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
        """Return the result of the page, which subscriptions of the same kind share."""
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
            # It continues from an earlier place: the events after that were lost with the process.
            so_far = events.collected(page.rows)
            number = so_far.last_event
            snapshot = events.snapshot(so_far.written.text, so_far.written.reasoning)
            frames.append(events.frame(message_id, attempt, number, snapshot))
        else:
            number = 0
            if seen != told:
                frames.append(events.frame(message_id, *told, events.reset(attempt)))
    has_text = number > 0  # whether more than a `start` has been sent
    for event in events.unpack(page.rows, number):
        if page.last_event is not None and event.number > page.last_event:
            break
        data = event.data
        if one_attempt and (content := events.snapshot_content(data)) is not None:
            if has_text:
                return Reading(b"".join(frames), attempt, number, Then.END)
            data = events.token(content)
        frames.append(events.frame(message_id, attempt, event.number, data))
        number = event.number
        has_text = has_text or not events.is_start(data)
    then = Then.MORE
    if page.ended and number == page.last_event:
        then = Then.END
    elif page.ended and not frames:
        then = Then.STORED
    # A page that is full has a successor.
    return Reading(b"".join(frames), attempt, number, then, urgent=bool(frames) and page.more)


class Load:
    """Bytes that are read once for all subscriptions that need them at the same time."""

    def __init__(self, read: Coroutine[Any, Any, bytes | None]) -> None:
        self._task = asyncio.create_task(read, name="read-stored")
        self._task.add_done_callback(_see)

    async def frames(self) -> bytes | None:
        """Return the bytes once they are read."""
        return await asyncio.shield(self._task)


def _see(task: asyncio.Task[bytes | None]) -> None:
    if not task.cancelled():
        task.exception()  # seen, even where every subscription has ended


class Follower(Rounds[Place, Page, SharedPage]):
    """Reads the log for every waiting subscription."""

    def __init__(self, db: Database, *, every_seconds: float) -> None:
        super().__init__(every_seconds=every_seconds)
        self._db = db
        self._loads: WeakValueDictionary[Hashable, Load] = WeakValueDictionary()

    def share(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, bytes | None]]) -> Load:
        """Return the load of `key` that other subscriptions hold, else a new one by `read`."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = Load(read())
        return load

    async def _read(self, places: Sequence[Place]) -> dict[int, Page]:
        pages = await db_event_log.read_pages(self._db, places)
        if sum(page.size for page in pages.values()) >= db_event_log.ROUND_BYTES:
            self._asked.set()  # the last places were left for the next round
        return pages

    def _shared(self, page: Page, place: Place) -> SharedPage:
        return SharedPage(page, place)
