"""A send in the database: the question, the empty answer, and the lease of its process.

A message that goes to the end of the shown path is one call of a function in the database
(migration 0015), which changes nothing where anything stands in its way. Everything else, refusals
among it, is decided by statements in one transaction. Both lock in this order: the conversation,
the user's quota, the generation or the key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chat_api.db import limits, named, responses, tree
from chat_api.db.database import Connection, Database, Record
from chat_api.db.generations import KEPT_FOR, SHOWS_TEXT, Lease, Turn, read_history
from chat_api.db.idempotency import IdempotencyKey, Repeat, find_repeat, keep_key
from chat_api.db.quotas import (
    GENERATION_RETRY_SECONDS,
    UNLIMITED,
    Quotas,
    check_quotas,
    count_message,
    quotas_of,
)
from chat_api.db.responses import KeptRequest
from chat_api.db.tree import Addition
from chat_api.db.visibility import VISIBLE
from chat_api.errors import NotFound, NothingToAnswer, TooManyGenerations


@dataclass(frozen=True, slots=True)
class Draft:
    """The request of a send or a regeneration. `content` is None for a regeneration."""

    message_id: str
    question_id: str
    content: str | None
    title: str | None  # for a conversation whose user gave it none
    options: str  # JSON; null where the conversation's default is wanted
    trace_id: str
    idempotency: IdempotencyKey | None = None
    model_tag: str | None = None  # None is the conversation's
    at: str | None = None
    """The message to answer after, or the answer to regenerate; None for the last one shown. The
    conversation's own id stands for the parent of a first message."""
    before: Sequence[Addition] = ()
    """Messages to add before the question."""
    request: KeptRequest | None = None
    is_named: bool = False
    """Whether `question_id` stands for a client's own id: the same one again is a repeat."""
    creates: bool = False
    """Whether the conversation is created where the user has none of this id."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The running generation that keeps a conversation from taking another message."""

    message_id: str
    has_subscribers: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of the new assistant message."""

    question_id: str
    position: int
    after: str
    """The last message, or the conversation's id where there is none."""
    version: int
    replaces: str | None = None
    stands_for: str | None = None
    """What the message has in `replaces` until it is complete."""


@dataclass(frozen=True, slots=True)
class HistoryBounds:
    """The most messages of a history, and the most characters of each: its last ones."""

    messages: int
    chars: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A generation that this process is to run, and what it answers, oldest message first."""

    lease: Lease
    history: list[Turn]


async def begin(
    db: Database,
    user_id: str,
    conversation_id: str,
    draft: Draft,
    *,
    process: str,
    lease_seconds: float,
    bounds: HistoryBounds,
    quotas: Quotas = UNLIMITED,
) -> Begun | Busy | Repeat | None:
    """Insert the question and the empty answer, and read the history.

    Return Begun where this process is to write the answer; Busy or Repeat where nothing was
    changed; None where the user has no such conversation. Raise what `begin_in_steps` raises.
    """
    if _is_usual(draft, quotas):
        begun = await _begin_in_one_call(
            db, user_id, conversation_id, draft, process, lease_seconds, bounds, quotas
        )
        if begun is not None:
            return begun
    async with db.transaction() as connection:
        lease = await begin_in_steps(
            connection,
            user_id,
            conversation_id,
            draft,
            process=process,
            lease_seconds=lease_seconds,
            quotas=quotas,
        )
        if not isinstance(lease, Lease):
            return lease
        history = await read_history(
            connection,
            conversation_id,
            lease.question_id,
            limit=bounds.messages,
            chars=bounds.chars,
        )
    return Begun(lease, history)


def _is_usual(draft: Draft, quotas: Quotas) -> bool:
    """Return whether one call may be enough: a message of our own API, to the end of the path."""
    return (
        draft.content is not None
        and draft.at is None
        and not draft.before
        and draft.request is None
        and not draft.is_named
        and not draft.creates
        and not quotas.of_a_day
    )


_BEGIN_IN_ONE_CALL = f"""
SELECT * FROM samosachaat_begin_answer_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
    $14, $15, $16, '{KEPT_FOR}', $17, $18, '{SHOWS_TEXT}')
"""  # noqa: S608  # the inserted text is constants


async def _begin_in_one_call(
    db: Database,
    user_id: str,
    conversation_id: str,
    draft: Draft,
    process: str,
    lease_seconds: float,
    bounds: HistoryBounds,
    quotas: Quotas,
) -> Begun | None:
    """Begin a usual send; return None, and change nothing, if anything is unusual."""
    assert draft.content is not None  # noqa: S101  # a regeneration is not usual
    key = draft.idempotency
    row = await db.fetchrow(
        _BEGIN_IN_ONE_CALL,
        user_id,
        conversation_id,
        draft.message_id,
        draft.question_id,
        draft.content,
        draft.title,
        draft.model_tag,
        draft.options,
        draft.trace_id,
        process,
        lease_seconds,
        bool(quotas),
        quotas.messages_per_minute,
        quotas.running_generations,
        None if key is None else key.key,
        None if key is None else key.fingerprint,
        bounds.messages,
        bounds.chars,
    )
    if row is None or not row["begun"]:
        return None
    lease = Lease(
        message_id=draft.message_id,
        conversation_id=conversation_id,
        question_id=draft.question_id,
        attempt=1,
        crashes=0,
        options=draft.options,
        trace_id=draft.trace_id,
        replaces=None,
        model_tag=row["model_tag"],
        instructions=row["instructions"],
    )
    # The arrays are null if every message is blank. They are of what was there before the question.
    columns = (row[name] or () for name in _TURNS)
    history = [Turn(*turn) for turn in zip(*columns, strict=True)]
    history.append(Turn("user", draft.content[-bounds.chars :]))
    return Begun(lease, history[-bounds.messages :])


# The columns of arrays that the function returns, in the order of a Turn's fields. They hold a few
# messages more than are asked for.
_TURNS = ("roles", "contents", "input_tokens", "output_tokens", "reasoning_bytes")


async def begin_in_steps(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    draft: Draft,
    *,
    process: str,
    lease_seconds: float,
    quotas: Quotas = UNLIMITED,
) -> Lease | Busy | Repeat | None:
    """Insert the question and the empty answer, in the caller's transaction.

    Return a Lease, or else what `begin` returns. Raise NotFound where the conversation has no
    message `draft.at`, NothingToAnswer, IdempotencyKeyReused, or the refusal of a quota.
    """
    # Must happen before a conversation is created.
    if repeat := await _find_repeated_request(connection, user_id, draft):
        return repeat
    conversation = await connection.fetchrow(LOCK_CONVERSATION, user_id, conversation_id)
    if conversation is None and draft.creates:
        await connection.execute(_CREATE_CONVERSATION, user_id, conversation_id, draft.title)
        conversation = await connection.fetchrow(LOCK_CONVERSATION, user_id, conversation_id)
    if conversation is None:
        return None
    quotas = quotas_of(conversation, quotas)
    if repeat := await _find_repeat(connection, user_id, conversation_id, draft):
        return repeat
    node = await _find_place(connection, conversation_id, draft)
    if busy := await find_busy(connection, conversation_id):
        # Otherwise the caller would stop that generation for a message that is refused afterwards.
        await check_quotas(connection, user_id, quotas)
        return busy
    version = 1  # nothing is below the last message that is shown
    if draft.at is not None:
        version = await _show_place(connection, conversation_id, draft, node)
    counted = await _count(connection, user_id, conversation_id, quotas, draft)
    last: Mapping[str, Any] = dict(counted)
    if draft.before:
        last = await _add_before(connection, conversation_id, draft, last, version)
        version = 1
    place = _place(last, draft, conversation_id, version)
    lease = Lease(
        message_id=draft.message_id,
        conversation_id=conversation_id,
        question_id=place.question_id,
        attempt=1,
        crashes=0,
        options=with_defaults(draft.options, conversation["options"]),
        trace_id=draft.trace_id,
        replaces=place.replaces,
        model_tag=draft.model_tag or conversation["model_tag"],
        instructions=conversation["instructions"],
    )
    await _insert(connection, user_id, lease, place, draft, process, lease_seconds, quotas)
    if draft.idempotency is not None:
        await keep_key(connection, user_id, conversation_id, lease.message_id, draft.idempotency)
    if draft.request is not None:
        await responses.keep(connection, user_id, lease.message_id, draft.request)
    return lease


# Lock the conversation: sends to one conversation take turns from here on.
LOCK_CONVERSATION = f"""
SELECT title_given, model_tag, instructions, options, {limits.OF_USER} AS limits FROM conversations
WHERE user_id = $1 AND id = $2 AND {VISIBLE} FOR NO KEY UPDATE
"""  # noqa: S608  # the inserted text is ours

# Create the conversation, unless another request does so.
_CREATE_CONVERSATION = """
INSERT INTO conversations (id, user_id, title, title_given, model_tag)
VALUES ($2, $1, coalesce($3::text, 'New conversation'), false, 'default')
ON CONFLICT (id) DO NOTHING
"""


async def _find_repeated_request(
    connection: Connection, user_id: str, draft: Draft
) -> Repeat | None:
    """Return what an earlier try of the same request of another dialect began."""
    if draft.request is None:
        return None
    repeated = await responses.find_repeated(connection, user_id, draft.request)
    if repeated is not None:
        return Repeat(repeated)
    if draft.idempotency is None:
        return None
    return await find_repeat(connection, user_id, draft.idempotency)


async def _find_repeat(
    connection: Connection, user_id: str, conversation_id: str, draft: Draft
) -> Repeat | None:
    """Return the generation that an earlier request of the same key or question began."""
    if draft.idempotency is not None:
        return await find_repeat(connection, user_id, draft.idempotency)
    if draft.is_named and draft.content is not None:
        answer = await named.find_answer(connection, conversation_id, draft.question_id)
        return None if answer is None else Repeat(answer.id)
    return None


async def _find_place(
    connection: Connection, conversation_id: str, draft: Draft
) -> tree.Node | None:
    """Return the message `draft.at`; None for the last one, or before the first.

    Raise NotFound, or NothingToAnswer where what is to be regenerated is no answer.
    """
    if draft.at in (None, conversation_id):
        return None
    node = await tree.find(connection, conversation_id, draft.at)
    if node is None or node.is_under_way:
        raise NotFound
    if draft.content is None and node.role != "assistant":
        raise NothingToAnswer("Only an answer can be regenerated.")
    return node


# Find the running generation of a conversation, and whether any process has a subscription to it.
# Clients come back for a background response: it counts as subscribed to.
_FIND_BUSY = """
SELECT g.message_id::text AS id, EXISTS (
    SELECT 1 FROM subscriptions s WHERE s.message_id = g.message_id AND s.until > now()
) OR EXISTS (
    SELECT 1 FROM responses r WHERE r.message_id = g.message_id AND r.is_background
) AS has_subscribers
FROM generations g WHERE g.conversation_id = $1 AND g.ended_at IS NULL
"""


async def find_busy(connection: Connection, conversation_id: str) -> Busy | None:
    """Return the conversation's running generation, if there is one."""
    row = await connection.fetchrow(_FIND_BUSY, conversation_id)
    return None if row is None else Busy(row["id"], row["has_subscribers"])


async def _show_place(
    connection: Connection, conversation_id: str, draft: Draft, node: tree.Node | None
) -> int:
    """Show the path to where the message goes; return the version that it is, if a question."""
    await tree.fill(connection, conversation_id)
    if draft.content is None:
        assert node is not None  # noqa: S101  # there is nothing to regenerate before the first
        if not node.is_shown:
            await tree.show_through(connection, conversation_id, node.id)
        return 1
    parent = conversation_id if node is None else node.id
    await tree.show(connection, conversation_id, parent)
    return await tree.next_version(
        connection, conversation_id, parent, 0 if node is None else node.position + 1
    )


async def _count(
    connection: Connection, user_id: str, conversation_id: str, quotas: Quotas, draft: Draft
) -> Record:
    """Count the message; return the message that it follows, or the answer to regenerate."""
    regenerates = draft.content is None
    return await count_message(
        connection,
        user_id,
        conversation_id,
        quotas,
        regenerates=regenerates,
        message_id=draft.at if regenerates else None,
    )


async def _add_before(
    connection: Connection,
    conversation_id: str,
    draft: Draft,
    last: Mapping[str, Any],
    version: int,
) -> Mapping[str, Any]:
    """Add the messages before the question, and return the last of them."""
    position = -1 if last["id"] is None else int(last["position"])
    await tree.append(
        connection,
        conversation_id,
        last["id"] or conversation_id,
        position + 1,
        version,
        draft.before,
    )
    newest = draft.before[-1]
    return {
        "id": newest.id,
        "position": position + len(draft.before),
        "role": newest.role,
        "question_id": None,
    }


def _place(last: Mapping[str, Any], draft: Draft, conversation_id: str, version: int) -> _Place:
    """Return the place after the last message, or, for a regeneration, at the answer.

    A regeneration of the last answer has that one's id in `replaces` while it is under way; a
    replica of the previous version that takes it over deletes the old answer, as it always did.
    For an earlier answer it has the conversation's id: such a replica cannot end it then, and no
    message after the old answer loses its parent.

    Raise NothingToAnswer for a regeneration without a question.
    """
    position = -1 if last["id"] is None else int(last["position"])
    after = last["id"] or conversation_id
    if draft.content is not None:
        return _Place(draft.question_id, position + 2, after, version)
    if last["question_id"] is None:
        raise NothingToAnswer
    if last["role"] == "assistant":
        stands_for = last["id"] if draft.at is None else conversation_id
        return _Place(last["question_id"], position, after, version, last["id"], stands_for)
    return _Place(last["question_id"], position + 1, after, version)


def with_defaults(options: str, defaults: str | None) -> str:
    """Return the options, with the conversation's own where none is given."""
    if defaults is None:
        return options
    given = {name: value for name, value in orjson.loads(options).items() if value is not None}
    return orjson.dumps(orjson.loads(defaults) | given).decode()


# Insert the question (unless it is there already), the empty assistant message, its generation with
# a lease, and the subscription of this process, and move the conversation to the top of the list.
# Nothing is inserted where the user has as many running generations as allowed.
_INSERT = """
WITH within_quota AS MATERIALIZED (
    SELECT set_config('samosachaat.told_with_generation', $2::uuid::text, true)  -- migration 0008
    WHERE $13 = 0 OR $13 > (
        SELECT count(*) FROM generations WHERE user_id = $12 AND ended_at IS NULL)),
question AS (
    INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag,
        parent_id, version)
    SELECT $6::uuid, $2::uuid, $3::integer - 1, 'user', $14, 'complete', $4,
        $15::uuid, $16::integer
    FROM within_quota WHERE $14::text IS NOT NULL),
answer AS (
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag, replaces,
        parent_id, version)
    SELECT $1::uuid, $2::uuid, $3::integer, 'assistant', '', 'generating', $4::text, $5::uuid,
        CASE WHEN $5::uuid IS NOT NULL THEN NULL WHEN $14::text IS NULL THEN $15 ELSE $6 END,
        CASE WHEN $5::uuid IS NULL THEN 1 ELSE 0 END
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
    title = CASE WHEN title_given OR $11::text IS NULL
        OR EXISTS (SELECT 1 FROM messages WHERE conversation_id = $2) THEN title ELSE $11 END
WHERE id = $2 AND EXISTS (SELECT 1 FROM within_quota)
RETURNING true
"""


async def _insert(
    connection: Connection,
    user_id: str,
    lease: Lease,
    place: _Place,
    draft: Draft,
    process: str,
    lease_seconds: float,
    quotas: Quotas,
) -> None:
    """Insert the question and the empty answer. Raise TooManyGenerations."""
    is_within_quota = await connection.fetchval(
        _INSERT,
        lease.message_id,
        lease.conversation_id,
        place.position,
        lease.model_tag,
        place.stands_for,
        lease.question_id,
        lease.options,
        lease.trace_id,
        process,
        lease_seconds,
        draft.title if place.after == lease.conversation_id else None,
        user_id,
        quotas.running_generations,
        draft.content,
        place.after,
        place.version,
    )
    if not is_within_quota:
        raise TooManyGenerations(quotas.running_generations, GENERATION_RETRY_SECONDS)
