"""What the inference service is asked: the history, its budgets, and nothing else."""

from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, trace_id
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Call, Inference, Script
from tests.support.service import ServiceWith
from tests.support.waiting import eventually


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def check_sane(call: Call) -> None:
    """Roles alternate, the user's come first and last, nothing is blank or too long."""
    roles = [message["role"] for message in call.messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert all(content.strip() for content in call.contents)
    assert all(len(content) <= 8_000 for content in call.contents)
    assert sum(map(len, call.contents)) <= 32_000


async def test_the_history_goes_along_oldest_first(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    for number in range(3):
        inference.once(Script().tokens(f"Answer {number}").done())
        await alice.ask(conversation["id"], f"Question {number}")
    assert (await inference.call(0)).messages == [user("Question 0")]
    assert (await inference.call(2)).messages == [
        user("Question 0"),
        assistant("Answer 0"),
        user("Question 1"),
        assistant("Answer 1"),
        user("Question 2"),
    ]
    assert inference.refusals == []


async def test_other_conversations_do_not_go_along(
    alice: Client, bob: Client, inference: Inference
) -> None:
    await alice.ask((await alice.create())["id"], "Of another conversation")
    await bob.ask((await bob.create())["id"], "Of another user")
    await alice.ask((await alice.create())["id"], "Alone")
    assert (await inference.call()).messages == [user("Alone")]


@pytest.mark.case(7)
async def test_the_call_is_signed_traced_and_says_nothing_of_the_user(
    alice: Client, inference: Inference, internal_api_key: str
) -> None:
    conversation = await alice.create()
    trace = trace_id()
    await alice.ask_raw(
        conversation["id"],
        {"content": "Hello"},
        **{
            "x-trace-id": trace,
            "x-internal-api-key": "the-clients-own",
            "x-user-id": "somebody-else",
            "is_admin": "true",
            "cookie": "session=secret",
        },
    )
    call = await inference.call()
    assert call.headers["x-internal-api-key"] == internal_api_key
    assert call.headers["x-trace-id"] == trace
    assert call.headers["content-type"].split(";")[0] == "application/json"
    assert not {"authorization", "cookie", "x-user-id", "is_admin"} & set(call.headers)
    sent = repr(call.headers) + repr(call.body)
    assert alice.account is not None
    for private in (alice.account.token, alice.user_id, "the-clients-own"):
        assert private not in sent


async def test_an_unset_option_is_absent_or_a_number(alice: Client, inference: Inference) -> None:
    await alice.ask((await alice.create())["id"], "Hello")
    body = (await inference.call()).body
    for name in ("temperature", "max_tokens", "top_k"):
        assert body.get(name, 1) is not None
    assert body.get("force_web_search", False) is False


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, ["Q3"]),
        (2, ["Q3"]),
        (3, ["Q2", "A2", "Q3"]),
        (4, ["Q2", "A2", "Q3"]),
        (5, ["Q1", "A1", "Q2", "A2", "Q3"]),
        (50, ["Q1", "A1", "Q2", "A2", "Q3"]),
    ],
)
async def test_no_more_messages_go_along_than_are_allowed(
    service_with: ServiceWith,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    most: int,
    expected: list[str],
) -> None:
    client = clients(service_with(MAX_CONVERSATION_HISTORY=str(most)), auth.user())
    conversation = await client.create()
    for number in (1, 2, 3):
        inference.once(Script().tokens(f"A{number}").done())
        await client.ask(conversation["id"], f"Q{number}")
    call = await inference.call(2)
    check_sane(call)
    assert call.contents == expected


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([40, 40, 20], 3),
        ([40, 40, 21], 1),
        ([41, 39, 20], 3),
        ([10, 10, 10, 10, 60], 5),
        ([10, 10, 10, 10, 61], 3),
        ([10, 10, 10, 10, 100], 1),
        ([10, 10, 500], 1),
        ([500, 10, 10, 10, 10], 3),
    ],
    ids=repr,
)
async def test_no_more_characters_go_along_than_are_allowed(
    service_with: ServiceWith,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    lengths: list[int],
    expected: int,
) -> None:
    client = clients(service_with(MAX_TOKEN_BUDGET="100"), auth.user())
    conversation = await client.create()
    texts = [f"{number}" * length for number, length in enumerate(lengths, 1)]
    for question, answer in zip(texts[::2], [*texts[1::2], "end"], strict=True):
        inference.once(Script().tokens(answer).done())
        await client.ask(conversation["id"], question)
    call = await inference.call(len(lengths) // 2)
    check_sane(call)
    assert call.contents == texts[-expected:]


async def test_the_newest_message_goes_whole_even_over_the_budget(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    await alice.ask(conversation["id"], "Before")
    await alice.ask(conversation["id"], "x" * 8000)
    assert (await inference.call()).contents == ["x" * 8000]


async def test_the_default_budget_is_6000_characters(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    inference.once(Script().tokens("a" * 2000).done())
    await alice.ask(conversation["id"], "q" * 2000)
    inference.once(Script().tokens("b" * 1).done())
    await alice.ask(conversation["id"], "r" * 2000)
    assert len((await inference.call(1)).messages) == 3
    await alice.ask(conversation["id"], "s" * 2000)
    assert (await inference.call(2)).contents == ["r" * 2000, "b", "s" * 2000]


async def test_inference_never_gets_more_than_it_takes(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(MAX_TOKEN_BUDGET="1000000"), auth.user())
    conversation = await client.create()
    inference.default = Script().tokens("a" * 9000).done()
    for number in range(4):
        await client.ask(conversation["id"], f"{number}" * 8000)
    assert inference.refusals == []
    for call in inference.calls:
        check_sane(call)
    newest = await inference.call(3)
    assert newest.contents[-1] == "3" * 8000
    assert len(newest.messages) >= 3


@pytest.mark.parametrize(
    "failure",
    [Script().status(500), Script().header(content_type="text/html")],
    ids=["500", "html"],
)
async def test_questions_around_a_failed_answer_are_joined(
    alice: Client, inference: Inference, failure: Script
) -> None:
    conversation = await alice.create()
    inference.once(failure)
    await alice.ask_raw(conversation["id"], {"content": "First"})
    await alice.ask(conversation["id"], "Second")
    assert (await inference.call()).messages == [user("First\n\nSecond")]
    await alice.ask(conversation["id"], "Third")
    assert (await inference.call()).messages == [
        user("First\n\nSecond"),
        assistant(PLAIN_TEXT),
        user("Third"),
    ]


async def test_an_answer_cut_short_goes_along_as_far_as_it_went(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    inference.once(Script().tokens("Half of").cut())
    await alice.ask(conversation["id"], "First")
    await alice.ask(conversation["id"], "Second")
    assert (await inference.call()).messages == [
        user("First"),
        assistant("Half of"),
        user("Second"),
    ]


async def test_a_blank_answer_is_left_out(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    inference.once(Script().tokens(" \n").done())
    await alice.ask(conversation["id"], "First")
    await alice.ask(conversation["id"], "Second")
    assert (await inference.call()).messages == [user("First\n\nSecond")]


async def test_an_answer_stopped_before_its_first_token_is_left_out(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    inference.once(Script().head().hang())
    async with alice.send(conversation["id"], "First") as stream:
        await stream.until("start")
        first = await inference.call(0)
    await alice.ask(conversation["id"], "Second")
    await first.gone.wait()
    assert (await inference.call(1)).messages == [user("First\n\nSecond")]


async def test_joined_questions_are_cut_to_what_inference_takes(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(MAX_TOKEN_BUDGET="1000000"), auth.user())
    conversation = await client.create()
    for number in range(3):
        inference.once(Script().status(500))
        await client.ask_raw(conversation["id"], {"content": f"{number}" * 5000})
    await client.ask(conversation["id"], "newest" * 1000)
    call = await inference.call()
    check_sane(call)
    assert inference.refusals == []
    assert len(call.messages) == 1
    assert call.contents[0].endswith("newest" * 1000)


async def test_a_running_answer_is_no_part_of_its_own_history(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().wait(gate).tokens("a").done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        assert (await inference.call()).messages == [user("Hello")]
        gate.open()
        await stream.rest()


async def test_the_systems_prompt_stands_before_the_first_question(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(SYSTEM_PROMPT="You are a samosa."), auth.user())
    conversation = await client.create()
    await client.ask(conversation["id"], "Who are you?")
    await client.ask(conversation["id"], "Really?")
    for call in inference.calls:
        check_sane(call)
        assert call.contents[0].startswith("You are a samosa.")
        assert call.contents[0].endswith("Who are you?")
    assert (await inference.call(1)).contents[1:] == [PLAIN_TEXT, "Really?"]
    # What is saved is what the user wrote.
    assert (await client.messages(conversation["id"]))[0]["content"] == "Who are you?"


async def test_thinking_mode_adds_its_prompt_and_nothing_is_sent_of_it_otherwise(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(THINKING_PROMPT="Ponder."), auth.user())
    conversation = await client.create()
    await client.ask(conversation["id"], "Why?", thinking_mode=True)
    assert (await inference.call(0)).contents[0].startswith("Ponder.")
    assert (await inference.call(0)).contents[0].endswith("Why?")
    await client.ask((await client.create())["id"], "Why?", thinking_mode=False)
    assert (await inference.call(1)).messages == [user("Why?")]


async def test_prompts_and_long_questions_fit_together(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(SYSTEM_PROMPT="You are a samosa."), auth.user())
    await client.ask((await client.create())["id"], "x" * 8000, thinking_mode=True)
    call = await inference.call()
    check_sane(call)
    assert call.contents[0].startswith("You are a samosa.")
    assert inference.refusals == []


async def test_a_stopped_answers_text_goes_along(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    inference.once(Script().tokens("Some").hang())
    async with alice.send(conversation["id"], "First") as stream:
        await stream.until("token")
    await alice.ask(conversation["id"], "Second")

    async def all_three() -> bool:
        return (await inference.call(1)).messages == [
            user("First"),
            assistant("Some"),
            user("Second"),
        ]

    await eventually(all_three)
