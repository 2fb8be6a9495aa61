"""HTTP to an engine: streams through a protocol of our own, everything else through aiohttp.

docs/decisions/0003 and 0008 say why. Sizes are bounded, compression is refused, redirects are not
followed. Errors of the network become ours here.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from chat_api.engines.engine import Decoder, EventReceiver, Reply
from chat_api.engines.exchange import Exchange
from chat_api.engines.idle import IdleConnections
from chat_api.errors import (
    EngineFailed,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from chat_api.telemetry import log
from chat_api.tracing import outgoing_headers

MOST_JSON_BYTES = 4_000_000
OVERLOADED_STATUS = 529  # Anthropic's, and others'; it has no name in HTTP

# What may come between two events, in sizes of the largest event.
_IDLE_EVENTS = 20
# Worth another try before the first event.
TRANSIENT_STATUSES = frozenset({429, 502, 503, OVERLOADED_STATUS})
# Systems put acknowledgements off, by half a second at most (RFC 9293, section 3.8.6.3).
_LEAST_UNHEARD_SECONDS = 1.0
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")

# What aiohttp raises, and our name for it; the first that fits. A test walks aiohttp's own tree.
TRANSLATION: tuple[tuple[type[BaseException], type[EngineFailed]], ...] = (
    (aiohttp.ConnectionTimeoutError, EngineUnavailable),
    (aiohttp.ServerTimeoutError, EngineTimeout),
    (TimeoutError, EngineTimeout),
    (aiohttp.ClientConnectorError, EngineUnavailable),
    (aiohttp.ServerDisconnectedError, EngineUnavailable),
    (aiohttp.ClientOSError, EngineUnavailable),
    (aiohttp.ClientConnectionError, EngineUnavailable),
    (aiohttp.ClientResponseError, EngineProtocol),
    (aiohttp.ClientPayloadError, EngineProtocol),
    (aiohttp.InvalidURL, EngineUnavailable),
    (aiohttp.ClientError, EngineFailed),
    (OSError, EngineUnavailable),
)


def translate(error: BaseException) -> EngineFailed:
    """Return our error for one that the HTTP client raised."""
    for kind, ours in TRANSLATION:
        if isinstance(error, kind):
            return ours()
    raise TypeError(f"not an error of the HTTP client: {type(error).__name__}") from error


def failure_of(status: int) -> type[EngineFailed] | None:
    """Return our error for a status; None for a success and for a refusal to pass on."""
    if 200 <= status < 300 or status in {400, 404, 409, 422}:
        return None
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return EngineUnavailable
    if status in {HTTPStatus.TOO_MANY_REQUESTS, OVERLOADED_STATUS}:
        return EngineOverloaded
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return EngineTimeout
    if 400 <= status < 500:
        return EngineRefused
    return EngineFailed if status >= 500 else EngineProtocol


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` (RFC 9110, section 10.2.3) or `retry-after-ms`."""
    try:
        text = headers.get("retry-after-ms", "").strip()
        if _SECONDS.fullmatch(text):
            return float(text) / 1000
        text = headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(text):
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class EngineHttp:
    """Requests to one engine at `url`, each with `headers`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        name: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        connect_timeout_seconds: float,
        max_event_bytes: int,
    ) -> None:
        self.url = url
        self.max_event_bytes = max_event_bytes
        self._session = session
        self._idle = IdleConnections()
        self._name = name
        self._address = urlsplit(url)
        self._headers = [*headers, ("Accept-Encoding", "identity")]
        # How long an answer may be silent is its writer's business, not the connection's.
        self._connect_timeout = connect_timeout_seconds

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        trace_id: str,
        decoder: Decoder,
        receiver: EventReceiver,
    ) -> None:
        """POST the body, and decode the response; return after its end.

        Cancelling closes the request. Raise EngineFailed, after what came before it.
        """
        exchange_of = partial(
            Exchange,
            decoder=decoder,
            receiver=receiver,
            max_idle_bytes=_IDLE_EVENTS * self.max_event_bytes,
        )
        exchange = exchange_of(self._request(path, body, trace_id))
        del body  # it may be long, and the answer takes its time
        kept = self._idle.take()
        try:
            if kept is not None:
                if await self._is_answered(exchange, *kept):
                    return
                exchange = exchange_of(exchange.undelivered)
            await self._answered(exchange, await self._connect(exchange))
        except EngineFailed as failure:
            log.warning("inference_failed", engine=self._name, code=failure.code)
            raise

    async def _is_answered(self, exchange: Exchange, kept: asyncio.Transport, until: float) -> bool:
        """Return whether the answer came over a connection that had been used before.

        False where the engine had just closed it: the request never reached it, and is to be sent
        over a new connection. A machine that is gone is noticed as soon as by connecting to it.
        """
        exchange.use_again(kept, until)
        patience = max(self._connect_timeout, _LEAST_UNHEARD_SECONDS)
        watch = asyncio.get_running_loop().call_later(patience, exchange.give_up_unheard)
        try:
            await self._answered(exchange, kept)
        except EngineUnavailable:
            if not exchange.undelivered:
                raise
            return False
        finally:
            watch.cancel()
        return True

    async def _answered(self, exchange: Exchange, transport: asyncio.Transport) -> None:
        """Return after the answer's end; keep the connection then, and else close it."""
        try:
            await exchange.ended
        except BaseException:
            exchange.ended.cancel()
            transport.abort()
            raise
        exchange.release(self._idle)

    def close(self) -> None:
        """Close the idle connections."""
        self._idle.close()

    async def _connect(self, exchange: Exchange) -> asyncio.Transport:
        """Open a new connection for the exchange."""
        try:
            address = self._address
            secure = address.scheme == "https"
            async with asyncio.timeout(self._connect_timeout):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: exchange,
                    str(address.hostname),
                    address.port or (443 if secure else 80),
                    ssl=secure or None,
                )
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("inference_unreachable", engine=self._name, error=type(error).__name__)
            failure = EngineUnavailable()
            failure.was_slow = isinstance(error, TimeoutError)
            failure.transient = not failure.was_slow
            raise failure from None
        return transport

    def _headers_with(self, trace_id: str) -> list[tuple[str, str]]:
        return [*self._headers, ("x-trace-id", trace_id), *outgoing_headers()]

    def _request(self, path: str, body: Mapping[str, Any], trace_id: str) -> bytes:
        address = self._address
        content = orjson.dumps(body)
        head = [f"POST {address.path}{path} HTTP/1.1", f"Host: {address.netloc}"]
        head += [f"{name}: {value}" for name, value in self._headers_with(trace_id)]
        head += [
            "Accept: text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
        ]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + content

    async def json(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        trace_id: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Reply:
        """Make a plain request; return its reply, which is JSON. Raise EngineFailed."""
        try:
            async with self._session.request(
                method,
                url,
                json=body,
                headers=self._headers_with(trace_id),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if failure := failure_of(response.status):
                    raise failure()
                content = bytearray()
                while chunk := await response.content.read(MOST_JSON_BYTES + 1 - len(content)):
                    content += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failed = translate(error)
            log.warning("inference_unreachable", engine=self._name, error=type(error).__name__)
            raise failed from None
        try:
            orjson.loads(content)
        except orjson.JSONDecodeError:
            raise EngineProtocol from None
        return Reply(response.status, bytes(content))
