"""The bodies of requests and responses, as the OpenAPI description shows them.

Requests are validated by these models. Responses are written by PostgreSQL or by hand; a test holds
them against the models.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chat_api.text import BLANK_CLASS, is_blank

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> str:
    if _NOT_STORABLE.search(text):
        raise ValueError("holds a character (NUL or a lone surrogate) that cannot be stored")
    return text


def _says_something(text: str) -> str:
    if is_blank(text):
        raise ValueError("is blank")
    return text


# For the description only: the validators give better error messages.
TEXT_PATTERN = {"pattern": rf"^[^\u0000]*[^\u0000{BLANK_CLASS}][^\u0000]*$"}
Text = Annotated[str, AfterValidator(is_storable), AfterValidator(_says_something)]
Title = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=500,
        examples=["Samosas for a party"],
        json_schema_extra=TEXT_PATTERN,
    ),
]
ModelTag = Annotated[
    Text, Field(min_length=1, max_length=100, examples=["default"], json_schema_extra=TEXT_PATTERN)
]


def whole_number(value: object) -> object:
    """JSON has one kind of number, and JSON Schema counts 40.0 among the integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: object) -> object:
    """Accept a single text as a list of one."""
    return [value] if isinstance(value, str) else value


def _few(value: list[str] | None) -> list[str] | None:
    if value is not None and not (
        1 <= len(value) <= 4 and all(1 <= len(is_storable(text)) <= 100 for text in value)
    ):
        raise ValueError("is 1 to 4 texts of 1 to 100 characters")
    return value


def is_format(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None and value.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError("has a type: text, json_object or json_schema")
    try:
        written = orjson.dumps(value)
    except TypeError:  # lone surrogates, huge integers, too many levels
        raise ValueError("holds what cannot be stored") from None
    if b"\\u0000" in written:
        raise ValueError("holds what cannot be stored")
    return value


MaxTokens = Annotated[int, Field(ge=1, le=4096), BeforeValidator(whole_number)]
TopK = Annotated[int, Field(ge=0, le=200), BeforeValidator(whole_number)]


class Request(BaseModel):
    """Base of the request bodies: strict types, unknown fields ignored, null means absent."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class ConversationOptions(Request):
    """Defaults for the answers of one conversation."""

    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False, examples=[0.7])] = (
        None
    )
    max_tokens: Annotated[MaxTokens | None, Field(examples=[512])] = None
    top_k: Annotated[TopK | None, Field(examples=[40])] = None
    thinking_mode: bool | None = None


_STORABLE = {"pattern": r"^[^\u0000]*$"}
Storable = Annotated[str, AfterValidator(is_storable)]
Instructions = Annotated[
    Storable,
    Field(
        max_length=8000,
        description="the system prompt of this conversation; a blank one counts as null",
        examples=["Answer in one sentence."],
        json_schema_extra=_STORABLE,
    ),
]
Tag = Annotated[
    Text, Field(min_length=1, max_length=50, examples=["work"], json_schema_extra=TEXT_PATTERN)
]
Tags = Annotated[list[Tag], Field(max_length=20, description="duplicates are removed")]
MetadataKey = Annotated[Storable, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[Storable, Field(max_length=512, json_schema_extra=_STORABLE)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(
        max_length=16,
        examples=[{"client": "phone"}],
        json_schema_extra={"propertyNames": {"minLength": 1, "maxLength": 64, **_STORABLE}},
    ),
]
# Checked by `services.checked_id`: what is no id is the same 404 as an unknown one.
AnyId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _written_as_a_time(value: object) -> object:
    """Return the value; raise ValueError for what is no time of RFC 3339, such as a number."""
    if value is not None and (not isinstance(value, str) or _TIME.fullmatch(value) is None):
        raise ValueError("is not a time with an offset such as 2026-11-25T12:00:00Z")
    return value


def _to_come(value: datetime) -> datetime:
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None
    if in_utc <= datetime.now(UTC):
        raise ValueError("is in the past")
    return in_utc


ExpiresAt = Annotated[
    datetime,
    Field(
        strict=False,
        description="when the conversation is deleted, a time to come; null: never",
        examples=["2099-01-01T00:00:00Z"],
    ),
    BeforeValidator(_written_as_a_time),
    AfterValidator(_to_come),
]


class ConversationFields(Request):
    title: Title | None = None
    model_tag: ModelTag | None = None
    instructions: Instructions | None = None
    options: ConversationOptions | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    expires_at: ExpiresAt | None = None


class ForkedFrom(Request):
    conversation_id: AnyId
    message_id: AnyId


class NewConversation(ConversationFields):
    fork: Annotated[
        ForkedFrom | None,
        Field(description="begin with a copy of the path to this message"),
    ] = None


class Rename(Request):
    title: Title


class ConversationChange(ConversationFields):
    is_favorited: Annotated[bool | None, Field(examples=[True])] = None


class AnswerOptions(Request):
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False, examples=[0.7])] = (
        None
    )
    max_tokens: Annotated[MaxTokens | None, Field(examples=[512])] = None
    top_k: Annotated[TopK | None, Field(examples=[40])] = None
    thinking_mode: bool | None = None
    force_web_search: bool | None = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False, examples=[0.9])] = None
    stop: Annotated[
        list[
            Annotated[
                str,
                Field(
                    json_schema_extra={"minLength": 1, "maxLength": 100, "pattern": r"^[^\u0000]*$"}
                ),
            ]
        ]
        | None,
        BeforeValidator(_listed),
        AfterValidator(_few),
        Field(
            json_schema_extra={"minItems": 1, "maxItems": 4},
            examples=[["\n\n"]],
            description="texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may "
            "come without a list",
        ),
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Field(
            json_schema_extra={
                "required": ["type"],
                "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
            },
            examples=[{"type": "json_object"}],
            description="as in OpenAI's Chat Completions; engines without support ignore it",
        ),
        AfterValidator(is_format),
    ] = None
    model_tag: Annotated[
        ModelTag | None,
        Field(description="the model for this answer, instead of the conversation's"),
    ] = None
    if_busy: Annotated[
        Literal["reject", "stop"] | None,
        Field(
            description="while an answer runs: 409, or stop it; without it, it is stopped where "
            "no client reads it"
        ),
    ] = None


class Regeneration(AnswerOptions):
    message_id: Annotated[
        AnyId | None, Field(description="an answer; default: the last shown one")
    ] = None


class NewMessage(AnswerOptions):
    parent_id: Annotated[
        AnyId | None,
        Field(
            description="the message to add it after; the last one shown without it, null for a "
            "new first message"
        ),
    ] = None
    content: Annotated[
        Text,
        Field(
            min_length=1,
            max_length=8000,
            examples=["What is the capital of France?"],
            json_schema_extra=TEXT_PATTERN,
        ),
    ]


class ShownPath(Request):
    message_id: AnyId


class Swap(Request):
    model_tag: ModelTag


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


def _without_default(schema: dict[str, Any]) -> None:
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
        json_schema_extra=_without_default,
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


Limit = Annotated[
    int,
    Field(ge=0, le=10**15, description="null: the setting's value; 0: no limit"),
    BeforeValidator(whole_number),
]
_LIMITS: dict[str, Any] = {"answers_per_day": 200, "tokens_per_day": None}


class NewUserLimits(Request):
    model_config = ConfigDict(json_schema_extra={"examples": [_LIMITS]})

    answers_per_day: Limit | None = None
    tokens_per_day: Limit | None = None


class UserLimitsRead(BaseModel):
    model_config = _example(
        {
            "user_id": _CONVERSATION["user_id"],
            **_LIMITS,
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
                    "details": _LIMITS,
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


class _Event(BaseModel):
    """The data of one event of a stream. Clients pass over fields that they do not know."""


class Started(BaseModel):
    conversation_id: str
    message_id: str
    user_message_id: str
    attempt: int


class StartEvent(_Event):
    start: Started


class TokenEvent(_Event):
    token: str


class ReasoningEvent(_Event):
    reasoning: str = Field(
        description="a piece of the model's thinking, which is no part of the text"
    )


class Attempt(BaseModel):
    attempt: int


class ResetEvent(_Event):
    reset: Attempt


class TextSoFar(BaseModel):
    content: str
    reasoning: str | None = Field(
        default=None,
        description="the thinking so far, where there is any",
        json_schema_extra=_without_default,
    )


class SnapshotEvent(_Event):
    snapshot: TextSoFar


class ErrorEvent(_Event):
    error: str
    detail: str


class DoneEvent(_Event):
    done: Literal[True]
    message_id: str
    status: Status
    token_count: int
    inference_time_ms: int
    model_tag: str
    finish_reason: FinishReason | None
    usage: Usage | None
    kept_message_id: str | None = Field(
        default=None, description="the old answer that an undone regeneration leaves in place"
    )


EVENTS: tuple[type[_Event], ...] = (
    StartEvent,
    TokenEvent,
    ReasoningEvent,
    ResetEvent,
    SnapshotEvent,
    ErrorEvent,
    DoneEvent,
)


class CursorEvent(_Event):
    """The position at which the changes start."""

    cursor: Literal[True]


class ConversationEvent(_Event):
    """The newest state of a conversation that was created or has changed."""

    conversation: Conversation


class DeletedEvent(_Event):
    deleted: str = Field(description="the conversation's id")


class ChangedAnswer(BaseModel):
    conversation_id: str
    message_id: str
    status: Status


class AnswerEvent(_Event):
    """An answer that began or ended."""

    answer: ChangedAnswer


class ResyncEvent(_Event):
    """The cursor is too old or unknown: load the list again."""

    resync: Literal[True]


CHANGES: tuple[type[_Event], ...] = (
    CursorEvent,
    ConversationEvent,
    DeletedEvent,
    AnswerEvent,
    ResyncEvent,
)


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


def event_stream(example: str) -> dict[str, Any]:
    """The OpenAPI description of a generation's stream."""
    names = [next(iter(event.model_fields)) for event in EVENTS]
    other = {
        "description": "any other field of the inference service's response",
        "type": "object",
        "not": {"anyOf": [{"required": [name]} for name in names]},
    }
    return _stream([*_references(EVENTS), other], "event-id", example)


def change_stream(example: str) -> dict[str, Any]:
    """The OpenAPI description of the change feed's stream."""
    return _stream(_references(CHANGES), "change-id", example)


def _references(events: Iterable[type[_Event]]) -> list[dict[str, Any]]:
    return [{"$ref": f"#/components/schemas/{event.__name__}"} for event in events]


def _stream(events: list[dict[str, Any]], id_format: str, example: str) -> dict[str, Any]:
    """Return the description of each event of a stream (`itemSchema` of OpenAPI 3.2)."""
    event = {
        "type": "object",
        "required": ["id", "data"],
        "properties": {
            "id": {"type": "string", "format": id_format},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": events},
            },
        },
    }
    return {"itemSchema": event, "example": example}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return the schema with its definitions in place of references to them."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}


def request_body(model: type[Request], *, required: bool) -> dict[str, Any]:
    """The OpenAPI description of a body that `api.bodies` reads."""
    schema = model.model_json_schema()
    # The description has no place for a model's own definitions.
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": schema}},
        }
    }
