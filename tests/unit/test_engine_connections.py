"""Connections to an engine carry one answer after the other, and none is asked for twice."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from tests.support.receiving import Collected
from tests.support.waiting import eventually
from tests.support.wire import vanish

from chat_api.engines import http, idle
from chat_api.engines.engine import Request
from chat_api.engines.http import EngineHttp
from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.errors import EngineFailed, EngineIncomplete, EngineUnavailable

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_IDLE_SECONDS", 30.0)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


TOKEN = chunk(b'data: {"token":"Tea"}\n\n')
DONE = chunk(b'data: {"done":true}\n\n')
END = b"0\r\n\r\n"
WHOLE = HEAD + TOKEN + DONE + END
CLOSE = b""  # in a script: close the connection
WAIT = b"wait"  # in a script: until the test says so


class Server:
    """Does to each request what its script says: pieces to send, one after the other."""

    def __init__(self, scripts: Sequence[Sequence[bytes]]) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.requests = 0
        self.finished = 0
        """How many scripts are over."""
        self.closed = asyncio.Event()
        """Set when a connection has ended."""
        self.go = asyncio.Event()
        """What a script waits for."""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
                await reader.readexactly(length)
                script = self.scripts[self.requests]
                self.requests += 1
                for piece in script:
                    if piece == CLOSE:
                        writer.close()
                        self.finished += 1
                        return
                    if piece == WAIT:
                        await self.go.wait()
                        continue
                    writer.write(piece)
                    await asyncio.sleep(0.01)  # so that it is a packet of its own
                self.finished += 1
        self.closed.set()
        writer.close()


@asynccontextmanager
async def serving(
    *scripts: Sequence[bytes], connect_timeout_seconds: float = 5
) -> AsyncIterator[tuple[Server, SamosachaatEngine]]:
    server = Server(scripts)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        engine = SamosachaatEngine(
            EngineHttp(
                cast("Any", None),
                name="test",
                url=f"http://127.0.0.1:{port}",
                headers=[],
                connect_timeout_seconds=connect_timeout_seconds,
                max_event_bytes=2000,
            ),
            name="test",
            swap_timeout_seconds=5,
        )
        yield server, engine
        engine.close()
        for writer in server.writers:
            writer.close()


async def answer(engine: SamosachaatEngine) -> str | type[EngineFailed]:
    """Return the text that comes, or what went wrong."""
    received = Collected()
    try:
        async with asyncio.timeout(10):
            request = Request("", [{"role": "user", "content": "Hi"}], "trace")
            await engine.generate(request, received)
    except EngineFailed as error:
        return type(error)
    return received.text


# Scripts for the requests in their order; the outcomes; connections and requests in all.
CASES: dict[str, tuple[list[list[bytes]], list[str | type[EngineFailed]], int, int]] = {
    "kept": ([[WHOLE]] * 3, ["Tea"] * 3, 1, 3),
    "the end of the response comes late": (
        [[HEAD + TOKEN + DONE, END], [WHOLE]],
        ["Tea"] * 2,
        1,
        2,
    ),
    "not to be kept": ([[LAST + TOKEN + DONE + END]] * 2, ["Tea"] * 2, 2, 2),
    "of the protocol before": (
        [
            [
                LAST.replace(b"1.1", b"1.0").replace(b"transfer-encoding: chunked\r\n", b"")
                + b'data: {"token":"Tea"}\n\ndata: {"done":true}\n\n',
                CLOSE,
            ]
        ]
        * 2,
        ["Tea"] * 2,
        2,
        2,
    ),
    "closed while nothing is asked": ([[WHOLE, CLOSE]] * 2, ["Tea"] * 2, 2, 2),
    # The request reached the engine, which may have begun to write.
    "closed as it is asked again": (
        [[WHOLE], [CLOSE], [WHOLE]],
        ["Tea", EngineUnavailable],
        1,
        2,
    ),
    "a new one is closed": ([[CLOSE], [WHOLE]], [EngineUnavailable], 1, 1),
    "closed inside the head": (
        [[WHOLE], [HEAD[:20], CLOSE], [WHOLE]],
        ["Tea", EngineUnavailable],
        1,
        2,
    ),
    "closed inside the answer": (
        [[WHOLE], [HEAD + TOKEN, CLOSE], [WHOLE]],
        ["Tea", EngineIncomplete],
        1,
        2,
    ),
    "more than was asked for": ([[WHOLE + b"HTTP/1.1 200 OK\r\n"], [WHOLE]], ["Tea"] * 2, 2, 2),
    "a whole response more": ([[WHOLE + WHOLE], [WHOLE]], ["Tea"] * 2, 2, 2),
    "more, in two packets": ([[WHOLE + HEAD, TOKEN + DONE + END], [WHOLE]], ["Tea"] * 2, 2, 2),
    "more, later": ([[WHOLE, b"HTTP/1.1 200 OK\r\n"], [WHOLE]], ["Tea"] * 2, 2, 2),
}


@pytest.mark.case(87)
@pytest.mark.parametrize("name", list(CASES))
async def test_a_connection_is_used_again_where_the_engine_permits(name: str) -> None:
    scripts, outcomes, connections, requests = CASES[name]
    async with serving(*scripts) as (server, engine):
        for expected in outcomes:
            assert await answer(engine) == expected
            await eventually(lambda: server.finished == server.requests)
            if name == "the end of the response comes late":
                await eventually(lambda: engine._http._idle._idle)
        assert (server.connections, server.requests) == (connections, requests)


@pytest.mark.case(87)
async def test_a_connection_that_was_just_closed_is_replaced_once() -> None:
    """The engine closed it, which is not known here yet when the request is sent."""
    async with serving([WHOLE], [WHOLE]) as (server, engine):
        assert await answer(engine) == "Tea"
        await eventually(lambda: engine._http._idle._idle)
        server.writers[0].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        assert await answer(engine) == "Tea"
        assert (server.connections, server.requests) == (2, 2)


@pytest.mark.case(87)
@pytest.mark.skipif(sys.platform != "linux", reason="socket filters and TCP_INFO are Linux")
async def test_a_machine_that_is_gone_is_noticed_as_soon_as_by_connecting_to_it() -> None:
    """No packet says so: it lost its power, or its network."""
    async with serving([WHOLE], connect_timeout_seconds=0.2) as (server, engine):
        assert await answer(engine) == "Tea"
        await eventually(lambda: engine._http._idle._idle)
        vanish(server.writers[0].get_extra_info("socket"))
        request = Request("", [{"role": "user", "content": "Hi"}], "trace")
        async with asyncio.timeout(10):
            with pytest.raises(EngineUnavailable) as failed:
                await engine.generate(request, Collected())
        assert failed.value.was_slow
        assert server.requests == 1


@pytest.mark.case(87)
async def test_an_engine_may_take_longer_than_connecting_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has the request: how long its first token may take is the writer's business."""
    monkeypatch.setattr(http, "_LEAST_UNHEARD_SECONDS", 0.2, raising=False)
    async with serving([WHOLE], [WAIT, WHOLE], connect_timeout_seconds=0.2) as (server, engine):
        assert await answer(engine) == "Tea"
        await eventually(lambda: engine._http._idle._idle)
        asyncio.get_running_loop().call_later(0.5, server.go.set)
        assert await answer(engine) == "Tea"
        assert server.connections == 1


@pytest.mark.case(87)
async def test_answers_go_where_the_name_leads_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is never idle would keep to its connections: none is used for long."""
    monkeypatch.setattr(idle, "_MOST_AGE_SECONDS", 0.0, raising=False)
    async with serving([WHOLE], [WHOLE]) as (server, engine):
        assert await answer(engine) == "Tea"
        assert await answer(engine) == "Tea"
        assert server.connections == 2


@pytest.mark.case(87)
async def test_a_generation_that_is_stopped_closes_its_kept_connection() -> None:
    async with serving([WHOLE], [HEAD + TOKEN], [WHOLE]) as (server, engine):
        assert await answer(engine) == "Tea"
        stopped = asyncio.create_task(answer(engine))
        await eventually(lambda: server.requests == 2)
        stopped.cancel()
        await eventually(server.closed.is_set)
        assert await answer(engine) == "Tea"
        assert server.connections == 2


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_IDLE_SECONDS", 0.01)
    async with serving([WHOLE]) as (server, engine):
        assert await answer(engine) == "Tea"
        await eventually(server.closed.is_set)


async def test_no_more_connections_are_kept_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_MOST_IDLE", 1)
    async with serving(*[[HEAD + TOKEN, DONE + END]] * 2) as (server, engine):
        assert set(await asyncio.gather(answer(engine), answer(engine))) == {"Tea"}
        await eventually(server.closed.is_set)
