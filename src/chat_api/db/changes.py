"""The change feed in the database. Triggers write it (migration 0008); this reads and sweeps it.

A user's changes are numbered in the order of their commits, with gaps. Numbers never repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from chat_api.db.database import Database
from chat_api.db.queries import CONVERSATION
from chat_api.db.visibility import VISIBLE
from chat_api.errors import UserMoving

Place = tuple[str, int]
"""A user's id, and the number of the last change that was seen."""

# How long a cursor is valid.
KEPT_FOR = "24 hours"
# The most changes in a page, and in all pages of one statement.
PAGE_CHANGES = 100
ROUND_CHANGES = 500
_SWEPT_AT_ONCE = 2_000


@dataclass(slots=True)
class Page:
    """The changes after a place: numbered JSON objects, one line each; and the new number."""

    number: int
    changes: list[tuple[int, bytes]] = field(default_factory=list)
    is_full: bool = False
    """Whether more changes may be available already."""


# Read the number of a user's last change, and whether the user is in another cell by now.
_LAST = """
SELECT k.last, EXISTS (
    SELECT FROM frozen_users WHERE user_id = $1 AND state = 'moved') AS has_moved
FROM (SELECT 1) AS always LEFT JOIN change_counters k ON k.user_id = $1
"""

# Begin the numbers of a user who has none, with a row that tells nothing, so that a cursor at the
# first number is known for as long as any other.
_BEGIN = """
WITH counter AS (
    INSERT INTO change_counters (user_id, last)
    VALUES ($1, (date_part('epoch', clock_timestamp()) * 1e6)::bigint)
    ON CONFLICT DO NOTHING RETURNING last)
INSERT INTO changes (user_id, number) SELECT $1, last FROM counter
"""


async def last_number(db: Database, user_id: str) -> int:
    """Return the number of the user's last change. Raise UserMoving."""
    while True:
        row = await db.fetchrow(_LAST, user_id)
        assert row is not None  # noqa: S101  # the statement always gives one row
        if row["has_moved"]:
            raise UserMoving
        if row["last"] is not None:
            return int(row["last"])
        await db.fetch(_BEGIN, user_id)


async def moved_lately(db: Database) -> set[str]:
    """Return the users who were moved to another cell within the last ten minutes."""
    rows = await db.fetch(
        "SELECT user_id FROM frozen_users "
        "WHERE state = 'moved' AND changed_at > now() - interval '10 minutes'"
    )
    return {row["user_id"] for row in rows}


# Read what follows each place, in one snapshot. A place whose own change is not there any more, or
# never was, is sent `resync`. The state of a conversation is the newest one; of one that is gone
# there is none, nor of one that has expired, and its `deleted` follows.
_READ = f"""
SELECT p.place, coalesce(p.number, p.last) AS number, CASE
    WHEN NOT p.known THEN '{{"resync":true}}'
    WHEN p.deleted THEN json_build_object('deleted', p.conversation_id)::text
    WHEN p.message_id IS NOT NULL THEN json_build_object('answer', json_build_object(
        'conversation_id', p.conversation_id, 'message_id', p.message_id,
        'status', p.status))::text
    WHEN c.id IS NOT NULL THEN '{{"conversation":' || {CONVERSATION} || '}}'
    END AS json
FROM (
    SELECT u.place, u.user_id, k.last, s.known, ch.*
    FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS u (user_id, seen, place)
    JOIN change_counters k ON k.user_id = u.user_id AND k.last <> u.seen
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM changes WHERE changes.user_id = u.user_id AND changes.number = u.seen)
    ) AS s (known)
    LEFT JOIN LATERAL (
        SELECT number, conversation_id, message_id, status, deleted FROM changes
        WHERE s.known AND changes.user_id = u.user_id AND changes.number > u.seen
        ORDER BY number LIMIT $3) ch ON true
    ORDER BY u.place, ch.number LIMIT $4) p
LEFT JOIN conversations c ON p.message_id IS NULL AND NOT p.deleted
    AND c.id = p.conversation_id AND c.user_id = p.user_id AND {VISIBLE}
ORDER BY p.place, p.number
"""  # noqa: S608  # the inserted text is a constant


async def read_pages(db: Database, places: Sequence[Place]) -> dict[int, Page]:
    """Return the new pages by the index of their place; the last places may be left out."""
    rows = await db.fetch(
        _READ,
        [user_id for user_id, _ in places],
        [number for _, number in places],
        PAGE_CHANGES,
        ROUND_CHANGES,
    )
    pages: dict[int, Page] = {}
    counts: dict[int, int] = {}
    for row in rows:
        index = row["place"] - 1
        page = pages.setdefault(index, Page(row["number"]))
        page.number = row["number"]
        counts[index] = counts.get(index, 0) + 1
        if row["json"] is not None:
            # A raw line end can only be white space between the JSON's tokens.
            page.changes.append((page.number, row["json"].replace("\n", " ").encode()))
    for index, page in pages.items():
        page.is_full = counts[index] == PAGE_CHANGES or len(rows) == ROUND_CHANGES
    return pages


# Remove changes in the order of their numbers: while a change is there, all later ones are. That is
# why rows that another process removes are not passed over with SKIP LOCKED.
_SWEEP = f"""
WITH old AS (
    DELETE FROM changes WHERE (user_id, number) IN (
        SELECT user_id, number FROM changes
        WHERE number < (date_part('epoch', now() - interval '{KEPT_FOR}') * 1e6)::bigint
        ORDER BY number LIMIT $1)
    RETURNING 1)
SELECT count(*) AS swept FROM old
"""  # noqa: S608  # the inserted text is a constant

# Remove the counters of users without changes. The number that such a user gets next is later.
_SWEEP_COUNTERS = f"""
DELETE FROM change_counters k
WHERE k.last < (date_part('epoch', now() - interval '{KEPT_FOR}') * 1e6)::bigint
    AND NOT EXISTS (SELECT FROM changes WHERE changes.user_id = k.user_id)
"""  # noqa: S608  # the inserted text is a constant


async def sweep(db: Database) -> None:
    """Remove the changes of more than a day ago."""
    swept = _SWEPT_AT_ONCE
    while swept == _SWEPT_AT_ONCE:
        row = await db.fetchrow(_SWEEP, _SWEPT_AT_ONCE)
        swept = 0 if row is None else row["swept"]


async def sweep_counters(db: Database) -> None:
    """Remove the counters of users without changes."""
    await db.fetch(_SWEEP_COUNTERS)
