"""A send in the database: the question, the place of its answer, and who writes it.

Whatever is done here is part of one transaction, which locks in this order: the conversation, the
user's quota, the generation. A send in which nothing is refused costs four statements.
"""

from dataclasses import dataclass

from chat_api.db.database import Connection, Record
from chat_api.db.generations import KEPT_FOR, Lease
from chat_api.errors import (
    IdempotencyKeyReused,
    NothingToAnswer,
    TooManyGenerations,
    TooManyMessages,
)

# When to retry after too many running generations: the time at which one of them ends is unknown.
_GENERATION_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one user may use, on all replicas together. 0 means no limit."""

    messages_per_minute: int = 0
    running_generations: int = 0

    def __bool__(self) -> bool:
        return bool(self.messages_per_minute or self.running_generations)


UNLIMITED = Quotas()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    key: str
    fingerprint: bytes  # of the request that first used the key


@dataclass(frozen=True, slots=True)
class Draft:
    """What a send or a regeneration wants written. `content` is None for a regeneration."""

    message_id: str
    question_id: str
    content: str | None
    title: str | None  # for a conversation whose user gave it none
    options: str  # JSON
    trace_id: str
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """The running generation that keeps a conversation from taking another message."""

    message_id: str
    has_subscribers: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """The generation that an earlier request with the same idempotency key began."""

    message_id: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the new assistant message goes."""

    question_id: str
    position: int
    replaces: str | None
    is_first: bool


async def begin(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    draft: Draft,
    *,
    process: str,
    lease_seconds: float,
    quotas: Quotas = UNLIMITED,
) -> Lease | Busy | Repeat | None:
    """Keep the question and the place of its answer, in the caller's transaction.

    Return a Lease where this process is to write the answer; Busy or Repeat where nothing was
    changed; None where the user has no such conversation. Raise NothingToAnswer,
    IdempotencyKeyReused, TooManyMessages or TooManyGenerations.
    """
    conversation = await connection.fetchrow(_LOCK_CONVERSATION, user_id, conversation_id)
    if conversation is None:
        return None
    if draft.idempotency is not None:
        repeat = await _find_repeat(connection, user_id, draft.idempotency)
        if repeat is not None:
            return repeat
    if busy := await find_busy(connection, conversation_id):
        # Before the caller stops that generation for a message that would then be refused.
        await _check_quotas(connection, user_id, quotas)
        return busy
    last = await _count_message(connection, user_id, conversation_id, quotas, draft)
    place = _place(last, draft)
    is_within_quota = await connection.fetchval(
        _INSERT,
        draft.message_id,
        conversation_id,
        place.position,
        conversation["model_tag"],
        place.replaces,
        place.question_id,
        draft.options,
        draft.trace_id,
        process,
        lease_seconds,
        draft.title if place.is_first else None,
        user_id,
        quotas.running_generations,
        draft.content,
    )
    if not is_within_quota:
        raise TooManyGenerations(quotas.running_generations, _GENERATION_RETRY_SECONDS)
    if draft.idempotency is not None:
        await _keep_key(connection, user_id, conversation_id, draft.message_id, draft.idempotency)
    return Lease(
        message_id=draft.message_id,
        conversation_id=conversation_id,
        question_id=place.question_id,
        attempt=1,
        crashes=0,
        options=draft.options,
        trace_id=draft.trace_id,
        replaces=place.replaces,
    )


# Lock the conversation: sends to one conversation take turns from here on.
_LOCK_CONVERSATION = """
SELECT title_given, model_tag FROM conversations
WHERE user_id = $1 AND id = $2 FOR NO KEY UPDATE
"""

# Insert the question (unless it is there already), the empty assistant message, its generation with
# a lease, and the subscription of this process, and move the conversation to the top of the list.
# Nothing is inserted where the user has as many running generations as allowed.
_INSERT = """
WITH within_quota AS MATERIALIZED (
    SELECT set_config('samosachaat.told_with_generation', $2::uuid::text, true)  -- migration 0008
    WHERE $13 = 0 OR $13 > (
        SELECT count(*) FROM generations WHERE user_id = $12 AND ended_at IS NULL)),
question AS (
    INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
    SELECT $6::uuid, $2::uuid, $3::integer - 1, 'user', $14, 'complete', $4
    FROM within_quota WHERE $14::text IS NOT NULL),
answer AS (
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag, replaces)
    SELECT $1::uuid, $2::uuid, $3::integer, 'assistant', '', 'generating', $4::text, $5::uuid
    FROM within_quota),
generation AS (
    INSERT INTO generations (message_id, conversation_id, question_id, user_id, options,
        trace_id, owner, lease_until)
    SELECT $1::uuid, $2::uuid, $6::uuid, $12::text, $7, $8, $9::uuid,
        clock_timestamp() + make_interval(secs => $10)
    FROM within_quota),
subscription AS (
    INSERT INTO subscriptions (message_id, process, until)
    SELECT $1::uuid, $9::uuid, clock_timestamp() + make_interval(secs => $10) FROM within_quota)
UPDATE conversations SET
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
    title = CASE WHEN title_given OR $11::text IS NULL THEN title ELSE $11 END
WHERE id = $2 AND EXISTS (SELECT 1 FROM within_quota)
RETURNING true
"""


def _place(last: Record, draft: Draft) -> _Place:
    """Return the place after the last message, or, for a regeneration, at the last answer.

    Raise NothingToAnswer for a regeneration without a question.
    """
    is_first = last["id"] is None
    position = -1 if is_first else int(last["position"])
    if draft.content is not None:
        return _Place(draft.question_id, position + 2, None, is_first)
    if last["question_id"] is None:
        raise NothingToAnswer
    if last["role"] == "assistant":
        return _Place(last["question_id"], position, last["id"], is_first)
    return _Place(last["question_id"], position + 1, None, is_first)


# --- quotas ---------------------------------------------------------------------------------------


# Count a message in the user's minute unless the minute is used up, and read the last message and,
# for a regeneration, the last question. Counting locks the user's row until the transaction ends,
# so that the user's sends to other conversations, on any replica, wait here, and the number of
# running generations that `_INSERT` counts stays true.
_COUNT_MESSAGE = """
WITH quota AS (
    INSERT INTO message_quotas AS q (user_id, began, sent)
    SELECT $2, statement_timestamp(), 1 WHERE $3
    ON CONFLICT (user_id) DO UPDATE SET (began, sent) = (
        SELECT CASE WHEN past THEN statement_timestamp() ELSE q.began END,
            CASE WHEN past THEN 1 ELSE q.sent + 1 END
        FROM (SELECT q.began <= statement_timestamp() - interval '1 minute') AS m (past))
    WHERE $4 = 0 OR q.sent < $4 OR q.began <= statement_timestamp() - interval '1 minute'
    RETURNING 1)
SELECT EXISTS (SELECT 1 FROM quota) AS is_counted, last.*, question.id AS question_id
FROM (SELECT 1) AS always
LEFT JOIN LATERAL (
    SELECT id::text AS id, position, role FROM messages
    WHERE conversation_id = $1 AND replaces IS NULL ORDER BY position DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT id::text AS id FROM messages
    WHERE $5 AND conversation_id = $1 AND replaces IS NULL AND role = 'user'
    ORDER BY position DESC LIMIT 1
) AS question ON true
"""

# Read how much of the user's quotas is used.
_READ_QUOTAS = """
SELECT coalesce(q.sent, 0) AS sent,
    ceil(extract(epoch FROM q.began + interval '1 minute' - now()))::integer AS seconds,
    (SELECT count(*) FROM generations WHERE user_id = $1 AND ended_at IS NULL) AS running
FROM (SELECT 1) AS always LEFT JOIN message_quotas q
    ON q.user_id = $1 AND q.began > now() - interval '1 minute'
"""


async def _count_message(
    connection: Connection, user_id: str, conversation_id: str, quotas: Quotas, draft: Draft
) -> Record:
    """Count the message, and return the last message of the conversation and its last question.

    Raise TooManyMessages or TooManyGenerations.
    """
    last = await connection.fetchrow(
        _COUNT_MESSAGE,
        conversation_id,
        user_id,
        bool(quotas),
        quotas.messages_per_minute,
        draft.content is None,
    )
    assert last is not None  # noqa: S101  # the statement always gives one row
    if quotas and not last["is_counted"]:
        await _check_quotas(connection, user_id, quotas)
        raise TooManyMessages(quotas.messages_per_minute, 1)  # the minute has just ended
    return last


async def _check_quotas(connection: Connection, user_id: str, quotas: Quotas) -> None:
    """Raise the refusal that a message would get if it took the running generation's place."""
    if not quotas:
        return
    used = await connection.fetchrow(_READ_QUOTAS, user_id)
    assert used is not None  # noqa: S101  # the statement always gives one row
    if 0 < quotas.messages_per_minute <= used["sent"]:
        raise TooManyMessages(quotas.messages_per_minute, max(1, used["seconds"]))
    if 0 < quotas.running_generations < used["running"]:
        raise TooManyGenerations(quotas.running_generations, _GENERATION_RETRY_SECONDS)


# --- the busy rule --------------------------------------------------------------------------------


# Find the running generation of a conversation, and whether any process has a subscription to it.
_FIND_BUSY = """
SELECT g.message_id::text AS id, EXISTS (
    SELECT 1 FROM subscriptions s WHERE s.message_id = g.message_id AND s.until > now()
) AS has_subscribers
FROM generations g WHERE g.conversation_id = $1 AND g.ended_at IS NULL
"""


async def find_busy(connection: Connection, conversation_id: str) -> Busy | None:
    """Return the conversation's running generation, if there is one."""
    row = await connection.fetchrow(_FIND_BUSY, conversation_id)
    return None if row is None else Busy(row["id"], row["has_subscribers"])


# --- idempotency ----------------------------------------------------------------------------------


# Find what the user's key was first used for, unless that is a day ago.
_FIND_KEY = f"""
SELECT fingerprint, message_id::text AS id FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '{KEPT_FOR}'
"""  # noqa: S608  # the inserted text is a constant

# Note what the user's key is used for; no row where it is in use already.
_KEEP_KEY = f"""
INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, conversation_id, message_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
    conversation_id = excluded.conversation_id, message_id = excluded.message_id,
    created_at = now()
WHERE k.created_at <= now() - interval '{KEPT_FOR}'
RETURNING 1
"""  # noqa: S608  # the inserted text is a constant


async def _find_repeat(
    connection: Connection, user_id: str, idempotency: IdempotencyKey
) -> Repeat | None:
    """Return what the key stands for, None for a new key. Raise IdempotencyKeyReused."""
    row = await connection.fetchrow(_FIND_KEY, user_id, idempotency.key)
    if row is None:
        return None
    if row["fingerprint"] != idempotency.fingerprint:
        raise IdempotencyKeyReused
    return Repeat(row["id"])


async def _keep_key(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    message_id: str,
    idempotency: IdempotencyKey,
) -> None:
    """Note what the key stands for.

    Raise IdempotencyKeyReused where a request to another conversation has just noted it: requests
    to one conversation take turns, those to several do not.
    """
    kept = await connection.fetchval(
        _KEEP_KEY,
        user_id,
        idempotency.key,
        idempotency.fingerprint,
        conversation_id,
        message_id,
    )
    if kept is None:
        raise IdempotencyKeyReused
