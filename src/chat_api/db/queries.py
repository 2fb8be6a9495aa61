"""The statements by which users read and change conversations and their messages.

The user stands inside each statement, so that no caller can forget it: a foreign id finds nothing.
PostgreSQL makes the JSON of what is only passed on. Ids are strings that hold a UUID.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from chat_api.db.database import Connection, Database, Record
from chat_api.db.erasure import erase_conversations
from chat_api.db.tree import BESIDE, PARENT
from chat_api.db.visibility import VISIBLE

# JSON as `json_build_object` writes it, for half its price.
CONVERSATION = """concat('{"id" : "', c.id, '", "user_id" : ', to_json(c.user_id),
    ', "title" : ', to_json(c.title), ', "model_tag" : ', to_json(c.model_tag),
    ', "is_favorited" : ', CASE WHEN c.is_favorited THEN 'true' ELSE 'false' END,
    ', "created_at" : ', to_json(c.created_at), ', "updated_at" : ', to_json(c.updated_at),
    ', "instructions" : ', coalesce(to_json(c.instructions), 'null'),
    ', "options" : ', coalesce(c.options, 'null'),
    ', "tags" : ', CASE WHEN c.tags = '{}' THEN '[]' ELSE to_json(c.tags) END,
    ', "metadata" : ', c.metadata,
    CASE WHEN c.expires_at IS NOT NULL THEN concat(', "expires_at" : ', to_json(c.expires_at)) END,
    '}')
"""
# Of a message with its `parent` and what is beside it (`tree.PARENT`, `tree.BESIDE`).
_FIELDS = """'{"id" : "', m.id, '", "conversation_id" : "', m.conversation_id,
    '", "role" : "', m.role, '", "content" : ', to_json(m.content),
    ', "status" : "', m.status, '", "token_count" : ', m.token_count,
    ', "model_tag" : ', to_json(m.model_tag),
    ', "inference_time_ms" : ', m.inference_time_ms, ', "created_at" : ', to_json(m.created_at),
    ', "parent_id" : ', CASE WHEN m.parent = m.conversation_id THEN 'null'
        ELSE concat('"', m.parent, '"') END,
    CASE WHEN others = 0 THEN ', "version" : 1, "versions" : 1'
        ELSE concat(', "version" : ', earlier + 1, ', "versions" : ', others + 1) END,
    CASE WHEN m.input_tokens IS NULL AND m.reasoning IS NULL AND m.finish_reason IS NULL
            AND m.error IS NULL
        THEN ', "reasoning" : null, "finish_reason" : null, "usage" : null, "error" : null'
        ELSE concat(
            ', "reasoning" : ', coalesce(to_json(m.reasoning), 'null'),
            ', "finish_reason" : ', coalesce(to_json(m.finish_reason), 'null'),
            ', "usage" : ', CASE WHEN m.input_tokens IS NULL THEN 'null' ELSE concat(
                '{"input_tokens" : ', m.input_tokens,
                ', "output_tokens" : ', m.output_tokens, '}') END,
            ', "error" : ', coalesce(to_json(m.error), 'null')) END"""
MESSAGE = f"concat({_FIELDS}, '}}')"
VERSION = (
    f"concat({_FIELDS}, ', \"shown\" : ', "
    "CASE WHEN m.replaces IS NULL THEN 'true' ELSE 'false' END, '}')"
)
# What is beside the messages of a page of the shown path: only what is not shown.
_PAGE = f"""(
    SELECT *, coalesce(jsonb_array_length(hidden), 0) AS others,
        CASE WHEN hidden IS NULL THEN 0 WHEN coalesce(version, 0) = 0
            THEN jsonb_array_length(hidden)
            ELSE jsonb_array_length(jsonb_path_query_array(hidden, '$[*] ? (@ < $version)',
                jsonb_build_object('version', version))) END AS earlier
    FROM (
        SELECT *, CASE WHEN (SELECT hidden FROM beside) IS NOT NULL
            THEN (SELECT hidden FROM beside) -> parent::text END AS hidden
        FROM (
            SELECT *,
                coalesce(m.parent_id, lag(m.id) OVER (ORDER BY m.position), {PARENT}) AS parent
            FROM messages m WHERE m.conversation_id = $2 AND m.replaces IS NULL
                AND m.position < (SELECT position FROM place)
                AND m.position >= (SELECT first FROM reach)) AS page
        ORDER BY position) AS page)"""  # noqa: S608  # the inserted text is ours
# The user is $1, the conversation $2.
_OF_USER = (
    "EXISTS (SELECT 1 FROM conversations "  # noqa: S608  # the inserted text is ours
    f"WHERE user_id = $1 AND id = $2 AND {VISIBLE})"
)


# A page of messages has at most so many messages, and so many bytes of JSON unless it has only one.
MOST_LISTED = 2_000
MOST_LISTED_BYTES = 5_000_000
# What it is filled up to by estimate: the bytes of each text, and so many for its other fields.
_FILLED_BYTES = 4_000_000
_FIELD_BYTES = 400


class ListedConversation(NamedTuple):
    """A conversation as JSON, and its place in the list."""

    json: str
    id: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RunningMessage:
    """A running answer, as JSON without its text so far."""

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


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """The settings of a conversation; None leaves a field unchanged, or at its default."""

    title: str | None = None
    model_tag: str | None = None
    is_favorited: bool | None = None
    instructions: str | None = None
    options: str | None = None  # JSON
    tags: list[str] | None = None
    metadata: str | None = None  # JSON
    expires_at: datetime | None = None
    clears: frozenset[str] = frozenset()
    """Which of `instructions`, `options` and `expires_at` become null."""

    @property
    def changes(self) -> tuple[object, ...]:
        """Return the arguments for the last eight parameters of a copy and of an update."""
        cleared = (name in self.clears for name in ("instructions", "options", "expires_at"))
        fields = (self.instructions, self.options, self.tags, self.metadata)
        return (*fields, *cleared, self.expires_at)


async def create_conversation(
    db: "Connection | Database", user_id: str, conversation_id: str, settings: ConversationSettings
) -> str:
    """Insert a conversation, and return it as JSON."""
    row = await db.fetchrow(
        f"""
        WITH c AS (
            INSERT INTO conversations (id, user_id, title, title_given, model_tag, instructions,
                options, tags, metadata, expires_at)
            VALUES ($1, $2, coalesce($3::text, 'New conversation'), $3::text IS NOT NULL,
                coalesce($4, 'default'), $5, $6::json, coalesce($7::text[], '{{}}'),
                coalesce($8::json, '{{}}'), $9)
            RETURNING *)
        SELECT {CONVERSATION} AS json FROM c
        """,  # noqa: S608  # the inserted text is ours
        conversation_id,
        user_id,
        settings.title,
        settings.model_tag,
        settings.instructions,
        settings.options,
        settings.tags,
        settings.metadata,
        settings.expires_at,
    )
    assert row is not None  # noqa: S101  # an INSERT … RETURNING gives its row
    return str(row["json"])


async def copy_conversation(
    connection: Connection,
    user_id: str,
    original_id: str,
    conversation_id: str,
    settings: ConversationSettings,
) -> str | None:
    """Copy a conversation of the user without its messages; return the copy as JSON.

    Its metadata, which may be a client's own ids, and whether it is a favourite are not copied. To
    be run in a transaction that holds the other's lock. None where the user has no such other one.
    """
    row = await connection.fetchrow(
        f"""
        WITH c AS (
            INSERT INTO conversations (id, user_id, title, title_given, model_tag, instructions,
                options, tags, metadata, expires_at)
            SELECT $3, user_id, coalesce($4::text, title), title_given OR $4::text IS NOT NULL,
                coalesce($5::text, model_tag), CASE WHEN $10 THEN NULL
                    ELSE coalesce($6::text, instructions) END,
                CASE WHEN $11 THEN NULL ELSE coalesce($7::json, options) END,
                coalesce($8::text[], tags), coalesce($9::json, '{{}}'),
                CASE WHEN $12 THEN NULL ELSE coalesce($13::timestamptz, expires_at) END
            FROM conversations WHERE user_id = $1 AND id = $2 AND {VISIBLE}
            RETURNING *)
        SELECT {CONVERSATION} AS json FROM c
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        original_id,
        conversation_id,
        settings.title,
        settings.model_tag,
        *settings.changes,
    )
    return None if row is None else str(row["json"])


async def list_conversations(
    db: Database,
    user_id: str,
    *,
    limit: int,
    offset: int = 0,
    after: tuple[datetime, str] | None = None,
    favorited: bool | None = None,
    tag: str | None = None,
) -> list[ListedConversation]:
    """Return at most `limit` conversations after the place `after`, newest activity first.

    With `favorited`, only the user's favourites, or only the others; with `tag`, only those that
    have it.
    """
    chosen = "" if favorited is None else f"AND c.is_favorited = {favorited}"
    arguments: list[Any] = [user_id, limit]
    if after is None:
        place, window = "", "OFFSET $3"
        arguments.append(offset)
    else:
        place, window = "AND (c.updated_at, c.id) < ($3, $4::uuid)", ""
        arguments.extend(after)
    if tag is not None:
        arguments.append(tag)
        chosen += f" AND ${len(arguments)} = ANY (c.tags)"
    rows = await db.fetch(
        f"""
        SELECT {CONVERSATION} AS json, c.id::text AS id, c.updated_at
        FROM (  -- so that no JSON is made of what the offset skips
            SELECT * FROM conversations c WHERE c.user_id = $1 AND {VISIBLE} {chosen} {place}
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


# In one response.
MOST_TAGS = 1_000
_LIST_TAGS = f"""
SELECT DISTINCT tag COLLATE "C" AS tag FROM conversations c, unnest(c.tags) AS tag
WHERE c.user_id = $1 AND {VISIBLE} ORDER BY 1 LIMIT {MOST_TAGS}
"""  # noqa: S608  # the inserted text is ours


async def list_tags(db: Database, user_id: str) -> list[str]:
    """Return the tags of the user's conversations, in the order of code points."""
    return [row["tag"] for row in await db.fetch(_LIST_TAGS, user_id)]


async def read_conversation(db: Database, user_id: str, conversation_id: str) -> str | None:
    """Return the conversation as JSON; None if the user has no such conversation."""
    row = await db.fetchrow(
        f"SELECT {CONVERSATION} AS json FROM conversations c "  # noqa: S608  # ours
        f"WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE}",
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
    """Return the conversation with its newest `limit` messages before message `before`.

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
    """Return the row of `open_conversation`, without `messages` if they are too large."""
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
        reach AS (
            -- The size of a text is known without reading it.
            SELECT min(position) AS first FROM (
                SELECT position, bytes, sum(bytes) OVER (ORDER BY position DESC) AS bytes_so_far
                FROM (
                    SELECT position, octet_length(content) + coalesce(octet_length(reasoning), 0)
                        + {_FIELD_BYTES} AS bytes
                    FROM messages WHERE conversation_id = $2 AND replaces IS NULL
                        AND position < (SELECT position FROM place)) AS sizes
                ORDER BY position DESC LIMIT $3) AS newest
            WHERE bytes_so_far <= $5 OR bytes_so_far = bytes)
        SELECT {CONVERSATION} AS json,
            (SELECT position IS NOT NULL FROM place) AS is_placed,
            octet_length(w.messages) AS bytes, l.is_too_large,
            CASE WHEN NOT l.is_too_large THEN w.messages END AS messages,
            CASE WHEN w.running IS NOT NULL THEN ARRAY[w.running, w.running_id] END AS running,
            (SELECT o.id::text FROM messages o
                WHERE o.conversation_id = $2 AND o.replaces IS NULL AND o.position = w.first
                    AND EXISTS (SELECT 1 FROM messages older WHERE older.conversation_id = $2
                        AND older.replaces IS NULL AND older.position < w.first)) AS next_before
        FROM conversations c, (
            -- The page is in order: sorting here, or a CTE, would copy all of the text once more.
            SELECT string_agg({MESSAGE}, ',') FILTER (WHERE m.status <> 'generating') AS messages,
                min({MESSAGE}) FILTER (WHERE m.status = 'generating') AS running,
                min(m.id::text) FILTER (WHERE m.status = 'generating') AS running_id,
                min(m.position) AS first, count(*) AS count
            FROM {_PAGE} m) w, LATERAL (
            SELECT w.count > 1 AND octet_length(w.messages) > {MOST_LISTED_BYTES}
        ) AS l (is_too_large)
        WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE}
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        limit,
        before,
        filled,
    )


@dataclass(frozen=True, slots=True)
class Versions:
    """A page of the messages that have the same parent, in their order."""

    messages: str
    """JSON objects with commas between them."""
    running: RunningMessage | None
    """One of them that is being written; it is the last one of all."""
    next_before: str | None
    """The page's first message, where there are earlier ones."""


async def read_versions(
    db: Database,
    user_id: str,
    conversation_id: str,
    message_id: str,
    *,
    limit: int,
    before: str | None,
) -> Versions | None:
    """Return the newest `limit` versions of a message before version `before`.

    Fewer where their JSON exceeds MOST_LISTED_BYTES, but at least one. None where the user has no
    such message, or `before` is none of its versions.
    """
    filled = _FILLED_BYTES
    while True:
        row = await db.fetchrow(
            _READ_VERSIONS, user_id, conversation_id, message_id, limit, before, filled
        )
        if row is None or not row["count"]:
            return None
        if not row["is_too_large"]:
            break
        filled = filled * _FILLED_BYTES // row["bytes"]
    running = row["running"]
    return Versions(
        row["messages"] or "",
        None if running is None else RunningMessage(*running),
        row["next_before"],
    )


_READ_VERSIONS = f"""
WITH versions AS (
    SELECT m.*, count(*) OVER () - 1 AS others, row_number() OVER siblings - 1 AS earlier
    FROM (
        SELECT m.*, {PARENT} AS parent FROM messages m
        WHERE m.conversation_id = $2 AND m.position = (
            SELECT position FROM messages WHERE conversation_id = $2 AND id = $3)
            AND (m.replaces IS NULL OR m.replaces = m.id)) AS m
    WHERE m.parent = (SELECT {PARENT} FROM messages m WHERE m.id = $3
        AND (m.replaces IS NULL OR m.replaces = m.id))
    WINDOW siblings AS (ORDER BY coalesce(nullif(m.version, 0), 2147483647))),
page AS (
    SELECT * FROM (
        SELECT *, octet_length(content) + {_FIELD_BYTES} AS bytes,
            sum(octet_length(content) + {_FIELD_BYTES}) OVER (ORDER BY earlier DESC)
                AS bytes_so_far
        FROM versions
        WHERE $5::uuid IS NULL OR earlier < (SELECT earlier FROM versions WHERE id = $5)
        ORDER BY earlier DESC LIMIT $4) AS newest
    WHERE bytes_so_far <= $6 OR bytes_so_far = bytes),
written AS MATERIALIZED (
    SELECT string_agg({VERSION}, ',' ORDER BY m.earlier)
        FILTER (WHERE m.status <> 'generating') AS messages, count(*) AS count
    FROM page m)
SELECT w.count, octet_length(w.messages) AS bytes, l.is_too_large,
    CASE WHEN NOT l.is_too_large THEN w.messages END AS messages,
    (SELECT ARRAY[{VERSION}, m.id::text] FROM page m WHERE m.status = 'generating') AS running,
    (SELECT CASE WHEN min(m.earlier) > 0 THEN (
        SELECT o.id::text FROM page o ORDER BY o.earlier LIMIT 1) END FROM page m) AS next_before
FROM written w, LATERAL (
    SELECT coalesce(w.count > 1 AND octet_length(w.messages) > {MOST_LISTED_BYTES}, false)
) AS l (is_too_large)
WHERE {_OF_USER}
"""  # noqa: S608  # the inserted text is ours


async def read_message(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> str | None:
    """Return a message as JSON; None if the user has no such message."""
    row = await db.fetchrow(
        f"""
        SELECT {MESSAGE} AS json FROM (
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
    """Return the last answer as JSON; a regeneration counts once it is complete."""
    row = await db.fetchrow(
        f"""
        SELECT {MESSAGE} AS json FROM (
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
    db: Database, user_id: str, conversation_id: str, settings: ConversationSettings
) -> str | None:
    """Change the given fields; return the conversation as JSON, None if there is none.

    Its place in the list stays: only messages move it.
    """
    row = await db.fetchrow(
        f"""
        UPDATE conversations c SET
            title = coalesce($3::text, title),
            title_given = title_given OR $3::text IS NOT NULL,
            model_tag = coalesce($4::text, model_tag),
            is_favorited = coalesce($5::boolean, is_favorited),
            instructions = CASE WHEN $10 THEN NULL ELSE coalesce($6::text, instructions) END,
            options = CASE WHEN $11 THEN NULL ELSE coalesce($7::json, options) END,
            tags = coalesce($8::text[], tags),
            metadata = coalesce($9::json, metadata),
            expires_at = CASE WHEN $12 THEN NULL
                ELSE coalesce($13::timestamptz, expires_at) END
        WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE}
        RETURNING {CONVERSATION} AS json
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        settings.title,
        settings.model_tag,
        settings.is_favorited,
        *settings.changes,
    )
    return None if row is None else str(row["json"])


async def delete_conversation(
    connection: Connection, user_id: str, conversation_id: str
) -> list[str] | None:
    """Delete the conversation and all its rows; return the ids of generations still running.

    None where there is no such conversation. To be run in a transaction.
    """
    locked = await connection.fetchval(
        "SELECT 1 FROM conversations "  # noqa: S608  # the inserted text is ours
        f"WHERE user_id = $1 AND id = $2 AND {VISIBLE} FOR UPDATE",
        user_id,
        conversation_id,
    )
    if locked is None:
        return None
    erased = await erase_conversations(connection, [conversation_id])
    return erased.running
