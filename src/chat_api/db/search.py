"""Search in the titles and messages of one user, without an index (docs/decisions/0011).

Letters are compared without case. What that means depends on the server: Unicode's simple case
folding (PostgreSQL 18), its lower case (17, or any version with ICU), or the lower case of the
database's own locale, which under the locale C knows ASCII only.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

import asyncpg

from chat_api.db.database import Connection
from chat_api.db.queries import CONVERSATION
from chat_api.db.visibility import VISIBLE
from chat_api.errors import SearchTimeout

# Where no letter of the words has a case: the text is searched without a copy of it.
NO_FOLD = "{}"
# Where only ASCII letters have a case in the words: several times cheaper than ICU's.
ASCII_FOLD = 'lower({} COLLATE "C")'
# How long one statement of a search may take.
STATEMENT_SECONDS = 4.0
# Characters of a text that are read before and after its first match.
BEFORE, AFTER = 100, 300
# A title stands above the messages of the same time.
_TITLE_RANK = 2_147_483_647

# When, what is above what at the same time, and the id of the message or conversation.
Place: TypeAlias = tuple[datetime, int, str]
# The words of one form of a query: one of them, and the others.
Form: TypeAlias = tuple[str, Sequence[str]]


class Hit(NamedTuple):
    """A title or a message that contains every word."""

    conversation: str  # JSON
    message: str | None  # JSON; None for a title
    excerpt: str
    """The text around its first match."""
    cut_before: bool
    cut_after: bool
    place: Place


class Batch(NamedTuple):
    hits: list[Hit]
    """The newest ones in these conversations."""
    rest: tuple[datetime, str] | None
    """The last of these conversations; None where no others are left."""


async def read_fold(connection: Connection) -> str:
    """Return the SQL expression that folds case, with `{}` for the text."""
    row = await connection.fetchrow(
        """
        SELECT current_setting('server_version_num')::integer AS version,
            EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'pg_c_utf8'
                AND pg_char_to_encoding(getdatabaseencoding()) = collencoding) AS builtin,
            EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu') AS icu
        """
    )
    assert row is not None  # noqa: S101  # the database that we are connected to
    if row["builtin"]:
        name = "casefold" if row["version"] >= 180_000 else "lower"
        return name + "({} COLLATE pg_c_utf8)"
    return 'lower({} COLLATE "und-x-icu")' if row["icu"] else "lower({})"


async def begin_search(connection: Connection) -> None:
    """Prepare a transaction: it sees one state of the database, and its statements end in time.

    They use one core: a search must not take those of other users. Waiting for a lock is part of
    that time; a shorter limit of its own would now and then be told as another error. The planner's
    costs grow with the messages of all users, so that it would have each statement compiled, which
    takes longer than the search.
    """
    await connection.execute(
        f"""
        SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
        SET LOCAL statement_timeout = {int(STATEMENT_SECONDS * 1000)};
        SET LOCAL lock_timeout = 0;
        SET LOCAL max_parallel_workers_per_gather = 0;
        SET LOCAL jit = off;
        """
    )


async def search_conversations(
    connection: Connection,
    user_id: str,
    fold: str,
    forms: Sequence[Form],
    *,
    conversations: int,
    rest: tuple[datetime, str] | None,
    limit: int,
    after: Place | None,
) -> Batch:
    """Return the newest `limit` hits after the place `after`, in the next conversations after
    `rest`.

    To be run in a transaction of `begin_search`. Raise SearchTimeout.
    """
    statement = _statement(fold, len(forms))
    words = [part for first, others in forms for part in (first, list(others))]
    try:
        rows = await connection.fetch(
            statement,
            user_id,
            *(rest or (None, None)),
            conversations,
            *(after or (None,) * 3),
            limit,
            *words,
        )
    except asyncpg.QueryCanceledError as error:
        raise SearchTimeout from error
    hits = [
        Hit(
            row["conversation"],
            row["message"],
            row["excerpt"],
            row["cut_before"],
            row["cut_after"],
            (row["time"].replace(tzinfo=UTC), row["rank"], row["id"]),
        )
        for row in rows
        if row["id"] is not None
    ]
    last = rows[0]["rest"] if rows else None
    return Batch(hits, None if last is None else (last[0].replace(tzinfo=UTC), last[1]))


def _needles(fold: str, firsts: list[str]) -> tuple[str, str]:
    """Return the subqueries with the forms of the words, and what is true of a text with them."""
    # Folded once and not for each text: a subquery without references is evaluated beforehand.
    needles = ",\n".join(
        f"needle_{form} AS MATERIALIZED (SELECT {_folded(fold, f'${9 + 2 * form}::text')} AS first,"  # noqa: S608  # ours
        f" ARRAY(SELECT {_folded(fold, 'word')} FROM unnest(${10 + 2 * form}::text[]) AS o (word))"
        " AS others)"
        for form in range(len(firsts))
    )
    # The first word is the most selective; the others are looked for where that is found.
    contains = " OR ".join(
        f"(strpos(folded, {first}) > 0 AND NOT EXISTS (SELECT 1"  # noqa: S608  # ours
        f" FROM unnest((SELECT others FROM needle_{form})) AS other (word)"
        " WHERE strpos(folded, word) = 0))"
        for form, first in enumerate(firsts)
    )
    return needles, contains


def _statement(fold: str, forms: int) -> str:
    """Return the statement of `search_conversations` for this many forms of the words."""
    firsts = [f"(SELECT first FROM needle_{form})" for form in range(forms)]  # noqa: S608  # ours
    needles, contains = _needles(fold, firsts)
    first_match = ", ".join(f"nullif(strpos(folded, {first}), 0)" for first in firsts)
    return f"""
        WITH {needles},
        chosen AS MATERIALIZED (
            SELECT * FROM conversations
            WHERE user_id = $1 AND {VISIBLE}
                AND ($2::timestamptz IS NULL OR (updated_at, id) < ($2, $3::uuid))
            ORDER BY updated_at DESC, id DESC LIMIT $4),
        found AS MATERIALIZED (
            SELECT c.updated_at AS time, {_TITLE_RANK} AS rank, c.id, c.id AS conversation_id,
                NULL::text AS role
            FROM chosen c CROSS JOIN LATERAL (
                SELECT {_folded(fold, "c.title")} AS folded OFFSET 0) AS text
            WHERE {contains}
            UNION ALL
            SELECT m.created_at, m.position, m.id, c.id, m.role
            FROM chosen c CROSS JOIN LATERAL (
                -- Kept apart, so that the messages are found by their conversation whatever the
                -- planner expects, and each text is read and folded once.
                SELECT m.created_at, m.position, m.id, m.role,
                    {_folded(fold, "m.content")} AS folded
                FROM messages m
                WHERE m.conversation_id = c.id AND (m.replaces IS NULL OR m.replaces = m.id)
                    AND ($5::timestamptz IS NULL
                        OR (m.created_at, m.position, m.id) < ($5, $6::integer, $7::uuid))
                OFFSET 0) AS m
            WHERE {contains}),
        newest AS (
            SELECT * FROM found
            WHERE $5::timestamptz IS NULL OR (time, rank, id) < ($5, $6::integer, $7::uuid)
            ORDER BY time DESC, rank DESC, id DESC LIMIT $8),
        written AS (
            SELECT n.time, n.rank, n.id::text AS id, {CONVERSATION} AS conversation,
                CASE WHEN n.role IS NOT NULL THEN json_build_object(
                    'id', n.id, 'role', n.role, 'created_at', n.time)::text END AS message,
                substr(text, start, {BEFORE + AFTER}) AS excerpt,
                start > 1 AS cut_before, start + {BEFORE + AFTER} <= length(text) AS cut_after
            FROM newest n
            JOIN chosen c ON c.id = n.conversation_id
            CROSS JOIN LATERAL (SELECT CASE WHEN n.role IS NULL THEN c.title
                ELSE (SELECT content FROM messages WHERE id = n.id) END AS text OFFSET 0) AS whole
            CROSS JOIN LATERAL (SELECT {_folded(fold, "text")} AS folded OFFSET 0) AS again
            CROSS JOIN LATERAL (
                SELECT greatest(1, least({first_match}) - {BEFORE}) AS start OFFSET 0) AS place)
        SELECT w.*, r.rest FROM (
            SELECT CASE WHEN count(*) = $4 THEN (
                SELECT (updated_at, id::text) FROM chosen ORDER BY updated_at, id LIMIT 1
            ) END AS rest FROM chosen) AS r
        LEFT JOIN written w ON true ORDER BY w.time DESC, w.rank DESC, w.id::uuid DESC
        """  # noqa: S608  # the inserted text is ours


def _folded(fold: str, text: str) -> str:
    """Compared by its bytes, as the position is looked for, whatever the database's locale is."""
    return f'{fold.format(text)} COLLATE "C"'
