"""Beginning and ending in one call leave what the steps leave, and are used where they may be."""

import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.unit.world import LEASE_SECONDS, OnConnection, World, key, log_row

from chat_api.db import generations, sends
from chat_api.db.generations import Lease, Outcome, Turn
from chat_api.db.idempotency import Repeat
from chat_api.db.quotas import Quotas
from chat_api.db.sends import Begun, Busy, Draft, HistoryBounds
from chat_api.engines.engine import Usage
from chat_api.errors import ApiError, TooManyGenerations, TooManyMessages
from chat_api.generation import events

LIMITED = Quotas(messages_per_minute=5, running_generations=2)
# What no two rows have alike.
_OF_ITS_OWN = {
    *("id", "message_id", "question_id", "conversation_id", "parent_id", "number"),
    *("created_at", "updated_at", "started_at", "ended_at", "lease_until", "until", "began"),
    *("written_at", "last", "key", "user_id"),
}
_TABLES = {
    "conversations": "id = $1",
    "messages": "conversation_id = $1",
    "generations": "conversation_id = $1",
    "idempotency_keys": "conversation_id = $1",
    "subscriptions": "message_id IN (SELECT id FROM messages WHERE conversation_id = $1)",
    "event_log": "message_id IN (SELECT id FROM messages WHERE conversation_id = $1)",
    "changes": "conversation_id = $1",
    "message_quotas": "user_id = (SELECT user_id FROM conversations WHERE id = $1)",
    "usage_ledger": "user_id = (SELECT user_id FROM conversations WHERE id = $1)",
}


async def left(world: World, conversation: str) -> dict[str, list[Any]]:
    """Return all that is kept of a conversation and its user, without ids and times."""
    found = {}
    for table, condition in _TABLES.items():
        rows = await world.rows(
            f"SELECT to_json(t) AS row FROM {table} t WHERE {condition}",  # noqa: S608  # ours
            conversation,
        )
        documents = [json.loads(row["row"]) for row in rows]
        found[table] = sorted(
            json.dumps({name: d[name] for name in d if name not in _OF_ITS_OWN}, sort_keys=True)
            for d in documents
        )
    return found


def only_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave_it(*_: object) -> None:
        """Leave the work to the steps."""

    monkeypatch.setattr(sends, "_begin_in_one_call", leave_it)
    monkeypatch.setattr(generations, "_end_in_one_call", leave_it)


@pytest.fixture(params=["one call", "steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "steps":
        only_steps(monkeypatch)
    return str(request.param)


async def _two_turns(world: World, usage: Usage | None) -> dict[str, list[Any]]:
    """Have two messages of a user answered, and return what is left."""
    world.process = "00000000-0000-4000-8000-000000000086"
    conversation = await world.conversation()
    for turn in ("Tea?", "Milk?"):
        draft = world.draft(turn, title=turn, key=key(str(uuid4())))
        begun = await world.begin(conversation, draft, quotas=LIMITED)
        assert isinstance(begun, Lease)
        assert len((await left(world, conversation))["subscriptions"]) == 1
        assert await ended(world, begun, usage) is Outcome.SAVED
    return await left(world, conversation)


async def ended(world: World, lease: Lease, usage: Usage | None) -> Outcome:
    """End an answer of two tokens whose engine told this usage."""
    return await world.end(
        lease,
        tail=log_row(lease, 0, ["Be", "cause"]),
        token_count=2,
        model_tag="large",
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        done=events.done("the same id", "complete", 2, 7, model_tag="large", usage=usage).decode(),
    )


@pytest.mark.case(86)
@pytest.mark.parametrize(
    "usage", [None, Usage(0, 0), Usage(3, 0), Usage(3, 2)], ids=["none", "zero", "read", "both"]
)
async def test_all_ways_leave_the_same_rows(
    usage: Usage | None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_one_call = await _two_turns(world, usage)
    assert all(in_one_call[table] for table in _TABLES if table != "subscriptions")
    # Replicas of the version before call the functions of migration 0012.
    for module, name in ((sends, "_BEGIN_IN_ONE_CALL"), (generations, "_END_IN_ONE_CALL")):
        monkeypatch.setattr(module, name, getattr(module, name).replace("_answer_2(", "_answer("))
    assert await _two_turns(World(world.pool), usage) == in_one_call
    only_steps(monkeypatch)
    assert await _two_turns(World(world.pool), usage) == in_one_call


HISTORIES: dict[str, list[str]] = {
    "none": [],
    "short": ["Tea.", "Milk."],
    "blank answers": ["Tea.", "", "\u200b \n", "Milk."],
    "only blank answers": [""] * 3,
    "longer than its bounds": ["samosa" * 10, "नमस्ते" * 10, " \nचाय", "x", "y", "z"],
    "many blank answers": ["Tea.", *[""] * 14],
}


async def _history(world: World, answers: list[str], bounds: HistoryBounds) -> list[Turn]:
    conversation = await world.conversation()
    for answer in answers:
        await world.answered(conversation, answer)
    begun = await sends.begin(
        world.pool,
        world.user,
        conversation,
        world.draft("And the last question?"),
        process=world.process,
        lease_seconds=LEASE_SECONDS,
        bounds=bounds,
    )
    assert isinstance(begun, Begun)
    return begun.history


@pytest.mark.case(86)
@pytest.mark.parametrize("answers", HISTORIES.values(), ids=HISTORIES.keys())
@pytest.mark.parametrize("most", [1, 4, 50])
async def test_both_ways_read_the_same_history(
    most: int, answers: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = HistoryBounds(most, 20)
    in_one_call = await _history(world, answers, bounds)
    assert in_one_call[-1] == Turn("user", "d the last question?")
    only_steps(monkeypatch)
    assert await _history(world, answers, bounds) == in_one_call


@pytest.mark.case(86)
async def test_what_follows_a_call_in_its_transaction_is_told_and_guarded(world: World) -> None:
    conversation = await world.conversation()
    touch = "UPDATE conversations SET is_favorited = NOT is_favorited WHERE id = $1"
    frozen = "INSERT INTO frozen_users (user_id, state, cell) VALUES ($1, 'frozen', 'north')"
    count = "SELECT count(*) FROM changes WHERE conversation_id = $1"
    async with world.pool.connection() as connection:
        inside = World(OnConnection(connection))
        inside.user = world.user
        for call in ("begin", "end"):
            before = await world.value(count, conversation)
            async with connection.transaction():
                if call == "begin":
                    lease = await inside.lease(conversation)
                else:
                    assert await ended(inside, lease, None) is Outcome.SAVED
                await connection.execute(touch, conversation)
            # The call's own changes, and that of what followed.
            told = await world.value(count, conversation) - before
            assert told == {"begin": 3, "end": 2}[call]
        transaction = connection.transaction()
        await transaction.start()
        await inside.lease(conversation)
        await connection.execute(frozen, world.user)
        with pytest.raises(asyncpg.LockNotAvailableError, match="moved"):
            await connection.execute(touch, conversation)
        await transaction.rollback()


async def test_the_usual_send_and_its_end_take_no_steps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("these are steps")

    monkeypatch.setattr(sends, "begin_in_steps", unexpected)
    monkeypatch.setattr(generations, "end_in_steps", unexpected)
    conversation = await world.conversation()
    for name in (None, "a key"):
        draft = world.draft(key=None if name is None else key(name))
        lease = await world.lease(conversation, draft)
        assert await world.end(lease) is Outcome.SAVED


async def _outcome(world: World, conversation: str, draft: Draft, quotas: Quotas) -> object:
    try:
        return await world.begin(conversation, draft, quotas=quotas)
    except ApiError as error:
        return type(error)


@pytest.mark.case(86)
@pytest.mark.parametrize("hindrance", ["busy", "repeat", "minute", "running", "unknown"])
async def test_a_send_that_is_not_begun_changes_nothing_either_way(
    way: str, hindrance: str, world: World
) -> None:
    conversation, other = await world.conversation(), await world.conversation()
    used = key(str(uuid4()))
    first = await world.begin(conversation, world.draft(key=used), quotas=LIMITED)
    assert isinstance(first, Lease)
    quotas, draft, into = LIMITED, world.draft(key=key(str(uuid4()))), other
    expected: object
    if hindrance == "busy":
        into, expected = conversation, Busy(first.message_id, has_subscribers=True)
    elif hindrance == "repeat":
        draft, expected = world.draft(key=used), Repeat(first.message_id)
    elif hindrance == "minute":
        quotas, expected = Quotas(messages_per_minute=1), TooManyMessages
    elif hindrance == "running":
        quotas, expected = Quotas(running_generations=1), TooManyGenerations
    else:
        into, expected = str(uuid4()), None
    before = [await left(world, one) for one in (conversation, other)]
    assert await _outcome(world, into, draft, quotas) == expected
    assert [await left(world, one) for one in (conversation, other)] == before, way
