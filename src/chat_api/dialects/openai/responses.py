"""Responses: create, retrieve, resume, cancel, delete, input items."""

import re
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response
from uuid_utils import uuid7

from chat_api import sse
from chat_api.api.bodies import json_document
from chat_api.api.messages import KEY
from chat_api.api.responses import written_json
from chat_api.api.services import CurrentUser, Services, ServicesOf, services_of
from chat_api.api.streaming.connection import connection_of
from chat_api.api.streaming.open_stream import OpenStream, UserStream
from chat_api.api.streaming.response import EventStream, run_to_end
from chat_api.auth import User
from chat_api.db import responses as db_responses
from chat_api.db.idempotency import IdempotencyKey
from chat_api.db.responses import StoredResponse
from chat_api.dialects.openai import ids, objects, schemas, sending
from chat_api.dialects.openai.errors import invalid
from chat_api.dialects.openai.objects import Echo, Json
from chat_api.dialects.openai.translator import Translator
from chat_api.dialects.translated import Translated
from chat_api.errors import NotAuthenticated, NotFound, Superseded
from chat_api.generation import events
from chat_api.generation.sink import Discard
from chat_api.telemetry import trace_id_var

router = APIRouter(prefix="/v1/responses", include_in_schema=False)

# The fields of a message that its `done` event has.
_DONE = ("status", "token_count", "inference_time_ms", "finish_reason", "usage")
# Clients send the whole history each time.
_MOST_BODY_BYTES = 4 * 1024 * 1024


async def body(request: Request, _user: CurrentUser) -> Json:
    """Return the body's object. Raise BadRequest and the like."""
    limit = max(_MOST_BODY_BYTES, services_of(request).settings.max_body_bytes)
    return schemas.as_object(await json_document(request, limit))


_LIMIT = re.compile("[1-9][0-9]?|100")

Body = Annotated[dict[str, Any], Depends(body)]
Flag = Annotated[str | None, Query()]
RetryCount = Annotated[str | None, Header(alias="x-stainless-retry-count")]
IdempotencyHeader = Annotated[str | None, Header(alias="idempotency-key")]


def is_repeat(retry_count: str | None) -> bool:
    """Return whether the client says that it sends the request again."""
    return retry_count not in (None, "", "0")


def read_key(request: Request, sent: str | None) -> str | None:
    """Return the key of an Idempotency-Key header. Raise BadRequest."""
    if sent is None:
        return None
    found = KEY.fullmatch(sent)
    if found is None or len(request.headers.getlist("idempotency-key")) > 1:
        raise invalid("Idempotency-Key", "is not 1 to 255 printable ASCII characters")
    return found[1] or found[2]


@router.post("")
async def create_response(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    stream: UserStream,
    document: Body,
    retry_count: RetryCount = None,
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    asked = schemas.read_response(document)
    entries = schemas.read_input(document.get("input"))
    if asked.model is not None and not await services.engines.knows(
        asked.model, trace_id_var.get()
    ):
        raise invalid("model", "is no model of this service", code="model_not_found")
    place = await sending.find_place(services, user, asked, document, entries)
    echo = sending.echo_of(asked, place)
    fingerprint = schemas.fingerprint(user.id, document)
    key = read_key(request, idempotency_key)
    message_id = str(uuid7())
    translator = Translator(message_id, place.conversation_id, echo)
    sink = Translated(connection_of(request), translator) if asked.stream else None
    subscription = await sending.send(
        services,
        user,
        asked,
        place,
        echo,
        instructions=schemas.instructions_of(asked, entries),
        fingerprint=fingerprint,
        is_repeat=is_repeat(retry_count),
        idempotency=None if key is None else IdempotencyKey(key, fingerprint),
        message_id=message_id,
        sink=sink or Discard(),
    )
    if subscription.message_id != message_id and sink is not None:
        stored = await _read(services, user, subscription.message_id)
        translator.belong_to(stored.message_id, stored.conversation_id, _echo(stored))
    if sink is not None:
        stream.follow(subscription)
        return EventStream(subscription, stream, sink=sink)
    if asked.background:
        subscription.close()
        return await _described(services, user, subscription.message_id)
    stream.follow(subscription)
    await run_to_end(subscription, stream, request.receive)
    if stream.refused:
        raise NotAuthenticated("The access token is no longer valid.", invalid_token=True)
    stored = await _read(services, user, subscription.message_id)
    if orjson.loads(stored.message)["status"] == "generating":
        raise Superseded("Another replica is writing the answer. Send the request again.")
    return await _described(services, user, subscription.message_id)


@router.get("/{response_id}")
async def retrieve_response(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    place: UserStream,
    response_id: str,
    stream: Flag = None,
    starting_after: Flag = None,
) -> Response:
    """Return the response, or its events if it is one in the background."""
    stored = await _read(services, user, ids.ours("resp", response_id))
    if stream in (None, "", "false", "0"):
        return await _described(services, user, stored.message_id)
    if stream not in ("true", "1"):
        raise invalid("stream", "is true or false")
    echo = _echo(stored)
    if not echo.background:
        raise invalid("stream", "is only for responses in the background")
    translator = Translator(
        stored.message_id,
        stored.conversation_id,
        echo,
        after=_cursor(starting_after),
        last_number=stored.last_number,
    )
    if not stored.has_log:
        return Response(_saved(stored, translator), headers=sse.HEADERS)
    return await _resumed(request, services, stored, place, translator)


async def _resumed(
    request: Request,
    services: Services,
    stored: StoredResponse,
    place: OpenStream,
    translator: Translator,
) -> Response:
    sink = Translated(connection_of(request), translator)
    subscription = await services.joins.read(stored.message_id, stored.attempt, sink, from_log=True)
    place.follow(subscription)
    return EventStream(subscription, place, sink=sink)


def _cursor(text: str | None) -> int:
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("starting_after", "is no sequence number")
    return int(text)


def _saved(stored: StoredResponse, translator: Translator) -> bytes:
    """Return the events of a response whose log is gone."""
    message = orjson.loads(stored.message)
    happened = [events.snapshot(message["content"], message["reasoning"] or "")]
    if message["error"] is not None:
        happened.append(events.error(message["error"], ""))
    happened.append(orjson.dumps({"done": True, **{name: message[name] for name in _DONE}}))
    return b"".join(translator.translate(0, 0, event) for event in happened)


@router.post("/{response_id}/cancel")
async def cancel_response(services: ServicesOf, user: CurrentUser, response_id: str) -> Response:
    """Stop the response if it runs, and return it as it is then."""
    stored = await _read(services, user, ids.ours("resp", response_id))
    await _halt(services, stored)
    return await _described(services, user, stored.message_id)


@router.delete("/{response_id}")
async def delete_response(services: ServicesOf, user: CurrentUser, response_id: str) -> Response:
    """Delete the response; it is stopped first."""
    stored = await _read(services, user, ids.ours("resp", response_id))
    await _halt(services, stored)
    await services.trees.delete_message(user.id, stored.conversation_id, stored.message_id)
    document = {"id": response_id, "object": "response", "deleted": True}
    return written_json(objects.written(document))


@router.get("/{response_id}/input_items")
async def list_input_items(
    services: ServicesOf,
    user: CurrentUser,
    response_id: str,
    limit: Flag = None,
    order: Flag = None,
    after: Flag = None,
) -> Response:
    stored = await _read(services, user, ids.ours("resp", response_id))
    found = await db_responses.read_inputs(
        services.db, user.id, stored.message_id, _echo(stored).inputs
    )
    items = [objects.stored_item(orjson.loads(message)) for message in found]
    if read_order(order) == "asc":
        items.reverse()
    if after is not None:
        names = [item["id"] for item in items]
        if after not in names:
            raise NotFound
        items = items[names.index(after) + 1 :]
    most = read_limit(limit)
    return written_json(objects.written(objects.listing(items[:most], has_more=len(items) > most)))


def read_limit(text: str | None) -> int:
    """Return how many items a page has. Raise BadRequest."""
    if text is None:
        return 20
    if _LIMIT.fullmatch(text) is None:
        raise invalid("limit", "is 1 to 100")
    return int(text)


def read_order(text: str | None) -> str:
    """Return `asc` or `desc`. Raise BadRequest."""
    if text not in (None, "asc", "desc"):
        raise invalid("order", "is asc or desc")
    return text or "desc"


async def _read(services: Services, user: User, message_id: str) -> StoredResponse:
    stored = await db_responses.read(services.db, user.id, message_id)
    if stored is None:
        raise NotFound
    return stored


async def _halt(services: Services, stored: StoredResponse) -> None:
    if orjson.loads(stored.message)["status"] == "generating":
        await services.stops.halt(stored.message_id)


def _echo(stored: StoredResponse) -> Echo:
    """Return the stored fields of the request; requests of our own API have none."""
    if stored.echo is not None:
        return Echo.from_json(stored.echo)
    model = orjson.loads(stored.message)["model_tag"]
    return Echo(created_at=stored.created_at, model=model)


async def _described(services: Services, user: User, message_id: str) -> Response:
    """Return the response as it is now."""
    stored = await _read(services, user, message_id)
    message = orjson.loads(stored.message)
    ended = None
    if message["status"] == "generating":
        so_far = await services.joins.written_so_far(message_id)
        message |= {"content": so_far.text, "reasoning": so_far.reasoning}
    else:
        ended = objects.ended_message(message)
    document = objects.response(
        message_id, stored.conversation_id, _echo(stored), objects.stored_output(message), ended
    )
    return written_json(objects.written(document))
