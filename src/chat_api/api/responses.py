"""Responses that routes share: JSON that is already written, and event streams."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_api import sse
from chat_api.errors import ApiError
from chat_api.generation.subscription import Subscription
from chat_api.telemetry import OPEN_STREAMS, log

# ASGI extensions of our server (chat_api.server). Cut the connection without flushing it:
ABORT_EXTENSION = "samosachaat.abort"
# Give, once the response has started, a function that writes a piece of its body at once: True if
# it did, False where the connection takes nothing now. What it writes goes past every middleware.
WRITE_EXTENSION = "samosachaat.write"
# Call a function when the client has gone; without it, `receive` has to be waited for in a task.
GONE_EXTENSION = "samosachaat.gone"
# Where `LongResponses` looks, in a request's scope, for what is to go on.
GO_ON = "samosachaat.go_on"


def written_json(text: str | bytes, status: int = 200, **headers: str) -> Response:
    """Return a response of JSON that is already written."""
    return Response(text, status, headers=headers, media_type="application/json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the errors that a route may answer with."""
    return {
        status: {
            "description": "A problem document (RFC 9457)",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in sorted({401, 429, 503, *statuses})
    }


class EventStream(Response):
    """Sends a reader's events until the answer ends or the client goes away.

    A client that takes nothing for too long is cut off; its answer goes on. The response begins
    where it was made, and goes on in `LongResponses`: what stood between, which is most of what
    an open stream would hold in memory, is gone by then.
    """

    media_type = "text/event-stream"

    def __init__(self, reader: Subscription) -> None:
        self.reader = reader
        self.status_code = 200
        self.background = None
        # Not `init_headers`: it would add a content-length.
        self.raw_headers = [(name.encode(), value.encode()) for name, value in sse.HEADERS.items()]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            self.reader.close()
            raise
        scope[GO_ON].append(self)


async def _send_events(reader: Subscription, scope: Scope, receive: Receive, send: Send) -> None:
    extensions: Mapping[str, Callable[..., Any]] = scope.get("extensions") or {}
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # ASGI applications run in tasks
    dropped = False

    def drop() -> None:
        nonlocal dropped
        dropped = True
        abort = extensions.get(ABORT_EXTENSION)
        if abort is not None:
            abort()
        task.cancel()

    reader.drop = drop
    watch: asyncio.Task[None] | None = None
    if (when_gone := extensions.get(GONE_EXTENSION)) is not None:
        when_gone(reader.leave)
    else:
        watch = asyncio.create_task(_watch(receive, reader), name="watch-client")
    OPEN_STREAMS.inc()
    try:
        if (direct := extensions.get(WRITE_EXTENSION)) is not None:
            reader.write = direct()
        try:
            async for chunk in reader.chunks():
                reader.sending_since = time.monotonic()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                reader.last_sent = time.monotonic()
                reader.sending_since = None
        except ApiError as error:
            # Too late for a status. Without `done`, the client knows that it may come back.
            log.warning("stream_ended_early", error=error.code)
        # This waits for what was sent before: the server has it in memory until then.
        reader.sending_since = time.monotonic()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not dropped:
            raise
    finally:
        reader.write = None
        reader.sending_since = None
        OPEN_STREAMS.dec()
        if watch is not None:
            watch.cancel()
        reader.close()


async def read_to_end(reader: Subscription, receive: Receive) -> None:
    """Follow an answer to its end for a client that wants only the result."""
    watch = asyncio.create_task(_watch(receive, reader), name="watch-client")
    try:
        async for _ in reader.chunks():
            reader.last_sent = time.monotonic()
    finally:
        watch.cancel()
        reader.close()


async def _watch(receive: Receive, reader: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.leave()


class LongResponses:
    """Lets a response that has begun in the application go on when the application has returned.

    The outermost middleware; our server has one around the whole application (`chat_api.server`),
    which leaves nothing to this one. What goes on is given the server's own `receive` and `send`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if GO_ON in scope:
            await self._app(scope, receive, send)
            return
        streams: list[EventStream] = []
        scope[GO_ON] = streams
        asked_for = set(scope)
        try:
            await self._app(scope, receive, send)
        except BaseException:
            for stream in streams:
                stream.reader.close()
            raise
        for stream in streams:
            for left_behind in set(scope) - asked_for:
                del scope[left_behind]
            scope["headers"] = []
            await _send_events(stream.reader, scope, receive, send)
