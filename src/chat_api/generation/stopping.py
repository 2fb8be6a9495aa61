"""Stopping a generation, whichever process runs it."""

import asyncio
import time
from collections.abc import Callable

from chat_api.db import generations as db_generations
from chat_api.db import leases as db_leases
from chat_api.db import queries
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable, NotFound
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.generation.writer import GenerationWriter
from chat_api.telemetry import log

# How long a stop waits for another process to end its generation before it fences it.
PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.05


class Stops:
    """Stops generations: here, by asking the process that runs one, or by fencing that process."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        writer: GenerationWriter,
        *,
        lease_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._registry = registry
        self._writer = writer
        self._lease_seconds = lease_seconds
        self._timeout = timeout_seconds
        self._clock = clock

    async def stop(self, user_id: str, conversation_id: str) -> str:
        """Stop the running generation, and return the conversation's last answer, as saved, as
        JSON.

        Raise NotFound if there is no answer.
        """
        found = await db_generations.find_joinable(self._db, user_id, conversation_id, None)
        if found is None:
            raise NotFound
        if found.running is not None:
            await self.halt(found.running.message_id)
        message = await queries.read_last_answer(self._db, user_id, conversation_id)
        if message is None:
            raise NotFound("This conversation has no answer.")
        return message

    async def halt(self, message_id: str) -> None:
        """Stop a generation, and return once it has ended.

        Raise DatabaseUnavailable where its end cannot be saved in time.
        """
        running = self._registry.running.get(message_id)
        if running is not None and await self._halt_here(running):
            return
        await db_leases.request_stop(self._db, message_id)
        if await self._has_ended(message_id, PATIENCE_SECONDS):
            return
        await asyncio.shield(self._registry.own(self._fence(message_id), "fence"))
        # Another stop may have fenced this one, and be about to save.
        if not await self._has_ended(message_id, self._timeout):
            raise DatabaseUnavailable

    async def _halt_here(self, running: RunningGeneration) -> bool:
        """Return whether the end of this process's generation was saved."""
        running.stop_writing(StopReason.STOPPED)
        try:
            async with asyncio.timeout(self._timeout):
                await running.until_closed()
        except TimeoutError:
            raise DatabaseUnavailable from None
        return running.saved

    async def _has_ended(self, message_id: str, timeout: float) -> bool:
        """Return whether the generation ends, or is gone, within `timeout` seconds."""
        deadline = self._clock() + timeout
        while True:
            generation = await db_generations.read_generation(self._db, message_id)
            if generation is None or generation.ended:
                return True
            if self._clock() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)

    async def _fence(self, message_id: str) -> None:
        """Take a generation from a process that does not react, and end it from the log."""
        lease = await db_leases.take(
            self._db, message_id, self._registry.process, self._lease_seconds
        )
        if lease is not None:
            log.warning("generation_fenced", message_id=message_id, attempt=lease.attempt)
            await self._writer.close_from_log(lease, "stopped")
