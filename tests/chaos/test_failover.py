"""PostgreSQL fails over to a standby: the service finds the new primary by itself."""

import asyncio
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.chaos.conftest import StartPair
from tests.support.client import Client
from tests.support.database import Database, migrate
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import counted, length, numbered
from tests.support.proxy import Proxy
from tests.support.shapes import check_problem
from tests.support.standby import NAME, Standby, address
from tests.support.waiting import eventually

from chat_api.local.postgres import EmbeddedPostgres


@dataclass
class Two:
    """A primary, and a standby without which nothing is acknowledged."""

    primary: EmbeddedPostgres
    standby: Standby

    def fail_over(self) -> None:
        """Kill the one, promote the other; returns when that takes writes."""
        self.primary.kill()
        self.standby.promote()


@pytest.fixture
async def two(tmp_path: Path, internal_api_key: str) -> AsyncIterator[Two]:
    primary = EmbeddedPostgres(
        tmp_path / "one", options={"synchronous_standby_names": NAME, "wal_keep_size": "64MB"}
    )
    standby = Standby(tmp_path / "two", primary)
    try:
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(primary.create_database, "chat")
        await asyncio.to_thread(migrate, primary.url("chat"), internal_api_key)
        yield Two(primary, standby)
    finally:
        await asyncio.to_thread(standby.stop)
        await asyncio.to_thread(primary.stop)


async def ready(client: Client) -> bool:
    return (await client.get("/api/ready")).status_code == 200


async def not_ready(client: Client) -> bool:
    return (await client.get("/api/ready")).status_code == 503


@pytest.mark.case(62)
@pytest.mark.parametrize("standby_first", [False, True])
async def test_with_both_hosts_in_the_address_the_new_primary_is_found(
    start_pair: StartPair, inference: Inference, two: Two, standby_first: bool
) -> None:
    """An answer that runs meanwhile goes on; what was acknowledged is there."""
    servers = (two.standby, two.primary) if standby_first else (two.primary, two.standby)
    pair = await start_pair(
        database_url=address("chat", *servers), DATABASE_TIMEOUT_SECONDS="3", LEASE_SECONDS="8"
    )
    gate = Gate()
    inference.once(counted(5).wait(gate).count(5).done())
    conversation = (await pair.here.create())["id"]
    async with pair.here.send(conversation, "Count") as stream:
        await stream.until(numbered(4))
        await asyncio.to_thread(two.primary.kill)
        for client in pair.clients:
            # Without a primary there is nothing to write to, though the standby can be read.
            await eventually(functools.partial(not_ready, client))
            check_problem(await client.post("/api/conversations", json={}), 503)
        await asyncio.to_thread(two.standby.promote)
        for client in pair.clients:
            await eventually(functools.partial(ready, client), 5)
        gate.open()
        await stream.rest(30)
        assert (length(stream.text), stream.done["status"]) == (10, "complete")
    messages = await pair.there.messages(conversation)
    assert [message["content"] for message in messages] == ["Count", stream.text]
    assert (await pair.there.ask(conversation, "Next"))["status"] == "complete"
    now = Database(two.standby.url("chat"))
    assert await now.value("SELECT max(attempt) FROM generations") == 1


@pytest.mark.case(62)
async def test_behind_one_address_that_moves_the_connections_to_the_old_primary_go(
    start_pair: StartPair, inference: Inference, two: Two
) -> None:
    """A switchover: the old primary lives on, read-only, with our connections."""
    with Proxy(two.primary._sockets / ".s.PGSQL.5432") as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/chat?sslmode=disable"
        pair = await start_pair(database_url=url, DATABASE_TIMEOUT_SECONDS="3")
        conversation = (await pair.here.create())["id"]
        assert (await pair.there.ask(conversation, "Before"))["status"] == "complete"
        old = Database(two.primary.url("postgres"))
        await old.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await old.execute("SELECT pg_reload_conf()")
        for client in pair.clients:

            async def refused(client: Client = client) -> bool:
                return (await client.post("/api/conversations", json={})).status_code == 503

            await eventually(refused)
        await asyncio.to_thread(two.standby.promote)
        proxy.lead_to(two.standby._sockets / ".s.PGSQL.5432")
        for client in pair.clients:
            await eventually(functools.partial(ready, client), 5)
            assert (await client.ask(conversation, "After"))["status"] == "complete"
        assert len(await pair.here.messages(conversation)) == 6


@pytest.mark.case(90)
async def test_a_repeat_is_not_acknowledged_before_a_standby_has_the_first_try(
    start_pair: StartPair, tmp_path: Path, internal_api_key: str
) -> None:
    """The first try is in the primary's own tables, and would be gone with the primary."""
    primary = EmbeddedPostgres(tmp_path / "alone")
    try:
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(primary.create_database, "chat")
        await asyncio.to_thread(migrate, primary.url("chat"), internal_api_key)
        pair = await start_pair(database_url=primary.url("chat"), DATABASE_TIMEOUT_SECONDS="1")
        sends: dict[str, dict[str, object]] = {
            f"/api/conversations/{(await pair.here.create())['id']}/messages": {"content": "Hello"},
            "/v1/responses": {"model": "default", "input": "Hello", "background": True},
        }

        async def send(client: Client, path: str) -> int:
            key = {"accept": "application/json", "idempotency-key": "key-" + path[:4]}
            return (await client.post(path, json=sends[path], headers=key)).status_code

        await _follow(primary, "ALTER SYSTEM SET synchronous_standby_names = 'nowhere'")
        for path in sends:
            assert await send(pair.here, path) == 503
            assert await send(pair.there, path) == 503
        assert await pair.db.value("SELECT count(*) FROM idempotency_keys") == len(sends)
        await _follow(primary, "ALTER SYSTEM RESET synchronous_standby_names")
        for path in sends:

            async def accepted(path: str = path) -> bool:
                return await send(pair.there, path) == 200

            await eventually(accepted, 20)
        assert await pair.db.value("SELECT count(*) FROM generations") == len(sends)
    finally:
        await asyncio.to_thread(primary.stop)


async def _follow(server: EmbeddedPostgres, change: str) -> None:
    """Make a change of the server's configuration, and wait until sessions have it."""
    database = Database(server.url("postgres"))
    read = "SELECT pg_conf_load_time()"
    before = await database.value(read)
    await database.execute(change)
    await database.execute("SELECT pg_reload_conf()")

    async def is_read() -> bool:
        return bool(await database.value(read) != before)

    await eventually(is_read)
