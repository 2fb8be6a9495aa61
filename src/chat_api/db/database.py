"""Connections to PostgreSQL, and the translation of what the driver raises.

The driver is asyncpg itself (docs/decisions/0002). A connection is held for a statement or a short
transaction, never while tokens flow.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeVar

import asyncpg

from chat_api import database_url as addresses
from chat_api.db.connecting import Connection as Connection
from chat_api.db.connecting import Connector
from chat_api.db.connecting import Record as Record
from chat_api.db.connections import Connections, is_lost
from chat_api.db.shares import Shares, StillLocked, conversation_id_var
from chat_api.errors import DatabaseBusy, DatabaseRefused, DatabaseUnavailable, UserMoving
from chat_api.telemetry import DATABASE_ERRORS, log, user_id_var

_T = TypeVar("_T")

# Another transaction changes the same rows: the statement succeeds a moment later.
BUSY: tuple[type[BaseException], ...] = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    StillLocked,
)
# The database is unreachable, full, read-only or too slow: the same statement may succeed later,
# unchanged. Any other error of the driver is a defect of ours.
UNAVAILABLE: tuple[type[BaseException], ...] = (
    *BUSY,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # but see `connection`: on one that is open, it is a defect of ours
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.OperatorInterventionError,  # shutdown, crash, cancelled by statement_timeout
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,  # the database does not exist (yet)
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InvalidSQLStatementNameError,  # a pooler has changed the session
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidCachedStatementError,  # the schema has just changed
)
_OF_THE_DRIVER: tuple[type[BaseException], ...] = (
    asyncpg.PostgresError,
    *UNAVAILABLE,
    UnicodeError,  # a host that cannot be looked up, as PGHOST may have it
)
# Until the schema has been found complete: a migration is still to come.
_NOT_THERE_YET: tuple[type[BaseException], ...] = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
)
# Refusals of a connection that an operator can correct while the service waits.
_MAY_PASS: tuple[type[BaseException], ...] = (*UNAVAILABLE, asyncpg.InsufficientPrivilegeError)
# A connection of the pool that broke before its statement was run.
_LOST: tuple[type[BaseException], ...] = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's farewell, read as the answer to the statement
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
)
_POOLED = "its pooler works by transaction: add pgbouncer=true to DATABASE_URL"
# Reasons for an operator; the first match counts.
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.TargetServerAttributeNotMatched, "none of its hosts takes writes"),
    (asyncpg.InvalidAuthorizationSpecificationError, "refuses the role or its password"),
    (asyncpg.InsufficientPrivilegeError, "refuses the role"),
    (asyncpg.InvalidCatalogNameError, "does not exist"),
    (asyncpg.TooManyConnectionsError, "has no connection left"),
    (asyncpg.ProtocolViolationError, "its pooler refuses the session"),
    (asyncpg.InvalidSQLStatementNameError, _POOLED),
    (asyncpg.DuplicatePreparedStatementError, _POOLED),
    (asyncpg.CannotConnectNowError, "is starting or stopping"),
    (asyncpg.LockNotAvailableError, "its tables are locked by another session"),
    (asyncpg.DiskFullError, "its disk is full"),
    (asyncpg.ReadOnlySQLTransactionError, "read-only"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "TLS fails"),
)
# Errors of the values of one statement, or of the rows that it reads.
REFUSED: tuple[type[BaseException], ...] = (
    asyncpg.DataError,  # also a character that the database's encoding does not have
    asyncpg.ProgramLimitExceededError,
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
)

# What the trigger of migration 0013 names, under the code of a locked row.
_NOT_FROZEN = "user_is_not_frozen"


class StatementRefused(Exception):
    """PostgreSQL refuses these values: only the operation that they belong to fails."""


# How long after a refused write the database counts as full.
REFUSAL_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_REFUSED_WRITES = (asyncpg.DiskFullError, asyncpg.ReadOnlySQLTransactionError)
_WRITES = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|CREATE|ALTER|DROP|DO|CALL|SHARE|LOCK|SET_CONFIG)\b"
    r"|\bNEXTVAL\b|PG_\w*ADVISORY|\bSAMOSACHAAT_\w+_ANSWER",
    re.IGNORECASE,
)


def driver_address(database_url: str) -> str:
    """Return the address for asyncpg, from one in the form of SQLAlchemy or libpq."""
    return addresses.parse(database_url).dsn


def reason_of(error: BaseException | None) -> str:
    """Return what is wrong with the database, in a few words for an operator."""
    if isinstance(error, DatabaseRefused):
        return error.reason
    if isinstance(error, DatabaseUnavailable):
        return reason_of(error.__cause__)
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "unavailable")


@lru_cache(maxsize=256)
def is_read(statement: str) -> bool:
    """Return whether a statement certainly changes and locks nothing."""
    begin = statement.lstrip()[:6].upper()
    return begin.startswith(("SELECT", "WITH")) and _WRITES.search(statement) is None


async def _keep_as_it_is(_connection: Connection) -> None:
    """Do nothing: no statement of ours changes a session, so a reset would be wasted."""


class Refusals:
    """Whether the database refuses writes: its disk is full, or it is read-only."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._was_full = False

    def note(self, error: BaseException) -> None:
        """Note a refused write. While a disk is full, small ones may still work."""
        self._last = time.monotonic()
        self._was_full = isinstance(error, asyncpg.DiskFullError)

    def forget(self) -> None:
        """Note that a write has succeeded."""
        self._last = None

    @property
    def any(self) -> bool:
        """Return whether a write was refused and none has succeeded since."""
        return self._last is not None

    @property
    def lately(self) -> bool:
        """Return whether it is too early to try a write."""
        return (
            self._last is not None
            and self._was_full
            and time.monotonic() - self._last < REFUSAL_SECONDS
        )


class Database:
    """A pool of connections. Opening it does not connect: the service starts without a database.

    Pools that share `refusals` know of each other's refused writes.
    """

    def __init__(
        self,
        database_url: str,
        *,
        size: int,
        timeout_seconds: float,
        refusals: Refusals | None = None,
    ) -> None:
        """Raise AddressError where the address cannot work."""
        self._timeout = timeout_seconds
        self.refusals = refusals or Refusals()
        self.connections_lost = 0
        self.schema_is_complete = False
        """Until then, what is missing in the database is an outage, not a defect."""
        self.schema_fault: str | None = None
        """Why the schema could not be brought up to date, as a sentence for an operator."""
        self._connector = Connector(database_url, timeout_seconds=timeout_seconds)
        self._shares = Shares()
        self._share_of_user = max(1, size // 2)
        self._share_of_conversation = max(1, size // 4)
        self._pool: asyncpg.Pool[Record] = asyncpg.create_pool(
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=300,
            connect=self._connector.connect,
            init=self._watch_connection,
            reset=_keep_as_it_is,
        )
        self._connections = Connections(self._pool, timeout_seconds=timeout_seconds)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Return the names of accepted parameters of the address that change nothing."""
        return self._connector.address.without_effect

    async def _watch_connection(self, connection: Connection) -> None:
        connection.add_termination_listener(self._count_loss)

    def _count_loss(self, _connection: object) -> None:
        self.connections_lost += 1

    async def open(self) -> None:
        """Make the pool. Its connections are opened when they are needed."""
        await self._pool

    async def close(self) -> None:
        """Close the pool; after a second, also connections that are in use."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._connections.close()
        except UNAVAILABLE:
            self._connections.terminate()

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection; each statement is a transaction of its own.

        Raise DatabaseUnavailable if the database failed, not the statement: DatabaseBusy if
        another transaction changes the same rows, UserMoving if the user is frozen,
        DatabaseRefused if no later try can succeed. Raise StatementRefused if the statement's
        values failed.
        """
        loan = _Loan(self, self._connections)
        if self._connector.address.transaction_pooler:
            return self._with_settings(loan)
        return loan

    @asynccontextmanager
    async def _with_settings(self, loan: "_Loan") -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that sets them first: a pooler drops them after it."""
        async with loan as connection:
            loan.is_ready = False
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(self._connector.statement(connection, local=True))
                loan.is_ready = True
                yield connection

    def raise_ours(self, error: BaseException, *, lent: bool) -> None:
        """Raise our error for one of the driver's; return where that is a defect of ours.

        `lent` is whether there was a connection by then.
        """
        if getattr(error, "constraint_name", None) == _NOT_FROZEN:
            log.info("user_moving")
            raise UserMoving from error
        if lent and isinstance(error, REFUSED):
            log.error("statement_refused", error=type(error).__name__)
            raise StatementRefused(type(error).__name__) from error
        if not lent or self._is_outage(error):
            raise self.translated(error, connecting=not lent) from error

    def _is_outage(self, error: BaseException) -> bool:
        kinds = UNAVAILABLE if self.schema_is_complete else (*UNAVAILABLE, *_NOT_THERE_YET)
        return isinstance(error, kinds)

    def translated(self, error: BaseException, *, connecting: bool) -> DatabaseUnavailable:
        """Return our error for an outage; count and log it."""
        if isinstance(error, _REFUSED_WRITES):
            self.refusals.note(error)
        DATABASE_ERRORS.inc()
        if isinstance(error, BUSY):
            log.info("database_busy", error=type(error).__name__)
            return DatabaseBusy()
        if connecting and (
            isinstance(error, asyncpg.ClientConfigurationError) or not isinstance(error, _MAY_PASS)
        ):
            return DatabaseRefused(_refusal(error))
        log.warning("database_unavailable", error=type(error).__name__, reason=reason_of(error))
        return DatabaseUnavailable()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction that commits when the block ends.

        After DatabaseUnavailable the outcome of a COMMIT may be unknown. Use it only in tasks that
        no request can cancel: a cancelled COMMIT may still commit.
        """
        async with self._share(), self.connection() as connection:
            if self._connector.address.transaction_pooler:
                yield connection  # it is inside one
                return
            async with connection.transaction():
                yield connection

    def _share(self) -> AbstractAsyncContextManager[None]:
        """Hold the shares of the pool for writes of the request's user and conversation."""
        bounds = {}
        if conversation := conversation_id_var.get():
            bounds[f"conversation {conversation}"] = self._share_of_conversation
        if user := user_id_var.get():
            bounds[f"user {user}"] = self._share_of_user
        return _Share(self, self._shares, bounds, self._timeout)

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        """Return the rows of one statement, which is a transaction of its own."""
        return await self._run(statement, lambda lent: lent.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: Any) -> Record | None:
        """Return the first row of one statement, which is a transaction of its own."""
        return await self._run(statement, lambda lent: lent.fetchrow(statement, *arguments))

    async def _run(self, statement: str, run: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run a statement; repeat a read on another connection if its connection had died."""
        if not is_read(statement):
            async with self._share(), self.connection() as connection:
                return await run(connection)
        lent = False
        try:
            async with self.connection() as connection:
                lent = True
                return await run(connection)
        except DatabaseUnavailable as error:
            if not lent or not isinstance(error.__cause__, _LOST):
                raise
        # The other connections of the pool may have died with it.
        await self._connections.expire()
        async with self.connection() as connection:
            return await run(connection)


class _Loan:
    """One connection for the length of a block: see `Database.connection`.

    A class, since a generator costs more, and there is one for each statement.
    """

    __slots__ = ("_connection", "_connections", "_database", "is_ready")

    def __init__(self, database: Database, connections: Connections) -> None:
        self._database = database
        self._connections = connections
        self.is_ready = True
        """Whether errors are those of statements, no longer of connecting."""

    async def __aenter__(self) -> Connection:
        try:
            self._connection = await self._connections.take()
        except _OF_THE_DRIVER as error:
            self._database.raise_ours(error, lent=False)
            raise
        return self._connection

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None and self._connections.keep(self._connection):
            return
        if isinstance(error, asyncio.CancelledError):
            # An outage that is met here must not take the place of the cancellation.
            self._connections.give_back_later(self._connection)
            return
        # The driver raises InterfaceError for a lost connection, and for wrong use.
        is_defect = isinstance(error, asyncpg.InterfaceError) and not is_lost(self._connection)
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            # After a failover the other connections lead to the same server.
            await self._connections.expire()
        try:
            await self._connections.give_back(self._connection)
        except _OF_THE_DRIVER as late:
            self._database.raise_ours(late, lent=self.is_ready)
            raise
        if isinstance(error, _OF_THE_DRIVER) and not is_defect:
            self._database.raise_ours(error, lent=self.is_ready)


class _Share:
    """Shares of the pool for the length of a block."""

    __slots__ = ("_bounds", "_database", "_seconds", "_shares")

    def __init__(
        self, database: Database, shares: Shares, bounds: Mapping[str, int], seconds: float
    ) -> None:
        self._database = database
        self._shares = shares
        self._bounds = bounds
        self._seconds = seconds

    async def __aenter__(self) -> None:
        try:
            await self._shares.enter(self._bounds, self._seconds)
        except (StillLocked, TimeoutError) as error:
            raise self._database.translated(error, connecting=False) from error

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, DatabaseBusy):
            self._shares.refuse(self._bounds)
        self._shares.leave(self._bounds)


def _refusal(error: BaseException) -> str:
    """Return why no connection can be opened with this configuration."""
    named = re.search(r"parameter:? [\"']?([A-Za-z_.]+)", str(error))
    if named is not None:
        return f"DATABASE_URL: the parameter {named[1]} is refused"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return "DATABASE_URL, or a variable PG… of the driver, has a value that cannot work"
    return f"no session can begin: {type(error).__name__}"
