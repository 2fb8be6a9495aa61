"""The handlers that turn exceptions into responses, in the shape of the path's dialect."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from chat_api.api.bodies import reason_of
from chat_api.dialects.refusals import refusal
from chat_api.errors import (
    ApiError,
    BadRequest,
    Invalid,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
)
from chat_api.telemetry import REFUSALS, trace_id_var


def refusal_of(path: str, error: ApiError) -> Response:
    """Return the response for an error, in the shape of the path's dialect."""
    return refusal(path, error, trace_id_var.get())


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Answer an error of our tree, and count refusals by limits."""
    assert isinstance(error, ApiError)  # noqa: S101  # what the handler is registered for
    if isinstance(error, TooManyRequests):
        REFUSALS.labels(error.code).inc()
    return refusal_of(request.url.path, error)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer the framework's own refusals: unknown paths and methods, unreadable requests."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    ours: ApiError
    if status == 404:
        ours = NotFound()
    elif status == 405:
        ours = MethodNotAllowed(headers={"Allow": ", ".join(_methods_of(request))})
    else:
        ours = BadRequest()
    return refusal_of(request.url.path, ours)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer invalid query parameters; api.bodies validates bodies."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = [(str(e["loc"][-1]), reason_of(str(e["msg"]))) for e in error.errors()]
    return refusal_of(request.url.path, Invalid(problems))


def _methods_of(request: Request) -> list[str]:
    """Return the methods that the request's path takes."""
    return [
        "GET, HEAD" if method == "GET" else method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
