"""The change feed as an event stream."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from chat_api.api.responses import problems
from chat_api.api.schemas.events import change_stream
from chat_api.api.services import CurrentUser, ServicesOf
from chat_api.api.streaming.connection import connection_of
from chat_api.api.streaming.open_stream import UserStream
from chat_api.api.streaming.response import EventStream
from chat_api.changes import read_cursor

router = APIRouter(prefix="/api", tags=["conversations"])

_FORMAT = {"format": "change-id"}
_EXAMPLE = (
    'retry: 1000\n\nid: 1764087300000000\ndata: {"cursor":true}\n\n'
    'id: 1764087312345678\ndata: {"conversation":{"id":"…","user_id":"…","title":"Paris", …}}\n\n'
    'id: 1764087312345679\ndata: {"answer":{"conversation_id":"…","message_id":"…",'
    '"status":"generating"}}\n\n'
    'id: 1764087399999999\ndata: {"deleted":"…"}\n\n'
)


@router.get(
    "/changes",
    response_class=Response,
    responses={
        200: {
            "description": "The changes as they are committed; the stream does not end by itself",
            "content": {"text/event-stream": change_stream(_EXAMPLE)},
        },
        **problems(400),
    },
)
async def follow_changes(
    request: Request,
    services: ServicesOf,
    user: CurrentUser,
    stream: UserStream,
    last_event_id: Annotated[
        str | None,
        Header(description="the id of the last received event", json_schema_extra=_FORMAT),
    ] = None,
    after: Annotated[
        str | None,
        Query(
            description="the same, for clients that cannot set headers", json_schema_extra=_FORMAT
        ),
    ] = None,
) -> Response:
    """Stream the changes of the user's conversations, made on any replica and device.

    Without a cursor it starts with the next change. A cursor is valid for a day. After that, the
    stream starts with `resync`: load the list again.
    """
    seen = last_event_id or after
    subscription = await services.changes.subscribe(
        user.id, read_cursor(seen) if seen else None, connection_of(request)
    )
    stream.follow(subscription)
    return EventStream(subscription, stream)
