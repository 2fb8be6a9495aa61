"""uvicorn's HTTP/1.1 protocol with the bounds that it lacks (docs/decisions/0004)."""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from chat_api.api.streaming.response import LongResponses
from chat_api.dialects.refusals import refusal
from chat_api.errors import (
    ApiError,
    BadRequest,
    HeadersTooLarge,
    RequestTimeout,
    TooManyConnections,
    UnknownTransferCoding,
)
from chat_api.middleware import cors_headers
from chat_api.telemetry import OPEN_CONNECTIONS, REFUSALS, log, trace_id_of

# The kernel closes a connection whose client has acknowledged nothing for this long.
_USER_TIMEOUT_MS = 45_000
# RFC 3986, section 3.2.2, with a port; empty where the target has no authority (RFC 9112, 3.2).
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
# Answered even over the connection limit: liveness and metrics.
_ALWAYS_ANSWERED = (b"/api/health", b"/metrics")
# How long a connection over the limit has for its request.
_TOO_MANY_SECONDS = 1.0
# What may take as long as bytes arrive, or as the application takes none.
_LONG_BODIES = frozenset({b"/api/import"})
# How much is parsed at once. What a piece contains is parsed whole, so this bounds the requests
# that one connection has parsed and unanswered: some sixty of the shortest.
_PIECE_BYTES = 1024
# What a response writes in one turn of the loop leaves together, up to this size.
_MOST_HELD_BYTES = 32_768
# Bytes that may wait unparsed behind a response before the connection is no longer read.
_MOST_WAITING_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one connection, and of all connections of a process. Times are in seconds."""

    connections: int
    header_bytes: int
    request_seconds: float


class _Event(asyncio.Event):
    """An event without a deque of waiters, which takes 760 bytes; a connection has two events."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]


class _Pipeline(list[tuple[RequestResponseCycle, ASGI3Application]]):
    """Requests that wait for their turn, in place of uvicorn's deque."""

    __slots__ = ()

    def appendleft(self, waiting: tuple[RequestResponseCycle, ASGI3Application]) -> None:
        self.insert(0, waiting)


class _Flow(FlowControl):
    """uvicorn's flow control, except that nothing resumes reading while `held` is true.

    uvicorn resumes reading whenever a response ends or a body is asked for, however many requests
    it has already parsed on the connection.
    """

    held = False

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_writable_event = _Event()
        self._is_writable_event.set()

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class _Outlet:
    """The transport of one response: what is written in one turn of the loop leaves together.

    A response's head and body would be a system call each, and so would an answer's last event and
    the response's end; on the loopback device a call costs 10 µs.
    """

    __slots__ = ("_held", "_loop", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST_HELD_BYTES:
            self.flush()

    def write_now(self, data: bytes) -> None:
        """Write after what is held."""
        if self._held:
            self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            if not self._transport.is_closing():
                self._transport.write(b"".join(held))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with bounds.

    - The bytes of a request's headers, and of chunk extensions and trailers, are bounded.
    - A request must arrive within a time, counted from the connection's start or its first byte.
    - What follows a request that has no response yet waits unparsed, up to a bound; beyond that
      the connection is not read.
    - An offer to upgrade is ignored (RFC 9110, section 7.8): the request is read without it.
    - What is not HTTP, and each connection over the limit, gets a problem document. Responses to
      earlier requests on the connection are sent first, and no response is cut by it.
    """

    # An instance's dictionary shares its keys with others' only up to 30 of them.
    __slots__ = (
        "_answering",
        "_arriving",
        "_bounds",
        "_deadline",
        "_flow",
        "_has_progressed",
        "_in_headers",
        "_offered",
        "_one_too_many",
        "_origins",
        "_outlet",
        "_refused",
        "_unaccounted",
        "_waiting",
        "_when_gone",
    )

    def __init__(
        self, *arguments: Any, bounds: Bounds, origins: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.pipeline = _Pipeline()  # type: ignore[assignment]
        self._bounds = bounds
        self._origins = origins
        self._waiting = bytearray()  # received, not parsed yet
        self._offered = False  # the request being read offers an upgrade
        self._deadline: asyncio.TimerHandle | None = None
        # Bytes of a request outside its body: headers, then chunk extensions and trailers.
        self._unaccounted = 0
        self._arriving = False  # between the first and the last byte of a request
        self._in_headers = True
        self._has_progressed = False  # bytes of a body have arrived since the last look
        self._one_too_many = False
        self._refused = False
        # The cycle whose response is being sent; uvicorn's `cycle` is that of the newest request.
        self._answering: RequestResponseCycle | None = None
        self._outlet: _Outlet | None = None  # of that cycle
        self._when_gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._flow = _Flow(transport)
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
        self._waiting.clear()
        if self._answering is not None and not self._answering.response_complete:
            # uvicorn tells only the newest cycle, not a stream that has a request behind it.
            self._answering.disconnected = True
            self._answering.message_event.set()
        if self._when_gone is not None:
            self._when_gone()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        self._outlet = _Outlet(self.transport, self.loop)
        cycle.transport = self._outlet  # type: ignore[assignment]
        connection = _ClientConnection(self, cycle, self._outlet)
        answering: Any = LongResponses(app, connection)  # type: ignore[arg-type]
        if cycle.scope["http_version"] == "1.0":
            answering = _without_chunks(answering, cycle)
        super()._start_asgi_task(cycle, answering)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        if len(data) <= _PIECE_BYTES and not self._waiting and not self.pipeline:
            self._feed(data)
            self._limit_arrival()
        else:
            self._waiting += data
            self._parse()

    def _parse(self) -> None:
        """Parse waiting bytes until a request waits for its turn; then keep the rest unparsed."""
        while self._waiting and not self.pipeline and not self._refused:
            piece = bytes(self._waiting[:_PIECE_BYTES])
            del self._waiting[:_PIECE_BYTES]
            self._feed(piece)
        if self._refused:
            self._waiting.clear()
        if self._waiting:
            self._arrived()  # a request that is held back here is not late
        else:
            self._limit_arrival()
        if len(self._waiting) > _MOST_WAITING_BYTES:
            self._flow.held = True
            self._flow.pause_reading()
        elif self._flow.held:
            self._flow.held = False
            if not self.pipeline:
                self._flow.resume_reading()

    def _feed(self, data: bytes) -> None:
        self._unaccounted += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(BadRequest("This is not an HTTP request."))
        except httptools.HttpParserUpgrade as upgrade:
            if self._offered and not self._refused:
                self._read_without_the_offer(data[upgrade.args[0] :])
            else:  # CONNECT: its response is under way; what follows cannot be read
                self._refused = True
        if self._unaccounted > self._bounds.header_bytes:
            self._refuse(HeadersTooLarge())

    def _read_without_the_offer(self, rest: bytes) -> None:
        """Read the request again as if it offered no upgrade; `rest` follows its headers.

        The parser takes what follows an offer for another protocol, and so skips the body.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(o for o in options if o.lower() != b"upgrade")
            if name != b"upgrade":
                head.append(b"%b: %b\r\n" % (name, value))
        self._offered = False
        self._unaccounted = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._feed(b"".join(head) + b"\r\n" + rest)

    # --- callbacks of the parser ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = True

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offered = True
            return
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        refusal = self._objection()
        if refusal is not None:
            self._refuse(refusal)
            return
        super().on_headers_complete()
        self.cycle.message_event = _Event()  # nothing has run since, so nothing waits
        self._in_headers = False
        if self._one_too_many or self.parser.should_upgrade():
            self.cycle.keep_alive = False
        # The parser reports trailers as headers; they must not become any (RFC 9110, 6.5.1).
        self.headers = []

    def on_body(self, body: bytes) -> None:
        # A chunk of one byte has five around it; what remains is extensions and trailers.
        self._unaccounted = max(0, self._unaccounted - 6 * len(body))
        self._has_progressed = True
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused or self._offered:
            return
        self._unaccounted = 0
        self._arriving = False
        self._in_headers = True
        self._arrived()
        super().on_message_complete()
        self.headers = []  # the request's own list is in its scope

    def _objection(self) -> ApiError | None:
        """Return what is wrong with the headers. The parser checks their syntax and the framing."""
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
        if self._one_too_many and not self._is_always_answered():
            return TooManyConnections()
        return None

    def _is_always_answered(self) -> bool:
        # A browser whose preflight fails is not told of the 503 of the request itself.
        return self.parser.get_method() == b"OPTIONS" or self.url.startswith(_ALWAYS_ANSWERED)

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call `call` when the client of the response that is being sent has gone."""
        self._when_gone = call
        self.flow.resume_reading()  # a connection that is not read does not report its end

    def on_response_complete(self) -> None:
        self._when_gone = None
        if self._outlet is not None:
            self._outlet.flush()
            self._outlet = None
        super().on_response_complete()
        if self._waiting and not self.pipeline:
            # Not here: that would nest a call for each request that waits.
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._parse()

    # --- deadlines and refusals ---

    def _limit_arrival(self) -> None:
        """Bound the time of a request that has begun; one that is there whole needs no timer.

        Any bytes have stopped the idle connection's timer, also those that begin no request: empty
        lines, or the rest of a request that has its response.
        """
        if self._deadline is not None or self._refused:
            return
        if self._arriving or self.cycle is None or self.cycle.response_complete:
            self._expect_a_request()

    def _expect_a_request(self) -> None:
        seconds = _TOO_MANY_SECONDS if self._one_too_many else self._bounds.request_seconds
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._arriving and self._may_go_on():
            self._expect_a_request()
        elif self._arriving:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()  # there is no request to answer

    def _may_go_on(self) -> bool:
        """Return whether a late request is a long upload, and it is not the client that waits."""
        has_progressed, self._has_progressed = self._has_progressed, False
        if self._in_headers or self.cycle.response_complete:
            return False
        is_long = self.url.partition(b"?")[0] in _LONG_BODIES
        return is_long and (has_progressed or self.flow.read_paused)

    def _refuse(self, error: ApiError) -> None:
        """Answer the arriving request with a problem document if it is its turn, and close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._arrived()
        trace_id = trace_id_of(None, None)
        REFUSALS.labels(error.code).inc()
        log.info("request_refused", error=error.code, status=error.status, trace_id=trace_id)
        if self.pipeline and not self._in_headers:
            # Its turn would come, and wait for the rest of the body, which is not read any more.
            del self.pipeline[0]
            before = self.pipeline[0][0] if self.pipeline else self._answering
            assert before is not None  # noqa: S101  # a request waits behind another one
            before.keep_alive = False
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_headers or self.pipeline or cycle.response_started:
                # Earlier requests, or this one, are being answered; then the connection closes.
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self._in_headers or (cycle is not None and not cycle.response_complete):
            self.transport.write(self._written(error, trace_id))
        self.transport.close()

    def _written(self, error: ApiError, trace_id: str) -> bytes:
        """Return an error as an HTTP response, for errors outside of the application."""
        request = self.scope["headers"] if self._arriving else []
        origin = next((value for name, value in request if name == b"origin"), None)
        if origin is None and self._in_headers:
            # Perhaps not read yet. The document is the same for everybody.
            allowed = cors_headers(["*"], "")
        else:
            allowed = cors_headers(
                self._origins, None if origin is None else origin.decode("latin-1")
            )
        path = self.url.partition(b"?")[0].decode("latin-1") if self._arriving else ""
        response = refusal(path, error, trace_id)
        response.headers.update(allowed)
        response.headers.update(
            {"x-trace-id": trace_id, "cache-control": "no-store", "connection": "close"}
        )
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        wants_body = not self._arriving or self.parser.get_method() != b"HEAD"
        body = bytes(response.body) if wants_body else b""
        return STATUS_LINE[error.status] + head + b"\r\n" + body


def _without_chunks(app: Any, cycle: RequestResponseCycle) -> Any:
    """Return the app with responses that end with the connection where their length is unknown.

    A client of HTTP/1.0 knows no chunks (RFC 9112, section 6.1).
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        is_of_unknown_length = False

        async def unchunked(message: Any) -> None:
            nonlocal is_of_unknown_length
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                is_of_unknown_length = all(name != b"content-length" for name, _ in headers)
                if is_of_unknown_length:
                    cycle.chunked_encoding = False
            elif is_of_unknown_length and cycle.scope["method"] != "HEAD":
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, unchunked)

    return answer


class _ClientConnection:
    """The connection of one request: the `ServerConnection` of `api.streaming.connection`."""

    __slots__ = ("_cycle", "_flow", "_outlet", "_protocol")

    def __init__(self, protocol: Protocol, cycle: RequestResponseCycle, outlet: _Outlet) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._flow = protocol.flow
        self._outlet = outlet

    @property
    def is_writable(self) -> bool:
        cycle = self._cycle
        return not (self._flow.write_paused or cycle.disconnected or cycle.response_complete)

    def try_write(self, data: bytes) -> bool:
        cycle = self._cycle
        if self._flow.write_paused or cycle.disconnected or cycle.response_complete:
            return False
        if cycle.chunked_encoding:
            self._outlet.write_now(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._outlet.write_now(data)
        return True

    def abort(self) -> None:
        self._protocol.transport.abort()

    def when_gone(self, call: Callable[[], None]) -> None:
        self._protocol.when_gone(call)
        if self._cycle.disconnected:
            call()
