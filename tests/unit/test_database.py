"""Connections, and the translation of what the driver raises."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from tests.unit.world import World, connected, opened

from chat_api.db.database import UNAVAILABLE, Database, Refusals, StatementRefused, driver_address
from chat_api.errors import DatabaseUnavailable, NotFound


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql+asyncpg://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql+asyncpg://h/d?ssl=require", "postgresql://h/d?sslmode=require"),
        ("postgresql://h/d?sslmode=disable", "postgresql://h/d?sslmode=disable"),
        (
            "postgresql+asyncpg://u@/d?host=/tmp/a%20b&port=5432",
            "postgresql://u@/d?host=%2Ftmp%2Fa%20b&port=5432",
        ),
        ("postgresql+asyncpg://u:p%40%2F@h/d", "postgresql://u:p%40%2F@h/d"),
    ],
)
def test_an_address_of_sqlalchemy_is_one_of_the_driver(url: str, address: str) -> None:
    assert driver_address(url) == address


async def test_a_statement_is_a_transaction_and_a_block_is_one(world: World) -> None:
    conversation = await world.conversation()

    async def delete_and_fail() -> None:
        async with world.pool.transaction() as connection:
            await connection.execute("DELETE FROM conversations WHERE id = $1", conversation)
            raise NotFound

    with pytest.raises(NotFound):
        await delete_and_fail()
    assert await world.value("SELECT 1 FROM conversations WHERE id = $1", conversation) == 1


async def test_sessions_are_in_utc_and_give_up_on_what_takes_too_long(pool: Database) -> None:
    rows = await pool.fetch(
        "SELECT name, setting FROM pg_settings WHERE name IN "
        "('TimeZone', 'idle_in_transaction_session_timeout', 'statement_timeout')"
    )
    assert {row["name"]: row["setting"] for row in rows} == {
        "TimeZone": "UTC",
        "idle_in_transaction_session_timeout": "3000",
        "statement_timeout": "10000",
    }


async def test_a_database_that_is_not_there_is_unavailable(database_url: str) -> None:
    async with opened(database_url.replace("/test_", f"/none_{uuid4().hex}_")) as pool:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("SELECT 1")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/none") as pool:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("SELECT 1")


async def test_a_schema_that_is_not_there_yet_is_unavailable(pool: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT * FROM not_migrated")
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT not_migrated FROM conversations")


async def test_a_read_only_database_is_unavailable(world: World) -> None:
    async def delete() -> None:
        async with world.pool.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute("DELETE FROM conversations WHERE user_id = $1", world.user)

    with pytest.raises(DatabaseUnavailable):
        await delete()


async def test_a_connection_cut_in_mid_transaction_is_unavailable_and_then_forgotten(
    pool: Database, database_url: str
) -> None:
    async def be_cut() -> None:
        async with connected(database_url) as other, pool.transaction() as connection:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            await other.execute("SELECT pg_terminate_backend($1, 5000)", backend)
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await be_cut()
    assert (await pool.fetch("SELECT 7 AS seven"))[0]["seven"] == 7


async def test_no_free_connection_in_time_is_unavailable(database_url: str) -> None:
    pool = Database(database_url, size=1, timeout_seconds=0.05)
    await pool.open()
    async with pool.connection():
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("SELECT 1")
    await pool.close()


async def test_a_statement_that_takes_too_long_is_unavailable(database_url: str) -> None:
    pool = Database(database_url, size=1, timeout_seconds=0.2)
    await pool.open()
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT pg_sleep(60)")
    await pool.close()


async def test_the_pool_closes_under_whoever_does_not_let_go(database_url: str) -> None:
    pool = Database(database_url, size=1, timeout_seconds=10)
    await pool.open()
    held = asyncio.Event()

    async def hold() -> None:
        async with pool.connection() as connection:
            held.set()
            await connection.execute("SELECT pg_sleep(60)")

    holder = asyncio.create_task(hold())
    await held.wait()
    async with asyncio.timeout(5):
        await pool.close()
        with pytest.raises((DatabaseUnavailable, asyncio.CancelledError)):
            await holder


async def test_a_defect_of_ours_stays_one(world: World) -> None:
    conversation = await world.conversation()
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.pool.fetch(
            "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
            "VALUES ($1, 'u', 't', true, 'm')",
            conversation,
        )
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await world.pool.fetch("SELEC 1")
    with pytest.raises(StatementRefused):
        await world.pool.fetch("SELECT $1::text", "a\0b")
    with pytest.raises(ZeroDivisionError):
        async with world.pool.connection():
            _ = 1 / 0


@pytest.mark.parametrize("argument", ["no number", 2**40])
async def test_a_wrong_argument_is_a_defect_not_an_outage(argument: object, pool: Database) -> None:
    with pytest.raises(StatementRefused):
        await pool.fetch("SELECT $1::integer", argument)


async def test_a_driver_that_is_used_wrongly_is_a_defect_not_an_outage(pool: Database) -> None:
    with pytest.raises(asyncpg.InterfaceError):
        await pool.fetch("SELECT $1::integer", 1, 2)
    assert (await pool.fetch("SELECT 7 AS seven"))[0]["seven"] == 7


async def test_a_connection_that_was_lost_before_its_statement_is_unavailable(
    pool: Database,
) -> None:
    async def use_a_lost_one() -> None:
        async with pool.connection() as connection:
            connection.terminate()
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await use_a_lost_one()


async def test_a_pool_that_is_closed_is_unavailable(database_url: str) -> None:
    pool = Database(database_url, size=1, timeout_seconds=10)
    await pool.open()
    await pool.close()
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch("SELECT 1")


async def test_a_refused_write_is_known_to_whoever_shares_the_memory(database_url: str) -> None:
    refusals = Refusals()
    pools = [
        Database(database_url, size=1, timeout_seconds=10, refusals=refusals) for _ in range(2)
    ]
    await asyncio.gather(*(pool.open() for pool in pools))
    with pytest.raises(DatabaseUnavailable):
        await pools[0].fetch("SELECT 1 FROM not_migrated")
    known = [pools[1].refusals.any]
    with pytest.raises(DatabaseUnavailable):
        await pools[0].fetch("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$")  # disk full
    known += [pools[1].refusals.any, pools[1].refusals.lately]
    assert known == [False, True, True]
    await asyncio.gather(*(pool.close() for pool in pools))


def test_what_counts_as_unavailable_is_no_data_error() -> None:
    """Retrying these would go on for ever."""
    for kind in (
        asyncpg.UniqueViolationError,
        asyncpg.NotNullViolationError,
        asyncpg.CheckViolationError,
        asyncpg.CharacterNotInRepertoireError,
        asyncpg.PostgresSyntaxError,
        asyncpg.InsufficientPrivilegeError,
    ):
        assert not issubclass(kind, UNAVAILABLE)
