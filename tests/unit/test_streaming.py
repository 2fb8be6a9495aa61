"""Event streams as responses, which go on after the application has returned."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.support.waiting import eventually

from chat_api.api.streaming.connection import CONNECTION, Connection
from chat_api.api.streaming.open_stream import OpenStream
from chat_api.api.streaming.response import EventStream, LongResponses, run_to_end
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.subscription import Subscription


class Reading:
    """A subscription, and the place of its stream, as a response knows them."""

    def __init__(
        self, connection: Connection | None = None, error: Exception | None = None
    ) -> None:
        self.connection = connection
        self.error = error
        self.left = asyncio.Event()
        self.closed = 0

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        if self.connection is not None:
            await self.connection.write(b"piece")
        await self.left.wait()

    def leave(self) -> None:
        self.left.set()

    def close(self) -> None:
        self.closed += 1

    def response(self) -> EventStream:
        return EventStream(cast("Subscription", self), cast("OpenStream", self))


class Server:
    """What our server offers beyond ASGI."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.takes = True
        self.aborted = False
        self.gone: Callable[[], None] | None = None

    @property
    def is_writable(self) -> bool:
        return self.takes

    def try_write(self, data: bytes) -> bool:
        if self.takes:
            self.written.append(data)
        return self.takes

    def abort(self) -> None:
        self.aborted = True

    def when_gone(self, call: Callable[[], None]) -> None:
        self.gone = call


async def is_blocked(reading: Reading) -> Connection:
    """Return the connection once a write to it waits."""
    await eventually(
        lambda: reading.connection is not None and reading.connection.blocked_since is not None, 5
    )
    assert reading.connection is not None
    return reading.connection


async def nothing() -> Message:
    raise AssertionError("the protocol must not read here")


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_stream_whose_request_fails_after_its_start_is_closed() -> None:
    reading, sent = Reading(), list[Any]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reading.response()(scope, receive, send)
        assert reading.closed == 0
        raise RuntimeError("a middleware has failed")

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(RuntimeError, match="middleware"):
        await LongResponses(application)({"type": "http"}, nothing, send)
    assert sent == ["http.response.start"]
    assert reading.closed == 2  # subscription and place


async def test_a_stream_whose_start_cannot_be_sent_is_closed() -> None:
    reading = Reading()

    async def send(_message: Message) -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # the very one
        await LongResponses(reading.response())({"type": "http"}, nothing, send)
    assert reading.closed == 2


async def test_it_goes_on_after_the_application_with_the_server_s_own_send() -> None:
    """The application's middleware, and what it left in the scope, are gone by then."""
    reading, server, sent = Reading(), Server(), list[Message]()
    seen: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reading.connection = scope[CONNECTION]
        scope["left behind"] = True
        await reading.response()(scope, receive, send)
        seen.append(scope[CONNECTION].try_write(b"too early"))

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "headers": [(b"a", b"b")]}
    # The inner one leaves everything to the outer one.
    streaming = asyncio.create_task(
        LongResponses(LongResponses(application), server)(scope, nothing, send)
    )
    await eventually(lambda: server.gone is not None and len(sent) >= 2, 5)
    assert server.gone is not None
    assert seen == [False]
    assert "left behind" not in scope
    assert reading.connection is not None
    assert reading.connection.try_write(b"at once")
    server.takes = False
    assert not reading.connection.try_write(b"not now")
    server.takes = True
    server.gone()
    await streaming
    assert server.written == [b"at once"]
    assert [message.get("body") for message in sent] == [None, b"piece", b""]
    assert not reading.connection.try_write(b"too late")
    assert reading.closed == 2


@pytest.mark.parametrize("with_server", [False, True])
async def test_a_client_that_takes_nothing_can_be_cut_off(with_server: bool) -> None:
    reading, server = Reading(), Server()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reading.connection = scope[CONNECTION]
        await reading.response()(scope, receive, send)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    streaming = asyncio.create_task(
        LongResponses(application, server if with_server else None)({"type": "http"}, never, send)
    )
    connection = await is_blocked(reading)
    connection.abort()
    await asyncio.wait_for(streaming, 5)  # cut off on purpose: no cancellation comes out
    assert server.aborted is with_server
    assert connection.blocked_since is None
    assert reading.closed == 2


async def test_a_cancellation_from_outside_is_one() -> None:
    reading = Reading()

    async def send(_message: Message) -> None:
        pass

    streaming = asyncio.create_task(
        LongResponses(reading.response())({"type": "http"}, never, send)
    )
    for _ in range(5):
        await asyncio.sleep(0)
    streaming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await streaming
    assert reading.closed == 2


async def test_a_stream_that_fails_ends_in_order() -> None:
    reading, sent = Reading(error=DatabaseUnavailable()), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    await LongResponses(reading.response())({"type": "http"}, never, send)
    assert [message.get("more_body") for message in sent] == [None, False]
    assert reading.closed == 2


async def test_a_client_that_goes_ends_the_wait_for_its_result() -> None:
    reading = Reading()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async with asyncio.timeout(5):
        await run_to_end(cast("Subscription", reading), cast("OpenStream", reading), gone)
    assert reading.closed == 2
