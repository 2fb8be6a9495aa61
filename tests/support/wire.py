"""An HTTP/1.1 server on bytes, in a thread of its own, that can misbehave in every way.

`WireServer` is what the scripted auth and inference services are made of. It is written on
sockets, not on a framework, because what tests need most is what a framework prevents: half a
header, a reset in mid-answer, a chunk cut inside a character, a connection that never answers.
"""

import asyncio
import contextlib
import ctypes
import json
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.gates import Gate

_HEAD_LIMIT = 1 << 20
_BODY_LIMIT = 64 << 20


@dataclass(frozen=True)
class WireRequest:
    """One request as it came: header names in lower case, the body undecoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def json(self) -> Any:
        """The body, parsed strictly (no NaN)."""
        return json.loads(self.body, parse_constant=_no_constant)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@dataclass
class Wire:
    """The answering side of one request."""

    writer: asyncio.StreamWriter
    gone: Gate
    """Opens when the other side has closed the connection."""
    keep_alive: bool = True
    begun: bool = False
    _chunked: bool = field(default=False, repr=False)

    async def head(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Send the status line and the headers; without a `length` the body is chunked."""
        self.begun = True
        self._chunked = length is None
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines.append(
            "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        )
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def body(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self.write(data)

    async def end(self) -> None:
        """End the body the way HTTP wants it."""
        if self._chunked:
            await self.write(b"0\r\n\r\n")

    async def respond(
        self,
        status: int,
        body: bytes | dict[str, Any] | list[Any],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole response; a dict or list goes as JSON."""
        content_type = "text/plain"
        if not isinstance(body, bytes):
            body, content_type = json.dumps(body).encode(), "application/json"
        await self.head(status, {"content-type": content_type, **(headers or {})}, length=len(body))
        await self.write(body)

    def cut(self) -> None:
        """Close the connection (FIN) after what has been written."""
        self.keep_alive = False
        self.writer.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.keep_alive = False
        raw: socket.socket | None = self.writer.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class _Connection(asyncio.StreamReaderProtocol):
    """A stream protocol that also tells when the other side has gone."""

    def __init__(
        self,
        handle: Callable[
            [asyncio.StreamReader, asyncio.StreamWriter, Gate], Coroutine[Any, Any, None]
        ],
    ) -> None:
        gone = self.gone = Gate("the end of the connection")
        super().__init__(
            asyncio.StreamReader(limit=_HEAD_LIMIT),
            lambda reader, writer: handle(reader, writer, gone),
        )

    def eof_received(self) -> bool | None:
        self.gone.open()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.open()
        super().connection_lost(exc)


class WireServer(ABC):
    """Serves `answer` on a free port of 127.0.0.1 from a thread of its own."""

    name = "wire"

    def __init__(self) -> None:
        # Bound but never listening: it keeps the port ours while no server listens on it.
        self._claim = socket.socket()
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._claim.bind(("127.0.0.1", 0))
        self.port: int = self._claim.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._busy: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    async def answer(self, request: WireRequest, wire: Wire) -> None:
        """Answer one request."""

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._claim.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the server's loop and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """While this is open, connections are refused; running ones are cut."""
        self.run(self._close())
        try:
            yield
        finally:
            self.run(self._listen())

    def drop_unfinished(self) -> None:
        """Cut every connection on which an answer is still being given; go on listening."""
        self.run(self._cut(self._busy))

    async def _listen(self) -> None:
        # asyncio sends at once (TCP_NODELAY) on sockets that are known to be TCP's. Otherwise what
        # is written before a reset may wait for an acknowledgement, and is lost.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self._server = await self._loop.create_server(
            lambda: _Connection(self._serve), sock=listener, backlog=2048
        )

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut(self._connections)

    @staticmethod
    async def _cut(connections: set[asyncio.Task[Any]]) -> None:
        tasks = list(connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: Gate
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                while (request := await _read(reader)) is not None:
                    wire = Wire(writer, gone)
                    self._busy.add(task)
                    await self._exchange(request, wire)
                    self._busy.discard(task)
                    if not wire.keep_alive:
                        break
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the other side went away in mid-request
            finally:
                self._connections.discard(task)
                self._busy.discard(task)
                writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _exchange(self, request: WireRequest, wire: Wire) -> None:
        """Answer, but no longer than the other side is there."""
        answer = asyncio.ensure_future(self.answer(request, wire))
        gone = asyncio.ensure_future(wire.gone.wait(None))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not answer.done():
                answer.cancel()
                wire.keep_alive = False
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await answer


async def _read(reader: asyncio.StreamReader) -> WireRequest | None:
    """Read one request; None where the connection ends instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
            assert len(body) < _BODY_LIMIT
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return WireRequest(method, target, headers, body)


def vanish(connection: socket.socket) -> None:
    """From now on every packet for this socket is dropped unseen: no ACK, no RST, ever.

    A socket filter (socket(7), SO_ATTACH_FILTER) that keeps nothing: `BPF_RET | BPF_K, 0`.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    connection.setsockopt(socket.SOL_SOCKET, 26, program)
