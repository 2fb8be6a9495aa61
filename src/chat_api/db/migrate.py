"""The schema's version, and the way to the newest one.

Alembic and SQLAlchemy are imported only where a migration really runs: they cost half a second,
which a start with an up-to-date schema need not pay.
"""

import asyncio
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from chat_api.db.database import Connection, driver_address

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection as AlchemyConnection

# Every revision of this code, oldest first; a test compares it with the migrations' folder.
REVISIONS = ("0001", "0002", "0003", "0006")

# Serialises migrations of several replicas that start at once. Any constant will do.
_ADVISORY_LOCK = 0x73616D6F7361


class Schema(Enum):
    BEHIND = "behind"
    CURRENT = "current"
    AHEAD = "ahead"  # a newer replica has migrated already, as in a rolling deploy


async def schema_of(connection: Connection) -> Schema:
    """How the database's schema stands to this code."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return Schema.BEHIND
    found = await connection.fetchval("SELECT version_num FROM alembic_version")
    if found == REVISIONS[-1]:
        return Schema.CURRENT
    return Schema.BEHIND if found is None or found in REVISIONS else Schema.AHEAD


def run(database_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision` ("head", "base", or one of REVISIONS).

    Safe to run from several processes at once: they take turns. Not for use inside an event loop.
    """
    asyncio.run(migrate(database_url, revision))


async def migrate(database_url: str, revision: str = "head") -> None:
    """As `run`. A schema that is ahead of this code is left alone by "head"."""
    address = driver_address(database_url)
    connection = await asyncpg.connect(address, timeout=5, command_timeout=600)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        state = await schema_of(connection)
        if revision != "head" or state is Schema.BEHIND:
            await _run_alembic(address, revision)
    finally:
        # Closing the session is what gives the lock back, also when something failed above.
        await connection.close(timeout=2)


async def _run_alembic(address: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    def apply(connection: "AlchemyConnection") -> None:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
        )
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        _move(config, connection)

    def _move(config: "Config", connection: "AlchemyConnection") -> None:
        from alembic.runtime.migration import MigrationContext

        current = MigrationContext.configure(connection).get_current_revision()
        order = ("base", *REVISIONS)
        target = REVISIONS[-1] if revision == "head" else revision
        if order.index(target) >= order.index(current or "base"):
            command.upgrade(config, target)
        else:
            command.downgrade(config, target)

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(address, timeout=5, command_timeout=600)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(apply)
            await connection.commit()
    finally:
        await engine.dispose()
