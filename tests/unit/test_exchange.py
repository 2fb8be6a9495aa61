"""The protocol of one request to an engine: bounded bytes, and bounded work in one turn."""

import asyncio

import pytest
from tests.support.receiving import Collected

from chat_api.engines import exchange as module
from chat_api.engines.engine import Decoder, Event
from chat_api.engines.exchange import Exchange
from chat_api.engines.openai_decoder import OpenAIDecoder
from chat_api.engines.samosachaat import SamosachaatDecoder
from chat_api.errors import EngineFailed, EngineIncomplete, EngineProtocol

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b'data: {"done":true}\n\n'


class Line(asyncio.Transport):
    """A connection that notes what the protocol asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Call:
    """An exchange, and what it has delivered."""

    def __init__(self, decoder: Decoder | None = None) -> None:
        self.received = Collected()
        self.line = Line()
        self.exchange = Exchange(
            b"",
            decoder=decoder or SamosachaatDecoder(1_000_000),
            receiver=self.received,
            max_idle_bytes=1_000_000,
        )
        self.exchange.connection_made(self.line)

    @property
    def events(self) -> list[Event]:
        return self.received.events

    @property
    def text(self) -> str:
        return self.received.text

    async def failure(self) -> type[EngineFailed] | None:
        """How it ended; none after `done`."""
        async with asyncio.timeout(10):
            try:
                await self.exchange.ended
            except EngineFailed as error:
                return type(error)
        return None


@pytest.mark.case(64)
async def test_the_body_of_a_refusal_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_REST_SECONDS", 0.01)
    call = Call(OpenAIDecoder(1_000_000))
    call.exchange.data_received(HEAD.replace(b"200 OK", b"500 No"))
    assert await call.failure() is EngineFailed


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def tokens(count: int) -> bytes:
    return b'data: {"token":"a"}\n\n' * count


@pytest.mark.case(49)
async def test_a_large_packet_is_handled_over_several_turns_of_the_loop() -> None:
    call = Call()
    call.exchange.data_received(HEAD + chunk(tokens(10_000) + END))
    seen: list[int] = []
    while not call.exchange.ended.done():
        assert call.line.is_paused
        await asyncio.sleep(0)
        seen.append(len(call.events))
    most = max(after - before for before, after in zip([0, *seen], seen, strict=False))
    assert most < 1000
    assert await call.failure() is None
    assert call.text == "a" * 10_000


@pytest.mark.case(49)
async def test_what_arrives_behind_a_large_packet_keeps_its_order() -> None:
    call = Call()
    call.exchange.data_received(HEAD + chunk(tokens(2000)))
    call.exchange.data_received(chunk(b'data: {"token":"b"}\n\n'))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.line.is_paused
    assert call.text == "a" * 2000 + "b"
    call.exchange.data_received(chunk(END))
    assert await call.failure() is None


async def test_a_connection_that_is_lost_behind_a_large_packet_loses_nothing_of_it() -> None:
    call = Call()
    call.exchange.data_received(HEAD + chunk(tokens(2000)))
    call.exchange.connection_lost(None)
    assert await call.failure() is EngineIncomplete
    assert call.text == "a" * 2000


@pytest.mark.case(49)
@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"X-Trailer: " + b"x" * 5000, id="a trailer without an end"),
        pytest.param(b"X-Trailer: x\r\n" * 400, id="many trailers"),
    ],
)
async def test_what_follows_the_body_without_an_end_is_bounded(endless: bytes) -> None:
    call = Call()
    call.exchange.data_received(HEAD + chunk(tokens(1)) + b"0\r\n")
    for _ in range(40):
        call.exchange.data_received(endless)
        if call.exchange.ended.done():
            break
    assert await call.failure() in {EngineProtocol, EngineIncomplete}
    assert call.text == "a"


@pytest.mark.case(49)
async def test_a_chunk_extension_without_an_end_is_bounded() -> None:
    call = Call()
    call.exchange.data_received(HEAD + chunk(tokens(1)) + b"5;x=")
    for _ in range(40):
        call.exchange.data_received(b"y" * 5000)
    assert await call.failure() is not None
