"""One request to an engine whose response is a stream of events: step 1 of the hot path.

An asyncio protocol over llhttp's parser (docs/decisions/0008): what arrives is parsed, checked and
handed on in the same call, without a task to wake. Everything else talks through aiohttp.
"""

import asyncio
import socket
import struct
from http import HTTPStatus

import httptools

from chat_api.engines.engine import Decoder, Event, EventReceiver
from chat_api.engines.idle import IdleConnections, use_until
from chat_api.errors import EngineFailed, EngineProtocol, EngineUnavailable

# How much may arrive between two pieces of the body: the head, trailers, what surrounds chunks.
_MOST_BYTES_WITHOUT_BODY = 65_536
# How much is handled in one turn of the event loop. A packet may hold 256 KB, which is more than
# 10,000 events: enough to keep everything else waiting.
_BYTES_PER_TURN = 16_384
# How long the rest of a response that is complete may take: usage, the end of the stream.
_REST_SECONDS = 2.0


class Exchange(asyncio.Protocol):
    """Sends `request`, and hands the response's events to `receiver`, those of a packet together.

    `decoder` knows the dialect. `ended` has the result: none after the answer's end, else what went
    wrong: an EngineFailed, or what `receiver` raised. The caller that awaits it closes the
    transport, or calls `release` after an answer's end.
    Comments and empty events are signs of life; `max_idle_bytes` is how much of them there may be
    between two events.
    """

    def __init__(
        self, request: bytes, *, decoder: Decoder, receiver: EventReceiver, max_idle_bytes: int
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._decoder = decoder
        self._receiver = receiver
        self._max_idle_bytes = max_idle_bytes
        self._idle_bytes = 0  # since the last event
        self._http = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._bytes_without_body = 0
        self._has_begun = False
        self._rest: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []  # received, and left for later turns of the loop
        self._is_lost = False
        self._acknowledged: int | None = None
        self._use_until = 0.0
        self._may_be_used_again = False  # the response is complete, and the engine keeps alive
        self._is_unasked = False  # a second response has begun
        self._kept_by: IdleConnections | None = None

    # --- the connection's side ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._send(transport, use_until())

    def use_again(self, transport: asyncio.Transport, until: float) -> None:
        """Send the request over a connection that has been used and may be until then."""
        transport.set_protocol(self)
        self._send(transport, until)

    def _send(self, transport: asyncio.Transport, until: float) -> None:
        self._transport = transport
        self._use_until = until
        self._acknowledged = _acknowledged_bytes(transport)
        transport.write(self._request)

    @property
    def undelivered(self) -> bytes:
        """Return the request if the connection was lost before the other side got any of it."""
        return self._request if self._is_lost else b""

    def give_up_unheard(self) -> None:
        """Fail, as connecting would, if the other side's system has acknowledged nothing."""
        if not self._request or self._transport is None or self._acknowledged is None:
            return
        if _acknowledged_bytes(self._transport) == self._acknowledged:
            failure = EngineUnavailable()
            failure.was_slow = True
            self._fail(failure)

    def data_received(self, data: bytes) -> None:
        self._request = b""
        if self.ended.done():
            self._feed_rest(data)
            return
        if self._waiting or len(data) > _BYTES_PER_TURN:
            self._put_off(data)
        else:
            self._feed(data)

    def _put_off(self, data: bytes) -> None:
        """Handle a large packet over several turns of the loop; nothing is read meanwhile."""
        if not self._waiting:
            if self._transport is not None:
                self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._feed_waiting)
        self._waiting.extend(
            data[at : at + _BYTES_PER_TURN] for at in range(0, len(data), _BYTES_PER_TURN)
        )

    def _feed_waiting(self) -> None:
        if self.ended.done():
            self._waiting.clear()
            return
        self._feed(self._waiting.pop(0))
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._feed_waiting)
        elif self._is_lost:
            self._end(EngineUnavailable())
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _feed(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._bytes_without_body += len(data)
        try:
            self._http.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # What a callback below raised; anything but an EngineFailed is a defect.
            self._fail(error.__context__ or error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(EngineProtocol())
        if self._bytes_without_body > _MOST_BYTES_WITHOUT_BODY:
            self._fail(EngineProtocol())

    def release(self, connections: IdleConnections) -> None:
        """Keep the connection once the rest of the response has been read, or close it."""
        assert self._transport is not None  # noqa: S101  # there was an answer
        if self._rest is not None:
            self._rest.cancel()
        if self._waiting:
            self._transport.abort()
        elif self._may_be_used_again:
            connections.put(self._transport, self._use_until)
        else:
            self._kept_by = connections
            connections.expect(self._transport, _REST_SECONDS)

    def _feed_rest(self, data: bytes) -> None:
        """Read what follows an answer's end: the end of its response."""
        assert self._transport is not None  # noqa: S101  # it gave the bytes
        is_complete = self._may_be_used_again
        try:
            if is_complete:  # nothing more was asked for
                raise httptools.HttpParserError
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()
            return
        if self._may_be_used_again and self._kept_by is not None:
            self._kept_by.put(self._transport, self._use_until)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self._request and self._transport is not None:
            after = _acknowledged_bytes(self._transport)
            # A reset need not acknowledge what was read before it.
            if error is not None or after is None or after != self._acknowledged:
                self._request = b""
        if self._kept_by is not None and self._transport is not None:
            self._kept_by.drop(self._transport)
        if not self._waiting:
            self._end(EngineUnavailable())

    def _end(self, without_head: EngineFailed) -> None:
        """Handle the end of the bytes. The received part of an answer is kept."""
        if self.ended.done():
            return
        if not self._has_begun:
            self._fail(without_head)
            return
        arrived: list[Event] = []
        try:
            try:
                self._decoder.end(arrived)
            finally:
                if arrived:
                    self._receiver.take(arrived)
        except Exception as error:  # noqa: BLE001  # the caller waits, and must get a defect, too
            self._fail(error)
        else:
            self.ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    # --- llhttp's callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._http.get_status_code()
        headers, self._headers = self._headers, {}
        if status >= HTTPStatus.OK:  # else more is to come
            self._decoder.begin(status, headers)
            self._has_begun = True
            self._limit_rest()

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body = 0
        if self.ended.done():
            return
        token = self._decoder.token(body)
        if token is not None:
            self._idle_bytes = 0
            self._receiver.take_token(*token)
            return
        arrived: list[Event] = []
        is_over = False
        try:
            is_over = self._decoder.feed(body, arrived)
        finally:
            # Events before the end, or before an error, count; any line restarts the timeout.
            if arrived or b"\n" in body:
                self._receiver.take(arrived)
        if is_over:
            self.ended.set_result(None)
            return
        self._idle_bytes = 0 if arrived else self._idle_bytes + len(body)
        if self._idle_bytes > self._max_idle_bytes:
            raise EngineProtocol
        self._limit_rest()

    def _limit_rest(self) -> None:
        """Wait a short time for the rest of a complete response."""
        if self._decoder.is_complete:
            if self._rest is None:
                loop = asyncio.get_running_loop()
                self._rest = loop.call_later(_REST_SECONDS, self._end, EngineProtocol())
        elif self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def on_message_begin(self) -> None:
        self._may_be_used_again = False
        self._is_unasked = self._has_begun

    def on_message_complete(self) -> None:
        if self._has_begun:
            self._may_be_used_again = self._http.should_keep_alive() and not self._is_unasked
            self._end(EngineProtocol())


# Of `struct tcp_info` (linux/tcp.h): where `tcpi_bytes_acked` stands.
_BYTES_ACKED = struct.Struct("=120xQ")


def _acknowledged_bytes(transport: asyncio.Transport) -> int | None:
    """Return how much of what was written the other side's system has; None if that is not known.

    A system does not acknowledge what arrives on a connection that its program has closed.
    """
    line = transport.get_extra_info("socket")
    if line is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        told = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        (count,) = _BYTES_ACKED.unpack(told)
    except (OSError, struct.error):
        return None
    return int(count)
