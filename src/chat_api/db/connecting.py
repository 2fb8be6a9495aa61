"""The beginning of a session with PostgreSQL: host, driver options and settings.

The settings that statements rely on are set after connecting, by a statement: a pooler such as
PgBouncer drops or refuses them as parameters of the connection, and what a role or a database has
as defaults must not change what a statement means.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chat_api import database_url
from chat_api.database_url import Address

Record = asyncpg.Record
# A connection of a pool; a plain connection behaves the same.
Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

# How long a host may take before the next one is tried beside it.
_STAGGER_SECONDS = 0.25
_MOST_CONNECT_SECONDS = 5.0
# PostgreSQL looks for deadlocks after a second; a shorter limit would hide them.
_LOCK_SECONDS = 2.0
_IDLE_IN_TRANSACTION_SECONDS = 3.0
_TRANSACTION_TIMEOUT, _TRANSACTION_TIMEOUT_SINCE = "transaction_timeout", 17

_ALWAYS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    # Plans are kept: a table that was small when the plan was made may be large by now. Where there
    # is no index, PostgreSQL before 18 takes such a plan for so costly that it compiles it.
    "enable_seqscan": "off",
    "jit": "off",
}


def session_settings(timeout_seconds: float) -> dict[str, str]:
    """Return the settings of a session whose statements may take `timeout_seconds`."""
    return {
        **_ALWAYS,
        "statement_timeout": _milliseconds(timeout_seconds),
        "lock_timeout": _milliseconds(min(_LOCK_SECONDS, timeout_seconds / 2)),
        # A process frozen inside a transaction must not hold its locks for longer; the second is
        # for one frozen after the driver has had a statement parsed, which counts as active.
        "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION_SECONDS),
        _TRANSACTION_TIMEOUT: _milliseconds(2 * timeout_seconds),
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))


def setting_statement(settings: Mapping[str, str], *, version: int, local: bool) -> str:
    """Return one SELECT that sets these, for the transaction at hand (`local`) or the session."""
    if version < _TRANSACTION_TIMEOUT_SINCE:
        settings = {name: value for name, value in settings.items() if name != _TRANSACTION_TIMEOUT}
    scope = "true" if local else "false"
    calls = [f"set_config('{name}', '{value}', {scope})" for name, value in settings.items()]
    # The durability of an acknowledged message is not a matter of the server's defaults; levels
    # above "on" stay.
    durable = (
        f"CASE current_setting('synchronous_commit') WHEN 'off' "
        f"THEN set_config('synchronous_commit', 'on', {scope}) END"
    )
    return f"SELECT {', '.join([*calls, durable])}"


class Connector:
    """Opens connections to one address. Several hosts: to the one that takes writes."""

    def __init__(
        self, url: str, *, timeout_seconds: float, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are of the session, instead of ours. Raise AddressError."""
        self.address: Address = database_url.parse(url)
        self.settings = {**session_settings(timeout_seconds), **(settings or {})}
        self._command_seconds = timeout_seconds
        self._connect_seconds = self.address.connect_seconds or min(
            timeout_seconds, _MOST_CONNECT_SECONDS
        )
        self._last_host: tuple[str, int] | None = None

    async def connect(self, *_: object, **driver: Any) -> "asyncpg.Connection[Record]":
        """Return a new connection whose settings are set. The arguments are the pool's own."""
        connection = await self._connect(driver)
        if not self.address.transaction_pooler:
            try:
                await connection.execute(self.statement(connection, local=False))
            except BaseException:
                connection.terminate()
                raise
        return connection

    def statement(self, connection: Connection, *, local: bool) -> str:
        """Return the statement that sets what our statements rely on."""
        version = connection.get_server_version().major
        return setting_statement(self.settings, version=version, local=local)

    async def _connect(self, driver: Mapping[str, Any]) -> "asyncpg.Connection[Record]":
        hosts = self.address.hosts
        if not hosts:
            return await self._connect_to(None, driver)
        first = self._last_host or hosts[0]
        ordered = [first, *(host for host in hosts if host != first)]
        return await self._first_of(ordered, driver)

    async def _first_of(
        self, hosts: Iterable[tuple[str, int]], driver: Mapping[str, Any]
    ) -> "asyncpg.Connection[Record]":
        """Try one host after the other; an unresponsive host does not delay the next one."""
        waiting = list(hosts)
        trying: dict[asyncio.Task[asyncpg.Connection[Record]], tuple[str, int]] = {}
        errors: list[BaseException] = []
        try:
            while waiting or trying:
                if waiting:
                    host = waiting.pop(0)
                    trying[asyncio.create_task(self._connect_to(host, driver))] = host
                done, _ = await asyncio.wait(
                    trying,
                    timeout=_STAGGER_SECONDS if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    if task.exception() is None:
                        self._last_host = trying.pop(task)
                        return task.result()
                    trying.pop(task)
                    errors.append(task.exception() or RuntimeError())
        finally:
            for task in trying:
                task.add_done_callback(_let_go)
                task.cancel()
        # A server's own error says more than that another one is unreachable.
        errors.sort(key=lambda error: isinstance(error, OSError))
        raise errors[0]

    async def _connect_to(
        self, host: tuple[str, int] | None, driver: Mapping[str, Any]
    ) -> "asyncpg.Connection[Record]":
        address = self.address
        named: dict[str, Any] = {} if host is None else {"host": host[0], "port": host[1]}
        if address.target is not None:
            named["target_session_attrs"] = address.target
        if address.system_certificates:
            named["ssl"] = True
        if address.transaction_pooler:
            named["statement_cache_size"] = 0
        connection: asyncpg.Connection[Record] = await asyncpg.connect(
            address.dsn,
            **{
                **driver,
                **named,
                "timeout": self._connect_seconds,
                "command_timeout": self._command_seconds,
                "server_settings": {
                    "application_name": "samosachaat-chat-api",
                    **address.server_settings,
                },
            },
        )
        return connection


def _let_go(task: "asyncio.Task[asyncpg.Connection[Record]]") -> None:
    """Close a connection that was opened too late, and retrieve its error."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()
