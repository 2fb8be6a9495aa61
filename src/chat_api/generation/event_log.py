"""The log of running answers: written for all of a process's answers together, read likewise.

The writer takes what its answers have published since the last time, every 150 ms, into one
statement. The follower reads for every reader that memory cannot serve: those of answers that
another process writes, those that come late, and those that fell behind.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from chat_api.db import event_log as db_event_log
from chat_api.db.database import Database
from chat_api.db.event_log import LogRow, Page
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.telemetry import EVENT_LOG_ROWS, log

_MOST_BATCH_CHARS = 4_000_000


class LogWriter:
    """Writes what this process's generations have published, and learns which it still holds."""

    def __init__(self, db: Database, registry: Registry, *, every_seconds: float) -> None:
        self._db = db
        self._registry = registry
        self._every = every_seconds
        self._failed = False
        self._losses = 0

    @property
    def doubtful(self) -> bool:
        """Whether the log may end earlier than it has confirmed.

        A connection was lost: the database may have died, and with it the last asynchronous
        commits.
        """
        return self._failed or self._losses != self._db.connections_lost

    async def step(self) -> None:
        """Write a batch, once a generation runs."""
        await self._registry.until_busy()
        await asyncio.sleep(self._every)
        await self.flush()

    async def flush(self) -> None:
        """Write what is new. Raise DatabaseUnavailable; nothing is forgotten then."""
        running = [one for one in self._registry.running.values() if not one.ending]
        if not running:
            return
        try:
            if self.doubtful:
                losses = self._db.connections_lost
                await self.compare(running)
                self._failed, self._losses = False, losses
            rows = [row for one in running if (row := one.unlogged()) is not None]
            # What has piled up in an outage must not become one statement that is always too large.
            for batch in _batches(rows):
                held = await db_event_log.append(self._db, self._registry.process, batch)
        except DatabaseUnavailable:
            self._failed = True
            raise
        EVENT_LOG_ROWS.inc(len(rows))
        written = {row.message_id: row.last_event for row in rows}
        for generation in running:
            state = held.get(generation.message_id)
            if state is not None and state.attempt == generation.attempt:
                if generation.message_id in written:
                    generation.confirm(written[generation.message_id])
                if state.stop_requested:
                    generation.stop_writing(StopReason.STOPPED)
            elif not generation.ending:
                # Another process has taken it, or it was deleted with its conversation.
                log.warning(
                    "generation_lost",
                    message_id=generation.message_id,
                    attempt=generation.attempt,
                )
                generation.stop_writing(StopReason.NOT_OURS)

    async def compare(self, running: Sequence[RunningGeneration]) -> None:
        """Ask where the log of each really ends, so that what it lost is written again."""
        ends = await db_event_log.find_ends(
            self._db, [(one.message_id, one.attempt) for one in running]
        )
        for generation in running:
            generation.log_lost(ends[generation.message_id])


def _batches(rows: list[LogRow]) -> Iterator[list[LogRow]]:
    """Yield the rows in batches of a few megabytes; one empty batch for no rows."""
    batch: list[LogRow] = []
    size = 0
    for row in rows:
        if batch and size + len(row.events) > _MOST_BATCH_CHARS:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.events)
    yield batch


class Waiting(Protocol):
    """A reader that waits for the log."""

    @property
    def place(self) -> tuple[str, int, int]: ...

    def take(self, page: Page) -> None: ...


class Follower:
    """Asks the log for every waiting reader in one statement."""

    def __init__(self, db: Database, *, every_seconds: float) -> None:
        self._db = db
        self._every = every_seconds
        self._waiting: set[Waiting] = set()
        self._present = asyncio.Event()  # somebody waits
        self._asked = asyncio.Event()  # somebody cannot wait for the next round

    def ask(self, reader: Waiting, *, urgent: bool) -> None:
        """The reader's `take` will be called when there is something new at its place.

        `urgent` for one that has something to catch up with: it is looked up at once.
        """
        self._waiting.add(reader)
        self._present.set()
        if urgent:
            self._asked.set()

    def forget(self, reader: Waiting) -> None:
        self._waiting.discard(reader)

    async def step(self) -> None:
        await self._present.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._every)
        self._asked.clear()
        readers = list(self._waiting)
        if not readers:
            self._present.clear()
            return
        places = [reader.place for reader in readers]
        pages = await db_event_log.read_pages(self._db, places)
        for index, page in pages.items():
            reader = readers[index]
            if reader in self._waiting and reader.place == places[index]:
                self._waiting.discard(reader)
                reader.take(page)
