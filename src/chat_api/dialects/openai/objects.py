"""The objects of this dialect, as its clients read them. Pure functions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from chat_api.dialects.openai import ids
from chat_api.errors import InternalError, inference_failure

Json = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# Our codes of errors, translated into codes that clients know.
_CODES = {"inference_overloaded": "rate_limit_exceeded"}

# Replacements for our texts that mention the inference service. They depend on the code only, so
# that every replay is the same.
_SENTENCES = {"inference_unavailable": "The model is not available at the moment."}


@dataclass(frozen=True, slots=True)
class Echo:
    """The fields of the request that a response repeats. Stored, so that replays are identical."""

    created_at: int
    model: str = "default"
    background: bool = False
    previous_response_id: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    effort: str | None = None
    summary: str | None = None
    text_format: Json = field(default_factory=lambda: {"type": "text"})
    metadata: Mapping[str, str] = field(default_factory=dict)
    inputs: int = 1
    """How many messages the request added before the answer."""

    def as_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> "Echo":
        """Return the object that `as_json` wrote; fields of a newer replica are ignored."""
        document = orjson.loads(text)
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an answer, in the terms of our own dialect."""

    status: str
    token_count: int = 0
    inference_time_ms: int = 0
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None
    error: str | None = None
    """Our code of the failure."""

    @property
    def is_whole(self) -> bool:
        """Return whether the response is `completed`, not `incomplete` or `failed`."""
        return self.status == "complete" and self.finish_reason not in _INCOMPLETE


def written(document: Json) -> bytes:
    """Return the document as JSON, with its text unescaped."""
    return json.dumps(document, ensure_ascii=False).encode()


# --- items ----------------------------------------------------------------------------------------


def output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary_text(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def message_item(item_id: str, role: str, status: str, content: Sequence[Json]) -> Json:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": role,
        "content": list(content),
    }


def reasoning_item(item_id: str, status: str, summary: Sequence[Json]) -> Json:
    return {"id": item_id, "type": "reasoning", "status": status, "summary": list(summary)}


def stored_item(message: Json) -> Json:
    """Return the item of a message as our own API writes it."""
    role = message["role"]
    item_id = ids.item_id(message["id"])
    if role != "assistant":
        part = {"type": "input_text", "text": message["content"]}
        return message_item(item_id, role, "completed", [part])
    if message["status"] == "generating":
        return message_item(item_id, role, "in_progress", [])
    ended = ended_message(message)
    status = "completed" if ended.is_whole else "incomplete"
    return message_item(item_id, role, status, [output_text(message["content"])])


def stored_output(message: Json) -> list[Json]:
    """Return the output of an answer as it was saved, or as it is so far."""
    if message["status"] == "generating":
        status, is_empty_answer = "in_progress", False
    else:
        ended = ended_message(message)
        status = "completed" if ended.is_whole else "incomplete"
        is_empty_answer = ended.status == "complete"
    output = []
    if reasoning := message["reasoning"]:
        is_over = bool(message["content"]) or status == "completed"
        output.append(
            reasoning_item(
                ids.reasoning_id(message["id"]),
                "completed" if is_over else status,
                [summary_text(reasoning)],
            )
        )
    if message["content"] or is_empty_answer:
        item_id = ids.item_id(message["id"])
        parts = [output_text(message["content"])]
        output.append(message_item(item_id, "assistant", status, parts))
    return output


def listing(data: Sequence[Json], *, has_more: bool) -> Json:
    """Return a list object with these items."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


# --- responses ------------------------------------------------------------------------------------


def ended_message(message: Json) -> Ended:
    """Return the end of a message in JSON of our own API."""
    return Ended(
        message["status"],
        message["token_count"],
        message["inference_time_ms"],
        message["finish_reason"],
        message["usage"],
        message["error"],
    )


def response(
    message_id: str,
    conversation_id: str,
    echo: Echo,
    output: Sequence[Json] = (),
    ended: Ended | None = None,
) -> Json:
    """Return a response in progress or, with `ended`, a finished one."""
    return {
        "id": ids.response_id(message_id),
        "object": "response",
        "created_at": echo.created_at,
        "completed_at": _completed_at(echo, ended),
        "status": "in_progress" if ended is None else _status(ended),
        "background": echo.background,
        "error": None if ended is None else _error(ended),
        "incomplete_details": None if ended is None else _details(ended),
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "max_tool_calls": None,
        "model": echo.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": echo.previous_response_id,
        "conversation": {"id": ids.conversation_id(conversation_id)},
        "prompt_cache_key": None,
        "safety_identifier": None,
        "reasoning": {"effort": echo.effort, "summary": echo.summary},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0 if echo.temperature is None else echo.temperature,
        "top_p": 1.0 if echo.top_p is None else echo.top_p,
        "top_logprobs": 0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "text": {"format": echo.text_format},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": None if ended is None else _usage(ended),
        "metadata": dict(echo.metadata),
    }


def final_event(ended: Ended) -> str:
    """Return the type of a stream's last event."""
    if ended.status == "failed":
        return "response.failed"
    return "response.completed" if ended.is_whole else "response.incomplete"


def _status(ended: Ended) -> str:
    if ended.is_whole:
        return "completed"
    return {"stopped": "cancelled", "failed": "failed"}.get(ended.status, "incomplete")


def _completed_at(echo: Echo, ended: Ended | None) -> int | None:
    if ended is None or not ended.is_whole:
        return None
    return echo.created_at + -(-ended.inference_time_ms // 1000)


def _error(ended: Ended) -> Json | None:
    if ended.status != "failed":
        return None
    code = ended.error or InternalError.code
    kind = InternalError if code == InternalError.code else inference_failure(code)
    return {
        "code": _CODES.get(code, "server_error"),
        "message": _SENTENCES.get(code, kind.detail),
        "type": "server_error",
        "param": None,
    }


def _details(ended: Ended) -> Json | None:
    if ended.status == "interrupted":
        return {"reason": "interrupted"}
    if ended.status == "complete" and ended.finish_reason in _INCOMPLETE:
        return {"reason": _INCOMPLETE[ended.finish_reason]}
    return None


def _usage(ended: Ended) -> Json:
    used = ended.usage or {}
    read = used.get("input_tokens", 0)
    wrote = used.get("output_tokens", ended.token_count)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + wrote,
    }
