"""One answer at a time in a conversation, on every replica."""

import asyncio

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import counted, length, numbered
from tests.support.waiting import eventually


@pytest.mark.case(11)
async def test_case_11_of_fifty_sends_at_once_over_two_replicas_one_is_accepted(
    pair: Pair, inference: Inference
) -> None:
    """Case 11: one is accepted, 49 get 409, one question in the database."""
    gate = Gate()
    inference.default = counted(2).wait(gate).count(2).done()
    conversation = await pair.here.create()
    statuses: list[int] = []
    accepted: list[tuple[str, str]] = []
    named: set[str] = set()

    async def send(number: int) -> None:
        client = pair.clients[number % 2]
        async with client.send(conversation["id"], f"Question {number}", expect=None) as stream:
            statuses.append(stream.status)
            if stream.status == 200:
                await stream.rest(60)
                assert length(stream.text) == 4
                accepted.append((f"Question {number}", stream.start["message_id"]))
            else:
                named.add((await stream.problem())["message_id"])

    sending = [asyncio.create_task(send(number)) for number in range(50)]
    await eventually(lambda: len(statuses) == 50, 40)
    gate.open()
    await asyncio.gather(*sending)
    assert sorted(statuses) == [200] + [409] * 49
    [(question, message_id)] = accepted
    assert named == {message_id}
    messages = await pair.there.messages(conversation["id"])
    assert [(message["role"], message["status"]) for message in messages] == [
        ("user", "complete"),
        ("assistant", "complete"),
    ]
    assert (messages[0]["content"], messages[1]["id"]) == (question, message_id)
    assert len(inference.calls) == 1


@pytest.mark.case(11)
async def test_case_11_of_many_regenerations_at_once_one_is_accepted(
    pair: Pair, inference: Inference
) -> None:
    """Case 11, for regenerate and send mixed."""
    conversation = await pair.here.create()
    await pair.here.ask(conversation["id"], "Hello")
    gate = Gate()
    inference.default = counted(2).wait(gate).count(2).done()
    statuses: list[int] = []

    async def ask(number: int) -> None:
        client = pair.clients[number % 2]
        request = (
            client.regenerate(conversation["id"], expect=None)
            if number % 4 < 2
            else client.send(conversation["id"], f"Question {number}", expect=None)
        )
        async with request as stream:
            statuses.append(stream.status)
            if stream.status == 200:
                await stream.rest(60)
                assert stream.done["status"] == "complete"

    asking = [asyncio.create_task(ask(number)) for number in range(20)]
    await eventually(lambda: len(statuses) == 20, 40)
    gate.open()
    await asyncio.gather(*asking)
    assert sorted(statuses) == [200] + [409] * 19
    assert len(await pair.there.messages(conversation["id"])) in {2, 4}


async def test_a_send_on_the_other_replica_takes_over_from_an_abandoned_stream(
    pair: Pair, inference: Inference
) -> None:
    conversation = await pair.here.create()
    inference.once(counted(5).hang())
    async with pair.here.send(conversation["id"], "One") as stream:
        await stream.until(numbered(4))
    upstream = await inference.call()
    inference.once(counted(3).done())
    async with pair.there.send(conversation["id"], "Two") as second:
        await second.rest()
        assert second.done["status"] == "complete"
    await upstream.gone.wait(5)
    messages = await pair.here.messages(conversation["id"])
    assert [(length(message["content"]), message["status"]) for message in messages[1::2]] == [
        (5, "stopped"),
        (3, "complete"),
    ]


async def test_a_reader_elsewhere_keeps_the_conversation_busy(
    pair: Pair, inference: Inference
) -> None:
    """Its sender is gone; a reader at the other replica listens."""
    gate = Gate()
    inference.once(counted(5).wait(gate).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "One") as stream:
        await stream.until("token")
        async with pair.there.join(conversation["id"]) as joined:
            await joined.until("token")
            await stream.close()
            for client in pair.clients:
                async with client.send(conversation["id"], "Two", expect=409) as refused:
                    problem = await refused.problem()
                    assert problem["message_id"] == stream.start["message_id"]
            gate.open()
            await joined.rest()
            assert joined.done["status"] == "complete"


async def test_a_reader_that_comes_back_at_once_keeps_the_conversation_busy(
    pair: Pair, inference: Inference
) -> None:
    """Leaving and joining on one replica overlap; the listening must outlast it."""
    gate = Gate()
    inference.once(counted(5).wait(gate, 100).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "One") as stream:
        await stream.until("token")
        last = stream
        for _ in range(25):
            async with asyncio.TaskGroup() as group:
                closing = group.create_task(last.close())
                request = pair.here.http.build_request(
                    "GET", f"/api/conversations/{conversation['id']}/stream"
                )
                opening = group.create_task(pair.here.http.send(request, stream=True))
            assert closing.done()
            last = type(stream)(opening.result())
            await last.until("token")

            async def listened() -> bool:
                return bool(
                    await pair.db.value(
                        "SELECT 1 FROM subscriptions WHERE message_id = $1",
                        stream.start["message_id"],
                    )
                )

            await eventually(listened, 5)
        async with pair.there.send(conversation["id"], "Two", expect=409):
            pass
        gate.open()
        await last.rest()
        assert last.done["status"] == "complete"
        await last.close()


# What a third sender could do in the moment between the end of the answer that was found and the
# second try: begin one of its own.
BEGIN_ANOTHER = """
CREATE FUNCTION begin_another() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
    VALUES (gen_random_uuid(), NEW.conversation_id, 100, 'user', 'Third', 'complete', 'default');
    INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
    VALUES ('00000000-0000-7000-8000-0000000000aa', NEW.conversation_id, 101, 'assistant', '',
        'generating', 'default');
    INSERT INTO generations
        (message_id, conversation_id, question_id, options, trace_id, owner, lease_until)
    VALUES ('00000000-0000-7000-8000-0000000000aa', NEW.conversation_id, gen_random_uuid(), '{}',
        't', gen_random_uuid(), now() + interval '1 hour');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER begin_another AFTER UPDATE ON generations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION begin_another();
"""


async def test_only_the_answer_that_was_found_first_is_taken_over(
    start_pair: StartPair, inference: Inference
) -> None:
    """A send stops what it finds; an answer that has begun since is somebody else's."""
    pair = await start_pair()
    await pair.db.execute(BEGIN_ANOTHER)
    conversation = await pair.here.create()
    inference.once(counted(5).hang())
    async with pair.here.send(conversation["id"], "One") as stream:
        await stream.until(numbered(4))
    response = await pair.here.ask_raw(conversation["id"], {"content": "Two"})
    assert response.status_code == 409
    other = await pair.db.fetch(
        "SELECT attempt, stop_requested, ended_at FROM generations "
        "WHERE message_id = '00000000-0000-7000-8000-0000000000aa'"
    )
    assert other == [{"attempt": 1, "stop_requested": False, "ended_at": None}]
