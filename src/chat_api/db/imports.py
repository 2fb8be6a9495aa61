"""Writing imported conversations, each in one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime

from chat_api.db.database import Connection
from chat_api.db.queries import ConversationSettings

# The most bytes that one statement inserts, so that it ends in time.
_ROWS_AT_ONCE = 500
_CHARS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message and its place in the tree; the fields have the order of the statement."""

    id: str
    parent_id: str
    """The conversation's own id for a first message."""
    position: int
    version: int
    is_shown: bool
    role: str
    content: str
    status: str
    model_tag: str
    created_at: datetime
    reasoning: str | None
    finish_reason: str | None
    token_count: int
    inference_time_ms: int
    input_tokens: int | None
    output_tokens: int | None
    error: str | None


_IS_THERE = "SELECT 1 FROM conversations WHERE user_id = $1 AND id = ANY ($2::uuid[])"

_INSERT_CONVERSATION = """
INSERT INTO conversations (id, user_id, title, title_given, model_tag, is_favorited, instructions,
    options, tags, metadata, created_at, updated_at, expires_at)
VALUES ($1, $2, coalesce($3::text, 'New conversation'), $3::text IS NOT NULL,
    coalesce($4::text, 'default'), coalesce($5::boolean, false), $6, $7::json,
    coalesce($8::text[], '{}'), coalesce($9::json, '{}'), $10, $11, $12)
ON CONFLICT DO NOTHING RETURNING true
"""

_INSERT_MESSAGES = """
INSERT INTO messages (id, conversation_id, parent_id, position, version, replaces, role, content,
    status, model_tag, created_at, reasoning, finish_reason, token_count, inference_time_ms,
    input_tokens, output_tokens, error)
SELECT id, $1, parent_id, position, version, CASE WHEN NOT is_shown THEN id END, role, content,
    status, model_tag, created_at, reasoning, finish_reason, token_count, inference_time_ms,
    input_tokens, output_tokens, error
FROM unnest($2::uuid[], $3::uuid[], $4::integer[], $5::integer[], $6::boolean[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::text[],
    $14::integer[], $15::integer[], $16::integer[], $17::integer[], $18::text[])
    AS m (id, parent_id, position, version, is_shown, role, content, status, model_tag,
        created_at, reasoning, finish_reason, token_count, inference_time_ms, input_tokens,
        output_tokens, error)
"""


async def insert(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    settings: ConversationSettings,
    times: tuple[datetime, datetime],
    messages: Sequence[MessageRow],
    *,
    same_as: str | None,
) -> bool:
    """Insert a conversation with its whole tree, in the caller's transaction.

    Return False, and change nothing, where the user has it already, under this id or under
    `same_as`.
    """
    known = [conversation_id] if same_as is None else [conversation_id, same_as]
    if await connection.fetchval(_IS_THERE, user_id, known) is not None:
        return False
    inserted = await connection.fetchval(
        _INSERT_CONVERSATION,
        conversation_id,
        user_id,
        settings.title,
        settings.model_tag,
        settings.is_favorited,
        settings.instructions,
        settings.options,
        settings.tags,
        settings.metadata,
        *times,
        settings.expires_at,
    )
    if inserted is None:  # another import of the same file was faster
        return False
    for batch in _batches(messages):
        columns = list(zip(*map(astuple, batch), strict=True))
        assert len(columns) == len(fields(MessageRow))  # noqa: S101  # batches are not empty
        await connection.execute(_INSERT_MESSAGES, conversation_id, *map(list, columns))
    return True


def _batches(messages: Sequence[MessageRow]) -> Iterator[list[MessageRow]]:
    batch: list[MessageRow] = []
    size = 0
    for message in messages:
        chars = len(message.content) + len(message.reasoning or "")
        if batch and (len(batch) == _ROWS_AT_ONCE or size + chars > _CHARS_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += chars
    if batch:
        yield batch
