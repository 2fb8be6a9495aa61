"""`/api/chat`: what `useChat` calls with its default transport."""

import math
import re
import uuid
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from chat_api import sse
from chat_api.api import paths  # noqa: F401  # `any_text`
from chat_api.api.bodies import json_body
from chat_api.api.responses import problems, written_json
from chat_api.api.schemas.fields import is_storable
from chat_api.api.schemas.requests import request_body
from chat_api.api.services import CurrentUser, Services, ServicesOf
from chat_api.api.streaming.connection import connection_of
from chat_api.api.streaming.open_stream import OpenStream, UserStream
from chat_api.api.streaming.response import EventStream
from chat_api.auth import User
from chat_api.db import generations as db_generations
from chat_api.db import named, queries
from chat_api.db.queries import MOST_LISTED
from chat_api.db.shares import conversation_id_var
from chat_api.dialects.ai_sdk.schemas import MOST_ID_CHARS, Turn, UiMessage
from chat_api.dialects.ai_sdk.translator import HEADERS, UiMessageStream, ui_id
from chat_api.dialects.ai_sdk.turns import Saved, Turns, conversation_ids
from chat_api.dialects.translated import Translated
from chat_api.errors import AnswerGone, InternalError, NotFound, inference_failure
from chat_api.generation import events
from chat_api.generation.subscription import Subscription

router = APIRouter(prefix="/api/chat", tags=["ai-sdk"])

# Clients send the whole path in `messages` each time.
_MOST_BODY_BYTES = 4_194_304
_RUN = re.compile(r"run_([0-9a-f]{32})_([1-9][0-9]{0,8})")
_EXAMPLE = (
    'data: {"type":"start","messageId":"msg_019aab5d1f007a0180005f0e8d2b4c6a",'
    '"messageMetadata":{"model_tag":"default"}}\n\n'
    'data: {"type":"start-step"}\n\n'
    'data: {"type":"text-start","id":"text-1"}\n\n'
    'data: {"type":"text-delta","id":"text-1","delta":"Paris"}\n\n'
    'data: {"type":"text-end","id":"text-1"}\n\n'
    'data: {"type":"finish-step"}\n\n'
    'data: {"type":"finish","messageMetadata":{"status":"complete",'
    '"usage":{"input_tokens":14,"output_tokens":1}}}\n\n'
    "data: [DONE]\n\n"
)
# Of each event of the stream.
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_STREAM: dict[str, Any] = {
    "description": "A UI message stream, protocol version 1",
    "content": {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE}},
}
# Chat ids of the client's own may have slashes, which some of its releases do not encode.
ChatId = Annotated[str, Path(description="a conversation's id, or the client's own id")]


@router.post(
    "",
    response_class=Response,
    responses={200: _STREAM, **problems(400, 404, 409, 413, 415, 422, 502)},
    openapi_extra=request_body(Turn, required=True),
)
async def send_turn(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    stream: UserStream,
    turn: Annotated[Turn, Depends(json_body(Turn, at_least_bytes=_MOST_BODY_BYTES))],
) -> Response:
    """Save the last message and stream its answer, or regenerate an answer.

    An unknown `id` begins a conversation. The same message again streams the same answer.
    """
    sink, translator = _sink(request)
    begun = await Turns(services, user, turn, sink).begin()
    if isinstance(begun, Saved):
        return Response(
            _saved(begun.message, translator),
            media_type="text/event-stream",
            headers={**sse.HEADERS, **HEADERS},
        )
    return await _streamed(services, stream, begun, sink, translator)


@router.get(
    "/{chat_id:any_text}/stream",
    response_class=Response,
    responses={200: _STREAM, 204: {"description": "No answer is running"}, **problems(422)},
)
async def resume_stream(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    chat_id: ChatId,
    stream: UserStream,
    start_index: Annotated[
        int,
        Query(
            alias="startIndex",
            ge=-(2**31),
            le=2**31,
            description="the number of chunks to skip; negative: none",
        ),
    ] = 0,
) -> Response:
    """Stream the running answer from its start.

    `chat_id` may be the `x-workflow-run-id` of a stream that broke; its answer may have ended.
    """
    # A negative index asks for the newest chunks; all of them make a whole message, too.
    start_index = max(0, start_index)
    sink, translator = _sink(request)
    run = _RUN.fullmatch(chat_id)
    if run is not None:
        message_id, attempt = str(uuid.UUID(run[1])), int(run[2])
        found = await named.find_run(services.db, user.id, message_id, attempt)
        if found is not None:
            try:
                subscription = await services.joins.repeat(message_id, sink, one_attempt=False)
            except AnswerGone:
                return Response(status_code=204)
            shared = math.inf
            if found.attempt != attempt:
                shared = -1 if found.seam is None else found.seam
            return await _streamed(
                services, stream, subscription, sink, translator, skip=start_index, shared=shared
            )
    conversation_id = await _conversation(services, user, chat_id)
    joined = None
    if conversation_id is not None:
        joined = await services.joins.join(user.id, conversation_id, None, sink)
    if joined is None:
        return Response(status_code=204)
    return await _streamed(services, stream, joined, sink, translator, skip=start_index)


@router.get("/{chat_id:any_text}/messages", response_model=list[UiMessage], responses=problems(404))
async def list_messages(services: ServicesOf, user: CurrentUser, chat_id: ChatId) -> Response:
    """Return the conversation as UI messages, for the first load of a page.

    While an answer runs, they end with its question: resume the stream for the answer. Of a
    very long conversation, the newest messages: 2,000, and 4 MB of JSON.
    """
    conversation_id = await _conversation(services, user, chat_id)
    if conversation_id is None:
        raise NotFound
    # Read first: an answer that ends in between is complete in the messages read next.
    found = await db_generations.find_joinable(services.db, user.id, conversation_id, None)
    opened = await queries.open_conversation(
        services.db, user.id, conversation_id, limit=MOST_LISTED, before=None
    )
    if found is None or opened is None:
        raise NotFound
    messages = orjson.loads(f"[{opened.messages}]")
    if found.running is not None:
        question_id = found.running.question_id
        ids = [message["id"] for message in messages]
        if question_id in ids and found.running.message_id not in ids:
            messages = messages[: ids.index(question_id) + 1]
    return written_json(orjson.dumps([ui_message(message) for message in messages]))


@router.post("/{chat_id:any_text}/stop", response_model=UiMessage, responses=problems(404))
async def stop(services: ServicesOf, user: CurrentUser, chat_id: ChatId) -> Response:
    """Stop the running answer, on whichever replica it runs; the text so far is kept."""
    conversation_id = await _conversation(services, user, chat_id)
    if conversation_id is None:
        raise NotFound
    message = orjson.loads(await services.stops.stop(user.id, conversation_id))
    return written_json(orjson.dumps(ui_message(message)))


def ui_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return one of our messages as the client has it at the end of its stream."""
    parts: list[dict[str, Any]] = []
    if message["role"] == "assistant":
        parts.append({"type": "step-start"})
    for kind, text in (("reasoning", message["reasoning"]), ("text", message["content"])):
        if text:
            parts.append({"type": kind, "text": text, "state": "done"})
    return {
        "id": ui_id(message["id"]),
        "role": message["role"],
        "metadata": {"status": message["status"]},
        "parts": parts,
    }


async def _conversation(services: Services, user: User, chat_id: str) -> str | None:
    """Return the id of the user's conversation that a client names; None where there is none."""
    try:
        is_storable(chat_id)
    except ValueError:
        return None
    if not 1 <= len(chat_id) <= MOST_ID_CHARS:
        return None
    candidates = conversation_ids(user, chat_id)
    found = await named.find_conversation(services.db, user.id, candidates)
    if found is not None:
        conversation_id_var.set(found)
    return found


def _saved(message: dict[str, Any], translator: UiMessageStream) -> bytes:
    """Return the stream of an answer whose events are gone."""
    translator.begin(message["id"], message["model_tag"])
    happened = [events.snapshot(message["content"], message["reasoning"] or "")]
    if message["error"] is not None:
        code = message["error"]
        kind = InternalError if code == InternalError.code else inference_failure(code)
        happened.append(events.error(code, kind.detail))
    ending = {"done": True, "status": message["status"], "usage": message["usage"]}
    happened.append(orjson.dumps({**ending, "finish_reason": message["finish_reason"]}))
    return b"".join(translator.translate(1, 0, event) for event in happened)


def _sink(request: Request) -> tuple[Translated, UiMessageStream]:
    translator = UiMessageStream()
    return Translated(connection_of(request), translator), translator


async def _streamed(
    services: Services,
    stream: OpenStream,
    subscription: Subscription,
    sink: Translated,
    translator: UiMessageStream,
    *,
    skip: int = 0,
    shared: float = math.inf,
) -> Response:
    stream.follow(subscription)
    message_id, attempt, _ = subscription.place
    try:
        model_tag = await named.read_model_tag(services.db, message_id)
    except BaseException:
        subscription.close()
        stream.close()
        raise
    translator.begin(message_id, model_tag, skip=skip, shared=shared)
    run_id = f"run_{message_id.replace('-', '')}_{attempt}"
    return EventStream(
        subscription, stream, headers={**HEADERS, "x-workflow-run-id": run_id}, sink=sink
    )
