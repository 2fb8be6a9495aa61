"""Whose turn it is to search, and what the statement does on the server."""

import asyncio

import pytest
from tests.support.waiting import eventually
from tests.unit.world import World, connected, opened

from chat_api.conversations.search import MOST_OF_A_USER, Search, fold_for
from chat_api.db import search as statements
from chat_api.db.database import Connection
from chat_api.errors import TooManySearches


async def test_one_search_of_a_user_runs_and_few_wait(
    world: World, fresh_database_url: str
) -> None:
    """While a lock holds the first one up, another user's search runs."""
    async with (
        opened(fresh_database_url) as pool,
        connected(fresh_database_url) as holder,
        connected(fresh_database_url) as watcher,
    ):
        search = Search(pool, at_once=2)

        async def running() -> int:
            return int(
                await watcher.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND wait_event_type = 'Lock'"
                )
            )

        async with holder.transaction():
            await holder.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            tasks = [
                asyncio.create_task(search.find(world.user, "x", limit=1, after=None))
                for _ in range(MOST_OF_A_USER)
            ]
            await eventually(running)
            with pytest.raises(TooManySearches):
                await search.find(world.user, "x", limit=1, after=None)
            assert await running() == 1
            tasks.append(asyncio.create_task(search.find(world.stranger, "x", limit=1, after=None)))

            async def two() -> bool:
                return await running() == 2

            await eventually(two)
        for page in await asyncio.gather(*tasks):
            assert page.items == []
        assert (await search.find(world.user, "x", limit=1, after=None)).items == []


@pytest.mark.parametrize(
    ("words", "fold"),
    [
        (["内容"], statements.NO_FOLD),
        (["मोसा", "77"], statements.NO_FOLD),
        (["77", "内容x"], statements.ASCII_FOLD),
        (["X"], statements.ASCII_FOLD),
        (["é"], "any({})"),
        (["内容", "77x", "ж"], "any({})"),
        (["ß"], "any({})"),
        (["\u0345"], "any({})"),
    ],
)
def test_texts_are_folded_only_as_far_as_the_words_have_a_case(words: list[str], fold: str) -> None:
    assert fold_for([(words[0], words[1:])], "any({})") == fold
    assert fold_for([("7", []), (words[0], words[1:])], "any({})") == fold


@pytest.mark.case(95)
async def test_no_statement_of_a_search_is_compiled(world: World) -> None:
    """Whatever the planner expects among the messages of many other users."""
    async with world.pool.transaction() as connection:
        await connection.execute("SET LOCAL jit = on; SET LOCAL jit_above_cost = 0")
        await statements.begin_search(connection)
        assert await connection.fetchval("SHOW jit") == "off"


async def test_letters_beyond_ascii_are_folded_where_the_locale_is_c(world: World) -> None:
    async with world.pool.connection() as connection:
        fold = await statements.read_fold(connection)
        assert "pg_c_utf8" in fold
        folded = await connection.fetchval(f"SELECT {fold.format('$1::text')}", "ÄΣЖ")
    assert folded == "äσж"


@pytest.mark.case(95)
async def test_the_messages_of_a_search_are_found_by_an_index(world: World) -> None:
    """Never by reading all messages of everybody, whatever the planner knows of the tables."""
    async with world.pool.transaction() as connection:
        await statements.begin_search(connection)
        before = await _whole_reads(connection)
        for limit in (1, 50):
            await statements.search_conversations(
                connection,
                world.user,
                statements.ASCII_FOLD,
                [("word", ["other"])],
                conversations=100,
                rest=None,
                limit=limit,
                after=None,
            )
        assert await _whole_reads(connection) == before


async def _whole_reads(connection: Connection) -> int:
    return int(
        await connection.fetchval(
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'messages'"
        )
    )
