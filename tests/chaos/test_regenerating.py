"""A regenerated answer replaces the old one only when it is complete."""

from collections.abc import Callable

import pytest
from tests.chaos.conftest import Pair
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.known import counted, length
from tests.support.waiting import eventually

FAILURES: dict[str, Callable[[], Script]] = {
    "500 at once": lambda: Script().status(500),
    "400 at once": lambda: Script().status(400),
    "wrong key": lambda: Script().status(403),
    "a redirect": lambda: Script().redirect("http://127.0.0.1:1/"),
    "not a stream": lambda: Script().status(200, b"<html>", content_type="text/html"),
    "cut before the head": lambda: Script().cut(),
    "reset before the head": lambda: Script().reset(),
    "cut after the head": lambda: Script().head().cut(),
    "ended after the head": lambda: Script().head(),
    "an error event": lambda: Script().event({"error": "out of memory"}),
    "cut after tokens": lambda: counted(3).cut(),
    "reset after tokens": lambda: counted(3).reset(),
    "ended after tokens": lambda: counted(3),
    "an error event after tokens": lambda: counted(3).event({"error": "out of memory"}),
    "nonsense after tokens": lambda: counted(3).raw(b"data: {nonsense\n\n"),
    "half an event": lambda: counted(3).raw(b'data: {"token":"x').cut(),
}


@pytest.mark.case(14)
@pytest.mark.parametrize("failure", FAILURES)
async def test_case_14_whatever_upstream_does_the_old_answer_is_untouched(
    pair: Pair, inference: Inference, failure: str
) -> None:
    """Case 14: a regeneration whose upstream fails at any point."""
    conversation = await pair.here.create()
    inference.once(counted(5).done())
    await pair.here.ask(conversation["id"], "Count")
    before = await pair.there.messages(conversation["id"])
    inference.once(FAILURES[failure]())
    async with pair.here.regenerate(conversation["id"]) as stream:
        await stream.rest()
        assert stream.done["status"] in {"failed", "interrupted"}
        assert stream.done["kept_message_id"] == before[1]["id"]
        assert [event.kind for event in stream.events[-2:]] == ["error", "done"]
    assert await pair.there.messages(conversation["id"]) == before
    # Nothing is left in the way of another try.
    inference.once(counted(7).done())
    async with pair.there.regenerate(conversation["id"]) as stream:
        await stream.rest()
        assert stream.done["status"] == "complete"
        assert "kept_message_id" not in stream.done
    after = await pair.here.messages(conversation["id"])
    assert [message["id"] for message in after] == [before[0]["id"], stream.done["message_id"]]
    assert length(after[1]["content"]) == 7


@pytest.mark.case(14)
async def test_case_14_an_upstream_that_is_not_there(pair: Pair, inference: Inference) -> None:
    """Case 14: refused."""
    conversation = await pair.here.create()
    await pair.here.ask(conversation["id"], "Count")
    before = await pair.there.messages(conversation["id"])
    with inference.refusing():
        async with pair.here.regenerate(conversation["id"]) as stream:
            await stream.rest()
            assert stream.done["status"] == "failed"
    assert await pair.there.messages(conversation["id"]) == before


async def test_a_running_regeneration_is_not_shown_and_then_takes_its_place(
    pair: Pair, inference: Inference
) -> None:
    conversation = await pair.here.create()
    for question in ("One", "Two"):
        await pair.here.ask(conversation["id"], question)
    before = await pair.there.messages(conversation["id"])
    gate = Gate()
    inference.once(counted(3).wait(gate).count(3).done())
    async with pair.here.regenerate(conversation["id"]) as stream:
        await stream.until("token")
        for client in pair.clients:
            assert await client.messages(conversation["id"]) == before
            async with client.join(conversation["id"]) as joined:
                assert (await joined.next()).data["start"]["message_id"] == stream.start[
                    "message_id"
                ]
        gate.open()
        await stream.until("done")
        # In the same transaction: there with `done`, in the old one's place.
        after = await pair.there.messages(conversation["id"])
        assert [message["id"] for message in after] == [
            *(message["id"] for message in before[:3]),
            stream.start["message_id"],
        ]
        assert after[:3] == before[:3]
        assert after[3]["content"] == stream.text
    # What the model saw did not contain the old answer.
    assert (await inference.call()).contents == [
        "One",
        before[1]["content"],
        "Two",
    ]


async def test_a_regeneration_given_up_for_a_new_message_leaves_the_old_answer(
    pair: Pair, inference: Inference
) -> None:
    conversation = await pair.here.create()
    old = await pair.here.ask(conversation["id"], "One")
    inference.once(counted(3).hang())
    async with pair.here.regenerate(conversation["id"]) as stream:
        await stream.until("token")
    assert (await pair.there.ask(conversation["id"], "Two"))["status"] == "complete"
    messages = await pair.here.messages(conversation["id"])
    assert [message["content"] for message in messages[::2]] == ["One", "Two"]
    assert messages[1] == old
    assert (await inference.call()).contents == ["One", old["content"], "Two"]


async def test_a_failed_answer_can_be_regenerated_and_is_replaced(
    pair: Pair, inference: Inference
) -> None:
    conversation = await pair.here.create()
    inference.once(counted(3).cut())
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.rest()
        assert stream.done["status"] == "interrupted"
    inference.once(counted(5).done())
    async with pair.there.regenerate(conversation["id"]) as again:
        await again.rest()
    [_, answer] = await pair.here.messages(conversation["id"])
    assert (length(answer["content"]), answer["status"]) == (5, "complete")


async def test_a_regeneration_whose_client_left_completes_and_replaces(
    pair: Pair, inference: Inference
) -> None:
    conversation = await pair.here.create()
    old = await pair.here.ask(conversation["id"], "Count")
    gate = Gate()
    inference.once(counted(3).wait(gate).count(3).done())
    async with pair.here.regenerate(conversation["id"]) as stream:
        await stream.until("token")
    gate.open()

    async def replaced() -> bool:
        [_, answer] = await pair.there.messages(conversation["id"])
        return bool(answer["id"] != old["id"] and length(answer["content"]) == 6)

    await eventually(replaced)
