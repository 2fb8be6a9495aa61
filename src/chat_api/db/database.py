"""Connections to PostgreSQL, and the translation of what the driver raises.

The driver is asyncpg itself (docs/decisions/0002). A connection is held for a statement or a short
transaction, never while tokens flow.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chat_api.errors import DatabaseUnavailable
from chat_api.telemetry import DATABASE_ERRORS, log

Record = asyncpg.Record
# What a pool hands out; a plain connection behaves the same.
Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

# What means "the database is away, full, read-only, or too slow": the same statement may succeed
# later, unchanged. Anything else that the driver raises is a defect of ours.
UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # but see `connection`: on one that is open, it is a defect of ours
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.OperatorInterventionError,  # shutdown, crash, cancelled by statement_timeout
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,  # the database does not exist (yet)
    asyncpg.UndefinedTableError,  # the schema is behind: migrations have not run yet
    asyncpg.UndefinedColumnError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,  # the schema has just changed
)
# What speaks against the values of one statement, or against the rows that it reads.
REFUSED: tuple[type[BaseException], ...] = (
    asyncpg.DataError,  # also a character that the database's encoding does not have
    asyncpg.ProgramLimitExceededError,
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
)


class StatementRefused(Exception):
    """PostgreSQL refuses these values: whatever they belong to fails, and nothing else does."""


# How long a refused write speaks against a database that otherwise answers.
REFUSAL_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_REFUSED_WRITES = (asyncpg.DiskFullError, asyncpg.ReadOnlySQLTransactionError)


def driver_address(database_url: str) -> str:
    """The address as asyncpg reads it, from one as SQLAlchemy writes it.

    `postgresql+asyncpg://` becomes `postgresql://`, and the option `ssl` becomes libpq's `sslmode`.
    """
    parts = urlsplit(database_url)
    options = [
        ("sslmode" if name == "ssl" else name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    query = urlencode(options, quote_via=quote)
    return urlunsplit(parts._replace(scheme="postgresql", query=query))


async def _keep_as_it_is(_connection: Connection) -> None:
    """No statement of ours changes a session, so a returned connection needs no round trip."""


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # the pool has taken it back already, as it does when one breaks


class Refusals:
    """Whether the database refuses writes: its disk is full, or it is read-only."""

    def __init__(self) -> None:
        self._last: float | None = None

    def note(self) -> None:
        self._last = time.monotonic()

    def forget(self) -> None:
        self._last = None

    @property
    def any(self) -> bool:
        """Whether a write was refused, and none has been seen to work since."""
        return self._last is not None

    @property
    def lately(self) -> bool:
        return self._last is not None and time.monotonic() - self._last < REFUSAL_SECONDS


class Database:
    """A pool of connections. Opening it does not connect: the service starts without a database.

    What one pool notes in `refusals`, those that share it know.
    """

    def __init__(
        self,
        database_url: str,
        *,
        size: int,
        timeout_seconds: float,
        refusals: Refusals | None = None,
    ) -> None:
        self._timeout = timeout_seconds
        self.refusals = refusals or Refusals()
        self.connections_lost = 0
        self._pool: asyncpg.Pool[Record] = asyncpg.create_pool(
            driver_address(database_url),
            min_size=0,
            max_size=size,
            timeout=min(timeout_seconds, 5),
            command_timeout=timeout_seconds,
            max_inactive_connection_lifetime=300,
            init=self._watch_connection,
            reset=_keep_as_it_is,
            server_settings={
                "application_name": "samosachaat-chat-api",
                "timezone": "UTC",
                # A process frozen inside a transaction must not hold its locks for longer.
                "idle_in_transaction_session_timeout": "3000",
                "statement_timeout": str(int(timeout_seconds * 1000)),
            },
        )

    async def _watch_connection(self, connection: Connection) -> None:
        connection.add_termination_listener(self._count_loss)

    def _count_loss(self, _connection: object) -> None:
        self.connections_lost += 1

    async def open(self) -> None:
        await self._pool

    async def close(self) -> None:
        """Close the pool; after a second, the connections under whatever still uses them."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._pool.close()
        except UNAVAILABLE:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; each statement is a transaction of its own.

        Raises DatabaseUnavailable where the database, not the statement, is what failed, and
        StatementRefused where it is the statement's values.
        """
        is_defect = False
        try:
            async with self._pool.acquire(timeout=self._timeout) as connection:
                try:
                    yield connection
                except asyncpg.InterfaceError:
                    # The driver's name for a lost connection, and for being used wrongly.
                    is_defect = not _is_lost(connection)
                    raise
        except UNAVAILABLE as error:
            if is_defect:
                raise
            if isinstance(error, _REFUSED_WRITES):
                self.refusals.note()
            DATABASE_ERRORS.inc()
            log.warning("database_unavailable", error=type(error).__name__)
            raise DatabaseUnavailable from error
        except REFUSED as error:
            log.error("statement_refused", error=type(error).__name__)
            raise StatementRefused(type(error).__name__) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction that commits when the block ends.

        After DatabaseUnavailable the outcome of a COMMIT may be unknown. To be used where no
        request can cancel it: a cancelled COMMIT may commit all the same.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        async with self.connection() as connection:
            return list(await connection.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: Any) -> Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)
