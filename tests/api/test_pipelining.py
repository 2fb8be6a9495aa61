"""Requests that are sent without waiting for the answers to those before them."""

import asyncio
import contextlib
import time

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.service import Service

SHORT = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
MEGABYTE = 1 << 20


async def answers(service: Service, request: bytes) -> bytes:
    """Everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.case(48)
async def test_every_pipelined_request_is_answered_in_its_turn(
    service: Service, auth: AuthServer
) -> None:
    """Cut at any byte of the pieces in which the server parses: bodies, heads, chunks."""
    token = auth.user().token
    head = f"POST /api/conversations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n"
    requests = b""
    for number in range(150):
        body = '{"title": "' + f"{number:_>{number * 3 + 4}}"[-499:] + '"}'
        framed = f"content-length: {len(body)}\r\n\r\n{body}"
        if number % 3 == 0:
            framed = f"transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
        requests += f"{head}{framed}".encode()
    got = await answers(service, requests + LAST)
    assert got.count(b"HTTP/1.1 201 ") == 150
    places = [got.index(f'_{number}"'.encode()) for number in range(150)]
    assert places == sorted(places)
    assert got.count(b"HTTP/1.1 404 ") == 1


@pytest.mark.case(48)
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("path", [b"/x", b"/api/conversations"], ids=["nowhere", "no token"])
async def test_a_flood_of_pipelined_requests_takes_no_memory_and_no_time_of_others(
    service: Service, path: bytes, reads: bool
) -> None:
    process = psutil.Process(service.pid)
    before = process.memory_info().rss
    flood = SHORT.replace(b"/x", path) * (5 * MEGABYTE // len(SHORT))

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        taking = asyncio.create_task(_take(reader)) if reads else None
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(flood)
                await writer.drain()
        finally:
            if taking is not None:
                taking.cancel()
            writer.transport.abort()

    floods = [asyncio.create_task(send()) for _ in range(4)]
    most, slowest = before, 0.0
    async with Client(service.url) as client:
        for _ in range(30):
            began = time.monotonic()
            assert (await client.get("/api/health")).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.05)
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert most - before < 40 * MEGABYTE
    assert slowest < 5


async def _take(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass
