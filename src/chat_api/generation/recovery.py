"""Finding generations whose process died or handed them over."""

import time
from collections.abc import Callable
from datetime import datetime

from chat_api.background import Background
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.registry import Registry
from chat_api.generation.takeover import Takeover
from chat_api.telemetry import TAKEOVERS, log

# The longest pause between scans; a shorter one where leases are short.
_SCAN_SECONDS = 1.0
_CLAIMED_AT_ONCE = 200


class Recovery:
    """Claims generations whose lease has expired or was released, and has them taken over.

    A lease is a time in the database, by its own clock. The process that runs a generation renews
    it; the first to claim an expired one gets the next attempt.
    """

    def __init__(
        self,
        db: Database,
        registry: Registry,
        takeover: Takeover,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._registry = registry
        self._takeover = takeover
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._contact_since: float | None = None
        self._seen: datetime | None = None  # the last scan but one, by the database's clock
        self._last_scan = clock()

    def task(self) -> Background:
        """Return the task that scans."""
        every_seconds = min(_SCAN_SECONDS, self._lease_seconds / 4)
        return Background("recover-generations", self.scan, every_seconds=every_seconds)

    async def scan(self) -> None:
        """Claim abandoned generations once.

        An outage of the database is no crash of its clients: live ones need one lease of unbroken
        contact to renew. Nor is a stall that breaks no connection: a lease that expires during it
        was valid at the previous scan, and is not claimed before its process could renew it.
        Released leases are claimed at once.
        """
        now = self._clock()
        if now - self._last_scan > self._lease_seconds / 2:
            # This process was frozen, or the database was unavailable.
            self._contact_since = self._seen = None
        self._last_scan = now
        if self._registry.is_draining:
            return
        since = self._contact_since
        try:
            at = await db_leases.database_time(self._db)
            leases = await db_leases.claim_abandoned(
                self._db,
                self._registry.process,
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
                "generation_taken_over",
                message_id=lease.message_id,
                trace_id=lease.trace_id,
                attempt=lease.attempt,
                crashes=lease.crashes,
            )
            self._takeover.begin(lease)
