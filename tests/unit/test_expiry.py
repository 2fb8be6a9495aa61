"""Conversations whose time is up: not found any more, and deleted by the sweep."""

import asyncio
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

import pytest
from tests.unit.test_changes import told
from tests.unit.world import World, connected, key, opened

from chat_api.db import changes, expiry, exports, queries
from chat_api.db.expiry import BATCH, LOOKED_AT
from chat_api.db.generations import Lease
from chat_api.db.idempotency import Repeat
from chat_api.db.responses import KeptRequest
from chat_api.db.sends import Busy
from chat_api.errors import AnswerGone
from chat_api.generation.joining import Joins
from chat_api.generation.sink import Discard
from chat_api.generation.sweeping import Sweeping

SPENT = "UPDATE conversations SET expires_at = now() - interval '1 second' WHERE id = $1"
OLD = "UPDATE conversations SET updated_at = now() - interval '31 days' WHERE id = $1"


def sweeping(world: World) -> Sweeping:
    return Sweeping(world.pool, log_retention_seconds=300, retention_days=30)


async def sweep(world: World) -> None:
    one = sweeping(world)
    await one.sweep_expired()
    await one.sweep_old()


@pytest.mark.case(80)
async def test_acts_leave_the_audit_log_by_their_age_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = (41, 39, 40, 0, 400, 50)
    await world.rows(
        "INSERT INTO audit_log (at, administrator_id, act, user_id, details, trace_id) "
        "SELECT now() - make_interval(days => age, mins => 1), 'root', 'read_usage', $2, '{}', '' "
        "FROM unnest($1::integer[]) AS a (age)",
        ages,
        world.user,
    )
    left = (
        "SELECT array_agg(extract(day FROM now() - at)::integer ORDER BY id) FROM audit_log "
        "WHERE user_id = $1"
    )
    await expiry.delete_old_acts(world.pool, 0)
    assert await world.value(left, world.user) == list(ages)
    monkeypatch.setattr(expiry, "ACTS_AT_ONCE", 2)
    await expiry.delete_old_acts(world.pool, 40)
    assert await world.value(left, world.user) == [39, 0]


async def is_there(world: World, conversation: str) -> bool:
    found = await world.value("SELECT count(*) FROM conversations WHERE id = $1", conversation)
    return bool(found)


async def rows_of(world: World, conversation: str, message: str) -> int:
    """How many rows of all tables name them, but for the change feed and the keys of a day."""
    tables = await world.rows(
        "SELECT quote_ident(relname) AS name FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
        "AND relname NOT IN ('changes', 'idempotency_keys')"
    )
    return sum(
        [
            await world.value(
                f"SELECT count(*) FROM {table['name']} t "  # noqa: S608  # the catalogue's name
                "WHERE position($1 IN t::text) > 0 OR position($2 IN t::text) > 0",
                conversation,
                message,
            )
            for table in tables
        ]
    )


@pytest.mark.case(81)
@pytest.mark.parametrize("reason", [SPENT, OLD], ids=["expired", "old"])
async def test_a_conversation_whose_time_is_up_goes_with_all_its_rows(
    own_world: World, reason: str
) -> None:
    world = own_world
    kept, gone = await world.conversation("Kept"), await world.conversation("Gone")
    lease = await world.answered(gone)
    await world.answered(kept)
    start = await changes.last_number(world.pool, world.user)
    await world.pool.fetch(reason, gone)
    assert await rows_of(world, gone, lease.message_id) > 0
    await asyncio.gather(sweep(world), sweep(world))
    assert await rows_of(world, gone, lease.message_id) == 0
    assert await is_there(world, kept)
    assert (await told(world.pool, world.user, start))[-1] == {"deleted": gone}
    # What it cost stays.
    assert await world.value("SELECT sum(answers) FROM usage_ledger") == 2


@pytest.mark.case(81)
@pytest.mark.parametrize("reason", [SPENT, OLD], ids=["expired", "old"])
async def test_one_in_which_an_answer_is_written_waits_for_its_end(
    own_world: World, reason: str
) -> None:
    world = own_world
    lease = await world.lease()
    await world.pool.fetch(reason, lease.conversation_id)
    await sweep(world)
    assert await is_there(world, lease.conversation_id)
    await world.end(lease)
    await world.pool.fetch(reason, lease.conversation_id)
    await sweep(world)
    assert not await is_there(world, lease.conversation_id)


@pytest.mark.case(81)
async def test_one_that_is_locked_is_left_for_later_and_a_message_saves_an_old_one(
    own_world: World, fresh_database_url: str
) -> None:
    world = own_world
    expired, old = await world.conversation(), await world.conversation()
    await world.pool.fetch(SPENT, expired)
    await world.pool.fetch(OLD, old)
    lock = "SELECT 1 FROM conversations WHERE id = ANY ($1::uuid[]) FOR NO KEY UPDATE"
    async with connected(fresh_database_url) as connection, connection.transaction():
        await connection.execute(lock, [expired, old])
        await asyncio.wait_for(sweep(world), 10)
        assert await is_there(world, expired)
    await world.answered(old)
    await sweep(world)
    assert (await is_there(world, expired), await is_there(world, old)) == (False, True)


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = TG_ARGV[0];
END $$;
CREATE TRIGGER refuse BEFORE DELETE ON messages FOR EACH ROW
    WHEN (OLD.conversation_id = '{stuck}') EXECUTE FUNCTION refuse('{code}')
"""


@pytest.mark.case(81)
@pytest.mark.parametrize("reason", [SPENT, OLD], ids=["expired", "old"])
@pytest.mark.parametrize(
    "code", ["55P03", "57014", "XX002"], ids=["rows locked", "too slow", "corrupt"]
)
async def test_one_that_cannot_be_deleted_keeps_no_other(
    own_world: World, fresh_database_url: str, reason: str, code: str
) -> None:
    """The sweep comes to it first, time after time."""
    world = own_world
    stuck = await world.conversation("Stuck")
    await world.answered(stuck)
    await world.pool.fetch(reason, stuck)
    others = [await world.conversation() for _ in range(2)]
    for other in others:
        await world.pool.fetch(reason, other)
    async with connected(fresh_database_url) as connection:
        await connection.execute(REFUSE.format(stuck=stuck, code=code))
        await asyncio.wait_for(sweep(world), 10)
        assert await is_there(world, stuck)
        assert [await is_there(world, other) for other in others] == [False, False]
        await connection.execute("DROP TRIGGER refuse ON messages")
    await sweep(world)
    assert not await is_there(world, stuck)


@pytest.mark.case(81)
async def test_a_send_that_was_committed_while_it_was_looked_at_saves_it(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding a conversation and locking it, a message may arrive."""
    world = own_world
    old = await world.conversation()
    await world.pool.fetch(OLD, old)
    one = sweeping(world)
    delete, begun = one._delete, []

    async def later(conversation_ids: list[str], how: Any) -> int:
        if conversation_ids:
            begun.append(await world.lease(old))
        return await delete(conversation_ids, how)

    monkeypatch.setattr(one, "_delete", later)
    await one.sweep_old()
    assert len(begun) == 1
    assert await is_there(world, old)


@pytest.mark.case(81)
async def test_many_are_deleted_by_several_processes_while_their_users_send(
    own_world: World, fresh_database_url: str
) -> None:
    """More than are found at once, of several users: no deadlock, each told once."""
    world = own_world
    users = [f"user-{uuid4()}" for _ in range(5)]
    start = [await changes.last_number(world.pool, user) for user in users]
    await world.pool.fetch(
        "INSERT INTO conversations (id, user_id, title, title_given, model_tag, expires_at) "
        "SELECT gen_random_uuid(), ($1::text[])[1 + n % 5], 'T', true, 'm', "
        "now() - interval '1 second' FROM generate_series(1, $2::integer) AS n",
        users,
        BATCH + 50,
    )

    async def send(user: str) -> None:
        for _ in range(10):
            conversation = await world.conversation(user=user)
            assert await world.begin(conversation, user=user)

    async with opened(fresh_database_url) as other:
        await asyncio.gather(sweep(world), sweep(World(other)), *(send(user) for user in users))
    for user, first in zip(users, start, strict=True):
        deleted = [event for event in await told(world.pool, user, first) if "deleted" in event]
        assert len(deleted) == len({str(event) for event in deleted}) == (BATCH + 50) / 5
    assert await world.value("SELECT count(*) FROM conversations") == 50


@pytest.mark.case(81)
async def test_old_ones_are_found_in_any_number_of_conversations(own_world: World) -> None:
    world = own_world
    await world.pool.fetch(
        "INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at) "
        "SELECT gen_random_uuid(), $1, 'T', true, 'm', "
        "now() - make_interval(days => CASE WHEN n % 100 = 0 THEN 31 ELSE 29 END) "
        "FROM generate_series(1, $2::integer) AS n",
        world.user,
        LOOKED_AT + 100,
    )
    await Sweeping(world.pool, log_retention_seconds=300).sweep_old()  # keeps everything
    assert await world.value("SELECT count(*) FROM conversations") == LOOKED_AT + 100
    await sweep(world)
    assert await world.value("SELECT count(*) FROM conversations") == (LOOKED_AT + 100) * 0.99


@pytest.mark.case(81)
@pytest.mark.parametrize("has_key", [False, True])
async def test_a_request_that_is_sent_again_finds_no_answer_in_an_expired_one(
    world: World, has_key: bool
) -> None:
    """A client of another dialect must not go on reading what is written there."""
    conversation = await world.conversation()
    named = key(str(uuid4())) if has_key else None

    async def begin() -> Lease | Busy | Repeat | None:
        kept = KeptRequest("{}", False, uuid4().bytes if has_key else b"same", not has_key)
        return await world.begin(conversation, replace(world.draft(key=named), request=kept))

    lease = await begin()
    assert isinstance(lease, Lease)
    repeat = Repeat(lease.message_id)
    assert await begin() == repeat
    await world.pool.fetch(SPENT, conversation)
    assert await begin() == (repeat if has_key else None)  # as of one that was deleted
    joins = Joins(world.pool, cast("Any", None), cast("Any", None))
    with pytest.raises(AnswerGone):
        await joins.repeat(lease.message_id, Discard(), one_attempt=True)


@pytest.mark.case(81)
async def test_an_expired_one_is_in_no_list(world: World) -> None:
    kept, gone = await world.conversation("Kept"), await world.conversation("Gone")
    start = await changes.last_number(world.pool, world.user)
    await world.pool.fetch(SPENT, gone)
    listed = await queries.list_conversations(world.pool, world.user, limit=10)
    assert [item.id for item in listed] == [kept]
    assert len(await exports.find_all(world.pool, world.user)) == 16
    assert await told(world.pool, world.user, start) == []
