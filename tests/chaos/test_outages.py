"""PostgreSQL away, killed, read-only or full: 503 meanwhile, and nothing lost after."""

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Databases
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import Follower, counted, follow, length, numbered
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

from chat_api.local.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def durable(
    tmp_path_factory: pytest.TempPathFactory, internal_api_key: str
) -> Iterator[tuple[EmbeddedPostgres, Databases]]:
    """A server with PostgreSQL's own defaults, which tests may kill."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("durable")) as server:
        yield server, Databases(server, internal_api_key)


@pytest.fixture
async def server(
    durable: tuple[EmbeddedPostgres, Databases],
) -> AsyncIterator[EmbeddedPostgres]:
    """The server, running again after the test."""
    yield durable[0]
    if durable[0].poll() is not None or durable[0]._process is None:
        await asyncio.to_thread(durable[0].stop)
        await asyncio.to_thread(durable[0].start)


def retry_later(response: httpx2.Response) -> None:
    """503 with Retry-After."""
    check_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


async def answering(client: Client) -> bool:
    """Whether the replica can be sent to."""
    return (await client.get("/api/ready")).status_code == 200


class Load:
    """Clients that send with a key until they are accepted, and follow to the end."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.accepted: list[tuple[str, str]] = []
        self.refused = 0
        self.readers: list[Follower] = []
        self.over = Gate("the end of the load")

    async def talk(self, number: int) -> None:
        """One conversation, until the load is over."""
        client = self.pair.clients[number % 2]
        conversation: str | None = None
        while not self.over.is_open:
            if conversation is None:
                response = await client.post("/api/conversations", json={})
                if response.status_code == 503:
                    self.refused += 1
                    await asyncio.sleep(0.1)
                    continue
                assert response.status_code == 201, response.text
                conversation = response.json()["id"]
            assert conversation is not None
            question, key = uuid.uuid4().hex, {"idempotency-key": uuid.uuid4().hex}
            reader = Follower()
            while True:
                async with client.send(conversation, question, headers=key, expect=None) as stream:
                    if stream.status == 200:
                        await reader.read(stream)
                        break
                    assert stream.status == 503, await stream.problem()
                    assert "retry-after" in stream.headers
                    self.refused += 1
                await asyncio.sleep(0.1)
            self.accepted.append((conversation, question))
            self.readers.append(reader)
            await follow(reader, conversation, self.pair.clients)

    async def verify(self) -> None:
        """Everything acknowledged is there, every answer whole, none written twice."""
        assert self.accepted
        questions = {
            (str(row["conversation_id"]), row["content"])
            for row in await self.pair.db.fetch(
                "SELECT conversation_id, content FROM messages WHERE role = 'user'"
            )
        }
        assert set(self.accepted) == questions
        answers = {
            str(row["id"]): row
            for row in await self.pair.db.fetch(
                "SELECT m.id, m.content, m.status, g.attempt, g.crashes FROM messages m "
                "JOIN generations g ON g.message_id = m.id"
            )
        }
        assert len(answers) == len(self.readers)
        for reader in self.readers:
            assert reader.message_id is not None
            assert reader.done is not None
            row = answers[reader.message_id]
            assert (row["content"], row["status"]) == (reader.text, "complete")
            assert reader.done["status"] == "complete"
            assert length(reader.text) == 120
            # An outage is no crash.
            assert (row["attempt"], row["crashes"]) == (1, 0)
            assert "reset" not in reader.kinds


@pytest.mark.case(27)
@pytest.mark.parametrize("how", ["restarted", "killed"])
@pytest.mark.slow
async def test_case_27_postgresql_goes_away_under_load_and_comes_back(
    start_pair: StartPair,
    durable: tuple[EmbeddedPostgres, Databases],
    server: EmbeddedPostgres,
    inference: Inference,
    how: str,
) -> None:
    """Case 27: 503 meanwhile, no process restart after, no acknowledged message lost.

    It stays away for longer than two leases: no replica takes anything over by mistake.
    """
    inference.default = counted(120, pause=0.02).done()
    pair = await start_pair(database_url=durable[1].migrated(), DATABASE_TIMEOUT_SECONDS="3")
    waiting = await pair.here.create()
    load = Load(pair)
    talking = [asyncio.create_task(load.talk(number)) for number in range(16)]
    await eventually(lambda: sum(len(call.sent) > 20 for call in inference.calls) >= 16)
    await asyncio.to_thread(server.kill if how == "killed" else server.stop)
    away = time.monotonic()
    for client in pair.clients:
        assert (await client.get("/api/health")).status_code == 200
        check_problem(await client.get("/api/ready"), 503, "checks")
    while time.monotonic() - away < 4.5:
        for client in pair.clients:
            retry_later(await client.get(f"/api/conversations/{waiting['id']}"))
            retry_later(await client.ask_raw(waiting["id"], {"content": "Are you there?"}))
            retry_later(await client.post(f"/api/conversations/{waiting['id']}/stop"))
            async with client.join(waiting["id"], expect=503):
                pass
        await asyncio.sleep(0.2)
    await asyncio.to_thread(server.start)
    for client in pair.clients:
        await eventually(functools.partial(answering, client))
    finished = len(load.readers)
    await eventually(lambda: len(load.readers) >= finished + 16, 30)
    load.over.open()
    await asyncio.gather(*talking)
    for service in pair.services:
        assert service.running
    await load.verify()
    assert (await pair.here.ask(waiting["id"], "And now?"))["status"] == "complete"


@pytest.mark.case(27)
async def test_case_27_an_answer_that_ends_during_an_outage_is_saved_after_it(
    start_pair: StartPair,
    durable: tuple[EmbeddedPostgres, Databases],
    server: EmbeddedPostgres,
    inference: Inference,
) -> None:
    """Case 27: readers get heartbeats meanwhile; `done` only when it is saved."""
    pair = await start_pair(
        database_url=durable[1].migrated(),
        DATABASE_TIMEOUT_SECONDS="2",
        HEARTBEAT_SECONDS="0.3",
    )
    gate = Gate()
    inference.once(counted(5).wait(gate).count(5).done())
    conversation = await pair.here.create()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await sender.until("token")
        await other.until("token")
        await asyncio.to_thread(server.kill)
        gate.open()
        await (await inference.call()).ended.wait()
        beats = [len(stream.reader.comments) for stream in (sender, other)]
        await eventually(
            lambda: all(
                len(stream.reader.comments) >= before + 3
                for stream, before in zip((sender, other), beats, strict=True)
            )
        )
        assert b'"done"' not in sender.raw
        await asyncio.to_thread(server.start)
        for stream in (sender, other):
            await stream.rest(30)
            assert stream.done["status"] == "complete"
            assert length(stream.text) == 10
        assert other.events == sender.events
    assert (await pair.there.messages(conversation["id"]))[-1]["content"] == sender.text


@pytest.mark.case(27)
async def test_case_27_a_stop_during_an_outage_is_told_to_try_again_and_then_stops(
    start_pair: StartPair,
    durable: tuple[EmbeddedPostgres, Databases],
    server: EmbeddedPostgres,
    inference: Inference,
) -> None:
    """Case 27: the upstream request is closed even so."""
    pair = await start_pair(database_url=durable[1].migrated(), DATABASE_TIMEOUT_SECONDS="2")
    inference.once(counted(5).hang())
    conversation = await pair.here.create()
    path = f"/api/conversations/{conversation['id']}/stop"
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until(numbered(4))
        await asyncio.to_thread(server.stop)
        for client in pair.clients:
            retry_later(await client.post(path))
        await asyncio.to_thread(server.start)

        async def stopped() -> bool:
            return (await pair.there.post(path)).status_code == 200

        await eventually(stopped)
        await (await inference.call()).gone.wait(5)
        await sender.rest()
        assert (length(sender.text), sender.done["status"]) == (5, "stopped")


@pytest.mark.case(28)
async def test_case_28_a_read_only_database_fails_readiness_not_liveness(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 28: 503, readiness fails, liveness passes; all is well when it is over."""
    pair = await start_pair(DATABASE_TIMEOUT_SECONDS="3")
    conversation = await pair.here.create()
    gate = Gate()
    inference.once(counted(5).wait(gate).count(5).done())
    name = await pair.db.value("SELECT current_database()")
    cut = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'samosachaat-chat-api' AND datname = current_database()"
    )
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until("token")
        await pair.db.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await pair.db.fetch(cut)
        other = (await pair.here.conversation(conversation["id"]))["id"]
        assert other == conversation["id"]
        for client in pair.clients:
            assert (await client.get("/api/health")).status_code == 200
            await eventually(functools.partial(refuses_readiness, client))
            retry_later(await client.post("/api/conversations", json={}))
        gate.open()
        connection = await pair.db.connect()
        try:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
            await connection.fetch(cut)
        finally:
            await connection.close()
        await sender.rest(30)
        assert (length(sender.text), sender.done["status"]) == (10, "complete")
    for client in pair.clients:
        await eventually(functools.partial(answering, client))
    assert (await pair.there.ask(conversation["id"], "Next"))["status"] == "complete"


async def refuses_readiness(client: Client) -> bool:
    """Whether the replica says that it is not ready."""
    return (await client.get("/api/ready")).status_code == 503


@pytest.mark.case(28)
async def test_case_28_a_full_disk_is_503_and_running_answers_wait_for_its_end(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 28: PostgreSQL's "disk full", raised by triggers."""
    pair = await start_pair(DATABASE_TIMEOUT_SECONDS="3")
    conversation, another = await pair.here.create(), await pair.here.create()
    gate = Gate()
    inference.once(counted(5).wait(gate).count(5).done())
    await pair.db.execute(
        """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$
        """
    )
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until("token")
        for table in ("messages", "event_log"):
            await pair.db.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} "
                "EXECUTE FUNCTION full_disk()"
            )
        for client in pair.clients:
            retry_later(await client.ask_raw(another["id"], {"content": "Hello"}))
            assert (await client.get("/api/health")).status_code == 200
        gate.open()
        await (await inference.call()).ended.wait()
        for table in ("messages", "event_log"):
            await pair.db.execute(f"DROP TRIGGER full_disk ON {table}")
        await sender.rest()
        assert (length(sender.text), sender.done["status"]) == (10, "complete")
    async with pair.there.join(conversation["id"], sender.events[0].id) as late:
        assert await late.rest() == sender.events[1:]
    assert (await pair.there.messages(another["id"])) == []
    assert (await pair.there.ask(another["id"], "Hello"))["status"] == "complete"


@pytest.mark.case(42)
async def test_a_row_that_an_operator_holds_is_503_for_its_own_conversation_only(
    start_pair: StartPair, inference: Inference
) -> None:
    """`BEGIN; UPDATE …` in a forgotten psql: others go on, and leases are renewed beside it."""
    pair = await start_pair(DATABASE_TIMEOUT_SECONDS="1")
    gate = Gate()
    inference.on("Long", counted(2).wait(gate).count(2).done())
    held, free, running = [(await pair.here.create())["id"] for _ in range(3)]
    async with pair.here.send(running, "Long") as stream:
        await stream.until(numbered(1))
        connection = await pair.db.connect()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "SELECT * FROM conversations WHERE id = ANY($1::uuid[]) FOR UPDATE", [held, running]
        )
        for client in pair.clients:
            # More than a pool has connections.
            many = [client.ask_raw(held, {"content": "Hello"}) for _ in range(8)]
            for response in await asyncio.gather(*many):
                retry_later(response)
            assert (await client.ask(free, "Hello"))["status"] == "complete"
        await transaction.rollback()
        await connection.close()
        gate.open()
        await stream.rest()
        assert (length(stream.text), stream.done["status"]) == (4, "complete")
    assert await pair.db.value("SELECT max(attempt) FROM generations") == 1
    assert [message["role"] for message in await pair.here.messages(held)] == []
    assert (await pair.here.ask(held, "Hello"))["status"] == "complete"


@pytest.mark.case(52)
async def test_thirty_requests_on_a_locked_conversation_fail_soon_and_hold_up_no_other(
    start_pair: StartPair, auth: AuthServer, clients: MakeClient
) -> None:
    pair = await start_pair(LEASE_SECONDS="8")
    locked, free = [(await pair.here.create())["id"] for _ in range(2)]
    other = clients(pair.services[0], auth.user("bob"))
    theirs = (await other.create())["id"]
    connection = await pair.db.connect()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", locked)
    sends = [pair.here.ask_raw(locked, {"content": "Hello"}) for _ in range(20)]
    renames = [
        pair.here.http.patch(f"/api/conversations/{locked}", json={"title": "New"})
        for _ in range(10)
    ]
    refused = [asyncio.ensure_future(one) for one in (*sends, *renames)]
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    )
    await eventually(lambda: connection.fetchval(waiting))
    for client, conversation in ((other, theirs), (pair.here, free)):
        assert (await client.ask(conversation, "Hello"))["status"] == "complete"
    assert (await pair.here.conversation(locked))["id"] == locked
    for response in await asyncio.gather(*refused):
        retry_later(response)
        assert response.json()["type"].endswith(":database_busy")
    await transaction.rollback()
    await connection.close()
    assert (await pair.here.ask(locked, "Hello"))["status"] == "complete"


@pytest.mark.case(42)
async def test_a_log_table_that_is_locked_holds_up_no_local_reader(
    start_pair: StartPair, inference: Inference
) -> None:
    """VACUUM FULL, say. Events wait in memory and are written after; there is no takeover."""
    pair = await start_pair(DATABASE_TIMEOUT_SECONDS="2", LEASE_SECONDS="4")
    inference.once(counted(100, pause=0.03).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.until(numbered(5))
        connection = await pair.db.connect()
        async with connection.transaction():
            await connection.execute("LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE")
            await stream.until(numbered(90))
        await connection.close()
        await stream.rest(40)
        assert (length(stream.text), stream.done["status"]) == (100, "complete")
    late = Follower(cursor=stream.events[0].id)
    await follow(late, conversation["id"], [pair.there])
    assert late.text == stream.text
    assert await pair.db.value("SELECT attempt FROM generations") == 1
