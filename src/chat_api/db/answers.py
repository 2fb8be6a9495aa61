"""The life of an answer in the database: begun, leased, logged, taken over, ended.

Three things hold here. The conversation is locked before the message. An attempt fences: whoever
does not hold the current attempt changes nothing. Times are the database's own (`now()`), so that
replicas' clocks do not matter. Ids are strings that hold a UUID; leases are in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from chat_api.db.engine import Connection, Database

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
) -> Lease | Running | Repeat | None:
    """Keep the question and the place of its answer, in the caller's transaction.

    A Lease: this process is to write the answer. Running: another answer is being written, nothing
    was changed; Repeat: nor was it, this very request was accepted before. None: the user has no
    such conversation. Raises NoQuestion, KeyReused.
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
        return running
    last = await connection.fetchrow(
        """
        SELECT id::text AS id, position, role FROM messages
        WHERE conversation_id = $1 AND replaces IS NULL ORDER BY position DESC LIMIT 1
        """,
        conversation_id,
    )
    last_position = -1 if last is None else int(last["position"])
    replaces: str | None = None
    if draft.content is not None:
        question_id = draft.question_id
        position = last_position + 2
        await connection.execute(
            """
            INSERT INTO messages
                (id, conversation_id, position, role, content, status, model_tag)
            VALUES ($1, $2, $3, 'user', $4, 'complete', $5)
            """,
            question_id,
            conversation_id,
            last_position + 1,
            draft.content,
            conversation["model_tag"],
        )
    else:
        found = await connection.fetchval(
            """
            SELECT id::text FROM messages
            WHERE conversation_id = $1 AND replaces IS NULL AND role = 'user'
            ORDER BY position DESC LIMIT 1
            """,
            conversation_id,
        )
        if found is None or last is None:
            raise NoQuestion
        question_id = found
        if last["role"] == "assistant":
            replaces, position = last["id"], last_position
        else:
            position = last_position + 1
    await connection.execute(
        """
        WITH answer AS (
            INSERT INTO messages
                (id, conversation_id, position, role, content, status, model_tag, replaces)
            VALUES ($1, $2, $3, 'assistant', '', 'generating', $4, $5)),
        generation AS (
            INSERT INTO generations
                (message_id, conversation_id, question_id, options, trace_id, owner, lease_until)
            VALUES ($1, $2, $6, $7, $8, $9,
                clock_timestamp() + make_interval(secs => $10))),
        ear AS (
            INSERT INTO listeners (message_id, process, until)
            VALUES ($1, $9, clock_timestamp() + make_interval(secs => $10)))
        UPDATE conversations SET
            updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
            title = CASE WHEN title_given OR $11::text IS NULL OR $12 THEN title ELSE $11 END
        WHERE id = $2
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
        last is not None,
    )
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


# --- while it runs -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogRow:
    """Consecutive events of one attempt; `events` holds their JSON, a line each."""

    message_id: str
    attempt: int
    first_event: int
    last_event: int
    events: str


@dataclass(frozen=True, slots=True)
class Held:
    """What the database says about an answer of this process."""

    attempt: int
    stop_requested: bool


async def append_log(db: Database, process: str, rows: Sequence[LogRow]) -> dict[str, Held]:
    """Write the rows, and say which running answers this process holds, by message id.

    A row of an answer that this attempt no longer holds is left out, and costs the others nothing.
    The commit is asynchronous: the last moments may be lost with the database's process. What must
    last is written by `end`.
    """
    held = await db.fetch(
        """
        WITH written AS (
            INSERT INTO answer_log (message_id, attempt, first_event, last_event, events)
            SELECT b.message_id, b.attempt, b.first_event, b.last_event, b.events
            FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::text[])
                AS b (message_id, attempt, first_event, last_event, events)
            CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS s
            CROSS JOIN LATERAL (
                -- By the primary key, row for row: a planner that takes the running answers of an
                -- owner for a handful would compare each row with each of them.
                SELECT 1 FROM generations g
                WHERE g.message_id = b.message_id AND g.attempt = b.attempt
                    AND g.status = 'generating'
                LIMIT 1) AS mine
            ON CONFLICT DO NOTHING)
        SELECT message_id::text AS id, attempt, stop_requested
        FROM generations WHERE owner = $6 AND ended_at IS NULL
        """,
        [row.message_id for row in rows],
        [row.attempt for row in rows],
        [row.first_event for row in rows],
        [row.last_event for row in rows],
        [row.events for row in rows],
        process,
    )
    return {row["id"]: Held(row["attempt"], row["stop_requested"]) for row in held}


async def log_ends(db: Database, answers: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Up to which event the log of each (message id, attempt) has no hole; -1 for no event."""
    rows = await db.fetch(
        """
        SELECT b.message_id::text AS id, coalesce((
            SELECT CASE WHEN min(l.first_event) = 0 THEN
                min(l.last_event) FILTER (WHERE l.following > l.last_event + 1
                    OR l.following IS NULL) END
            FROM (
                SELECT a.first_event, a.last_event,
                    lead(a.first_event) OVER (ORDER BY a.last_event) AS following
                FROM answer_log a
                WHERE a.message_id = b.message_id AND a.attempt = b.attempt) AS l), -1)
            AS last_event
        FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
        """,
        [message_id for message_id, _ in answers],
        [attempt for _, attempt in answers],
    )
    return {row["id"]: row["last_event"] for row in rows}


async def renew(
    db: Database,
    process: str,
    answers: Sequence[tuple[str, int]],
    listened: Sequence[str],
    lease_seconds: float,
) -> None:
    """Prolong this process's hold on (message id, attempt), and its listening on message ids."""
    if answers:
        await db.fetch(
            """
            UPDATE generations SET lease_until = now() + make_interval(secs => $4)
            WHERE message_id IN (
                SELECT mine.message_id
                FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
                CROSS JOIN LATERAL (
                    SELECT g.message_id FROM generations g
                    WHERE g.message_id = b.message_id AND g.attempt = b.attempt
                        AND g.owner = $3 AND g.status = 'generating'
                    LIMIT 1 FOR UPDATE SKIP LOCKED) AS mine)
            """,
            [message_id for message_id, _ in answers],
            [attempt for _, attempt in answers],
            process,
            lease_seconds,
        )
    if listened:
        await listen(db, process, listened, lease_seconds)


async def listen(
    db: Database, process: str, message_ids: Sequence[str], lease_seconds: float
) -> None:
    """Note that this process has readers on these answers."""
    await db.fetch(
        """
        INSERT INTO listeners (message_id, process, until)
        SELECT g.message_id, $2, now() + make_interval(secs => $3)
        FROM generations g WHERE g.message_id = ANY ($1::uuid[]) AND g.ended_at IS NULL
        ON CONFLICT (message_id, process) DO UPDATE SET until = excluded.until
        """,
        list(message_ids),
        process,
        lease_seconds,
    )


async def stop_listening(db: Database, process: str, message_ids: Sequence[str]) -> None:
    await db.fetch(
        "DELETE FROM listeners WHERE process = $1 AND message_id = ANY ($2::uuid[])",
        process,
        list(message_ids),
    )


# --- stopping and taking over --------------------------------------------------------------------

_LEASE_COLUMNS = """g.message_id::text AS message_id, g.conversation_id::text AS conversation_id,
    g.question_id::text AS question_id, g.attempt, g.crashes, g.options, g.trace_id,
    g.stop_requested,
    (SELECT m.replaces::text FROM messages m WHERE m.id = g.message_id) AS replaces"""


def _lease(row: Any) -> Lease:
    return Lease(
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
        question_id=row["question_id"],
        attempt=row["attempt"],
        crashes=row["crashes"],
        options=row["options"],
        trace_id=row["trace_id"],
        replaces=row["replaces"],
        stop_requested=row["stop_requested"],
    )


async def database_time(db: Database) -> datetime:
    row = await db.fetchrow("SELECT now() AS at")
    assert row is not None  # noqa: S101  # such a SELECT gives its row
    at: datetime = row["at"]
    return at


async def claim_abandoned(
    db: Database,
    process: str,
    lease_seconds: float,
    *,
    limit: int,
    only_released: bool,
    expired_before: datetime | None = None,
) -> list[Lease]:
    """Take up running answers whose lease has run out, or (only these) that were handed over.

    `expired_before` is a time by the database's clock; none means now. Their attempt grows by one,
    which fences whoever held them; a hand-over is no crash.
    """
    rows = await db.fetch(
        f"""
        UPDATE generations g SET
            attempt = g.attempt + 1,
            crashes = g.crashes + CASE WHEN g.owner IS NULL THEN 0 ELSE 1 END,
            owner = $1,
            lease_until = now() + make_interval(secs => $2)
        WHERE g.message_id IN (
            SELECT a.message_id FROM generations a
            WHERE a.ended_at IS NULL AND a.lease_until < least(now(), $5::timestamptz)
                AND (a.owner IS NULL OR NOT $4)
            ORDER BY a.lease_until LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING {_LEASE_COLUMNS}
        """,  # noqa: S608  # the inserted text is ours
        process,
        lease_seconds,
        limit,
        only_released,
        expired_before,
    )
    return [_lease(row) for row in rows]


async def release(db: Database, answers: Sequence[tuple[str, int]], process: str) -> None:
    """Hand (message id, attempt) over: another process may take them up at once."""
    await db.fetch(
        """
        UPDATE generations g SET owner = NULL, lease_until = '-infinity'
        FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
        WHERE g.message_id = b.message_id AND g.attempt = b.attempt
            AND g.owner = $3 AND g.ended_at IS NULL
        """,
        [message_id for message_id, _ in answers],
        [attempt for _, attempt in answers],
        process,
    )


async def request_stop(db: Database, message_id: str) -> None:
    """Ask the process that writes the answer to stop it."""
    await db.fetch(
        "UPDATE generations SET stop_requested = true WHERE message_id = $1 AND ended_at IS NULL",
        message_id,
    )


async def take(db: Database, message_id: str, process: str, lease_seconds: float) -> Lease | None:
    """Take a running answer away from whoever writes it; None where it has ended."""
    row = await db.fetchrow(
        f"""
        UPDATE generations g SET attempt = g.attempt + 1, owner = $2,
            lease_until = now() + make_interval(secs => $3)
        WHERE g.message_id = $1 AND g.ended_at IS NULL
        RETURNING {_LEASE_COLUMNS}
        """,  # noqa: S608  # the inserted text is ours
        message_id,
        process,
        lease_seconds,
    )
    return None if row is None else _lease(row)


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
        ending.done,
    )
    if tail is not None:
        await connection.execute(
            "INSERT INTO answer_log (message_id, attempt, first_event, last_event, events) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            tail.message_id,
            tail.attempt,
            tail.first_event,
            tail.last_event,
            tail.events,
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


def _begun(row: Any) -> Begun:
    return Begun(
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
        question_id=row["question_id"],
        attempt=row["attempt"],
        ended=row["ended"],
        last_event=row["last_event"],
        status=row["status"],
        error=row["error"],
        done=row["done"],
    )


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


@dataclass(frozen=True, slots=True)
class Page:
    """What the log holds for one reader. Without rows the attempt, or the end, is the news."""

    gone: bool
    attempt: int
    ended: bool
    last_event: int | None
    rows: tuple[LogRow, ...]


async def read_pages(
    db: Database, places: Sequence[tuple[str, int, int]], *, rows_each: int = 100
) -> dict[int, Page]:
    """For each place (message id, attempt, last event seen), what is new; by index.

    A place of which there is nothing new is not in the result. Of an attempt later than the
    place's, rows come from its start. One statement for all of a process's readers.
    """
    found = await db.fetch(
        """
        SELECT r.place, g.message_id IS NULL AS gone, g.attempt, g.ended_at IS NOT NULL AS ended,
            g.last_event AS end_event, l.first_event, l.last_event, l.events
        FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::integer[])
            AS r (place, message_id, attempt, event)
        LEFT JOIN generations g ON g.message_id = r.message_id
        LEFT JOIN LATERAL (
            SELECT a.first_event, a.last_event, a.events FROM answer_log a
            WHERE a.message_id = r.message_id AND a.attempt = g.attempt
                AND a.last_event > CASE WHEN g.attempt = r.attempt THEN r.event ELSE -1 END
            ORDER BY a.last_event LIMIT $5
        ) l ON true
        WHERE g.message_id IS NULL OR g.attempt <> r.attempt OR g.ended_at IS NOT NULL
            OR l.events IS NOT NULL
        ORDER BY r.place, l.last_event
        """,
        list(range(len(places))),
        [message_id for message_id, _, _ in places],
        [attempt for _, attempt, _ in places],
        [event for _, _, event in places],
        rows_each,
    )
    grouped: dict[int, list[Any]] = {}
    for row in found:
        grouped.setdefault(row["place"], []).append(row)
    return {
        place: Page(
            gone=rows[0]["gone"],
            attempt=rows[0]["attempt"] or 0,
            ended=rows[0]["ended"],
            last_event=rows[0]["end_event"],
            rows=tuple(
                LogRow(
                    places[place][0],
                    row["attempt"],
                    row["first_event"],
                    row["last_event"],
                    row["events"],
                )
                for row in rows
                if row["events"] is not None
            ),
        )
        for place, rows in grouped.items()
    }


async def read_log(db: Database, message_id: str) -> list[LogRow]:
    """All that the log holds of an answer, by attempt and then in order."""
    rows = await db.fetch(
        """
        SELECT attempt, first_event, last_event, events
        FROM answer_log WHERE message_id = $1 ORDER BY attempt, last_event
        """,
        message_id,
    )
    return [
        LogRow(message_id, row["attempt"], row["first_event"], row["last_event"], row["events"])
        for row in rows
    ]


async def is_there(db: Database, message_id: str) -> bool:
    """Whether the answer is still a message: not deleted, not replaced, not undone."""
    row = await db.fetchrow("SELECT 1 FROM messages WHERE id = $1", message_id)
    return row is not None


async def read_content(db: Database, message_id: str) -> str | None:
    """An answer's text as saved; None where there is no such message."""
    row = await db.fetchrow("SELECT content FROM messages WHERE id = $1", message_id)
    return None if row is None else str(row["content"])


# --- housekeeping --------------------------------------------------------------------------------


_SWEPT_AT_ONCE = 500


async def sweep(db: Database, log_retention_seconds: float) -> None:
    """Remove the log of answers that ended a while ago, and what is a day old.

    In small statements that find their rows by index; several processes share the work.
    """
    statements = (
        (
            """
            WITH due AS (
                UPDATE generations SET logged = false WHERE message_id = ANY (ARRAY(
                    SELECT message_id FROM generations
                    WHERE logged AND ended_at IS NOT NULL
                        AND ended_at < now() - make_interval(secs => $1)
                    ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))
                RETURNING message_id),
            log AS (
                DELETE FROM answer_log
                WHERE message_id = ANY (ARRAY(SELECT message_id FROM due)))
            SELECT count(*) AS swept FROM due
            """,
            (log_retention_seconds, _SWEPT_AT_ONCE),
        ),
        (
            f"""
            WITH old AS (
                DELETE FROM generations WHERE message_id = ANY (ARRAY(
                    SELECT message_id FROM generations
                    WHERE ended_at < now() - interval '{KEPT_FOR}'
                    ORDER BY ended_at LIMIT $1 FOR UPDATE SKIP LOCKED))
                RETURNING 1)
            SELECT count(*) AS swept FROM old
            """,  # noqa: S608  # the inserted text is ours
            (_SWEPT_AT_ONCE,),
        ),
        (
            f"""
            WITH old AS (
                DELETE FROM idempotency_keys WHERE (user_id, key) IN (
                    SELECT user_id, key FROM idempotency_keys
                    WHERE created_at < now() - interval '{KEPT_FOR}'
                    ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED)
                RETURNING 1)
            SELECT count(*) AS swept FROM old
            """,  # noqa: S608  # the inserted text is ours
            (_SWEPT_AT_ONCE,),
        ),
    )
    for statement, arguments in statements:
        swept = _SWEPT_AT_ONCE
        while swept == _SWEPT_AT_ONCE:
            row = await db.fetchrow(statement, *arguments)
            swept = 0 if row is None else row["swept"]
    await db.fetch("DELETE FROM listeners WHERE until < now() - interval '1 hour'")


async def sweep_orphans(db: Database) -> None:
    """Remove log rows that were being written just while their conversation was deleted.

    Reads the whole log: for once an hour.
    """
    await db.fetch(
        """
        DELETE FROM answer_log l WHERE l.written_at < now() - interval '1 hour'
            AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.message_id = l.message_id)
        """
    )
