"""Writing the event log of all generations of a process together."""

import asyncio
from collections.abc import Iterator, Sequence

from chat_api.db import event_log as db_event_log
from chat_api.db.database import Database, StatementRefused
from chat_api.db.event_log import Held, LogRow
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.telemetry import EVENT_LOG_ROWS, log

_MOST_BATCH_CHARS = 4_000_000


class LogWriter:
    """Writes the events of this process's generations, and learns which it still holds."""

    def __init__(self, db: Database, registry: Registry, *, every_seconds: float) -> None:
        self._db = db
        self._registry = registry
        self._every = every_seconds
        self._failed = False
        self._losses = 0

    @property
    def doubtful(self) -> bool:
        """Return whether the log may end earlier than it has confirmed.

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
        """Write the new events. Raise DatabaseUnavailable; the events are then kept."""
        running = [one for one in self._registry.running.values() if not one.ending]
        if not running:
            return
        try:
            if self.doubtful:
                losses = self._db.connections_lost
                await self.compare(running)
                self._failed, self._losses = False, losses
            rows = [row for one in running if (row := one.unlogged()) is not None]
            small = [piece for row in rows for piece in db_event_log.pieces(row)]
            # After an outage, all events in one statement could be too large at every try.
            refused: set[str] = set()
            for batch in _batches(small):
                held = await self._append(batch, refused)
        except DatabaseUnavailable:
            self._failed = True
            raise
        EVENT_LOG_ROWS.inc(len(rows))
        written = {row.message_id: row.last_event for row in rows if row.message_id not in refused}
        for generation in running:
            if generation.message_id in refused:
                generation.stop_writing(StopReason.REFUSED)
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

    async def _append(self, rows: list[LogRow], refused: set[str]) -> dict[str, Held]:
        """Write the rows; if the database refuses a row, find it and note its message."""
        process = self._registry.process
        try:
            return await db_event_log.append(self._db, process, rows)
        except StatementRefused:
            if not rows:
                raise
        if len(rows) == 1:
            log.error("generation_refused", message_id=rows[0].message_id)
            refused.add(rows[0].message_id)
            return await db_event_log.append(self._db, process, [])
        middle = len(rows) // 2
        held = await self._append(rows[:middle], refused)
        return held | await self._append(rows[middle:], refused)

    async def compare(self, running: Sequence[RunningGeneration]) -> None:
        """Compare where each log really ends, so that lost events are written again."""
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
