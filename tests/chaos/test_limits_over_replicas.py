"""Limits that protect money hold over all replicas together."""

import asyncio

import pytest
from tests.chaos.conftest import StartPair
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.waiting import eventually


@pytest.mark.parametrize("limit", ["MESSAGES_PER_MINUTE", "MAX_RUNNING_ANSWERS"])
@pytest.mark.case(44)
async def test_fifty_messages_at_once_over_two_replicas_never_exceed_a_limit(
    limit: str, start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(**{limit: "7"})
    conversations = [await pair.here.create() for _ in range(50)]
    gate = Gate()
    inference.default = Script().tokens("a").wait(gate).done()
    statuses: list[int] = []

    async def send(number: int) -> None:
        client = pair.clients[number % 2]
        async with client.send(conversations[number]["id"], "Hello", expect=None) as stream:
            statuses.append(stream.status)
            if stream.status == 200:
                await stream.rest(60)
                assert stream.done["status"] == "complete"

    sending = [asyncio.create_task(send(number)) for number in range(50)]
    await eventually(lambda: len(statuses) == 50, 40)
    gate.open()
    await asyncio.gather(*sending)
    assert sorted(statuses) == [200] * 7 + [429] * 43
    assert len(inference.calls) == 7
    assert await pair.db.value("SELECT count(*) FROM messages") == 14


@pytest.mark.case(44)
async def test_a_dead_replica_s_answers_go_on_counting(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(MAX_RUNNING_ANSWERS="1")
    first, second = await pair.here.create(), await pair.here.create()
    inference.default = Script().tokens("a").hang()
    async with pair.here.send(first["id"], "One") as stream:
        await stream.until("token")
        pair.services[0].kill()
    async with pair.there.send(second["id"], "Two", expect=429):
        pass
    await pair.there.post(f"/api/conversations/{first['id']}/stop")
    inference.default = Script().tokens("b").done()
    await pair.there.ask(second["id"], "Two")
