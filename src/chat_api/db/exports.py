"""Reading all of a user's conversations, a page at a time, so that no connection is held between.

The user stands inside each statement. PostgreSQL makes the JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_api.db.database import Database
from chat_api.db.queries import CONVERSATION, VERSION, RunningMessage
from chat_api.db.tree import PARENT
from chat_api.db.visibility import VISIBLE

# A page has at most so many messages, and so many bytes of texts unless it has only one.
_PAGE_MESSAGES = 500
_PAGE_BYTES = 1_000_000
_FIELD_BYTES = 400
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages of a tree as JSON with `shown`, parents before children."""

    messages: list[str]
    running: RunningMessage | None
    """The running answer, which is not among the other messages."""
    after: tuple[int, str] | None
    """Where the next page begins; None after the last one."""


# 16 bytes for each id: a million conversations are 16 MB.
_FIND_ALL = f"""
SELECT coalesce(string_agg(uuid_send(id), ''::bytea ORDER BY updated_at DESC, id DESC), '') AS ids
FROM conversations WHERE user_id = $1 AND {VISIBLE}
"""  # noqa: S608  # the inserted text is ours


async def find_all(db: Database, user_id: str) -> bytes:
    """Return the ids of the user's conversations, newest activity first, 16 bytes each."""
    row = await db.fetchrow(_FIND_ALL, user_id)
    return b"" if row is None else bytes(row["ids"])


_READ_CONVERSATIONS = f"""
SELECT {CONVERSATION} AS json, c.id::text AS id
FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, place)
JOIN conversations c ON c.id = wanted.id AND c.user_id = $1 AND {VISIBLE}
ORDER BY wanted.place
"""  # noqa: S608  # the inserted text is a constant


async def read_conversations(
    db: Database, user_id: str, ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Return id and JSON of each of these conversations that is still there, in their order."""
    rows = await db.fetch(_READ_CONVERSATIONS, user_id, list(ids))
    return [(row["id"], row["json"]) for row in rows]


# What is beside the messages is counted once for the levels of the page, not once for each message:
# an answer can have thousands of versions.
_READ_MESSAGES = f"""
WITH page AS MATERIALIZED (
    SELECT * FROM (
        SELECT *, count(*) OVER () AS available,
            sum(bytes) OVER (ORDER BY position, id) AS bytes_so_far
        FROM (
            SELECT m.*, {PARENT} AS parent, octet_length(m.content)
                + coalesce(octet_length(m.reasoning), 0) + {_FIELD_BYTES} AS bytes
            FROM messages m
            WHERE m.conversation_id = $2 AND (m.replaces IS NULL OR m.replaces = m.id)
                AND (m.position, m.id) > ($3::integer, $4::uuid)
                AND EXISTS (
                    SELECT 1 FROM conversations WHERE user_id = $1 AND id = $2 AND {VISIBLE})
            ORDER BY m.position, m.id LIMIT {_PAGE_MESSAGES}) AS p) AS p
    WHERE bytes_so_far <= {_PAGE_BYTES} OR bytes_so_far = bytes),
versions AS (
    SELECT m.id, count(*) OVER (PARTITION BY m.parent) - 1 AS others, row_number() OVER (
        PARTITION BY m.parent ORDER BY coalesce(nullif(m.version, 0), 2147483647)) - 1 AS earlier
    FROM (
        SELECT m.id, m.version, {PARENT} AS parent FROM messages m
        WHERE m.conversation_id = $2 AND (m.replaces IS NULL OR m.replaces = m.id)
            AND m.position BETWEEN (SELECT min(position) FROM page)
                AND (SELECT max(position) FROM page)) AS m),
found AS (
    -- An object, because a planner without statistics would join by a loop over all versions.
    SELECT coalesce(jsonb_object_agg(id, jsonb_build_array(others, earlier)), '{{}}') AS beside
    FROM versions WHERE others > 0)
SELECT {VERSION} AS json, m.id::text AS id, m.position, m.available,
    m.status = 'generating' AS is_running
FROM page m
CROSS JOIN LATERAL (SELECT (SELECT beside FROM found) -> m.id::text AS beside) AS f
CROSS JOIN LATERAL (SELECT coalesce((f.beside ->> 0)::integer, 0) AS others,
    coalesce((f.beside ->> 1)::integer, 0) AS earlier) AS b
ORDER BY m.position, m.id
"""  # noqa: S608  # the inserted text is ours


async def read_messages(
    db: Database, user_id: str, conversation_id: str, after: tuple[int, str] | None
) -> MessagePage:
    """Return a page of all messages of a conversation's tree, from a place on."""
    position, last_id = after or (-1, _NO_ID)
    rows = await db.fetch(_READ_MESSAGES, user_id, conversation_id, position, last_id)
    if not rows:
        return MessagePage([], None, None)
    running = next((row for row in rows if row["is_running"]), None)
    is_last = len(rows) == rows[0]["available"] < _PAGE_MESSAGES
    return MessagePage(
        [row["json"] for row in rows if not row["is_running"]],
        None if running is None else RunningMessage(running["json"], running["id"]),
        None if is_last else (rows[-1]["position"], rows[-1]["id"]),
    )
