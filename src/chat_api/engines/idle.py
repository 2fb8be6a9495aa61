"""Connections to one engine that have carried an answer and may carry another."""

import asyncio

# Under load that is enough. Servers close what is idle for longer, uvicorn after 5 seconds; others,
# such as llama.cpp, spend one of a few threads on each open connection.
_IDLE_SECONDS = 1.0
_MOST_IDLE = 32
# Later answers go where the host's name leads by then: to new engines behind it, too.
_MOST_AGE_SECONDS = 60.0


def use_until() -> float:
    """Return until when, in the loop's time, a connection that is made now may be used again."""
    return asyncio.get_running_loop().time() + _MOST_AGE_SECONDS


class IdleConnections:
    """Keeps connections for a moment; one that the engine closes is forgotten at once."""

    def __init__(self) -> None:
        self._idle: dict[asyncio.Transport, tuple[asyncio.TimerHandle, float]] = {}
        self._ending: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._is_closed = False

    def take(self) -> tuple[asyncio.Transport, float] | None:
        """Return the connection that was used last, and until when it may be used again."""
        while self._idle:
            transport, (timer, until) = self._idle.popitem()
            timer.cancel()
            if not transport.is_closing():
                return transport, until
        return None

    def expect(self, transport: asyncio.Transport, seconds: float) -> None:
        """Close a connection that is not put here within so many seconds."""
        if self._is_closed:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._ending[transport] = loop.call_later(seconds, self.drop, transport)

    def put(self, transport: asyncio.Transport, until: float) -> None:
        """Keep a connection on which nothing is under way, unless `until` has passed."""
        self._forget(transport)
        loop = asyncio.get_running_loop()
        is_kept = loop.time() < until and len(self._idle) < _MOST_IDLE
        if self._is_closed or transport.is_closing() or not is_kept:
            transport.abort()
            return
        transport.set_protocol(_Idle(self, transport))
        self._idle[transport] = loop.call_later(_IDLE_SECONDS, self.drop, transport), until

    def drop(self, transport: asyncio.Transport) -> None:
        """Close a connection, and forget it."""
        self._forget(transport)
        transport.abort()

    def _forget(self, transport: asyncio.Transport) -> None:
        if (kept := self._idle.pop(transport, None)) is not None:
            kept[0].cancel()
        if (timer := self._ending.pop(transport, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Close them all, and keep no further one."""
        self._is_closed = True
        for transport in [*self._idle, *self._ending]:
            self.drop(transport)


class _Idle(asyncio.Protocol):
    """Nothing may arrive on a connection that waits for a request."""

    def __init__(self, connections: IdleConnections, transport: asyncio.Transport) -> None:
        self._connections = connections
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        self._connections.drop(self._transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.drop(self._transport)
