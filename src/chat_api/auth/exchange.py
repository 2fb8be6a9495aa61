"""One request to the auth service, and its whole response, over llhttp's parser.

Each new token costs one (docs/decisions/0003).
"""

import asyncio
from urllib.parse import SplitResult

import httptools

_MOST_HEAD_BYTES = 16_384


class ExchangeFailed(Exception):
    """What came is not a response, or too long for one. The text is a few words for the log."""


class Exchange(asyncio.Protocol):
    """Sends a request when it is connected; `response` has the status and the body.

    It raises ExchangeFailed where the response is not HTTP, ends too early, or is longer than its
    head and `most_bytes` may be.
    """

    def __init__(self, request: bytes, *, most_bytes: int) -> None:
        self.response: asyncio.Future[tuple[int, bytes]]
        self.response = asyncio.get_running_loop().create_future()
        self._request = request
        self._bytes_left = most_bytes + _MOST_HEAD_BYTES
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._is_delimited = False
        self._ends_with_connection = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("not a response")
        if self._bytes_left < 0:
            self._fail("too long")

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self._ends_with_connection:
            self.on_message_complete()
        self._fail("the connection is lost")

    def _fail(self, reason: str) -> None:
        if not self.response.done():
            self.response.set_exception(ExchangeFailed(reason))

    # --- llhttp's callbacks ---

    def on_message_begin(self) -> None:
        # What interim responses (1xx) said does not count for the one that follows.
        self._is_delimited = self._ends_with_connection = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._is_delimited = True

    def on_headers_complete(self) -> None:
        self._ends_with_connection = not self._is_delimited

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.response.done():
            self.response.set_result((status, b"".join(self._body)))


async def exchange(
    address: SplitResult, request: bytes, *, most_bytes: int, timeout_seconds: float
) -> tuple[int, bytes]:
    """Return the status and the body of the response to a request over a connection of its own.

    Raise ExchangeFailed, OSError or TimeoutError.
    """
    secure = address.scheme == "https"
    async with asyncio.timeout(timeout_seconds):
        transport, one = await asyncio.get_running_loop().create_connection(
            lambda: Exchange(request, most_bytes=most_bytes),
            str(address.hostname),
            address.port or (443 if secure else 80),
            ssl=secure or None,
        )
        try:
            return await one.response
        finally:
            transport.abort()
