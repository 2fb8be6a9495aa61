"""The change feed: what the triggers write, what a poll reads, what is swept."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from tests.unit.world import World, connected

from chat_api.changes import ChangeFeed, read_cursor
from chat_api.db import changes, generations, queries
from chat_api.db.database import Database, Record
from chat_api.errors import BadRequest, DatabaseBusy
from chat_api.generation.sink import Discard

DAY_AND_MORE = 25 * 3600 * 1_000_000


async def told(db: Database, user: str, after: int) -> list[dict[str, Any]]:
    """All that the user is told after a change."""
    found: list[dict[str, Any]] = []
    while pages := await changes.read_pages(db, [(user, after)]):
        assert pages[0].number != after
        after = pages[0].number
        found += [orjson.loads(data) for _, data in pages[0].changes]
    return found


def brief(events: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Kind and what tells the change apart."""
    found: list[tuple[str, ...]] = []
    for event in events:
        ((kind, value),) = event.items()
        if kind == "conversation":
            found.append((kind, value["id"], value["title"]))
        elif kind == "answer":
            found.append((kind, value["message_id"], value["status"]))
        else:
            found.append((kind, str(value)))
    return found


@pytest.mark.case(69)
async def test_every_statement_that_changes_something_writes_its_change(world: World) -> None:
    db = world.pool
    start = await changes.last_number(db, world.user)
    conversation = await world.conversation("Mine")
    lease = await world.lease(conversation)
    await world.end(lease)
    await queries.update_conversation(
        db, world.user, conversation, queries.ConversationSettings(is_favorited=True)
    )
    again = await world.lease(conversation, world.draft(None))
    await world.end(again, status="stopped")
    assert brief(await told(db, world.user, start)) == [
        ("conversation", conversation, "Mine"),
        ("conversation", conversation, "Mine"),
        ("answer", lease.message_id, "generating"),
        ("answer", lease.message_id, "complete"),
        ("conversation", conversation, "Mine"),
        ("conversation", conversation, "Mine"),
        ("answer", again.message_id, "generating"),
        ("answer", again.message_id, "stopped"),
    ]
    # Of what is gone, nothing but that is told.
    async with db.transaction() as connection:
        await queries.delete_conversation(connection, world.user, conversation)
    assert brief(await told(db, world.user, start))[-1] == ("deleted", conversation)
    assert not [e for e in await told(db, world.user, start) if "conversation" in e]
    assert await told(db, world.stranger, 0) == []


@pytest.mark.case(69)
async def test_what_is_rolled_back_or_refused_writes_no_change(world: World) -> None:
    db = world.pool
    conversation = await world.conversation()
    start = await changes.last_number(db, world.user)
    async with db.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await queries.delete_conversation(connection, world.user, conversation)
        await transaction.rollback()
    await queries.update_conversation(
        db, world.stranger, conversation, queries.ConversationSettings(title="Not mine")
    )
    lease = await world.lease(conversation)
    fenced = await world.end(replace(lease, attempt=2))
    assert fenced is generations.Outcome.FENCED
    assert [kind for kind, *_ in brief(await told(db, world.user, start))] == [
        "conversation",
        "answer",
    ]


@pytest.mark.case(69)
async def test_a_counter_that_stays_locked_refuses_the_write_as_a_whole(
    world: World, database_url: str
) -> None:
    """The trigger waits at the commit; a statement that is its own transaction fails there, too."""
    await world.conversation()
    async with connected(database_url) as holder, holder.transaction():
        await holder.execute(
            "SELECT 1 FROM change_counters WHERE user_id = $1 FOR UPDATE", world.user
        )
        with pytest.raises(DatabaseBusy):
            await world.conversation("Never there")
    listed = await queries.list_conversations(world.pool, world.user, limit=10)
    assert len(listed) == 1


@pytest.mark.case(69)
async def test_none_is_skipped_under_concurrent_writers_and_killed_backends(
    world: World, database_url: str, request: pytest.FixtureRequest
) -> None:
    """A reader that polls meanwhile is told exactly what was committed, in order of commits."""
    start = await changes.last_number(world.pool, world.user)
    rng = random.Random(int(request.config.getoption("hypothesis_seed")))
    committed: set[str] = set()
    killed: set[str] = set()
    seen: list[str] = []
    numbers: list[int] = []
    place = start

    async def poll() -> None:
        nonlocal place
        while pages := await changes.read_pages(world.pool, [(world.user, place)]):
            place = pages[0].number
            numbers.extend(number for number, _ in pages[0].changes)
            seen.extend(orjson.loads(data)["conversation"]["id"] for _, data in pages[0].changes)

    async def follow(writers: "asyncio.Future[list[None]]") -> None:
        while not writers.done():
            await poll()
            await asyncio.sleep(0)

    async def write(count: int) -> None:
        for number in range(count):
            ids = [str(uuid4()) for _ in range(rng.randint(1, 3))]
            try:
                await insert(database_url, world.user, ids, rng, kill=number % 10 == 5)
                committed.update(ids)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                killed.update(ids)

    writers = asyncio.gather(*(write(30) for _ in range(6)))
    await follow(writers)
    await writers
    await poll()
    rows = await world.pool.fetch(
        "SELECT id::text FROM conversations WHERE user_id = $1", world.user
    )
    assert committed
    assert killed
    assert sorted(seen) == sorted(row["id"] for row in rows)
    assert set(seen) >= committed
    assert numbers == sorted(set(numbers))


async def insert(url: str, user: str, ids: list[str], rng: random.Random, *, kill: bool) -> None:
    """Insert conversations in one transaction, whose backend is killed before its commit."""
    async with connected(url) as connection, connection.transaction():
        for id_ in ids:
            await connection.execute(
                "INSERT INTO conversations (id, user_id, title, title_given, model_tag)"
                " VALUES ($1, $2, 't', true, 'default')",
                id_,
                user,
            )
            await asyncio.sleep(rng.uniform(0, 0.003))
        if kill:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def age(db: Database, user: str) -> None:
    """Make all changes of the user a day and an hour older."""
    await db.fetch("UPDATE changes SET number = number - $2 WHERE user_id = $1", user, DAY_AND_MORE)
    await db.fetch(
        "UPDATE change_counters SET last = last - $2 WHERE user_id = $1", user, DAY_AND_MORE
    )


@pytest.mark.case(69)
async def test_a_cursor_is_good_at_every_change_until_it_is_swept(own_world: World) -> None:
    db, user = own_world.pool, own_world.user
    begun = await changes.last_number(db, user)
    conversations = [await own_world.conversation(str(n)) for n in range(5)]
    numbers = [
        row["number"]
        for row in await db.fetch("SELECT number FROM changes WHERE user_id = $1 ORDER BY 1", user)
    ]
    assert numbers[0] == begun
    for index, number in enumerate(numbers):
        titles = [event["conversation"]["id"] for event in await told(db, user, number)]
        assert titles == conversations[index:]
    resync = [{"resync": True}]
    for unknown in (0, numbers[1] - 1, numbers[-1] + 1, 10**17):
        if unknown not in numbers:
            assert await told(db, user, unknown) == resync
    await changes.sweep(db)
    await changes.sweep_counters(db)
    assert len(await told(db, user, numbers[0])) == 5  # nothing was old
    await age(db, user)
    last = await own_world.conversation("New")
    old = [number - DAY_AND_MORE for number in numbers]
    await changes.sweep(db)
    for number in old:
        assert await told(db, user, number) == resync
    await age(db, user)
    await changes.sweep(db)
    await changes.sweep_counters(db)
    assert await db.fetch("SELECT 1 FROM changes UNION ALL SELECT 1 FROM change_counters") == []
    # Numbers that were given out once never come back.
    assert await changes.last_number(db, user) > numbers[-1]
    assert last


@pytest.mark.case(69)
async def test_a_number_is_later_than_one_that_a_failover_lost(world: World) -> None:
    await world.conversation()
    lost = await changes.last_number(world.pool, world.user)
    await world.pool.fetch("DELETE FROM changes WHERE user_id = $1", world.user)
    await world.pool.fetch("DELETE FROM change_counters WHERE user_id = $1", world.user)
    await world.conversation()
    assert await changes.last_number(world.pool, world.user) > lost
    assert await told(world.pool, world.user, lost) == [{"resync": True}]


class Counting(Database):
    """Counts the statements that go through it."""

    def __init__(self, db: Database) -> None:
        self._of = db
        self.statements = 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        self.statements += 1
        return await self._of.fetch(statement, *arguments)


class Kept(Discard):
    """A sink that keeps what it takes."""

    def __init__(self) -> None:
        self.data = b""
        self.more = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self.data += data
        self.more.set()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(20):
            while text not in self.data:
                self.more.clear()
                await self.more.wait()


@pytest.mark.case(69)
async def test_a_thousand_connected_users_cost_one_statement(pool: Database) -> None:
    counting = Counting(pool)
    feed = ChangeFeed(
        pool, counting, heartbeat_seconds=60, slow_reader_seconds=60, poll_seconds=0.001
    )
    worlds = [World(pool) for _ in range(1000)]
    sinks = [Kept() for _ in worlds for _ in range(2)]
    running = []
    for index, sink in enumerate(sinks):
        subscription = await feed.subscribe(worlds[index // 2].user, None, sink)
        running.append(asyncio.create_task(subscription.run()))
    for sink in sinks:
        await sink.until(b'{"cursor":true}')
    await feed.step()
    assert counting.statements == 1
    conversation = await worlds[7].conversation("Here")
    await feed.step()
    assert counting.statements == 2
    for sink in sinks[14:16]:
        await sink.until(conversation.encode())
    assert sum(conversation.encode() in sink.data for sink in sinks) == 2
    feed.send_away()
    await asyncio.gather(*running)


@pytest.mark.case(69)
@pytest.mark.parametrize("text", ["x", "-1", "01", "1" * 19, "0a3a3e1fb0a1.1.0", "1 ", "\u0661"])
def test_a_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        read_cursor(text)
