"""The user's answers and tokens, and what is left of the daily limits."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from chat_api.api.responses import problems
from chat_api.api.schemas.responses import DayLimit, DayLimits, UsagePage, UsageSum
from chat_api.api.services import CurrentUser, Services, ServicesOf
from chat_api.db import limits, usage
from chat_api.db.limits import UserLimits
from chat_api.db.quotas import Quotas
from chat_api.errors import Invalid

router = APIRouter(prefix="/api/usage", tags=["usage"])

_DAYS = 30


def _written_as_a_day(value: object) -> object:
    """Return the value; raise ValueError for a number, which would be a time."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is None:
        raise ValueError("is not a date such as 2026-11-25")
    return value


Day = Annotated[date, BeforeValidator(_written_as_a_day)]
FirstDay = Annotated[
    Day | None, Query(alias="from", description="the first day (UTC); default: 29 days before `to`")
]
LastDay = Annotated[Day | None, Query(alias="to", description="the last day (UTC); default: today")]


@router.get(
    "", response_model=UsagePage, response_model_exclude_unset=True, responses=problems(422)
)
async def read_usage(
    services: ServicesOf,
    user: CurrentUser,
    first: FirstDay = None,
    last: LastDay = None,
    by: Literal["day", "model"] = "day",
) -> UsagePage:
    """Return the user's answers and tokens by day or by model, and the rest of today's limits.

    Each end of an answer counts once. If an engine reports no usage, the events with text count as
    tokens; `estimated` is the number of such answers.
    """
    first, last = period(first, last)
    sums = await usage.read(services.db, user.id, first, last, by)
    key = "day" if by == "day" else "model_tag"
    return UsagePage(
        items=[written(one, {key: one.key}) for one in sums],
        limits=await day_limits(services, user.id, await limits.read(services.db, user.id)),
    )


def period(first: date | None, last: date | None) -> tuple[date, date]:
    """Return the first and the last day of a request. Raise Invalid."""
    last = last or datetime.now(UTC).date()
    if first is None:
        first = max(last, date.min + timedelta(_DAYS)) - timedelta(_DAYS - 1)
    if first > last:
        raise Invalid([("from", "is later than to")])
    return first, last


def written(one: usage.Sum, named: dict[str, Any]) -> UsageSum:
    """Return a sum as JSON, with the meaning of its key."""
    return UsageSum(
        **named,
        answers=one.answers,
        input_tokens=one.input_tokens,
        output_tokens=one.output_tokens,
        estimated=one.estimated,
        by_status=one.by_status,
    )


async def day_limits(services: Services, user_id: str, set_for_user: UserLimits) -> DayLimits:
    """Return what is left of the user's daily limits."""
    settings = services.settings
    quotas = Quotas(
        answers_per_day=settings.answers_per_day, tokens_per_day=settings.tokens_per_day
    ).of_user(set_for_user)
    used = await usage.read_day(services.db, user_id)
    return DayLimits(
        answers_per_day=_limit(quotas.answers_per_day, used.answers),
        tokens_per_day=_limit(quotas.tokens_per_day, used.tokens),
        resets_at=(datetime.now(UTC) + timedelta(seconds=used.seconds_left)).replace(
            hour=0, minute=0, second=0, microsecond=0
        ),
    )


def _limit(most: int, used: int) -> DayLimit | None:
    return DayLimit(limit=most, used=used, left=max(0, most - used)) if most else None
