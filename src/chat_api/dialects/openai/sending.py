"""Sending a request for a response: its place in a conversation, and its generation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from uuid_utils import uuid7

from chat_api.api.services import Services
from chat_api.auth import User
from chat_api.conversations.titles import title_of
from chat_api.db import responses as db_responses
from chat_api.db.idempotency import IdempotencyKey
from chat_api.db.responses import KeptRequest
from chat_api.db.shares import conversation_id_var
from chat_api.db.tree import Addition
from chat_api.dialects.openai import ids, schemas
from chat_api.dialects.openai.errors import invalid
from chat_api.dialects.openai.objects import Echo, Json
from chat_api.dialects.openai.schemas import Entry, NewResponse
from chat_api.errors import NotFound
from chat_api.generation.options import Options
from chat_api.generation.sink import Sink
from chat_api.generation.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request's messages go, and which of them are new."""

    conversation_id: str
    at: str | None
    new: Sequence[Entry]
    creates: bool = False
    is_stored: bool = False
    """Whether the messages are there already, at the end of the shown path."""


async def find_place(
    services: Services, user: User, asked: NewResponse, document: Json, entries: Sequence[Entry]
) -> Place:
    """Return where the messages go. Raise NotFound or BadRequest.

    Clients send whole histories: what comes before a message of ours, and that message, are there
    already.
    """
    conversation = schemas.conversation_of(document)
    if conversation is not None and asked.previous_response_id is not None:
        raise invalid("previous_response_id", "cannot be given together with 'conversation'")
    messages = [entry for entry in entries if entry.role != "system"]
    known = await _known(services, user, messages)
    last = max((i for i, entry in enumerate(messages) if entry.id in known), default=-1)
    new = [entry for entry in messages[last + 1 :] if entry.content]  # a blank answer is no message
    if not new or new[-1].role != "user":
        raise invalid("input", "does not end with a new message of the user")
    if conversation is not None:
        return Place(ids.ours("conv", conversation), None, new)
    if asked.previous_response_id is not None:
        previous = ids.ours("resp", asked.previous_response_id)
        stored = await db_responses.read(services.db, user.id, previous)
        if stored is None:
            raise NotFound
        return Place(stored.conversation_id, previous, new)
    if last >= 0:
        item_id = messages[last].id or ""
        at = ids.find("msg", item_id)
        if await _is_asked_already(services, user, known[item_id], at, new):
            return Place(known[item_id], None, new, is_stored=True)
        return Place(known[item_id], at, new)
    return Place(str(uuid7()), None, new, creates=True)


async def _is_asked_already(
    services: Services, user: User, conversation_id: str, at: str | None, new: Sequence[Entry]
) -> bool:
    """Return whether the new messages are all that is shown after `at`, without an answer.

    The Agents SDK adds a question to its conversation before it asks for the answer.
    """
    found = await db_responses.read_items(
        services.db, user.id, conversation_id, after=at, limit=len(new) + 1, newest_first=False
    )
    shown = [orjson.loads(message) for message in found]
    return [(message["role"], message["content"]) for message in shown] == [
        (entry.role, entry.content) for entry in new
    ]


async def _known(services: Services, user: User, entries: Sequence[Entry]) -> dict[str, str]:
    """Return the conversation of each entry that is a message of the user's, by its id.

    Raise NotFound for a reference to anything else.
    """
    ours = {
        entry.id: ours_id
        for entry in entries
        if entry.id is not None and (ours_id := ids.find("msg", entry.id)) is not None
    }
    found = (
        await db_responses.find_conversations(services.db, user.id, list(ours.values()))
        if ours
        else {}
    )
    known = {name: found[ours_id] for name, ours_id in ours.items() if ours_id in found}
    if any(entry.is_reference and entry.id not in known for entry in entries):
        raise NotFound
    return known


def echo_of(asked: NewResponse, place: Place) -> Echo:
    """Return the fields of the request that the response repeats."""
    reasoning, text = asked.reasoning, asked.text
    return Echo(
        created_at=int(time.time()),
        model=asked.model or "default",
        background=bool(asked.background),
        previous_response_id=asked.previous_response_id,
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        effort=None if reasoning is None else reasoning.effort,
        summary=None if reasoning is None else reasoning.summary,
        text_format=(text and text.format) or {"type": "text"},
        metadata=asked.metadata or {},
        inputs=len(place.new),
    )


async def send(
    services: Services,
    user: User,
    asked: NewResponse,
    place: Place,
    echo: Echo,
    *,
    instructions: str | None,
    fingerprint: bytes,
    is_repeat: bool,
    idempotency: IdempotencyKey | None,
    message_id: str,
    sink: Sink,
) -> Subscription:
    """Begin the generation, or find the one that the request repeats, and subscribe to it.

    Raise what `SendPolicy.send` raises.
    """
    conversation_id_var.set(place.conversation_id)
    *before, question = place.new
    is_shown = bool(asked.stream or asked.background)
    return await services.sends.send(
        user.id,
        place.conversation_id,
        content=None if place.is_stored else question.content,
        title=title_of(place.new[0].content),
        options=Options(
            temperature=asked.temperature,
            max_tokens=asked.most_tokens,
            thinking_mode=asked.thinks,
            top_p=asked.top_p,
            response_format=asked.response_format,
            instructions=instructions,
            # No client reads the pieces of an answer that is returned whole.
            on_crash="interrupt" if is_shown else None,
        ),
        model_tag=asked.model,
        idempotency=idempotency,
        sink=sink,
        one_attempt=False,
        at=place.at,
        message_id=message_id,
        before=[]
        if place.is_stored
        else [Addition(str(uuid7()), entry.role, entry.content) for entry in before],
        creates=place.creates,
        request=KeptRequest(echo.as_json(), echo.background, fingerprint, is_repeat),
    )
