"""The start: the background tasks begin once the schema is complete."""

import asyncio
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence

from chat_api.background import Background
from chat_api.db.database import Database
from chat_api.db.migrate import MigrationRefused, migrate
from chat_api.db.schema import Schema, inspect
from chat_api.errors import DatabaseRefused
from chat_api.settings import Settings
from chat_api.telemetry import log

_LOOK_AGAIN_SECONDS = 1.0


def collect_garbage_less_often() -> None:
    """Exclude the objects made so far from garbage collections, and start these less often.

    Almost all objects of a request are freed without the collector. With Python's own threshold,
    the objects of a few answers start a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)


class Startup:
    """Waits for the database, migrates it if configured, and calls `begin` once."""

    def __init__(
        self, settings: Settings, pools: Sequence[Database], begin: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._pools = pools
        self._begin = begin
        self._said: str | None = None

    async def step(self) -> None:
        """Inspect the database once; after `begin`, never return."""
        db = self._pools[0]
        try:
            async with db.connection() as connection:
                found = await inspect(connection)
            if found.refusal is not None:
                raise DatabaseRefused(found.refusal)
        except DatabaseRefused as error:
            await self._give_up(error.reason)
            return
        may_migrate = found.schema in {Schema.BEHIND, Schema.PREDECESSOR}
        if may_migrate and self._settings.migrate_on_start:
            await self._migrate(db)
        elif found.fault is not None:
            await self._wait(found.fault)
        else:
            db.schema_fault = None
            for pool in self._pools:
                pool.schema_is_complete = True
            self._begin()
            log.info("schema_complete", schema=found.schema.value)
            await asyncio.Event().wait()  # nothing more to do

    async def _migrate(self, db: Database) -> None:
        try:
            await migrate(self._settings.database_url)
        except MigrationRefused as error:
            db.schema_fault = str(error)
            await self._wait(str(error))
        else:
            log.info("migrated")

    async def _wait(self, reason: str) -> None:
        """Log once why the service does not start, and wait until an operator corrects it."""
        if reason != self._said:
            self._said = reason
            log.error("not_ready", reason=reason)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _give_up(self, reason: str) -> None:
        """End the process, because waiting cannot help.

        A worker's supervisor would only start another one, so a worker stays, and is not ready.
        """
        if multiprocessing.parent_process() is not None:
            await self._wait(reason)
            return
        log.critical("cannot_start", reason=reason)
        Background.died = True
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
