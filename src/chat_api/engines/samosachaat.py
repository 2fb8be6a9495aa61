"""Calls to the inference service, and the translation of everything that may come back.

Answers come through a protocol of our own (`exchange`), everything else through aiohttp
(docs/decisions/0003 and 0008). Nothing that the service sends is trusted: sizes are bounded,
compression is refused, and of events only what may be passed on comes out (`events`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from chat_api.engines.exchange import Deliver, Exchange
from chat_api.errors import (
    EngineFailed,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)
from chat_api.telemetry import log

MOST_JSON_BYTES = 1_000_000
_SHORT_TIMEOUT = aiohttp.ClientTimeout(total=10)

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
    """Our error for one that the HTTP client raised."""
    for kind, ours in TRANSLATION:
        if isinstance(error, kind):
            return ours()
    raise TypeError(f"not an error of the HTTP client: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Reply:
    """What the inference service answered to a plain request, as it is."""

    status: int
    body: bytes


class SamosachaatEngine:
    """The inference service. Every method raises EngineFailed or one of its kinds."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        internal_api_key: str,
        connect_timeout_seconds: float,
        swap_timeout_seconds: float,
        max_event_bytes: int,
    ) -> None:
        self._http = http
        self._url = url
        self._address = urlsplit(url)
        self._key = internal_api_key
        # How long an answer may be silent is its owner's business, not the connection's.
        self._connect_timeout = connect_timeout_seconds
        self._swap_timeout = aiohttp.ClientTimeout(total=swap_timeout_seconds)
        self._max_event_bytes = max_event_bytes

    def _headers(self, trace_id: str) -> dict[str, str]:
        return {
            "X-Internal-API-Key": self._key,
            "x-trace-id": trace_id,
            "Accept-Encoding": "identity",
        }

    async def generate(
        self,
        messages: Sequence[Mapping[str, str]],
        options: Mapping[str, Any],
        trace_id: str,
        deliver: Deliver,
    ) -> None:
        """Have an answer written; `deliver` is called with its events, those that came together.

        Returns after the service's `done`. Cancelling it closes the request. Raises
        EngineIncomplete where the stream ends without `done`, after what came before it.
        """
        exchange = Exchange(
            self._request({"messages": list(messages), **options}, trace_id),
            check_head=_check_stream,
            deliver=deliver,
            max_event_bytes=self._max_event_bytes,
        )
        del messages  # they may be long, and the answer takes its time
        transport: asyncio.Transport | None = None
        try:
            transport = await self._connect(exchange)
            await exchange.ended
        except EngineFailed as failure:
            log.warning("inference_failed", code=failure.code)
            raise
        finally:
            exchange.ended.cancel()
            if transport is not None:
                transport.abort()

    async def _connect(self, exchange: Exchange) -> asyncio.Transport:
        """A connection of its own: none is lost on one that the service is just closing."""
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
            log.warning("inference_unreachable", error=type(error).__name__)
            raise EngineUnavailable from None
        return transport

    def _request(self, body: Mapping[str, Any], trace_id: str) -> bytes:
        address = self._address
        content = orjson.dumps(body)
        head = [f"POST {address.path}/generate HTTP/1.1", f"Host: {address.netloc}"]
        head += [f"{name}: {value}" for name, value in self._headers(trace_id).items()]
        head += [
            "Accept: text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            "Connection: close",
        ]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + content

    async def models(self, trace_id: str) -> Reply:
        """The service's `GET /models`, as it is."""
        return await self._json("GET", "/models", None, trace_id, _SHORT_TIMEOUT)

    async def swap(self, model_tag: str, trace_id: str) -> Reply:
        """The service's answer to `POST /models/swap`: a success, or a refusal (4xx)."""
        body = {"model_tag": model_tag}
        return await self._json("POST", "/models/swap", body, trace_id, self._swap_timeout)

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        trace_id: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Reply:
        try:
            async with self._http.request(
                method,
                self._url + path,
                json=body,
                headers=self._headers(trace_id),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if failure := _failure_of(response.status):
                    raise failure()
                content = bytearray()
                while chunk := await response.content.read(MOST_JSON_BYTES + 1 - len(content)):
                    content += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failed = translate(error)
            log.warning("inference_unreachable", error=type(error).__name__)
            raise failed from None
        try:
            orjson.loads(content)
        except orjson.JSONDecodeError:
            raise EngineProtocol from None
        return Reply(response.status, bytes(content))


def _failure_of(status: int) -> type[EngineFailed] | None:
    """What a status means for a plain request; None for a success and a refusal to pass on."""
    if 200 <= status < 300 or status in {400, 404, 409, 422}:
        return None
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return EngineUnavailable
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return EngineTimeout
    if 400 <= status < 500:
        return EngineRefused
    return EngineFailed if status >= 500 else EngineProtocol


def _check_stream(status: int, headers: Mapping[str, str]) -> None:
    """Raises EngineFailed for a response that is no event stream."""
    failure: type[EngineFailed] | None = None
    if status != HTTPStatus.OK:
        failure = _failure_of(status) or (EngineRefused if status >= 400 else EngineProtocol)
    elif (
        headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream"
        or headers.get("content-encoding", "identity").strip().lower() != "identity"
    ):
        failure = EngineProtocol
    if failure is not None:
        log.warning("inference_refused", status=status, code=failure.code)
        if status == HTTPStatus.FORBIDDEN:
            log.critical("inference_refused_our_key", hint="INTERNAL_API_KEY differs")
        raise failure(f"{failure.detail} (status {status})" if status != 200 else None)
