"""Translation of engines' refusals and failures into the codes of this service."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from chat_api.engines.http import OVERLOADED_STATUS
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    ModelNotFound,
)

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
OPTIONAL = frozenset(
    {"top_k", "top_p", "temperature", "stop", "stream_options", "response_format", "max_tokens"}
)
_NOT_TAKEN = re.compile(
    r"unrecogni|unsupported|unknown|unexpected|not (supported|permitted|allowed)", re.IGNORECASE
)
_FILTERED = frozenset({"content_filter", "content_policy_violation"})
MOST_ERROR_BYTES = 65_536


def failure_of(status: int | None, document: object) -> EngineFailed:
    """Return our error for an engine's, by its status (None: in the stream), codes and text."""
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


def refused_parameter(error: Mapping[str, Any]) -> str | None:
    """Return the name of the parameter that the engine refuses, if its error names one."""
    if isinstance(name := error.get("param"), str):
        return name
    message = error.get("message")
    if not isinstance(message, str):  # FastAPI's list of faults
        message = orjson.dumps(error).decode()
    if not _NOT_TAKEN.search(message):
        return None
    return next((word for word in re.findall(r"\w+", message[:2000]) if word in OPTIONAL), None)
