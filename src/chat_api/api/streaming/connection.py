"""The client's connection during one request: the one seam between application and server.

`LongResponses` puts it into the request's scope under the key CONNECTION. Under our own server
(`chat_api.http_protocol`) it writes past every middleware; under another one it does what ASGI can.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from fastapi import Request
from starlette.types import Receive, Send

if TYPE_CHECKING:
    from chat_api.api.streaming.response import EventStream

CONNECTION = "samosachaat.connection"


class ServerConnection(Protocol):
    """What our server does for one request beyond ASGI, from the start of the response on."""

    @property
    def is_writable(self) -> bool:
        """Return whether `try_write` would write."""

    def try_write(self, data: bytes) -> bool:
        """Write a piece of the body at once, and return True; False where it would have to wait."""

    def abort(self) -> None:
        """Reset the connection, without sending buffered bytes."""

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call a function once the client has gone."""


class Connection:
    """Takes the bytes of an event stream: a `generation.sink.Sink`."""

    __slots__ = (
        "_clock",
        "_direct",
        "_receive",
        "_send",
        "_server",
        "_task",
        "_watch",
        "blocked_since",
        "is_aborted",
        "stream",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        server: ServerConnection | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive = receive
        self._send = send
        self._server = server
        self._clock = clock
        self._direct: ServerConnection | None = None  # while a stream is open
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.blocked_since: float | None = None
        self.is_aborted = False
        self.stream: EventStream | None = None
        """Sends the rest of the response after the application has returned."""

    def open(self, when_gone: Callable[[], None]) -> None:
        """Begin to take bytes; the response's head has been sent. The caller's task writes them."""
        self._task = asyncio.current_task()
        if self._server is None:
            self._watch = asyncio.create_task(
                until_gone(self._receive, when_gone), name="watch-client"
            )
        else:
            self._direct = self._server
            self._server.when_gone(when_gone)

    @property
    def is_writable(self) -> bool:
        """Return whether `try_write` would write now."""
        return self._direct is not None and self._direct.is_writable

    def try_write(self, data: bytes) -> bool:
        """Write at once, if our server can: step 5 of the hot path (docs/decisions/0008)."""
        return self._direct is not None and self._direct.try_write(data)

    async def write(self, data: bytes) -> None:
        """Write, waiting until the server can take more."""
        self.blocked_since = self._clock()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self.blocked_since = None

    async def finish(self) -> None:
        """End the response, waiting until the client has taken it."""
        self.blocked_since = self._clock()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def abort(self) -> None:
        """Cut the connection off; what its task waits for is cancelled."""
        self.is_aborted = True
        if self._server is not None:
            self._server.abort()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Take no more bytes."""
        self._direct = None
        self.blocked_since = None
        if self._watch is not None:
            self._watch.cancel()


async def until_gone(receive: Receive, call: Callable[[], None]) -> None:
    """Call a function once the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call()


def connection_of(request: Request) -> Connection:
    """Return the connection that the request came by."""
    return cast("Connection", request.scope[CONNECTION])
