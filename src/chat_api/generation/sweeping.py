"""Removing what is no longer needed; several processes share the work."""

from chat_api.db import changes, housekeeping
from chat_api.db.database import Database
from chat_api.generation.background import Background

# The longest pause; a shorter one where the log is kept for a short time.
_SWEEP_SECONDS = 30.0
_ORPHANS_SECONDS = 3600.0


class Sweeping:
    """Sweeps the event log of generations that ended a while ago, and what is a day old."""

    def __init__(self, db: Database, *, log_retention_seconds: float) -> None:
        self._db = db
        self._log_retention_seconds = log_retention_seconds

    def tasks(self) -> tuple[Background, ...]:
        """Return the tasks that sweep."""
        every_seconds = min(_SWEEP_SECONDS, max(1.0, self._log_retention_seconds))
        return (
            Background("sweep", self._sweep, every_seconds=every_seconds),
            Background("sweep-orphans", self._sweep_orphans, every_seconds=_ORPHANS_SECONDS),
        )

    async def _sweep(self) -> None:
        await housekeeping.sweep(self._db, self._log_retention_seconds)
        await changes.sweep(self._db)

    async def _sweep_orphans(self) -> None:
        await housekeeping.sweep_orphans(self._db)
        await changes.sweep_counters(self._db)
