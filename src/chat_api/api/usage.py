"""What the user's answers cost, and what is left of the day's limits."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from chat_api.api.responses import problems
from chat_api.api.schemas import DayLimit, DayLimits, UsagePage, UsageSum
from chat_api.api.services import CurrentUser, ServicesOf
from chat_api.db import usage
from chat_api.errors import Invalid

router = APIRouter(prefix="/api/usage", tags=["usage"])

_DAYS = 30


def _written_as_a_day(value: object) -> object:
    """Return the value; raise ValueError for a number, which would be a time."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is None:
        raise ValueError("is not a date such as 2026-11-25")
    return value


Day = Annotated[date, BeforeValidator(_written_as_a_day)]


@router.get(
    "", response_model=UsagePage, response_model_exclude_unset=True, responses=problems(422)
)
async def read_usage(
    services: ServicesOf,
    user: CurrentUser,
    first: Annotated[
        Day | None, Query(alias="from", description="the first day (UTC); 29 days before `to`")
    ] = None,
    last: Annotated[Day | None, Query(alias="to", description="the last day (UTC); today")] = None,
    by: Literal["day", "model"] = "day",
) -> UsagePage:
    """What the user's answers cost, by day or by model, and what is left of today's limits.

    Each end of an answer counts once. Where the engine tells no usage, the pieces of the text are
    counted: `estimated` says of how many answers.
    """
    now = datetime.now(UTC)
    last = last or now.date()
    if first is None:
        first = max(last, date.min + timedelta(_DAYS)) - timedelta(_DAYS - 1)
    if first > last:
        raise Invalid([("from", "is later than to")])
    sums = await usage.read(services.db, user.id, first, last, by)
    used = await usage.read_day(services.db, user.id)
    settings = services.settings
    key = "day" if by == "day" else "model_tag"
    items = []
    for one in sums:
        named: dict[str, Any] = {key: one.key}
        items.append(
            UsageSum(
                **named,
                answers=one.answers,
                input_tokens=one.input_tokens,
                output_tokens=one.output_tokens,
                estimated=one.estimated,
                by_status=one.by_status,
            )
        )
    return UsagePage(
        items=items,
        limits=DayLimits(
            answers_per_day=_limit(settings.answers_per_day, used.answers),
            tokens_per_day=_limit(settings.tokens_per_day, used.tokens),
            resets_at=(now + timedelta(seconds=used.seconds_left)).replace(
                hour=0, minute=0, second=0, microsecond=0
            ),
        ),
    )


def _limit(most: int, used: int) -> DayLimit | None:
    return DayLimit(limit=most, used=used, left=max(0, most - used)) if most else None
