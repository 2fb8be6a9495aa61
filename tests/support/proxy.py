"""A TCP proxy of chaos: passes bytes between a caller and a server, and misbehaves when told to.

    with Proxy(inference_server.port) as proxy, proxy.trouble(Trouble(after=700, end="reset")):
        …                                  # connections made now are cut after 700 bytes
    proxy.freeze()                         # half-open: nothing passes, neither side is told
    proxy.thaw()

It runs in a thread of its own, since services are started by code that blocks. The server is a port
of 127.0.0.1 or the path of a Unix socket.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

End = Literal["close", "reset", "silence"]


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a connection; `down` is from the server to the caller."""

    after: int | None = None
    """So many bytes pass; then `garbage` is sent, and `end` happens."""
    end: End = "close"
    garbage: bytes = b""
    piece: int | None = None
    """Bytes go in pieces of this size, `pause` seconds apart."""
    pause: float = 0.0
    direction: Literal["down", "up"] = "down"


NOTHING = Trouble()


class Proxy:
    """Listens on `port`; what it does is decided when a connection is made."""

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._trouble = NOTHING
        self._times: int | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._flowing = asyncio.Event()
        self.port = 0
        self.passed = 0
        """Bytes that went down so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it is, for a server that speaks HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def trouble(self, trouble: Trouble, *, times: int | None = None) -> Iterator[None]:
        """Connections that are made meanwhile have this trouble; at most the first so many."""
        self._trouble, self._times = trouble, times
        try:
            yield
        finally:
            self._trouble = NOTHING

    def lead_to(self, target: int | Path) -> None:
        """Connections that are made from now on lead there; the others stay as they are."""
        self._target = target

    def freeze(self) -> None:
        """From now on nothing passes on any connection, and none is closed: half-open."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Let everything pass again, what was held back too."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Reset every connection."""
        self._run(self._cut())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for task, writers in list(self._connections.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        trouble = self._trouble
        if self._times is not None:
            self._times -= 1
            if self._times <= 0:
                self._trouble = NOTHING
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                if isinstance(self._target, Path):
                    there, back = await asyncio.open_unix_connection(str(self._target))
                else:
                    there, back = await asyncio.open_connection("127.0.0.1", self._target)
                writers.append(back)
                down = trouble if trouble.direction == "down" else NOTHING
                up = trouble if trouble.direction == "up" else NOTHING
                # Either side's end is the end of both.
                async with asyncio.TaskGroup() as pipes:
                    pipes.create_task(self._pipe(there, writer, down, count=True))
                    pipes.create_task(self._pipe(reader, back, up))
        except* _Ended:
            pass
        finally:
            del self._connections[task]
            for one in writers:
                one.close()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        trouble: Trouble,
        *,
        count: bool = False,
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(trouble.piece or 65_536):
                await self._flowing.wait()
                if trouble.pause:
                    await asyncio.sleep(trouble.pause)
                if trouble.after is not None:
                    data = data[: trouble.after - passed]
                passed += len(data)
                if count:
                    self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if passed == trouble.after:
                    await self._misbehave(writer, trouble)
                    break
        raise _Ended

    async def _misbehave(self, writer: asyncio.StreamWriter, trouble: Trouble) -> None:
        writer.write(trouble.garbage)
        await writer.drain()
        if trouble.end == "silence":
            await asyncio.Event().wait()
        if trouble.end == "reset":
            _reset(writer)


class _Ended(Exception):  # not an error: how one pipe tells the other
    pass


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what is on its way is lost."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.family == socket.AF_INET:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
