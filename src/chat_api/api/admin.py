"""Routes for administrators. Each act is in the audit log before its response is sent."""

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import APIRouter, Depends, Path, Query
from fastapi.routing import APIRoute
from pydantic import AfterValidator
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from chat_api.api import cursors, paths  # noqa: F401  # `any_text`
from chat_api.api.bodies import json_body
from chat_api.api.responses import problems
from chat_api.api.schemas.fields import is_storable
from chat_api.api.schemas.requests import NewUserLimits, request_body
from chat_api.api.schemas.responses import AdminUsagePage, AuditEntry, AuditPage, UserLimitsRead
from chat_api.api.services import Administrator, Services, ServicesOf
from chat_api.api.usage import FirstDay, LastDay, day_limits, period, written
from chat_api.db import audit, limits, usage
from chat_api.db.limits import UserLimits
from chat_api.errors import NotFound
from chat_api.telemetry import log, trace_id_var


class _Route(APIRoute):
    """A route whose last segment is compared before percent-encoded slashes are decoded.

    An id may end as another route's path does: `/users/a%2Flimits` is the user `a/limits`, and
    `/users/a/limits` are the limits of the user `a`.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        last = self.path.rpartition("/")[2]
        sent = scope.get("raw_path", scope["path"].encode("utf-8", "surrogatepass"))
        if last == "limits" and unquote_to_bytes(sent.rpartition(b"/")[2]) != b"limits":
            return Match.NONE, {}
        return super().matches(scope)


router = APIRouter(prefix="/api/admin", tags=["administration"], route_class=_Route)

_MOST_CHARS = 255
_CURSOR = re.compile(r"(\d{1,18})")


async def _user_id(
    _administrator: Administrator,  # before the id is checked
    user_id: Annotated[str, Path(description="the user's id, as the auth service gives it")],
) -> str:
    """Return the id. Raise NotFound if it cannot be a user's id; unknown ids are not recognised."""
    if not 1 <= len(user_id) <= _MOST_CHARS or "\0" in user_id or not _is_text(user_id):
        raise NotFound
    return user_id


def _is_text(text: str) -> bool:
    try:
        is_storable(text)
    except ValueError:
        return False
    return True


# Ids of an auth service may have slashes.
UserId = Annotated[str, Depends(_user_id)]


AnyUser = Annotated[
    str | None,
    Query(min_length=1, max_length=_MOST_CHARS, description="only rows of this user"),
    AfterValidator(lambda value: None if value is None else is_storable(value)),
]


async def _record(
    services: Services,
    administrator: Administrator,
    act: audit.Act,
    user_id: str | None,
    **details: Any,
) -> None:
    written_details = orjson.dumps(details).decode()
    await audit.record(
        services.db, administrator.id, act, user_id, written_details, trace_id_var.get()
    )


@router.get(
    "/usage",
    response_model=AdminUsagePage,
    response_model_exclude_unset=True,
    responses=problems(403, 422),
)
async def read_usage(
    services: ServicesOf,
    administrator: Administrator,
    first: FirstDay = None,
    last: LastDay = None,
    by: Literal["user", "day", "model"] = "user",
    user_id: AnyUser = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="most users in a page")] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="users to skip")] = 0,
) -> AdminUsagePage:
    """Return the answers and tokens of all users, or of one, by user, by day or by model.

    By user, those with the most tokens come first, in pages. Those who have been erased are one
    user without an id.
    """
    first, last = period(first, last)
    if by == "user" or user_id is not None:
        days = {"from": first.isoformat(), "to": last.isoformat(), "by": by}
        await _record(services, administrator, "read_usage", user_id, **days)
    if by != "user":
        sums = await usage.read(services.db, user_id, first, last, by)
        key = "day" if by == "day" else "model_tag"
        return AdminUsagePage(
            items=[written(one, {key: one.key}) for one in sums], next_offset=None
        )
    sums = await usage.read_users(services.db, user_id, first, last, limit=limit + 1, offset=offset)
    return AdminUsagePage(
        items=[written(one, {"user_id": one.key or None}) for one in sums[:limit]],
        next_offset=offset + limit if len(sums) > limit else None,
    )


@router.get(
    "/users/{user_id:any_text}/limits",
    response_model=UserLimitsRead,
    responses=problems(403, 404),
)
async def read_limits(
    services: ServicesOf, administrator: Administrator, user_id: UserId
) -> UserLimitsRead:
    """Return the limits set for one user, and what is left of them today."""
    await _record(services, administrator, "read_limits", user_id)
    return await _limits(services, user_id, await limits.read(services.db, user_id))


@router.put(
    "/users/{user_id:any_text}/limits",
    response_model=UserLimitsRead,
    responses=problems(400, 403, 404, 413, 415, 422),
    openapi_extra=request_body(NewUserLimits, required=True),
)
async def set_limits(
    services: ServicesOf,
    administrator: Administrator,
    user_id: UserId,
    body: Annotated[NewUserLimits, Depends(json_body(NewUserLimits))],
) -> UserLimitsRead:
    """Replace the limits of one user; they apply at once, on all replicas.

    The service has no list of users: limits can be set before a user's first message.
    """
    wanted = UserLimits(body.answers_per_day, body.tokens_per_day)
    details = orjson.dumps(asdict(wanted)).decode()
    async with services.db.transaction() as connection:
        await limits.write(connection, user_id, wanted)
        await audit.record(
            connection, administrator.id, "set_limits", user_id, details, trace_id_var.get()
        )
    return await _limits(services, user_id, wanted)


@router.delete("/users/{user_id:any_text}/limits", status_code=204, responses=problems(403, 404))
async def remove_limits(
    services: ServicesOf, administrator: Administrator, user_id: UserId
) -> Response:
    """Remove the limits of one user, so that the settings apply."""
    async with services.db.transaction() as connection:
        await limits.remove(connection, user_id)
        await audit.record(
            connection, administrator.id, "remove_limits", user_id, "{}", trace_id_var.get()
        )
    return Response(status_code=204)


async def _limits(services: Services, user_id: str, set_for_user: UserLimits) -> UserLimitsRead:
    return UserLimitsRead(
        user_id=user_id,
        **asdict(set_for_user),
        limits=await day_limits(services, user_id, set_for_user),
    )


@router.delete("/users/{user_id:any_text}", status_code=204, responses=problems(403, 404))
async def delete_user(
    services: ServicesOf, administrator: Administrator, user_id: UserId
) -> Response:
    """Erase everything of a user, as `DELETE /api/me` does; running answers are stopped.

    The service has no list of users: the call also succeeds for one without data. A request that
    fails may have erased a part: repeat it. The act stays in the audit log, without the user's id.
    """
    await _record(services, administrator, "delete_user", user_id)
    log.info("user_deletion", administrator_id=administrator.id)
    await services.deletions.delete_user(user_id)
    return Response(status_code=204)


@router.get("/audit", response_model=AuditPage, responses=problems(403, 422))
async def read_audit(
    services: ServicesOf,
    _administrator: Administrator,
    user_id: AnyUser = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None,
        Query(
            max_length=200,
            description="`next_cursor` of the previous page",
            json_schema_extra={"format": "audit-cursor"},
        ),
    ] = None,
) -> AuditPage:
    """Return the acts of administrators, newest first. Reading this log is not recorded in it."""
    before = None if cursor is None else int(cursors.read(cursor, _CURSOR)[0])
    found = await audit.read(services.db, user_id=user_id, before=before, limit=limit + 1)
    page = found[:limit]
    return AuditPage(
        items=[
            AuditEntry.model_validate(asdict(entry) | {"details": orjson.loads(entry.details)})
            for entry in page
        ],
        next_cursor=cursors.written(page[-1].id) if len(found) > limit else None,
    )
