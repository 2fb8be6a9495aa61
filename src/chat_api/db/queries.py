"""What users read and change: the statements on conversations and their messages.

The user stands inside each statement, so that no caller can forget it: a foreign id finds nothing.
PostgreSQL makes the JSON of what is only passed on. Ids are strings that hold a UUID.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from chat_api.db.database import Connection, Database, Record
from chat_api.db.tree import BESIDE, PARENT

# JSON as `json_build_object` writes it, for half its price.
CONVERSATION = """concat('{"id" : "', c.id, '", "user_id" : ', to_json(c.user_id),
    ', "title" : ', to_json(c.title), ', "model_tag" : ', to_json(c.model_tag),
    ', "is_favorited" : ', CASE WHEN c.is_favorited THEN 'true' ELSE 'false' END,
    ', "created_at" : ', to_json(c.created_at), ', "updated_at" : ', to_json(c.updated_at),
    ', "instructions" : ', coalesce(to_json(c.instructions), 'null'),
    ', "options" : ', coalesce(c.options, 'null'),
    ', "tags" : ', CASE WHEN c.tags = '{}' THEN '[]' ELSE to_json(c.tags) END,
    ', "metadata" : ', c.metadata, '}')
"""
# Of a message with its `parent` and what is beside it (`tree.PARENT`, `tree.BESIDE`).
_FIELDS = """'{"id" : "', m.id, '", "conversation_id" : "', m.conversation_id,
    '", "role" : "', m.role, '", "content" : ', to_json(m.content),
    ', "status" : "', m.status, '", "token_count" : ', m.token_count,
    ', "model_tag" : ', to_json(m.model_tag),
    ', "inference_time_ms" : ', m.inference_time_ms, ', "created_at" : ', to_json(m.created_at),
    ', "parent_id" : ', CASE WHEN m.parent = m.conversation_id THEN 'null'
        ELSE concat('"', m.parent, '"') END,
    ', "version" : ', earlier + 1, ', "versions" : ', others + 1"""
_MESSAGE = f"concat({_FIELDS}, '}}')"
_VERSION = (
    f"concat({_FIELDS}, ', \"shown\" : ', "
    "CASE WHEN m.replaces IS NULL THEN 'true' ELSE 'false' END, '}')"
)
# What is beside the messages of a page of the shown path: only what is not shown.
_PAGE = """(
    SELECT *, coalesce(jsonb_array_length(hidden), 0) AS others,
        CASE WHEN hidden IS NULL THEN 0 WHEN coalesce(version, 0) = 0
            THEN jsonb_array_length(hidden)
            ELSE jsonb_array_length(jsonb_path_query_array(hidden, '$[*] ? (@ < $version)',
                jsonb_build_object('version', version))) END AS earlier
    FROM page)"""
# The user is $1, the conversation $2.
_OF_USER = "EXISTS (SELECT 1 FROM conversations WHERE user_id = $1 AND id = $2)"


# A page of messages has at most so many messages, and so many bytes of JSON unless it has only one.
MOST_LISTED = 2_000
MOST_LISTED_BYTES = 5_000_000
# What it is filled up to by estimate: the bytes of each text, and so many for its other fields.
_FILLED_BYTES = 4_000_000
_FIELD_BYTES = 400


class ListedConversation(NamedTuple):
    """A conversation as JSON, and where it stands in the list."""

    json: str
    id: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RunningMessage:
    """An answer that is being written, as JSON without its text so far."""

    json: str
    id: str


@dataclass(frozen=True, slots=True)
class OpenConversation:
    """A conversation as JSON, and a page of its messages, oldest first."""

    json: str
    messages: str
    """JSON objects with commas between them, without the running answer, which stands last."""
    running: RunningMessage | None
    next_before: str | None
    """The page's oldest message, where there are older ones."""


async def create_conversation(
    db: Database, user_id: str, conversation_id: str, title: str | None, model_tag: str
) -> str:
    """The new conversation as JSON."""
    row = await db.fetchrow(
        f"""
        WITH c AS (
            INSERT INTO conversations (id, user_id, title, title_given, model_tag)
            VALUES ($1, $2, coalesce($3::text, 'New conversation'), $3::text IS NOT NULL, $4)
            RETURNING *)
        SELECT {CONVERSATION} AS json FROM c
        """,  # noqa: S608  # the inserted text is ours
        conversation_id,
        user_id,
        title,
        model_tag,
    )
    assert row is not None  # noqa: S101  # an INSERT … RETURNING gives its row
    return str(row["json"])


async def list_conversations(
    db: Database,
    user_id: str,
    *,
    limit: int,
    offset: int = 0,
    after: tuple[datetime, str] | None = None,
    favorited: bool | None = None,
) -> list[ListedConversation]:
    """At most `limit` conversations, newest activity first, from the place `after` on.

    With `favorited`, only the user's favourites, or only the others.
    """
    chosen = "" if favorited is None else f"AND c.is_favorited = {favorited}"
    arguments: list[Any] = [user_id, limit]
    if after is None:
        place, window = "", "OFFSET $3"
        arguments.append(offset)
    else:
        place, window = "AND (c.updated_at, c.id) < ($3, $4::uuid)", ""
        arguments.extend(after)
    rows = await db.fetch(
        f"""
        SELECT {CONVERSATION} AS json, c.id::text AS id, c.updated_at
        FROM (  -- so that no JSON is made of what the offset skips
            SELECT * FROM conversations c WHERE c.user_id = $1 {chosen} {place}
            ORDER BY c.updated_at DESC, c.id DESC LIMIT $2 {window}) c
        ORDER BY c.updated_at DESC, c.id DESC
        """,  # noqa: S608  # the inserted text is ours
        *arguments,
    )
    # The driver gives times in UTC; the very last one (9999-12-31 23:59:59.999999) without a zone.
    return [
        ListedConversation(row["json"], row["id"], row["updated_at"].replace(tzinfo=UTC))
        for row in rows
    ]


async def read_conversation(db: Database, user_id: str, conversation_id: str) -> str | None:
    """The conversation as JSON; None where the user has no such conversation."""
    row = await db.fetchrow(
        f"SELECT {CONVERSATION} AS json FROM conversations c "  # noqa: S608  # ours
        "WHERE c.user_id = $1 AND c.id = $2",
        user_id,
        conversation_id,
    )
    return None if row is None else str(row["json"])


async def open_conversation(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    limit: int,
    before: str | None,
) -> OpenConversation | None:
    """The conversation with its newest `limit` messages before message `before`.

    Fewer where their JSON exceeds MOST_LISTED_BYTES, but at least one. A regeneration is not among
    them until it is complete. None where the user has no such conversation, or `before` is none of
    its messages.
    """
    filled = _FILLED_BYTES
    while True:
        row = await _open_conversation(db, user_id, conversation_id, limit, before, filled)
        if row is None or not row["is_placed"]:
            return None
        if not row["is_too_large"]:
            break
        # Escaped, a character may take six bytes of JSON.
        filled = filled * _FILLED_BYTES // row["bytes"]
    running = row["running"]
    return OpenConversation(
        row["json"],
        row["messages"] or "",
        None if running is None else RunningMessage(*running),
        row["next_before"],
    )


async def _open_conversation(
    db: Database,
    user_id: str,
    conversation_id: str,
    limit: int,
    before: str | None,
    filled: int,
) -> Record | None:
    """The row of `open_conversation`, without `messages` where they are too large."""
    return await db.fetchrow(
        f"""
        WITH place AS (
            SELECT CASE WHEN $4::uuid IS NULL THEN 2147483647 ELSE (
                SELECT position FROM messages
                WHERE id = $4 AND conversation_id = $2 AND replaces IS NULL) END AS position),
        beside AS MATERIALIZED (
            -- The versions of what is not shown, by parent: null in most conversations.
            SELECT jsonb_object_agg(parent_id, versions) AS hidden FROM (
                SELECT parent_id, jsonb_agg(version) AS versions FROM messages
                WHERE conversation_id = $2 AND replaces = id GROUP BY parent_id) AS h),
        page AS (
            SELECT *, (SELECT hidden FROM beside) -> parent::text AS hidden FROM (
                -- The size of a text is known without reading it.
                SELECT *, octet_length(content) + {_FIELD_BYTES} AS bytes,
                    sum(octet_length(content) + {_FIELD_BYTES}) OVER (ORDER BY position DESC)
                    AS bytes_so_far,
                    coalesce(parent_id, lead(id) OVER (ORDER BY position DESC), conversation_id)
                    AS parent
                FROM messages
                WHERE conversation_id = $2 AND replaces IS NULL
                    AND position < (SELECT position FROM place)
                ORDER BY position DESC LIMIT $3) AS newest
            WHERE bytes_so_far <= $5 OR bytes_so_far = bytes),
        written AS MATERIALIZED (
            SELECT string_agg({_MESSAGE}, ',' ORDER BY m.position)
                FILTER (WHERE m.status <> 'generating') AS messages, count(*) AS count
            FROM {_PAGE} m)
        SELECT {CONVERSATION} AS json,
            (SELECT position IS NOT NULL FROM place) AS is_placed,
            octet_length(w.messages) AS bytes, l.is_too_large,
            CASE WHEN NOT l.is_too_large THEN w.messages END AS messages,
            (SELECT ARRAY[{_MESSAGE}, m.id::text] FROM {_PAGE} m
                WHERE m.status = 'generating') AS running,
            (SELECT o.id::text FROM (SELECT * FROM page ORDER BY position LIMIT 1) o
                WHERE EXISTS (SELECT 1 FROM messages older WHERE older.conversation_id = $2
                    AND older.replaces IS NULL AND older.position < o.position)) AS next_before
        FROM conversations c, written w, LATERAL (
            SELECT w.count > 1 AND octet_length(w.messages) > {MOST_LISTED_BYTES}
        ) AS l (is_too_large)
        WHERE c.user_id = $1 AND c.id = $2
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        limit,
        before,
        filled,
    )


async def read_message(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> str | None:
    """One message as JSON; None where the user has no such message."""
    row = await db.fetchrow(
        f"""
        SELECT {_MESSAGE} AS json FROM (
            SELECT m.*, {PARENT} AS parent FROM messages m
            WHERE m.conversation_id = $2 AND m.id = $3) AS m
        CROSS JOIN LATERAL ({BESIDE}) AS b
        WHERE {_OF_USER}
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        message_id,
    )
    return None if row is None else str(row["json"])


async def read_last_answer(db: Database, user_id: str, conversation_id: str) -> str | None:
    """The conversation's last answer as JSON; a regeneration counts once it is complete."""
    row = await db.fetchrow(
        f"""
        SELECT {_MESSAGE} AS json FROM (
            SELECT m.*, {PARENT} AS parent FROM messages m
            WHERE m.conversation_id = $2 AND m.role = 'assistant' AND m.replaces IS NULL
            ORDER BY m.position DESC LIMIT 1) AS m
        CROSS JOIN LATERAL ({BESIDE}) AS b
        WHERE {_OF_USER}
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
    )
    return None if row is None else str(row["json"])


async def update_conversation(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    title: str | None = None,
    model_tag: str | None = None,
    is_favorited: bool | None = None,
) -> str | None:
    """Change what is not None; the conversation as JSON, None where there is none.

    Its place in the list stays: only messages move it.
    """
    row = await db.fetchrow(
        f"""
        UPDATE conversations c SET
            title = coalesce($3::text, title),
            title_given = title_given OR $3::text IS NOT NULL,
            model_tag = coalesce($4::text, model_tag),
            is_favorited = coalesce($5::boolean, is_favorited)
        WHERE c.user_id = $1 AND c.id = $2
        RETURNING {CONVERSATION} AS json
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        title,
        model_tag,
        is_favorited,
    )
    return None if row is None else str(row["json"])


async def delete_conversation(
    connection: Connection, user_id: str, conversation_id: str
) -> list[str] | None:
    """Delete the conversation and all its rows; return the ids of generations still running.

    None where there is no such conversation. To be run in a transaction.
    """
    locked = await connection.fetchval(
        "SELECT 1 FROM conversations WHERE user_id = $1 AND id = $2 FOR UPDATE",
        user_id,
        conversation_id,
    )
    if locked is None:
        return None
    rows = await connection.fetch(
        """
        WITH going AS MATERIALIZED (
            -- Locked before their log, in the order in which the sweep does it.
            SELECT message_id, ended_at FROM generations WHERE conversation_id = $1 FOR UPDATE),
        log AS (DELETE FROM event_log l USING going g WHERE l.message_id = g.message_id),
        unsubscribed AS (
            DELETE FROM subscriptions s USING going g WHERE s.message_id = g.message_id)
        SELECT message_id::text AS id FROM going WHERE ended_at IS NULL
        """,
        conversation_id,
    )
    await connection.execute("DELETE FROM conversations WHERE id = $1", conversation_id)
    return [row["id"] for row in rows]
