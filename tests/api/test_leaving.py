"""An answer belongs to its conversation: clients leave, come back, send again, delete."""

import asyncio
import contextlib

import pytest
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.shapes import check_problem
from tests.support.waiting import eventually


async def last(client: Client, conversation_id: str) -> tuple[str, str]:
    """The text and the status of the last message."""
    message = (await client.messages(conversation_id))[-1]
    return message["content"], message["status"]


@pytest.mark.case(15)
@pytest.mark.parametrize("when", ["start", "token"])
async def test_an_answer_completes_and_is_saved_though_its_client_left(
    alice: Client, inference: Inference, when: str
) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b", "c").done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.until(when)
    gate.open()

    async def saved() -> bool:
        return await last(alice, conversation["id"]) == ("abc", "complete")

    await eventually(saved)
    call = await inference.call()
    await call.ended.wait()
    assert call.completed


@pytest.mark.case(15)
async def test_an_answer_completes_though_its_client_left_before_the_head(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().wait(gate).tokens("abc").done())
    conversation = await alice.create()

    async def send() -> None:
        async with alice.send(conversation["id"], "Hello"):
            await asyncio.Event().wait()

    sending = asyncio.create_task(send())
    await gate.arrived.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    gate.open()

    async def saved() -> bool:
        return await last(alice, conversation["id"]) == ("abc", "complete")

    await eventually(saved)


async def test_an_answer_that_somebody_reads_refuses_another_message(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "One") as first:
        await first.until("token")
        async with alice.send(conversation["id"], "Two", expect=409) as second:
            problem = await second.problem()
        assert problem["status"] == 409
        assert problem["message_id"] == first.start["message_id"]
        async with alice.regenerate(conversation["id"], expect=409) as third:
            assert (await third.problem())["message_id"] == first.start["message_id"]
        gate.open()
        await first.rest()
        assert (first.text, first.done["status"]) == ("ab", "complete")
    contents = [message["content"] for message in await alice.messages(conversation["id"])]
    assert contents == ["One", "ab"]
    assert len(inference.calls) == 1


async def test_after_the_end_the_next_message_is_welcome(alice: Client) -> None:
    conversation = await alice.create()
    async with alice.send(conversation["id"], "One") as first:
        await first.until("done")
        # Its reader is still there, but nothing runs.
        async with alice.send(conversation["id"], "Two") as second:
            await second.rest()
            assert second.done["status"] == "complete"


async def test_another_conversation_is_not_in_the_way(alice: Client, inference: Inference) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    async with alice.send((await alice.create())["id"], "One") as first:
        await first.until("token")
        other = await alice.create()
        assert (await alice.ask(other["id"], "Two"))["status"] == "complete"
        gate.open()
        await first.rest()


async def test_a_message_after_an_abort_stops_the_old_answer_and_keeps_its_text(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    inference.once(Script().tokens(*words(3)).hang())
    async with alice.send(conversation["id"], "One") as first:
        await first.until_text("<2>")
    async with alice.send(conversation["id"], "Two") as second:
        await second.rest()
        assert (second.text, second.done["status"]) == (PLAIN_TEXT, "complete")
    upstream = await inference.call(0)
    await upstream.gone.wait()
    messages = await alice.messages(conversation["id"])
    assert [(message["content"], message["status"]) for message in messages] == [
        ("One", "complete"),
        ("<0><1><2>", "stopped"),
        ("Two", "complete"),
        (PLAIN_TEXT, "complete"),
    ]
    assert messages[1]["token_count"] == 3
    assert (await inference.call(1)).contents == ["One", "<0><1><2>", "Two"]


async def test_a_message_after_an_abort_before_the_first_token_goes_through(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    inference.once(Script().hang())
    async with alice.send(conversation["id"], "One") as first:
        await first.until("start")
        upstream = await inference.call(0)
    assert (await alice.ask(conversation["id"], "Two"))["status"] == "complete"
    await upstream.gone.wait()
    messages = await alice.messages(conversation["id"])
    assert [(message["content"], message["status"]) for message in messages[:2]] == [
        ("One", "complete"),
        ("", "stopped"),
    ]


async def test_aborting_again_and_again_loses_nothing(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    for number in range(5):
        inference.once(Script().tokens(f"A{number}").hang())
        async with alice.send(conversation["id"], f"Q{number}") as stream:
            await stream.until("token")
    assert (await alice.ask(conversation["id"], "Q5"))["status"] == "complete"
    messages = await alice.messages(conversation["id"])
    assert [message["content"] for message in messages] == [
        *(text for number in range(5) for text in (f"Q{number}", f"A{number}")),
        "Q5",
        PLAIN_TEXT,
    ]


@pytest.mark.case(11)
async def test_of_many_messages_at_once_one_is_taken(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    gate = Gate()
    inference.default = Script().tokens("a").wait(gate).done()
    statuses: list[int] = []
    taken: list[str] = []

    async def send(number: int) -> None:
        async with alice.send(conversation["id"], f"Question {number}", expect=None) as stream:
            statuses.append(stream.status)
            if stream.status == 200:
                taken.append(f"Question {number}")
                await stream.rest(60)

    sending = [asyncio.create_task(send(number)) for number in range(30)]
    await eventually(lambda: len(statuses) == 30, 40)
    gate.open()
    await asyncio.gather(*sending)
    assert sorted(statuses) == [200] + [409] * 29
    messages = await alice.messages(conversation["id"])
    assert [message["content"] for message in messages] == [taken[0], "a"]


@pytest.mark.case(13)
async def test_deleting_a_conversation_stops_its_answer(
    alice: Client, inference: Inference
) -> None:
    inference.once(Script().endless())
    conversation = await alice.create()
    path = f"/api/conversations/{conversation['id']}"
    async with alice.send(conversation["id"], "Go on") as stream:
        await stream.until("token")
        assert (await alice.delete(path)).status_code == 204
        await (await inference.call()).gone.wait()
        check_problem(await alice.get(path), 404)
        # However the stream ends, it ends.
        with contextlib.suppress(AssertionError):
            await stream.rest()
        assert not any(event.data.get("status") == "complete" for event in stream.events)


async def test_deleting_one_conversation_leaves_the_others_answers_alone(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.on("Stay", Script().tokens("a").wait(gate).tokens("b").done())
    inference.on("Go", Script().endless())
    staying, going = await alice.create(), await alice.create()
    async with alice.send(staying["id"], "Stay") as stay, alice.send(going["id"], "Go") as go:
        await stay.until("token")
        await go.until("token")
        await alice.delete(f"/api/conversations/{going['id']}")
        await inference.about("Go")[0].gone.wait()
        gate.open()
        await stay.rest()
        assert (stay.text, stay.done["status"]) == ("ab", "complete")
    assert await last(alice, staying["id"]) == ("ab", "complete")
