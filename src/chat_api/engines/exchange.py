"""One request to the inference service whose response is a stream of events: the hot path's start.

An asyncio protocol over llhttp's parser (docs/decisions/0008): what arrives is parsed, checked and
handed on in the same call, without a task to wake. Everything else talks through aiohttp.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus

import httptools

from chat_api import sse
from chat_api.engines.decoding import NOTHING, Event, decode_event
from chat_api.errors import (
    EngineFailed,
    EngineIncomplete,
    EngineProtocol,
    EngineUnavailable,
)

# How much may arrive between two pieces of the body: the head, trailers, what surrounds chunks.
_MOST_BYTES_WITHOUT_BODY = 65_536
# How much is handled in one turn of the event loop. A packet may hold 256 KB, which is more than
# 10,000 events: enough to keep everything else waiting.
_BYTES_PER_TURN = 16_384

Deliver = Callable[[list[Event]], None]
CheckHead = Callable[[int, Mapping[str, str]], None]


class Exchange(asyncio.Protocol):
    """Sends `request`, and hands the response's events to `deliver`, those of a packet together.

    `check_head` is given the status and the headers (lower-case names) and may raise
    EngineFailed. `ended` has the result: none after the service's `done`, else what went wrong:
    an EngineFailed, or what `deliver` raised. The caller that awaits it closes the transport.
    """

    def __init__(
        self, request: bytes, *, check_head: CheckHead, deliver: Deliver, max_event_bytes: int
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._check_head = check_head
        self._deliver = deliver
        self._http = httptools.HttpResponseParser(self)
        self._events = sse.Parser(max_event_bytes)
        self._headers: dict[str, str] = {}
        self._bytes_without_body = 0
        self._streaming = False
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()  # received, and left for later turns of the loop
        self._is_lost = False

    # --- the connection's side ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
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
        self._feed(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._feed_waiting)
        elif self._is_lost:
            self._fail(self._cut_off())
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
            self._fail(self._cut_off() if self._streaming else EngineProtocol())
        if self._bytes_without_body > _MOST_BYTES_WITHOUT_BODY:
            self._fail(EngineProtocol())

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        if not self._waiting:
            self._fail(self._cut_off())

    def _cut_off(self) -> EngineFailed:
        """Of an answer that had begun, what came is worth keeping."""
        return EngineIncomplete() if self._streaming else EngineUnavailable()

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
            self._check_head(status, headers)
            self._streaming = True

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body = 0
        if self.ended.done():
            return
        events: list[Event] = []
        is_over = False
        try:
            for data in self._events.feed(body):
                event = decode_event(data)
                if event is None:
                    is_over = True
                    break
                if event.data != NOTHING:
                    events.append(event)
        except sse.TooLong:
            raise EngineProtocol from None
        finally:
            # What stands before the end, or before nonsense, counts.
            if events:
                self._deliver(events)
        if is_over:
            self.ended.set_result(None)

    def on_message_complete(self) -> None:
        if self._streaming:
            self._fail(EngineIncomplete())
