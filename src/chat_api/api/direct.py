"""A fast path for the most frequent requests, without the framework's routing and dependencies.

FastAPI's routes for the same paths stay: they describe the API, and answer each request in which
anything is unusual. What is answered here calls the same functions in the same order, so that both
ways have one behaviour; `tests/api/test_direct.py` compares them.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_api.api import conversations, health, messages
from chat_api.api.services import current_user, entered_conversation, services_of
from chat_api.api.streaming.open_stream import OpenStream
from chat_api.errors import ApiError

Handler = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route by the name that logs and metrics know it by: `path` is the template."""

    path: str
    method: str
    matches: Callable[[str], re.Match[str] | None]
    is_usual: Callable[[bytes], object]
    """Return whether the query string has nothing that the framework must check."""
    answer: Handler


async def _health(_request: Request) -> Response:
    return health.alive()


async def _list(request: Request) -> Response:
    user = await current_user(request)
    chosen = request.query_params
    return await conversations.listed(
        services_of(request),
        user,
        limit=int(chosen.get("limit", conversations.LISTED)),
        cursor=chosen.get("cursor"),
    )


async def _create(request: Request) -> Response:
    user = await current_user(request)
    body = await conversations.read_new(request)
    return await conversations.created(services_of(request), user, body)


async def _open(request: Request) -> Response:
    user = await current_user(request)
    conversation_id = entered_conversation(request.path_params["conversation_id"])
    return await conversations.opened(services_of(request), user, conversation_id)


async def _send(request: Request) -> Response:
    services = services_of(request)
    user = await current_user(request)
    conversation_id = entered_conversation(request.path_params["conversation_id"])
    stream = OpenStream.of(request, services, user)
    try:
        body = await messages.read_message(request)
        key = request.headers.get("idempotency-key")
        asked = messages.AnswerRequest(request, services, user, conversation_id, stream, key)
        return await messages.sent(asked, body)
    finally:
        if not stream.follows:
            stream.close()


_CONVERSATION = r"/api/conversations/(?P<conversation_id>[^/]+)"
_LIMIT_OR_CURSOR = rb"(?:limit=(?:[1-9]\d?|1\d\d|200)|cursor=[0-9A-Za-z_-]{1,200})"
_LISTING = re.compile(rb"(?:%b(?:&%b)?)?" % (_LIMIT_OR_CURSOR, _LIMIT_OR_CURSOR))
_NO_QUERY = re.compile(rb"").fullmatch

ROUTES: Final = (
    Route(
        "/api/conversations/{conversation_id}/messages",
        "POST",
        re.compile(_CONVERSATION + "/messages").fullmatch,
        _NO_QUERY,
        _send,
    ),
    Route(
        "/api/conversations",
        "GET",
        re.compile("/api/conversations").fullmatch,
        _LISTING.fullmatch,
        _list,
    ),
    Route(
        "/api/conversations",
        "POST",
        re.compile("/api/conversations").fullmatch,
        _NO_QUERY,
        _create,
    ),
    Route(
        "/api/conversations/{conversation_id}",
        "GET",
        re.compile(_CONVERSATION).fullmatch,
        _NO_QUERY,
        _open,
    ),
    Route("/api/health", "GET", re.compile("/api/health").fullmatch, _NO_QUERY, _health),
)


class Direct:
    """Innermost middleware: answers usual requests, and passes others to the framework."""

    def __init__(self, app: ASGIApp, *, refuse: Refuse) -> None:
        """`refuse` makes the response for an ApiError."""
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _find(scope)
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = found
        request = Request(scope, receive, send)
        try:
            response = await found[0].answer(request)
        except ApiError as error:
            response = await self._refuse(request, error)
        await response(scope, receive, send)


def _find(scope: Scope) -> tuple[Route, dict[str, str]] | None:
    if scope["type"] != "http" or scope["root_path"]:
        return None
    path, method = scope["path"], scope["method"]
    for route in ROUTES:
        if route.method == method and (found := route.matches(path)) is not None:
            if not route.is_usual(scope["query_string"]):
                return None
            return route, found.groupdict()
    return None
