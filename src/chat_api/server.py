"""Running the application under uvicorn (docs/decisions/0004), with what uvicorn leaves open."""

import asyncio
import functools
import os
import re
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from chat_api.api.responses import (
    ABORT_EXTENSION,
    GONE_EXTENSION,
    WRITE_EXTENSION,
    LongResponses,
)
from chat_api.errors import (
    ApiError,
    BadRequest,
    HeadersTooLarge,
    RequestTimeout,
    TooManyConnections,
    UnknownTransferCoding,
    problem,
)
from chat_api.generation.background import Background
from chat_api.settings import Settings
from chat_api.telemetry import OPEN_CONNECTIONS, REFUSALS, configure_logging, log, trace_id_of

# A client whose machine vanished, or that takes nothing any more, is given up by the kernel.
_USER_TIMEOUT_MS = 45_000
# RFC 3986, section 3.2.2, with a port; empty where the target has no authority (RFC 9112, 3.2).
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
# What an overfull process still answers: that it lives, and what it counts.
_ALWAYS_ANSWERED = (b"/api/health", b"/metrics")
_TOO_MANY_SECONDS = 1.0
# Files of a process that are no connections of clients: the database's, logs, libraries.
_OTHER_FILES = 200


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection, and all of a process together, may take. Times are in seconds."""

    connections: int
    header_bytes: int
    request_seconds: float


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with bounds.

    A request's headers are bounded, and it has a time to arrive in full, from the connection's
    start or from its first byte. What cannot be read as HTTP, or is one connection too many, is
    refused with a problem document; responses to earlier requests on the connection come first,
    and none is broken into. Connections can be cut, and none hangs half-open.
    """

    def __init__(self, *arguments: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = LongResponses(self.app)
        self._bounds = bounds
        self._deadline: asyncio.TimerHandle | None = None
        # Bytes of a request that are none of its body: headers, then what may surround the body's
        # chunks without an end (extensions, trailers).
        self._unaccounted = 0
        self._arriving = False  # a request, from its first byte to its last
        self._in_headers = True
        self._one_too_many = False
        self._refused = False
        self._answering: RequestResponseCycle | None = None  # `cycle` is the newest, not this one
        self._when_gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        OPEN_CONNECTIONS.inc()
        self._one_too_many = len(self.connections) > self._bounds.connections
        self._expect_a_request()
        connection = transport.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        OPEN_CONNECTIONS.dec()
        self._arrived()
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn tells only the newest; a stream with a request behind it would never know.
            self._answering.disconnected = True
            self._answering.message_event.set()
        if self._when_gone is not None:
            self._when_gone()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._unaccounted += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(BadRequest("This is not an HTTP request."))
        except httptools.HttpParserUpgrade:
            self._refused = True  # its response is under way; nothing after it can be read
        if self._unaccounted > self._bounds.header_bytes:
            self._refuse(HeadersTooLarge())

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = True
        if self._deadline is None:
            self._expect_a_request()
        self.scope["extensions"] = {
            ABORT_EXTENSION: self.transport.abort,  # type: ignore[dict-item]
            WRITE_EXTENSION: self._direct_write,  # type: ignore[dict-item]
            GONE_EXTENSION: self._call_when_gone,  # type: ignore[dict-item]
        }

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        refusal = self._objection()
        if refusal is not None:
            self._refuse(refusal)
            return
        super().on_headers_complete()
        self._in_headers = False
        if self._one_too_many or self.parser.should_upgrade():
            self.cycle.keep_alive = False
        # Trailers come as headers do. They must not be taken for some (RFC 9110, section 6.5.1).
        self.headers = []

    def on_body(self, body: bytes) -> None:
        # A chunk of one byte has five around it. What is left over are extensions and trailers.
        self._unaccounted = max(0, self._unaccounted - 6 * len(body))
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        self._unaccounted = 0
        self._arriving = False
        self._in_headers = True
        self._arrived()
        super().on_message_complete()
        self.headers = []  # the request's own list is in its scope

    def _objection(self) -> ApiError | None:
        """What is wrong with the headers; the parser has seen to their syntax and the framing."""
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
                if _HOST.fullmatch(value) is None:
                    return BadRequest("The Host header is not valid.")
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                return UnknownTransferCoding()
        if size > self._bounds.header_bytes:
            return HeadersTooLarge()
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            return BadRequest("A request has one Host header.")
        if self._one_too_many and not self.url.startswith(_ALWAYS_ANSWERED):
            return TooManyConnections()
        return None

    def _direct_write(self) -> Callable[[bytes], bool]:
        """For the response that is being sent: see WRITE_EXTENSION."""
        cycle, flow, transport = self._answering, self.flow, self.transport
        assert cycle is not None  # noqa: S101  # the one whose response has started

        def write(body: bytes) -> bool:
            if flow.write_paused or cycle.disconnected or cycle.response_complete:
                return False
            if cycle.chunked_encoding:
                transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            else:
                transport.write(body)
            return True

        return write

    def _call_when_gone(self, call: Callable[[], None]) -> None:
        """For the response that is being sent: see GONE_EXTENSION."""
        self._when_gone = call
        self.flow.resume_reading()  # or the end would go unseen
        if self._answering is None or self._answering.disconnected:
            call()

    def on_response_complete(self) -> None:
        self._when_gone = None
        super().on_response_complete()

    # --- deadlines and refusals ---

    def _expect_a_request(self) -> None:
        seconds = _TOO_MANY_SECONDS if self._one_too_many else self._bounds.request_seconds
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._arriving:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()  # nobody has asked anything

    def _refuse(self, error: ApiError) -> None:
        """Answer the request that is arriving with a problem, if it has its turn, and hang up."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._arrived()
        trace_id = trace_id_of(None, None)
        REFUSALS.labels(error.code).inc()
        log.info("request_refused", error=error.code, status=error.status, trace_id=trace_id)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_headers or self.pipeline or cycle.response_started:
                # Earlier requests, or this one, are being answered: that is the end of it then.
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self._in_headers or (cycle is not None and not cycle.response_complete):
            self.transport.write(_written(error, trace_id))
        self.transport.close()


def _written(error: ApiError, trace_id: str) -> bytes:
    """A problem document as an HTTP response, for where no application answers."""
    response = problem(error, trace_id)
    headers = [
        *response.raw_headers,
        (b"x-trace-id", trace_id.encode()),
        (b"connection", b"close"),
    ]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[error.status] + head + b"\r\n" + bytes(response.body)


def _file_limit() -> int:
    """How many files this process may have open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def _bounds(settings: Settings) -> Bounds:
    files = _file_limit()
    connections = settings.max_connections
    if files != resource.RLIM_INFINITY:
        # A stream may need two: its client's, and that to the inference service.
        connections = min(connections, max(1, (files - _OTHER_FILES) // 2))
    if connections < settings.max_connections:
        log.warning("fewer_connections", most=connections, files=files)
    return Bounds(connections, settings.max_header_bytes, settings.request_seconds)


def run(host: str, port: int, workers: int, settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, and leave in order; the process's exit code.

    The application reads its settings from the environment, in each worker anew.
    """
    configure_logging(settings.log_level)
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
            http=functools.partial(Protocol, bounds=_bounds(settings)),  # type: ignore[arg-type]
            ws="none",
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            # The address is the socket's, unless TRUSTED_PROXIES says otherwise (chat_api.app).
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_seconds,
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
