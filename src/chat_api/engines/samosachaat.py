"""The engine that samosaChaat itself runs: `POST /generate`, `GET /models`, `POST /models/swap`.

Its events are `{"token": "Hel", "gpu": 0}` …, then `{"done": true}`. Other fields of an event are
passed on to clients unchanged, except text that PostgreSQL cannot store and fields that our own
events use.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from chat_api import sse
from chat_api.engines.configuration import Configured
from chat_api.engines.engine import (
    Engine,
    Event,
    EventReceiver,
    Limits,
    Listing,
    ModelInfo,
    Reply,
    Request,
)
from chat_api.engines.http import TRANSIENT_STATUSES, EngineHttp, failure_of, retry_after_of
from chat_api.engines.untrusted import read_leniently, storable
from chat_api.errors import EngineFailed, EngineIncomplete, EngineProtocol, EngineRefused
from chat_api.settings import INFERENCE_MESSAGE_CHARS, INFERENCE_REQUEST_CHARS, Settings
from chat_api.telemetry import log

_SHORT_TIMEOUT = aiohttp.ClientTimeout(total=10)
_OPTIONS = ("temperature", "max_tokens", "top_k", "force_web_search")
# Fields of our own events, which an engine's event must not imitate.
RESERVED = frozenset({"start", "reset", "snapshot", "error", "done", "message_id", "status"})
_NOTHING = b"{}"


def decode_event(data: bytes) -> Event | None:
    """Return an engine's event as it is passed on; None for the final one.

    The bytes are kept where nothing in them has to change. Raise EngineProtocol for what is
    no JSON object, and EngineFailed for the service's own `error` event.
    """
    as_it_is = b"\\u" not in data and b"\n" not in data
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = read_leniently(data)
        as_it_is = False
    if not isinstance(document, dict):
        raise EngineProtocol
    as_it_is = as_it_is and RESERVED.isdisjoint(document)
    token = document.get("token")
    if as_it_is and type(token) is str:
        return Event(data, token)  # the usual case
    if token is not None and not isinstance(token, str):
        raise EngineProtocol
    if token is None:
        if document.get("error"):
            raise EngineFailed
        if document.get("done") is True:
            return None
    if as_it_is:
        return Event(data, "")
    try:
        clean = storable({key: value for key, value in document.items() if key not in RESERVED})
        return Event(orjson.dumps(clean), clean.get("token") or "")
    except (TypeError, RecursionError):  # nested too deeply
        raise EngineProtocol from None


class SamosachaatDecoder:
    """One response of `/generate`; see Decoder."""

    def __init__(self, max_event_bytes: int) -> None:
        self.is_complete = False
        self.finish_reason: str | None = None
        self._events = sse.Parser(max_event_bytes)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See Decoder. A response that is not an event stream is refused."""
        failure: type[EngineFailed] | None = None
        if status != HTTPStatus.OK:
            failure = failure_of(status) or (EngineRefused if status >= 400 else EngineProtocol)
        elif (
            headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream"
            or headers.get("content-encoding", "identity").strip().lower() != "identity"
        ):
            failure = EngineProtocol
        if failure is None:
            return
        log.warning("inference_refused", status=status, code=failure.code)
        if status == HTTPStatus.FORBIDDEN:
            log.critical("inference_refused_our_key", hint="INTERNAL_API_KEY differs")
        error = failure(f"{failure.detail} (status {status})" if status != 200 else None)
        error.transient = status in TRANSIENT_STATUSES
        error.retry_after = retry_after_of(headers)
        raise error

    def token(self, body: bytes) -> tuple[bytes, str] | None:
        """See Decoder."""
        data = self._events.only_event(body)
        if data is None or data.find(b"\\u") >= 0:
            return None
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(document, dict):
            return None
        text = document.get("token")
        if type(text) is not str or not text or not RESERVED.isdisjoint(document):
            return None
        return data, text

    def feed(self, body: bytes, arrived: list[Event]) -> bool:
        """See Decoder."""
        try:
            for data in self._events.feed(body):
                event = decode_event(data)
                if event is None:
                    return True
                if event.data != _NOTHING:
                    arrived.append(event)
        except sse.TooLong:
            raise EngineProtocol from None
        return False

    def end(self, _arrived: list[Event]) -> None:
        """Raise EngineIncomplete: a whole answer ends with its `done`."""
        raise EngineIncomplete


class SamosachaatEngine:
    """A client of the service; see Engine. It answers with whichever model it has loaded."""

    limits = Limits(INFERENCE_MESSAGE_CHARS, INFERENCE_REQUEST_CHARS, takes_system=False)
    takes_any_tag = True

    def __init__(self, http: EngineHttp, *, name: str, swap_timeout_seconds: float) -> None:
        self.name = name
        self._http = http
        self._swap_timeout = aiohttp.ClientTimeout(total=swap_timeout_seconds)

    async def generate(self, request: Request, receiver: EventReceiver) -> str | None:
        """See Engine. There is no finish reason."""
        decoder = SamosachaatDecoder(self._http.max_event_bytes)
        # The body has no name here, which would keep it as long as the answer takes.
        await self._http.stream("/generate", _body(request), request.trace_id, decoder, receiver)
        return None

    async def can_continue(self, _request: Request) -> bool:
        """Return False: the newest message must be the user's."""
        return False

    def close(self) -> None:
        """See Engine."""
        self._http.close()

    async def list_models(self, trace_id: str) -> Listing:
        """See Engine. The service's own JSON may be passed on."""
        reply = await self._http.json(
            "GET", self._http.url + "/models", None, trace_id, _SHORT_TIMEOUT
        )
        if reply.status != HTTPStatus.OK:
            raise EngineRefused
        document = orjson.loads(reply.body)
        listed = document.get("models") if isinstance(document, dict) else None
        models = [_model_of(item) for item in listed] if isinstance(listed, list) else []
        return Listing(tuple(model for model in models if model is not None), reply.body)

    async def swap(self, model: str, trace_id: str) -> Reply:
        """Return the response to `POST /models/swap`: a success, or a refusal (4xx)."""
        return await self._http.json(
            "POST",
            self._http.url + "/models/swap",
            {"model_tag": model},
            trace_id,
            self._swap_timeout,
        )


def _body(request: Request) -> dict[str, Any]:
    options = request.options
    body: dict[str, Any] = {"messages": list(request.messages)}
    return body | {name: options[name] for name in _OPTIONS if options.get(name) is not None}


def _model_of(item: object) -> ModelInfo | None:
    if not isinstance(item, dict) or not isinstance(name := item.get("model_tag"), str):
        return None
    source, path = item.get("source"), item.get("path")
    return ModelInfo(
        name,
        name,
        source=source if isinstance(source, str) else "",
        path=path if isinstance(path, str) else "",
        available=item.get("available") is not False,
        loaded=item.get("loaded") is True,
    )


def make_engine(
    session: aiohttp.ClientSession, configured: Configured, settings: Settings
) -> Engine:
    """Return the client of a configured engine; see catalogue.DIALECTS."""
    return SamosachaatEngine(
        EngineHttp(
            session,
            name=configured.settings.name,
            url=configured.settings.url,
            headers=[("X-Internal-API-Key", configured.key.get_secret_value())],
            connect_timeout_seconds=settings.connect_timeout_seconds,
            max_event_bytes=settings.max_event_bytes,
        ),
        name=configured.settings.name,
        swap_timeout_seconds=settings.swap_timeout_seconds,
    )
