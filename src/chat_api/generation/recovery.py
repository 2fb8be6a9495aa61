"""Keeping this process's answers, and taking up those of processes that died or left.

A lease is a time in the database, by its own clock. Who writes an answer renews it; whose lease has
run out has lost the answer to the first who claims it, with the next attempt's number.
"""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from chat_api.db import housekeeping
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.background import Background
from chat_api.telemetry import TAKEOVERS, log

# The longest pauses; shorter ones where leases or retention are short.
_SCAN_SECONDS = 1.0
_SWEEP_SECONDS = 30.0
_ORPHANS_SECONDS = 3600.0
_CLAIMED_AT_ONCE = 200
# An answer that has ended or stopped its processes so often is given up.
MOST_CRASHES = 3


class Recovery:
    """Renews leases, claims abandoned answers for `take_up`, sweeps what is no longer needed."""

    def __init__(
        self,
        db: Database,
        process: str,
        held: Callable[[], Sequence[tuple[str, int]]],
        listened: Callable[[], AbstractSet[str]],
        take_up: Callable[[Lease], object],
        give_up: Callable[[str], object],
        *,
        lease_seconds: float,
        log_retention_seconds: float,
    ) -> None:
        self._db = db
        self._process = process
        self._held = held
        self._listened = listened
        self._take_up = take_up
        self._give_up = give_up
        self._lease_seconds = lease_seconds
        self._log_retention_seconds = log_retention_seconds
        self._contact_since: float | None = None
        self._seen: datetime | None = None  # the last scan but one, by the database's clock
        self._last_scan = time.monotonic()
        self._last_look: tuple[float, float] | None = None  # real time, and the processor's
        self._stalled: set[tuple[str, int]] = set()  # to be counted as crashed
        self.paused = False

    def tasks(self) -> tuple[Background, ...]:
        renew_seconds = self._lease_seconds / 4
        scan_seconds = min(_SCAN_SECONDS, renew_seconds)
        sweep_seconds = min(_SWEEP_SECONDS, max(1.0, self._log_retention_seconds))
        return (
            Background("watch-stalls", self._watch_stalls, every_seconds=renew_seconds / 2),
            Background("renew-leases", self._renew, every_seconds=renew_seconds),
            Background("recover-answers", self._scan, every_seconds=scan_seconds),
            Background("sweep", self._sweep, every_seconds=sweep_seconds),
            Background("sweep-orphans", self._sweep_orphans, every_seconds=_ORPHANS_SECONDS),
        )

    async def _renew(self) -> None:
        listened = self._listened()
        await db_leases.renew(
            self._db, self._process, self._held(), list(listened), self._lease_seconds
        )
        if left := listened - self._listened():
            # Their last reader left while this was under way, which may have undone its leaving.
            await db_leases.stop_listening(self._db, self._process, list(left))

    async def _watch_stalls(self) -> None:
        """Notice that this process was busy with one thing for longer than its leases last.

        One that was frozen from outside used no processor: no answer is to blame for that. An
        answer that stalls one process would stall the next. Where no other process has taken it up
        meanwhile, which counts as a crash, this one counts it, also for a later hand-over.
        """
        now, busy = time.monotonic(), time.process_time()
        if self._last_look is not None:
            passed, worked = now - self._last_look[0], busy - self._last_look[1]
            if passed > self._lease_seconds and worked > passed / 4:
                log.error("process_stalled", seconds=round(passed, 1))
                self._stalled.update(self._held())
        await self.count_stall()
        self._last_look = time.monotonic(), time.process_time()

    async def count_stall(self) -> None:
        """Count the answers of a stall that is not counted yet. Raises DatabaseUnavailable."""
        if not self._stalled:
            return
        stalled = list(self._stalled)
        crashes = await db_leases.count_stall(self._db, stalled, self._process)
        self._stalled.difference_update(stalled)
        for message_id, count in crashes.items():
            if count >= MOST_CRASHES:
                log.warning("answer_given_up", message_id=message_id, crashes=count)
                self._give_up(message_id)

    async def _scan(self) -> None:
        """Claim what is abandoned.

        An outage of the database is no crash of its clients: those that live need one lease of
        unbroken contact to show it. Nor is a stall that breaks no connection: what runs out during
        it was valid at the scan before, and is left alone until its owner could renew it. Answers
        handed over need no such patience.
        """
        now = time.monotonic()
        if now - self._last_scan > self._lease_seconds / 2:
            # This process was frozen, or the database was away.
            self._contact_since = self._seen = None
        self._last_scan = now
        if self.paused:
            return
        since = self._contact_since
        try:
            at = await db_leases.database_time(self._db)
            leases = await db_leases.claim_abandoned(
                self._db,
                self._process,
                self._lease_seconds,
                limit=_CLAIMED_AT_ONCE,
                only_released=since is None or now - since < self._lease_seconds,
                expired_before=self._seen,
            )
        except DatabaseUnavailable:
            self._contact_since = self._seen = None
            raise
        self._seen = at
        if since is None:
            self._contact_since = now
        for lease in leases:
            TAKEOVERS.inc()
            log.warning(
                "answer_taken_up",
                message_id=lease.message_id,
                trace_id=lease.trace_id,
                attempt=lease.attempt,
                crashes=lease.crashes,
            )
            self._take_up(lease)

    async def _sweep(self) -> None:
        await housekeeping.sweep(self._db, self._log_retention_seconds)

    async def _sweep_orphans(self) -> None:
        await housekeeping.sweep_orphans(self._db)
