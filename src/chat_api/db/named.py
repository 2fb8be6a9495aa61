"""Finding conversations and messages by the ids of other dialects' clients."""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_api.db.database import Connection, Database
from chat_api.db.visibility import VISIBLE


@dataclass(frozen=True, slots=True)
class Named:
    """A message, and the one before it; the conversation's id stands for none."""

    id: str
    role: str
    content: str
    parent_id: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question."""

    id: str
    status: str


@dataclass(frozen=True, slots=True)
class Successor:
    """The answer that replaced another one, and the model that wrote it."""

    id: str
    model_tag: str


@dataclass(frozen=True, slots=True)
class Run:
    """The generation that an attempt belongs to, and what the attempt shares with the current one.

    `seam` is the last event of both; None where there is none.
    """

    conversation_id: str
    attempt: int
    seam: int | None


async def find_conversation(db: Database, user_id: str, candidates: Sequence[str]) -> str | None:
    """Return the first of these ids that is one of the user's conversations."""
    rows = await db.fetch(
        "SELECT id::text AS id FROM conversations "  # noqa: S608  # the inserted text is ours
        f"WHERE user_id = $1 AND id = ANY ($2::uuid[]) AND {VISIBLE}",
        user_id,
        list(candidates),
    )
    found = {row["id"] for row in rows}
    return next((candidate for candidate in candidates if candidate in found), None)


# Find the version of a message that is shown, or else itself.
_FIND_SHOWN = f"""
SELECT s.id::text AS id, s.role, s.content, s.replaces IS NULL AS is_shown,
    coalesce(s.parent_id, (
        SELECT p.id FROM messages p WHERE p.conversation_id = s.conversation_id
            AND p.replaces IS NULL AND p.position < s.position
        ORDER BY p.position DESC LIMIT 1), s.conversation_id)::text AS parent_id
FROM conversations c JOIN messages m ON m.conversation_id = c.id AND m.id = $3
JOIN messages s ON s.conversation_id = c.id AND s.position = m.position
    AND (s.id = m.id OR s.replaces IS NULL AND s.parent_id = m.parent_id)
WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE}
ORDER BY s.replaces IS NULL DESC LIMIT 1
"""  # noqa: S608  # the inserted text is ours


async def find_shown(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> Named | None:
    """Return the version of a message that is shown, or else itself; None for an unknown one."""
    row = await db.fetchrow(_FIND_SHOWN, user_id, conversation_id, message_id)
    return None if row is None else Named(**dict(row))


# Find the answer that is shown after a question, or else the newest one.
FIND_ANSWER = """
SELECT a.id::text AS id, a.status FROM messages q JOIN messages a
    ON a.conversation_id = q.conversation_id AND a.position = q.position + 1
    AND (a.parent_id = q.id OR a.parent_id IS NULL AND a.replaces IS NULL AND q.replaces IS NULL)
WHERE q.conversation_id = $1 AND q.id = $2 AND q.role = 'user' AND a.role = 'assistant'
ORDER BY a.replaces IS NULL DESC, a.created_at DESC, a.id DESC LIMIT 1
"""


async def find_answer(
    db: "Database | Connection", conversation_id: str, question_id: str
) -> Answer | None:
    """Return the answer that is shown after a question, or else the newest one."""
    row = await db.fetchrow(FIND_ANSWER, conversation_id, question_id)
    return None if row is None else Answer(row["id"], row["status"])


# Find the version that is shown in the place of an answer, if it was begun after that one, within
# ten minutes.
_FIND_SUCCESSOR = f"""
SELECT s.id::text AS id, s.model_tag
FROM conversations c JOIN messages m ON m.conversation_id = c.id AND m.id = $3
JOIN messages s ON s.conversation_id = c.id AND s.position = m.position
    AND s.parent_id = m.parent_id AND s.replaces IS NULL
WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE} AND m.role = 'assistant' AND m.replaces = m.id
    AND s.version > m.version AND s.created_at > now() - interval '10 minutes'
"""  # noqa: S608  # the inserted text is ours


async def find_successor(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> Successor | None:
    """Return the answer that has just replaced another, hidden one."""
    row = await db.fetchrow(_FIND_SUCCESSOR, user_id, conversation_id, message_id)
    return None if row is None else Successor(row["id"], row["model_tag"])


async def read_model_tag(db: Database, message_id: str) -> str | None:
    """Return the model of a message; None where there is no such message."""
    row = await db.fetchrow("SELECT model_tag FROM messages WHERE id = $1", message_id)
    return None if row is None else str(row["model_tag"])


# Find the user's generation of a message, and the last event that an attempt shares with it.
_FIND_RUN = f"""
SELECT g.conversation_id::text AS conversation_id, g.attempt, (
    SELECT CASE WHEN count(s) = g.attempt - $3::integer THEN min(s) END
    FROM unnest(g.seams[$3:g.attempt - 1]) AS s) AS seam
FROM generations g JOIN conversations c ON c.id = g.conversation_id
WHERE g.user_id = $1 AND g.message_id = $2 AND {VISIBLE}
"""  # noqa: S608  # the inserted text is ours


async def find_run(db: Database, user_id: str, message_id: str, attempt: int) -> Run | None:
    """Return the user's generation of a message; None where it is unknown."""
    row = await db.fetchrow(_FIND_RUN, user_id, message_id, attempt)
    return None if row is None else Run(**dict(row))
