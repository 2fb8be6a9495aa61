"""Two replicas behind PgBouncer, which gives sessions or transactions away."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from tests.chaos.conftest import StartPair
from tests.support import predecessor
from tests.support.database import Database, Databases, migrate
from tests.support.inference import Inference
from tests.support.known import counted, length
from tests.support.pgbouncer import PROGRAM, PgBouncer
from tests.support.waiting import eventually

from chat_api.local.postgres import EmbeddedPostgres

# What the address says about the pooler.
MODES = {"session": "", "transaction": "&pgbouncer=true"}


@pytest.fixture(params=MODES)
def pooled(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[tuple[PgBouncer, str]]:
    """PgBouncer in each mode, and what is to be added to the address.

    PgBouncer is no Python package: where it is missing, only CI insists on it.
    """
    if PROGRAM is None and "CI" not in os.environ:
        pytest.skip("not run: PgBouncer is missing (apt-get install pgbouncer)")
    with PgBouncer(postgres, request.param) as pooler:
        yield pooler, MODES[request.param]


@pytest.mark.case(62)
async def test_behind_a_pooler_everything_works(
    start_pair: StartPair,
    databases: Databases,
    inference: Inference,
    internal_api_key: str,
    pooled: tuple[PgBouncer, str],
) -> None:
    pooler, parameter = pooled
    empty = databases.empty()
    url = pooler.url(empty) + parameter
    await asyncio.to_thread(migrate, url, internal_api_key)
    inference.default = counted(20, pause=0.01).done()
    pair = await start_pair(database_url=url, LEASE_SECONDS="8")
    conversations = [(await pair.here.create())["id"] for _ in range(24)]

    async def talk(number: int) -> None:
        client, other = pair.clients[number % 2], pair.clients[1 - number % 2]
        async with client.send(conversations[number], "Count") as stream:
            await stream.rest(30)
        assert (length(stream.text), stream.done["status"]) == (20, "complete")
        assert [m["role"] for m in await other.messages(conversations[number])] == [
            "user",
            "assistant",
        ]

    await asyncio.gather(*(talk(number) for number in range(24)))
    # No generation was taken over, and nothing was written twice.
    direct = Database(empty)
    assert await direct.fetch("SELECT DISTINCT attempt, crashes, status FROM generations") == [
        {"attempt": 1, "crashes": 0, "status": "complete"}
    ]


@pytest.mark.case(62)
async def test_a_frozen_process_behind_a_pooler_holds_no_lock(
    start_pair: StartPair,
    databases: Databases,
    inference: Inference,
    pooled: tuple[PgBouncer, str],
) -> None:
    """Frozen inside a transaction, while it holds its conversation's row."""
    pooler, parameter = pooled
    direct = Database(databases.migrated())
    pair = await start_pair(database_url=pooler.url(direct.url) + parameter)
    conversation = (await pair.here.create())["id"]
    await pair.here.ask(conversation, "First")
    # The next send waits in the middle of its transaction, where the process is frozen.
    operator = await direct.connect()
    held = operator.transaction()
    await held.start()
    await operator.execute("SELECT * FROM message_quotas FOR UPDATE")
    sending = asyncio.create_task(pair.here.ask_raw(conversation, {"content": "Hello"}))
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    await eventually(lambda: operator.fetchval(waits))
    pair.services[0].pause()
    await held.rollback()
    await operator.close()

    async def free() -> bool:
        response = await pair.there.ask_raw(conversation, {"content": "Is it free?"})
        assert response.status_code == 200, response.text
        return True

    await eventually(free, 20)
    sending.cancel()
    pair.services[0].resume()


@pytest.mark.case(62)
async def test_a_database_is_taken_over_behind_a_pooler_among_other_traffic(
    databases: Databases, postgres: EmbeddedPostgres, internal_api_key: str
) -> None:
    direct = Database(databases.empty())
    await direct.execute(predecessor.SCHEMAS["004"])
    await direct.execute(predecessor.ROWS)
    over = asyncio.Event()
    with PgBouncer(postgres, "transaction") as pooler:

        async def others() -> None:
            connection = await Database(pooler.url(direct.url)).connect()
            while not over.is_set():
                await connection.execute("SELECT count(*) FROM messages")
                await asyncio.sleep(0)  # each time another session
            await connection.close()

        traffic = [asyncio.create_task(others()) for _ in range(6)]
        for _ in range(2):
            await asyncio.to_thread(
                migrate, pooler.url(direct.url) + MODES["transaction"], internal_api_key
            )
        over.set()
        await asyncio.gather(*traffic)
    assert await direct.value("SELECT count(position) FROM messages") == 12
