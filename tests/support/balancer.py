"""A load balancer in a few lines: every connection goes to the first backend that takes it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self


class Balancer:
    """Listens on `url` and passes bytes both ways; `backends` are ports on this machine."""

    def __init__(self, backends: Sequence[int]) -> None:
        self._backends = tuple(backends)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for port in self._backends:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            writer.close()
            return
        pipes = {
            asyncio.create_task(_pipe(reader, back)),
            asyncio.create_task(self._back(there, writer)),
        }
        try:
            # Either side's end is the end of both.
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            writer.transport.abort()
            back.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pipe(reader, writer)


class BadNetwork(Balancer):
    """Cuts every event stream after `cuts()` bytes of it; other responses get through."""

    def __init__(self, backend: int, cuts: Callable[[], int]) -> None:
        super().__init__([backend])
        self.cut = 0
        """How many streams it has cut."""
        self._cuts = cuts

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left: int | None = None
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if left is None and b"text/event-stream" in data:
                    left = data.index(b"\r\n\r\n") + 4 + self._cuts()
                if left is not None:
                    data, left = data[:left], left - len(data)
                writer.write(data)
                await writer.drain()
                if left is not None and left <= 0:
                    self.cut += 1
                    break
                if left is not None and data.endswith(b"\r\n0\r\n\r\n"):
                    left = None  # complete: another response follows on this connection
            writer.write_eof()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        # What was written last must be gone before the connection is cut.
        writer.write_eof()
