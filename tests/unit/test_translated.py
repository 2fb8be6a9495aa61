"""The sink of other dialects: frames of our own in, a translator's bytes out."""

import asyncio
from typing import Any

import pytest

from chat_api import sse
from chat_api.api.streaming.connection import Connection
from chat_api.dialects.translated import CannotGoOn, Translated
from chat_api.generation import events

MESSAGE = "0a3a3e1f-b0a1-7000-8000-0a3a3e1fb0a1"


class Wire:
    """What the server does for a connection."""

    def __init__(self) -> None:
        self.is_writable = True
        self.sent: list[bytes] = []
        self.aborted = self.finished = False

    def try_write(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def abort(self) -> None:
        self.aborted = True

    def when_gone(self, _call: Any) -> None:
        pass

    async def send(self, message: Any) -> None:
        if message["more_body"]:
            self.sent.append(message["body"])
        else:
            self.finished = True

    async def receive(self) -> Any:
        raise AssertionError


class Repeating:
    """A translator that repeats each event, ends with `done` and cannot go on after `reset`."""

    has_ended = False

    def translate(self, attempt: int, number: int, data: bytes) -> bytes:
        if data == b"reset":
            raise CannotGoOn
        self.has_ended = data == b"done"
        return b"" if data == b"nothing" else b"%d.%d=%b;" % (attempt, number, data)


def opened() -> tuple[Translated, Wire]:
    """Return a sink on an open connection. The caller's task is the connection's."""
    wire = Wire()
    connection = Connection(wire.receive, wire.send, wire)
    connection.open(lambda: None)
    return Translated(connection, Repeating()), wire


def frame(number: int, data: bytes) -> bytes:
    return events.frame(MESSAGE, 2, number, data)


async def test_frames_are_translated_however_they_are_cut() -> None:
    sink, wire = opened()
    whole = sse.RETRY + frame(0, b"a") + sse.HEARTBEAT + frame(1, b"nothing") + frame(2, b"c")
    for at in range(len(whole)):
        await sink.write(whole[at : at + 1])
    assert b"".join(wire.sent) == b"2.0=a;" + sse.HEARTBEAT + b"2.2=c;"
    assert b"" not in wire.sent, "an empty chunk would end the response"


async def test_nothing_is_translated_that_cannot_be_written_at_once() -> None:
    sink, wire = opened()
    assert sink.try_write(frame(0, b"a"))
    wire.is_writable = False
    assert not sink.try_write(frame(1, b"done"))
    assert wire.sent == [b"2.0=a;"]
    with pytest.raises(asyncio.CancelledError):
        await sink.finish()
    assert wire.aborted, "the event that was not written counts as sent"


async def test_an_event_without_a_meaning_writes_nothing_at_once() -> None:
    sink, wire = opened()
    assert sink.try_write(frame(0, b"nothing"))
    assert wire.sent == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stream_that_cannot_go_on_is_cut_off(at_once: bool) -> None:
    sink, wire = opened()
    frames = frame(0, b"a") + frame(1, b"reset")
    if at_once:
        assert sink.try_write(frames)
    with pytest.raises(asyncio.CancelledError):
        await (asyncio.sleep(0) if at_once else sink.write(frames))
    assert wire.aborted
    assert not wire.finished


async def test_only_what_has_ended_is_closed_in_order() -> None:
    sink, wire = opened()
    await sink.write(frame(0, b"done"))
    await sink.finish()
    assert wire.finished
    assert not wire.aborted
