"""Messages: send one and stream its answer, regenerate, join and stop."""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from chat_api.api.bodies import json_body
from chat_api.api.responses import problems, with_text, written_json
from chat_api.api.schemas.events import event_stream
from chat_api.api.schemas.requests import AnswerOptions, NewMessage, Regeneration, request_body
from chat_api.api.schemas.responses import Message, Versions
from chat_api.api.services import (
    ConversationId,
    CurrentUser,
    MessageId,
    Services,
    ServicesOf,
    checked_id,
)
from chat_api.api.streaming.connection import connection_of
from chat_api.api.streaming.open_stream import OpenStream, UserStream
from chat_api.api.streaming.response import EventStream, run_to_end
from chat_api.auth import User
from chat_api.conversations.titles import title_of
from chat_api.db import queries
from chat_api.db.idempotency import IdempotencyKey
from chat_api.db.queries import MOST_LISTED
from chat_api.errors import (
    BadRequest,
    Invalid,
    NotAuthenticated,
    NotFound,
    Superseded,
    inference_failure,
)
from chat_api.generation.events import Cursor
from chat_api.generation.options import Options
from chat_api.generation.sink import Discard
from chat_api.generation.subscription import Subscription
from chat_api.telemetry import trace_id_var

router = APIRouter(prefix="/api/conversations/{conversation_id}", tags=["messages"])

KEY = re.compile(r'"([ !#-\[\]-~]{1,255})"|([!#-~]{1,255})')
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A repeat with the same key and body joins the answer of the first request",
        json_schema_extra={"pattern": f"^({KEY.pattern})$"},
    ),
]
_EXAMPLE = (
    "retry: 1000\n\n"
    'id: 0a3a3e1fb0a1.1.0\ndata: {"start":{"conversation_id":"…","message_id":"…",'
    '"user_message_id":"…","attempt":1}}\n\n'
    'id: 0a3a3e1fb0a1.1.1\ndata: {"token":"Paris","gpu":0}\n\n'
    'id: 0a3a3e1fb0a1.1.2\ndata: {"done":true,"message_id":"…","status":"complete",'
    '"token_count":1,"inference_time_ms":312,"model_tag":"default","finish_reason":"stop",'
    '"usage":{"input_tokens":14,"output_tokens":1}}\n\n'
)
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer as a stream; with `Accept: application/json`, the "
        "finished message",
        "content": {
            "text/event-stream": event_stream(_EXAMPLE),
            "application/json": {"schema": {"$ref": "#/components/schemas/Message"}},
        },
    },
    **problems(400, 404, 409, 413, 415, 422, 502, 504),
}


read_message = json_body(NewMessage)


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A request for an answer: a message, a regeneration or a continuation."""

    request: Request
    services: Services
    user: User
    conversation_id: str
    stream: OpenStream
    idempotency_key: str | None

    @property
    def wants_result(self) -> bool:
        """Return whether the client asks for the finished message instead of a stream."""
        return _wants_json(self.request.headers.get("accept", ""))


@router.post(
    "/messages",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=request_body(NewMessage, required=True),
)
async def send_message(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    stream: UserStream,
    body: Annotated[NewMessage, Depends(read_message)],
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Save the message, and stream its answer.

    It is added after the last message shown, or after `parent_id`: the path to it is shown then. To
    edit a message, send its new text with the `parent_id` of the old one, which stays as a version.

    The answer belongs to the conversation: it is written to its end and saved even if the client
    disconnects. `done` is sent after it has been saved.
    """
    asked = AnswerRequest(request, services, user, conversation_id, stream, idempotency_key)
    return await sent(asked, body)


async def sent(asked: AnswerRequest, body: NewMessage) -> Response:
    """Save the message, and return the response with its answer."""
    at = _parent(asked.conversation_id, body)
    return await _answered(asked, body, content=body.content, at=at)


def _parent(conversation_id: str, body: NewMessage) -> str | None:
    """Return where the message goes: the conversation's id stands for before the first."""
    if "parent_id" not in body.model_fields_set:
        return None
    if body.parent_id is None:
        return conversation_id
    return _checked(conversation_id, body.parent_id)


def _checked(conversation_id: str, text: str) -> str:
    """Return the id of a message. Raise NotFound."""
    message_id = checked_id(text)
    if message_id == conversation_id:
        raise NotFound
    return message_id


@router.post(
    "/regenerate",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=request_body(Regeneration, required=False),
)
async def regenerate(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    stream: UserStream,
    body: Annotated[Regeneration, Depends(json_body(Regeneration, empty=True))],
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Write the last answer, or the one of `message_id`, again, as a new version.

    The old one stays shown until the new one is complete, and then stays as a version, with what
    followed it.
    """
    asked = AnswerRequest(request, services, user, conversation_id, stream, idempotency_key)
    at = None if body.message_id is None else _checked(conversation_id, body.message_id)
    return await _answered(asked, body, content=None, at=at)


@router.post(
    "/continue",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=request_body(AnswerOptions, required=False),
)
async def continue_answer(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    stream: UserStream,
    body: Annotated[AnswerOptions, Depends(json_body(AnswerOptions, empty=True))],
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Continue the last answer after it was stopped, interrupted or cut by its length.

    The message stays the same; the stream contains only the new text. 409 while an answer runs,
    read by a client or not; with `if_busy: "stop"`, that answer is stopped and continued.
    """
    asked = AnswerRequest(request, services, user, conversation_id, stream, idempotency_key)
    await check_model(services, body.model_tag)
    only_result = asked.wants_result
    subscription = await services.sends.resume(
        user.id,
        conversation_id,
        options=options_of(body),
        model_tag=body.model_tag,
        idempotency=_idempotency(asked, body),
        sink=Discard() if only_result else connection_of(request),
        one_attempt=not only_result,
        if_busy=body.if_busy,
    )
    return await _response(asked, subscription, only_result=only_result)


async def _answered(
    asked: AnswerRequest, body: AnswerOptions, *, content: str | None, at: str | None
) -> Response:
    """Send the message, or regenerate the answer, and return the response with the answer."""
    await check_model(asked.services, body.model_tag)
    only_result = asked.wants_result
    subscription = await asked.services.sends.send(
        asked.user.id,
        asked.conversation_id,
        content=content,
        title=None if content is None else title_of(content),
        options=options_of(body),
        model_tag=body.model_tag,
        idempotency=_idempotency(asked, body),
        sink=Discard() if only_result else connection_of(asked.request),
        one_attempt=not only_result,
        at=at,
        if_busy=body.if_busy,
    )
    return await _response(asked, subscription, only_result=only_result)


async def check_model(services: Services, model_tag: str | None) -> None:
    """Raise Invalid for a model that no engine has."""
    if model_tag is not None and not await services.engines.knows(model_tag, trace_id_var.get()):
        raise Invalid([("model_tag", "is no model of this service's engines")])


def options_of(body: AnswerOptions) -> Options:
    return Options(
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        top_k=body.top_k,
        thinking_mode=body.thinking_mode,
        force_web_search=body.force_web_search,
        top_p=body.top_p,
        stop=body.stop,
        response_format=body.response_format,
    )


async def _response(
    asked: AnswerRequest, subscription: Subscription, *, only_result: bool
) -> Response:
    """Return the answer as a stream or, with `only_result`, as JSON once it is saved."""
    stream = asked.stream
    stream.follow(subscription)
    if not only_result:
        return EventStream(subscription, stream)
    await run_to_end(subscription, stream, asked.request.receive)
    if stream.refused:
        raise NotAuthenticated("The access token is no longer valid.", invalid_token=True)
    return await _result(asked.services, asked.user, asked.conversation_id, subscription.message_id)


def _idempotency(asked: AnswerRequest, body: AnswerOptions) -> IdempotencyKey | None:
    """Return the key with a fingerprint of its request: the path and the validated fields.

    The header is a quoted string (draft-ietf-httpapi-idempotency-key-header, section 2.1), or the
    same without quotes. Raise BadRequest.
    """
    if asked.idempotency_key is None:
        return None
    request = asked.request
    found = KEY.fullmatch(asked.idempotency_key)
    if found is None or len(request.headers.getlist("idempotency-key")) > 1:
        raise BadRequest("The Idempotency-Key is 1 to 255 printable ASCII characters.")
    fields = body.model_dump(mode="json", exclude_none=True)
    if isinstance(body, NewMessage) and "parent_id" in body.model_fields_set:
        fields["parent_id"] = body.parent_id  # null is not the same as none
    stands_for = orjson.dumps([request.url.path, fields], option=orjson.OPT_SORT_KEYS)
    return IdempotencyKey(found[1] or found[2], hashlib.sha256(stands_for).digest())


async def _result(
    services: Services, user: User, conversation_id: str, message_id: str
) -> Response:
    """Return the answer as saved. If it failed, raise its error, with its `message_id`."""
    ended = await services.joins.ended(message_id)
    if ended is None:
        if await queries.read_conversation(services.db, user.id, conversation_id) is None:
            raise NotFound
        raise Superseded(fields={"message_id": message_id})
    if ended.status == "failed" or (ended.undone and ended.error is not None):
        raise inference_failure(ended.error)(fields={"message_id": message_id})
    # A regeneration that was stopped leaves the old answer.
    message = await queries.read_message(
        services.db, user.id, conversation_id, message_id
    ) or await queries.read_last_answer(services.db, user.id, conversation_id)
    if message is None:
        raise NotFound
    return written_json(message)


@router.get(
    "/stream",
    response_class=Response,
    responses={
        200: {
            "description": "The rest of the answer",
            "content": {"text/event-stream": event_stream(_EXAMPLE)},
        },
        204: {"description": "No answer is running, and no events remain to be sent"},
        **problems(400, 404),
    },
)
async def join_stream(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    stream: UserStream,
    last_event_id: Annotated[
        str | None,
        Header(
            description="the id of the last received event",
            json_schema_extra={"format": "event-id"},
        ),
    ] = None,
    after: Annotated[
        str | None,
        Query(
            description="the same, for clients that cannot set headers",
            json_schema_extra={"format": "event-id"},
        ),
    ] = None,
) -> Response:
    """Stream the running answer, on whichever replica it runs, after the last received event."""
    seen = last_event_id or after
    subscription = await services.joins.join(
        user.id,
        conversation_id,
        Cursor.parse(seen) if seen else None,
        connection_of(request),
    )
    if subscription is None:
        return Response(status_code=204)
    stream.follow(subscription)
    return EventStream(subscription, stream)


@router.post("/stop", response_model=Message, responses=problems(404))
async def stop(
    services: ServicesOf, user: CurrentUser, conversation_id: ConversationId
) -> Response:
    """Stop the running answer, on whichever replica it runs; the text so far is kept."""
    return written_json(await services.stops.stop(user.id, conversation_id))


@router.get(
    "/messages/{message_id}/versions", response_model=Versions, responses=problems(404, 422)
)
async def list_versions(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    message_id: MessageId,
    limit: Annotated[
        int,
        Query(
            ge=1,
            le=MOST_LISTED,
            description="most versions, the newest ones, with at most 4 MB of JSON",
        ),
    ] = MOST_LISTED,
    before: Annotated[
        str | None,
        Query(
            max_length=100,
            description="versions before the one with this id",
            json_schema_extra={"format": "uuid"},
        ),
    ] = None,
) -> Response:
    """Return the messages with the same parent as this one, in their order."""
    found = await queries.read_versions(
        services.db,
        user.id,
        conversation_id,
        message_id,
        limit=limit,
        before=None if before is None else checked_id(before),
    )
    if found is None:
        raise NotFound
    items = found.messages
    if found.running is not None:
        written = await with_text(services.joins, found.running)
        items = f"{items},{written}" if items else written
    next_before = "null" if found.next_before is None else f'"{found.next_before}"'
    return written_json(f'{{"items":[{items}],"next_before":{next_before}}}')


@router.delete("/messages/{message_id}", status_code=204, responses=problems(404, 409))
async def delete_message(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    message_id: MessageId,
) -> Response:
    """Delete the message and everything below it.

    Another version, if there is one, is shown instead. 409 while an answer below it runs.
    """
    await services.trees.delete_message(user.id, conversation_id, message_id)
    return Response(status_code=204)


def _wants_json(accept: str) -> bool:
    """Return whether the client asks for the result instead of a stream."""
    kinds = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds and "text/event-stream" not in kinds
