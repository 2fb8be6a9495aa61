"""Messages form a tree: edit, versions, switch, delete, fork; settings of conversations."""

import asyncio
import json
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script
from tests.support.shapes import (
    NOWHERE,
    check_conversation,
    check_invalid,
    check_message,
    check_problem,
)


async def answered(client: Client, *questions: str, **fields: Any) -> str:
    conversation = await client.create(**fields)
    for question in questions:
        await client.ask(conversation["id"], question)
    conversation_id: str = conversation["id"]
    return conversation_id


async def contents(client: Client, conversation_id: str) -> list[str]:
    messages = await client.messages(conversation_id)
    parents = [None, *(message["id"] for message in messages)]
    for message, parent in zip(messages, parents, strict=False):
        check_message(message)
        assert message["parent_id"] == parent
    return [message["content"] for message in messages]


async def versions(client: Client, conversation_id: str, message_id: str) -> list[dict[str, Any]]:
    response = await client.get(
        f"/api/conversations/{conversation_id}/messages/{message_id}/versions"
    )
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    for item in items:
        check_message({name: value for name, value in item.items() if name != "shown"})
        assert item["versions"] == len(items)
    assert [item["version"] for item in items] == list(range(1, len(items) + 1))
    assert sum(item["shown"] for item in items) <= 1
    return items


async def test_a_message_is_edited_by_sending_its_new_text_with_the_old_one_s_parent(
    alice: Client, inference: Inference
) -> None:
    conversation = await answered(alice, "One", "Two", "Three")
    path = await alice.messages(conversation)
    edited = await alice.ask(conversation, "Two!", parent_id=path[2]["parent_id"].upper())
    assert (await inference.call(3)).contents == ["One", PLAIN_TEXT, "Two!"]
    assert await contents(alice, conversation) == ["One", PLAIN_TEXT, "Two!", PLAIN_TEXT]
    shown = await alice.messages(conversation)
    assert shown[3] == edited
    assert (shown[2]["version"], shown[2]["versions"]) == (2, 2)
    old, new = await versions(alice, conversation, path[2]["id"])
    assert (old["content"], old["shown"], new["content"], new["shown"]) == (
        "Two",
        False,
        "Two!",
        True,
    )
    # And back: down to the newest leaf.
    response = await alice.request(
        "PUT", f"/api/conversations/{conversation}/path", json={"message_id": path[2]["id"]}
    )
    assert response.status_code == 200
    check_conversation(response.json(), messages=True)
    assert [m["content"] for m in response.json()["messages"]][::2] == ["One", "Two", "Three"]
    assert response.json() == await alice.conversation(conversation)
    await alice.ask(conversation, "Four")
    assert (await inference.call(4)).contents[::2] == ["One", "Two", "Three", "Four"]


async def test_null_is_a_new_first_message_and_no_key_is_shared_with_none(alice: Client) -> None:
    conversation = await answered(alice, "One")
    key = {"idempotency-key": "first"}
    body = {"content": "New", "parent_id": None}
    first = await alice.ask_raw(conversation, body, **key)
    assert first.status_code == 200
    assert await contents(alice, conversation) == ["New", PLAIN_TEXT]
    assert (await alice.ask_raw(conversation, body, **key)).json() == first.json()
    check_problem(await alice.ask_raw(conversation, {"content": "New"}, **key), 422, "errors")
    assert (await alice.conversation(conversation))["title"] == "One"


async def test_any_answer_is_regenerated_as_a_new_version(
    alice: Client, inference: Inference
) -> None:
    conversation = await answered(alice, "One", "Two")
    before = await alice.messages(conversation)
    gate = Gate()
    inference.once(Script().tokens("Better").wait(gate).done())
    async with alice.regenerate(conversation, message_id=before[1]["id"]) as stream:
        await stream.until("token")
        assert await alice.messages(conversation) == before
        running = stream.start["message_id"]
        # What is under way is no version yet.
        assert len(await versions(alice, conversation, before[1]["id"])) == 1
        check_problem(
            await alice.get(f"/api/conversations/{conversation}/messages/{running}/versions"), 404
        )
        gate.open()
        await stream.rest()
    assert (await inference.call(2)).contents == ["One"]
    assert await contents(alice, conversation) == ["One", "Better"]
    old, new = await versions(alice, conversation, running)
    assert (old["id"], old["shown"], new["id"], new["shown"]) == (
        before[1]["id"],
        False,
        running,
        True,
    )
    inference.once(Script().tokens("Bad").cut())
    async with alice.regenerate(conversation, message_id=before[3]["id"]) as stream:
        await stream.rest()
        assert stream.done["kept_message_id"] == before[3]["id"]
    assert [m["id"] for m in await alice.messages(conversation)] == [m["id"] for m in before]


async def test_a_deleted_message_takes_along_what_follows(alice: Client) -> None:
    conversation = await answered(alice, "One", "Two")
    path = await alice.messages(conversation)
    await alice.ask(conversation, "Two!", parent_id=path[1]["id"])
    edited = (await alice.messages(conversation))[2]
    url = f"/api/conversations/{conversation}/messages"
    assert (await alice.delete(f"{url}/{edited['id']}")).status_code == 204
    assert await alice.messages(conversation) == path
    check_problem(await alice.delete(f"{url}/{edited['id']}"), 404)
    check_problem(await alice.get(f"{url}/{edited['id']}/versions"), 404)
    assert (await alice.delete(f"{url}/{path[0]['id']}")).status_code == 204
    assert await alice.messages(conversation) == []


async def test_while_an_answer_runs_the_tree_stays(alice: Client, inference: Inference) -> None:
    conversation = await answered(alice, "One", "Two")
    path = await alice.messages(conversation)
    gate = Gate()
    inference.once(Script().tokens("x").wait(gate).done())
    url = f"/api/conversations/{conversation}"
    async with alice.send(conversation, "Three") as stream:
        await stream.until("token")
        running = stream.start["message_id"]
        for message in (path[0]["id"], running):
            for response in (
                await alice.delete(f"{url}/messages/{message}"),
                await alice.request("PUT", f"{url}/path", json={"message_id": message}),
            ):
                problem = check_problem(response, 409, "message_id")
                assert problem["message_id"] == running
        problem = check_problem(
            await alice.post(
                "/api/conversations",
                json={"fork": {"conversation_id": conversation, "message_id": running}},
            ),
            409,
            "message_id",
        )
        [item] = await versions(alice, conversation, running)
        assert (item["content"], item["status"], item["shown"]) == ("x", "generating", True)
        gate.open()
        await stream.rest()


async def test_a_send_says_what_is_to_happen_to_a_running_answer(
    alice: Client, inference: Inference
) -> None:
    conversation = await answered(alice)
    inference.once(Script().tokens("x").hang())
    async with alice.send(conversation, "One") as stream:
        await stream.until("token")
        await stream.close()
    # It has no reader any more: without a policy the next message would take its place.
    response = await alice.ask_raw(conversation, {"content": "Two", "if_busy": "reject"})
    check_problem(response, 409, "message_id")
    async with alice.join(conversation) as reader:
        await reader.until("token")
        answer = await alice.ask(conversation, "Two", if_busy="stop")
        assert answer["content"] == PLAIN_TEXT
        await reader.rest()
        assert reader.done["status"] == "stopped"
    assert await contents(alice, conversation) == ["One", "x", "Two", PLAIN_TEXT]


@pytest.mark.parametrize("method", ["send", "regenerate", "path", "fork", "fork from"])
@pytest.mark.parametrize("given", ["foreign", "missing", "malformed", "the conversation's"])
async def test_an_id_that_names_no_message_of_the_conversation_is_not_found(
    alice: Client, bob: Client, method: str, given: str
) -> None:
    conversation = await answered(alice, "One")
    foreign = await answered(bob, "One")
    ids = {
        "foreign": (await bob.messages(foreign))[1]["id"],
        "missing": NOWHERE,
        "malformed": "x" * 300,
        "the conversation's": conversation,
    }
    url = f"/api/conversations/{conversation}"
    before = await alice.messages(conversation)
    mine, id_ = before[1]["id"], ids[given]
    response = await {
        "send": lambda: alice.post(f"{url}/messages", json={"content": "x", "parent_id": id_}),
        "regenerate": lambda: alice.post(f"{url}/regenerate", json={"message_id": id_}),
        "path": lambda: alice.request("PUT", f"{url}/path", json={"message_id": id_}),
        "fork": lambda: alice.post(
            "/api/conversations",
            json={"fork": {"conversation_id": conversation, "message_id": id_}},
        ),
        "fork from": lambda: alice.post(
            "/api/conversations",
            json={
                "fork": {
                    "conversation_id": foreign if given == "foreign" else NOWHERE,
                    "message_id": mine,
                }
            },
        ),
    }[method]()
    check_problem(response, 404)
    assert await alice.messages(conversation) == before


async def test_only_an_answer_is_regenerated(alice: Client) -> None:
    conversation = await answered(alice, "One")
    question = (await alice.messages(conversation))[0]["id"]
    check_problem(
        await alice.post(
            f"/api/conversations/{conversation}/regenerate", json={"message_id": question}
        ),
        400,
    )


async def test_a_fork_goes_on_by_itself(alice: Client, inference: Inference) -> None:
    conversation = await answered(alice, "One", "Two", instructions="Be brief.")
    path = await alice.messages(conversation)
    fork = await alice.create(
        fork={"conversation_id": conversation, "message_id": path[1]["id"]}, tags=["copy"]
    )
    check_conversation(fork)
    assert (fork["title"], fork["instructions"], fork["tags"]) == ("One", "Be brief.", ["copy"])
    copies = await alice.messages(fork["id"])
    assert [message["content"] for message in copies] == ["One", PLAIN_TEXT]
    assert not {message["id"] for message in copies} & {message["id"] for message in path}
    await alice.ask(fork["id"], "Else")
    assert await alice.messages(conversation) == path


# --- settings of a conversation -------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "instructions": "Answer in Hindi. 🙏",
    "options": {"temperature": 0.5, "max_tokens": 7, "top_k": 3, "thinking_mode": True},
    "tags": ["work", "ämne"],
    "metadata": {"client": "phone", "empty": ""},
}


async def test_settings_are_kept_and_each_is_replaced_as_a_whole(alice: Client) -> None:
    conversation = await alice.create(**SETTINGS)
    check_conversation(conversation)
    assert {name: conversation[name] for name in SETTINGS} == SETTINGS
    url = f"/api/conversations/{conversation['id']}"
    changes: list[dict[str, Any]] = [
        {"options": {"top_k": 1}},
        {"metadata": {"other": "x"}},
        {"tags": []},
        {"instructions": None, "options": None},
    ]
    for change in changes:
        changed = (await alice.patch(url, json=change)).json()
        assert changed == conversation | change
        conversation = changed
    assert (await alice.patch(url, json={"tags": ["a", "b", "a"]})).json()["tags"] == ["a", "b"]
    assert (await alice.patch(url, json={"instructions": " "})).json()["instructions"] is None
    [listed] = (await alice.get("/api/conversations")).json()["items"]
    assert listed == await alice.conversation(conversation["id"]) | {} or listed["tags"] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("instructions", "x" * 8001, "instructions"),
        ("instructions", "\0", "instructions"),
        ("options", {"temperature": 3}, "options.temperature"),
        ("options", [], "options"),
        ("tags", ["x"] * 21, "tags"),
        ("tags", ["x" * 51], "tags.0"),
        ("tags", [" "], "tags.0"),
        ("metadata", {str(n): "" for n in range(17)}, "metadata"),
        ("metadata", {"k": "x" * 513}, "metadata.k"),
        ("metadata", {"k": 1}, "metadata.k"),
        ("metadata", {"k": "\ud800"}, "metadata.k"),
    ],
)
async def test_settings_out_of_bounds_are_refused(
    alice: Client, field: str, value: Any, named: str
) -> None:
    conversation = await alice.create(**SETTINGS)
    body = json.dumps({field: value}).encode()
    headers = {"content-type": "application/json"}
    for response in (
        await alice.post("/api/conversations", content=body, headers=headers),
        await alice.patch(
            f"/api/conversations/{conversation['id']}", content=body, headers=headers
        ),
    ):
        check_invalid(response, named)
    assert (await alice.conversation(conversation["id"]))[field] == SETTINGS[field]


async def test_instructions_and_options_of_the_conversation_reach_the_engine(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create(**SETTINGS)
    await alice.ask(conversation["id"], "One")
    call = await inference.call(0)
    assert call.contents[0].startswith("Answer in Hindi. 🙏\n\nThink step by step")
    assert call.contents[0].endswith("\n\nOne")
    assert (call.body["temperature"], call.body["max_tokens"], call.body["top_k"]) == (0.5, 7, 3)
    await alice.ask(
        conversation["id"], "Two", temperature=1.5, thinking_mode=False, max_tokens=None
    )
    call = await inference.call(1)
    assert call.contents[0] == "Answer in Hindi. 🙏\n\nOne"
    assert (call.body["temperature"], call.body["max_tokens"]) == (1.5, 7)


async def test_long_instructions_leave_the_message_its_room(
    alice: Client, inference: Inference
) -> None:
    conversation = await alice.create(instructions="i" * 8000)
    await alice.ask(conversation["id"], "m" * 8000)
    [content] = (await inference.call(0)).contents
    assert len(content) == 8000
    assert content == "i" * 4000 + "\n\n" + "m" * 3998


async def test_the_list_is_filtered_by_tag(alice: Client) -> None:
    tagged = [(await alice.create(tags=["a", f"n{n}"]))["id"] for n in range(3)]
    await alice.create()
    found: list[str] = []
    cursor = None
    while True:
        params = {"tag": "a", "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/api/conversations", params=params)).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == tagged[::-1]
    for tag, count in (("n1", 1), ("A", 0), ("a'", 0)):
        page = (await alice.get("/api/conversations", params={"tag": tag})).json()
        assert len(page["items"]) == count
    check_invalid(await alice.get("/api/conversations?tag=%00"), "tag")
    check_invalid(await alice.get(f"/api/conversations?tag={'x' * 51}"), "tag")


async def test_many_versions_come_in_pages(alice: Client) -> None:
    conversation = await answered(alice, "One")
    first = (await alice.messages(conversation))[1]["id"]
    for _ in range(3):
        async with alice.regenerate(conversation) as stream:
            await stream.rest()
    everything = await versions(alice, conversation, first)
    url = f"/api/conversations/{conversation}/messages/{first}/versions"
    newest = (await alice.get(url, params={"limit": 3})).json()
    assert newest["items"] == everything[1:]
    rest = (await alice.get(url, params={"before": newest["next_before"]})).json()
    assert rest == {"items": everything[:1], "next_before": None}
    check_problem(await alice.get(url, params={"before": NOWHERE}), 404)


async def test_edits_at_once_make_one_path(alice: Client) -> None:
    conversation = await answered(alice, "One", "Two")
    path = await alice.messages(conversation)
    url = f"/api/conversations/{conversation}"
    responses = await asyncio.gather(
        *(
            alice.ask_raw(conversation, {"content": "E", "parent_id": path[1]["id"]})
            for _ in range(3)
        ),
        alice.request("PUT", f"{url}/path", json={"message_id": path[2]["id"]}),
        alice.delete(f"{url}/messages/{path[3]['id']}"),
    )
    assert {response.status_code for response in responses} <= {200, 204, 409}
    await contents(alice, conversation)
