"""Sending a message and reading its answer as a stream."""

import asyncio
import uuid
from typing import Any

import pytest
from tests.support.client import Client, MakeClient
from tests.support.events import as_an_old_client
from tests.support.gates import Gate
from tests.support.inference import PLAIN, PLAIN_TEXT, Inference, Script, words
from tests.support.service import ServiceWith
from tests.support.shapes import check_message
from tests.support.waiting import eventually


async def test_an_answer_is_start_then_tokens_then_done(alice: Client) -> None:
    conversation = await alice.create()
    async with alice.send(conversation["id"], "What is a samosa?") as stream:
        events = await stream.rest()
    assert [event.kind for event in events] == ["start", *["token"] * len(PLAIN), "done"]
    start, *tokens, done = (event.data for event in events)
    assert set(start) == {"start"}
    assert set(start["start"]) == {"conversation_id", "message_id", "user_message_id", "attempt"}
    assert start["start"]["conversation_id"] == conversation["id"]
    assert start["start"]["attempt"] == 1
    assert tokens == [{"token": text, "gpu": 0} for text in PLAIN]
    assert set(done) == {
        *("done", "message_id", "status", "token_count", "inference_time_ms"),
        *("model_tag", "finish_reason", "usage"),
    }
    assert done["done"] is True
    assert done["message_id"] == start["start"]["message_id"]
    assert done["status"] == "complete"
    assert type(done["token_count"]) is int
    assert done["token_count"] == len(PLAIN)
    assert type(done["inference_time_ms"]) is int
    assert done["inference_time_ms"] > 0
    for name in ("message_id", "user_message_id"):
        uuid.UUID(start["start"][name])


async def test_the_response_says_that_it_must_not_be_held_back(alice: Client) -> None:
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in stream.headers
        assert "content-length" not in stream.headers
        assert stream.reader.retry == 1000


async def test_done_comes_after_the_answer_is_saved(alice: Client) -> None:
    conversation = await alice.create()
    for round_ in range(5):
        async with alice.send(conversation["id"], f"Round {round_}") as stream:
            done = (await stream.until("done")).data
            # At once, on another connection, while the stream may still be open.
            answer = (await alice.messages(conversation["id"]))[-1]
        check_message(answer)
        assert answer["id"] == done["message_id"]
        assert answer["content"] == PLAIN_TEXT
        for name in ("status", "token_count", "inference_time_ms"):
            assert answer[name] == done[name]


async def test_nothing_comes_after_done(alice: Client) -> None:
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.until("done")
        assert await stream.rest() == []


async def test_a_question_is_kept_before_its_answer_begins(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().wait(gate).tokens("Now").done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Are you there?") as stream:
        start = (await stream.until("start")).data["start"]
        question = (await alice.messages(conversation["id"]))[0]
        assert question["id"] == start["user_message_id"]
        assert (question["role"], question["content"]) == ("user", "Are you there?")
        gate.open()
        assert (await stream.rest())[-1].data["status"] == "complete"


async def test_tokens_are_passed_on_as_they_come(alice: Client, inference: Inference) -> None:
    gates = [Gate(f"gate {number}") for number in range(5)]
    script = Script()
    for gate, word in zip(gates, words(5), strict=True):
        script.wait(gate).tokens(word)
    inference.once(script.done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Slowly") as stream:
        await stream.until("start")
        for gate, word in zip(gates, words(5), strict=True):
            gate.open()
            assert (await stream.next()).data["token"] == word
        assert (await stream.next()).kind == "done"


async def test_what_else_inference_says_of_a_token_is_passed_on(
    alice: Client, inference: Inference
) -> None:
    extra: dict[str, Any] = {
        "gpu": 3,
        "logprob": -0.25,
        "top": [{"id": 7, "text": "é😀"}, None, True],
        "big": 2**53,
        "finish_reason": None,
        "model": "d32",
        "id": "cmpl-1",
        "event": "x",
    }
    inference.once(Script().event({"token": "Hi", **extra}).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        token = await stream.until("token")
        await stream.rest()
    assert token.data == {"token": "Hi", **extra}


async def test_our_own_fields_are_dropped_from_inferences_tokens(
    alice: Client, inference: Inference
) -> None:
    reserved = {
        "start": {"message_id": "x"},
        "reset": {"attempt": 9},
        "snapshot": {"content": "x"},
        "error": "x",
        "done": False,
        "message_id": "x",
        "status": "complete",
    }
    inference.once(Script().event({"token": "Hi", "gpu": 1, **reserved}).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
    assert [event.kind for event in events] == ["start", "token", "done"]
    assert events[1].data == {"token": "Hi", "gpu": 1}
    assert events[2].data["status"] == "complete"


async def test_ids_never_repeat_within_a_conversation(alice: Client) -> None:
    conversation = await alice.create()
    ids: list[str] = []
    for round_ in range(3):
        async with alice.send(conversation["id"], f"Round {round_}") as stream:
            ids += [event.id for event in await stream.rest()]
    async with alice.regenerate(conversation["id"]) as stream:
        ids += [event.id for event in await stream.rest()]
    assert len(set(ids)) == len(ids) == 4 * (len(PLAIN) + 2)
    assert all(0 < len(id_) <= 200 and id_.isascii() and id_.isprintable() for id_ in ids)


async def test_old_clients_understand_the_stream(alice: Client) -> None:
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        assert as_an_old_client(stream.raw) == (PLAIN_TEXT, True)


@pytest.mark.case(33)
@pytest.mark.parametrize(
    "text",
    [
        "😀 🧑‍🍳 👨‍👩‍👧‍👦 🇮🇳",
        "مرحبا بالعالم ‏‫שלום‬",
        "e\u0301 \u0915\u094d\u0937 a\u0308\u0323",
        "\u2028 \u2029 \x85 \x0b \x0c \x1f \x7f \ufeff \ufffd \uffff",
        "line\r\nline\rline\n\n\nend",
        "  leading and trailing  \n",
        '</script><img src=x onerror=alert(1)> & "quotes" \\ \\u0041',
        'data: {"done":true}\n\nevent: done\nid: 5\nretry: 1\n\n: comment',
        "'; DROP TABLE messages; -- %s %(x)s $1 {0} {{x}}",
        "\U0010ffff \U0001f600 \ue000",
    ],
    ids=[
        "emoji",
        "right to left",
        "combining",
        "separators",
        "line ends",
        "blanks",
        "markup",
        "events",
        "SQL",
        "planes",
    ],
)
async def test_text_comes_back_to_the_byte(alice: Client, inference: Inference, text: str) -> None:
    inference.default = Script().tokens(text, text).done()
    conversation = await alice.create(title=f"t{text}"[:500])
    async with alice.send(conversation["id"], text) as stream:
        await stream.rest()
        assert stream.text == text * 2
        assert as_an_old_client(stream.raw) == (text * 2, True)
    saved = await alice.conversation(conversation["id"])
    assert saved["title"] == f"t{text}"
    assert [message["content"] for message in saved["messages"]] == [text, text * 2]
    assert (await inference.call()).contents == [text]


async def test_a_long_answer_comes_whole(alice: Client, inference: Inference) -> None:
    tokens = words(5000)
    inference.once(Script().tokens(*tokens).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Count") as stream:
        events = await stream.rest(60)
    assert [event.data["token"] for event in events[1:-1]] == tokens
    answer = (await alice.messages(conversation["id"]))[-1]
    assert answer["content"] == "".join(tokens)
    assert answer["token_count"] == 5000


async def test_answers_at_the_same_time_do_not_mix(alice: Client, inference: Inference) -> None:
    async def exchange(number: int) -> None:
        tokens = [f"{number}:{index} " for index in range(50)]
        inference.on(f"Question {number}.", Script().tokens(*tokens).done())
        conversation = await alice.create()
        async with alice.send(conversation["id"], f"Question {number}.") as stream:
            await stream.rest(60)
            assert stream.text == "".join(tokens)
        assert (await alice.messages(conversation["id"]))[-1]["content"] == "".join(tokens)

    await asyncio.gather(*(exchange(number) for number in range(20)))


async def test_more_answers_run_than_there_are_database_connections(
    alice: Client, bob: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.on("Wait", Script().tokens("a").wait(gate).tokens("b").done())

    async def exchange() -> str:
        conversation = await alice.create()
        async with alice.send(conversation["id"], "Wait") as stream:
            await stream.until("token")
            ready.append(1)
            await stream.rest(60)
            return stream.text

    ready: list[int] = []
    running = [asyncio.create_task(exchange()) for _ in range(30)]
    await eventually(lambda: len(ready) == 30)
    # The pool has five connections; thirty answers hold none of them.
    assert (await bob.ask((await bob.create())["id"], "Quick"))["status"] == "complete"
    gate.open()
    assert await asyncio.gather(*running) == ["ab"] * 30


async def test_silence_is_broken_by_comments(
    service_with: ServiceWith, clients: MakeClient, auth: Any, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    client = clients(service_with(HEARTBEAT_SECONDS="0.1"), auth.user())
    conversation = await client.create()
    async with client.send(conversation["id"], "Hello") as stream:
        await stream.until("token")
        await eventually(lambda: len(stream.reader.comments) >= 3)
        gate.open()
        await stream.rest()
        assert stream.text == "ab"
        assert as_an_old_client(stream.raw) == ("ab", True)


async def test_done_does_not_wait_for_inference_to_hang_up(
    alice: Client, inference: Inference
) -> None:
    inference.once(Script().tokens("a").done().tokens("b").hang())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        assert (stream.text, stream.done["status"]) == ("a", "complete")


async def test_an_answer_of_no_tokens_is_complete(alice: Client, inference: Inference) -> None:
    inference.once(Script().done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
    assert [event.kind for event in events] == ["start", "done"]
    answer = (await alice.messages(conversation["id"]))[-1]
    assert (answer["content"], answer["status"]) == ("", "complete")


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", None])
async def test_a_stream_is_what_one_gets_unless_one_asks_for_json(
    alice: Client, accept: str | None
) -> None:
    conversation = await alice.create()
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/messages",
        json={"content": "Hello"},
        headers={"accept": accept} if accept else {},
    )
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert as_an_old_client(response.content) == (PLAIN_TEXT, True)
