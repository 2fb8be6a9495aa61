"""The objects that routes use, and FastAPI's dependencies that provide them."""

import re
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from chat_api.api.limits import Failures
from chat_api.api.streaming.accounting import OpenStreams
from chat_api.auth import Authenticator, User
from chat_api.changes import ChangeFeed
from chat_api.conversations.export import Exports
from chat_api.conversations.imports import Imports
from chat_api.conversations.search import Search
from chat_api.conversations.tree import Trees
from chat_api.db.database import Database
from chat_api.db.shares import conversation_id_var
from chat_api.engines.engines import Engines
from chat_api.errors import Forbidden, NotAuthenticated, NotFound
from chat_api.generation.deletion import Deletions
from chat_api.generation.joining import Joins
from chat_api.generation.registry import Registry
from chat_api.generation.send_policy import SendPolicy
from chat_api.generation.stopping import Stops
from chat_api.settings import Settings
from chat_api.telemetry import user_id_var


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that routes use, made by `app.create_app` once for all requests."""

    settings: Settings
    db: Database
    authenticator: Authenticator
    engines: Engines
    registry: Registry
    sends: SendPolicy
    joins: Joins
    stops: Stops
    deletions: Deletions
    trees: Trees
    search: Search
    exports: Exports
    imports: Imports
    changes: ChangeFeed
    failures: Failures
    open_streams: OpenStreams


def services_of(request: Request) -> Services:
    """Return the objects of the process that answers the request."""
    return cast("Services", request.app.state.services)


# Dependencies are coroutines, also where nothing is awaited: plain functions run in a thread.
async def _services(request: Request) -> Services:
    return services_of(request)


# For the OpenAPI description only: the authenticator reads the header itself.
_bearer = HTTPBearer(
    auto_error=False, description="A token of the auth service, or of the OpenID provider"
)


async def _current_user(request: Request, _described: Annotated[object, Security(_bearer)]) -> User:
    return await current_user(request)


async def current_user(request: Request) -> User:
    """Return the user of the request's token.

    Raise NotAuthenticated, AuthUnavailable, or TooManyFailures where the address has had too many
    of the former; a token that is remembered is not affected by that.
    """
    services = services_of(request)
    host = None if request.client is None else request.client.host
    try:
        user = await _authenticated(request, services, host)
    except NotAuthenticated:
        services.failures.check(host)
        services.failures.add(host)
        raise
    user_id_var.set(user.id)
    request.scope["user_id"] = user.id
    return user


async def _authenticated(request: Request, services: Services, host: str | None) -> User:
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise NotAuthenticated("More than one Authorization header was sent.")
    authorization = sent[0] if sent else None
    known = services.authenticator.remembered(authorization)
    if known is not None:
        return known.user
    services.failures.check(host)  # before the auth service is asked
    return (await services.authenticator.validate(authorization)).user


async def administrator(user: Annotated[User, Depends(_current_user)]) -> User:
    """Raise Forbidden for other users, before the body is read."""
    if not user.is_admin:
        raise Forbidden
    return user


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def checked_id(text: str) -> str:
    """Return the id in lower case. Raise NotFound if it is malformed, as for an unknown one."""
    lowered = text.lower()
    if _UUID.fullmatch(lowered) is None:
        raise NotFound
    return lowered


async def conversation_id(
    _user: Annotated[User, Depends(_current_user)],  # authenticate before reading the id
    conversation_id: Annotated[str, Path(json_schema_extra={"format": "uuid"})],
) -> str:
    """Return the path's conversation id. Raise NotFound if it is malformed."""
    return entered_conversation(conversation_id)


def entered_conversation(text: str) -> str:
    """Return the id of the request's conversation. Raise NotFound if it is malformed."""
    checked = checked_id(text)
    conversation_id_var.set(checked)
    return checked


async def message_id(
    _conversation_id: Annotated[str, Depends(conversation_id)],
    message_id: Annotated[str, Path(json_schema_extra={"format": "uuid"})],
) -> str:
    """Return the path's message id. Raise NotFound if it is malformed."""
    return checked_id(message_id)


ServicesOf = Annotated[Services, Depends(_services)]
CurrentUser = Annotated[User, Depends(_current_user)]
Administrator = Annotated[User, Depends(administrator)]
ConversationId = Annotated[str, Depends(conversation_id)]
MessageId = Annotated[str, Depends(message_id)]
