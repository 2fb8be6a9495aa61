"""Connections, and the translation of what the driver raises."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from tests.support.proxy import Proxy
from tests.support.waiting import eventually
from tests.unit.world import World, connected, opened

from chat_api.db import connections, generations, housekeeping, sends
from chat_api.db.database import (
    UNAVAILABLE,
    Database,
    Refusals,
    StatementRefused,
    is_read,
    reason_of,
)
from chat_api.db.generations import Lease
from chat_api.db.quotas import Quotas
from chat_api.db.shares import conversation_id_var
from chat_api.errors import DatabaseBusy, DatabaseRefused, DatabaseUnavailable, NotFound
from chat_api.local.postgres import EmbeddedPostgres
from chat_api.telemetry import user_id_var


async def test_a_statement_is_a_transaction_and_a_block_is_one(world: World) -> None:
    conversation = await world.conversation()

    async def delete_and_fail() -> None:
        async with world.pool.transaction() as connection:
            await connection.execute("DELETE FROM conversations WHERE id = $1", conversation)
            raise NotFound

    with pytest.raises(NotFound):
        await delete_and_fail()
    assert await world.value("SELECT 1 FROM conversations WHERE id = $1", conversation) == 1


# What a role, a database or a server may have as defaults, and what statements rely on.
SETTINGS = {
    "default_transaction_isolation": ("repeatable read", "read committed"),
    "default_transaction_deferrable": ("on", "off"),
    "statement_timeout": ("1234", "10s"),
    "lock_timeout": ("1234", "2s"),
    "idle_in_transaction_session_timeout": ("0", "3s"),
    "idle_session_timeout": ("4321", "0"),
    "TimeZone": ("Asia/Kathmandu", "UTC"),
    "DateStyle": ("SQL, DMY", "ISO, MDY"),
    "IntervalStyle": ("iso_8601", "postgres"),
    "bytea_output": ("escape", "hex"),
    "extra_float_digits": ("-5", "1"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "enable_seqscan": ("on", "off"),
    "jit": ("on", "off"),
    "synchronous_commit": ("off", "on"),
}


async def test_defaults_of_a_database_do_not_change_what_statements_mean(
    fresh_database_url: str,
) -> None:
    async with connected(fresh_database_url) as connection:
        name = await connection.fetchval("SELECT current_database()")
        for setting, (default, _) in SETTINGS.items():
            await connection.execute(f"ALTER DATABASE {name} SET {setting} = '{default}'")
    async with opened(fresh_database_url) as pool, pool.connection() as lent:
        assert {name: await lent.fetchval(f"SHOW {name}") for name in SETTINGS} == {
            name: ours for name, (_, ours) in SETTINGS.items()
        }


async def test_more_durability_than_we_ask_for_stays(fresh_database_url: str) -> None:
    async with connected(fresh_database_url) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    async with opened(fresh_database_url) as pool:
        (row,) = await pool.fetch("SHOW synchronous_commit")
        assert row[0] == "remote_apply"


async def test_sends_at_once_on_a_database_of_repeatable_reads_are_all_accepted(
    fresh_database_url: str,
) -> None:
    async with connected(fresh_database_url) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        )
    async with opened(fresh_database_url, size=12) as pool:
        world = World(pool)
        conversations = [await world.conversation() for _ in range(12)]
        quotas = Quotas(messages_per_minute=100)
        begun = await asyncio.gather(
            *(world.begin(conversation, quotas=quotas) for conversation in conversations)
        )
    assert [type(one) for one in begun] == [Lease] * 12


async def test_a_database_that_is_not_there_is_unavailable(database_url: str) -> None:
    async with opened(database_url.replace("/test_", f"/none_{uuid4().hex}_")) as pool:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("SELECT 1")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/none") as pool:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch("SELECT 1")


async def test_what_is_missing_is_an_outage_until_the_schema_is_complete_and_then_a_defect(
    pool: Database,
) -> None:
    missing = ("SELECT * FROM not_there", "SELECT not_there FROM conversations", "SELECT no_such()")
    for statement in missing:
        with pytest.raises(DatabaseUnavailable):
            await pool.fetch(statement)
    pool.schema_is_complete = True
    for statement in missing:
        with pytest.raises(asyncpg.SyntaxOrAccessError):
            await pool.fetch(statement)


async def test_a_read_on_a_connection_that_has_just_died_is_tried_once_more(
    pool: Database, database_url: str
) -> None:
    lost = "SELECT pg_terminate_backend(pg_backend_pid())"
    async with AsyncExitStack() as stack:
        lent = [await stack.enter_async_context(pool.connection()) for _ in range(4)]
        backends = [await connection.fetchval("SELECT pg_backend_pid()") for connection in lent]
    # This loop stands still meanwhile: the pool cannot know of it.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, terminated(database_url, backends)).result()
    (row,) = await pool.fetch("SELECT 7 AS seven")
    assert row["seven"] == 7
    with pytest.raises(DatabaseUnavailable):
        await pool.fetch(lost)  # twice


async def terminated(url: str, backends: list[int]) -> None:
    async with connected(url) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::integer[]) AS b (pid)", backends
        )


async def test_a_write_on_a_connection_that_has_just_died_is_not_tried_again(
    own_world: World,
) -> None:
    conversation = await own_world.conversation()
    with pytest.raises(DatabaseUnavailable):
        await own_world.pool.fetch(
            "UPDATE conversations SET title = title || '!' "
            "WHERE id = $1 AND pg_terminate_backend(pg_backend_pid())",
            conversation,
        )
    assert await own_world.value("SELECT title FROM conversations") == "New conversation"


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("SELECT updated_at FROM conversations", True),
        ("\n  with page as (select 1) select * from page", True),
        ("SELECT 1 FROM conversations FOR NO KEY UPDATE", False),
        ("SELECT 1 FROM conversations FOR SHARE", False),
        ("WITH gone AS (DELETE FROM messages RETURNING 1) SELECT * FROM gone", False),
        ("SELECT set_config('x', 'y', true)", False),
        ("SELECT pg_advisory_lock(1)", False),
        (sends._BEGIN_IN_ONE_CALL, False),
        (generations._END_IN_ONE_CALL, False),
        ("SELECT version_num FROM samosachaat_schema_version", True),
        ("INSERT INTO listeners SELECT 1", False),
        ("UPDATE conversations SET title = ''", False),
    ],
)
def test_a_read_is_told_from_a_write(statement: str, reads: bool) -> None:
    assert is_read(statement) is reads


LOCKED_TITLE = "UPDATE conversations SET title = 'changed' WHERE id = $1"


@pytest.mark.case(52)
async def test_thirty_writes_to_one_locked_row_leave_the_pool_to_others(
    database_url: str,
) -> None:
    async with opened(database_url, size=4) as pool, connected(database_url) as operator:
        world = World(pool)
        locked, free = await world.conversation(), await world.conversation()
        transaction = operator.transaction()
        await transaction.start()
        await operator.execute("SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", locked)

        async def write(conversation: str, user: str) -> None:
            conversation_id_var.set(conversation)
            user_id_var.set(user)
            await pool.fetch(LOCKED_TITLE, conversation)

        refused = [asyncio.create_task(write(locked, world.user)) for _ in range(30)]
        await eventually(
            lambda: operator.fetchval(
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            )
        )
        # While they wait, the user's other conversation and other users are served.
        async with asyncio.timeout(1):
            await asyncio.gather(write(free, world.user), write(free, "somebody else"))
            assert await pool.fetch("SELECT title FROM conversations WHERE id = $1", locked)
        assert not any(task.done() for task in refused)
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        # All of them with the first, not one after the other.
        assert {type(outcome) for outcome in outcomes} == {DatabaseBusy}
        await transaction.rollback()
        await asyncio.create_task(write(locked, world.user))


@pytest.mark.case(52)
async def test_locks_on_many_conversations_of_one_user_leave_the_pool_to_others(
    database_url: str,
) -> None:
    async with opened(database_url, size=4) as pool, connected(database_url) as operator:
        world = World(pool)
        locked = [await world.conversation() for _ in range(10)]
        free = await world.conversation()
        transaction = operator.transaction()
        await transaction.start()
        await operator.execute("SELECT 1 FROM conversations FOR UPDATE")
        await operator.execute("SAVEPOINT s")

        async def write(conversation: str, user: str) -> None:
            conversation_id_var.set(conversation)
            user_id_var.set(user)
            await pool.fetch(LOCKED_TITLE, conversation)

        refused = [asyncio.create_task(write(one, world.user)) for one in locked]
        await eventually(
            lambda: operator.fetchval(
                "SELECT count(*) = 2 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            )
        )
        async with asyncio.timeout(1):
            assert await pool.fetch("SELECT title FROM conversations WHERE id = $1", free)
            await asyncio.create_task(insert_conversation(pool))
        outcomes = await asyncio.gather(*refused, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DatabaseBusy}
        await transaction.rollback()


async def insert_conversation(pool: Database) -> None:
    user_id_var.set("somebody else")
    await World(pool).conversation()


@pytest.mark.case(62)
async def test_a_host_that_is_silent_does_not_hold_up_the_next(
    postgres: EmbeddedPostgres, database_url: str
) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected_to.append(writer)

    connected_to: list[asyncio.StreamWriter] = []
    with TemporaryDirectory(dir="/tmp") as folder:
        server = await asyncio.start_unix_server(silent, f"{folder}/.s.PGSQL.5432")
        name = database_url.partition("?")[0].rpartition("/")[2]
        hosts = f"{folder},{postgres._sockets}"
        async with server, opened(f"postgresql://postgres@/{name}?host={hosts}") as pool:
            async with asyncio.timeout(4):  # a single host may take five seconds
                assert await pool.fetchrow("SELECT 1")
            assert connected_to
            # The one that answered is tried first from now on.
            async with pool.connection(), pool.connection():
                assert len(connected_to) == 1
            for writer in connected_to:
                writer.close()


async def test_a_pooler_that_takes_the_session_away_is_named(pool: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await pool.fetch("EXECUTE lost_with_its_session")
    assert "pgbouncer=true" in reason_of(caught.value)


@pytest.mark.case(62)
async def test_connections_to_a_server_that_refuses_writes_leave_the_pool(
    fresh_database_url: str,
) -> None:
    """After a failover behind one address, the pool's connections lead to the old primary."""
    async with opened(fresh_database_url) as pool, connected(fresh_database_url) as operator:
        name = await operator.fetchval("SELECT current_database()")
        setting = f"ALTER DATABASE {name} SET default_transaction_read_only = "
        await operator.execute(setting + "on")
        async with AsyncExitStack() as stack:
            lent = [await stack.enter_async_context(pool.connection()) for _ in range(4)]
            old = {await connection.fetchval("SELECT pg_backend_pid()") for connection in lent}
        await operator.execute("SET default_transaction_read_only = off")
        await operator.execute(setting + "off")
        with pytest.raises(DatabaseUnavailable) as caught:
            await housekeeping.try_to_write(pool)
        assert reason_of(caught.value) == "read-only"
        # From now on there are only new ones.
        await housekeeping.try_to_write(pool)
        async with AsyncExitStack() as stack:
            lent = [await stack.enter_async_context(pool.connection()) for _ in range(4)]
            assert not old & {await one.fetchval("SELECT pg_backend_pid()") for one in lent}


@pytest.mark.case(62)
async def test_a_connection_that_was_in_use_leaves_the_pool_with_the_others(
    database_url: str,
) -> None:
    async with opened(database_url) as pool:
        async with pool.connection() as connection:
            old = await connection.fetchval("SELECT pg_backend_pid()")
            await pool._connections.expire()
        assert (await pool.fetch("SELECT pg_backend_pid()"))[0][0] != old


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


@pytest.mark.case(36)
@pytest.mark.parametrize("timeout_seconds", [0.5, 60])
async def test_a_statement_that_is_cancelled_on_a_silent_line_ends_at_once(
    database_url: str, timeout_seconds: float
) -> None:
    """As a cancellation, not as an outage, after which it would be repeated."""
    parts = urlsplit(database_url)
    place = parse_qs(parts.query)
    with Proxy(Path(place["host"][0]) / f".s.PGSQL.{place['port'][0]}") as proxy:
        url = f"{parts.scheme}://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
        pool = Database(url, size=1, timeout_seconds=timeout_seconds)
        await pool.open()
        held = asyncio.Event()

        async def use() -> None:
            async with pool.connection() as connection:
                proxy.freeze()
                held.set()
                await connection.fetch("SELECT 1")

        using = asyncio.create_task(use())
        await held.wait()
        await asyncio.sleep(0)
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await using
        await pool.close()


async def test_no_free_connection_in_time_is_unavailable(database_url: str) -> None:
    pool = Database(database_url, size=1, timeout_seconds=1)
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
    known = [pools[1].refusals.any]
    with pytest.raises(DatabaseUnavailable):
        await pools[0].fetch("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$")  # disk full
    known += [pools[1].refusals.any, pools[1].refusals.lately]
    assert known == [False, True, True]
    await asyncio.gather(*(pool.close() for pool in pools))


def test_what_counts_as_unavailable_is_no_data_error() -> None:
    """Retrying these would never end."""
    for kind in (
        asyncpg.UniqueViolationError,
        asyncpg.NotNullViolationError,
        asyncpg.CheckViolationError,
        asyncpg.CharacterNotInRepertoireError,
        asyncpg.PostgresSyntaxError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedColumnError,
    ):
        assert not issubclass(kind, UNAVAILABLE)


@pytest.mark.case(54)
@pytest.mark.parametrize(
    ("parameter", "named"),
    [("options=-c%20no_such_setting%3D1", "no_such_setting"), ("work_mem=lots", "work_mem")],
)
async def test_what_the_server_refuses_of_an_address_is_named(
    database_url: str, parameter: str, named: str
) -> None:
    async with opened(f"{database_url}&{parameter}") as pool:
        with pytest.raises(DatabaseRefused) as refused:
            await pool.fetch("SELECT 1")
    assert refused.value.reason == f"DATABASE_URL: the parameter {named} is refused"


@pytest.mark.case(54)
async def test_a_host_of_the_environment_that_cannot_be_looked_up_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "a..b")
    async with opened("postgresql:///samosachaat") as pool:
        with pytest.raises(DatabaseRefused):
            await pool.fetch("SELECT 1")


async def test_a_connection_goes_from_statement_to_statement(database_url: str) -> None:
    async with opened(database_url, size=1) as pool:
        async with pool.connection() as connection:
            first = await connection.fetchval("SELECT pg_backend_pid()")
            waiting = asyncio.create_task(pool.fetchrow("SELECT pg_backend_pid()"))
            await asyncio.sleep(0)  # it finds no connection, and waits for this one
        async with asyncio.timeout(5):
            assert (row := await waiting) is not None
        assert row[0] == first
        assert (row := await pool.fetchrow("SELECT pg_backend_pid()")) is not None
        assert row[0] == first


async def test_a_connection_that_comes_back_soon_is_used_before_another_is_opened(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_WAIT_SECONDS", 60)
    async with opened(database_url, size=5) as pool:
        async with pool.connection() as connection:
            first = await connection.fetchval("SELECT pg_backend_pid()")
            cancelled, *waiting = (
                asyncio.create_task(pool.fetch("SELECT pg_backend_pid()")) for _ in range(3)
            )
            await asyncio.sleep(0)
            cancelled.cancel()
        async with asyncio.timeout(5):
            assert [rows[0][0] for rows in await asyncio.gather(*waiting)] == [first, first]


async def test_a_connection_that_stays_in_use_does_not_hold_up_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_WAIT_SECONDS", 0.01)
    async with opened(database_url, size=2) as pool, pool.connection() as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")
        async with asyncio.timeout(5):
            assert (await pool.fetch("SELECT pg_backend_pid()"))[0][0] != first


async def test_connections_at_hand_go_back_to_the_pool(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_KEPT_SECONDS", 0.01)
    async with opened(database_url, size=2) as pool:
        for _ in range(2):  # the second time, too
            await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.01)") for _ in range(2)))
            await eventually(lambda: pool._pool.get_idle_size() == 2)


async def test_a_connection_that_is_lost_at_hand_is_replaced(
    pool: Database, database_url: str
) -> None:
    async with pool.connection() as connection:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
    await terminated(database_url, [backend])
    await eventually(lambda: pool.connections_lost == 1)
    # A write is not tried again.
    assert not await pool.fetch("UPDATE conversations SET title = '' WHERE false RETURNING 1")
