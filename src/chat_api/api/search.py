"""Search in the user's titles and messages."""

import re
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from chat_api.api import cursors
from chat_api.api.responses import problems, written_json
from chat_api.api.schemas.fields import TEXT_PATTERN, Text
from chat_api.api.schemas.responses import FoundPage
from chat_api.api.services import CurrentUser, ServicesOf
from chat_api.conversations.search import Found
from chat_api.db.search import Place

router = APIRouter(prefix="/api/search", tags=["search"])

_CURSOR = re.compile(rf"(\d{{1,18}})_(\d{{1,9}}|1\d{{9}}|2147483647)_({cursors.ID})")


@router.get("", response_model=FoundPage, responses=problems(422))
async def search(
    services: ServicesOf,
    user: CurrentUser,
    q: Annotated[
        Text,
        Query(
            min_length=1,
            max_length=200,
            description="words, separated by spaces",
            examples=["samosa filling"],
            json_schema_extra=TEXT_PATTERN,
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
    cursor: Annotated[
        str | None,
        Query(
            max_length=200,
            description="`next_cursor` of the previous page",
            json_schema_extra={"format": "search-cursor"},
        ),
    ] = None,
) -> Response:
    """Return the titles and messages that contain every word, newest first.

    Parts of words match, in any script; case is ignored. A title counts as new as the last
    activity in its conversation.
    """
    found = await services.search.find(
        user.id, q, limit=limit, after=None if cursor is None else _read_cursor(cursor)
    )
    next_cursor = None if found.next_place is None else _cursor(found.next_place)
    return written_json(
        f'{{"items":[{",".join(map(_item, found.items))}],'
        f'"next_cursor":{orjson.dumps(next_cursor).decode()}}}'
    )


def _item(found: Found) -> str:
    snippet = orjson.dumps(found.snippet).decode()
    matches = orjson.dumps(found.matches).decode()
    return (
        f'{{"conversation":{found.conversation},"message":{found.message or "null"},'
        f'"snippet":{snippet},"matches":{matches}}}'
    )


def _cursor(place: Place) -> str:
    time, rank, hit_id = place
    return cursors.written(cursors.microseconds(time), rank, hit_id)


def _read_cursor(text: str) -> Place:
    time, rank, hit_id = cursors.read(text, _CURSOR)
    return cursors.time_of(time), int(rank), hit_id
