"""Regenerating: the new answer takes the old one's place, and only when it is complete."""

from typing import Any

import pytest
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script
from tests.support.shapes import check_message, check_problem
from tests.support.waiting import eventually


async def answered(client: Client, *questions: str) -> str:
    """A conversation with these questions, each answered."""
    conversation = await client.create()
    for question in questions:
        await client.ask(conversation["id"], question)
    conversation_id: str = conversation["id"]
    return conversation_id


def texts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["content"], message["status"]) for message in messages]


async def test_the_new_answer_takes_the_old_ones_place(alice: Client, inference: Inference) -> None:
    conversation_id = await answered(alice, "One", "Two")
    before = await alice.messages(conversation_id)
    inference.once(Script().tokens("Bet", "ter").done())
    async with alice.regenerate(conversation_id) as stream:
        events = await stream.rest()
    assert [event.kind for event in events] == ["start", "token", "token", "done"]
    assert events[0].data["start"]["user_message_id"] == before[2]["id"]
    after = await alice.messages(conversation_id)
    assert after[:3] == before[:3]
    assert texts(after[3:]) == [("Better", "complete")]
    check_message(after[3])
    assert after[3]["id"] == events[-1].data["message_id"]
    assert after[3]["token_count"] == 2


async def test_the_old_answer_is_no_part_of_the_new_ones_context(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One", "Two")
    async with alice.regenerate(conversation_id) as stream:
        await stream.rest()
    assert (await inference.call(2)).contents == ["One", PLAIN_TEXT, "Two"]


@pytest.mark.parametrize(
    "options",
    [{}, {"content": b""}, {"json": {}}, {"json": {"temperature": None}}],
    ids=["none", "empty", "object", "null"],
)
async def test_no_body_is_needed(alice: Client, options: dict[str, Any]) -> None:
    conversation_id = await answered(alice, "One")
    response = await alice.post(f"/api/conversations/{conversation_id}/regenerate", **options)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_options_are_passed_on_and_content_is_ignored(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    async with alice.regenerate(
        conversation_id, temperature=1.5, max_tokens=7, top_k=3, content="Ignored"
    ) as stream:
        await stream.rest()
    call = await inference.call(1)
    assert call.contents == ["One"]
    body = call.body
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (1.5, 7, 3)
    assert [message["content"] for message in await alice.messages(conversation_id)] == [
        "One",
        PLAIN_TEXT,
    ]


async def test_without_a_question_there_is_nothing_to_answer(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    path = f"/api/conversations/{conversation['id']}/regenerate"
    check_problem(await alice.post(path), 400)
    check_problem(await alice.post(path, headers={"accept": "application/json"}), 400)
    assert (await alice.messages(conversation["id"])) == []
    assert inference.calls == []


async def test_until_it_is_complete_the_old_answer_stays(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    before = await alice.messages(conversation_id)
    gate = Gate()
    inference.once(Script().tokens("New").wait(gate).done())
    async with alice.regenerate(conversation_id) as stream:
        await stream.until("token")
        assert await alice.messages(conversation_id) == before
        gate.open()
        await stream.until("done")
        assert texts(await alice.messages(conversation_id)) == [
            ("One", "complete"),
            ("New", "complete"),
        ]


@pytest.mark.case(14)
@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script().status(500), "failed"),
        (Script().header(content_type="text/html").raw(b"x"), "failed"),
        (Script().tokens("New").cut(), "interrupted"),
        (Script().tokens("New"), "interrupted"),
        (Script().tokens("New").raw(b"data: {nope\n\n"), None),
    ],
    ids=["500", "HTML", "cut", "no done", "garbage"],
)
async def test_a_failed_regeneration_leaves_the_old_answer_untouched(
    alice: Client, inference: Inference, script: Script, status: str | None
) -> None:
    conversation_id = await answered(alice, "One")
    before = await alice.messages(conversation_id)
    inference.once(script)
    async with alice.regenerate(conversation_id) as stream:
        events = await stream.rest()
    assert [event.kind for event in events[-2:]] == ["error", "done"]
    if status is not None:
        assert events[-1].data["status"] == status
    assert await alice.messages(conversation_id) == before
    # It can be tried again, and the next message goes on from the old answer.
    await alice.ask(conversation_id, "Two")
    assert (await inference.call()).contents == ["One", PLAIN_TEXT, "Two"]


async def test_a_failed_regeneration_leaves_the_old_answer_untouched_in_json(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    before = await alice.messages(conversation_id)
    inference.once(Script().status(500))
    response = await alice.post(
        f"/api/conversations/{conversation_id}/regenerate", headers={"accept": "application/json"}
    )
    check_problem(response, 502, "message_id")
    assert await alice.messages(conversation_id) == before


async def test_a_regeneration_completes_though_its_client_left(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    gate = Gate()
    inference.once(Script().tokens("New").wait(gate).tokens("er").done())
    async with alice.regenerate(conversation_id) as stream:
        await stream.until("token")
    gate.open()

    async def replaced() -> bool:
        return texts(await alice.messages(conversation_id))[1] == ("Newer", "complete")

    await eventually(replaced)
    assert len(await alice.messages(conversation_id)) == 2


async def test_a_message_after_an_aborted_regeneration_keeps_the_old_answer(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    inference.once(Script().tokens("New").hang())
    async with alice.regenerate(conversation_id) as stream:
        await stream.until("token")
    await alice.ask(conversation_id, "Two")
    await (await inference.call(1)).gone.wait()
    assert [message["content"] for message in await alice.messages(conversation_id)] == [
        "One",
        PLAIN_TEXT,
        "Two",
        PLAIN_TEXT,
    ]
    assert (await inference.call(2)).contents == ["One", PLAIN_TEXT, "Two"]


async def test_regenerating_again_and_again_keeps_one_answer(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    for number in range(3):
        inference.once(Script().tokens(f"Answer {number}").done())
        async with alice.regenerate(conversation_id) as stream:
            await stream.rest()
    assert texts(await alice.messages(conversation_id)) == [
        ("One", "complete"),
        ("Answer 2", "complete"),
    ]


async def test_a_question_whose_answer_failed_is_answered_by_regenerating(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    inference.once(Script().status(500), Script().status(500))
    await alice.ask_raw(conversation["id"], {"content": "One"})
    failed = await alice.messages(conversation["id"])
    async with alice.regenerate(conversation["id"]) as stream:
        await stream.rest()
        assert stream.done["status"] == "failed"
    assert await alice.messages(conversation["id"]) == failed
    async with alice.regenerate(conversation["id"]) as stream:
        await stream.rest()
        assert stream.start["user_message_id"] == failed[0]["id"]
    assert texts(await alice.messages(conversation["id"])) == [
        ("One", "complete"),
        (PLAIN_TEXT, "complete"),
    ]


async def test_a_regeneration_moves_the_conversation_to_the_top(alice: Client) -> None:
    first = await answered(alice, "One")
    second = await answered(alice, "Two")
    async with alice.regenerate(first) as stream:
        await stream.rest()
    items = (await alice.get("/api/conversations")).json()["items"]
    assert [item["id"] for item in items] == [first, second]


async def test_a_regeneration_leaves_the_title_alone(alice: Client) -> None:
    conversation_id = await answered(alice, "One")
    await alice.put(f"/api/conversations/{conversation_id}", json={"title": "Mine"})
    async with alice.regenerate(conversation_id) as stream:
        await stream.rest()
    assert (await alice.conversation(conversation_id))["title"] == "Mine"


async def test_deleting_the_conversation_stops_a_regeneration(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await answered(alice, "One")
    inference.once(Script().endless())
    async with alice.regenerate(conversation_id) as stream:
        await stream.until("token")
        response = await alice.delete(f"/api/conversations/{conversation_id}")
        assert response.status_code == 204
        await (await inference.call()).gone.wait()
    check_problem(await alice.get(f"/api/conversations/{conversation_id}"), 404)
