"""Detection of generations that stall their process."""

import time
from collections.abc import Callable

from chat_api.background import Background
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason
from chat_api.generation.takeover import MOST_CRASHES
from chat_api.telemetry import log


class Stalls:
    """Counts a stall of this process as a crash of its generations; the third one ends them.

    A generation that stalls one process would stall the next. If no other process has taken it
    over, which counts as a crash, this one counts it, also for a later hand-over. A
    process that was frozen from outside used no processor: no generation is to blame for that.
    """

    def __init__(
        self,
        db: Database,
        registry: Registry,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._db = db
        self._registry = registry
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._processor_clock = processor_clock
        self._last_look: tuple[float, float] | None = None  # by both clocks
        self._uncounted: set[tuple[str, int]] = set()

    def task(self) -> Background:
        """Return the task that watches."""
        return Background("watch-stalls", self.watch, every_seconds=self._lease_seconds / 8)

    async def watch(self) -> None:
        """Check whether the process was busy with one thing for longer than a lease."""
        now, worked = self._clock(), self._processor_clock()
        if self._last_look is not None:
            passed, worked = now - self._last_look[0], worked - self._last_look[1]
            if passed > self._lease_seconds and worked > passed / 4:
                log.error("process_stalled", seconds=round(passed, 1))
                self._uncounted.update(self._registry.held())
        await self.count()
        self._last_look = self._clock(), self._processor_clock()

    async def count(self) -> None:
        """Count the stalls that are not counted yet. Raise DatabaseUnavailable."""
        if not self._uncounted:
            return
        stalled = list(self._uncounted)
        crashes = await db_leases.count_stall(self._db, stalled, self._registry.process)
        self._uncounted.difference_update(stalled)
        for message_id, count in crashes.items():
            if count >= MOST_CRASHES:
                log.warning("generation_given_up", message_id=message_id, crashes=count)
                if (running := self._registry.running.get(message_id)) is not None:
                    running.stop_writing(StopReason.STALLED)
