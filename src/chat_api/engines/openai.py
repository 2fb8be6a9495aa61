"""Engines that speak OpenAI's Chat Completions: vLLM, llama.cpp, Ollama, SGLang, hosted ones.

    POST {url}/chat/completions   {"model", "messages", "stream": true, …} -> server-sent events
    GET  {url}/models             {"data": [{"id", "owned_by", …}]}

All of them deviate; docs/engines.md lists what was seen where. An engine's error texts do not leave
these modules: they are only used to choose our code.
"""

import re
import time
from dataclasses import replace
from enum import Enum
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from chat_api.engines.configuration import Configured
from chat_api.engines.engine import (
    MOST_NAME_CHARS,
    CannotContinue,
    Engine,
    EventReceiver,
    Limits,
    Listing,
    ModelInfo,
    Reply,
    Request,
)
from chat_api.engines.http import EngineHttp
from chat_api.engines.openai_decoder import SEAM_CHARS, OpenAIDecoder
from chat_api.engines.openai_errors import OPTIONAL
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineProtocol,
    EngineRefused,
    ModelRefused,
)
from chat_api.settings import Settings
from chat_api.telemetry import log

_SHORT_TIMEOUT = aiohttp.ClientTimeout(total=5)
# How long findings about an engine are remembered.
_REMEMBERED_SECONDS = 600.0
_MOST_MODELS = 10_000
# vLLM's and SGLang's parameters; llama.cpp understands them too.
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


class Kind(Enum):
    """The kind of the server, where its behaviour differs."""

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

    async def generate(self, request: Request, receiver: EventReceiver) -> str | None:
        """See Engine.

        If the engine refuses an optional parameter, the request is repeated without it.
        """
        while True:
            decoder = OpenAIDecoder(
                self._http.max_event_bytes,
                beginning=request.beginning,
                verify_seam=self._is_doubtful(request.beginning),
            )
            try:
                await self._http.stream(
                    "/chat/completions", self._body(request), request.trace_id, decoder, receiver
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
        """Return whether the refused parameter can be omitted, from now on."""
        before = self._left_out.get(request.model, frozenset())
        if parameter is None or parameter not in OPTIONAL or parameter in before:
            return False
        self._left_out[request.model] = before | {parameter}
        log.info("engine_parameter_left_out", engine=self.name, parameter=parameter)
        return True

    # --- going on from a beginning ---

    async def can_continue(self, request: Request) -> bool:
        """See Engine. Findings are remembered for ten minutes."""
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
        """Return whether the answer may begin again.

        For an engine that is known to continue, a short text proves nothing: answers repeat words.
        """
        if self._continues:
            return False
        return self._kind is Kind.UNKNOWN or len(beginning.strip()) >= SEAM_CHARS

    def _remember_seam(self, model: str, found: bool) -> None:
        self._seams[model] = (time.monotonic() + _REMEMBERED_SECONDS, found)

    async def _keeps_beginning(self, request: Request) -> bool:
        """Return whether llama.cpp's prompt would end with the beginning.

        With some settings its server silently drops the beginning, and the model starts over; the
        prompt that it would use shows this.
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
        """Return the size of the context of one request in llama.cpp."""
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
        """Return the address of llama.cpp's own endpoints, beside `/v1`."""
        return self._http.url.removesuffix("/v1")

    async def swap(self, _model: str, _trace_id: str) -> Reply:
        """Raise ModelRefused: models are chosen per message here."""
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
    """Return the client of a configured engine; see catalogue.DIALECTS."""
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
