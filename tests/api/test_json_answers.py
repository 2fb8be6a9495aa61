"""`Accept: application/json`: the finished answer in one piece."""

import asyncio

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import PLAIN, PLAIN_TEXT, Inference, Script
from tests.support.service import ServiceWith
from tests.support.shapes import check_message, check_problem
from tests.support.waiting import eventually


async def test_the_finished_message_is_the_response(alice: Client) -> None:
    conversation = await alice.create()
    response = await alice.ask_raw(conversation["id"], {"content": "Hello"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    message = response.json()
    check_message(message)
    assert message["conversation_id"] == conversation["id"]
    assert (message["role"], message["status"]) == ("assistant", "complete")
    assert message["content"] == PLAIN_TEXT
    assert message["token_count"] == len(PLAIN)
    assert message["inference_time_ms"] > 0
    assert (await alice.messages(conversation["id"]))[1] == message


async def test_regenerate_answers_in_one_piece_too(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    await alice.ask(conversation["id"], "Hello")
    inference.once(Script().tokens("Better").done())
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/regenerate",
        headers={"accept": "application/json"},
    )
    assert response.status_code == 200
    check_message(response.json())
    assert response.json()["content"] == "Better"
    assert (await alice.messages(conversation["id"]))[1] == response.json()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script().status(500), 502),
        (Script().status(503), 503),
        (Script().status(400), 502),
        (Script().header(content_type="text/html").raw(b"<html>"), 502),
        (Script().redirect("http://127.0.0.1:9/generate"), 502),
        (Script().event({"error": "out of memory"}), 502),
        (Script().hang(), 504),
        (Script().head().hang(), 504),
    ],
    ids=["500", "503", "400", "HTML", "redirect", "error", "silence", "head and silence"],
)
async def test_a_failure_is_a_status_with_the_messages_id(
    service_with: ServiceWith,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    script: Script,
    status: int,
) -> None:
    # The short time for the first token could end in one of the further tries after a 503.
    limit = {"FIRST_TOKEN_TIMEOUT_SECONDS": "1"} if status == 504 else {}
    client = clients(service_with(**limit), auth.user())
    conversation = await client.create()
    inference.on("Hello", script)  # also for each further try
    response = await client.ask_raw(conversation["id"], {"content": "Hello"})
    problem = check_problem(response, status, "message_id")
    question, answer = await client.messages(conversation["id"])
    assert (question["content"], answer["status"]) == ("Hello", "failed")
    assert answer["id"] == problem["message_id"]


async def test_refused_connections_are_a_503(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    with inference.refusing():
        response = await alice.ask_raw(conversation["id"], {"content": "Hello"})
    problem = check_problem(response, 503, "message_id")
    answer = (await alice.messages(conversation["id"]))[1]
    assert (answer["id"], answer["status"]) == (problem["message_id"], "failed")


@pytest.mark.parametrize(
    "script",
    [Script().tokens("Half"), Script().tokens("Half").cut(), Script().tokens("Half").reset()],
    ids=["end", "cut", "reset"],
)
async def test_an_interrupted_answer_is_returned_as_far_as_it_went(
    alice: Client, inference: Inference, script: Script
) -> None:
    conversation = await alice.create()
    inference.once(script)
    message = await alice.ask(conversation["id"], "Hello")
    assert (message["content"], message["status"]) == ("Half", "interrupted")


async def test_an_answer_completes_though_its_client_stops_waiting(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    conversation = await alice.create()
    waiting = asyncio.create_task(alice.ask(conversation["id"], "Hello"))
    await gate.arrived.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.open()

    async def saved() -> bool:
        answer = (await alice.messages(conversation["id"]))[1]
        return (answer["content"], answer["status"]) == ("ab", "complete")

    await eventually(saved)


async def test_a_running_answer_refuses_another_in_json_too(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    conversation = await alice.create()
    first = asyncio.create_task(alice.ask(conversation["id"], "One"))
    await gate.arrived.wait()
    response = await alice.ask_raw(conversation["id"], {"content": "Two"})
    problem = check_problem(response, 409, "message_id")
    gate.open()
    assert (await first)["id"] == problem["message_id"]
    assert [message["content"] for message in await alice.messages(conversation["id"])] == [
        "One",
        "a",
    ]
