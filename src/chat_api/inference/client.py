"""Calls to the inference service, and the translation of everything that may come back.

The client is aiohttp (docs/decisions/0003). Nothing that the service sends is trusted: sizes are
bounded, compression is refused, text that PostgreSQL cannot store is replaced, and fields that our
own events use are dropped.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from chat_api import sse
from chat_api.errors import (
    InferenceFailed,
    InferenceIncomplete,
    InferenceProtocol,
    InferenceRefused,
    InferenceTimeout,
    InferenceUnavailable,
)
from chat_api.telemetry import log

# Fields by which our stream speaks of itself: an upstream event must not be able to imitate them.
RESERVED = frozenset({"start", "reset", "snapshot", "error", "done", "message_id", "status"})
MOST_JSON_BYTES = 1_000_000
_NOTHING = b"{}"
_SHORT_TIMEOUT = aiohttp.ClientTimeout(total=10)
_SURROGATES = re.compile("[\ud800-\udfff]")

# What aiohttp raises, and our name for it; the first that fits. A test walks aiohttp's own tree.
TRANSLATION: tuple[tuple[type[BaseException], type[InferenceFailed]], ...] = (
    (aiohttp.ConnectionTimeoutError, InferenceUnavailable),
    (aiohttp.ServerTimeoutError, InferenceTimeout),
    (TimeoutError, InferenceTimeout),
    (aiohttp.ClientConnectorError, InferenceUnavailable),
    (aiohttp.ServerDisconnectedError, InferenceUnavailable),
    (aiohttp.ClientOSError, InferenceUnavailable),
    (aiohttp.ClientConnectionError, InferenceUnavailable),
    (aiohttp.ClientResponseError, InferenceProtocol),
    (aiohttp.ClientPayloadError, InferenceProtocol),
    (aiohttp.InvalidURL, InferenceUnavailable),
    (aiohttp.ClientError, InferenceFailed),
    (OSError, InferenceUnavailable),
)


def translate(error: BaseException) -> InferenceFailed:
    """Our error for one that the HTTP client raised."""
    for kind, ours in TRANSLATION:
        if isinstance(error, kind):
            return ours()
    raise TypeError(f"not an error of the HTTP client: {type(error).__name__}") from error


@dataclass(slots=True)
class Event:
    """One event of an answer. `data` is JSON on one line, `text` the piece of text in it."""

    data: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the inference service answered to a plain request, as it is."""

    status: int
    body: bytes


class InferenceClient:
    """The inference service. Every method raises InferenceFailed or one of its kinds."""

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
        self._key = internal_api_key
        # How long an answer may be silent is its owner's business, not the connection's.
        self._stream_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_seconds
        )
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
    ) -> AsyncGenerator[list[Event], None]:
        """The answer's events, as they come, in lists of what arrived together.

        Ends after the service's `done`. Closing the iterator closes the request. Raises
        InferenceIncomplete where the stream ends without `done`, after what came before it.
        """
        try:
            async with self._http.post(
                f"{self._url}/generate",
                json={"messages": list(messages), **options},
                headers=self._headers(trace_id) | {"Accept": "text/event-stream"},
                timeout=self._stream_timeout,
                allow_redirects=False,
            ) as response:
                _check_stream(response)
                parser = sse.Parser(self._max_event_bytes)
                try:
                    async for chunk in response.content.iter_any():
                        events: list[Event] = []
                        try:
                            for data in parser.feed(chunk):
                                event = read_event(data)
                                if event is None:
                                    if events:
                                        yield events
                                    return
                                if event.data != _NOTHING:
                                    events.append(event)
                        except (sse.TooLong, InferenceFailed):
                            if events:
                                yield events
                            raise
                        if events:
                            yield events
                except sse.TooLong:
                    raise InferenceProtocol from None
                except (aiohttp.ClientError, OSError) as error:
                    # The answer had begun: whatever cut it off, what came is worth keeping.
                    log.warning("inference_cut_off", error=type(error).__name__)
                    raise InferenceIncomplete from None
                raise InferenceIncomplete
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = translate(error)
            log.warning("inference_unreachable", error=type(error).__name__)
            raise failure from None

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
                content = await response.content.read(MOST_JSON_BYTES + 1)
                while chunk := await response.content.read(MOST_JSON_BYTES + 1 - len(content)):
                    content += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failed = translate(error)
            log.warning("inference_unreachable", error=type(error).__name__)
            raise failed from None
        try:
            orjson.loads(content)
        except orjson.JSONDecodeError:
            raise InferenceProtocol from None
        return Reply(response.status, content)


def _failure_of(status: int) -> type[InferenceFailed] | None:
    """What a status means for a plain request; None for a success and a refusal to pass on."""
    if 200 <= status < 300 or status in {400, 404, 409, 422}:
        return None
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return InferenceUnavailable
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return InferenceTimeout
    if 400 <= status < 500:
        return InferenceRefused
    return InferenceFailed if status >= 500 else InferenceProtocol


def _check_stream(response: aiohttp.ClientResponse) -> None:
    status = response.status
    failure: type[InferenceFailed] | None = None
    if status != HTTPStatus.OK:
        failure = _failure_of(status) or (InferenceRefused if status >= 400 else InferenceProtocol)
    elif (
        response.content_type != "text/event-stream"
        or response.headers.get("Content-Encoding", "identity").lower() != "identity"
    ):
        failure = InferenceProtocol
    if failure is not None:
        log.warning("inference_refused", status=status, code=failure.code)
        if status == HTTPStatus.FORBIDDEN:
            log.critical("inference_refused_our_key", hint="INTERNAL_API_KEY differs")
        raise failure(f"{failure.detail} (status {status})" if status != 200 else None)


def read_event(data: bytes) -> Event | None:
    """One upstream event as we pass it on; None for the final one.

    The bytes are kept where nothing in them has to change. Raises InferenceProtocol for what is
    no JSON object, and InferenceFailed for the service's own `error` event.
    """
    as_it_is = True
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = _read_leniently(data)
        as_it_is = False
    if not isinstance(document, dict):
        raise InferenceProtocol
    token = document.get("token")
    if token is not None and not isinstance(token, str):
        raise InferenceProtocol
    if token is None:
        if document.get("error"):
            raise InferenceFailed
        if document.get("done") is True:
            return None
    if as_it_is and RESERVED.isdisjoint(document) and b"\\u" not in data and b"\n" not in data:
        return Event(data, token or "")
    try:
        clean = _storable({key: value for key, value in document.items() if key not in RESERVED})
        return Event(orjson.dumps(clean), clean.get("token") or "")
    except (TypeError, RecursionError):  # nested too deeply
        raise InferenceProtocol from None


def _read_leniently(data: bytes) -> object:
    """JSON that only Python's own parser takes: with lone surrogates, or huge integers."""
    try:
        return _storable(json.loads(data, parse_int=_bounded_int))
    except (ValueError, OverflowError, RecursionError):
        raise InferenceProtocol from None


def _bounded_int(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(value)


def _storable(value: Any) -> Any:
    """The value with what PostgreSQL's text cannot hold replaced by U+FFFD.

    Also what JSON cannot say: not-a-number and the infinities become null.
    """
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value).replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
