"""An answer in the database: begun, ended, and what readers ask about it.

Three things hold here. The conversation is locked before its user's quota, and that before the
message. An attempt fences: whoever does not hold the current attempt changes nothing. Times are the
database's own (`now()`), so that replicas' clocks do not matter. Ids are strings that hold a UUID;
leases are in seconds.
"""

from dataclasses import dataclass
from enum import Enum

from chat_api.db.database import Connection, Database, Record
from chat_api.db.event_log import LogRow, pieces

# How long an ended answer's row, and an idempotency key, are kept.
KEPT_FOR = "24 hours"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the history, as the model will see it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Lease:
    """An answer to be written by this process, at this attempt."""

    message_id: str
    conversation_id: str
    question_id: str
    attempt: int
    crashes: int
    options: str  # JSON
    trace_id: str
    replaces: str | None
    stop_requested: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """The answer that keeps a conversation busy."""

    message_id: str
    listened: bool


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one user may use, on all replicas together. 0: any number."""

    messages_per_minute: int = 0
    running_answers: int = 0

    def __bool__(self) -> bool:
        return bool(self.messages_per_minute or self.running_answers)


UNLIMITED = Quotas()


class TooManyMessages(Exception):
    """The user's messages of this minute are used up; the next one begins in `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__()


class TooManyGenerations(Exception):
    """As many of the user's answers are being written as may be."""


class NoQuestion(Exception):
    """There is no user message that a regeneration could answer."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The answer that the first request with this idempotency key began."""

    message_id: str


class KeyReused(Exception):
    """The idempotency key stands for another request."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    key: str
    fingerprint: bytes  # of the request that it stands for


@dataclass(frozen=True, slots=True)
class Draft:
    """What a send or a regeneration wants written. `content` is None for a regeneration."""

    message_id: str
    question_id: str
    content: str | None
    title: str | None  # for a conversation that has none of its own yet
    options: str
    trace_id: str
    idempotency: IdempotencyKey | None = None


async def begin(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    draft: Draft,
    *,
    process: str,
    lease_seconds: float,
    quotas: Quotas = UNLIMITED,
) -> Lease | Running | Repeat | None:
    """Keep the question and the place of its answer, in the caller's transaction.

    A Lease: this process is to write the answer. Running: another answer is being written, nothing
    was changed; Repeat: nor was it, this very request was accepted before. None: the user has no
    such conversation. Raises NoQuestion, KeyReused, TooManyMessages, TooManyGenerations.
    """
    conversation = await connection.fetchrow(
        """
        SELECT title_given, model_tag FROM conversations
        WHERE user_id = $1 AND id = $2 FOR NO KEY UPDATE
        """,
        user_id,
        conversation_id,
    )
    if conversation is None:
        return None
    if draft.idempotency is not None:
        first = await _first_request(connection, user_id, draft.idempotency)
        if first is not None:
            return Repeat(first)
    if running := await running_answer(connection, conversation_id):
        # Before the caller stops that answer for a message that would then be refused.
        await _check_quotas(connection, user_id, quotas)
        return running
    # Counting locks the user's row until the end of the transaction: the user's messages to other
    # conversations, on any replica, wait here. So whatever `room` counts below stays true.
    state = await connection.fetchrow(
        """
        WITH quota AS (
            INSERT INTO message_quotas AS q (user_id, began, sent)
            SELECT $2, statement_timestamp(), 1 WHERE $3
            ON CONFLICT (user_id) DO UPDATE SET (began, sent) = (
                SELECT CASE WHEN past THEN statement_timestamp() ELSE q.began END,
                    CASE WHEN past THEN 1 ELSE q.sent + 1 END
                FROM (SELECT q.began <= statement_timestamp() - interval '1 minute') AS m (past))
            WHERE $4 = 0 OR q.sent < $4 OR q.began <= statement_timestamp() - interval '1 minute'
            RETURNING 1)
        SELECT EXISTS (SELECT 1 FROM quota) AS counted, last.*
        FROM (SELECT 1) AS always LEFT JOIN LATERAL (
            SELECT id::text AS id, position, role FROM messages
            WHERE conversation_id = $1 AND replaces IS NULL ORDER BY position DESC LIMIT 1
        ) AS last ON true
        """,
        conversation_id,
        user_id,
        bool(quotas),
        quotas.messages_per_minute,
    )
    assert state is not None  # noqa: S101  # one row, whatever there is
    if quotas and not state["counted"]:
        await _check_quotas(connection, user_id, quotas)
        raise TooManyMessages(1)  # the minute has ended in this moment
    is_first = state["id"] is None
    last_position = -1 if is_first else int(state["position"])
    replaces: str | None = None
    if draft.content is not None:
        question_id = draft.question_id
        position = last_position + 2
    else:
        found = await connection.fetchval(
            """
            SELECT id::text FROM messages
            WHERE conversation_id = $1 AND replaces IS NULL AND role = 'user'
            ORDER BY position DESC LIMIT 1
            """,
            conversation_id,
        )
        if found is None:
            raise NoQuestion
        question_id = found
        if state["role"] == "assistant":
            replaces, position = state["id"], last_position
        else:
            position = last_position + 1
    begun = await connection.fetchval(
        """
        WITH room AS MATERIALIZED (
            SELECT 1 WHERE $14 = 0 OR $14 > (
                SELECT count(*) FROM generations WHERE user_id = $13 AND ended_at IS NULL)),
        question AS (
            INSERT INTO messages
                (id, conversation_id, position, role, content, status, model_tag)
            SELECT $6::uuid, $2::uuid, $3::integer - 1, 'user', $15, 'complete', $4
            FROM room WHERE $15::text IS NOT NULL),
        answer AS (
            INSERT INTO messages
                (id, conversation_id, position, role, content, status, model_tag, replaces)
            SELECT $1::uuid, $2::uuid, $3::integer, 'assistant', '', 'generating', $4::text,
                $5::uuid
            FROM room),
        generation AS (
            INSERT INTO generations (message_id, conversation_id, question_id, user_id, options,
                trace_id, owner, lease_until)
            SELECT $1::uuid, $2::uuid, $6::uuid, $13::text, $7, $8, $9::uuid,
                clock_timestamp() + make_interval(secs => $10)
            FROM room),
        ear AS (
            INSERT INTO listeners (message_id, process, until)
            SELECT $1::uuid, $9::uuid, clock_timestamp() + make_interval(secs => $10) FROM room)
        UPDATE conversations SET
            updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
            title = CASE WHEN title_given OR $11::text IS NULL OR $12 THEN title ELSE $11 END
        WHERE id = $2 AND EXISTS (SELECT 1 FROM room)
        RETURNING true
        """,
        draft.message_id,
        conversation_id,
        position,
        conversation["model_tag"],
        replaces,
        question_id,
        draft.options,
        draft.trace_id,
        process,
        lease_seconds,
        draft.title,
        not is_first,
        user_id,
        quotas.running_answers,
        draft.content,
    )
    if not begun:
        raise TooManyGenerations
    if draft.idempotency is not None:
        await _keep_key(connection, user_id, conversation_id, draft.message_id, draft.idempotency)
    return Lease(
        message_id=draft.message_id,
        conversation_id=conversation_id,
        question_id=question_id,
        attempt=1,
        crashes=0,
        options=draft.options,
        trace_id=draft.trace_id,
        replaces=replaces,
    )


async def _check_quotas(connection: Connection, user_id: str, quotas: Quotas) -> None:
    """Raise what a message instead of a running one would be refused with."""
    if not quotas:
        return
    used = await connection.fetchrow(
        """
        SELECT coalesce(q.sent, 0) AS sent,
            ceil(extract(epoch FROM q.began + interval '1 minute' - now()))::integer AS seconds,
            (SELECT count(*) FROM generations WHERE user_id = $1 AND ended_at IS NULL) AS running
        FROM (SELECT 1) AS always LEFT JOIN message_quotas q
            ON q.user_id = $1 AND q.began > now() - interval '1 minute'
        """,
        user_id,
    )
    assert used is not None  # noqa: S101  # one row, whatever there is
    if 0 < quotas.messages_per_minute <= used["sent"]:
        raise TooManyMessages(max(1, used["seconds"]))
    if 0 < quotas.running_answers < used["running"]:
        raise TooManyGenerations


async def _first_request(
    connection: Connection, user_id: str, idempotency: IdempotencyKey
) -> str | None:
    """The message id that the key stands for; None for a new key. Raises KeyReused."""
    known = await connection.fetchrow(
        f"""
        SELECT fingerprint, message_id::text AS id FROM idempotency_keys
        WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '{KEPT_FOR}'
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        idempotency.key,
    )
    if known is None:
        return None
    if known["fingerprint"] != idempotency.fingerprint:
        raise KeyReused
    return str(known["id"])


async def _keep_key(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    message_id: str,
    idempotency: IdempotencyKey,
) -> None:
    """Note what the key stands for. Raises KeyReused where another request has just noted it.

    (Requests to one conversation come one after the other; this one went to another.)
    """
    kept = await connection.fetchval(
        f"""
        INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, conversation_id, message_id)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
            conversation_id = excluded.conversation_id, message_id = excluded.message_id,
            created_at = now()
        WHERE k.created_at <= now() - interval '{KEPT_FOR}'
        RETURNING 1
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        idempotency.key,
        idempotency.fingerprint,
        conversation_id,
        message_id,
    )
    if kept is None:
        raise KeyReused


async def running_answer(connection: Connection, conversation_id: str) -> Running | None:
    row = await connection.fetchrow(
        """
        SELECT g.message_id::text AS id, EXISTS (
            SELECT 1 FROM listeners l WHERE l.message_id = g.message_id AND l.until > now()
        ) AS listened
        FROM generations g WHERE g.conversation_id = $1 AND g.ended_at IS NULL
        """,
        conversation_id,
    )
    return None if row is None else Running(row["id"], row["listened"])


async def history(
    connection: Connection, conversation_id: str, question_id: str, *, limit: int, chars: int
) -> list[Turn]:
    """The newest `limit` messages up to the question, oldest first.

    Blank ones are left out; of a longer one, its last `chars` characters are read.
    """
    rows = await connection.fetch(
        """
        SELECT role, right(content, $4) AS content FROM messages
        WHERE conversation_id = $1 AND replaces IS NULL AND content ~ '[^[:space:]]'
            AND position <= (SELECT position FROM messages WHERE id = $2)
        ORDER BY position DESC LIMIT $3
        """,
        conversation_id,
        question_id,
        limit,
        chars,
    )
    return [Turn(row["role"], row["content"]) for row in reversed(rows)]


# --- the end -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended, as it is to be saved."""

    status: str
    content: str
    token_count: int
    inference_time_ms: int
    error: str | None
    done: str  # the final event's JSON
    last_event: int
    before_done: str = ""
    """The events between the text and `done`, a line each; an empty line is a `snapshot`."""


class Outcome(Enum):
    SAVED = "saved"
    FENCED = "fenced"  # another attempt holds the answer, or ended it
    GONE = "gone"  # deleted with its conversation


async def end(connection: Connection, lease: Lease, ending: Ending, tail: LogRow | None) -> Outcome:
    """End the answer where this attempt still holds it, in the caller's transaction.

    `tail` holds the events that are not in the log yet, the final one among them. A regeneration
    that is complete takes the place of the old answer; one that ended otherwise leaves it and goes.
    Repeating the call after an unknown outcome is safe: an end with this very final event counts
    as saved.
    """
    locked = await connection.fetchval(
        "SELECT 1 FROM conversations WHERE id = $1 FOR NO KEY UPDATE", lease.conversation_id
    )
    if locked is None:
        return Outcome.GONE
    state = await connection.fetchrow(
        """
        SELECT attempt, ended_at IS NOT NULL AS ended, last_event FROM generations
        WHERE message_id = $1 FOR NO KEY UPDATE
        """,
        lease.message_id,
    )
    if state is None:
        return Outcome.GONE
    if state["attempt"] != lease.attempt:
        return Outcome.FENCED
    if state["ended"]:
        return Outcome.SAVED if state["last_event"] == ending.last_event else Outcome.FENCED
    await connection.execute(
        """
        WITH ears AS (DELETE FROM listeners WHERE message_id = $1)
        UPDATE generations SET ended_at = now(), status = $2, error = $3, last_event = $4, done = $5
        WHERE message_id = $1
        """,
        lease.message_id,
        ending.status,
        ending.error,
        ending.last_event,
        ending.before_done + ending.done,
    )
    if tail is not None:
        await connection.executemany(
            "INSERT INTO answer_log (message_id, attempt, first_event, last_event, events) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            [
                (row.message_id, row.attempt, row.first_event, row.last_event, row.events)
                for row in pieces(tail)
            ],
        )
    if lease.replaces is not None:
        going = lease.replaces if ending.status == "complete" else lease.message_id
        await connection.execute("DELETE FROM messages WHERE id = $1", going)
    await connection.execute(
        """
        UPDATE messages SET status = $2, content = $3, token_count = $4, inference_time_ms = $5,
            replaces = NULL
        WHERE id = $1
        """,
        lease.message_id,
        ending.status,
        ending.content,
        ending.token_count,
        ending.inference_time_ms,
    )
    return Outcome.SAVED


# --- what readers ask ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer that runs or ran. The last four are not known while it runs."""

    message_id: str
    conversation_id: str
    question_id: str
    attempt: int
    ended: bool
    last_event: int | None = None
    status: str | None = None
    error: str | None = None
    done: str | None = None


_BEGUN_COLUMNS = """g.message_id::text AS message_id, g.conversation_id::text AS conversation_id,
    g.question_id::text AS question_id, g.attempt, g.ended_at IS NOT NULL AS ended,
    g.last_event, g.status, g.error, g.done"""


def _begun(row: Record) -> Begun:
    return Begun(**{name: row[name] for name in Begun.__slots__})


async def read_begun(db: Database, message_id: str) -> Begun | None:
    row = await db.fetchrow(
        f"SELECT {_BEGUN_COLUMNS} FROM generations g WHERE g.message_id = $1",  # noqa: S608  # ours
        message_id,
    )
    return None if row is None else _begun(row)


@dataclass(frozen=True, slots=True)
class Joinable:
    """What a reader could join in a conversation."""

    running: Begun | None
    named: Begun | None  # by the cursor


async def read_joinable(
    db: Database, user_id: str, conversation_id: str, tag: str | None
) -> Joinable | None:
    """The running answer, and the one whose id ends in `tag`; None without such a conversation."""
    rows = await db.fetch(
        f"""
        SELECT {_BEGUN_COLUMNS}, right(g.message_id::text, 12) = $3 AS named
        FROM conversations c LEFT JOIN generations g ON g.conversation_id = c.id
            AND (g.ended_at IS NULL OR right(g.message_id::text, 12) = $3)
        WHERE c.user_id = $1 AND c.id = $2
        """,  # noqa: S608  # the inserted text is ours
        user_id,
        conversation_id,
        tag,
    )
    if not rows:
        return None
    begun = [row for row in rows if row["message_id"] is not None]
    return Joinable(
        running=next((_begun(row) for row in begun if not row["ended"]), None),
        named=next((_begun(row) for row in begun if row["named"]), None),
    )


async def is_there(db: Database, message_id: str) -> bool:
    """Whether the answer is still a message: not deleted, not replaced, not undone."""
    row = await db.fetchrow("SELECT 1 FROM messages WHERE id = $1", message_id)
    return row is not None


async def read_content(db: Database, message_id: str) -> str | None:
    """An answer's text as saved; None where there is no such message."""
    row = await db.fetchrow("SELECT content FROM messages WHERE id = $1", message_id)
    return None if row is None else str(row["content"])
