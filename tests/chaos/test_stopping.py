"""A stop is a stop: from anywhere, at any moment, once or often."""

import asyncio

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, Stream
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.known import Follower, counted, follow, length, numbered
from tests.support.shapes import NOWHERE, check_message, check_problem
from tests.support.waiting import eventually

SIDES = ["here", "there"]


def at(pair: Pair, side: str) -> Client:
    return pair.here if side == "here" else pair.there


async def stop(client: Client, conversation_id: str, status: int = 200) -> dict[str, object]:
    response = await client.post(f"/api/conversations/{conversation_id}/stop")
    assert response.status_code == status, response.text
    message: dict[str, object] = response.json()
    return message


async def number(stream: Stream, last: int) -> None:
    """Read until the token with this number."""
    await stream.until(numbered(last))


@pytest.mark.parametrize("side", SIDES)
async def test_a_stop_saves_what_was_written_and_closes_the_upstream_request(
    pair: Pair, inference: Inference, side: str
) -> None:
    inference.once(counted(7).hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await number(stream, 6)
        call = await inference.call()
        message = await stop(at(pair, side), conversation["id"])
        await call.gone.wait(5)
        check_message(message)
        await stream.rest()
        assert stream.done["status"] == "stopped"
        assert stream.done["message_id"] == message["id"] == stream.start["message_id"]
        assert message["content"] == stream.text == call.text
        assert (message["status"], message["token_count"]) == ("stopped", 7)
        assert [event.kind for event in stream.events[-2:]] == ["token", "done"]
    assert (await pair.there.messages(conversation["id"]))[-1] == message


@pytest.mark.parametrize("side", SIDES)
async def test_a_stop_before_the_first_token_saves_an_empty_answer(
    pair: Pair, inference: Inference, side: str
) -> None:
    inference.once(Script().hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.until("start")
        call = await inference.call()
        message = await stop(at(pair, side), conversation["id"])
        await call.gone.wait(5)
        await stream.rest()
        assert [event.kind for event in stream.events] == ["start", "done"]
        assert stream.done["status"] == "stopped"
        assert (message["content"], message["status"]) == ("", "stopped")
    # The conversation is free, and the blank answer is not shown to the model.
    assert (await pair.there.ask(conversation["id"], "Next"))["status"] == "complete"
    assert (await inference.call()).contents == ["Count\n\nNext"]


@pytest.mark.parametrize("side", SIDES)
async def test_a_stop_while_upstream_has_not_even_taken_the_connection(
    pair: Pair, inference: Inference, side: str
) -> None:
    inference.once(Script().head().hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stop(at(pair, side), conversation["id"])
        await stream.rest()
        assert stream.done["status"] == "stopped"


@pytest.mark.case(12)
@pytest.mark.parametrize("side", SIDES)
async def test_case_12_a_stop_repeated_changes_nothing(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 12: stop twice, and stop after the end: one terminal event, equal to the database."""
    inference.once(counted(3).hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await number(stream, 2)
        answers = await asyncio.gather(
            *(stop(client, conversation["id"]) for client in pair.clients * 4)
        )
        assert all(answer == answers[0] for answer in answers)
        await stream.rest()
        assert [event.kind for event in stream.events].count("done") == 1
        assert stream.done["status"] == answers[0]["status"] == "stopped"
    assert await stop(at(pair, side), conversation["id"]) == answers[0]


@pytest.mark.case(12)
async def test_case_12_a_stop_after_the_end_returns_the_answer_as_it_ended(
    pair: Pair, inference: Inference
) -> None:
    """Case 12: stop after the end."""
    conversation = await pair.here.create()
    message = await pair.here.ask(conversation["id"], "Hello")
    for client in pair.clients:
        assert await stop(client, conversation["id"]) == message
    assert (await pair.here.messages(conversation["id"]))[-1] == message


@pytest.mark.case(12)
async def test_case_12_a_stop_racing_the_end(pair: Pair, inference: Inference) -> None:
    """Case 12: whichever wins, one terminal event, equal to the database and to the response."""
    statuses = set()
    for attempt in range(24):
        gate = Gate()
        inference.once(counted(3).wait(gate).count(2).done())
        conversation = await pair.here.create()
        async with pair.here.send(conversation["id"], "Count") as stream:
            await number(stream, 2)
            async with pair.there.join(conversation["id"]) as other:
                if attempt % 3 == 0:
                    gate.open()
                stopping = asyncio.create_task(
                    stop(pair.clients[attempt % 2], conversation["id"]), name="stop"
                )
                if attempt % 3 == 1:
                    gate.open()
                message = await stopping
                gate.open()
                await stream.rest()
                await other.rest()
            assert [event.kind for event in stream.events].count("done") == 1
            assert other.events == stream.events
            assert stream.done["status"] == message["status"]
            assert stream.text == message["content"]
            assert length(stream.text) == message["token_count"] == stream.done["token_count"]
        assert (await pair.there.messages(conversation["id"]))[-1] == message
        statuses.add(message["status"])
    assert statuses <= {"stopped", "complete"}


@pytest.mark.parametrize("side", SIDES)
async def test_a_stopped_regeneration_leaves_the_old_answer_and_says_so(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation = await pair.here.create()
    old = await pair.here.ask(conversation["id"], "Count")
    inference.once(counted(3).hang())
    async with pair.here.regenerate(conversation["id"]) as stream:
        await number(stream, 2)
        message = await stop(at(pair, side), conversation["id"])
        assert message == old
        await (await inference.call()).gone.wait(5)
        await stream.rest()
        assert stream.done["status"] == "stopped"
        assert stream.done["message_id"] == stream.start["message_id"] != old["id"]
        assert stream.done["kept_message_id"] == old["id"]
    assert (await pair.there.messages(conversation["id"]))[1:] == [old]
    assert await stop(at(pair, side), conversation["id"]) == old
    # Its end can still be told to a client that was cut off.
    async with at(pair, side).join(conversation["id"], stream.events[1].id) as rest:
        assert await rest.rest() == stream.events[2:]


async def test_a_frozen_owner_is_fenced_and_writes_nothing_when_it_wakes(
    start_pair: StartPair, inference: Inference
) -> None:
    """Rules 4 and 5: a stop does not depend on the owner; the woken owner is silent."""
    pair = await start_pair(LEASE_SECONDS="30")
    gate = Gate()
    inference.once(counted(5).wait(gate).count(50).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await number(stream, 4)
        async with pair.there.join(conversation["id"]) as other:
            await number(other, 4)
            pair.services[0].pause()
            try:
                message = await stop(pair.there, conversation["id"])
                assert message["status"] == "stopped"
                assert length(str(message["content"])) == 5
                await other.until("done")
                assert other.text == message["content"]
                gate.open()
            finally:
                pair.services[0].resume()
        # The woken owner closes its reader without `done`.
        await stream.rest()
        assert all(event.kind != "done" for event in stream.events)
        for event in stream.events:
            reader.take(event)
    await follow(reader, conversation["id"], pair.clients)
    assert reader.done is not None
    assert (reader.text, reader.done["status"]) == (message["content"], "stopped")
    call = await inference.call()
    await call.ended.wait()
    assert (await pair.there.messages(conversation["id"]))[-1] == message
    assert await pair.db.value("SELECT count(*) FROM generations WHERE ended_at IS NULL") == 0
    # Both replicas go on.
    for client in pair.clients:
        assert (await client.ask(conversation["id"], "Next"))["status"] == "complete"


@pytest.mark.parametrize("side", SIDES)
async def test_a_stop_where_nothing_ever_ran_is_404(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation = await pair.here.create()
    for conversation_id in (conversation["id"], NOWHERE, "nonsense"):
        response = await at(pair, side).post(f"/api/conversations/{conversation_id}/stop")
        check_problem(response, 404)


@pytest.mark.case(13)
@pytest.mark.parametrize("side", SIDES)
async def test_case_13_deleting_a_conversation_ends_its_answer_and_leaves_nothing(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 13: 204, the upstream request is closed, nothing is left behind."""
    inference.once(counted(5).hang())
    conversation = await pair.here.create()
    async with pair.here.send(
        conversation["id"], "Count", headers={"idempotency-key": f"delete-{side}"}
    ) as stream:
        await number(stream, 4)
        async with pair.there.join(conversation["id"]) as other:
            path = f"/api/conversations/{conversation['id']}"
            assert (await at(pair, side).delete(path)).status_code == 204
            await (await inference.call()).gone.wait(5)
            await stream.rest()
            await other.rest()
            for ended in (stream, other):
                assert all(event.kind != "done" for event in ended.events)
    message_id = stream.start["message_id"]

    async def nothing_left() -> bool:
        for table, column, value in (
            ("conversations", "id", conversation["id"]),
            ("messages", "conversation_id", conversation["id"]),
            ("generations", "conversation_id", conversation["id"]),
            ("idempotency_keys", "conversation_id", conversation["id"]),
            ("event_log", "message_id", message_id),
            ("subscriptions", "message_id", message_id),
        ):
            statement = f"SELECT count(*) FROM {table} WHERE {column} = $1"  # noqa: S608
            assert await pair.db.value(statement, value) == 0, table
        return True

    await eventually(nothing_left)
    check_problem(await pair.there.get(path), 404)
    async with pair.there.join(conversation["id"], stream.cursor, expect=404):
        pass


async def test_a_stop_during_the_first_moment_of_an_answer(
    pair: Pair, inference: Inference
) -> None:
    """The stop comes together with the send, from either side."""
    inference.default = counted(3).hang()
    for attempt in range(12):
        conversation = await pair.here.create()
        client = pair.clients[attempt % 2]
        async with pair.here.send(conversation["id"], "Count") as stream:
            message = await stop(client, conversation["id"])
            await stream.rest()
            assert stream.done["status"] == message["status"] == "stopped"
            assert stream.text == message["content"]
