"""Responses that routes share: JSON that is already written, and the description of errors."""

from typing import Any

from starlette.responses import Response


def written_json(text: str | bytes, status: int = 200, **headers: str) -> Response:
    """Return a response of JSON that is already written."""
    return Response(text, status, headers=headers, media_type="application/json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the errors that a route may answer with."""
    return {
        status: {
            "description": "A problem document (RFC 9457)",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in sorted({401, 429, 503, *statuses})
    }
