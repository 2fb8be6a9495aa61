"""The tree of a conversation's messages: versions, the shown path, and their changes.

A message's `parent_id` is the message before it; the conversation's own id stands for the parent of
a first message. `position` is the depth, `version` counts from 1 among the children of a parent,
and is 0 while a regeneration is under way. Messages whose `replaces` is null are shown: they form
one path from a first message to a leaf. A message that is not shown has its own id in `replaces`; a
regeneration under way has another message's, or the conversation's.

Every change is made in a transaction that holds the conversation's row lock and has found no
running generation that it would disturb. On the shown path, messages are hidden before others are
shown: two shown ones never stand at one position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_api.db.database import Connection, Record
from chat_api.db.visibility import VISIBLE

# The parent of a message `m`, also where a replica of the previous version inserted it (migration
# 0007). The conversation's id stands for the parent of a first message.
PARENT = """coalesce(m.parent_id, (
    SELECT p.id FROM messages p WHERE p.conversation_id = m.conversation_id
        AND p.replaces IS NULL AND p.position < m.position
    ORDER BY p.position DESC LIMIT 1), m.conversation_id)"""
# The number of other messages with the `parent` of a message `m`, and of those that are earlier. A
# regeneration under way is not counted.
BESIDE = """
    SELECT count(*) AS others, count(*) FILTER (WHERE s.version < CASE
        WHEN coalesce(m.version, 0) = 0 THEN 2147483647 ELSE m.version END) AS earlier
    FROM messages s
    WHERE s.conversation_id = m.conversation_id AND s.position = m.position AND s.id <> m.id
        AND s.parent_id = m.parent AND (s.replaces IS NULL OR s.replaces = s.id)"""


@dataclass(frozen=True, slots=True)
class Node:
    """A message's place in the tree."""

    id: str
    role: str
    position: int
    is_shown: bool
    is_under_way: bool
    """Whether it is a regeneration that has not ended."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A message that no generation writes."""

    id: str
    role: str
    content: str


_FIND = """
SELECT id::text AS id, role, position, replaces IS NULL AS is_shown,
    replaces IS NOT NULL AND replaces <> id AS is_under_way
FROM messages WHERE conversation_id = $1 AND id = $2
"""


async def lock(connection: Connection, user_id: str, conversation_id: str) -> bool:
    """Lock the user's conversation; return False where there is none."""
    found = await connection.fetchval(
        "SELECT true FROM conversations "  # noqa: S608  # the inserted text is ours
        f"WHERE user_id = $1 AND id = $2 AND {VISIBLE} FOR NO KEY UPDATE",
        user_id,
        conversation_id,
    )
    return bool(found)


async def find(connection: Connection, conversation_id: str, message_id: str) -> Node | None:
    """Return a message's place; None where the conversation has no such message."""
    row = await connection.fetchrow(_FIND, conversation_id, message_id)
    return None if row is None else Node(**dict(row))


_FIND_LAST = """
SELECT id::text AS id, role, position, true AS is_shown, false AS is_under_way
FROM messages WHERE conversation_id = $1 AND replaces IS NULL ORDER BY position DESC LIMIT 1
"""


async def find_last(connection: Connection, conversation_id: str) -> Node | None:
    """Return the place of the last message that is shown."""
    row = await connection.fetchrow(_FIND_LAST, conversation_id)
    return None if row is None else Node(**dict(row))


# Find the message that a running generation writes.
_FIND_RUNNING = """
SELECT m.id::text AS id, m.role, m.position, m.replaces IS NULL AS is_shown,
    m.replaces IS NOT NULL AND m.replaces <> m.id AS is_under_way
FROM generations g JOIN messages m ON m.id = g.message_id
WHERE g.conversation_id = $1 AND g.ended_at IS NULL
"""


async def find_running(connection: Connection, conversation_id: str) -> Node | None:
    """Return the place of the message that is being generated, if there is one."""
    row = await connection.fetchrow(_FIND_RUNNING, conversation_id)
    return None if row is None else Node(**dict(row))


# --- the shown path -------------------------------------------------------------------------------

# Give the shown messages that replicas of the previous version inserted, or completed, their parent
# and their version.
_FILL = """
UPDATE messages m SET parent_id = s.parent, version = 1 + coalesce((
    SELECT max(o.version) FROM messages o
    WHERE o.conversation_id = $1 AND o.position = s.position AND o.parent_id = s.parent
        AND o.id <> s.id), 0)
FROM (
    SELECT id, position, parent_id IS NULL OR coalesce(version, 0) = 0 AS is_empty,
        coalesce(parent_id, lag(id) OVER (ORDER BY position), conversation_id) AS parent
    FROM messages WHERE conversation_id = $1 AND replaces IS NULL) AS s
WHERE m.id = s.id AND s.is_empty
"""

# Find the messages from a hidden one up to the first that is shown, and that one's position.
_FIND_UPWARDS = """
WITH RECURSIVE up AS (
    SELECT id, parent_id, position, replaces FROM messages WHERE conversation_id = $1 AND id = $2
    UNION ALL
    SELECT p.id, p.parent_id, p.position, p.replaces
    FROM up JOIN messages p ON p.id = up.parent_id
    WHERE up.replaces IS NOT NULL)
SELECT array_agg(id::text) FILTER (WHERE replaces IS NOT NULL) AS hidden,
    coalesce(max(position) FILTER (WHERE replaces IS NULL), -1) AS position
FROM up
"""

# Hide the shown messages after a position.
_HIDE = """
UPDATE messages SET replaces = id
WHERE conversation_id = $1 AND replaces IS NULL AND position > $2
"""

_SHOW = "UPDATE messages SET replaces = NULL WHERE id = ANY ($1::uuid[]) AND replaces = id"


async def fill(connection: Connection, conversation_id: str) -> None:
    """Complete what replicas of the previous version inserted, before the tree changes."""
    await connection.execute(_FILL, conversation_id)


async def show(connection: Connection, conversation_id: str, message_id: str) -> None:
    """Show the path to a message, and nothing after it. The conversation's id: show nothing.

    The message is to be a leaf, unless another message is inserted after it.
    """
    row = await connection.fetchrow(_FIND_UPWARDS, conversation_id, message_id)
    assert row is not None  # noqa: S101  # an aggregate always gives one row
    await connection.execute(_HIDE, conversation_id, row["position"])
    if row["hidden"]:
        await connection.execute(_SHOW, row["hidden"])


# The messages of $1 below $2, itself among them. Each level is found by its position, whatever the
# planner expects.
_SUBTREE = """
WITH RECURSIVE below AS (
    SELECT id, position, created_at FROM messages WHERE conversation_id = $1 AND id = $2
    UNION ALL
    SELECT c.id, c.position, c.created_at
    FROM below CROSS JOIN LATERAL (
        SELECT m.id, m.position, m.created_at FROM messages m
        WHERE m.conversation_id = $1 AND m.position = below.position + 1
            AND m.parent_id = below.id AND (m.replaces IS NULL OR m.replaces = m.id)
        OFFSET 0) AS c)
"""

_FIND_NEWEST_LEAF = f"""
{_SUBTREE}
SELECT b.id::text FROM below b
WHERE NOT EXISTS (SELECT 1 FROM messages c WHERE c.conversation_id = $1
    AND c.position = b.position + 1 AND c.parent_id = b.id
    AND (c.replaces IS NULL OR c.replaces = c.id))
ORDER BY b.created_at DESC, b.id DESC LIMIT 1
"""  # noqa: S608  # the inserted text is a constant


async def show_through(connection: Connection, conversation_id: str, message_id: str) -> None:
    """Show the path through a message, down to the leaf that was written last."""
    leaf = await connection.fetchval(_FIND_NEWEST_LEAF, conversation_id, message_id)
    await show(connection, conversation_id, leaf)


_NEXT_VERSION = """
SELECT 1 + coalesce(max(version), 0) FROM messages
WHERE conversation_id = $1 AND position = $2 AND parent_id = $3
"""


async def next_version(
    connection: Connection, conversation_id: str, parent_id: str, position: int
) -> int:
    """Return the version number of a further message after a parent."""
    version = await connection.fetchval(_NEXT_VERSION, conversation_id, position, parent_id)
    return int(version)


# Insert messages below each other.
_APPEND = """
INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag, parent_id,
    version)
SELECT n.id, $1, $2 + n.place - 1, n.role, n.content, 'complete', 'default',
    coalesce(lag(n.id) OVER (ORDER BY n.place), $3::uuid), CASE n.place WHEN 1 THEN $4 ELSE 1 END
FROM unnest($5::uuid[], $6::text[], $7::text[]) WITH ORDINALITY AS n (id, role, content, place)
"""


async def append(
    connection: Connection,
    conversation_id: str,
    parent_id: str,
    position: int,
    version: int,
    messages: Sequence[Addition],
) -> None:
    """Insert messages, each after the one before it, and the first one at a position."""
    await connection.execute(
        _APPEND,
        conversation_id,
        position,
        parent_id,
        version,
        [message.id for message in messages],
        [message.role for message in messages],
        [message.content for message in messages],
    )


_READ_TAIL = """
SELECT m.id::text AS id, m.role, m.content,
    EXISTS (SELECT 1 FROM responses r WHERE r.message_id = m.id) AS is_response
FROM messages m WHERE m.conversation_id = $1 AND m.replaces IS NULL
ORDER BY m.position DESC LIMIT $2
"""


async def read_tail(connection: Connection, conversation_id: str, most: int) -> list[Record]:
    """Return the last messages shown, oldest first, and whether a response wrote each."""
    return list(reversed(await connection.fetch(_READ_TAIL, conversation_id, most)))


async def touch(connection: Connection, conversation_id: str, title: str | None = None) -> None:
    """Move the conversation to the top of the list, as every message does.

    `title` is what its first message gives it, unless its user has.
    """
    await connection.execute(
        """
        UPDATE conversations SET
            updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
            title = CASE WHEN title_given THEN title ELSE coalesce($2::text, title) END
        WHERE id = $1
        """,
        conversation_id,
        title,
    )


async def tell(connection: Connection, conversation_id: str) -> None:
    """Write a change of the conversation to the change feed; its place in the list stays."""
    await connection.execute(
        "UPDATE conversations SET updated_at = updated_at WHERE id = $1", conversation_id
    )


# --- a regeneration that is complete --------------------------------------------------------------

# Make the regeneration a version that is not shown yet. Its `replaces` becomes its own id, because
# the old message needs that value to be hidden.
_TAKE_VERSION = f"""
UPDATE messages r SET replaces = r.id, parent_id = s.parent, version = 1 + coalesce((
    SELECT max(o.version) FROM messages o
    WHERE o.conversation_id = r.conversation_id AND o.position = r.position
        AND o.parent_id = s.parent AND o.id <> r.id), 0)
FROM (SELECT m.id, {PARENT} AS parent FROM messages m WHERE m.id = $1) AS s
WHERE r.id = $1 AND s.id = r.id
RETURNING r.position
"""  # noqa: S608  # the inserted text is a constant


async def take_place(connection: Connection, conversation_id: str, message_id: str) -> None:
    """Make a regeneration the newest version, and hide the old one with what followed it.

    The new one is to be shown next.
    """
    await fill(connection, conversation_id)
    position = await connection.fetchval(_TAKE_VERSION, message_id)
    if position is not None:
        await connection.execute(_HIDE, conversation_id, position - 1)


# --- deleting -------------------------------------------------------------------------------------

# Find the version before a message, or else the one after it.
_FIND_BESIDE = """
SELECT s.id::text FROM messages m JOIN messages s ON s.conversation_id = m.conversation_id
    AND s.position = m.position AND s.parent_id = m.parent_id AND s.replaces = s.id
WHERE m.id = $1 AND s.id <> m.id
ORDER BY s.version > m.version, abs(s.version - m.version) LIMIT 1
"""

_DELETE = f"""
{_SUBTREE},
generated AS MATERIALIZED (
    -- Locked before their log, in the order in which the sweep does it.
    SELECT message_id FROM generations WHERE message_id IN (SELECT id FROM below) FOR UPDATE),
log AS (DELETE FROM event_log l USING generated g WHERE l.message_id = g.message_id)
DELETE FROM messages WHERE conversation_id = $1 AND id IN (SELECT id FROM below)
"""  # noqa: S608  # the inserted text is a constant


async def delete(connection: Connection, conversation_id: str, node: Node) -> None:
    """Delete a message and all below it. Where it was shown, a version beside it is shown then.

    The rows of their generations stay, without their log: idempotency keys refer to them.
    """
    beside = await connection.fetchval(_FIND_BESIDE, node.id) if node.is_shown else None
    await connection.execute(_DELETE, conversation_id, node.id)
    if beside is not None:
        await show_through(connection, conversation_id, beside)


# --- forking --------------------------------------------------------------------------------------

# Read the path to a message, first message first. `is_running` is whether an answer on it is being
# written.
_READ_PATH = """
WITH RECURSIVE up AS (
    SELECT id, parent_id, position, replaces, status
    FROM messages WHERE conversation_id = $1 AND id = $2
    UNION ALL
    SELECT p.id, p.parent_id, p.position, p.replaces, p.status
    FROM up JOIN messages p ON p.id = up.parent_id
    WHERE up.replaces IS NOT NULL)
SELECT id::text AS id, status = 'generating' AS is_running FROM (
    SELECT id, position, status FROM up
    UNION
    SELECT id, position, status FROM messages
    WHERE conversation_id = $1 AND replaces IS NULL
        AND position < (SELECT min(position) FROM up WHERE replaces IS NULL)) AS path
ORDER BY position
"""

# Copy messages, as one shown path.
_COPY = """
INSERT INTO messages (id, conversation_id, position, role, content, status, token_count,
    model_tag, inference_time_ms, created_at, reasoning, finish_reason, input_tokens,
    output_tokens, error, parent_id, version)
SELECT c.copy, $1, c.place - 1, m.role, m.content, m.status, m.token_count,
    m.model_tag, m.inference_time_ms, m.created_at, m.reasoning, m.finish_reason, m.input_tokens,
    m.output_tokens, m.error,
    coalesce(lag(c.copy) OVER (ORDER BY c.place), $1), 1
FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS c (original, copy, place)
JOIN messages m ON m.id = c.original
"""


async def read_path(connection: Connection, conversation_id: str, message_id: str) -> list[Record]:
    """Return `id` and `is_running` of the messages on the path to one, first message first."""
    return await connection.fetch(_READ_PATH, conversation_id, message_id)


async def copy_messages(
    connection: Connection, conversation_id: str, originals: Sequence[str], copies: Sequence[str]
) -> None:
    """Copy messages, in their order, into an empty conversation, under new ids."""
    await connection.execute(_COPY, conversation_id, list(originals), list(copies))
