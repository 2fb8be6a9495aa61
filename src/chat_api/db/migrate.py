"""The way to the newest schema.

Alembic and SQLAlchemy are imported only where a migration really runs: they cost half a second,
which a start with an up-to-date schema need not pay.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from chat_api.db.connecting import Connection, Connector
from chat_api.db.database import UNAVAILABLE, reason_of
from chat_api.db.schema import (
    FORMER_REVISIONS,
    FORMER_VERSION_TABLE,
    REVISIONS,
    VERSION_TABLE,
    Found,
    Schema,
    inspect,
)
from chat_api.errors import DatabaseUnavailable
from chat_api.telemetry import log

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection as AlchemyConnection

# Serialises migrations of several replicas that start at once. Any constant will do.
ADVISORY_LOCK = 0x73616D6F7361
_TURN_SECONDS = 0.2
_STATEMENT_SECONDS = 600.0


class MigrationRefused(Exception):
    """The schema cannot be brought up to date. The text is a sentence for an operator."""


def run(database_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision` ("head", "base", or one of REVISIONS).

    Safe to run from several processes at once: they take turns. Not for use inside an event loop.
    Raise MigrationRefused, or DatabaseUnavailable where the database is away.
    """
    asyncio.run(migrate(database_url, revision))


async def migrate(database_url: str, revision: str = "head") -> None:
    """As `run`. A schema that is ahead of this code is left alone by "head"."""
    connector = Connector(database_url, timeout_seconds=_STATEMENT_SECONDS)
    try:
        async with _turn(connector) as connection:
            await _bring_to(revision, connector, connection)
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            raise MigrationRefused(
                "The role may not change the schema: it must own the tables, or be a member of "
                "their owner. Run `samosachaat migrate` as such a role."
            ) from error
        if isinstance(cause, asyncpg.ClientConfigurationError):
            raise MigrationRefused("DATABASE_URL has a value that cannot work.") from error
        if isinstance(cause, UNAVAILABLE):
            log.warning("database_unavailable", error=type(cause).__name__, reason=reason_of(cause))
            raise DatabaseUnavailable from cause
        if isinstance(cause, asyncpg.PostgresError):
            raise MigrationRefused(f"A migration failed: {cause.args[0]}.") from error
        raise


async def _bring_to(revision: str, connector: Connector, connection: Connection) -> None:
    found = await inspect(connection)
    _check(found)
    if revision == "head" and found.schema is not Schema.BEHIND:
        return
    await _check_rights(connection)
    if found.is_former:
        await _adopt_revision(connector, found)
    await _run_alembic(connector, revision)
    if found.is_former:
        # Replicas of the first two releases go on reading it: they must not migrate again.
        await connection.execute(
            f"UPDATE {FORMER_VERSION_TABLE} SET version_num = $1",  # noqa: S608  # ours
            FORMER_REVISIONS[-1],
        )


def _cause(error: BaseException) -> BaseException:
    """What the driver raised, which SQLAlchemy wraps twice."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, (asyncpg.PostgresError, *UNAVAILABLE)):
            return found
        found = getattr(found, "orig", None) or found.__cause__
    return error


@asynccontextmanager
async def _turn(connector: Connector) -> AsyncIterator[Connection]:
    """A connection that holds the lock of migrations, while the others wait.

    The lock belongs to a transaction, since a pooler gives each transaction another session. It is
    asked for again and again: a statement that waits for it would itself be waited for where an
    index is built concurrently.
    """
    connection = await connector.connect()
    try:
        while True:
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
            await connection.execute(connector.statement(connection, local=True))
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", ADVISORY_LOCK):
                break
            await transaction.rollback()
            await asyncio.sleep(_TURN_SECONDS)
        yield connection
        await transaction.commit()
    finally:
        # Closing the session is what gives the lock back, also when something failed above.
        await connection.close(timeout=2)


def _check(found: Found) -> None:
    if found.refusal is not None:
        raise MigrationRefused(found.refusal)
    if found.schema in {Schema.FOREIGN, Schema.DAMAGED}:
        raise MigrationRefused(found.fault or "The database is not this service's.")


async def _check_rights(connection: Connection) -> None:
    row = await connection.fetchrow(
        "SELECT current_user AS role, current_schema() AS schema, "
        "has_schema_privilege(current_schema(), 'CREATE') AS may"
    )
    if row is not None and not row["may"]:
        raise MigrationRefused(
            f"The role {row['role']} may not create tables in the schema {row['schema']}. Grant "
            f"it (GRANT CREATE ON SCHEMA {row['schema']} TO {row['role']}), or run "
            "`samosachaat migrate` as a role that may."
        )


async def _adopt_revision(connector: Connector, found: Found) -> None:
    """Note the revision of a former release's database in the table of our own name."""
    connection = await connector.connect()
    try:
        async with connection.transaction():
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num varchar(32) NOT NULL "
                f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY)"
            )
            await connection.execute(
                f"INSERT INTO {VERSION_TABLE} VALUES ($1) ON CONFLICT DO NOTHING",  # noqa: S608
                found.revision,
            )
    finally:
        await connection.close(timeout=2)


async def _run_alembic(connector: Connector, revision: str) -> None:
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
        config.attributes["version_table"] = VERSION_TABLE
        _move(config, connection)

    def _move(config: "Config", connection: "AlchemyConnection") -> None:
        from alembic.runtime.migration import MigrationContext

        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        order = ("base", *REVISIONS)
        target = REVISIONS[-1] if revision == "head" else revision
        if order.index(target) >= order.index(context.get_current_revision() or "base"):
            command.upgrade(config, target)
        else:
            command.downgrade(config, target)

    async def connect() -> Any:
        return await connector.connect()

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(apply)
            await connection.commit()
    finally:
        await engine.dispose()
