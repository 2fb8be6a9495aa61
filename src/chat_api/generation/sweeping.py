"""Removing rows that are no longer needed; several processes share the work."""

import asyncio
from collections.abc import Awaitable, Callable

from chat_api.background import Background
from chat_api.db import changes, expiry, housekeeping
from chat_api.db.database import Database

# The longest pause; a shorter one where the log is kept for a short time.
_SWEEP_SECONDS = 30.0
_ORPHANS_SECONDS = 3600.0
# After each conversation that is deleted, so that sends go ahead of a long sweep.
_PAUSE_SECONDS = 0.005


class Sweeping:
    """Sweeps the event log of generations that ended a while ago, and rows that are a day old.

    Conversations are deleted when they have expired, or, with `retention_days`, when nothing has
    been written in them for so many days.
    """

    def __init__(
        self, db: Database, *, log_retention_seconds: float, retention_days: int = 0
    ) -> None:
        self._db = db
        self._log_retention_seconds = log_retention_seconds
        self._retention_days = retention_days

    def tasks(self) -> tuple[Background, ...]:
        """Return the tasks that sweep."""
        every_seconds = min(_SWEEP_SECONDS, max(1.0, self._log_retention_seconds))
        return (
            Background("sweep", self._sweep, every_seconds=every_seconds),
            Background("sweep-orphans", self._sweep_orphans, every_seconds=_ORPHANS_SECONDS),
            Background("sweep-expired", self.sweep_expired, every_seconds=every_seconds),
            Background("sweep-old", self.sweep_old, every_seconds=_ORPHANS_SECONDS),
        )

    async def _sweep(self) -> None:
        await housekeeping.sweep(self._db, self._log_retention_seconds)
        await changes.sweep(self._db)

    async def _sweep_orphans(self) -> None:
        await housekeeping.sweep_orphans(self._db)
        await changes.sweep_counters(self._db)

    async def sweep_expired(self) -> None:
        """Delete the conversations that have expired, except those with a running generation."""
        while found := await expiry.find_expired(self._db):
            deleted = await self._delete(found, lambda id_: expiry.delete_expired(self._db, id_))
            if deleted == 0:
                return  # all are locked, or taken by another process

    async def sweep_old(self) -> None:
        """Delete the conversations in which nothing has been written for `retention_days`."""
        if not self._retention_days:
            return
        cutoff = await expiry.read_cutoff(self._db, self._retention_days)
        after: str | None = None
        while True:
            found, after = await expiry.find_old(self._db, cutoff, after)
            await self._delete(found, lambda id_: expiry.delete_old(self._db, id_, cutoff))
            if after is None:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _delete(
        self, conversation_ids: list[str], delete: Callable[[str], Awaitable[bool]]
    ) -> int:
        """Delete them one after another; return how many were deleted."""
        deleted = 0
        for conversation_id in conversation_ids:
            deleted += await delete(conversation_id)
            await asyncio.sleep(_PAUSE_SECONDS)
        return deleted
