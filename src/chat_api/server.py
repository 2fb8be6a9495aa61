"""Running the application under uvicorn (docs/decisions/0004), with what uvicorn leaves open."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chat_api.api.responses import ABORT_EXTENSION, WRITE_EXTENSION, LongResponses
from chat_api.generation.background import Background

# A client whose machine vanished, or that takes nothing any more, is given up by the kernel.
_USER_TIMEOUT_MS = 45_000
_MOST_HEADER_BYTES = 32_768
_READ_SECONDS = 10.0
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with bounds.

    A request's headers may be 32 KiB long, as may what surrounds the chunks of its body, and it has
    ten seconds from the connection's start, or from its first byte, to arrive in full. Connections
    can be cut, and none hangs half-open.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = LongResponses(self.app)

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_request()
        connection = transport.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        # Checked after parsing: a body in the same packet does not count.
        if self._header_bytes > _MOST_HEADER_BYTES:
            self._refuse_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too, when the request is being answered already: they are no headers.
        if self._in_headers:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # Not while a response is open: its stream must not end because of what comes behind.
        answered = self.cycle is None or self.cycle.response_complete
        if self._deadline is None and answered:
            self._expect_a_request()
        self.scope["extensions"] = {
            ABORT_EXTENSION: self.transport.abort,  # type: ignore[dict-item]
            WRITE_EXTENSION: self._direct_write,  # type: ignore[dict-item]
        }

    def on_headers_complete(self) -> None:
        self._in_headers = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > _MOST_HEADER_BYTES:
            self._refuse_headers()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # A chunk of one byte has five around it. What is left over are extensions and trailers.
        self._header_bytes = max(0, self._header_bytes - 6 * len(body))
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        self._arrived()
        if not self.transport.is_closing():
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def _direct_write(self) -> Callable[[bytes], bool]:
        """For the response that is being sent: see WRITE_EXTENSION."""
        cycle, flow, transport = self.cycle, self.flow, self.transport

        def write(body: bytes) -> bool:
            if flow.write_paused or cycle.disconnected or cycle.response_complete:
                return False
            if cycle.chunked_encoding:
                transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            else:
                transport.write(body)
            return True

        return write

    def _expect_a_request(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(_READ_SECONDS, self._too_slow)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self.transport.abort()

    def _refuse_headers(self) -> None:
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and self.cycle.response_started
        if not answering or (self._in_headers and self.cycle.response_complete):
            self.transport.write(_TOO_LARGE)
        self.transport.close()


def run(host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or SIGINT, and leave in order; the process's exit code.

    The settings are read from the environment, by each worker anew.
    """
    # For a signal that comes before uvicorn listens to it, and for the one that uvicorn raises once
    # more after its shutdown: an ordered end is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    metrics = None
    if workers > 1:
        # prometheus_client adds up what the workers counted, through files in this folder.
        metrics = tempfile.mkdtemp(prefix="samosachaat-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    try:
        uvicorn.run(
            "chat_api.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=Protocol,
            ws="none",
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            # The drain has ended every stream by now; whoever is left has had its time.
            timeout_graceful_shutdown=1,
        )
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
        return code or int(Background.died)
    finally:
        if metrics is not None:
            shutil.rmtree(metrics, ignore_errors=True)
    return int(Background.died)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)
