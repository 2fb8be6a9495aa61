"""The events of streams, and how the OpenAPI description shows a stream."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field

from chat_api.api.schemas.responses import (
    Conversation,
    FinishReason,
    Status,
    Usage,
    without_default,
)


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
        json_schema_extra=without_default,
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


def event_stream(example: str) -> dict[str, Any]:
    """Return the OpenAPI description of a generation's stream."""
    names = [next(iter(event.model_fields)) for event in EVENTS]
    other = {
        "description": "any other field of the inference service's response",
        "type": "object",
        "not": {"anyOf": [{"required": [name]} for name in names]},
    }
    return _stream([*_references(EVENTS), other], "event-id", example)


def change_stream(example: str) -> dict[str, Any]:
    """Return the OpenAPI description of the change feed's stream."""
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
