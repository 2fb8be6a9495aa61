"""Replicas of the version before go on serving while, and after, the schema is migrated."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.database import Databases
from tests.support.waiting import eventually
from tests.unit import statements_of_0002 as before
from tests.unit.world import World, connected, log_row, opened
from uuid_utils.compat import uuid7

from chat_api.db import event_log as db_event_log
from chat_api.db import generations
from chat_api.db.migrate import migrate
from chat_api.generation import events

DONE = '{"done":true}'


class Replica:
    """What a replica of the version before does, on one connection with its cached statements."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.process = str(uuid4())
        self.user = f"user-{uuid4()}"

    async def begin(self) -> str:
        conversation = str(uuid7())
        await self.connection.execute(
            "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
            "VALUES ($1, $2, 'A title', true, 'm')",
            conversation,
            self.user,
        )
        message = str(uuid7())
        begun = await self.connection.fetchval(
            before.BEGIN,
            message,
            conversation,
            1,
            "m",
            None,
            str(uuid7()),
            "{}",
            "trace",
            self.process,
            60.0,
            None,
            True,
            self.user,
            0,
            "Why?",
        )
        assert begun
        assert await self.is_listened(conversation)
        return message

    async def is_listened(self, conversation: str) -> bool:
        row = await self.connection.fetchrow(before.FIND_RUNNING, conversation)
        return row is not None and bool(row["listened"])

    async def append(self, message: str, first: int, *texts: str) -> None:
        lines = "\n".join(events.token(text).decode() for text in texts)
        held = await self.connection.fetch(
            before.APPEND, [message], [1], [first], [first + len(texts) - 1], [lines], self.process
        )
        assert message in {row["id"] for row in held}

    async def read(self, message: str) -> list[str]:
        """The rows of the log, read in both ways."""
        rows = await self.connection.fetch(before.READ, message)
        pages = await self.connection.fetch(before.READ_PAGES, [0], [message], [1], [-1], 100)
        found = [row["events"] for row in rows]
        assert found == [row["events"] for row in pages if row["events"] is not None]
        return found

    async def end(self, message: str, last: int) -> None:
        await self.connection.execute(before.END_GENERATION, message, "complete", None, last, DONE)
        for _ in range(2):  # repeated, after an outcome that is not known
            await self.connection.execute(before.INSERT_TAIL, message, 1, last, last, DONE)

    async def live(self) -> None:
        """Go through all that it does with the tables."""
        message = await self.begin()
        conversation = await self.connection.fetchval(
            "SELECT conversation_id::text FROM generations WHERE message_id = $1", message
        )
        await self.append(message, 0, "a", "b")
        await self.append(message, 0, "a", "b")  # again, after an outcome that is not known
        await self.append(message, 2, "c")
        ends = await self.connection.fetch(before.FIND_ENDS, [message], [1])
        assert [row["last_event"] for row in ends] == [2]
        await self.connection.fetch(before.STOP_LISTENING, self.process, [message])
        assert not await self.is_listened(conversation)
        for _ in range(2):
            await self.connection.fetch(before.LISTEN, [message], self.process, 60.0)
        assert await self.is_listened(conversation)
        await self.end(message, 3)
        assert len(await self.read(message)) == 3
        await self.connection.fetchrow(before.SWEEP, -1.0, 500)
        assert await self.read(message) == []
        await self.connection.fetch(before.TRY_TO_WRITE)
        await self.connection.fetch(before.SWEEP_LISTENERS)
        await self.connection.fetch(before.SWEEP_ORPHANS)
        going = await self.begin()
        await self.append(going, 0, "a")
        of = await self.connection.fetchval(
            "SELECT conversation_id FROM generations WHERE message_id = $1", going
        )
        deleted = await self.connection.fetch(before.DELETE, of)
        assert [row["id"] for row in deleted] == [going]
        assert await self.read(going) == []


@pytest.fixture
async def url(databases: Databases) -> str:
    url = databases.empty()
    await migrate(url, "0002")
    return url


@pytest.fixture
async def replica(url: str) -> AsyncIterator[Replica]:
    async with connected(url) as connection:
        yield Replica(connection)


@pytest.mark.case(63)
async def test_it_does_all_that_it_did_with_the_statements_that_it_has_prepared(
    url: str, replica: Replica
) -> None:
    await replica.live()
    message = await replica.begin()
    await replica.append(message, 0, "a")
    await migrate(url)
    await replica.append(message, 1, "b")
    assert len(await replica.read(message)) == 2
    await replica.live()
    async with connected(url) as fresh:
        await Replica(fresh).live()


@pytest.mark.case(63)
async def test_both_versions_read_what_the_other_wrote(url: str, replica: Replica) -> None:
    await migrate(url)
    async with opened(url) as pool:
        world = World(pool)
        # Theirs: neither column is written.
        theirs = await replica.begin()
        await replica.append(theirs, 0, "a", "b")
        snapshot = events.snapshot("abcd").decode()
        await replica.connection.fetch(
            before.APPEND, [theirs], [1], [2], [4], [snapshot], replica.process
        )
        await replica.end(theirs, 5)
        rows = await db_event_log.read(pool, theirs)
        assert [row.is_snapshot for row in rows[:2]] == [None, None]
        assert events.written(rows[:2]).text == "abcd"
        ended = await generations.read_generation(pool, theirs)
        assert ended is not None
        assert (ended.ended, ended.undone) == (True, False)
        # Ours.
        lease = await world.lease()
        await db_event_log.append(pool, world.process, [log_row(lease, 0, ["x", "y"])])
        assert await replica.read(lease.message_id) == [log_row(lease, 0, ["x", "y"]).events]


@pytest.mark.case(63)
@pytest.mark.parametrize("kept", [None, "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1"])
async def test_a_regeneration_that_it_ended_is_undone_if_its_end_says_so(
    url: str, replica: Replica, kept: str | None
) -> None:
    await migrate(url)
    message = await replica.begin()
    done = events.done(message, "stopped", 0, 1, kept_message_id=kept).decode()
    await replica.connection.execute(before.END_GENERATION, message, "stopped", None, 1, done)
    async with opened(url) as pool:
        ended = await generations.read_generation(pool, message)
    assert ended is not None
    assert ended.undone is (kept is not None)


@pytest.mark.case(63)
async def test_the_migration_waits_its_turn_without_holding_up_others(
    url: str, replica: Replica
) -> None:
    message = await replica.begin()
    async with connected(url) as other:
        migrating: asyncio.Task[None]
        async with other.transaction():
            await other.execute("LOCK TABLE listeners IN ROW EXCLUSIVE MODE")
            migrating = asyncio.create_task(migrate(url))
            await _waits_for_a_lock(replica.connection)
            # Queued behind the migration, and let through when that gives up for a moment.
            async with asyncio.timeout(5):
                await replica.append(message, 0, "a")
            assert not migrating.done()
        async with asyncio.timeout(30):
            await migrating
    assert len(await replica.read(message)) == 1


async def _waits_for_a_lock(connection: Any) -> None:
    async def is_waiting() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    await eventually(is_waiting, 10)


@pytest.mark.case(63)
async def test_a_role_that_could_use_the_tables_can_use_the_views(
    url: str, replica: Replica
) -> None:
    role = f"service_{uuid4().hex[:8]}"
    connection = replica.connection
    await connection.execute(f"CREATE ROLE {role}")
    await connection.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    )
    await connection.execute(f"REVOKE DELETE ON listeners FROM {role}")
    await migrate(url)
    await connection.execute(f"SET ROLE {role}")
    message = await replica.begin()
    await replica.append(message, 0, "a")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM listeners")
    await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
