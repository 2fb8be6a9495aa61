"""Responses that go on after the application has returned."""

from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from chat_api.api.responses import EventStream, LongResponses
from chat_api.generation.subscription import Subscription


class Reading:
    """A reader as a response knows it."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


async def nothing() -> Message:
    raise AssertionError("nobody is to be listened to")


async def test_a_stream_whose_request_fails_after_its_start_is_no_longer_read() -> None:
    reading, sent = Reading(), list[Any]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await EventStream(cast("Subscription", reading))(scope, receive, send)
        assert reading.closed == 0
        raise RuntimeError("a middleware has failed")

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(RuntimeError, match="middleware"):
        await LongResponses(application)({"type": "http"}, nothing, send)
    assert sent == ["http.response.start"]
    assert reading.closed == 1


async def test_a_stream_whose_start_cannot_be_sent_is_not_read() -> None:
    reading = Reading()

    async def send(_message: Message) -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # the very one
        await LongResponses(EventStream(cast("Subscription", reading)))(
            {"type": "http"}, nothing, send
        )
    assert reading.closed == 1
