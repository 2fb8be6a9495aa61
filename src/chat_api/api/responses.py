"""Responses that routes share: JSON that is already written, and the description of errors."""

from typing import Any

import orjson
from starlette.responses import Response

from chat_api.db.queries import RunningMessage
from chat_api.generation.joining import Joins


def written_json(text: str | bytes, status: int = 200, **headers: str) -> Response:
    """Return a response with this JSON text."""
    return Response(text, status, headers=headers, media_type="application/json")


async def with_text(joins: Joins, message: RunningMessage) -> str:
    """Return the message of a running generation as JSON, with its text so far."""
    so_far = await joins.written_so_far(message.id)
    document = orjson.loads(message.json)
    document |= {"content": so_far.text, "token_count": so_far.token_count}
    document["reasoning"] = so_far.reasoning or None
    return orjson.dumps(document).decode()


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's errors."""
    return {
        status: {
            "description": "A problem document (RFC 9457)",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in sorted({401, 429, 503, *statuses})
    }
