"""Steps of a migration that may run while replicas serve."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection as AlchemyConnection
from tests.support.waiting import eventually
from tests.unit.world import World, connected, opened

from chat_api.db import migrate as module
from chat_api.db.connecting import Connector
from chat_api.db.migrate import migrate
from chat_api.db.schema import Schema, inspect
from chat_api.db.steps import Steps, cause_of


async def run(url: str, work: Callable[[Steps], object]) -> None:
    connector = Connector(url, timeout_seconds=60, settings={"lock_timeout": "0"})

    def on(bind: AlchemyConnection) -> None:
        work(Steps(bind))

    await module._run(connector, on, autocommit=True)


@pytest.mark.case(63)
@pytest.mark.parametrize("how", ["a step", "a migration"])
async def test_sends_go_on_behind_a_step_that_waits_for_a_lock(
    fresh_database_url: str, how: str
) -> None:
    """A reader holds the table for long; whatever waits for it exclusively gives way."""
    url = fresh_database_url
    if how == "a migration":
        await migrate(url, "0001")
    async with connected(url) as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.execute("SELECT 1 FROM generations")
        if how == "a step":
            alter = "ALTER TABLE generations ADD COLUMN of_the_future integer"
            waiting = asyncio.create_task(run(url, lambda steps: steps.briefly(alter)))
        else:
            waiting = asyncio.create_task(migrate(url))
        refused = (
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock'"
        )
        async with connected(url) as other:
            await eventually(lambda: other.fetchval(refused))
            for _ in range(20):
                # A statement of a send: it would wait behind that of the step.
                async with asyncio.timeout(5):
                    await other.fetch("SELECT 1 FROM generations WHERE ended_at IS NULL")
            assert not waiting.done()
        await reading.rollback()
        await waiting
        if how == "a migration":
            assert (await inspect(reader)).schema is Schema.CURRENT


async def test_an_index_that_was_left_invalid_is_built_again(fresh_database_url: str) -> None:
    async with opened(fresh_database_url) as pool:
        conversations = [await World(pool).conversation("Twice") for _ in range(2)]
    unique = ("UNIQUE by_title", "ON conversations (title)")
    state = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('by_title')"
    async with connected(fresh_database_url) as connection:
        with pytest.raises(Exception, match="by_title") as failed:
            await run(fresh_database_url, lambda steps: steps.index(*unique))
        assert cause_of(failed.value, (asyncpg.UniqueViolationError,)) is not None
        assert await connection.fetchval(state) is False
        await connection.execute("DELETE FROM conversations WHERE id = $1", conversations[0])
        for _ in range(2):
            await run(fresh_database_url, lambda steps: steps.index(*unique))
            assert await connection.fetchval(state) is True


async def test_columns_become_not_null_only_where_every_row_has_them(
    fresh_database_url: str,
) -> None:
    state = (
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'generations'::regclass "
        "AND attname = 'error'"
    )
    async with opened(fresh_database_url) as pool, connected(fresh_database_url) as connection:
        await World(pool).lease()
        with pytest.raises(Exception, match="generations_are_complete"):
            await run(fresh_database_url, lambda steps: steps.not_null("generations", "error"))
        assert await connection.fetchval(state) is False
        await connection.execute("UPDATE generations SET error = ''")
        for _ in range(2):
            await run(fresh_database_url, lambda steps: steps.not_null("generations", "error"))
            assert await connection.fetchval(state) is True
        assert not await connection.fetchval(
            "SELECT count(*) FROM pg_constraint WHERE conname = 'generations_are_complete'"
        )


async def test_batches_come_until_there_is_nothing_left(fresh_database_url: str) -> None:
    async with opened(fresh_database_url) as pool, connected(fresh_database_url) as connection:
        world = World(pool)
        for _ in range(7):
            await world.conversation()
        sizes: list[int] = []

        def work(steps: Steps) -> None:
            def batch(size: int) -> bool:
                sizes.append(size)
                changed: list[Any] = steps.rows(
                    "UPDATE conversations SET title = 'done' WHERE id = ANY (ARRAY("
                    "SELECT id FROM conversations WHERE title <> 'done' LIMIT $1)) RETURNING 1",
                    2,
                )
                return bool(changed)

            steps.in_batches(batch)

        await run(fresh_database_url, work)
        assert len(sizes) == 5
        assert await connection.fetchval("SELECT count(*) FROM conversations") == 7
        assert await connection.fetchval("SELECT bool_and(title = 'done') FROM conversations")
