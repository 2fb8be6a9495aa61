"""Conversations: list, create, open, change, delete."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator
from starlette.responses import Response
from uuid_utils import uuid7

from chat_api.api import cursors
from chat_api.api.bodies import json_body
from chat_api.api.responses import problems, with_text, written_json
from chat_api.api.schemas.fields import is_storable
from chat_api.api.schemas.requests import (
    ConversationChange,
    ConversationFields,
    NewConversation,
    Rename,
    ShownPath,
    request_body,
)
from chat_api.api.schemas.responses import Conversation, ConversationPage, ConversationWithMessages
from chat_api.api.services import (
    ConversationId,
    CurrentUser,
    Services,
    ServicesOf,
    checked_id,
)
from chat_api.auth import User
from chat_api.conversations.titles import given_title
from chat_api.conversations.tree import Fork
from chat_api.db import queries
from chat_api.db.queries import MOST_LISTED, ConversationSettings, ListedConversation
from chat_api.errors import Invalid, NotFound
from chat_api.text import is_blank

router = APIRouter(prefix="/api/conversations", tags=["conversations"])

# The default length of a page.
LISTED = 50
_CURSOR = re.compile(rf"(\d{{1,18}})_({cursors.ID})")


@router.get("", response_model=ConversationPage, responses=problems(422))
async def list_conversations(
    services: ServicesOf,
    user: CurrentUser,
    limit: Annotated[int, Query(ge=1, le=200)] = LISTED,
    cursor: Annotated[
        str | None,
        Query(
            max_length=200,
            description="`next_cursor` of the previous page",
            json_schema_extra={"format": "list-cursor"},
        ),
    ] = None,
    offset: Annotated[
        int, Query(ge=0, le=1_000_000_000, description="without a cursor: how many to skip")
    ] = 0,
    tz: Annotated[
        str,
        Query(
            max_length=100,
            description="the IANA time zone of the grouping by day",
            json_schema_extra={"format": "iana-time-zone"},
        ),
    ] = "UTC",
    favorited: Annotated[
        Literal["true", "false"] | None,
        Query(description="true: only favourites; false: only the others", examples=["true"]),
    ] = None,
    tag: Annotated[
        str | None,
        Query(min_length=1, max_length=50, description="only conversations with this tag"),
        AfterValidator(is_storable),
    ] = None,
) -> Response:
    """Return the user's conversations, newest activity first, also grouped by day."""
    return await listed(
        services,
        user,
        limit=limit,
        cursor=cursor,
        offset=offset,
        zone=_zone(tz),
        favorited=None if favorited is None else favorited == "true",
        tag=tag,
    )


async def listed(
    services: Services,
    user: User,
    *,
    limit: int,
    cursor: str | None,
    offset: int = 0,
    zone: tzinfo = UTC,
    favorited: bool | None = None,
    tag: str | None = None,
) -> Response:
    """Return a page of the user's conversations. Raise BadRequest for an invalid cursor."""
    after = None if cursor is None else _read_cursor(cursor)
    found = await queries.list_conversations(
        services.db,
        user.id,
        limit=limit + 1,
        offset=offset,
        after=after,
        favorited=favorited,
        tag=tag,
    )
    page = found[:limit]
    next_cursor = _cursor(page[-1]) if len(found) > limit else None
    grouped = ",".join(f'"{day}":[{",".join(items)}]' for day, items in _by_day(page, zone).items())
    return written_json(
        f'{{"items":[{",".join(item.json for item in page)}],"grouped":{{{grouped}}},'
        f'"limit":{limit},"offset":{offset},"next_cursor":{orjson.dumps(next_cursor).decode()}}}'
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid([("tz", "is not an IANA time zone")]) from None


def _cursor(last: ListedConversation) -> str:
    return cursors.written(cursors.microseconds(last.updated_at), last.id)


def _read_cursor(text: str) -> tuple[datetime, str]:
    time, conversation_id = cursors.read(text, _CURSOR)
    return cursors.time_of(time), conversation_id


def _by_day(page: Iterable[ListedConversation], zone: tzinfo) -> dict[str, list[str]]:
    """Return the items by date in the zone, in the order of the page: newest first."""
    days: dict[str, list[str]] = {}
    day: list[str] = []
    since: datetime | None = None  # times down to this one are certainly of the same day
    for item in page:
        if since is None or item.updated_at < since:
            try:
                local = item.updated_at.astimezone(zone)
                midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
                # On a day on which clocks change, each time is converted by itself.
                is_even = midnight.utcoffset() == local.utcoffset()
                since = midnight.astimezone(UTC) if is_even else None
            except OverflowError:  # the first and the last day of the calendar
                local, since = item.updated_at, None
            day = days.setdefault(local.date().isoformat(), [])
        day.append(item.json)
    return days


read_new = json_body(NewConversation, empty=True)


@router.post(
    "",
    status_code=201,
    response_model=Conversation,
    responses=problems(400, 404, 409, 413, 415, 422),
    openapi_extra=request_body(NewConversation, required=False),
)
async def create_conversation(
    services: ServicesOf,
    user: CurrentUser,
    body: Annotated[NewConversation, Depends(read_new)],
) -> Response:
    """Create a conversation; without a title, its first message gives it one.

    A placeholder ("New chat", "New conversation", "Untitled", in any case) counts as no title. With
    `fork`, it begins with a copy of the path to a message, and has the other's title, model,
    instructions, options, tags and `expires_at` unless they are given. After `expires_at` a
    conversation is not found any more; it is deleted when no answer runs in it.
    """
    return await created(services, user, body)


async def created(services: Services, user: User, body: NewConversation) -> Response:
    """Make the conversation, and return it. Raise NotFound for nothing to fork."""
    settings = _settings(body)
    if body.fork is not None:
        fork = Fork(checked_id(body.fork.conversation_id), checked_id(body.fork.message_id))
        document = await services.trees.fork(user.id, fork, settings)
        conversation_id = orjson.loads(document)["id"]
    else:
        conversation_id = str(uuid7())
        document = await queries.create_conversation(
            services.db, user.id, conversation_id, settings
        )
    return written_json(document, 201, location=f"/api/conversations/{conversation_id}")


@router.get(
    "/{conversation_id}",
    response_model=ConversationWithMessages,
    responses=problems(404, 422),
)
async def open_conversation(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    limit: Annotated[
        int,
        Query(
            ge=1,
            le=MOST_LISTED,
            description="most messages in the page, the newest ones, with at most 4 MB of JSON",
        ),
    ] = MOST_LISTED,
    before: Annotated[
        str | None,
        Query(
            max_length=100,
            description="messages before the one with this id",
            json_schema_extra={"format": "uuid"},
        ),
    ] = None,
) -> Response:
    """Return the conversation with its messages, oldest first; a running answer has its text so
    far.

    A page ends after `limit` messages or 4 MB of JSON, but has at least one message. If
    `next_before` is not null, there are older messages: pass it as `before`.
    """
    return await opened(
        services,
        user,
        conversation_id,
        limit=limit,
        before=None if before is None else checked_id(before),
    )


async def opened(
    services: Services,
    user: User,
    conversation_id: str,
    *,
    limit: int = MOST_LISTED,
    before: str | None = None,
) -> Response:
    """Return the conversation with a page of its messages. Raise NotFound."""
    found = await queries.open_conversation(
        services.db, user.id, conversation_id, limit=limit, before=before
    )
    if found is None:
        raise NotFound
    messages = found.messages
    if found.running is not None:
        written = await with_text(services.joins, found.running)
        messages = f"{messages},{written}" if messages else written
    next_before = "null" if found.next_before is None else f'"{found.next_before}"'
    return written_json(f'{found.json[:-1]}, "messages":[{messages}],"next_before":{next_before}}}')


@router.put(
    "/{conversation_id}",
    response_model=Conversation,
    responses=problems(400, 404, 413, 415, 422),
    openapi_extra=request_body(Rename, required=True),
)
async def rename_conversation(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    body: Annotated[Rename, Depends(json_body(Rename))],
) -> Response:
    """Give the conversation a title. A placeholder such as "New chat" leaves the title as it is."""
    settings = ConversationSettings(title=given_title(body.title))
    return await _changed(services, user, conversation_id, settings)


@router.patch(
    "/{conversation_id}",
    response_model=Conversation,
    responses=problems(400, 404, 413, 415, 422),
    openapi_extra=request_body(ConversationChange, required=True),
)
async def change_conversation(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    body: Annotated[ConversationChange, Depends(json_body(ConversationChange))],
) -> Response:
    """Change the fields that are given, each as a whole.

    A placeholder such as "New chat" is no title. Null removes `instructions`, `options` and
    `expires_at`.
    """
    settings = replace(_settings(body), is_favorited=body.is_favorited)
    return await _changed(services, user, conversation_id, settings)


async def _changed(
    services: Services, user: User, conversation_id: str, settings: ConversationSettings
) -> Response:
    """Change the conversation, and return it. Raise NotFound."""
    changed = await queries.update_conversation(services.db, user.id, conversation_id, settings)
    if changed is None:
        raise NotFound
    return written_json(changed)


def _settings(body: ConversationFields) -> ConversationSettings:
    """Return the settings of a conversation that a body contains."""
    instructions = body.instructions
    if instructions is not None and is_blank(instructions):
        instructions = None
    given = {
        "instructions": instructions,
        "options": body.options,
        "expires_at": body.expires_at,
    }
    return ConversationSettings(
        title=given_title(body.title),
        model_tag=body.model_tag,
        instructions=instructions,
        options=None if body.options is None else body.options.model_dump_json(exclude_none=True),
        tags=None if body.tags is None else list(dict.fromkeys(body.tags)),
        metadata=None if body.metadata is None else orjson.dumps(body.metadata).decode(),
        expires_at=body.expires_at,
        clears=frozenset(
            name for name, value in given.items() if value is None and name in body.model_fields_set
        ),
    )


@router.put(
    "/{conversation_id}/path",
    response_model=ConversationWithMessages,
    responses=problems(400, 404, 409, 413, 415, 422),
    openapi_extra=request_body(ShownPath, required=True),
)
async def show_path(
    services: ServicesOf,
    user: CurrentUser,
    conversation_id: ConversationId,
    body: Annotated[ShownPath, Depends(json_body(ShownPath))],
) -> Response:
    """Show the path through a message, down to its newest leaf. 409 while an answer runs."""
    await services.trees.show_path(user.id, conversation_id, checked_id(body.message_id))
    return await opened(services, user, conversation_id)


@router.delete("/{conversation_id}", status_code=204, responses=problems(404))
async def delete_conversation(
    services: ServicesOf, user: CurrentUser, conversation_id: ConversationId
) -> Response:
    """Delete the conversation with its messages; a running answer is stopped."""
    await services.deletions.delete_conversation(user.id, conversation_id)
    return Response(status_code=204)
