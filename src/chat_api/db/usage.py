"""The answers and tokens of users. Triggers write the ledger (migration 0010); days are in UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from chat_api.db.connecting import Connection, Record
from chat_api.db.database import Database


@dataclass(frozen=True, slots=True)
class Used:
    """The usage that counts for daily limits: without failed answers, with running ones."""

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
    """The answers of one day, of one model, or of one user."""

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
FROM usage_ledger WHERE ($1::text IS NULL OR user_id = $1) AND day BETWEEN $2 AND $3
GROUP BY 1, 2 ORDER BY 1, 2
"""
_KEYS = {"day": "day::text", "model": "model_tag"}


async def read(
    db: Database, user_id: str | None, first: date, last: date, by: Literal["day", "model"]
) -> list[Sum]:
    """Return the user's sums by day or by model, of the days from `first` to `last`.

    Without a user, those of all users together, also of those who have been erased.
    """
    return _sums(await db.fetch(_READ.format(key=_KEYS[by]), user_id, first, last))


# Read the sums of a page of users, those with the most tokens first.
_READ_USERS = """
WITH page AS (
    SELECT user_id, row_number() OVER (ORDER BY sum(input_tokens + output_tokens) DESC, user_id)
        AS place
    FROM usage_ledger WHERE ($1::text IS NULL OR user_id = $1) AND day BETWEEN $2 AND $3
    GROUP BY user_id ORDER BY place LIMIT $4 OFFSET $5)
SELECT u.user_id AS key, u.status, sum(u.answers)::bigint AS answers,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.estimated)::bigint AS estimated
FROM page JOIN usage_ledger u ON u.user_id = page.user_id AND u.day BETWEEN $2 AND $3
GROUP BY page.place, u.user_id, u.status ORDER BY page.place, u.status
"""


async def read_users(
    db: Database, user_id: str | None, first: date, last: date, *, limit: int, offset: int
) -> list[Sum]:
    """Return the sums of at most `limit` users, those with the most tokens first.

    The key of those who have been erased, all together, is empty.
    """
    return _sums(await db.fetch(_READ_USERS, user_id, first, last, limit, offset))


def _sums(rows: Sequence[Record]) -> list[Sum]:
    """Return one sum for each key of rows with a key and a status each, in their order."""
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
