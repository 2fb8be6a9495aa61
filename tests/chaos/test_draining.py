"""An orderly exit: short answers end, long ones are handed over, no client loses its answer."""

import asyncio
import time
import uuid
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Database, Databases
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import Follower, asked_for, counted, follow, length, plan, planned
from tests.support.service import Service
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

DRAIN = 6


async def not_ready(client: Client) -> bool:
    """Whether readiness fails because of the drain."""
    response = await client.get("/api/ready")
    return response.status_code == 503 and response.json()["checks"]["draining"] == "draining"


@pytest.mark.case(29)
async def test_case_29_a_drain_with_fifty_open_streams(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 29: readiness fails first, sends get 503, what is left is handed over, exit code 0."""
    pair = await start_pair(DRAIN_SECONDS=str(DRAIN))
    short, never = Gate(), Gate()
    inference.on("Short", counted(3).wait(short).count(3).done())
    inference.on("Long", counted(3).wait(never, 100).done())
    conversations = [await pair.here.create() for _ in range(50)]
    idle = await pair.here.create()
    readers = [Follower() for _ in conversations]

    async def send(number: int) -> None:
        kind = "Long" if number % 2 else "Short"
        async with pair.here.send(conversations[number]["id"], kind) as stream:
            await readers[number].read(stream)

    sending = [asyncio.create_task(send(number)) for number in range(50)]
    await eventually(lambda: all(length(reader.text) == 3 for reader in readers))
    # Clients that start again from now on succeed.
    inference.on("Long", counted(8).done())
    pair.services[0].terminate()
    began = time.monotonic()
    await eventually(lambda: not_ready(pair.here), 5)
    # Readiness has failed, and not one stream has ended.
    assert not any(task.done() for task in sending)
    for _ in range(3):
        refused = await pair.here.ask_raw(idle["id"], {"content": "Hello"})
        check_problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
    async with pair.here.join(conversations[1]["id"], expect=503) as stream:
        assert "retry-after" in stream.headers
    assert (await pair.here.get("/api/health")).status_code == 200
    assert (await pair.there.ask(idle["id"], "Hello"))["status"] == "complete"
    short.open()
    await asyncio.gather(*sending[::2])
    for reader in readers[::2]:
        assert reader.done is not None
        assert (length(reader.text), reader.done["status"]) == (6, "complete")
    assert await asyncio.to_thread(pair.services[0].wait) == 0
    assert time.monotonic() - began < DRAIN + 5
    await asyncio.gather(*sending)
    for reader in readers[1::2]:
        assert reader.done is None  # the stream closed: come back
    await asyncio.gather(
        *(
            follow(readers[number], conversations[number]["id"], [pair.there])
            for number in range(1, 50, 2)
        )
    )
    for reader in readers[1::2]:
        assert reader.done is not None
        assert (length(reader.text), reader.done["status"]) == (8, "complete")
        assert reader.kinds.count("reset") == 1
    # Being handed over is no crash.
    rows = await pair.db.fetch("SELECT attempt, crashes FROM generations WHERE attempt > 1")
    assert [(row["attempt"], row["crashes"]) for row in rows] == [(2, 0)] * 25


async def test_a_drain_with_nothing_to_do_is_quick(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(DRAIN_SECONDS="30")
    conversation = await pair.here.create()
    await pair.here.ask(conversation["id"], "Hello")
    began = time.monotonic()
    assert await asyncio.to_thread(pair.services[0].stop) == 0
    assert time.monotonic() - began < 10


async def test_readers_of_answers_written_elsewhere_are_sent_elsewhere_at_once(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(DRAIN_SECONDS="30")
    gate = Gate()
    inference.once(counted(3).wait(gate).count(3).done())
    conversation = await pair.there.create()
    reader = Follower()
    async with (
        pair.there.send(conversation["id"], "Count") as sender,
        pair.here.join(conversation["id"]) as joined,
    ):
        assert await reader.read(joined, most=4) == "most"
        pair.services[0].terminate()
        assert await reader.read(joined) == "end"
        gate.open()
        await sender.rest()
        assert sender.done["status"] == "complete"
    assert await asyncio.to_thread(pair.services[0].wait) == 0
    await follow(reader, conversation["id"], [pair.there])
    assert reader.text == sender.text
    assert "reset" not in reader.kinds


@pytest.mark.case(29)
@pytest.mark.parametrize("local", [True, False])
async def test_case_29_a_drain_with_two_workers(
    databases: Databases,
    usual_env: dict[str, str],
    auth: AuthServer,
    inference: Inference,
    clients: MakeClient,
    tmp_path: Path,
    local: bool,
) -> None:
    """Case 29 with `--workers 2`: short ones end, long ones go on after the restart, code 0."""
    env = {
        **usual_env,
        "DATABASE_URL": databases.migrated(),
        "LEASE_SECONDS": "2",
        "DRAIN_SECONDS": "5",
    }
    service = Service(env, folder=tmp_path, workers=2)
    service.start()
    try:
        assert sum(1 for process in service.processes() if serves(process)) >= 2
        short, never = Gate(), Gate()
        inference.on("Short", counted(3).wait(short).count(3).done())
        inference.on("Long", counted(3).wait(never, 100).done())
        account = auth.user("alice")
        readers: list[Follower] = []
        sending: list[asyncio.Task[None]] = []
        conversations: list[str] = []
        for number in range(12):
            client = clients(service, account)  # a connection of its own: either worker
            conversations.append((await client.create())["id"])
            readers.append(Follower())
            sent = send(client, conversations[-1], "Long" if number % 2 else "Short", readers[-1])
            sending.append(asyncio.create_task(sent))
        await eventually(lambda: all(length(reader.text) == 3 for reader in readers))
        inference.on("Long", counted(8).done())
        service.terminate()
        began = time.monotonic()
        if local:
            short.open()
            await asyncio.gather(*sending[::2])
        assert await asyncio.to_thread(service.wait) == 0
        assert time.monotonic() - began < 5 + 6
        await asyncio.gather(*sending)
        short.open()
        if local:
            for reader in readers[::2]:
                assert reader.done is not None
                assert (length(reader.text), reader.done["status"]) == (6, "complete")
        service.start()
        client = clients(service, account)
        for number, reader in enumerate(readers):
            if reader.done is None:
                await follow(reader, conversations[number], [client])
                assert reader.kinds.count("reset") == 1
            assert length(reader.text) == (8 if number % 2 else 6)
        crashes = await Database(env["DATABASE_URL"]).value("SELECT sum(crashes) FROM generations")
        assert crashes == 0
        assert await asyncio.to_thread(service.stop) == 0
    finally:
        service.close()


async def send(client: Client, conversation_id: str, content: str, reader: Follower) -> None:
    """Send a message, and let `reader` read the response."""
    async with client.send(conversation_id, content) as stream:
        await reader.read(stream)


def serves(process: psutil.Process) -> bool:
    """Whether this may be a worker (not the supervisor's helper)."""
    return "resource_tracker" not in " ".join(process.cmdline())


@pytest.mark.case(29)
@pytest.mark.slow
async def test_a_rolling_restart_under_load_loses_nothing(
    start_pair: StartPair, inference: Inference
) -> None:
    """Every answer arrives whole: short ones untouched, longer ones with a reset for each move."""
    inference.default = planned()
    pair = await start_pair(DRAIN_SECONDS="6")
    over = Gate()
    talks: list[tuple[str, str, Follower]] = []

    async def talk(number: int) -> None:
        turn = number
        conversation: str | None = None
        while not over.is_open:
            turn += 1
            client = pair.clients[turn % 2]
            slow = number % 8 == 0
            question = plan(12, pause=0.5) if slow else plan(20, pause=0.03)
            key = {"idempotency-key": uuid.uuid4().hex}
            reader = Follower()
            try:
                if conversation is None:
                    response = await client.post("/api/conversations", json={})
                    if response.status_code != 201:
                        assert response.status_code == 503, response.text
                        continue
                    conversation = response.json()["id"]
                assert conversation is not None
                async with client.send(conversation, question, headers=key, expect=None) as stream:
                    if stream.status != 200:
                        assert stream.status == 503, await stream.problem()
                        continue
                    talks.append((conversation, question, reader))
                    await reader.read(stream)
            except httpx2.TransportError:
                # Refused: it is being restarted.
                await asyncio.sleep(0.05)
                continue
            await follow(reader, conversation, pair.clients)

    talking = [asyncio.create_task(talk(number)) for number in range(24)]
    await eventually(lambda: len(talks) >= 24)
    for service in pair.services:
        assert await asyncio.to_thread(service.stop) == 0
        await asyncio.to_thread(service.start)
    over.open()
    await asyncio.gather(*talking)
    await verify(pair, talks)


async def verify(pair: Pair, talks: list[tuple[str, str, Follower]]) -> None:
    """Every acknowledged question is there once, its answer whole and as its reader saw it."""
    rows = await pair.db.fetch(
        "SELECT q.content AS question, m.content, m.status, m.id FROM generations g "
        "JOIN messages m ON m.id = g.message_id JOIN messages q ON q.id = g.question_id"
    )
    answers = {row["question"]: row for row in rows}
    assert len(rows) == len(answers)
    for _, question, reader in talks:
        assert reader.done is not None
        row = answers[question]
        count, _ = asked_for(question)
        assert (row["content"], row["status"]) == (reader.text, "complete")
        assert length(reader.text) == count
        resets = reader.kinds.count("reset")
        # The short ones end within the drain.
        assert resets <= (2 if count == 12 else 0), (question, reader.kinds)
    assert await pair.db.value("SELECT sum(crashes) FROM generations") == 0


async def test_a_json_request_whose_answer_moves_is_told_where_to_find_it(
    start_pair: StartPair, inference: Inference
) -> None:
    """503 with the message's id; the same key at the other replica waits for its end."""
    pair = await start_pair(DRAIN_SECONDS="3")
    inference.once(counted(3).hang(), counted(5).done())
    conversation = await pair.here.create()
    key = {"idempotency-key": uuid.uuid4().hex}
    asking = asyncio.create_task(pair.here.ask_raw(conversation["id"], {"content": "Hi"}, **key))
    await inference.call(0)
    pair.services[0].terminate()
    moved = await asking
    problem = check_problem(moved, 503, "message_id")
    assert int(moved.headers["retry-after"]) >= 1
    again = await pair.there.ask_raw(conversation["id"], {"content": "Hi"}, **key)
    assert again.status_code == 200
    assert again.json()["id"] == problem["message_id"]
    assert length(again.json()["content"]) == 5
    assert await asyncio.to_thread(pair.services[0].wait) == 0
