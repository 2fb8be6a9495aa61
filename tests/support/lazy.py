"""A client that takes its time: a bare socket with a small buffer, read only when told to."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from tests.support.client import Client
from tests.support.events import Event, StrictReader


class LazyStream:
    """An event stream of which nothing is taken but what `read` and `rest` ask for."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self._reader = StrictReader()
        self._pending = b""
        self.events: list[Event] = []
        self.ended = False
        """Has the response come to its proper end?"""
        self.taken = 0
        """Bytes so far."""

    async def head(self) -> int:
        """Read the response's head; its status."""
        while b"\r\n\r\n" not in self._pending:
            assert await self._more(), "closed before the head"
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        assert b"chunked" in head.lower()
        return int(head.split(b" ")[1])

    async def rest(self, timeout: float = 20) -> list[Event]:
        """Take everything up to the end of the connection or of the response."""
        async with asyncio.timeout(timeout):
            self._parse()
            while not self.ended and await self._more():
                self._parse()
        return self.events

    async def bytes_left(self, timeout: float = 120) -> bytes:
        """Take everything up to the response's end, quickly and as it is: chunk sizes and all."""
        received = bytearray(self._pending)
        async with asyncio.timeout(timeout):
            while not received.endswith(b"0\r\n\r\n"):
                piece = await asyncio.get_running_loop().sock_recv(self.raw, 262_144)
                assert piece, "closed before its end"
                received += piece
        return bytes(received)

    async def _more(self) -> bool:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.raw, 65536)
        except ConnectionError:
            return False
        self.taken += len(data)
        self._pending += data
        return bool(data)

    def _parse(self) -> None:
        while True:
            size, end, rest = self._pending.partition(b"\r\n")
            if not end:
                return
            count = int(size, 16)
            if len(rest) < count + 2:
                return
            self._pending = rest[count + 2 :]
            if count == 0:
                self.ended = True
                return
            self.events += self._reader.feed(rest[:count])


@contextlib.asynccontextmanager
async def lazily(
    client: Client, method: str, path: str, body: Any = None, **headers: str
) -> AsyncIterator[LazyStream]:
    """The same request as `client` would make, on a socket that buffers a few KB."""
    assert client.account is not None
    parts = urlsplit(client.url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, (parts.hostname, parts.port))
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {parts.netloc}",
            *(f"{name}: {value}" for name, value in client.account.headers.items()),
            *(f"{name}: {value}" for name, value in headers.items()),
            "content-type: application/json",
            f"content-length: {len(content)}",
        ]
        await loop.sock_sendall(raw, "\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        yield LazyStream(raw)
