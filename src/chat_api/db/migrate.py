"""Migrations to the newest schema.

Alembic and SQLAlchemy are imported only where a migration really runs: they cost half a second,
which a start with an up-to-date schema need not pay.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg

from chat_api.db.connecting import Connection, Connector
from chat_api.db.database import UNAVAILABLE, reason_of
from chat_api.db.predecessor import describe
from chat_api.db.schema import (
    FORMER_REVISIONS,
    FORMER_VERSION_TABLE,
    REVISIONS,
    VERSION_TABLE,
    Found,
    Schema,
    inspect,
)
from chat_api.db.steps import LOCK_MILLISECONDS, cause_of
from chat_api.db.takeover import REVISION as TAKEN_OVER
from chat_api.db.takeover import take_over
from chat_api.errors import DatabaseUnavailable
from chat_api.telemetry import log

if TYPE_CHECKING:
    from sqlalchemy import Connection as AlchemyConnection

# Serialises migrations of several replicas that start at once. Any constant will do.
ADVISORY_LOCK = 0x73616D6F7361
_TURN_SECONDS = 0.2
# An index over many rows takes its time.
_STATEMENT_SECONDS = 6 * 3600.0
# A step that waits for a table's lock is short by itself (see steps); the others block no one else.
# Steps that change all rows read whole tables.
_SETTINGS = {"lock_timeout": "0", "transaction_timeout": "0", "enable_seqscan": "on"}
_PATIENCE_SECONDS = 600.0
_PASSING = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_OF_THE_DRIVER: tuple[type[BaseException], ...] = (asyncpg.PostgresError, *UNAVAILABLE)


class MigrationRefused(Exception):
    """The schema cannot be brought up to date. The text is a sentence for an operator."""


def run(database_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision` ("head", "base", or one of REVISIONS).

    Safe to run from several processes at once: they take turns. Not for use inside an event loop.
    Raise MigrationRefused, or DatabaseUnavailable where the database is away.
    """
    asyncio.run(migrate(database_url, revision))


async def rehearse(database_url: str) -> list[str]:
    """Return, as sentences, what `migrate` would do; nothing is changed or locked.

    Raise the errors that `migrate` would raise.
    """
    connector = Connector(database_url, timeout_seconds=_STATEMENT_SECONDS, settings=_SETTINGS)
    with _explained():
        connection = await connector.connect()
        try:
            async with connection.transaction(isolation="read_committed", readonly=True):
                found = await inspect(connection)
                _check(found)
                if found.schema in {Schema.CURRENT, Schema.AHEAD}:
                    return [f"The schema is at {found.revision}: there is nothing to do."]
                await _check_rights(connection)
                steps: tuple[str, ...] = REVISIONS
                said: list[str] = []
                if found.schema is Schema.PREDECESSOR:
                    await _check_predecessor(connection)
                    said = await describe(connection)
                    steps = REVISIONS[REVISIONS.index(TAKEN_OVER) + 1 :]
                elif found.revision is not None:
                    said = [f"The schema is at {found.revision}."]
                    steps = REVISIONS[REVISIONS.index(found.revision) + 1 :]
                if steps:
                    said.append(f"Migrations to be run: {', '.join(steps)}.")
                return [*said, "Nothing has been changed."]
        finally:
            await connection.close(timeout=2)


async def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the schema to a revision; "head" leaves one that is ahead of this code alone.

    Raise what `run` raises.
    """
    connector = Connector(database_url, timeout_seconds=_STATEMENT_SECONDS, settings=_SETTINGS)
    with _explained():
        async with _turn(connector) as connection:
            await _bring_to(revision, connector, connection)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the driver raises into MigrationRefused or DatabaseUnavailable."""
    try:
        yield
    except Exception as error:
        cause = cause_of(error, _OF_THE_DRIVER)
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
    if revision == "head" and found.schema not in {Schema.BEHIND, Schema.PREDECESSOR}:
        return
    await _check_rights(connection)
    if found.schema is Schema.PREDECESSOR:
        await _check_predecessor(connection)
    # The last statement's result would keep its snapshot, for which an index that is built
    # concurrently waits.
    await connection.execute("SELECT 1")
    if found.schema is Schema.PREDECESSOR:
        log.info("taking_over")
        await _run(connector, take_over, autocommit=True)
    if found.is_former:
        await _adopt_revision(connector, found)
    await _run(connector, functools.partial(_move, revision))
    if found.is_former:
        # Replicas of the first two releases still read this table; they must not migrate again.
        await connection.execute(
            f"UPDATE {FORMER_VERSION_TABLE} SET version_num = $1",  # noqa: S608  # ours
            FORMER_REVISIONS[-1],
        )


@asynccontextmanager
async def _turn(connector: Connector) -> AsyncIterator[Connection]:
    """Yield a connection that holds the lock of migrations, while others wait for it.

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


async def _check_predecessor(connection: Connection) -> None:
    """Refuse what would make a takeover fail in the middle."""
    row = await connection.fetchrow(
        """
        SELECT current_user AS role,
            ARRAY(SELECT relname::text FROM pg_class
                WHERE oid IN (to_regclass('conversations'), to_regclass('messages'))
                    AND NOT pg_has_role(relowner, 'USAGE')) AS others,
            has_table_privilege('users', 'SELECT') AS reads
        """
    )
    if row is not None and row["others"]:
        raise MigrationRefused(
            f"The role {row['role']} does not own: {', '.join(row['others'])}. Run "
            "`samosachaat migrate` as the owner."
        )
    if row is not None and not row["reads"]:
        raise MigrationRefused(
            f"The role {row['role']} may not read the table users. GRANT SELECT ON users TO "
            f"{row['role']}."
        )


async def _run(
    connector: Connector, work: "Callable[[AlchemyConnection], None]", *, autocommit: bool = False
) -> None:
    """Run `work` on a connection of SQLAlchemy; repeat it if it did not get a lock in time."""
    # It takes half a second, for which the process must not stand still.
    await asyncio.to_thread(import_module, "alembic.command")
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def connect() -> Any:
        return await connector.connect()

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
        # Names that are unique in a session that a pooler hands on.
        connect_args={
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"samosachaat_{uuid4().hex}",
        },
    )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        while True:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(work)
                    await connection.commit()
                return
            except Exception as error:
                if cause_of(error, _PASSING) is None or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_TURN_SECONDS)
    finally:
        await engine.dispose()


def _move(revision: str, connection: "AlchemyConnection") -> None:
    """Bring the schema to the revision, by Alembic."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import event

    @event.listens_for(connection, "begin")
    def give_up_soon(connection: "AlchemyConnection") -> None:
        # All other statements on a table wait behind one that waits for its lock.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    order = ("base", *REVISIONS)
    target = REVISIONS[-1] if revision == "head" else revision
    current = context.get_current_revision() or "base"
    connection.rollback()  # a migration with steps of its own must begin its transactions itself
    if order.index(target) >= order.index(current):
        command.upgrade(config, target)
    else:
        command.downgrade(config, target)
