"""The bodies of responses."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chat_api.api.schemas.requests import EXAMPLE_LIMITS, ConversationOptions

_CONVERSATION = {
    "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
    "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8",
    "title": "What is the capital of France?",
    "model_tag": "default",
    "is_favorited": False,
    "created_at": "2026-11-22T09:30:00.123456+00:00",
    "updated_at": "2026-11-22T09:31:12.456789+00:00",
    "instructions": None,
    "options": None,
    "tags": [],
    "metadata": {},
}
_MESSAGE = {
    "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
    "conversation_id": _CONVERSATION["id"],
    "role": "assistant",
    "content": "Paris.",
    "status": "complete",
    "token_count": 2,
    "model_tag": "default",
    "inference_time_ms": 312,
    "created_at": "2026-11-22T09:31:12.456789+00:00",
    "reasoning": None,
    "finish_reason": "stop",
    "usage": {"input_tokens": 14, "output_tokens": 2},
    "error": None,
    "parent_id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c69",
    "version": 1,
    "versions": 1,
}


FinishReason = Literal["stop", "length", "content_filter"]
Status = Literal["generating", "complete", "stopped", "interrupted", "failed"]


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


def without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class Conversation(BaseModel):
    model_config = _example(_CONVERSATION)

    id: str
    user_id: str
    title: str
    model_tag: str
    is_favorited: bool
    created_at: datetime
    updated_at: datetime
    instructions: str | None
    options: ConversationOptions | None
    tags: list[str]
    metadata: dict[str, str]
    expires_at: datetime | None = Field(
        default=None,
        description="when a temporary conversation is deleted",
        # Absent is not null: a default would make the page's types have it always.
        json_schema_extra=without_default,
    )


class Usage(BaseModel):
    model_config = _example({"input_tokens": 14, "output_tokens": 2})

    input_tokens: int
    output_tokens: int


class Message(BaseModel):
    model_config = _example(_MESSAGE)

    id: str
    conversation_id: str
    role: Literal["user", "assistant", "system"]
    content: str
    status: Status
    token_count: int
    model_tag: str
    inference_time_ms: int
    created_at: datetime
    reasoning: str | None = Field(description="the model's reasoning, if the engine reports it")
    finish_reason: FinishReason | None
    usage: Usage | None = Field(description="the engine's count; null if it reports none")
    error: str | None = Field(description="the code of the failure")
    parent_id: str | None = Field(description="the message before it; null for a first one")
    version: int = Field(description="its number among those with the same parent, from 1")
    versions: int = Field(description="the number of messages with the same parent")


class Version(Message):
    model_config = _example(_MESSAGE | {"shown": True})

    shown: bool


class Versions(BaseModel):
    model_config = _example({"items": [_MESSAGE | {"shown": True}], "next_before": None})

    items: list[Version]
    next_before: str | None = Field(description="pass it as `before` for the versions before these")


class ConversationWithMessages(Conversation):
    model_config = _example(_CONVERSATION | {"messages": [_MESSAGE], "next_before": None})

    messages: list[Message]
    next_before: str | None = Field(description="pass it as `before` for the messages before these")


class ConversationPage(BaseModel):
    model_config = _example(
        {
            "items": [_CONVERSATION],
            "grouped": {"2026-11-22": [_CONVERSATION]},
            "limit": 50,
            "offset": 0,
            "next_cursor": None,
        }
    )

    items: list[Conversation]
    grouped: dict[str, list[Conversation]] = Field(
        description="the same, by the date of `updated_at` in the requested time zone"
    )
    limit: int
    offset: int
    next_cursor: str | None = Field(description="pass it as `cursor` for the next page")


class FoundMessage(BaseModel):
    id: str
    role: Literal["user", "assistant", "system"]
    created_at: datetime


class FoundItem(BaseModel):
    conversation: Conversation
    message: FoundMessage | None = Field(description="null if the title matched")
    snippet: str = Field(description="one line of the text around the first match")
    matches: list[tuple[int, int]] = Field(
        description="from–to, in code points (not UTF-16 units or bytes) of the snippet"
    )


class FoundPage(BaseModel):
    model_config = _example(
        {
            "items": [
                {
                    "conversation": _CONVERSATION,
                    "message": {name: _MESSAGE[name] for name in ("id", "role", "created_at")},
                    "snippet": "Paris.",
                    "matches": [[0, 3]],
                }
            ],
            "next_cursor": None,
        }
    )

    items: list[FoundItem]
    next_cursor: str | None = Field(description="pass it as `cursor` for the next page")


class UsageSum(BaseModel):
    user_id: str | None = Field(default=None, description="only with `by=user`; null: erased users")
    day: date | None = Field(default=None, description="in UTC; only with `by=day`")
    model_tag: str | None = Field(default=None, description="only with `by=model`")
    answers: int
    input_tokens: int
    output_tokens: int
    estimated: int = Field(description="answers whose tokens the service counted, not the engine")
    by_status: dict[str, int] = Field(description="the number of answers by status")


class DayLimit(BaseModel):
    limit: int
    used: int
    left: int


class DayLimits(BaseModel):
    answers_per_day: DayLimit | None = Field(description="null: no limit")
    tokens_per_day: DayLimit | None = Field(description="null: no limit")
    resets_at: datetime


class UsagePage(BaseModel):
    model_config = _example(
        {
            "items": [
                {
                    "day": "2026-11-22",
                    "answers": 3,
                    "input_tokens": 410,
                    "output_tokens": 96,
                    "estimated": 0,
                    "by_status": {"complete": 2, "stopped": 1},
                }
            ],
            "limits": {
                "answers_per_day": {"limit": 100, "used": 3, "left": 97},
                "tokens_per_day": None,
                "resets_at": "2026-11-23T00:00:00+00:00",
            },
        }
    )

    items: list[UsageSum]
    limits: DayLimits


class AdminUsagePage(BaseModel):
    model_config = _example(
        {
            "items": [
                {
                    "user_id": _CONVERSATION["user_id"],
                    "answers": 3,
                    "input_tokens": 410,
                    "output_tokens": 96,
                    "estimated": 0,
                    "by_status": {"complete": 2, "stopped": 1},
                }
            ],
            "next_offset": None,
        }
    )

    items: list[UsageSum]
    next_offset: int | None = Field(description="pass it as `offset` for the next users")


class UserLimitsRead(BaseModel):
    model_config = _example(
        {
            "user_id": _CONVERSATION["user_id"],
            **EXAMPLE_LIMITS,
            "limits": {
                "answers_per_day": {"limit": 200, "used": 3, "left": 197},
                "tokens_per_day": None,
                "resets_at": "2026-11-23T00:00:00+00:00",
            },
        }
    )

    user_id: str
    answers_per_day: int | None = Field(description="set for this user; null: the setting applies")
    tokens_per_day: int | None = Field(description="set for this user; null: the setting applies")
    limits: DayLimits = Field(description="the limits that apply today")


class AuditEntry(BaseModel):
    id: int
    at: datetime
    administrator_id: str
    act: Literal[
        "delete_user", "read_limits", "read_usage", "remove_limits", "set_limits", "swap_model"
    ]
    user_id: str | None = Field(description="the user concerned; null if none or erased")
    details: dict[str, Any]
    trace_id: str


class AuditPage(BaseModel):
    model_config = _example(
        {
            "items": [
                {
                    "id": 7,
                    "at": "2026-11-22T09:31:12.456789+00:00",
                    "administrator_id": "0d0cfa5e-6a8c-5b0f-9d5e-2f6d4f2b8a11",
                    "act": "set_limits",
                    "user_id": _CONVERSATION["user_id"],
                    "details": EXAMPLE_LIMITS,
                    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                }
            ],
            "next_cursor": None,
        }
    )

    items: list[AuditEntry]
    next_cursor: str | None = Field(description="pass it as `cursor` for earlier acts")


class FailedImport(BaseModel):
    line: int = Field(description="the line of NDJSON, or the element of the array, from 1")
    detail: str


class Imported(BaseModel):
    model_config = _example(
        {
            "imported": 2,
            "unchanged": 1,
            "failed": [{"line": 4, "detail": "This is not valid JSON."}],
        }
    )

    imported: int = Field(description="new conversations")
    unchanged: int = Field(description="conversations that the user has already")
    failed: list[FailedImport] = Field(description="at most 1,000; after that the import ends")


class Health(BaseModel):
    model_config = _example({"status": "ok", "ready": True, "service": "chat-api"})

    status: Literal["ok"] = "ok"
    ready: Literal[True] = True
    service: Literal["chat-api"] = "chat-api"


class Ready(BaseModel):
    model_config = _example(
        {"status": "ok", "checks": {"draining": "ok", "database": "ok", "migrations": "ok"}}
    )

    status: Literal["ok"] = "ok"
    checks: dict[str, str]


class FieldError(BaseModel):
    field: str
    reason: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    trace_id: str
    errors: list[FieldError] | None = None
