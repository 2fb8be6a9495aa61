"""Erasing a user: no table keeps a row of theirs. A test searches every table.

What a user has is deleted in batches of conversations, so that no lock is held for long, and the
rest in one transaction when there are none left.
"""

from dataclasses import dataclass

from chat_api.db.database import Connection

_CONVERSATIONS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Erased:
    """One batch: the generations of its conversations, and which of them were running."""

    message_ids: list[str]
    running: list[str]
    is_last: bool


_LOCK_SOME = """
SELECT id::text AS id FROM conversations WHERE user_id = $1
ORDER BY updated_at, id LIMIT $2 FOR UPDATE
"""

# Generations are locked before their log, in the order in which the sweep does it.
_ERASE_GENERATIONS = """
WITH going AS MATERIALIZED (
    SELECT message_id, ended_at FROM generations WHERE conversation_id = ANY ($1::uuid[])
    FOR UPDATE),
log AS (DELETE FROM event_log l USING going g WHERE l.message_id = g.message_id),
unsubscribed AS (DELETE FROM subscriptions s USING going g WHERE s.message_id = g.message_id)
SELECT message_id::text AS id, ended_at IS NULL AS is_running FROM going
"""


async def erase_some(connection: Connection, user_id: str) -> Erased:
    """Erase a batch of the user's conversations, in the caller's transaction."""
    rows = await connection.fetch(_LOCK_SOME, user_id, _CONVERSATIONS_AT_ONCE)
    ids = [row["id"] for row in rows]
    generations = await connection.fetch(_ERASE_GENERATIONS, ids)
    await connection.execute("DELETE FROM conversations WHERE id = ANY ($1::uuid[])", ids)
    return Erased(
        [row["id"] for row in generations],
        [row["id"] for row in generations if row["is_running"]],
        is_last=len(ids) < _CONVERSATIONS_AT_ONCE,
    )


# A process that ran one of the generations may have logged events while its rows were deleted.
_ERASE_LATE_LOG = "DELETE FROM event_log WHERE message_id = ANY ($1::uuid[])"
_ERASE_LATE_SUBSCRIPTIONS = "DELETE FROM subscriptions WHERE message_id = ANY ($1::uuid[])"
# The counter first, as every change takes it.
_ERASE_REST = (
    "DELETE FROM idempotency_keys WHERE user_id = $1",
    "DELETE FROM message_quotas WHERE user_id = $1",
    # What the answers cost stays, without the user.
    """
    WITH gone AS (DELETE FROM usage_ledger WHERE user_id = $1 RETURNING *)
    INSERT INTO usage_ledger AS u
    SELECT '', day, model_tag, status, answers, input_tokens, output_tokens, estimated FROM gone
    ORDER BY day, model_tag, status
    ON CONFLICT (user_id, day, model_tag, status) DO UPDATE SET
        answers = u.answers + excluded.answers,
        input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        estimated = u.estimated + excluded.estimated
    """,
    "DELETE FROM change_counters WHERE user_id = $1",
    "DELETE FROM changes WHERE user_id = $1",
)


async def erase_rest(connection: Connection, user_id: str, message_ids: list[str]) -> None:
    """Erase what is left of a user without conversations, in the caller's transaction."""
    await connection.execute("SELECT samosachaat_refuse_frozen($1)", user_id)
    await connection.execute(_ERASE_LATE_LOG, message_ids)
    await connection.execute(_ERASE_LATE_SUBSCRIPTIONS, message_ids)
    for statement in _ERASE_REST:
        await connection.execute(statement, user_id)
