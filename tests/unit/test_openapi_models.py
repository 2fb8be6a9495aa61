"""What PostgreSQL writes is what the OpenAPI description promises, to the key."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from tests.unit.world import World

from chat_api.api.schemas.events import (
    EVENTS,
    DoneEvent,
    ErrorEvent,
    ReasoningEvent,
    ResetEvent,
    SnapshotEvent,
    StartEvent,
    TokenEvent,
)
from chat_api.api.schemas.responses import Conversation, Message
from chat_api.db import queries
from chat_api.db.queries import ConversationSettings
from chat_api.engines.engine import Usage
from chat_api.generation import events


def strict(model: type[BaseModel]) -> type[BaseModel]:
    """The same model, taking nothing more, and nothing of another type."""

    class Strict(model):  # type: ignore[valid-type,misc]  # its base is known at run time only
        model_config = ConfigDict(strict=True, extra="forbid")

    return Strict


def check(model: type[BaseModel], text: str | None) -> dict[str, Any]:
    """The document, which must have every key that the model requires, and no unknown one."""
    assert text is not None
    checked = strict(model).model_validate_json(text)
    document: dict[str, Any] = json.loads(text)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert required <= set(document) <= set(model.model_fields)
    for name, value in checked:
        if name.endswith("_at") and name in document:
            assert value.utcoffset() == timedelta(0)
            assert "T" in document[name]
    return document


async def test_a_conversation_is_as_described(world: World) -> None:
    conversation = await world.conversation()
    new = check(
        Conversation,
        await queries.read_conversation(world.pool, world.user, conversation),
    )
    assert new | {"created_at": "", "updated_at": ""} == {
        "id": conversation,
        "user_id": world.user,
        "title": "New conversation",
        "model_tag": "default",
        "is_favorited": False,
        "created_at": "",
        "updated_at": "",
        "instructions": None,
        "options": None,
        "tags": [],
        "metadata": {},
    }
    assert new["created_at"] == new["updated_at"]
    changed = check(
        Conversation,
        await queries.update_conversation(
            world.pool, world.user, conversation, ConversationSettings(is_favorited=True)
        ),
    )
    assert changed == new | {"is_favorited": True}
    (listed,) = await queries.list_conversations(world.pool, world.user, limit=5)
    assert check(Conversation, listed.json) == changed
    assert listed.id == conversation


async def test_a_created_conversation_is_as_described(world: World) -> None:
    text = await queries.create_conversation(
        world.pool,
        world.user,
        "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
        ConversationSettings("T", "m"),
    )
    created = check(Conversation, text)
    assert (created["title"], created["model_tag"]) == ("T", "m")
    await world.pool.fetch("DELETE FROM conversations WHERE user_id = $1", world.user)


# What an engine, or its failure, adds to a message, by status.
TOLD: dict[str, dict[str, Any]] = {
    "generating": {},
    "complete": {"reasoning": "Hm.\n", "finish_reason": "stop", "usage": (7, 3)},
    "stopped": {"reasoning": "Hm.\n"},
    "interrupted": {},
    "failed": {"error": "upstream_refused"},
}


@pytest.mark.parametrize("status", list(TOLD))
async def test_messages_are_as_described(status: str, world: World) -> None:
    conversation = await world.conversation()
    lease = await world.lease(conversation)
    told = TOLD[status]
    if status != "generating":
        counts = dict(zip(("input_tokens", "output_tokens"), told.get("usage", ()), strict=False))
        others = {name: value for name, value in told.items() if name != "usage"}
        await world.end(lease, "Because.", status=status, **others, **counts)
    found = await queries.open_conversation(
        world.pool, world.user, conversation, limit=2000, before=None
    )
    assert found is not None
    documents = [json.dumps(message) for message in json.loads(f"[{found.messages}]")]
    if found.running is not None:
        documents.append(found.running.json)
    question, answer = (check(Message, document) for document in documents)
    assert question | {"created_at": ""} == {
        "id": lease.question_id,
        "conversation_id": conversation,
        "role": "user",
        "content": "Why?",
        "status": "complete",
        "token_count": 0,
        "model_tag": "default",
        "inference_time_ms": 0,
        "created_at": "",
        "parent_id": None,
        "version": 1,
        "versions": 1,
        "reasoning": None,
        "finish_reason": None,
        "usage": None,
        "error": None,
    }
    ended = status != "generating"
    assert answer | {"created_at": ""} == {
        "id": lease.message_id,
        "conversation_id": conversation,
        "role": "assistant",
        "content": "Because." if ended else "",
        "status": status,
        "token_count": 1 if ended else 0,
        "model_tag": "default",
        "inference_time_ms": 7 if ended else 0,
        "created_at": "",
        "parent_id": lease.question_id,
        "version": 1,
        "versions": 1,
        "reasoning": told.get("reasoning"),
        "finish_reason": told.get("finish_reason"),
        "usage": {"input_tokens": 7, "output_tokens": 3} if "usage" in told else None,
        "error": told.get("error"),
    }
    read = await queries.read_message(world.pool, world.user, conversation, lease.message_id)
    assert read is not None
    assert check(Message, read) == answer
    assert await queries.read_last_answer(world.pool, world.user, conversation) == read


@pytest.mark.parametrize(
    "text",
    [
        'quotes " and \\ and / and </script>',
        "lines\r\n\t\x01\x1f\x7f",
        "😀 👩‍👩‍👧 مرحبا e\u0301 \u202e \u2028\u2029 \ufffd \uffff",
        "\n\ndata: {}",
    ],
)
async def test_text_comes_back_exactly(text: str, world: World) -> None:
    conversation = await world.conversation(text)
    await world.end(await world.lease(conversation, world.draft(text)), text)
    found = await queries.open_conversation(
        world.pool, world.user, conversation, limit=2000, before=None
    )
    assert found is not None
    messages = json.loads(f"[{found.messages}]")
    assert [check(Message, json.dumps(m))["content"] for m in messages] == [text, text]
    shown = check(
        Conversation,
        await queries.read_conversation(world.pool, world.user, conversation),
    )
    assert shown["title"] == text
    # The API puts these documents together as text: each must be one line's worth of JSON object.
    assert found.json.startswith("{")
    assert found.json.endswith("}")


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (StartEvent, events.start("c", "m", "q", 1)),
        (TokenEvent, events.token("Hel")),
        (ReasoningEvent, events.reasoning("Hm.")),
        (ResetEvent, events.reset(2)),
        (SnapshotEvent, events.snapshot("Hello")),
        (SnapshotEvent, events.snapshot("Hello", "Hm.")),
        (ErrorEvent, events.error("inference_refused", "It refused.")),
    ],
)
def test_events_are_as_described(model: type[BaseModel], data: bytes) -> None:
    check(model, data.decode())
    assert model in EVENTS


@pytest.mark.parametrize("kept", [None, "m0"])
@pytest.mark.parametrize("usage", [None, Usage(7, 3)])
def test_the_last_event_is_as_described(kept: str | None, usage: Usage | None) -> None:
    data = events.done(
        "m", "complete", 3, 7, kept, model_tag="small", finish_reason="stop", usage=usage
    )
    document = check(DoneEvent, data.decode())
    assert document["usage"] == (usage and {"input_tokens": 7, "output_tokens": 3})
