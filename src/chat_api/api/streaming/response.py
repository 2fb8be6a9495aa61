"""Event streams as responses."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_api import sse
from chat_api.api.streaming.connection import (
    CONNECTION,
    Connection,
    ServerConnection,
    until_gone,
)
from chat_api.api.streaming.open_stream import OpenStream, Reading
from chat_api.errors import ApiError
from chat_api.telemetry import OPEN_STREAMS, log

# What servers look at in the scope of a request whose response is under way.
_NEEDED_BY_SERVERS = ("type", "http_version", "method", "path")


class Finishing(Protocol):
    """Ends a response: the connection, or a translator in front of it."""

    async def finish(self) -> None:
        """End the response, or reset the connection."""


class EventStream(Response):
    """Sends a subscription's events until it ends or the client goes away.

    The response begins in the application and continues in `LongResponses`, after the application's
    frames and objects, which would be most of an open stream's memory, have been released.
    `headers` are added to those of every event stream; `sink` ends it in place of the connection.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        subscription: Reading,
        stream: OpenStream,
        *,
        headers: Mapping[str, str] | None = None,
        sink: Finishing | None = None,
    ) -> None:
        self._subscription = subscription
        self._stream = stream
        self._sink = sink
        self.status_code = 200
        self.background = None
        # Not `init_headers`: it would add a content-length.
        self.raw_headers = [
            (name.encode(), value.encode())
            for name, value in {**sse.HEADERS, **(headers or {})}.items()
        ]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        connection: Connection = scope[CONNECTION]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            self.close()
            raise
        connection.stream = self

    async def send_events(self, connection: Connection) -> None:
        """Send the body, then close the subscription."""
        OPEN_STREAMS.inc()
        connection.open(self._subscription.leave)
        try:
            try:
                await self._subscription.run()
            except ApiError as error:
                # Too late for a status. Without `done`, the client knows that it may reconnect.
                log.warning("stream_ended_early", error=error.code)
            await (self._sink or connection).finish()
        except asyncio.CancelledError:
            if not connection.is_aborted:
                raise
        finally:
            OPEN_STREAMS.dec()
            connection.close()
            self.close()

    def close(self) -> None:
        """End the subscription and the stream's count."""
        self._subscription.close()
        self._stream.close()


async def run_to_end(subscription: Reading, stream: OpenStream, receive: Receive) -> None:
    """Run a subscription for a client that wants only the result."""
    watch = asyncio.create_task(until_gone(receive, subscription.leave), name="watch-client")
    try:
        await subscription.run()
    finally:
        watch.cancel()
        subscription.close()
        stream.close()


class LongResponses:
    """Continues an event stream after the application has returned.

    Outside of every middleware but `HeadAsGet`. Our server puts one of its own around the whole
    application for each request, which leaves nothing to do for this one. The rest of a response
    uses the server's own `receive` and `send`.
    """

    def __init__(self, app: ASGIApp, server: ServerConnection | None = None) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or CONNECTION in scope:
            await self._app(scope, receive, send)
            return
        connection = scope[CONNECTION] = Connection(receive, send, self._server)
        try:
            await self._app(scope, receive, send)
        except BaseException:
            if connection.stream is not None:
                connection.stream.close()
            raise
        if connection.stream is not None:
            needed = {name: scope[name] for name in _NEEDED_BY_SERVERS if name in scope}
            scope.clear()
            scope.update(needed, headers=[])
            await connection.stream.send_events(connection)
