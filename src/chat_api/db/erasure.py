"""Erasing a user: no table keeps a row of that user. A test searches every table.

What a user has is deleted in batches of conversations, so that no lock is held for long, and the
rest in one transaction when there are none left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_api.db.database import Connection

_CONVERSATIONS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Generations:
    """The generations of erased conversations, and which of them were running."""

    message_ids: list[str]
    running: list[str]


_LOCK_SOME = """
SELECT id::text AS id FROM conversations WHERE user_id = $1
ORDER BY updated_at, id LIMIT $2 FOR UPDATE
"""

# End the generations that run, so that the ledger counts what they have written by the model that
# they have: as many tokens as events were logged.
_END_RUNNING = """
UPDATE generations g SET ended_at = now(), status = 'stopped', done = json_build_object(
    'token_count', coalesce((
        SELECT max(last_event) FROM event_log l WHERE l.message_id = g.message_id), 0))::text
WHERE conversation_id = ANY ($1::uuid[]) AND ended_at IS NULL
RETURNING message_id::text AS id
"""

# Generations are locked before their log, in the order in which the sweep does it.
_ERASE_GENERATIONS = """
WITH going AS MATERIALIZED (
    SELECT message_id FROM generations WHERE conversation_id = ANY ($1::uuid[]) FOR UPDATE),
log AS (DELETE FROM event_log l USING going g WHERE l.message_id = g.message_id),
unsubscribed AS (DELETE FROM subscriptions s USING going g WHERE s.message_id = g.message_id)
SELECT message_id::text AS id FROM going
"""


async def erase_conversations(connection: Connection, ids: Sequence[str]) -> Generations:
    """Erase conversations, which the caller's transaction has locked, with all their rows."""
    running = await connection.fetch(_END_RUNNING, ids)
    rows = await connection.fetch(_ERASE_GENERATIONS, ids)
    await connection.execute("DELETE FROM conversations WHERE id = ANY ($1::uuid[])", ids)
    return Generations([row["id"] for row in rows], [row["id"] for row in running])


async def erase_some(connection: Connection, user_id: str) -> tuple[Generations, bool]:
    """Erase a batch of the user's conversations, in the caller's transaction.

    Return their generations, and whether it was the last batch.
    """
    rows = await connection.fetch(_LOCK_SOME, user_id, _CONVERSATIONS_AT_ONCE)
    erased = await erase_conversations(connection, [row["id"] for row in rows])
    return erased, len(rows) < _CONVERSATIONS_AT_ONCE


# A process that ran one of the generations may have logged events while its rows were deleted.
_ERASE_LATE_LOG = "DELETE FROM event_log WHERE message_id = ANY ($1::uuid[])"
_ERASE_LATE_SUBSCRIPTIONS = "DELETE FROM subscriptions WHERE message_id = ANY ($1::uuid[])"
_ERASE_ROWS = (
    "DELETE FROM idempotency_keys WHERE user_id = $1",
    "DELETE FROM message_quotas WHERE user_id = $1",
    "DELETE FROM user_limits WHERE user_id = $1",
)
_ERASE_NAME = (
    # The acts of administrators stay, without the id of the user concerned.
    "UPDATE audit_log SET user_id = NULL WHERE user_id = $1",
    # The usage stays, without the user.
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
    "DELETE FROM frozen_users WHERE user_id = $1 AND state = 'moved'",
)
# The counter first, as every change takes it.
_ERASE_FEED = (
    "DELETE FROM change_counters WHERE user_id = $1",
    "DELETE FROM changes WHERE user_id = $1",
)
# A user who has moved is erased also where the move left something of them: in the audit log.
_REFUSE_MOVING = """
SELECT samosachaat_refuse_frozen($1)
WHERE NOT EXISTS (SELECT FROM frozen_users WHERE user_id = $1 AND state = 'moved')
"""


async def erase_late(connection: Connection, message_ids: Sequence[str]) -> None:
    """Erase what was written of these generations while they were erased.

    In a transaction after that one, whose statements did not see it.
    """
    await connection.execute(_ERASE_LATE_LOG, message_ids)
    await connection.execute(_ERASE_LATE_SUBSCRIPTIONS, message_ids)


async def erase_rest(connection: Connection, user_id: str, message_ids: Sequence[str]) -> None:
    """Erase what is left of a user without conversations, in the caller's transaction."""
    await connection.execute(_REFUSE_MOVING, user_id)
    await erase_late(connection, message_ids)
    for statement in (*_ERASE_ROWS, *_ERASE_NAME, *_ERASE_FEED):
        await connection.execute(statement, user_id)


async def erase_moved(connection: Connection, user_id: str, message_ids: Sequence[str]) -> None:
    """Erase what is left of a user whose rows are in another cell, in the caller's transaction.

    The audit log stays as it is: it tells what administrators did here.
    """
    await erase_late(connection, message_ids)
    # The copy in the other cell counts as the user's usage.
    await connection.execute("DELETE FROM usage_ledger WHERE user_id = $1", user_id)
    for statement in (*_ERASE_ROWS, *_ERASE_FEED):
        await connection.execute(statement, user_id)
