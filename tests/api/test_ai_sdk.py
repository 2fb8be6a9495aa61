"""`/api/chat`, as `useChat` calls it: turns, repeats, edits, resuming, ids of the client's own."""

import asyncio
import json
import uuid
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.service import StartService
from tests.support.shapes import NOWHERE, check_invalid, check_problem
from tests.support.waiting import eventually


def user(text: str, name: str = "q1") -> dict[str, Any]:
    return {"id": name, "role": "user", "parts": [{"type": "text", "text": text}]}


def turn(chat: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": chat, "messages": list(messages), "trigger": "submit-message", **fields}


def again(chat: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return turn(chat, *messages, **fields) | {"trigger": "regenerate-message"}


@pytest.fixture
def chat() -> str:
    """A client's own id, with all that has a meaning in paths, or in patterns of them."""
    return f"team/a..b/\n{uuid.uuid4()}/stream\n"


def path(chat: str, *, encoded: bool = True) -> str:
    return f"/api/chat/{quote(chat, safe='' if encoded else '/')}"


def chunks(response: httpx2.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.text.endswith("data: [DONE]\n\n")
    lines = [line for line in response.text.split("\n\n") if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def text(said: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in said if chunk["type"] == "text-delta")


async def post(client: Client, body: dict[str, Any]) -> list[Any]:
    return chunks(await client.request("POST", "/api/chat", json=body))


async def shown(client: Client, chat: str) -> list[tuple[str, str]]:
    response = await client.get(f"{path(chat)}/messages")
    assert response.status_code == 200, response.text
    return [
        (message["role"], "".join(part.get("text", "") for part in message["parts"]))
        for message in response.json()
    ]


async def conversations(client: Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/api/conversations")).json()["items"]
    return items


async def running(client: Client, body: dict[str, Any]) -> "asyncio.Task[httpx2.Response]":
    """Post, and return once the answer runs."""
    task = asyncio.create_task(client.request("POST", "/api/chat", json=body))

    async def runs() -> bool:
        response = await client.request("HEAD", f"{path(body['id'])}/stream")
        return response.status_code == 200

    await eventually(runs, 10)
    return task


async def test_a_turn_is_answered_with_the_protocol_s_headers(alice: Client, chat: str) -> None:
    response = await alice.request("POST", "/api/chat", json=turn(chat, user("Hello")))
    said = chunks(response)
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-workflow-run-id"].startswith("run_")
    assert text(said) == PLAIN_TEXT
    (listed,) = await conversations(alice)
    assert listed["title"] == "Hello"
    messages = (await alice.get(f"{path(chat)}/messages")).json()
    assert messages[1] == {
        "id": said[0]["messageId"],
        "role": "assistant",
        "metadata": {"status": "complete"},
        "parts": [{"type": "step-start"}, {"type": "text", "text": PLAIN_TEXT, "state": "done"}],
    }
    question = uuid.uuid5(uuid.UUID(listed["id"]), "q1")
    assert messages[0]["id"] == f"msg_{question.hex}"
    assert messages == (await alice.get(f"{path(chat, encoded=False)}/messages")).json()
    assert messages == (await alice.get(f"/api/chat/{listed['id']}/messages")).json()


@pytest.mark.case(66)
async def test_a_repeated_post_makes_nothing_twice(
    alice: Client, inference: Inference, chat: str
) -> None:
    gate = Gate("all have asked")
    inference.once(Script().tokens("One").wait(gate).tokens(" two").done())
    body = turn(chat, user("Hello"))
    asked = [asyncio.create_task(post(alice, body)) for _ in range(3)]
    asked.append(asyncio.create_task(post(alice, turn(chat) | {"message": user("Hello")})))
    await inference.call(0)
    gate.open()
    said = await asyncio.gather(*asked)
    assert [text(one) for one in said] == ["One two"] * 4
    assert await post(alice, body) == said[0]
    assert len({one[0]["messageId"] for one in said}) == 1
    assert len(inference.calls) == 1
    assert len(await shown(alice, chat)) == 2
    # Another text under this id is another message, and its repeat is that one again.
    for _ in range(2):
        assert text(await post(alice, turn(chat, user("Other")))) == PLAIN_TEXT
    assert [content for role, content in await shown(alice, chat) if role == "user"] == [
        "Hello",
        "Other",
    ]


@pytest.mark.case(77)
async def test_a_repeated_regeneration_is_one_and_a_second_one_is_another(
    alice: Client, inference: Inference, chat: str, db: Any
) -> None:
    """A repeat names the answer that is hidden by now; a page that has read the new one, that."""
    first = await post(alice, turn(chat, user("A")))
    await post(alice, turn(chat, user("B", "q2")))
    inference.once(Script().tokens("Two").done(), Script().tokens("Three").done())
    body = again(chat, user("A"), messageId=first[0]["messageId"])
    second = await post(alice, body)
    assert await post(alice, body) == second
    third = await post(alice, again(chat, user("A"), messageId=second[0]["messageId"]))
    assert (text(second), text(third)) == ("Two", "Three")
    assert await post(alice, body) == third
    assert len(inference.calls) == 4
    # Without an id, it is the answer that is shown; with another model, no repeat.
    await post(alice, again(chat, user("A")))
    await post(alice, body | {"model_tag": "d20"})
    assert len(inference.calls) == 6
    answer = first[0]["messageId"].removeprefix("msg_")
    (listed,) = await conversations(alice)
    await alice.request(
        "PUT",
        f"/api/conversations/{listed['id']}/path",
        json={"message_id": str(uuid.UUID(answer))},
    )
    await post(alice, body)
    assert len(inference.calls) == 7, "it is shown: the user asks for another version"
    await db.fetch(
        "UPDATE messages SET created_at = created_at - interval '11 minutes'"
        " WHERE conversation_id = $1",
        listed["id"],
    )
    await post(alice, body)
    assert len(inference.calls) == 8, "that is too long ago for a repeat"


@pytest.mark.case(77)
async def test_a_repeat_after_a_day_gets_the_answer_as_it_was_saved(
    alice: Client, inference: Inference, chat: str, db: Any
) -> None:
    inference.once(
        Script().event({"reasoning": "Hm."}).tokens("One ", "two").done(),
        Script().tokens("Half").cut(),
    )
    for message in (user("A"), user("B", "q2")):
        said = await post(alice, turn(chat, message))
        name = said[0]["messageId"].removeprefix("msg_")
        await db.fetch("DELETE FROM event_log WHERE message_id = $1", name)
        await db.fetch("DELETE FROM generations WHERE message_id = $1", name)
        late = await post(alice, turn(chat, message))
        assert text(late) == text(said)
        assert late[0] == said[0]
        ending = next(i for i, chunk in enumerate(said) if chunk["type"] == "finish-step")
        assert late[-len(said[ending:]) :] == said[ending:]
    assert len(inference.calls) == 2


async def test_an_edit_is_a_version_and_the_old_id_names_the_one_shown(
    alice: Client, inference: Inference, chat: str
) -> None:
    await post(alice, turn(chat, user("A")))
    await post(alice, turn(chat, user("More", "q2")))
    for content in ("B", "A", "B"):
        edit = turn(chat, user(content), messageId="q1")
        said = await post(alice, edit)
        assert await post(alice, edit) == said, "a repeat"
        assert (await shown(alice, chat))[0] == ("user", content)
        assert len(await shown(alice, chat)) == 2
    calls = len(inference.calls)
    assert calls == 5
    inference.once(Script().tokens("Again").done())
    assert text(await post(alice, again(chat, user("A"), messageId="q1"))) == "Again"
    assert (await inference.call(calls)).contents == ["B"]
    assert await shown(alice, chat) == [("user", "B"), ("assistant", "Again")]


async def test_an_answer_is_regenerated_by_its_id_by_its_question_or_as_the_last(
    alice: Client, inference: Inference, chat: str
) -> None:
    first = await post(alice, turn(chat, user("A")))
    await post(alice, turn(chat, user("B", "q2")))
    for body, expected in (
        (again(chat, user("B", "q2")), ["A", PLAIN_TEXT, "B"]),
        (again(chat), ["A", PLAIN_TEXT, "B"]),
        (again(chat, user("A"), messageId=first[0]["messageId"]), ["A"]),
        (again(chat, user("A"), messageId="q1"), ["A"]),
        (again(chat, user("Lost", "q9")), ["A", PLAIN_TEXT, "Lost"]),
    ):
        calls = len(inference.calls)
        await post(alice, body)
        assert (await inference.call(calls)).contents == expected
    check_problem(await alice.request("POST", "/api/chat", json=again(chat, messageId="x")), 404)


async def test_a_message_that_is_sent_without_one_is_no_edit(
    alice: Client, inference: Inference, chat: str
) -> None:
    """`sendMessage()`: again where the answer was cut off, else what there is."""
    inference.once(Script().tokens("Half").cut())
    await post(alice, turn(chat, user("A")))
    calls = len(inference.calls)
    said = await post(alice, turn(chat, user("A"), messageId="q1"))
    assert text(said) == PLAIN_TEXT
    assert await post(alice, turn(chat, user("A"), messageId="q1")) == said
    answer = {"id": said[0]["messageId"], "role": "assistant"}
    # As the client has it: of an answer that was cut off at its start, or of one of any length.
    long = {"type": "text", "text": "x" * 8001, "state": "done"}
    for parts in ([], [{"type": "step-start"}], [{"type": "step-start"}, long]):
        shown = answer | {"parts": parts}
        assert await post(alice, turn(chat, user("A"), shown, messageId=answer["id"])) == said
    assert len(inference.calls) == calls + 1


async def test_a_running_answer_is_resumed_stopped_and_refuses_another_message(
    alice: Client, inference: Inference, chat: str
) -> None:
    gate = Gate("never")
    inference.once(Script().tokens("One").wait(gate).done())
    task = await running(alice, turn(chat, user("A")))
    assert await shown(alice, chat) == [("user", "A")]
    check_problem(
        await alice.request("POST", "/api/chat", json=turn(chat, user("B", "q2"))),
        409,
        "message_id",
    )
    async with alice.http.stream("GET", f"{path(chat)}/stream") as late:
        stopped = await alice.request("POST", f"{path(chat)}/stop")
        assert stopped.json()["metadata"] == {"status": "stopped"}
        await late.aread()
    said = chunks(await task)
    assert [chunk["type"] for chunk in said[-3:]] == ["message-metadata", "abort", "finish"]
    assert chunks(late) == said
    assert (await alice.get(f"{path(chat)}/stream")).status_code == 204
    assert (await alice.request("POST", f"{path(chat)}/stop")).json() == stopped.json()


async def test_a_stream_is_resumed_at_a_chunk_of_its_run(
    alice: Client, inference: Inference, chat: str
) -> None:
    inference.once(Script().tokens(*words(5)).done())
    response = await alice.request("POST", "/api/chat", json=turn(chat, user("A")))
    run = response.headers["x-workflow-run-id"]
    whole = chunks(response)
    for count in (0, 1, 4, len(whole) - 1, len(whole)):
        rest = await alice.get(f"/api/chat/{run}/stream?startIndex={count}")
        assert chunks(rest) == whole[count:]
    assert chunks(await alice.get(f"/api/chat/{run}/stream?startIndex=-3")) == whole
    check_invalid(await alice.get(f"/api/chat/{run}/stream?startIndex=x"), "startIndex")


async def test_an_old_answer_is_left_out_while_it_is_regenerated(
    alice: Client, inference: Inference, chat: str
) -> None:
    await post(alice, turn(chat, user("A")))
    gate = Gate("go on")
    inference.once(Script().tokens("New").wait(gate).done())
    task = await running(alice, again(chat, user("A")))
    repeat = again(chat, user("A"))
    async with alice.http.stream("POST", "/api/chat", json=repeat) as second:
        # Its head is there, so it has joined the answer.
        assert await shown(alice, chat) == [("user", "A")]
        gate.open()
        await second.aread()
        assert text(chunks(await task)) == text(chunks(second)) == "New"
    assert await shown(alice, chat) == [("user", "A"), ("assistant", "New")]


@pytest.mark.case(66)
async def test_an_id_means_one_conversation_of_each_user(
    alice: Client, bob: Client, chat: str
) -> None:
    conversation = await alice.create(title="Alice's")
    for name in (chat, conversation["id"]):
        await post(alice, turn(name, user("A")))
        assert (await bob.get(f"{path(name)}/stream")).status_code == 204
        for method, end in (("GET", "messages"), ("POST", "stop")):
            foreign = await bob.request(method, f"{path(name)}/{end}")
            unknown = await bob.request(method, f"/api/chat/{NOWHERE}/{end}")
            check_problem(foreign, 404)
            check_problem(unknown, 404)
        await post(bob, turn(name, user("B")))
        assert (await shown(alice, name))[0] == ("user", "A")
        assert (await shown(bob, name))[0] == ("user", "B")
    assert conversation["id"] not in [item["id"] for item in await conversations(bob)]


@pytest.mark.case(66)
async def test_a_whole_history_is_taken_up_to_four_megabytes(alice: Client, chat: str) -> None:
    filling = user("x" * 1_000_000, "old")
    body = turn(chat, filling, filling, filling, filling, user("Hello"))
    assert text(await post(alice, body)) == PLAIN_TEXT
    response = await alice.request(
        "POST", "/api/chat", json=turn(chat, filling, filling, *body["messages"])
    )
    check_problem(response, 413)


@pytest.mark.case(66)
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": "a\0b"}, "id"),
        ({"id": None}, "id"),
        ({"messages": []}, "messages"),
        ({"messages": [{"id": "a", "role": "user", "parts": []}]}, "messages.parts"),
        ({"messages": [{"id": "a", "role": "robot", "parts": [{"type": "text"}]}]},
         "messages.role"),
        ({"messages": [user("  ")]}, "parts"),
        ({"messages": [user("x" * 8001)]}, "messages.parts.0.text"),
        ({"messages": [{"id": "a", "role": "user", "parts": [{"type": "file", "url": "data:,"}]}]},
         "parts"),
        ({"messages": [{"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "x"}]}]},
         "messages"),
        ({"trigger": "resume"}, "trigger"),
        ({"messageId": 5}, "messageId"),
        ({"temperature": 3}, "temperature"),
    ],
)  # fmt: skip
async def test_what_cannot_be_sent_creates_nothing(
    alice: Client, chat: str, change: dict[str, Any], field: str
) -> None:
    response = await alice.request("POST", "/api/chat", json=turn(chat, user("Hello")) | change)
    check_invalid(response, field)
    assert await conversations(alice) == []


async def test_a_stream_without_an_end_is_cut_off(
    start_service: StartService,
    fresh_database_url: str,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    chat: str,
) -> None:
    """At a deploy. Closed in order, it would be shown as a finished answer."""
    inference.once(Script().tokens("One").wait(Gate("never")).done())
    # A replica on a shared database would take the answer over, and ask the engine in a later test.
    service = start_service(DATABASE_URL=fresh_database_url)
    client = clients(service, auth.user())
    task = await running(client, turn(chat, user("A")))
    service.terminate()
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await task
