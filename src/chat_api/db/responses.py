"""Responses in the database: what a dialect stores with a generation, and reads of one.

The user stands inside each statement that a request leads to. Ids are strings that hold a UUID.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_api.db.database import Connection, Database
from chat_api.db.queries import MESSAGE
from chat_api.db.tree import BESIDE, PARENT
from chat_api.db.visibility import VISIBLE


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """What a dialect keeps of a request with the generation that it begins."""

    echo: str
    """JSON, which only the dialect reads."""
    is_background: bool
    fingerprint: bytes
    is_repeat: bool = False
    """Whether the client says that it sends the request again."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer, as JSON, and what was kept of its request, if anything."""

    message_id: str
    conversation_id: str
    message: str
    created_at: int
    echo: str | None
    last_number: int | None
    has_log: bool
    """Whether the log still has its events, or will have them."""
    attempt: int


# Read an answer that is no regeneration under way.
_READ = f"""
SELECT m.id::text AS message_id, m.conversation_id::text AS conversation_id,
    {MESSAGE} AS message, extract(epoch FROM m.created_at)::integer AS created_at,
    r.echo, r.last_number, coalesce(g.logged, false) AS has_log, coalesce(g.attempt, 1) AS attempt
FROM (SELECT m.*, {PARENT} AS parent FROM messages m WHERE m.id = $2) AS m
JOIN conversations c ON c.id = m.conversation_id AND c.user_id = $1 AND {VISIBLE}
CROSS JOIN LATERAL ({BESIDE}) AS b
LEFT JOIN responses r ON r.message_id = m.id
LEFT JOIN generations g ON g.message_id = m.id
WHERE m.role = 'assistant'
"""  # noqa: S608  # the inserted text is ours


async def read(db: Database, user_id: str, message_id: str) -> StoredResponse | None:
    """Return an answer of the user; None where there is none."""
    row = await db.fetchrow(_READ, user_id, message_id)
    return None if row is None else StoredResponse(**dict(row))


# Read the messages that were added before an answer, newest first.
_READ_INPUTS = f"""
WITH RECURSIVE up AS (
    SELECT m.id, {PARENT} AS parent, 0 AS steps
    FROM messages m JOIN conversations c ON c.id = m.conversation_id AND c.user_id = $1
    WHERE m.id = $2 AND {VISIBLE}
    UNION ALL
    SELECT m.id, {PARENT}, up.steps + 1 FROM up JOIN messages m ON m.id = up.parent
    WHERE up.steps < $3)
SELECT {MESSAGE} AS json
FROM up JOIN LATERAL (SELECT m.*, up.parent AS parent FROM messages m WHERE m.id = up.id) AS m
    ON true
CROSS JOIN LATERAL ({BESIDE}) AS b
WHERE up.steps > 0 ORDER BY up.steps
"""  # noqa: S608  # the inserted text is ours


async def read_inputs(db: Database, user_id: str, message_id: str, count: int) -> list[str]:
    """Return the messages that a request added before its answer, newest first, as JSON."""
    return [row["json"] for row in await db.fetch(_READ_INPUTS, user_id, message_id, count)]


# Find messages of the user, and their conversations. The question of a generation counts, too.
_FIND_MESSAGES = f"""
SELECT m.id::text AS id, m.conversation_id::text AS conversation_id
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE c.user_id = $1 AND m.id = ANY ($2::uuid[]) AND {VISIBLE}
"""  # noqa: S608  # the inserted text is ours


async def find_conversations(
    db: Database, user_id: str, message_ids: Sequence[str]
) -> dict[str, str]:
    """Return the conversation of each of these messages that is the user's."""
    rows = await db.fetch(_FIND_MESSAGES, user_id, list(message_ids))
    return {row["id"]: row["conversation_id"] for row in rows}


# --- items of conversations -----------------------------------------------------------------------

# Read the shown messages of a conversation before or after one of them.
_READ_ITEMS = """
SELECT {message} AS json FROM (
    SELECT m.*, {parent} AS parent FROM messages m
    WHERE m.conversation_id = $2 AND m.replaces IS NULL AND ($3::uuid IS NULL OR m.position
        {beyond} (SELECT position FROM messages
            WHERE id = $3 AND conversation_id = $2 AND replaces IS NULL))
    ORDER BY m.position {order} LIMIT $4) AS m
CROSS JOIN LATERAL ({beside}) AS b
WHERE EXISTS (SELECT 1 FROM conversations WHERE user_id = $1 AND id = $2 AND {visible})
ORDER BY m.position {order}
"""
_READ_ITEMS_UP = _READ_ITEMS.format(
    message=MESSAGE, parent=PARENT, beside=BESIDE, visible=VISIBLE, beyond=">", order="ASC"
)
_READ_ITEMS_DOWN = _READ_ITEMS.format(
    message=MESSAGE, parent=PARENT, beside=BESIDE, visible=VISIBLE, beyond="<", order="DESC"
)


async def read_items(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> list[str]:
    """Return the shown messages of a conversation from a place on, as JSON."""
    statement = _READ_ITEMS_DOWN if newest_first else _READ_ITEMS_UP
    rows = await db.fetch(statement, user_id, conversation_id, after, limit)
    return [row["json"] for row in rows]


# --- the number of the final event ----------------------------------------------------------------

_FIND_NOT_NUMBERED = """
SELECT m.id::text AS message_id, m.conversation_id::text AS conversation_id, r.echo, g.attempt
FROM responses r JOIN generations g ON g.message_id = r.message_id
JOIN messages m ON m.id = r.message_id
WHERE r.last_number IS NULL AND g.ended_at IS NOT NULL AND g.logged
ORDER BY g.ended_at LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class NotNumbered:
    """A response that has ended, whose final event's number is not stored yet."""

    message_id: str
    conversation_id: str
    echo: str
    attempt: int


async def find_not_numbered(db: Database, most: int) -> list[NotNumbered]:
    """Return at most `most` responses without a final number whose log is there, oldest first."""
    return [NotNumbered(**dict(row)) for row in await db.fetch(_FIND_NOT_NUMBERED, most)]


async def number(db: Database, message_id: str, last_number: int) -> None:
    """Store the number of a response's final event."""
    await db.fetch(
        "UPDATE responses SET last_number = $2 WHERE message_id = $1 AND last_number IS NULL",
        message_id,
        last_number,
    )


# --- beginning one --------------------------------------------------------------------------------

# Requests of a user that are the same take turns.
_LOCK_REQUEST = "SELECT pg_advisory_xact_lock(hashtextextended($1 || encode($2, 'hex'), 0))"

_FIND_REQUEST = f"""
SELECT r.message_id::text FROM responses r JOIN messages m ON m.id = r.message_id
    JOIN conversations c ON c.id = m.conversation_id AND {VISIBLE}
WHERE r.user_id = $1 AND r.fingerprint = $2 AND r.created_at > now() - interval '10 minutes'
ORDER BY r.created_at DESC LIMIT 1
"""  # noqa: S608  # the inserted text is ours

_KEEP = """
INSERT INTO responses (message_id, user_id, echo, is_background, fingerprint)
VALUES ($1, $2, $3, $4, $5)
"""


async def find_repeated(connection: Connection, user_id: str, kept: KeptRequest) -> str | None:
    """Return the answer that the same request began within ten minutes, if this one repeats it."""
    await connection.execute(_LOCK_REQUEST, user_id, kept.fingerprint)
    if not kept.is_repeat:
        return None
    found = await connection.fetchval(_FIND_REQUEST, user_id, kept.fingerprint)
    return None if found is None else str(found)


async def keep(connection: Connection, user_id: str, message_id: str, kept: KeptRequest) -> None:
    """Keep the request with its generation, in the transaction that begins it."""
    await connection.execute(
        _KEEP, message_id, user_id, kept.echo, kept.is_background, kept.fingerprint
    )
