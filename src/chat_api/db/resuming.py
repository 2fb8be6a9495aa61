"""Continuing an ended answer at its user's request.

The message and its generation stay the same, at the next attempt. Its events get further
numbers; those of before are one snapshot of the text from then on.
"""

from dataclasses import dataclass, replace

from chat_api.db import sends
from chat_api.db.connecting import Connection
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.db.idempotency import Repeat, find_repeat, keep_key
from chat_api.db.quotas import (
    GENERATION_RETRY_SECONDS,
    Quotas,
    check_quotas,
    count_message,
    quotas_of,
)
from chat_api.db.sends import Busy, Draft
from chat_api.db.visibility import VISIBLE
from chat_api.errors import NothingToContinue, TooManyGenerations

RESUMABLE = ("stopped", "interrupted")


@dataclass(frozen=True, slots=True)
class Ended:
    """The last message of a conversation, with the fields that continuing it needs."""

    message_id: str
    question_id: str | None
    role: str
    status: str
    content: str
    reasoning: str
    finish_reason: str | None
    model_tag: str
    token_count: int
    inference_time_ms: int
    input_tokens: int | None
    output_tokens: int | None
    instructions: str | None
    """Of the conversation."""
    defaults: str | None
    """The conversation's options, as JSON."""

    @property
    def is_resumable(self) -> bool:
        """Return whether it is an answer that was stopped, interrupted, or cut by its length."""
        is_cut = self.status in RESUMABLE or (
            self.status == "complete" and self.finish_reason == "length"
        )
        return self.role == "assistant" and self.question_id is not None and is_cut


# Read the last message that is shown, and the question that it answers.
_READ_LAST = f"""
SELECT m.id::text AS message_id, m.role, m.status, m.content,
    coalesce(m.reasoning, '') AS reasoning, m.finish_reason, m.model_tag, m.token_count,
    m.inference_time_ms, m.input_tokens, m.output_tokens, c.instructions,
    c.options AS defaults, (
        SELECT q.id::text FROM messages q
        WHERE q.conversation_id = m.conversation_id AND q.replaces IS NULL AND q.role = 'user'
            AND q.position < m.position
        ORDER BY q.position DESC LIMIT 1) AS question_id
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE} AND m.replaces IS NULL
ORDER BY m.position DESC LIMIT 1
"""  # noqa: S608  # the inserted text is ours


async def read_last(db: Database, user_id: str, conversation_id: str) -> Ended | None:
    """Return the last message; None where there is none, or the user has no such conversation."""
    row = await db.fetchrow(_READ_LAST, user_id, conversation_id)
    return None if row is None else Ended(**dict(row))


async def resume(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    ended: Ended,
    draft: Draft,
    *,
    process: str,
    lease_seconds: float,
    quotas: Quotas,
) -> Lease | Busy | Repeat | None:
    """Let the answer run again, in the caller's transaction.

    The caller logs the beginning. Return None where the user has no such
    conversation. Raise NothingToContinue where `ended` is no longer its last message, and what a
    send raises.
    """
    conversation = await connection.fetchrow(sends.LOCK_CONVERSATION, user_id, conversation_id)
    if conversation is None:
        return None
    quotas = quotas_of(conversation, quotas)
    if draft.idempotency is not None:
        repeat = await find_repeat(connection, user_id, draft.idempotency)
        if repeat is not None:
            return repeat
    if busy := await sends.find_busy(connection, conversation_id):
        await check_quotas(connection, user_id, quotas)
        return busy
    last = await connection.fetchrow(_READ_LAST, user_id, conversation_id)
    if not ended.is_resumable or last is None or Ended(**dict(last)) != ended:
        raise NothingToContinue
    await count_message(connection, user_id, conversation_id, quotas, regenerates=False)
    lease = _lease(conversation_id, ended, draft)
    row = await connection.fetchrow(
        _RESUME,
        lease.message_id,
        conversation_id,
        lease.question_id,
        user_id,
        lease.options,
        lease.trace_id,
        process,
        lease_seconds,
        quotas.running_generations,
        lease.model_tag,
    )
    if row is None:
        raise TooManyGenerations(quotas.running_generations, GENERATION_RETRY_SECONDS)
    if draft.idempotency is not None:
        await keep_key(connection, user_id, conversation_id, ended.message_id, draft.idempotency)
    return replace(lease, attempt=row["attempt"], resumed_after=row["resumed_after"])


def _lease(conversation_id: str, ended: Ended, draft: Draft) -> Lease:
    """Return the lease, as far as it is known before the attempt is."""
    return Lease(
        message_id=ended.message_id,
        conversation_id=conversation_id,
        question_id=str(ended.question_id),
        attempt=0,
        crashes=0,
        options=sends.with_defaults(draft.options, ended.defaults),
        trace_id=draft.trace_id,
        replaces=None,
        model_tag=draft.model_tag or ended.model_tag,
        instructions=ended.instructions,
    )


# Let the generation run again at its next attempt, which shares all events with the attempt before.
# Its row may have been removed: it is a day old.
_RESUME = """
WITH within_quota AS MATERIALIZED (
    SELECT 1 WHERE $9 = 0 OR $9 > (
        SELECT count(*) FROM generations WHERE user_id = $4 AND ended_at IS NULL)),
message AS (
    UPDATE messages SET status = 'generating', error = NULL, finish_reason = NULL, model_tag = $10
    WHERE id = $1 AND EXISTS (SELECT 1 FROM within_quota)),
subscription AS (
    INSERT INTO subscriptions (message_id, process, until)
    SELECT $1, $7::uuid, clock_timestamp() + make_interval(secs => $8) FROM within_quota
    ON CONFLICT (message_id, process) DO UPDATE SET until = excluded.until),
conversation AS (
    UPDATE conversations SET
        updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
    WHERE id = $2 AND EXISTS (SELECT 1 FROM within_quota)),
earlier AS (DELETE FROM event_log WHERE message_id = $1 AND EXISTS (SELECT 1 FROM within_quota))
INSERT INTO generations AS g (message_id, conversation_id, question_id, user_id, options, trace_id,
    owner, lease_until, resumed_after)
SELECT $1, $2, $3, $4::text, $5, $6, $7::uuid, clock_timestamp() + make_interval(secs => $8), 1
FROM within_quota
ON CONFLICT (message_id) DO UPDATE SET
    attempt = g.attempt + 1, crashes = 0, options = $5, trace_id = $6, owner = $7::uuid,
    lease_until = clock_timestamp() + make_interval(secs => $8), stop_requested = false,
    started_at = now(), ended_at = NULL, status = 'generating', error = NULL, last_event = NULL,
    done = NULL, before_done = NULL, undone = NULL, logged = true,
    seams = array_fill(g.last_event, ARRAY[g.attempt]), resumed_after = g.last_event + 1
RETURNING attempt, resumed_after
"""

# The `start` event stands for all events of before, so that a replay begins with it.
_LOG_BEGINNING = """
INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
VALUES ($1, $2, 0, $3 - 1, $4, true), ($1, $2, $3, $3, $5, false)
"""


async def log_beginning(connection: Connection, lease: Lease, start: str, snapshot: str) -> None:
    """Make two events the beginning of the log: `start`, and the text of before."""
    await connection.execute(
        _LOG_BEGINNING, lease.message_id, lease.attempt, lease.resumed_after, start, snapshot
    )
