"""Taking over the database of the service that this one replaces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from tests.support import predecessor
from tests.support.database import Databases
from tests.support.waiting import eventually
from tests.unit.world import World, connected, opened

from chat_api.db import queries
from chat_api.db.migrate import MigrationRefused, migrate, rehearse
from chat_api.db.schema import REVISIONS, TABLES, Schema, inspect

ALICE = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
STRANGER = "00000000-0000-4000-8000-0000000000ff"
FIRST = "00000000-0000-0000-0000-000000000000"
ODD = "10000000-0000-4000-8000-000000000001"
TIMELESS = "10000000-0000-4000-8000-000000000002"
BLANK = "10000000-0000-4000-8000-000000000003"
KEPT = "10000000-0000-4000-8000-000000000004"


@pytest.fixture
async def old_url(databases: Databases) -> AsyncIterator[str]:
    """A database of the service before, with rows."""
    url = databases.empty()
    async with connected(url) as connection:
        await connection.execute(predecessor.SCHEMAS["004"] + predecessor.ROWS)
        yield url


async def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with connected(url) as connection:
        return [tuple(row) for row in await connection.fetch(statement)]


@pytest.mark.parametrize("shape", predecessor.SCHEMAS)
async def test_every_shape_of_it_is_recognised_and_becomes_ours(
    databases: Databases, fresh_database_url: str, shape: str
) -> None:
    url = databases.empty()
    async with connected(url) as connection:
        rows_of_it = predecessor.ROWS if shape not in {"001", "002"} else ""
        await connection.execute(predecessor.SCHEMAS[shape] + rows_of_it)
        assert (await inspect(connection)).schema is Schema.PREDECESSOR
        assert (await rehearse(url))[-1] == "Nothing has been changed."
        users = await rows(url, "SELECT * FROM users ORDER BY id")
        version = "SELECT version_num FROM alembic_version"
        before = None if shape == "no revision" else await connection.fetchval(version)
        await migrate(url)
        found = await inspect(connection)
        assert (found.schema, found.fault) == (Schema.CURRENT, None)
        assert await rows(url, "SELECT * FROM users ORDER BY id") == users
        assert before is None or await connection.fetchval(version) == before
    columns = (
        "SELECT table_name, column_name, is_nullable, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    ours = {row[:2]: row[2:] for row in await rows(fresh_database_url, columns)}
    taken = {row[:2]: row[2:] for row in await rows(url, columns)}
    different = {name for name, kind in ours.items() if taken.get(name) != kind}
    assert different == {("messages", "role")}  # character varying, under the same constraint
    extra = {name for name in taken.keys() - ours.keys() if name[0] in TABLES}
    assert extra == {("conversations", "auth_user_id")}


async def test_everything_is_kept_in_the_order_in_which_it_was_shown(old_url: str) -> None:
    await migrate(old_url)
    messages = await rows(
        old_url,
        "SELECT conversation_id::text, position, role, content, status, token_count, model_tag, "
        "inference_time_ms FROM messages ORDER BY 1, 2",
    )
    assert messages == [
        (FIRST, 0, "system", "Be brief.", "complete", 0, "default", 0),
        (FIRST, 1, "user", "How are samosas made?", "complete", 0, "default", 0),
        (FIRST, 2, "assistant", "Fold them.", "complete", 3, "default", 250),
        (ODD, 0, "user", "Count", "complete", 0, "small", 0),
        (ODD, 1, "assistant", "One.", "complete", 1, "small", 0),
        (ODD, 2, "user", "And then?", "complete", 0, "small", 0),
        (ODD, 3, "assistant", "Two.", "complete", 1, "small", 0),
        (ODD, 4, "user", "Go on", "complete", 0, "small", 0),
        (ODD, 5, "user", "Hello?", "complete", 0, "small", 0),
        (ODD, 6, "assistant", "", "interrupted", 0, "small", 0),
        (TIMELESS, 0, "user", "When was this?", "complete", 0, "default", 0),
        (KEPT, 0, "user", "", "complete", 0, "default", 0),
    ]
    conversations = await rows(
        old_url,
        "SELECT id::text, user_id, title, title_given, model_tag, is_favorited, "
        "created_at::text, updated_at::text FROM conversations ORDER BY id",
    )
    nothing_known = conversations.pop(2)
    assert nothing_known[:6] == (TIMELESS, ALICE, "New conversation", False, "default", False)
    assert conversations == [
        (FIRST, ALICE, "Samosas", True, "default", False, *day("01", "03")),
        (ODD, ALICE, "New chat", False, "small", False, *day("01", "02")),
        (BLANK, ALICE, "New conversation", False, "default", False, *day("01", "01")),
        (KEPT, BOB, "  Keep me  ", True, "default", False, *day("04", "05")),
    ]


def day(created: str, updated: str) -> tuple[str, str]:
    return f"2025-01-{created} 10:00:00+00", f"2025-01-{updated} 10:00:00+00"


async def test_the_service_works_on_it(old_url: str) -> None:
    await migrate(old_url)
    async with opened(old_url) as pool:
        listed = await queries.list_conversations(pool, ALICE, limit=10)
        assert {one.id for one in listed} == {FIRST, ODD, TIMELESS, BLANK}
        assert {orjson.loads(one.json)["user_id"] for one in listed} == {ALICE}
        assert await queries.list_conversations(pool, "somebody of another kind", limit=10) == []
        world = World(pool)
        world.user = ALICE
        lease = await world.answered(ODD, "Here.")
        last = await queries.read_last_answer(pool, ALICE, ODD)
        assert last is not None
        assert orjson.loads(last)["content"] == "Here."
        assert (await world.messages(ODD))[-2:] == [
            (7, "user", "complete", "Why?"),
            (8, "assistant", "complete", "Here."),
        ]
        assert lease.replaces is None
        # The last answer of a conversation that ends with a question is started again.
        regeneration = await world.regeneration(FIRST)
        assert regeneration.replaces is not None
        await world.end(regeneration, "Fold them twice.")
        assert [text for *_, text in await world.messages(FIRST)][-1] == "Fold them twice."


@pytest.mark.parametrize("user", [ALICE, STRANGER, "auth0|nobody"])
async def test_a_user_who_is_deleted_takes_their_conversations_with_them(
    old_url: str, user: str
) -> None:
    await migrate(old_url)
    async with opened(old_url) as pool, connected(old_url) as connection:
        world = World(pool)
        world.user = user
        mine = await world.conversation()
        await world.lease(mine)
        await connection.execute("DELETE FROM users WHERE id = $1", ALICE)
        left = {str(row["id"]) for row in await connection.fetch("SELECT id FROM conversations")}
        # Users of another auth service are none of that table's.
        assert left == ({KEPT} if user == ALICE else {KEPT, mine})
        assert await connection.fetchval("SELECT count(*) FROM messages") == (
            1 if user == ALICE else 3
        )


async def test_replicas_of_the_service_before_read_and_write_all_the_while(old_url: str) -> None:
    over = asyncio.Event()
    sent: list[str] = []

    async def old_replica(number: int) -> int:
        turns = 0
        async with connected(old_url) as connection:
            while not (over.is_set() and turns > 3):
                turns += 1
                async with asyncio.timeout(2):
                    assert await again(connection, predecessor.LIST, UUID(ALICE), 50)
                    assert await again(connection, predecessor.OPEN, UUID(ODD), UUID(ALICE))
                    assert await again(connection, predecessor.READ, UUID(ODD))
                    text = f"{number} {turns}"
                    async with connection.transaction():
                        message = (uuid4(), UUID(ODD if number else FIRST), "user", text)
                        await connection.execute(predecessor.SEND, *message)
                        await connection.execute(predecessor.TOUCH, message[1])
                    sent.append(text)
                    await connection.execute(
                        predecessor.CREATE, uuid4(), UUID(BOB), "New chat", "default"
                    )
        return turns

    replicas = [asyncio.create_task(old_replica(number)) for number in range(3)]
    await eventually(lambda: len(sent) > 10)
    await migrate(old_url)
    over.set()
    assert min(await asyncio.gather(*replicas)) > 3
    kept = await rows(
        old_url, "SELECT conversation_id, position, content FROM messages ORDER BY 1, 2"
    )
    assert {text for *_, text in kept} >= set(sent)
    places = [row[:2] for row in kept]
    assert len(set(places)) == len(places)
    created = await rows(
        old_url,
        "SELECT user_id, auth_user_id::text, title_given FROM conversations "
        "WHERE title = 'New chat' AND id::text NOT LIKE '10000000%'",
    )
    assert created == [(BOB, BOB, False)] * len(sent)


async def again(connection: Any, statement: str, *arguments: Any) -> Any:
    """Fetch; once more where the schema has changed since the driver prepared the statement."""
    try:
        return await connection.fetch(statement, *arguments)
    except asyncpg.InvalidCachedStatementError:
        return await connection.fetch(statement, *arguments)


@pytest.mark.parametrize("statements", range(1, 36, 3))
async def test_a_takeover_that_is_cut_off_is_taken_up_again(
    old_url: str, statements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chat_api.db.steps import Steps

    class CutOff(Exception):
        pass

    left = [statements]

    def cut(run: Callable[..., Any]) -> Callable[..., Any]:
        def or_run(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise CutOff
            return run(*arguments)

        return or_run

    monkeypatch.setattr(Steps, "rows", cut(Steps.rows))
    monkeypatch.setattr(Steps, "run", cut(Steps.run))
    try:
        await migrate(old_url)
    except CutOff:
        async with connected(old_url) as connection:
            assert (await inspect(connection)).schema in {Schema.PREDECESSOR, Schema.BEHIND}
    monkeypatch.undo()
    await migrate(old_url)
    async with connected(old_url) as connection:
        assert (await inspect(connection)).schema is Schema.CURRENT
        assert await connection.fetchval("SELECT count(*) FROM messages") == 12
        assert await connection.fetchval(
            "SELECT array_agg(position ORDER BY position) FROM messages WHERE conversation_id = $1",
            ODD,
        ) == list(range(7))


async def test_a_rehearsal_says_what_would_be_done_and_changes_nothing(old_url: str) -> None:
    before = await rows(old_url, "SELECT * FROM messages ORDER BY id")
    said = " ".join(await rehearse(old_url))
    assert "5 conversations and 12 messages are kept. 2 users are only read." in said
    assert "2 messages without a time" in said
    assert said.endswith("Nothing has been changed.")
    async with connected(old_url) as connection:
        assert (await inspect(connection)).schema is Schema.PREDECESSOR
    assert await rows(old_url, "SELECT * FROM messages ORDER BY id") == before
    await migrate(old_url)
    assert await rehearse(old_url) == [f"The schema is at {REVISIONS[-1]}: there is nothing to do."]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE messages ALTER COLUMN content TYPE varchar(1000)",
        "DELETE FROM conversations; ALTER TABLE conversations ADD COLUMN tenant int NOT NULL",
        "ALTER TABLE messages RENAME COLUMN role TO author",
        "DROP TABLE users CASCADE",
    ],
)
async def test_what_only_looks_like_it_is_left_alone(old_url: str, change: str) -> None:
    async with connected(old_url) as connection:
        await connection.execute(change)
        assert (await inspect(connection)).schema is Schema.FOREIGN
    with pytest.raises(MigrationRefused, match="another program"):
        await migrate(old_url)


async def test_a_role_that_does_not_own_the_tables_is_told_so(old_url: str) -> None:
    async with connected(old_url) as connection:
        await connection.execute(
            "DO $$ BEGIN CREATE ROLE heir LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;"
            "GRANT ALL ON SCHEMA public TO heir; GRANT ALL ON messages, conversations TO heir"
        )
    for act in (migrate, rehearse):
        with pytest.raises(MigrationRefused, match="heir does not own: conversations, messages"):
            await act(old_url.replace("postgres@", "heir@"))
