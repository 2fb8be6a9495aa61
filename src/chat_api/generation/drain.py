"""The drain: running generations end or are handed over to another process."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from chat_api.background import Background
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.log_writer import LogWriter
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason
from chat_api.generation.stalls import Stalls
from chat_api.generation.subscriptions import Subscriptions
from chat_api.telemetry import log

# The last part of the drain, for handing over the remaining generations.
HANDOVER_SECONDS = 3.0
# Long enough for a load balancer to see that readiness fails.
_NOTICE_SECONDS = 1.0
_POLL_SECONDS = 0.05
_STOP_SECONDS = 1.0


class Readers(Protocol):
    """Subscriptions to something other than generations."""

    def send_away(self) -> None:
        """End every subscription, and begin none."""


class Drain:
    """Lets running generations end within `drain_seconds`, then hands over the others."""

    def __init__(
        self,
        upkeep: Database,
        registry: Registry,
        log_writer: LogWriter,
        subscriptions: Subscriptions,
        stalls: Stalls,
        readers: Readers,
        *,
        drain_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upkeep = upkeep
        self._registry = registry
        self._log_writer = log_writer
        self._subscriptions = subscriptions
        self._stalls = stalls
        self._readers = readers
        self._drain_seconds = drain_seconds
        self._clock = clock

    async def drain(self) -> None:
        """Begin and claim no more generations, wait for running ones, and hand over the rest."""
        self._registry.is_draining = True
        log.info(
            "draining",
            running=len(self._registry.running),
            subscriptions=len(self._subscriptions),
        )
        self._subscriptions.send_away_followers()
        self._readers.send_away()
        await self._until_idle()
        await self._hand_over()
        self._subscriptions.send_away()
        log.info("drained")

    async def stop(self, background: Sequence[Background]) -> None:
        """End every task and subscription, and hand over what still runs."""
        self._registry.is_draining = True
        self._readers.send_away()
        await asyncio.gather(*(task.stop(_STOP_SECONDS) for task in background))
        await self._hand_over()
        self._subscriptions.send_away()
        await self._registry.cancel_tasks(_STOP_SECONDS)

    async def _until_idle(self) -> None:
        """Return once nothing runs and no client reads, within a least and a longest time."""
        began = self._clock()
        earliest = began + min(_NOTICE_SECONDS, self._drain_seconds / 10)
        latest = began + max(0.0, self._drain_seconds - HANDOVER_SECONDS)
        # The end of a generation is not the end of its subscriptions: some still send the rest.
        while (now := self._clock()) < latest and (  # noqa: ASYNC110  # rare, and short
            now < earliest
            or self._registry.running
            or self._registry.has_sends
            or self._subscriptions
        ):
            await asyncio.sleep(_POLL_SECONDS)

    async def _hand_over(self) -> None:
        """Release every running generation, with its log up to date, to another process."""
        # A send that is being accepted now begins a generation, to be handed over too.
        await self._registry.until_sends_run(HANDOVER_SECONDS / 3)
        left = [one for one in self._registry.running.values() if not one.ending]
        held = [(one.message_id, one.attempt) for one in left] + self._registry.claimed()
        if not held:
            return
        log.info("handing_over", generations=len(held))
        # Where the database is unavailable, the leases expire by themselves.
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS / 3):
                await self._log_writer.flush()
                await self._stalls.count()
        for generation in left:
            generation.stop_writing(StopReason.NOT_OURS)
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS / 3):
                await db_leases.release(self._upkeep, held, self._registry.process)
