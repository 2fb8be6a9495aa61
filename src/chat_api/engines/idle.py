"""Connections to one engine that have carried an answer and may carry another."""

import asyncio

# Under load that is enough. Servers close what is idle for longer, uvicorn after 5 seconds; others,
# such as llama.cpp, spend one of a few threads on each open connection.
_IDLE_SECONDS = 1.0
_MOST_IDLE = 32


class IdleConnections:
    """Keeps connections for a moment; one that the engine closes is forgotten at once."""

    def __init__(self) -> None:
        self._idle: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._ending: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._is_closed = False

    def take(self) -> asyncio.Transport | None:
        """Return the connection that was used last, if there is one."""
        while self._idle:
            transport, timer = self._idle.popitem()
            timer.cancel()
            if not transport.is_closing():
                return transport
        return None

    def expect(self, transport: asyncio.Transport, seconds: float) -> None:
        """Close a connection that is not put here within so many seconds."""
        if self._is_closed:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._ending[transport] = loop.call_later(seconds, self.drop, transport)

    def put(self, transport: asyncio.Transport) -> None:
        """Keep a connection on which nothing is under way."""
        if (timer := self._ending.pop(transport, None)) is not None:
            timer.cancel()
        if self._is_closed or transport.is_closing() or len(self._idle) >= _MOST_IDLE:
            transport.abort()
            return
        transport.set_protocol(_Idle(self, transport))
        loop = asyncio.get_running_loop()
        self._idle[transport] = loop.call_later(_IDLE_SECONDS, self.drop, transport)

    def drop(self, transport: asyncio.Transport) -> None:
        """Close a connection, and forget it."""
        for kept in (self._idle, self._ending):
            if (timer := kept.pop(transport, None)) is not None:
                timer.cancel()
        transport.abort()

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
