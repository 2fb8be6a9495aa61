"""The driver's pool, with the connections that were used last kept at hand.

The pool starts a task for each release and two timers for each loan, which cost as much as the
statement in between. A connection at hand costs neither. It is taken from the pool all the same,
which still decides how many there are, and which of them are too old.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chat_api.db.connecting import Connection, Record

Lent: TypeAlias = "PoolConnectionProxy[Record]"

# How long connections stay at hand before they go back to the pool, and its rules.
_KEPT_SECONDS = 60.0
# How long a caller waits for a connection in use before another one is opened for it. Most
# statements take less than that. Opening a connection takes ten times as long, and its server
# process then reads the catalog and makes its plans, too.
_WAIT_SECONDS = 0.002


def is_lost(connection: Connection) -> bool:
    """Return whether a connection, which may be in use, leads nowhere any more."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # the pool has taken it back already, as it does when one breaks


class Connections:
    """Lends the connections of a pool, the one that was used last first."""

    def __init__(self, pool: "asyncpg.Pool[Record]", *, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout = timeout_seconds
        self._at_hand: list[Lent] = []
        self._current: set[Lent] = set()  # taken from the pool since connections were expired
        self._waiting = 0
        self._waits: dict[asyncio.Future[None], None] = {}
        self._is_closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def take(self) -> Lent:
        """Return a connection for the caller alone. Raise what the driver raises."""
        if not self._at_hand and self._would_open_another():
            await self._wait_for_one()
        while self._at_hand:
            connection = self._at_hand.pop()
            if not is_lost(connection):
                return connection
            await self.give_back(connection)
        current = self._current  # `expire` puts another set in its place
        self._waiting += 1
        try:
            connection = await self._pool.acquire(timeout=self._timeout)
        finally:
            self._waiting -= 1
        current.add(connection)
        return connection

    def _would_open_another(self) -> bool:
        """Return whether the pool would open a connection while others are in use."""
        pool = self._pool
        return 0 < pool.get_size() < pool.get_max_size() and not pool.get_idle_size()

    async def _wait_for_one(self) -> None:
        """Wait a moment for a connection to come back."""
        loop = asyncio.get_running_loop()
        wait = loop.create_future()
        self._waits[wait] = None
        timer = loop.call_later(_WAIT_SECONDS, _end, wait)
        try:
            await wait
        finally:
            timer.cancel()
            self._waits.pop(wait, None)

    def keep(self, connection: Lent) -> bool:
        """Keep a connection at hand on which nothing is under way.

        Return False where it must be given back: it is lost or expired, or someone waits for the
        pool's next.
        """
        if (
            self._waiting
            or self._is_closing
            or connection not in self._current
            or is_lost(connection)
        ):
            return False
        self._at_hand.append(connection)
        for wait in self._waits:
            if not wait.done():
                wait.set_result(None)
                break
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._return_all)
        return True

    async def give_back(self, connection: Lent) -> None:
        """Give a connection back to the pool, whatever state it is in."""
        self._current.discard(connection)
        await self._pool.release(connection)

    def give_back_later(self, connection: Lent) -> None:
        """Give back a connection whose user was cancelled, who does not wait for it.

        The driver still cancels the statement: where the server is silent, that takes as long as a
        statement may take, and then fails.
        """
        self._start(self.give_back(connection))

    def _return_all(self) -> None:
        self._timer = None
        self._start(self._return())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="return-connections")
        self._returning.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the driver has closed the connection then

    async def _return(self) -> None:
        for _ in range(len(self._at_hand)):
            if self._at_hand:
                await self.give_back(self._at_hand.pop(0))

    async def expire(self) -> None:
        """Replace every open connection before its next use."""
        self._current = set()
        await self._pool.expire_connections()
        while self._at_hand:
            connection = self._at_hand.pop()
            if not is_lost(connection):
                connection.terminate()

    async def close(self) -> None:
        """Close the pool, waiting for the connections that are in use."""
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        await self._return()
        await self._pool.close()

    def terminate(self) -> None:
        """Close the pool at once, and every connection that is in use."""
        self._pool.terminate()


def _end(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)
