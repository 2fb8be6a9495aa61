"""What a user's answers cost. Triggers write the ledger (migration 0010); days are those of UTC."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from chat_api.db.connecting import Connection
from chat_api.db.database import Database


@dataclass(frozen=True, slots=True)
class Used:
    """What counts for the limits of a day. An answer that failed does not, one that runs does."""

    answers: int
    tokens: int
    seconds_left: int
    """Until the next day begins."""


_READ_DAY = """
SELECT coalesce(sum(answers) FILTER (WHERE status <> 'failed'), 0)::bigint + (
        SELECT count(*) FROM generations WHERE user_id = $1 AND ended_at IS NULL) AS answers,
    coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens,
    ceil(extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'
        - (now() AT TIME ZONE 'UTC')))::integer AS seconds_left
FROM usage_ledger WHERE user_id = $1 AND day = (now() AT TIME ZONE 'UTC')::date
"""


async def read_day(connection: "Connection | Database", user_id: str) -> Used:
    """Return what the user has used today."""
    row = await connection.fetchrow(_READ_DAY, user_id)
    assert row is not None  # noqa: S101  # an aggregate gives one row
    return Used(**dict(row))


@dataclass(frozen=True, slots=True)
class Sum:
    """The answers of one day, or of one model."""

    key: str
    answers: int
    input_tokens: int
    output_tokens: int
    estimated: int
    """Of how many answers the tokens were counted here, because the engine told none."""
    by_status: dict[str, int]


_READ = """
SELECT {key} AS key, status, sum(answers)::bigint AS answers,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(estimated)::bigint AS estimated
FROM usage_ledger WHERE user_id = $1 AND day BETWEEN $2 AND $3
GROUP BY 1, 2 ORDER BY 1, 2
"""
_KEYS = {"day": "day::text", "model": "model_tag"}


async def read(
    db: Database, user_id: str, first: date, last: date, by: Literal["day", "model"]
) -> list[Sum]:
    """Return the user's sums by day or by model, of the days from `first` to `last`."""
    rows = await db.fetch(_READ.format(key=_KEYS[by]), user_id, first, last)
    sums: dict[str, Sum] = {}
    for row in rows:
        before = sums.get(row["key"], Sum(row["key"], 0, 0, 0, 0, {}))
        sums[row["key"]] = Sum(
            row["key"],
            before.answers + row["answers"],
            before.input_tokens + row["input_tokens"],
            before.output_tokens + row["output_tokens"],
            before.estimated + row["estimated"],
            before.by_status | {row["status"]: row["answers"]},
        )
    return list(sums.values())
