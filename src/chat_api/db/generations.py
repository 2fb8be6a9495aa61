"""Generations in the database: reading their input, saving their end, and finding them.

An attempt fences: a process that does not hold the current attempt changes nothing. Times are the
database's own (`now()`), so that the replicas' clocks do not matter. Ids are strings that hold a
UUID; leases are in seconds.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from chat_api.db import tree
from chat_api.db.database import Connection, Database, Record
from chat_api.db.event_log import LogRow, pieces
from chat_api.db.visibility import VISIBLE
from chat_api.text import BLANK_CLASS

# How long an ended generation's row, and an idempotency key, are kept.
KEPT_FOR = "24 hours"


@dataclass(frozen=True, slots=True)
class Lease:
    """A generation that this process is to run, at this attempt."""

    message_id: str
    conversation_id: str
    question_id: str
    attempt: int
    crashes: int
    options: str  # JSON
    trace_id: str
    replaces: str | None
    """The old answer, of a regeneration."""
    model_tag: str = "default"
    """The model that was asked for, or that has begun to write."""
    stop_requested: bool = False
    resumed_after: int | None = None
    """The snapshot from which a user had the message continued."""
    instructions: str | None = None
    """Of the conversation, in place of `SYSTEM_PROMPT`."""


class Turn(NamedTuple):
    """One message of the history, as the model will see it.

    Of an answer whose engine counted: the tokens of its whole request and its own, among which are
    those of its reasoning, of which the size is given in bytes.
    """

    role: str
    content: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_bytes: int = 0


# A pattern that texts match which are not blank.
SHOWS_TEXT = f"[^{BLANK_CLASS}]"

# Read the newest messages up to a question that are not blank, and the end of longer ones. Most
# texts show something at once; a pattern costs as much as the whole text that it is given, and so
# does the end of a text.
_READ_HISTORY = f"""
SELECT role, CASE WHEN octet_length(content) <= $4 THEN content ELSE right(content, $4) END
        AS content,
    input_tokens, output_tokens, coalesce(octet_length(reasoning), 0) AS reasoning_bytes
FROM messages
WHERE conversation_id = $1 AND replaces IS NULL
    AND (left(content, 1) ~ '{SHOWS_TEXT}' OR left(content, 100) ~ '{SHOWS_TEXT}'
        OR content ~ '{SHOWS_TEXT}')
    AND position <= (SELECT position FROM messages WHERE id = $2)
ORDER BY position DESC LIMIT $3
"""  # noqa: S608  # the inserted text is a constant


async def read_history(
    connection: Connection, conversation_id: str, question_id: str, *, limit: int, chars: int
) -> list[Turn]:
    """Return the newest `limit` messages up to the question, oldest first.

    Blank ones are left out; of a longer one, its last `chars` characters are read.
    """
    rows = await connection.fetch(_READ_HISTORY, conversation_id, question_id, limit, chars)
    return [Turn(**dict(row)) for row in reversed(rows)]


# Note which model writes, for the process that goes on after a crash.
_NOTE_MODEL = "UPDATE messages SET model_tag = $2 WHERE id = $1 AND status = 'generating'"


async def note_model(db: Database, message_id: str, model_tag: str) -> None:
    """Store which model writes the message, before its end is saved."""
    await db.fetch(_NOTE_MODEL, message_id, model_tag)


# --- the end -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a generation, as it will be saved."""

    status: str
    content: str
    token_count: int
    inference_time_ms: int
    error: str | None
    model_tag: str
    reasoning: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    undone: bool  # a regeneration that leaves the old message in place
    done: str  # the final event's JSON
    last_event: int
    before_done: str = ""
    """The events between the text and `done`, a line each; an empty line is a `snapshot`."""


class Outcome(Enum):
    """What became of an attempt to end a generation."""

    SAVED = "saved"
    FENCED = "fenced"  # another attempt holds the generation, or ended it
    GONE = "gone"  # deleted with its conversation


async def end(db: Database, lease: Lease, ending: Ending, tail: LogRow | None) -> Outcome:
    """End the generation where this attempt still holds it.

    `tail` holds the events that are not in the log yet, the final one among them. A regeneration
    that is complete is shown in place of the old message, which stays as a version with what
    followed it; one that ended otherwise goes. Repeating the call after a COMMIT of unknown outcome
    is safe: an end with the same last event counts as saved.
    """
    if lease.replaces is None and not ending.undone:
        outcome = await _end_in_one_call(db, lease, ending, tail)
        if outcome is not None:
            return outcome
    async with db.transaction() as connection:
        return await end_in_steps(connection, lease, ending, tail)


_END_IN_ONE_CALL = """
SELECT samosachaat_end_answer_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
    $16, $17, $18, $19, $20) AS outcome
"""


async def _end_in_one_call(
    db: Database, lease: Lease, ending: Ending, tail: LogRow | None
) -> Outcome | None:
    """End an answer that takes nothing's place, by one call of a function (migration 0015).

    None where the statements have to decide; nothing was changed then.
    """
    rows = () if tail is None else tuple(pieces(tail))
    row = await db.fetchrow(
        _END_IN_ONE_CALL,
        lease.message_id,
        lease.conversation_id,
        lease.attempt,
        ending.status,
        ending.error,
        ending.last_event,
        ending.done,
        ending.before_done,
        ending.content,
        ending.token_count,
        ending.inference_time_ms,
        ending.model_tag,
        ending.reasoning,
        ending.finish_reason,
        ending.input_tokens,
        ending.output_tokens,
        [row.first_event for row in rows],
        [row.last_event for row in rows],
        [row.events for row in rows],
        [row.is_snapshot for row in rows],
    )
    return None if row is None or row["outcome"] is None else Outcome(row["outcome"])


async def end_in_steps(
    connection: Connection, lease: Lease, ending: Ending, tail: LogRow | None
) -> Outcome:
    """Do what `end` does, in the caller's transaction."""
    if await connection.fetchval(_LOCK_CONVERSATION, lease.conversation_id) is None:
        return Outcome.GONE
    held = await connection.fetchrow(_LOCK_GENERATION, lease.message_id)
    if held is None:
        return Outcome.GONE
    if held["attempt"] != lease.attempt:
        return Outcome.FENCED
    if held["ended"]:
        return Outcome.SAVED if held["last_event"] == ending.last_event else Outcome.FENCED
    await connection.execute(
        _END_GENERATION,
        lease.message_id,
        ending.status,
        ending.error,
        ending.last_event,
        ending.done,
        ending.undone,
        ending.before_done,
    )
    if tail is not None:
        await _log_tail(connection, tail)
    if ending.undone:
        await connection.execute(_DELETE_MESSAGE, lease.message_id)
    elif lease.replaces is not None:
        await tree.take_place(connection, lease.conversation_id, lease.message_id)
    await connection.execute(
        _END_MESSAGE,
        lease.message_id,
        ending.status,
        ending.content,
        ending.token_count,
        ending.inference_time_ms,
        ending.model_tag,
        ending.reasoning,
        ending.finish_reason,
        ending.input_tokens,
        ending.output_tokens,
        ending.error,
    )
    return Outcome.SAVED


async def _log_tail(connection: Connection, tail: LogRow) -> None:
    await connection.executemany(
        _INSERT_TAIL,
        [
            (
                row.message_id,
                row.attempt,
                row.first_event,
                row.last_event,
                row.events,
                row.is_snapshot,
            )
            for row in pieces(tail)
        ],
    )


# Lock the conversation first, as a send does.
_LOCK_CONVERSATION = "SELECT 1 FROM conversations WHERE id = $1 FOR NO KEY UPDATE"

# Lock the generation, and read which attempt holds it and whether it has ended.
_LOCK_GENERATION = """
SELECT attempt, ended_at IS NOT NULL AS ended, last_event FROM generations
WHERE message_id = $1 FOR NO KEY UPDATE
"""

# End the generation, and every process's subscription to it.
_END_GENERATION = """
WITH unsubscribed AS (DELETE FROM subscriptions WHERE message_id = $1)
UPDATE generations SET ended_at = now(), status = $2, error = $3, last_event = $4, done = $5,
    undone = $6, before_done = $7
WHERE message_id = $1
"""

# Log the last events; they are there already after a COMMIT of unknown outcome.
_INSERT_TAIL = """
INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""

# Delete a regeneration that is undone.
_DELETE_MESSAGE = "DELETE FROM messages WHERE id = $1"

# Give the message its text; from here on a regeneration is shown.
_END_MESSAGE = """
UPDATE messages SET status = $2, content = $3, token_count = $4, inference_time_ms = $5,
    replaces = NULL, model_tag = $6, reasoning = $7, finish_reason = $8, input_tokens = $9,
    output_tokens = $10, error = $11
WHERE id = $1
"""


# --- what subscriptions ask ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that runs or has ended. The last five are not known while it runs."""

    message_id: str
    conversation_id: str
    question_id: str
    attempt: int
    ended: bool
    undone: bool
    resumed_after: int | None = None
    last_event: int | None = None
    status: str | None = None
    error: str | None = None
    done: str | None = None
    before_done: str | None = None
    """None also where a replica of the previous version ended it (migration 0003)."""


# `undone` is null where a replica of the previous version ended the generation (migration 0003).
_GENERATION_COLUMNS = """
    g.message_id::text AS message_id, g.conversation_id::text AS conversation_id,
    g.question_id::text AS question_id, g.attempt, g.ended_at IS NOT NULL AS ended,
    coalesce(g.undone, g.done LIKE '%"kept_message_id":%', false) AS undone,
    g.resumed_after, g.last_event, g.status, g.error, g.done, g.before_done"""


def _generation(row: Record) -> Generation:
    return Generation(**{name: row[name] for name in Generation.__slots__})


async def read_generation(db: Database, message_id: str) -> Generation | None:
    """Return the generation of a message; None where it is unknown."""
    row = await db.fetchrow(
        f"SELECT {_GENERATION_COLUMNS} FROM generations g WHERE g.message_id = $1",  # noqa: S608
        message_id,
    )
    return None if row is None else _generation(row)


@dataclass(frozen=True, slots=True)
class Joinable:
    """What a client could subscribe to in a conversation."""

    running: Generation | None
    named: Generation | None  # by the cursor


# Find the conversation's running generation, and the one whose id ends in a cursor's tag.
_FIND_JOINABLE = f"""
SELECT {_GENERATION_COLUMNS}, right(g.message_id::text, 12) = $3 AS named
FROM conversations c LEFT JOIN generations g ON g.conversation_id = c.id
    AND (g.ended_at IS NULL OR right(g.message_id::text, 12) = $3)
WHERE c.user_id = $1 AND c.id = $2 AND {VISIBLE}
"""  # noqa: S608  # the inserted text is a constant


async def find_joinable(
    db: Database, user_id: str, conversation_id: str, tag: str | None
) -> Joinable | None:
    """Return the running generation and the one that `tag` names.

    Return None where the user has no such conversation.
    """
    rows = await db.fetch(_FIND_JOINABLE, user_id, conversation_id, tag)
    if not rows:
        return None
    found = [row for row in rows if row["message_id"] is not None]
    return Joinable(
        running=next((_generation(row) for row in found if not row["ended"]), None),
        named=next((_generation(row) for row in found if row["named"]), None),
    )


# Find a message unless another version is shown in its place.
_FIND_STANDING = f"""
SELECT 1 FROM messages m JOIN conversations c ON c.id = m.conversation_id AND {VISIBLE}
WHERE m.id = $1 AND (m.replaces IS NULL OR NOT EXISTS (
    SELECT 1 FROM messages s WHERE s.conversation_id = m.conversation_id
        AND s.position = m.position AND s.parent_id = m.parent_id AND s.replaces IS NULL))
"""  # noqa: S608  # the inserted text is ours


async def message_stands(db: Database, message_id: str) -> bool:
    """Return whether the message still exists: not deleted, expired, replaced or undone."""
    row = await db.fetchrow(_FIND_STANDING, message_id)
    return row is not None


async def conversation_stands(db: Database, conversation_id: str) -> bool:
    """Return whether there still is such a conversation: not deleted, nor expired."""
    row = await db.fetchrow(
        f"SELECT 1 FROM conversations WHERE id = $1 AND {VISIBLE}",  # noqa: S608  # ours
        conversation_id,
    )
    return row is not None


async def read_content(db: Database, message_id: str) -> tuple[str, str] | None:
    """Return a message's text and reasoning as saved; None where there is no such message."""
    row = await db.fetchrow(
        "SELECT content, coalesce(reasoning, '') AS reasoning FROM messages WHERE id = $1",
        message_id,
    )
    return None if row is None else (str(row["content"]), str(row["reasoning"]))
