"""OpenAI's own Python client against the service, unchanged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
)
from tests.chaos.conftest import StartPair
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.service import Service
from tests.support.waiting import eventually

UNKNOWN = "0" * 32


@asynccontextmanager
async def openai(client: Client, **options: Any) -> AsyncIterator[AsyncOpenAI]:
    """The official client, as this user."""
    assert client.account is not None
    async with AsyncOpenAI(
        base_url=f"{client.url}/v1",
        api_key=client.account.token,
        **{"max_retries": 0, "timeout": 30, **options},
    ) as made:
        yield made


@pytest.fixture
async def ai(alice: Client) -> AsyncIterator[AsyncOpenAI]:
    async with openai(alice) as made:
        yield made


class Lossy(httpx2.AsyncHTTPTransport):
    """Loses the responses to the first POSTs, after the service has sent them."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self._losses = losses
        self.sent: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        response = await super().handle_async_request(request)
        if len(self.sent) <= self._losses:
            await response.aread()
            raise httpx2.ReadError("lost", request=request)
        return response


async def collected(stream: Any) -> list[Any]:
    return [event async for event in stream]


def text_of(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def texts_of(items: Any) -> list[str]:
    return [item.content[0].text for item in items]


async def test_a_plain_response_and_what_can_be_asked_of_it(
    ai: AsyncOpenAI, alice: Client, inference: Inference
) -> None:
    created = await ai.responses.create(
        model="m",
        input="Hello",
        instructions="Be brief.",
        metadata={"a": "b"},
        temperature=0.5,
        max_output_tokens=64,
        tools=[],
        include=[],
    )
    assert (created.output_text, created.status) == (PLAIN_TEXT, "completed")
    assert (created.model, created.instructions, created.metadata) == ("m", "Be brief.", {"a": "b"})
    assert created.usage is not None
    assert created.usage.output_tokens == 4
    assert inference.calls[-1].contents == ["Be brief.\n\nHello"]
    assert await ai.responses.retrieve(created.id) == created
    items = await ai.responses.input_items.list(created.id)
    assert texts_of(items.data) == ["Hello"]
    # Our own API has the same conversation.
    assert created.conversation is not None
    messages = await alice.messages(str(UUID(created.conversation.id.removeprefix("conv_"))))
    assert [message["content"] for message in messages] == ["Hello", PLAIN_TEXT]
    await ai.responses.delete(created.id)
    with pytest.raises(NotFoundError):
        await ai.responses.retrieve(created.id)


async def test_a_streamed_response_ends_with_what_is_retrieved(ai: AsyncOpenAI) -> None:
    events = await collected(await ai.responses.create(model="m", input="Hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert text_of(events) == PLAIN_TEXT
    assert events[-1].type == "response.completed"
    assert await ai.responses.retrieve(events[-1].response.id) == events[-1].response
    with pytest.raises(BadRequestError) as refused:
        await ai.responses.retrieve(events[-1].response.id, stream=True)
    assert refused.value.param == "stream"


async def test_the_stream_helper_understands_it(ai: AsyncOpenAI) -> None:
    async with ai.responses.stream(model="m", input="Hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == PLAIN_TEXT


async def test_a_background_response_is_resumed_at_any_event(
    ai: AsyncOpenAI, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens(*words(5)).wait(gate).tokens(*words(3, 5)).done())
    created = await ai.responses.create(model="m", input="Count", background=True)
    assert created.status == "in_progress"
    with pytest.raises(ConflictError):  # it is kept, although no client reads it
        await ai.responses.create(model="m", input="Next", previous_response_id=created.id)
    gate.open()
    whole = await collected(await ai.responses.retrieve(created.id, stream=True))
    assert text_of(whole) == "".join(words(8))
    for after in (0, 3, 6, len(whole) - 2, len(whole) - 1):
        rest = await collected(
            await ai.responses.retrieve(created.id, stream=True, starting_after=after)
        )
        assert rest == whole[after + 1 :]
    # This helper reads from the first event on, and leaves out what is known.
    async with ai.responses.stream(response_id=created.id, starting_after=6) as helper:
        numbers = [event.sequence_number async for event in helper]
        assert numbers == list(range(7, len(whole)))
        assert (await helper.get_final_response()).output_text == "".join(words(8))
    assert await ai.responses.retrieve(created.id) == whole[-1].response


async def test_a_cancelled_response_keeps_what_was_written(
    ai: AsyncOpenAI, inference: Inference
) -> None:
    inference.once(Script().tokens(*words(3)).hang())
    stream = await ai.responses.create(model="m", input="Go", background=True, stream=True)
    events: list[Any] = []
    async for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta" and event.delta == words(3)[-1]:
            cancelled = await ai.responses.cancel(event.item_id.replace("msg_", "resp_"))
            assert (cancelled.status, cancelled.output_text) == ("cancelled", "".join(words(3)))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response == await ai.responses.cancel(events[-1].response.id)


async def test_chains_and_branches(ai: AsyncOpenAI, inference: Inference) -> None:
    first = await ai.responses.create(model="m", input="One")
    await ai.responses.create(model="m", input="Two", previous_response_id=first.id)
    assert inference.calls[-1].contents == ["One", PLAIN_TEXT, "Two"]
    branch = await ai.responses.create(model="m", input="Three", previous_response_id=first.id)
    assert inference.calls[-1].contents == ["One", PLAIN_TEXT, "Three"]
    assert branch.conversation == first.conversation
    assert branch.previous_response_id == first.id


@pytest.mark.case(66)
async def test_a_history_with_our_ids_goes_on_in_its_conversation(
    ai: AsyncOpenAI, alice: Client, inference: Inference
) -> None:
    history: list[Any] = [{"role": "user", "content": "One"}]
    first = await ai.responses.create(model="m", input=history)
    history += [item.model_dump() for item in first.output]
    second = await ai.responses.create(
        model="m", input=[*history, {"role": "user", "content": "Two"}]
    )
    third = await ai.responses.create(
        model="m",
        input=[
            {"role": "system", "content": "Be brief."},
            {"type": "item_reference", "id": second.output[0].id or ""},
            {"role": "user", "content": "Three"},
        ],
    )
    assert first.conversation == second.conversation == third.conversation
    assert inference.calls[-1].contents == [
        "Be brief.\n\nOne",
        PLAIN_TEXT,
        "Two",
        PLAIN_TEXT,
        "Three",
    ]
    # One without ids is a conversation of its own, with all that came before.
    other = await ai.responses.create(
        model="m",
        input=[
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "C"},
        ],
    )
    assert inference.calls[-1].contents == ["A", "B", "C"]
    assert other.conversation is not None
    assert other.conversation != first.conversation
    found = await ai.responses.input_items.list(other.id, order="asc")
    assert [item.role for item in found.data] == [  # type: ignore[union-attr]
        "user",
        "assistant",
        "user",
    ]


async def test_conversations_and_their_items(ai: AsyncOpenAI, inference: Inference) -> None:
    conversation = await ai.conversations.create(
        metadata={"a": "b"}, items=[{"role": "user", "content": "One", "type": "message"}]
    )
    assert (await ai.conversations.retrieve(conversation.id)).metadata == {"a": "b"}
    await ai.conversations.items.create(
        conversation.id, items=[{"role": "assistant", "content": "1", "type": "message"}]
    )
    answer = await ai.responses.create(model="m", input="Two", conversation=conversation.id)
    assert inference.calls[-1].contents == ["One", "1", "Two"]
    assert answer.conversation is not None
    assert answer.conversation.id == conversation.id
    listed = [item async for item in ai.conversations.items.list(conversation.id, limit=1)]
    assert texts_of(listed) == [PLAIN_TEXT, "Two", "1", "One"]
    found = await ai.conversations.items.retrieve(
        listed[0].id or "", conversation_id=conversation.id
    )
    assert found == listed[0]
    await ai.conversations.items.delete(listed[0].id or "", conversation_id=conversation.id)
    rest = await ai.conversations.items.list(conversation.id, order="asc")
    assert [item.id for item in rest.data] == [item.id for item in listed[:0:-1]]
    updated = await ai.conversations.update(conversation.id, metadata={"c": "d"})
    assert updated.metadata == {"c": "d"}
    assert (await ai.conversations.delete(conversation.id)).deleted
    with pytest.raises(NotFoundError):
        await ai.conversations.items.list(conversation.id)


@pytest.mark.case(76)
async def test_items_that_a_conversation_has_are_not_added_again(
    ai: AsyncOpenAI, alice: Client
) -> None:
    """Agents add the answers that they were given, and clients repeat a lost POST."""
    question: Any = {"role": "user", "content": "One", "type": "message"}
    answer: Any = {"role": "assistant", "content": PLAIN_TEXT, "type": "message"}
    conversation = await ai.conversations.create()
    path = f"/v1/conversations/{conversation.id}/items"

    async def add(*items: Any, count: int = 0) -> list[str]:
        headers = {"x-stainless-retry-count": str(count)}
        response = await alice.post(path, json={"items": items}, headers=headers)
        return [item["id"] for item in response.json()["data"]]

    (asked,) = await add(question)
    assert (await alice.get("/api/conversations")).json()["items"][0]["title"] == "One"
    assert await add(question, count=1) == [asked]
    created = await ai.responses.create(
        model="m", input=[{"type": "item_reference", "id": asked}, {"role": "user", "content": "2"}]
    )
    second: Any = {"role": "user", "content": "2", "type": "message"}
    assert (await add(answer)) == [created.output[0].id]
    assert (await add(second, answer))[1] == created.output[0].id
    both = await add(answer, question)
    assert both[0] == created.output[0].id
    again = await add(question)
    assert again != [both[1]], "the same question may be asked twice"
    listed = [item async for item in ai.conversations.items.list(conversation.id, order="asc")]
    assert texts_of(listed) == ["One", "2", PLAIN_TEXT, "One", "One"]


@pytest.mark.case(76)
async def test_a_question_that_was_added_is_answered_and_not_asked_twice(
    ai: AsyncOpenAI, alice: Client, inference: Inference
) -> None:
    first = await ai.responses.create(model="m", input="One")
    assert first.conversation is not None
    question: Any = {"role": "user", "content": "Two", "type": "message"}
    await ai.conversations.items.create(first.conversation.id, items=[question])
    created = await ai.responses.create(
        model="m", input=[{"type": "item_reference", "id": first.output[0].id or ""}, question]
    )
    assert inference.calls[-1].contents == ["One", PLAIN_TEXT, "Two"]
    assert texts_of((await ai.responses.input_items.list(created.id)).data) == ["Two"]
    messages = await alice.messages(str(UUID(first.conversation.id.removeprefix("conv_"))))
    assert [message["versions"] for message in messages] == [1] * 4


async def test_models(ai: AsyncOpenAI) -> None:
    assert [model.id async for model in ai.models.list()] == ["d20"]
    assert (await ai.models.retrieve("d20")).owned_by == "samosachaat"
    with pytest.raises(NotFoundError):
        await ai.models.retrieve("none/of/ours")


@pytest.mark.parametrize(
    "listed", [["a"], {"models": None}, {"models": ["a", None, {"model_tag": 1}, {}]}], ids=str
)
async def test_models_without_a_name_are_none(
    ai: AsyncOpenAI, inference: Inference, listed: Any
) -> None:
    inference.models = (200, listed)
    assert [model.id async for model in ai.models.list()] == []
    with pytest.raises(NotFoundError):
        await ai.models.retrieve("a")


async def test_a_blank_answer_of_a_history_is_no_message(ai: AsyncOpenAI, alice: Client) -> None:
    blank: Any = {"role": "assistant", "content": " ", "id": "msg_of_another", "type": "message"}
    question: Any = {"role": "user", "content": "Hello", "type": "message"}
    response = await ai.responses.create(model="m", input=[blank, question])
    assert response.conversation is not None
    conversation_id = str(UUID(response.conversation.id.removeprefix("conv_")))
    messages = await alice.messages(conversation_id)
    assert [message["content"] for message in messages] == ["Hello", PLAIN_TEXT]
    found = (await alice.get(f"/api/conversations/{conversation_id}")).json()
    assert found["title"] == "Hello"


@pytest.mark.case(66)
async def test_unknown_and_foreign_ids_are_not_found(ai: AsyncOpenAI, bob: Client) -> None:
    async with openai(bob) as theirs:
        foreign = await theirs.responses.create(model="m", input="Secret")
    assert foreign.conversation is not None
    for name in (UNKNOWN, "x", foreign.id.removeprefix("resp_")):
        calls = (
            ai.responses.retrieve(f"resp_{name}"),
            ai.responses.cancel(f"resp_{name}"),
            ai.responses.delete(f"resp_{name}"),
            ai.responses.input_items.list(f"resp_{name}"),
            ai.responses.create(model="m", input="x", previous_response_id=f"resp_{name}"),
            ai.responses.create(
                model="m",
                input=[
                    {"type": "item_reference", "id": f"msg_{name}"},
                    {"role": "user", "content": "x"},
                ],
            ),
        )
        for call in calls:
            with pytest.raises(NotFoundError) as missing:
                await call
            assert missing.value.type == "invalid_request_error"
    for conversation in (f"conv_{UNKNOWN}", "x", foreign.conversation.id):
        with pytest.raises(NotFoundError):
            await ai.conversations.retrieve(conversation)
        with pytest.raises(NotFoundError):
            await ai.responses.create(model="m", input="x", conversation=conversation)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": False}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 10**20}, "max_output_tokens"),
        ({"max_output_tokens": 1e300}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": "\0"}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": {}, "text": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"conversation": "conv_x", "previous_response_id": "resp_x"}, "previous_response_id"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    ai: AsyncOpenAI, inference: Inference, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        await ai.responses.create(**{"model": "m", "input": "x", **fields})
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
    assert inference.calls == []


async def test_null_is_as_if_absent(ai: AsyncOpenAI) -> None:
    names = (
        *("instructions", "conversation", "previous_response_id", "background", "stream", "store"),
        *("temperature", "top_p", "max_output_tokens", "metadata", "text", "reasoning", "tools"),
        *("tool_choice", "prompt"),
    )
    nested = {"text": {"format": None}, "reasoning": {"effort": None, "summary": None}}
    for fields in (dict.fromkeys(names), nested):
        answer = await ai.responses.create(model="m", input="x", extra_body=fields)
        assert answer.output_text == PLAIN_TEXT


@pytest.mark.case(33)
async def test_a_limit_out_of_bounds_is_refused(ai: AsyncOpenAI, alice: Client) -> None:
    made = await ai.responses.create(model="m", input="x")
    assert made.conversation is not None
    for path in (f"responses/{made.id}/input_items", f"conversations/{made.conversation.id}/items"):
        for limit in ("0", "101", "-1", "1e1", "00019999", "0001" + "9" * 30, "²", ""):
            response = await alice.request("GET", f"/v1/{path}", params={"limit": limit})
            assert response.status_code == 400, (path, limit)
            assert response.json()["error"]["param"] == "limit"


@pytest.mark.case(30)
async def test_a_body_of_any_depth_is_taken_or_refused(alice: Client) -> None:
    async def is_taken(levels: int) -> bool:
        response = await alice.request(
            "POST",
            "/v1/conversations",
            content=b'{"unknown":' + b"[" * levels + b"]" * levels + b"}",
            headers={"content-type": "application/json", "idempotency-key": str(levels)},
        )
        assert response.status_code in {200, 400}, levels
        return response.status_code == 200

    taken, refused = 1, 100_000
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if await is_taken(middle):
            taken = middle
        else:
            refused = middle
    # Some pass the parser, and nothing after it; where that is depends on the caller's own levels.
    for levels in range(refused - 20, refused + 40):
        await is_taken(levels)


async def test_every_error_has_their_shape(service: Service, alice: Client) -> None:
    async with AsyncOpenAI(
        base_url=f"{service.url}/v1", api_key="wrong", max_retries=0
    ) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.models.list()
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/responses", 405),
        ("POST", "/v1/responses", 400),
    ):
        response = await alice.request(method, path, content=b"{")
        assert response.status_code == status
        assert set(response.json()) == {"error"}
        assert response.headers["x-request-id"] == response.headers["x-trace-id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_fails_is_a_failed_response(
    ai: AsyncOpenAI, inference: Inference, stream: bool
) -> None:
    inference.once(Script().status(500))
    created: Any = await ai.responses.create(model="m", input="x", stream=stream)
    failed = (await collected(created))[-1].response if stream else created
    assert failed.status == "failed"
    assert failed.error.code == "server_error"
    assert await ai.responses.retrieve(failed.id) == failed


@pytest.mark.case(66)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_joins_the_answer_of_the_same_request(
    alice: Client, inference: Inference, stream: bool
) -> None:
    """As the official clients repeat a POST: with a counter, without a key."""
    inference.default = Script().tokens("Hi").done()
    body = {"model": "m", "input": "Hello", "stream": stream}

    async def ask(count: int, **fields: Any) -> httpx2.Response:
        return await alice.post(
            "/v1/responses",
            json=body | fields,
            headers={"x-stainless-retry-count": str(count)},
        )

    first, again, repeated = await ask(0), await ask(0), await ask(1)
    assert first.status_code == 200
    assert len(inference.calls) == 2, "the same question may be asked twice"
    assert repeated.content == again.content != first.content
    assert (await ask(1, input="Other")).status_code == 200
    assert len(inference.calls) == 3


@pytest.mark.case(65)
@pytest.mark.slow
async def test_a_background_stream_survives_its_replica(
    start_pair: StartPair, inference: Inference
) -> None:
    """What was shown stays: where the engine cannot go on, it ends as incomplete, elsewhere."""
    pair = await start_pair()
    inference.once(Script().tokens(*words(6)).hang())
    shown: list[Any] = []
    async with openai(pair.here) as here, openai(pair.there) as there:
        stream = await here.responses.create(model="m", input="Go", background=True, stream=True)
        with contextlib.suppress(APIConnectionError, httpx2.TransportError):
            async for event in stream:
                shown.append(event)
                if text_of(shown) == "".join(words(6)):
                    pair.services[0].kill()
        assert not shown[-1].type.startswith("response.in")
        response_id = shown[0].response.id
        rest = await collected(
            await there.responses.retrieve(
                response_id, stream=True, starting_after=shown[-1].sequence_number
            )
        )
        numbers = [event.sequence_number for event in (*shown, *rest)]
        assert numbers == list(range(len(numbers)))
        assert text_of([*shown, *rest]) == "".join(words(6))
        final = rest[-1].response
        assert (final.status, final.incomplete_details.reason) == ("incomplete", "interrupted")
        assert len(inference.calls) == 1
        assert await there.responses.retrieve(response_id) == final
        whole = await collected(await there.responses.retrieve(response_id, stream=True))
        assert whole == [*shown, *rest]


@pytest.mark.case(65)
@pytest.mark.slow
async def test_a_background_response_without_a_text_is_asked_again(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    inference.once(Script().head().hang())
    inference.default = Script().tokens(*words(3)).done()
    async with openai(pair.here) as here, openai(pair.there) as there:
        created = await here.responses.create(model="m", input="Go", background=True)
        await inference.call(0)
        pair.services[0].kill()
        events = await collected(await there.responses.retrieve(created.id, stream=True))
    assert text_of(events) == "".join(words(3))
    assert events[-1].type == "response.completed"


@pytest.mark.slow
async def test_a_background_stream_goes_on_elsewhere_after_each_event(
    start_pair: StartPair, inference: Inference
) -> None:
    """The connection is cut at every event, while the answer is written and after its end."""
    pair = await start_pair()
    gate = Gate()
    inference.once(Script().tokens(*words(4)).wait(gate).tokens(*words(2, 4)).done())
    seen: list[Any] = []
    async with openai(pair.here) as here, openai(pair.there) as there:
        created = await here.responses.create(model="m", input="Go", background=True)
        while not seen or not seen[-1].type.startswith("response.completed"):
            reader = (here, there)[len(seen) % 2]
            after: dict[str, Any] = {"starting_after": len(seen) - 1} if seen else {}
            stream = await reader.responses.retrieve(created.id, stream=True, **after)
            async for event in stream:
                seen.append(event)
                break
            await stream.close()
            if text_of(seen) == "".join(words(4)):
                gate.open()
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        assert text_of(seen) == "".join(words(6))
        assert await collected(await there.responses.retrieve(created.id, stream=True)) == seen


async def test_a_cut_stream_in_the_foreground_is_answered_to_its_end(
    ai: AsyncOpenAI, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens(*words(2)).wait(gate).tokens(*words(2, 2)).done())
    stream = await ai.responses.create(model="m", input="Go", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            response_id = event.item_id.replace("msg_", "resp_")
            break
    await stream.close()
    gate.open()

    async def whole() -> bool:
        found = await ai.responses.retrieve(response_id)
        return (found.status, found.output_text) == ("completed", "".join(words(4)))

    await eventually(whole, 20)


async def test_a_response_that_is_deleted_takes_with_it_what_follows(
    ai: AsyncOpenAI, inference: Inference
) -> None:
    first = await ai.responses.create(model="m", input="One")
    second = await ai.responses.create(model="m", input="Two", previous_response_id=first.id)
    third = await ai.responses.create(model="m", input="Three", previous_response_id=second.id)
    branch = await ai.responses.create(model="m", input="Side", previous_response_id=first.id)
    await ai.responses.delete(second.id)
    for gone in (second, third):
        with pytest.raises(NotFoundError):
            await ai.responses.retrieve(gone.id)
        with pytest.raises(NotFoundError):
            await ai.responses.delete(gone.id)
        with pytest.raises(NotFoundError):
            await ai.responses.create(model="m", input="More", previous_response_id=gone.id)
    for kept in (first, branch):
        assert await ai.responses.retrieve(kept.id) == kept
    await ai.responses.create(model="m", input="Again", previous_response_id=first.id)
    assert inference.calls[-1].contents == ["One", PLAIN_TEXT, "Again"]
    await ai.responses.create(model="m", input="On", previous_response_id=branch.id)
    assert inference.calls[-1].contents == ["One", PLAIN_TEXT, "Side", PLAIN_TEXT, "On"]


async def test_the_stream_of_a_response_that_is_deleted_ends(
    ai: AsyncOpenAI, inference: Inference
) -> None:
    """With its final event, or cut off where that is gone already: never as a whole answer."""
    inference.once(Script().tokens(*words(2)).hang())
    stream = await ai.responses.create(model="m", input="Go", background=True, stream=True)
    seen: list[Any] = []
    with contextlib.suppress(APIConnectionError):
        async for event in stream:
            seen.append(event)
            if text_of(seen) == "".join(words(2)) and event.type == "response.output_text.delta":
                await ai.responses.delete(seen[0].response.id)
    assert seen[-1].type in {"response.output_text.delta", "response.incomplete"}
    with pytest.raises(NotFoundError):
        await ai.responses.retrieve(seen[0].response.id)
    await inference.calls[-1].gone.wait()


@pytest.mark.case(66)
async def test_without_the_log_a_cursor_gets_the_final_event_under_its_number(
    ai: AsyncOpenAI, db: Any
) -> None:
    created = await ai.responses.create(model="m", input="Go", background=True)
    whole = await collected(await ai.responses.retrieve(created.id, stream=True))
    digits = created.id.removeprefix("resp_")

    async def numbered() -> bool:
        statement = "SELECT last_number FROM responses WHERE message_id = $1"
        return bool(await db.value(statement, digits) == len(whole) - 1)

    await eventually(numbered, 30)
    await db.fetch("DELETE FROM event_log WHERE message_id = $1", digits)
    await db.fetch("DELETE FROM generations WHERE message_id = $1", digits)
    rest = await collected(await ai.responses.retrieve(created.id, stream=True, starting_after=3))
    assert rest == whole[-1:]
    fresh = await collected(await ai.responses.retrieve(created.id, stream=True))
    assert [event.delta for event in fresh if event.type.endswith("text.delta")] == [PLAIN_TEXT]
    assert fresh[-1] == whole[-1]


@pytest.mark.case(66)
async def test_an_idempotency_key_holds_here_too(
    ai: AsyncOpenAI, alice: Client, inference: Inference
) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await ai.responses.create(model="m", input="Hello", extra_headers=key)
    assert await ai.responses.create(model="m", input="Hello", extra_headers=key) == first
    with pytest.raises(BadRequestError):
        await ai.responses.create(model="m", input="Other", extra_headers=key)
    assert len(inference.calls) == 1
    assert len((await alice.get("/api/conversations")).json()["items"]) == 1


@pytest.mark.case(97)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k-1"}])
async def test_the_client_s_own_repeats_make_one_conversation(
    alice: Client, headers: dict[str, str]
) -> None:
    transport = Lossy(losses=2)
    item: Any = {"role": "user", "content": "Hello", "type": "message"}
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai(alice, http_client=http, max_retries=2) as ai,
    ):
        created = await ai.conversations.create(items=[item], extra_headers=headers)
        listed = await ai.conversations.items.list(created.id)
    counts = [request.headers["x-stainless-retry-count"] for request in transport.sent[:3]]
    assert counts == ["0", "1", "2"]
    assert texts_of(listed.data) == ["Hello"]
    (conversation,) = (await alice.get("/api/conversations")).json()["items"]
    assert created.id == f"conv_{UUID(conversation['id']).hex}"
    assert conversation["title"] == "Hello"


@pytest.mark.case(97)
async def test_a_key_stands_for_one_conversation_of_one_user(
    alice: Client, bob: Client, inference: Inference
) -> None:
    path, key = "/v1/conversations", {"Idempotency-Key": "k-1"}

    async def create(client: Client, **body: Any) -> tuple[int, str]:
        response = await client.post(path, json=body, headers=key)
        return response.status_code, str(response.json().get("id"))

    (status, first), *others = await asyncio.gather(*(create(alice) for _ in range(5)))
    assert (status, {other for _, other in others}) == (200, {first})
    asked = {"model": "m", "input": "Hello", "conversation": first}
    assert (await alice.post("/v1/responses", json=asked)).status_code == 200
    assert await create(alice) == (200, first), "a key holds for a conversation in use, too"
    assert (await create(bob))[1] != first
    assert (await create(alice, metadata={"a": "b"}))[0] == 400
    assert (await alice.post("/v1/responses", json=asked, headers=key)).status_code == 400
    assert len(inference.calls) == 1
    for malformed in ("", "é", "k" * 256):
        refused = await alice.post(path, json={}, headers={"Idempotency-Key": malformed.encode()})
        assert refused.status_code == 400


@pytest.mark.case(97)
async def test_a_repeat_without_a_key_gets_no_conversation_that_is_in_use(
    alice: Client, bob: Client
) -> None:
    async def create(client: Client, count: int, **body: Any) -> str:
        headers = {"x-stainless-retry-count": str(count)}
        response = await client.post("/v1/conversations", json=body, headers=headers)
        return str(response.json()["id"])

    older, first = await create(alice, 0), await create(alice, 0)
    assert older != first, "a client may make two conversations that are alike"
    assert await create(alice, 1) == await create(alice, 2) == first
    assert len({first, await create(bob, 1), await create(alice, 1, metadata={"a": "b"})}) == 3
    item = {"role": "user", "content": "Hello", "type": "message"}
    await alice.post(f"/v1/conversations/{first}/items", json={"items": [item]})
    second = await create(alice, 1)
    assert second not in {older, first}
    assert await create(alice, 2) == second
