"""The log of running answers: written for all of a process's answers together, read likewise.

The writer takes what its answers have published since the last time, every 150 ms, into one
statement. The follower reads for every reader that memory cannot serve: those of answers that
another process writes, those that come late, and those that fell behind.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from weakref import WeakValueDictionary

from chat_api.db import event_log as db_event_log
from chat_api.db.database import Database, StatementRefused
from chat_api.db.event_log import Held, LogRow, Page
from chat_api.errors import DatabaseUnavailable
from chat_api.generation import events
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.telemetry import LOG_ROWS, log

_MOST_BATCH_CHARS = 4_000_000


Place = tuple[str, int, int]
"""Message id, attempt, and the number of the last event that was read."""


class Then(Enum):
    """What follows a page of the log."""

    MORE = "more"
    END = "end"
    STORED = "stored"  # the answer has ended, and the rest of its events is gone


class LogWriter:
    """Writes what `running` has published, and hears from the database what becomes of it."""

    def __init__(
        self,
        db: Database,
        process: str,
        running: Mapping[str, RunningGeneration],
        *,
        every_seconds: float,
    ) -> None:
        self._db = db
        self._process = process
        self._running = running
        self._every = every_seconds
        self._work = asyncio.Event()
        self._failed = False
        self._losses = 0

    @property
    def doubtful(self) -> bool:
        """Whether the log may end earlier than it has confirmed.

        A connection was lost: the database may have died, and with it the last asynchronous
        commits.
        """
        return self._failed or self._losses != self._db.connections_lost

    def notice(self) -> None:
        """An answer has begun."""
        self._work.set()

    async def step(self) -> None:
        if not self._running:
            self._work.clear()
            await self._work.wait()
        await asyncio.sleep(self._every)
        await self.flush()

    async def flush(self) -> None:
        """Write what is new. Raises DatabaseUnavailable; nothing is forgotten then."""
        running = [answer for answer in self._running.values() if not answer.ending]
        if not running:
            return
        try:
            if self.doubtful:
                losses = self._db.connections_lost
                await self.compare(running)
                self._failed, self._losses = False, losses
            rows = [row for answer in running if (row := answer.unlogged()) is not None]
            small = [piece for row in rows for piece in db_event_log.pieces(row)]
            # What has piled up in an outage must not become one statement that always fails.
            refused: set[str] = set()
            for batch in _batches(small):
                held = await self._append(batch, refused)
        except DatabaseUnavailable:
            self._failed = True
            raise
        LOG_ROWS.inc(len(rows))
        written = {row.message_id: row.last_event for row in rows if row.message_id not in refused}
        for answer in running:
            if answer.message_id in refused:
                answer.stop_writing(StopReason.REFUSED)
            state = held.get(answer.message_id)
            if state is not None and state.attempt == answer.attempt:
                if answer.message_id in written:
                    answer.confirm(written[answer.message_id])
                if state.stop_requested:
                    answer.stop_writing(StopReason.STOPPED)
            elif not answer.ending:
                # Another process has taken it, or it was deleted with its conversation.
                log.warning("answer_lost", message_id=answer.message_id, attempt=answer.attempt)
                answer.stop_writing(StopReason.NOT_OURS)

    async def _append(self, rows: list[LogRow], refused: set[str]) -> dict[str, Held]:
        """Write the rows; note the messages of those that the database refuses, one by one."""
        try:
            return await db_event_log.append_log(self._db, self._process, rows)
        except StatementRefused:
            if not rows:
                raise
        if len(rows) == 1:
            log.error("answer_refused", message_id=rows[0].message_id)
            refused.add(rows[0].message_id)
            return await db_event_log.append_log(self._db, self._process, [])
        middle = len(rows) // 2
        held = await self._append(rows[:middle], refused)
        return held | await self._append(rows[middle:], refused)

    async def compare(self, running: list[RunningGeneration]) -> None:
        """Go back to where the log really ends."""
        ends = await db_event_log.log_ends(
            self._db, [(answer.message_id, answer.attempt) for answer in running]
        )
        for answer in running:
            answer.log_lost(ends[answer.message_id])


def _batches(rows: list[LogRow]) -> Iterator[list[LogRow]]:
    """The rows in statements of a few megabytes; one empty batch for no rows."""
    batch: list[LogRow] = []
    size = 0
    for row in rows:
        if batch and size + len(row.events) > _MOST_BATCH_CHARS:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.events)
    yield batch


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page says to its readers: bytes to send, the place after them, and how it goes on."""

    frames: bytes
    attempt: int
    number: int
    then: Then
    urgent: bool = False


class SharedPage:
    """A page for all readers at one place, who share the bytes that they send."""

    def __init__(self, page: Page, place: Place) -> None:
        self._page = page
        self._place = place
        self._readings: dict[bool, Reading] = {}

    def read(self, *, one_attempt: bool) -> Reading:
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
    if page.attempt != attempt:
        if one_attempt:
            return Reading(b"", attempt, number, Then.END)
        attempt, number = page.attempt, 0
        frames.append(events.frame(message_id, attempt, 0, events.reset(attempt)))
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
    """A reader that waits for the log."""

    @property
    def place(self) -> Place: ...

    def take(self, page: SharedPage) -> None: ...

    def leave(self) -> None: ...


class Load:
    """Bytes that are read once for all readers who want them at the same time."""

    def __init__(self, read: Coroutine[Any, Any, bytes | None]) -> None:
        self._task = asyncio.create_task(read, name="read-stored-answer")
        self._task.add_done_callback(_see)

    async def frames(self) -> bytes | None:
        return await asyncio.shield(self._task)


def _see(task: asyncio.Task[bytes | None]) -> None:
    if not task.cancelled():
        task.exception()  # seen, even where every reader has left


class Follower:
    """Asks the log for every waiting reader in one statement, in turn.

    Readers at the same place are given the same page. A reader asks again once its last page was
    taken by its connection, and is then the last in the queue.
    """

    def __init__(self, db: Database, *, every_seconds: float) -> None:
        self._db = db
        self._every = every_seconds
        self._waiting: dict[Waiting, None] = {}  # in the order in which they asked
        self._present = asyncio.Event()  # somebody waits
        self._asked = asyncio.Event()  # somebody cannot wait for the next round
        self._loads: WeakValueDictionary[Hashable, Load] = WeakValueDictionary()

    def share(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, bytes | None]]) -> Load:
        """Return the load of `key` that other readers hold, else a new one by `read`."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = Load(read())
        return load

    def ask(self, reader: Waiting, *, urgent: bool) -> None:
        """The reader's `take` will be called when there is something new at its place.

        `urgent` for one that has something to catch up with: it is looked up at once.
        """
        self._waiting[reader] = None
        self._present.set()
        if urgent:
            self._asked.set()

    def forget(self, reader: Waiting) -> None:
        self._waiting.pop(reader, None)

    async def step(self) -> None:
        await self._present.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._every)
        self._asked.clear()
        if not self._waiting:
            self._present.clear()
            return
        readers: dict[Place, list[Waiting]] = {}
        for reader in self._waiting:
            readers.setdefault(reader.place, []).append(reader)
        places = list(readers)
        pages = await self._pages(places)
        if sum(page.size for page in pages.values() if page) >= db_event_log.ROUND_BYTES:
            self._asked.set()  # the last places were left for the next round
        for index, page in pages.items():
            place = places[index]
            if page is None:
                for reader in readers[place]:
                    self._waiting.pop(reader, None)
                    reader.leave()  # what it would read cannot be read
                continue
            shared = SharedPage(page, place)
            for reader in readers[place]:
                if reader in self._waiting and reader.place == place:
                    del self._waiting[reader]
                    reader.take(shared)

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
