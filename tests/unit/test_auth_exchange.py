"""One request and its response: every framing of HTTP, and what is none."""

import asyncio
from urllib.parse import urlsplit

import pytest
from tests.support.listening import listening

from chat_api.auth.exchange import ExchangeFailed, exchange

REQUEST = b"POST /auth/validate HTTP/1.1\r\nHost: auth\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\n"

RESPONSES: dict[str, tuple[bytes, tuple[int, bytes] | str]] = {
    "length": (OK + b"Content-Length: 4\r\n\r\n{}  ", (200, b"{}  ")),
    "chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nA: b\r\n\r\n",
        (200, b"{}"),
    ),
    "until the end": (OK + b"\r\n{}", (200, b"{}")),
    "HTTP/1.0": (b"HTTP/1.0 401 No\r\n\r\n{}", (401, b"{}")),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    "early hints": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\n{}",
        (200, b"{}"),
    ),
    "nothing": (b"", "lost"),
    "half a head": (OK + b"Content-Le", "lost"),
    "half a head behind early hints": (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Le",
        "lost",
    ),
    "half a body": (OK + b"Content-Length: 4\r\n\r\n{}", "lost"),
    "half a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{", "lost"),
    "another protocol": (b"220 smtp.example.org ESMTP\r\n", "not a response"),
    "another protocol is offered": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "not a response",
    ),
    "an endless head": (OK + b"A: b\r\n" * 5_000, "too long"),
    "an endless body": (OK + b"\r\n" + b" " * 20_000, "too long"),
}


@pytest.mark.case(3)
@pytest.mark.parametrize("size", [1, 100_000], ids=["byte by byte", "at once"])
@pytest.mark.parametrize(("sent", "expected"), RESPONSES.values(), ids=RESPONSES.keys())
async def test_a_response_is_read_whole_or_not_at_all(
    sent: bytes, expected: tuple[int, bytes] | str, size: int
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(REQUEST)) == REQUEST
        for at in range(0, len(sent), size):
            writer.write(sent[at : at + size])
            await asyncio.sleep(0)

    async with listening(serve) as url:
        asked = exchange(urlsplit(url), REQUEST, most_bytes=1_000, timeout_seconds=5)
        if isinstance(expected, str):
            with pytest.raises(ExchangeFailed, match=expected):
                await asked
        else:
            assert await asked == expected


async def test_a_caller_that_goes_away_takes_its_connection_along() -> None:
    closed = asyncio.Event()
    arrived = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(REQUEST))
        arrived.set()
        try:
            await reader.read()
        finally:
            closed.set()

    async with listening(serve) as url:
        asked = asyncio.create_task(
            exchange(urlsplit(url), REQUEST, most_bytes=1_000, timeout_seconds=5)
        )
        async with asyncio.timeout(5):
            await arrived.wait()
            asked.cancel()
            await closed.wait()
    assert asked.cancelled()
