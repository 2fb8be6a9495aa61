"""Conversations and their items, and models."""

from datetime import datetime

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response
from uuid_utils import uuid7

from chat_api.api import paths  # noqa: F401  # `any_text`
from chat_api.api.responses import written_json
from chat_api.api.services import CurrentUser, Services, ServicesOf
from chat_api.auth import User
from chat_api.db import queries
from chat_api.db import responses as db_responses
from chat_api.db.creations import Creation
from chat_api.db.queries import ConversationSettings
from chat_api.db.shares import conversation_id_var
from chat_api.db.tree import Addition
from chat_api.dialects.openai import ids, objects, schemas
from chat_api.dialects.openai.errors import invalid
from chat_api.dialects.openai.objects import Json
from chat_api.dialects.openai.responses import (
    Body,
    Flag,
    IdempotencyHeader,
    RetryCount,
    is_repeat,
    read_key,
    read_limit,
    read_order,
)
from chat_api.dialects.openai.schemas import ConversationFields
from chat_api.errors import NotFound
from chat_api.telemetry import trace_id_var

router = APIRouter(prefix="/v1", include_in_schema=False)

_MOST_ITEMS = 20  # at once, as clients know it


def _ours(text: str) -> str:
    conversation_id = ids.ours("conv", text)
    conversation_id_var.set(conversation_id)
    return conversation_id


def _conversation(text: str) -> Json:
    found = orjson.loads(text)
    return {
        "id": ids.conversation_id(found["id"]),
        "object": "conversation",
        "created_at": int(datetime.fromisoformat(found["created_at"]).timestamp()),
        "metadata": found["metadata"],
    }


def _json(document: Json) -> Response:
    return written_json(objects.written(document))


def _additions(document: Json) -> list[Addition]:
    """Return the messages of `items`. Raise BadRequest."""
    given = document.get("items") or []
    if not isinstance(given, list) or len(given) > _MOST_ITEMS:
        raise invalid("items", f"is a list of at most {_MOST_ITEMS} items")
    entries = schemas.read_input(given, "items")
    if any(entry.is_reference for entry in entries):
        raise invalid("items", "refers to another item")
    return [Addition(str(uuid7()), entry.role, entry.content) for entry in entries if entry.content]


def _settings(document: Json) -> ConversationSettings:
    fields = schemas.validated(ConversationFields, document)
    metadata = fields.metadata
    return ConversationSettings(
        metadata=None if metadata is None else orjson.dumps(metadata).decode()
    )


async def _read(services: Services, user: User, conversation_id: str) -> Json:
    found = await queries.read_conversation(services.db, user.id, conversation_id)
    if found is None:
        raise NotFound
    return _conversation(found)


@router.post("/conversations")
async def create_conversation(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    document: Body,
    retry_count: RetryCount = None,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Create a conversation, with items if the body has some."""
    settings, additions = _settings(document), _additions(document)
    key = read_key(request, idempotency_key)
    creation = None
    if key is not None or retry_count is not None:
        creation = Creation(
            schemas.fingerprint(user.id, {"conversations": document}),
            key,
            is_repeat(retry_count),
            len(additions),
        )
    created = await services.trees.create(user.id, settings, additions, creation)
    return _json(_conversation(created))


@router.get("/conversations/{conversation_id}")
async def retrieve_conversation(
    services: ServicesOf, user: CurrentUser, conversation_id: str
) -> Response:
    """Return the conversation. Raise NotFound."""
    return _json(await _read(services, user, _ours(conversation_id)))


@router.post("/conversations/{conversation_id}")
async def update_conversation(
    services: ServicesOf, user: CurrentUser, conversation_id: str, document: Body
) -> Response:
    """Change the conversation's fields, and return it. Raise NotFound."""
    changed = await queries.update_conversation(
        services.db, user.id, _ours(conversation_id), _settings(document)
    )
    if changed is None:
        raise NotFound
    return _json(_conversation(changed))


@router.delete("/conversations/{conversation_id}")
async def delete_conversation(
    services: ServicesOf, user: CurrentUser, conversation_id: str
) -> Response:
    """Delete the conversation with its items; a running answer is stopped."""
    await services.deletions.delete_conversation(user.id, _ours(conversation_id))
    return _json({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.post("/conversations/{conversation_id}/items")
async def create_items(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: str,
    document: Body,
    retry_count: RetryCount = None,
) -> Response:
    """Add items to the end of the conversation, and return them as a list."""
    ours, additions = _ours(conversation_id), _additions(document)
    if not additions:
        await _read(services, user, ours)
        raise invalid("items", "has no message")
    message_ids = await services.trees.append(
        user.id, ours, additions, is_repeat=is_repeat(retry_count)
    )
    found = [
        objects.stored_item(
            {
                "id": message_id,
                "role": added.role,
                "content": added.content,
                "status": "complete",
                "token_count": 0,
                "inference_time_ms": 0,
                "finish_reason": None,
                "usage": None,
                "error": None,
            }
        )
        for message_id, added in zip(message_ids, additions, strict=True)
    ]
    return _json(objects.listing(found, has_more=False))


@router.get("/conversations/{conversation_id}/items")
async def list_items(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: str,
    limit: Flag = None,
    order: Flag = None,
    after: Flag = None,
) -> Response:
    """Return a page of the shown items, newest first by default."""
    ours = _ours(conversation_id)
    await _read(services, user, ours)
    most = read_limit(limit)
    found = await db_responses.read_items(
        services.db,
        user.id,
        ours,
        after=None if after is None else ids.ours("msg", after),
        limit=most + 1,
        newest_first=read_order(order) == "desc",
    )
    items = [objects.stored_item(orjson.loads(message)) for message in found[:most]]
    return _json(objects.listing(items, has_more=len(found) > most))


@router.get("/conversations/{conversation_id}/items/{item_id}")
async def retrieve_item(
    services: ServicesOf, user: CurrentUser, conversation_id: str, item_id: str
) -> Response:
    """Return one item. Raise NotFound."""
    message = await queries.read_message(
        services.db, user.id, _ours(conversation_id), ids.ours("msg", item_id)
    )
    if message is None:
        raise NotFound
    return _json(objects.stored_item(orjson.loads(message)))


@router.delete("/conversations/{conversation_id}/items/{item_id}")
async def delete_item(
    services: ServicesOf, user: CurrentUser, conversation_id: str, item_id: str
) -> Response:
    """Delete the item with what follows it, and return the conversation."""
    ours = _ours(conversation_id)
    await services.trees.delete_message(user.id, ours, ids.ours("msg", item_id))
    return _json(await _read(services, user, ours))


# --- models ---------------------------------------------------------------------------------------


async def _models(services: Services) -> list[Json]:
    """Return the available models. Entries without a name are left out."""
    listed = orjson.loads(await services.engines.list_models(trace_id_var.get()))
    models = listed.get("models") if isinstance(listed, dict) else None
    return [
        {"id": tag, "object": "model", "created": 0, "owned_by": "samosachaat"}
        for model in (models if isinstance(models, list) else [])
        if isinstance(model, dict) and model.get("available") is not False
        if isinstance(tag := model.get("model_tag"), str) and tag
    ]


@router.get("/models")
async def list_models(services: ServicesOf, _user: CurrentUser) -> Response:
    """Return the available models as a list."""
    return _json({"object": "list", "data": await _models(services)})


@router.get("/models/{model:any_text}")
async def retrieve_model(services: ServicesOf, _user: CurrentUser, model: str) -> Response:
    """Return one available model. Raise NotFound."""
    for found in await _models(services):
        if found["id"] == model:
            return _json(found)
    raise NotFound(fields={"param": "model", "code": "model_not_found"})
