"""Engines that speak OpenAI's Chat Completions: vLLM, llama.cpp, Ollama, SGLang, hosted ones.

    POST {url}/chat/completions   {"model", "messages", "stream": true, …} -> server-sent events
    GET  {url}/models             {"data": [{"id", "owned_by", …}]}

All of them deviate; docs/engines.md lists what was seen where. Nothing that an engine says goes
further than this module: its texts are read only to find our name for them.
"""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from chat_api import sse
from chat_api.engines.configuration import Configured
from chat_api.engines.engine import (
    MOST_NAME_CHARS,
    CannotContinue,
    Deliver,
    Engine,
    Event,
    Limits,
    Listing,
    ModelInfo,
    Reply,
    Request,
    Usage,
)
from chat_api.engines.http import OVERLOADED_STATUS, TRANSIENT_STATUSES, EngineHttp, retry_after_of
from chat_api.engines.reasoning import Splitter
from chat_api.engines.untrusted import read_leniently, storable
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineIncomplete,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    ModelNotFound,
    ModelRefused,
)
from chat_api.settings import Settings
from chat_api.telemetry import log

# --- what may go wrong --------------------------------------------------------------------------

_STATUSES: dict[int, type[EngineFailed]] = {
    400: EngineRefused,
    404: EngineRefused,  # a model that is not there says so in the body
    408: EngineTimeout,
    413: ContextTooLong,
    429: EngineOverloaded,
    500: EngineFailed,
    502: EngineUnavailable,
    503: EngineUnavailable,
    504: EngineTimeout,
    OVERLOADED_STATUS: EngineOverloaded,
}
_CODES: dict[str, type[EngineFailed]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "string_above_max_length": ContextTooLong,
    "model_not_found": ModelNotFound,
    "model_not_available": ModelNotFound,
    "insufficient_quota": EngineRefused,
    "invalid_api_key": EngineRefused,
    "authentication_error": EngineRefused,
    "invalid_request_error": EngineRefused,
    "badrequesterror": EngineRefused,
    "content_filter": EngineRefused,
    "content_policy_violation": EngineRefused,
    "rate_limit_exceeded": EngineOverloaded,
    "rate_limit_error": EngineOverloaded,
    "overloaded_error": EngineOverloaded,
    "server_overloaded": EngineOverloaded,
    "engine_overloaded": EngineOverloaded,
    "unavailable_error": EngineUnavailable,
    "timeout": EngineTimeout,
}
# Not every engine has a code for these two.
_TOO_LONG = re.compile(
    r"context (length|size|window)|maximum context|max_model_len|prompt is too long|"
    r"too many (input )?tokens|max_new_tokens|input .{0,40}too long|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
_NO_MODEL = re.compile(
    r"model.{0,200}?(not found|does not exist|not exist|is not a valid|is not available|unknown)|"
    r"(no such|unknown|invalid|not a valid) model",
    re.IGNORECASE | re.DOTALL,
)
# Parameters outside OpenAI's own API, or refused by some models: left out once an engine says so.
_OPTIONAL = frozenset(
    {"top_k", "top_p", "temperature", "stop", "stream_options", "response_format", "max_tokens"}
)
_NOT_TAKEN = re.compile(
    r"unrecogni|unsupported|unknown|unexpected|not (supported|permitted|allowed)", re.IGNORECASE
)
_FILTERED = frozenset({"content_filter", "content_policy_violation"})
_MOST_ERROR_BYTES = 65_536


def failure_of(status: int | None, document: object) -> EngineFailed:
    """Our error for an engine's: by its status (None: in the stream), its codes and its words."""
    if isinstance(document, list) and document:  # Gemini
        document = document[0]
    error = document.get("error", document) if isinstance(document, dict) else document
    fields = error if isinstance(error, dict) else {"message": error}
    codes = [fields.get(name) for name in ("code", "type", "status")]
    words = fields.get("message") or fields.get("detail")
    message = words[:2000] if isinstance(words, str) else ""
    names = [code.lower() for code in codes if isinstance(code, str)]
    if status is None:
        numbers = [code for code in codes if type(code) is int]
        numbers += [int(name) for name in names if name.isdecimal() and len(name) == 3]
        status = next(iter(numbers), None)
    kind = next((_CODES[name] for name in names if name in _CODES), None)
    if kind in {None, EngineRefused} and status in {None, 400, 404, 422, 500}:
        if _TOO_LONG.search(message):
            kind = ContextTooLong
        elif _NO_MODEL.search(message):
            kind = ModelNotFound
    if kind is None:
        kind = _kind_of(status)
    failure = kind() if status is None else kind(f"{kind.detail} (status {status})")
    if not _FILTERED.isdisjoint(names):
        failure.finish_reason = "content_filter"
    return failure


def _kind_of(status: int | None) -> type[EngineFailed]:
    if status is None:
        return EngineFailed
    if status in _STATUSES:
        return _STATUSES[status]
    if 400 <= status < 500:
        return EngineRefused
    return EngineFailed if status >= 500 else EngineProtocol


def _refused_parameter(error: Mapping[str, Any]) -> str | None:
    """The name of the parameter that the engine does not take, if that is what it says."""
    if isinstance(name := error.get("param"), str):
        return name
    message = error.get("message")
    if not isinstance(message, str):  # FastAPI's list of faults
        message = orjson.dumps(error).decode()
    if not _NOT_TAKEN.search(message):
        return None
    return next((word for word in re.findall(r"\w+", message[:2000]) if word in _OPTIONAL), None)


# --- what is sent back --------------------------------------------------------------------------

_FINISH_REASONS = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
_NO_REASONS = frozenset({"", "null", "none"})
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
_NEVER = b"\0"  # begins no JSON
# Some engines start the answer again instead of going on: so many equal characters show it.
_SEAM_CHARS = 24


class OpenAIDecoder:
    """One response of `/chat/completions`.

    Chunks of a stream are alike but for the piece of text, so the bytes around it are learnt from
    the first one, and further chunks of that form are not parsed as a whole.
    """

    def __init__(
        self, max_event_bytes: int, *, beginning: str = "", verify_seam: bool = False
    ) -> None:
        self.is_complete = False
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.is_refused = False  # before anything was written
        self.refused_parameter: str | None = None
        self._limit = max_event_bytes
        self._parser = sse.Parser(max_event_bytes)
        self._splitter = Splitter(at_beginning=not beginning)
        self._beginning = beginning
        self._unverified: str | None = "" if verify_seam and beginning else None
        self._before = self._after = _NEVER
        self._refused: int | None = None
        self._retry_after: float | None = None
        self._body: bytearray | None = bytearray()  # of what is no stream, or not known to be one
        self._is_whole = False  # one JSON document
        self._has_begun = False

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head; see Decoder."""
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if status != HTTPStatus.OK:
            self._refused = status
            self._retry_after = retry_after_of(headers)
            self.is_complete = True  # the body only says more
        elif (
            content_type in {"text/html", "application/xhtml+xml"}
            or headers.get("content-encoding", "identity").strip().lower() != "identity"
        ):
            log.warning("inference_refused", status=status, code=EngineProtocol.code)
            raise EngineProtocol

    def feed(self, body: bytes, arrived: list[Event]) -> bool:
        """Append the events of `body`; see Decoder."""
        if self._body is not None:
            body = self._sniff(body)
            if not body:
                return False
        try:
            for data in self._parser.feed(body):
                if data.startswith(self._before) and self._take_alike(data, arrived):
                    continue
                if self._take(data, arrived):
                    return True
        except sse.TooLong:
            raise EngineProtocol from None
        return False

    def end(self, arrived: list[Event]) -> None:
        """The response is over; see Decoder."""
        if self._refused is not None:
            raise self._refusal(self._refused)
        if self._is_whole:
            self._take_whole(bytes(self._body or b""), arrived)
        elif rest := self._parser.rest():
            with suppress(EngineProtocol):  # cut off within the event
                self._take(rest, arrived)
        self._release(arrived)
        if not self.is_complete:
            raise EngineIncomplete

    # --- not a stream ---

    def _sniff(self, body: bytes) -> bytes:
        """Collect what is no stream; return the bytes as soon as it turns out to be one."""
        assert self._body is not None  # noqa: S101  # the caller's condition
        self._body += body
        if self._refused is not None:
            if len(self._body) > _MOST_ERROR_BYTES:
                raise self._refusal(self._refused)
            return b""
        if not self._is_whole:
            # Searched once, then dropped or known: the work stays linear, however bytes are cut.
            start = self._body.lstrip(b" \t\r\n")
            if not start:
                self._body.clear()
                return b""
            if start.startswith(b"<"):
                raise EngineProtocol
            if not start.startswith(b"{"):
                self._body = None
                return bytes(start)
            self._is_whole = True
        if len(self._body) > self._limit:
            raise EngineProtocol
        return b""

    def _refusal(self, status: int) -> EngineFailed:
        try:
            document = orjson.loads(self._body or b"")
        except orjson.JSONDecodeError:
            document = None
        failure = failure_of(status, document)
        failure.retry_after = self._retry_after
        failure.transient = status in TRANSIENT_STATUSES and not isinstance(failure, EngineRefused)
        self.is_refused = True
        if isinstance(document, dict):
            error = document.get("error", document)
            self.refused_parameter = _refused_parameter(error if isinstance(error, dict) else {})
        log.warning("inference_refused", status=status, code=failure.code)
        return failure

    def _take_whole(self, body: bytes, arrived: list[Event]) -> None:
        """A whole answer in one JSON document, from an engine that does not stream."""
        document = _read(body)
        if not _is_error(document):
            choice = _first_choice(document.get("choices"))
            if choice is None:
                raise EngineProtocol
            if self._beginning:
                _drop_beginning(choice, self._beginning)
        self._take_document(document, arrived)
        self.is_complete = True

    # --- a stream ---

    def _take_alike(self, data: bytes, arrived: list[Event]) -> bool:
        """Take a chunk that differs from the one learnt only in its piece of text."""
        if not data.endswith(self._after) or len(data) < len(self._before) + len(self._after):
            return False
        piece = b'"%b"' % data[len(self._before) : -len(self._after)]
        if b"\\u" in piece:  # may be what PostgreSQL cannot store
            return False
        try:
            text = orjson.loads(piece)
        except orjson.JSONDecodeError:
            return False
        if text:
            arrived.append(Event(b'{"token":%b}' % piece, text))
            self.is_complete = False
        return True

    def _take(self, data: bytes, arrived: list[Event]) -> bool:
        """Take any event; True for the last one."""
        if data.strip() == b"[DONE]":
            self._release(arrived)
            self.is_complete = True
            return True
        if not data.strip():
            return False
        document = _read(data)
        before = len(arrived)
        self._take_document(document, arrived)
        if len(arrived) == before + 1 and self._splitter.is_plain and not self.is_complete:
            self._learn(data, arrived[-1].text)
        return False

    def _learn(self, data: bytes, text: str) -> None:
        """Remember what surrounds this chunk's text, where it is certain which bytes are the text.

        A `"content":"` inside a string would have its quotes escaped, so one that occurs once is
        the key; a backslash elsewhere could hide another spelling of it.
        """
        key = b'"content":"'
        at = data.find(key) + len(key)
        piece = orjson.dumps(text)[1:]
        if at < len(key) or not text or not data.startswith(piece, at):
            return
        before, after = data[:at], data[at + len(piece) - 1 :]
        if data.count(b'"content"') == 1 and b"\\" not in before and b"\\" not in after:
            self._before, self._after = before, after

    def _take_document(self, document: dict[str, Any], arrived: list[Event]) -> None:
        if _is_error(document):
            self._release(arrived)
            failure = failure_of(None, document)
            failure.transient = isinstance(failure, (EngineOverloaded, EngineUnavailable))
            self.is_refused = not self._has_begun
            log.warning("inference_failed_in_stream", code=failure.code)
            raise failure
        choice = _first_choice(document.get("choices"))
        if choice is not None:
            delta = choice.get("delta")
            if not delta and not self._has_begun:  # else it is the whole text, once more
                delta = choice.get("message")
            if isinstance(delta, dict):
                self._take_delta(delta, arrived)
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason.strip().lower() not in _NO_REASONS:
                self._finish(reason.strip().lower(), arrived)
        usage = _usage_of(document.get("usage"))
        if usage is not None and usage != self.usage:
            self.usage = usage
            arrived.append(Event(b"", usage=usage))

    def _take_delta(self, delta: dict[str, Any], arrived: list[Event]) -> None:
        reasoning, text = _pieces_of(delta.get("content"))
        for name in _REASONING_FIELDS:  # some send the same under two names
            if isinstance(piece := delta.get(name), str) and piece:
                reasoning = piece
                break
        if isinstance(refusal := delta.get("refusal"), str):
            text += refusal
        self._has_begun = self._has_begun or bool(text or reasoning)
        if text and self._unverified is not None:
            text = self._verified(text)
        if text and not self._splitter.is_plain:
            thought, text = self._splitter.feed(text)
            reasoning += thought
        if reasoning or text:
            self.is_complete = False  # what ended before was no end
        _append(reasoning, text, arrived)

    def _finish(self, reason: str, arrived: list[Event]) -> None:
        self._release(arrived)
        if reason == "error":
            raise EngineFailed
        if reason in {"abort", "cancelled"}:
            raise EngineIncomplete
        self.finish_reason = _FINISH_REASONS.get(reason)
        self.is_complete = True

    def _release(self, arrived: list[Event]) -> None:
        """Append what was held back."""
        if self._unverified:
            held, self._unverified = self._unverified, None
            _append("", held, arrived)
        _append(*self._splitter.end(), arrived)

    def _verified(self, text: str) -> str:
        """The text, once it is certain that the answer does not begin again.

        Raise EngineRefused if it does.
        """
        assert self._unverified is not None  # noqa: S101  # the caller's condition
        held = self._unverified + text
        expected = self._beginning.strip()[:_SEAM_CHARS]
        start = held.lstrip()
        if start.startswith(expected):
            self.is_refused = True
            raise EngineRefused
        self._unverified = held if expected.startswith(start) else None
        return "" if self._unverified is not None else held


def _read(data: bytes) -> dict[str, Any]:
    """The JSON object that `data` is, fit to be stored. Raise EngineProtocol for anything else."""
    try:
        document = orjson.loads(data)
        if b"\\u" in data:
            document = storable(document)
    except (orjson.JSONDecodeError, RecursionError):
        document = read_leniently(data)
    if not isinstance(document, dict):
        raise EngineProtocol
    return document


def _is_error(document: dict[str, Any]) -> bool:
    if document.get("error") or "error" in (document.get("object"), document.get("type")):
        return True
    # FastAPI's, and others': an error by what it has instead of choices.
    return "choices" not in document and (
        isinstance(document.get("message"), str) or isinstance(document.get("detail"), str)
    )


def _first_choice(choices: object) -> dict[str, Any] | None:
    """The choice that is ours. Azure sends an empty list first, usage comes with one last."""
    if choices is None:
        return None
    if not isinstance(choices, list):
        raise EngineProtocol
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (0, None):  # may be unhashable
            return choice
    return None


def _pieces_of(content: object) -> tuple[str, str]:
    """Reasoning and text of a delta's content, which may be in parts (Mistral)."""
    if isinstance(content, str):
        return "", content
    if content is None:
        return "", ""
    if not isinstance(content, list):
        raise EngineProtocol
    reasoning = text = ""
    for part in content:
        if isinstance(part, dict):
            if isinstance(piece := part.get("text"), str):
                text += piece
            elif part.get("thinking") is not None:
                thought = part["thinking"]
                reasoning += thought if isinstance(thought, str) else _pieces_of(thought)[1]
    return reasoning, text


def _append(reasoning: str, text: str, arrived: list[Event]) -> None:
    if reasoning:
        arrived.append(Event(orjson.dumps({"reasoning": reasoning}), reasoning=reasoning))
    if text:
        arrived.append(Event(orjson.dumps({"token": text}), text))


def _usage_of(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(count) is int and 0 <= count < 2**31 for count in counts):
        return None
    return Usage(int(counts[0]), int(counts[1]))  # type: ignore[arg-type]


def _drop_beginning(choice: dict[str, Any], beginning: str) -> None:
    """A whole body of a continued answer repeats what it went on from."""
    message = choice.get("message")
    if isinstance(message, dict) and isinstance(content := message.get("content"), str):
        message["content"] = content.removeprefix(beginning)


# --- the client ---------------------------------------------------------------------------------

_SHORT_TIMEOUT = aiohttp.ClientTimeout(total=5)
# How long what was found out about an engine is believed.
_REMEMBERED_SECONDS = 600.0
_MOST_MODELS = 10_000
# vLLM's and SGLang's parameters; llama.cpp understands them too.
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


class Kind(Enum):
    """Whose server it is, as far as that decides something."""

    LLAMA_CPP = "llamacpp"
    VLLM = "vllm"
    SGLANG = "sglang"
    OTHER = "other"  # known, and known not to go on from a beginning
    UNKNOWN = "unknown"


_KINDS = {
    "llamacpp": Kind.LLAMA_CPP,
    "vllm": Kind.VLLM,
    "sglang": Kind.SGLANG,
    "openai": Kind.OTHER,
    "openai-internal": Kind.OTHER,
    "system": Kind.OTHER,
    "library": Kind.OTHER,  # Ollama
}


class OpenAIEngine:
    """A client of one engine; see Engine. `url` ends before `/chat/completions`."""

    limits = Limits()
    takes_any_tag = False

    def __init__(self, http: EngineHttp, *, name: str, continues: bool | None = None) -> None:
        """`continues` says whether the engine goes on from a beginning; None: find out."""
        self.name = name
        self._http = http
        self._continues = continues
        self._kind: Kind | None = None
        self._seams: dict[str, tuple[float, bool]] = {}  # by model: until when, and what was found
        self._left_out: dict[str, frozenset[str]] = {}  # by model: parameters it refuses

    async def generate(self, request: Request, deliver: Deliver) -> str | None:
        """See Engine.

        A request that is refused for a parameter that can be spared is sent again without it.
        """
        while True:
            decoder = OpenAIDecoder(
                self._http.max_event_bytes,
                beginning=request.beginning,
                verify_seam=self._is_doubtful(request.beginning),
            )
            try:
                await self._http.stream(
                    "/chat/completions", self._body(request), request.trace_id, decoder, deliver
                )
            except (EngineRefused, ContextTooLong) as refusal:
                if self._leave_out(request, decoder.refused_parameter):
                    continue
                if request.beginning and decoder.is_refused:
                    if isinstance(refusal, EngineRefused):
                        self._remember_seam(request.model, False)
                    raise CannotContinue from None
                raise
            return decoder.finish_reason

    def _body(self, request: Request) -> dict[str, Any]:
        options = request.options
        body: dict[str, Any] = {
            "model": request.model,
            "messages": list(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for name in ("temperature", "max_tokens", "top_k", "top_p", "stop", "response_format"):
            if options.get(name) is not None:
                body[name] = options[name]
        left_out = self._left_out.get(request.model, frozenset())
        if "max_tokens" in left_out and "max_tokens" in body:
            body["max_completion_tokens"] = body["max_tokens"]
        for name in left_out:
            body.pop(name, None)
        if request.beginning:
            body["messages"].append({"role": "assistant", "content": request.beginning})
            body |= _CONTINUE
        return body

    def _leave_out(self, request: Request, parameter: str | None) -> bool:
        """Whether the parameter that was refused can be left out, from now on."""
        before = self._left_out.get(request.model, frozenset())
        if parameter is None or parameter not in _OPTIONAL or parameter in before:
            return False
        self._left_out[request.model] = before | {parameter}
        log.info("engine_parameter_left_out", engine=self.name, parameter=parameter)
        return True

    # --- going on from a beginning ---

    async def can_continue(self, request: Request) -> bool:
        """See Engine. What is not known is found out, and believed for ten minutes."""
        now = time.monotonic()
        until, found = self._seams.get(request.model, (0.0, False))
        if now < until:
            return found
        if self._continues is not None:
            return self._continues
        if self._kind is None:
            await self.list_models(request.trace_id)
        if self._kind is Kind.LLAMA_CPP:
            found = await self._keeps_beginning(request)
            self._remember_seam(request.model, found)
            return found
        return self._kind is not Kind.OTHER

    def _is_doubtful(self, beginning: str) -> bool:
        """Whether the answer may begin again.

        Of an engine that is known to go on, a short text proves nothing: answers repeat words.
        """
        if self._continues:
            return False
        return self._kind is Kind.UNKNOWN or len(beginning.strip()) >= _SEAM_CHARS

    def _remember_seam(self, model: str, found: bool) -> None:
        self._seams[model] = (time.monotonic() + _REMEMBERED_SECONDS, found)

    async def _keeps_beginning(self, request: Request) -> bool:
        """Whether llama.cpp's prompt would end with the beginning.

        With some settings its server drops the beginning without a word, and the model starts
        over; the prompt that it would use is what tells.
        """
        body = self._body(request)
        reply = await self._http.json(
            "POST", self._root + "/apply-template", body, request.trace_id, _SHORT_TIMEOUT
        )
        document = orjson.loads(reply.body)
        prompt = document.get("prompt") if isinstance(document, dict) else None
        return isinstance(prompt, str) and prompt.endswith(request.beginning)

    # --- models ---

    def close(self) -> None:
        """See Engine."""
        self._http.close()

    async def list_models(self, trace_id: str) -> Listing:
        """See Engine. An engine without a list (404) has an empty one."""
        reply = await self._http.json(
            "GET", self._http.url + "/models", None, trace_id, _SHORT_TIMEOUT
        )
        document = orjson.loads(reply.body)
        if reply.status != HTTPStatus.OK:
            self._kind = self._kind or Kind.UNKNOWN
            return Listing(())
        listed = document.get("data") if isinstance(document, dict) else document
        if listed is None:  # Ollama without a model
            return Listing(())
        if not isinstance(listed, list):
            raise EngineProtocol
        models = [model for item in listed[:_MOST_MODELS] if (model := _model_of(item))]
        self._kind = _kind_of_engine(listed)
        if self._kind is Kind.LLAMA_CPP and len(models) == 1:
            tokens = await self._context_tokens(trace_id)
            models = [replace(models[0], context_tokens=tokens or models[0].context_tokens)]
        return Listing(tuple(models))

    async def _context_tokens(self, trace_id: str) -> int | None:
        """The context that one request has in llama.cpp."""
        try:
            reply = await self._http.json(
                "GET", self._root + "/props", None, trace_id, _SHORT_TIMEOUT
            )
        except EngineFailed:  # it can be switched off
            return None
        document = orjson.loads(reply.body)
        settings = document.get("default_generation_settings") if isinstance(document, dict) else 0
        return _tokens(settings.get("n_ctx")) if isinstance(settings, dict) else None

    @property
    def _root(self) -> str:
        """Where llama.cpp's own endpoints are: beside `/v1`."""
        return self._http.url.removesuffix("/v1")

    async def swap(self, _model: str, _trace_id: str) -> Reply:
        """Raises ModelRefused: models are chosen per message here."""
        raise ModelRefused(HTTPStatus.CONFLICT)


def _kind_of_engine(listed: list[Any]) -> Kind:
    for item in listed:
        if isinstance(item, dict):
            if "pricing" in item or "canonical_slug" in item:  # OpenRouter: anybody's models
                return Kind.OTHER
            if isinstance(owner := item.get("owned_by"), str):
                return _KINDS.get(owner.lower(), Kind.UNKNOWN)
    return Kind.UNKNOWN


def _model_of(item: object) -> ModelInfo | None:
    if not isinstance(item, dict):
        return None
    model = item.get("id") or item.get("name")
    if not isinstance(model, str) or not model.isprintable():
        return None
    # llama.cpp names a model by its file, with the whole path.
    is_file = model.endswith(".gguf")
    name = re.split(r"[/\\\\]", model)[-1].removesuffix(".gguf") if is_file else model
    if not 0 < len(name) <= MOST_NAME_CHARS:
        return None
    meta = found if isinstance(found := item.get("meta"), dict) else {}
    sizes = (
        item.get("max_model_len"),  # vLLM, SGLang
        meta.get("n_ctx"),  # llama.cpp
        item.get("context_length"),  # OpenRouter
        item.get("context_window"),  # Groq
    )
    tokens = next((size for size in map(_tokens, sizes) if size), None)
    return ModelInfo(model, name, path=model if is_file else "", context_tokens=tokens)


def _tokens(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


def make_engine(
    session: aiohttp.ClientSession, configured: Configured, settings: Settings
) -> Engine:
    """The client of a configured engine; see catalogue.DIALECTS."""
    key = configured.key.get_secret_value()
    return OpenAIEngine(
        EngineHttp(
            session,
            name=configured.settings.name,
            url=configured.settings.url,
            headers=[("Authorization", f"Bearer {key}")] if key else [],
            connect_timeout_seconds=settings.connect_timeout_seconds,
            max_event_bytes=settings.max_event_bytes,
        ),
        name=configured.settings.name,
        continues=configured.settings.continues,
    )
