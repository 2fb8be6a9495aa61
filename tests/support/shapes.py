"""The shapes of the wire contract, checked to the key."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx2

CONVERSATION = {
    "id",
    "user_id",
    "title",
    "model_tag",
    "is_favorited",
    "created_at",
    "updated_at",
    "instructions",
    "options",
    "tags",
    "metadata",
}
MESSAGE = {
    "id",
    "conversation_id",
    "role",
    "content",
    "status",
    "token_count",
    "model_tag",
    "inference_time_ms",
    "created_at",
    "reasoning",
    "finish_reason",
    "usage",
    "error",
    "parent_id",
    "version",
    "versions",
}
OPENED = {"messages", "next_before"}
"""What is added where a conversation is shown with its messages."""
EMPTY: dict[str, Any] = {"messages": [], "next_before": None}
LIST_PAGE = {"items", "grouped", "limit", "offset", "next_cursor"}
PROBLEM = {"type", "title", "status", "detail", "trace_id"}
STATUSES = {"generating", "complete", "stopped", "interrupted", "failed"}
NOWHERE = "00000000-0000-4000-8000-000000000000"
"""An id that no conversation has."""


def moment(text: Any) -> datetime:
    """A time of the contract: ISO 8601 in UTC with an offset."""
    assert isinstance(text, str)
    parsed = datetime.fromisoformat(text)
    assert parsed.utcoffset() == timedelta(0), f"{text} is not in UTC, or has no offset"
    return parsed


def check_conversation(conversation: dict[str, Any], *, messages: bool = False) -> None:
    """A conversation has exactly these keys, of these types."""
    assert set(conversation) == (CONVERSATION | OPENED if messages else CONVERSATION)
    uuid.UUID(conversation["id"])
    assert isinstance(conversation["user_id"], str)
    assert isinstance(conversation["title"], str)
    assert isinstance(conversation["model_tag"], str)
    assert isinstance(conversation["is_favorited"], bool)
    assert moment(conversation["created_at"]) <= moment(conversation["updated_at"])
    for message in conversation.get("messages", []):
        check_message(message)
        assert message["conversation_id"] == conversation["id"]


def check_message(message: dict[str, Any]) -> None:
    """A message has exactly these keys, of these types."""
    assert set(message) == MESSAGE
    uuid.UUID(message["id"])
    assert message["role"] in {"user", "assistant", "system"}
    assert isinstance(message["content"], str)
    assert message["status"] in STATUSES
    assert type(message["token_count"]) is int
    assert type(message["inference_time_ms"]) is int
    assert isinstance(message["model_tag"], str)
    moment(message["created_at"])
    if message["parent_id"] is not None:
        uuid.UUID(message["parent_id"])
    assert 1 <= message["version"] <= message["versions"]
    if message["role"] == "user":
        assert message["status"] == "complete"
        assert (message["token_count"], message["inference_time_ms"]) == (0, 0)


def check_problem(response: httpx2.Response, status: int, *extra: str) -> dict[str, Any]:
    """A problem of RFC 9457 with this status, and `extra` members; it is returned."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"].split(";")[0] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert set(problem) == PROBLEM | set(extra)
    assert problem["status"] == status
    assert problem["trace_id"] == response.headers["x-trace-id"]
    for name in ("type", "title", "detail"):
        assert isinstance(problem[name], str)
        assert problem[name]
    assert "Traceback" not in response.text
    return problem


def check_invalid(response: httpx2.Response, field: str | None = None) -> dict[str, Any]:
    """A 422 that says which field is wrong and why; `field` must be among them."""
    problem = check_problem(response, 422, "errors")
    assert problem["errors"]
    for error in problem["errors"]:
        assert set(error) == {"field", "reason"}
        assert isinstance(error["field"], str)
        assert isinstance(error["reason"], str)
        assert error["reason"]
    if field is not None:
        assert field in {error["field"] for error in problem["errors"]}
    return problem
