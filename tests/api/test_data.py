"""All of a user's data: exported, imported from here and from elsewhere, erased."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.shapes import NOWHERE, check_conversation, check_problem
from tests.support.trees import FAULTS

from chat_api.db import exports

Document = dict[str, Any]


async def exported(client: Client) -> list[Document]:
    response = await client.get("/api/export")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["content-disposition"].startswith("attachment; filename*=")
    return [json.loads(line) for line in response.content.splitlines()]


async def imported(client: Client, content: bytes | list[Document]) -> Document:
    if isinstance(content, list):
        content = json.dumps(content).encode()
    response = await client.post("/api/import", content=content)
    assert response.status_code == 200, response.text
    report: Document = response.json()
    return report


async def check_trees(client: Client, db: Database) -> None:
    rows = await db.fetch("SELECT id FROM conversations WHERE user_id = $1", client.user_id)
    for row in rows:
        assert await db.fetch(FAULTS, row["id"]) == []


def told(messages: list[Document]) -> list[Document]:
    """Messages without their ids, with the place of the parent, in a fixed order."""
    texts = {message["id"]: message["content"] for message in messages} | {None: None}
    hidden = {"id", "conversation_id"}
    return sorted(
        (
            {name: value for name, value in message.items() if name not in hidden}
            | {"parent_id": texts[message["parent_id"]]}
            for message in messages
        ),
        key=lambda message: (message["created_at"], message["content"]),
    )


async def with_a_tree(client: Client) -> str:
    conversation = await client.create(
        title="Samosas",
        tags=["food"],
        metadata={"from": "phone"},
        instructions="Be brief.",
        options={"temperature": 0.5},
    )
    conversation_id: str = conversation["id"]
    await client.ask(conversation_id, "One")
    path = await client.messages(conversation_id)
    await client.ask(conversation_id, "Two\n\u2028 \U0001f95f")
    await client.ask(conversation_id, "Two again", parent_id=path[1]["id"])
    await client.patch(f"/api/conversations/{conversation_id}", json={"is_favorited": True})
    return conversation_id


@pytest.mark.case(70)
async def test_an_export_imported_elsewhere_is_the_same_and_imported_again_changes_nothing(
    alice: Client, bob: Client, db: Database
) -> None:
    conversation_id = await with_a_tree(alice)
    await alice.create(title=" Two  spaces,\u2028\ttwo lines ")
    response = await alice.get("/api/export")
    original = {line["title"]: line for line in await exported(alice)}
    assert len(original["Samosas"]["messages"]) == 6
    assert await imported(alice, response.content) == {
        "imported": 0,
        "unchanged": 2,
        "failed": [],
    }
    report = await imported(bob, response.content)
    assert report == {"imported": 2, "unchanged": 0, "failed": []}
    copied = {line["title"]: line for line in await exported(bob)}
    for title, line in original.items():
        copy = copied[title]
        own = ("id", "user_id", "messages")
        assert {k: v for k, v in copy.items() if k not in own} == {
            k: v for k, v in line.items() if k not in own
        }
        assert copy["user_id"] == bob.user_id
        assert told(copy["messages"]) == told(line["messages"])
    await check_trees(bob, db)
    for content in (response.content, (await bob.get("/api/export")).content):
        assert (await imported(bob, content))["unchanged"] == 2
    assert len(await exported(bob)) == 2
    one = await alice.get(f"/api/conversations/{conversation_id}/export")
    assert one.headers["content-type"] == "application/json"
    assert "Samosas.json" in one.headers["content-disposition"]
    assert one.json() == original["Samosas"]


async def test_a_conversation_in_markdown_is_what_is_shown(alice: Client) -> None:
    conversation_id = await with_a_tree(alice)
    url = f"/api/conversations/{conversation_id}/export"
    response = await alice.get(url, params={"format": "markdown"})
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.text.startswith("# Samosas\n\n## User\n\nOne\n\n## Assistant\n")
    assert "Two again" in response.text
    assert "\u2028" not in response.text
    check_problem(await alice.get(url, params={"format": "pdf"}), 422, "errors")
    check_problem(await alice.get(f"/api/conversations/{NOWHERE}/export"), 404)


async def test_a_running_answer_is_exported_as_far_as_it_is_written(
    alice: Client, bob: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("So far").wait(gate).done())
    async with alice.send(conversation["id"], "Go") as stream:
        await stream.until("token")
        (line,) = await exported(alice)
        assert [m["content"] for m in line["messages"]] == ["Go", "So far"]
        await imported(bob, [line])
        gate.open()
        await stream.rest()
    (copy,) = await exported(bob)
    assert [m["status"] for m in copy["messages"]] == ["complete", "interrupted"]


@pytest.mark.parametrize("options", [None, {}, {"top_k": 0}, {"thinking_mode": False}])
async def test_options_are_imported_as_exported(
    alice: Client, bob: Client, options: dict[str, Any] | None
) -> None:
    await alice.create(title="Samosas", options=options)
    response = await alice.get("/api/export")
    assert (await imported(bob, response.content))["imported"] == 1
    (copy,) = await exported(bob)
    assert copy["options"] == options


@pytest.mark.case(100)
async def test_each_page_of_an_export_looks_at_each_version_a_few_times(
    alice: Client, db: Database
) -> None:
    versions = 2_000
    conversation = await alice.create()
    question = (await alice.ask(conversation["id"], "One"))["parent_id"]
    await db.execute(
        "INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag, "
        "parent_id, version, replaces) SELECT id, $1, 1, 'assistant', n::text, 'complete', 'm', "
        "$2, n, id FROM (SELECT gen_random_uuid() AS id, n FROM generate_series(2, $3) AS n) AS v",
        conversation["id"],
        question,
        versions,
    )
    (line,) = await exported(alice)
    answers = [m for m in line["messages"] if m["role"] == "assistant"]
    assert {m["version"] for m in answers} == set(range(1, versions + 1))
    assert all(m["content"] == str(m["version"]) for m in answers if not m["shown"])
    assert {m["versions"] for m in answers} == {versions}
    assert [m["version"] for m in answers if m["shown"]] == [1]

    (row,) = await db.fetch(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {exports._READ_MESSAGES}",
        alice.user_id,
        conversation["id"],
        0,
        NOWHERE,
    )
    assert rows_of(json.loads(row["QUERY PLAN"])[0]["Plan"]) < 50 * versions


def rows_of(plan: dict[str, Any]) -> float:
    """How many rows all steps of a plan gave or threw away."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Join Filter", 0)
    return float(own * plan["Actual Loops"]) + sum(map(rows_of, plan.get("Plans", ())))


async def test_a_long_export_comes_in_pages_and_is_whole(alice: Client, db: Database) -> None:
    conversation = await alice.create()
    await db.execute(
        "INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag, "
        "parent_id, version) SELECT gen_random_uuid(), $1, n, 'user', repeat('x', 3000), "
        "'complete', 'default', NULL, NULL FROM generate_series(0, 1299) AS n",
        conversation["id"],
    )
    (line,) = await exported(alice)
    ids = [message["id"] for message in line["messages"]]
    assert len(ids) == len(set(ids)) == 1300
    assert [m["parent_id"] for m in line["messages"]] == [None, *ids[:-1]]


# --- files of other programs ----------------------------------------------------------------------


def chatgpt_node(name: str, parent: str | None, role: str, *parts: Any, **fields: Any) -> Document:
    message = {
        "id": name,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": fields.pop("create_time", 1_700_000_000.5),
        "content": fields.pop("content", {"content_type": "text", "parts": list(parts)}),
        "status": "finished_successfully",
        "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
        "recipient": "all",
    }
    return {"id": name, "parent": parent, "children": [], "message": message | fields}


CHATGPT: Document = {
    "title": "Trip",
    "create_time": 1_700_000_000.25,
    "update_time": 1_700_000_100.0,
    "conversation_id": "c-1",
    "current_node": "a2",
    "mapping": {
        node["id"]: node
        for node in (
            {"id": "root", "parent": None, "children": ["sys"], "message": None},
            chatgpt_node("sys", "root", "system", ""),
            chatgpt_node("q", "sys", "user", "Where?", create_time=None),
            chatgpt_node("a1", "q", "assistant", "There."),
            chatgpt_node(
                "think",
                "q",
                "assistant",
                content={"content_type": "thoughts", "thoughts": [{"content": "Hm."}]},
            ),
            chatgpt_node("call", "think", "assistant", "{}", recipient="python"),
            chatgpt_node("tool", "call", "tool", "42"),
            chatgpt_node("a2", "tool", "assistant", "Here.", {"content_type": "image"}),
            chatgpt_node("later", "a2", "user", "Thanks\0"),
            chatgpt_node("lost", "no such node", "user", "Lost"),
        )
    },
}
WEBUI_CHAT: Document = {
    "title": "Cats",
    "params": {"system": "Purr."},
    "tags": ["pets"],
    "history": {
        "currentId": "b",
        "messages": {
            "a": {
                "id": "a",
                "parentId": None,
                "role": "user",
                "content": "Cat?",
                "timestamp": 1.7e9,
            },
            "b": {
                "id": "b",
                "parentId": "a",
                "role": "assistant",
                "model": "llama3",
                "content": '<details type="reasoning" done="true"><summary>T</summary>\nHm.\n'
                "</details>\nCat.",
                "timestamp": 1_700_000_001_000,
                "usage": {"prompt_tokens": 5, "completion_tokens": 2},
            },
            "c": {"id": "c", "parentId": "a", "role": "assistant", "content": "Dog."},
        },
    },
}
LIBRECHAT: Document = {
    "conversationId": "l-1",
    "title": "Tea",
    "createdAt": {"$date": "2023-11-14T22:13:20.000Z"},
    "messages": [
        {
            "messageId": "m1",
            "parentMessageId": "00000000-0000-0000-0000-000000000000",
            "isCreatedByUser": True,
            "sender": "User",
            "text": "Tea?",
            "createdAt": "2023-11-14T22:13:20.000Z",
        },
        {
            "messageId": "m2",
            "parentMessageId": "m1",
            "isCreatedByUser": False,
            "model": "claude",
            "content": [{"type": "think", "think": "Hm."}, {"type": "text", "text": "Yes."}],
        },
    ],
}
FILES = {
    "chatgpt": ([CHATGPT], "Trip", ["Where?", "Here.\n\n[attachment]", "Thanks\ufffd"], 5),
    "open-webui": (
        [{"id": "w-1", "title": "Cats", "chat": WEBUI_CHAT, "pinned": True, "meta": {}}],
        "Cats",
        ["Cat?", "Cat."],
        3,
    ),
    "open-webui, first versions": (
        [
            {
                "id": "w-2",
                "chat": {
                    "title": "New Chat",
                    "messages": [
                        {"role": "user", "content": "Old?"},
                        {"role": "assistant", "content": "Old."},
                    ],
                },
            }
        ],
        "Old?",
        ["Old?", "Old."],
        2,
    ),
    "librechat": (LIBRECHAT, "Tea", ["Tea?", "Yes."], 2),
    "librechat, recursive": (
        {
            "title": None,
            "conversationId": "l-2",
            "messagesTree": [
                {
                    "messageId": "1",
                    "sender": "User",
                    "text": "Deep?",
                    "children": [{"messageId": "2", "sender": "GPT", "text": "Deep."}],
                }
            ],
        },
        "Deep?",
        ["Deep?", "Deep."],
        2,
    ),
    "no id": ([{**CHATGPT, "conversation_id": None}], "Trip", None, 5),
    "a circle": (
        [
            {
                "mapping": {
                    "x": chatgpt_node("x", "y", "user", "X"),
                    "y": chatgpt_node("y", "x", "assistant", "Y"),
                }
            }
        ],
        "X",
        ["X", "Y"],
        2,
    ),
    "chatgpt, with searches and what is no text": (
        [
            {
                "id": "c-2",
                "title": None,
                "create_time": None,
                "current_node": None,
                "mapping": {
                    "client-created-root": {"id": "client-created-root", "message": None},
                    "u": chatgpt_node(
                        "u",
                        "client-created-root",
                        "user",
                        content={
                            "content_type": "multimodal_text",
                            "parts": [
                                {"content_type": "image_asset_pointer", "asset_pointer": "x"},
                                {"content_type": "audio_transcription", "text": "What is it?"},
                                None,
                            ],
                        },
                    ),
                    "a": chatgpt_node(
                        "a", "u", "assistant", "A cat \ue200cite\ue202turn0search1\ue201.", ""
                    ),
                    "null": {"id": "null", "parent": "a", "message": {"author": None}},
                    "list": ["no node"],
                },
            }
        ],
        "[attachment]",
        ["[attachment]\n\nWhat is it?", "A cat ."],
        2,
    ),
    "open-webui, with tools": (
        [
            {
                "id": "w-3",
                "title": "Sums",
                "chat": {
                    "history": {
                        "currentId": "b",
                        "messages": {
                            "a": {"id": "a", "role": "user", "content": "<details> 1+1?"},
                            "b": {
                                "id": "b",
                                "parentId": "a",
                                "role": "assistant",
                                "content": '<details type="reasoning" done="true" duration="3">\n'
                                "<summary>Thought for 3 seconds</summary>\n&gt; 1 &lt; 2\n> So."
                                "\n</details>\n"
                                '<details type="tool_calls" done="true" name="add" result="2">\n'
                                "<summary>Tool Executed</summary>\n</details>\nTwo.",
                            },
                            "c": {"id": "c", "parentId": "b", "role": "user", "content": None},
                            "d": None,
                        },
                    }
                },
            }
        ],
        "Sums",
        ["<details> 1+1?", "Two."],
        2,
    ),
    "librechat, without ids": (
        {
            "conversationId": "l-3",
            "title": "Old",
            "messages": [
                {"sender": "User", "isCreatedByUser": None, "text": "Hm?"},
                {"sender": "GPT", "text": ":::thinking\nHm.\n:::\nAh.", "children": []},
                {"sender": "User", "text": "Oh?", "children": [{"sender": "GPT", "text": "Oh."}]},
                {"sender": "GPT", "content": [{"type": "tool_call", "tool_call": {}}]},
            ],
        },
        "Old",
        ["Hm?", "Ah.", "Oh?", "Oh."],
        4,
    ),
    "a list of messages without ids": (
        [
            {
                "title": "Bare",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "One?"}]},
                    {"role": "tool", "content": "1"},
                    {"role": "assistant", "content": "One."},
                ],
            }
        ],
        "Bare",
        ["Be brief.", "One?", "One."],
        3,
    ),
    "nothing in it": ([{"mapping": {}, "title": "Empty"}], "Empty", [], 0),
}


@pytest.mark.case(70)
@pytest.mark.parametrize("indent", [None, 2], ids=["dense", "indented"])
@pytest.mark.parametrize("name", FILES)
async def test_files_of_other_programs_are_imported(
    alice: Client, db: Database, name: str, indent: int | None
) -> None:
    document, title, texts, count = FILES[name]
    content = json.dumps(document, indent=indent).encode()
    assert await imported(alice, content) == {"imported": 1, "unchanged": 0, "failed": []}
    assert (await imported(alice, content))["unchanged"] == 1
    (line,) = await exported(alice)
    assert line["title"] == title
    assert len(line["messages"]) == count
    opened = await alice.conversation(line["id"])
    check_conversation(opened, messages=True)
    if texts is not None:
        assert [m["content"] for m in opened["messages"]] == texts
    await check_trees(alice, db)
    await alice.ask(line["id"], "And now?")
    await check_trees(alice, db)


async def test_what_other_programs_know_of_a_message_is_kept(alice: Client) -> None:
    others: list[Any] = [*FILES["open-webui, with tools"][0], FILES["librechat, without ids"][0]]
    report = await imported(alice, [CHATGPT, {"id": "w", "chat": WEBUI_CHAT}, LIBRECHAT, *others])
    assert report["imported"] == 5
    found = {line["title"]: line for line in await exported(alice)}
    for title, text, model, reasoning in (
        ("Trip", "Here.\n\n[attachment]", "gpt-4o", "Hm."),
        ("Cats", "Cat.", "llama3", "Hm."),
        ("Tea", "Yes.", "claude", "Hm."),
    ):
        answer = next(m for m in found[title]["messages"] if m["content"] == text)
        assert (answer["model_tag"], answer["reasoning"]) == (model, reasoning)
        assert found[title]["created_at"].startswith("2023-11-14")
        assert found[title]["updated_at"].startswith("2023-11-14")
    for title, text, reasoning in (("Sums", "Two.", "1 < 2\nSo."), ("Old", "Ah.", "Hm.")):
        answer = next(m for m in found[title]["messages"] if m["content"] == text)
        assert answer["reasoning"] == reasoning
    cats = found["Cats"]
    assert (cats["instructions"], cats["tags"], cats["model_tag"]) == ("Purr.", ["pets"], "default")


@pytest.mark.case(70)
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b'{"id":"1","messages":[]}\nnope\n{"id":"2","messages":[]}\n[]\n{}', [2, 4, 5]),
        (b'[{"id":"1","messages":[]},{},{"id":"2","messages":[]},5]', [2, 4]),
        (b'[{"id":"1","messages":[]},{"id":"2","messages":[]},{"id"', [3]),
        (b'\xef\xbb\xbf[{"id":"1","messages":[]},{"id":"2","messages":[]}]', []),
        (b'{"id":"1","messages":[]}\n{"id":"2","messages":[{"id":"m","role":"user","content":"'
         + b"x" * 1_000_001 + b'"}]}\n{"id":"3","messages":5}\n{"id":"2","messages":[]}', [2, 3]),
        (b'[{"id":"1","messages":[]},{"messages":[],"a":%b},{"id":"2","messages":[],"created_at":%b}]'
         % (b"[" * 3000 + b"]" * 3000, b'{"$date":' * 3000 + b"5" + b"}" * 3000), [2]),
    ],
)  # fmt: skip
async def test_what_fails_is_reported_and_the_rest_is_imported(
    alice: Client, content: bytes, lines: list[int]
) -> None:
    report = await imported(alice, content)
    assert report["imported"] == 2
    assert [failure["line"] for failure in report["failed"]] == lines
    assert all(failure["detail"].endswith(".") for failure in report["failed"])


@pytest.mark.case(70)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le with a mark", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("indent", [None, 1])
async def test_a_file_in_another_encoding_is_read(
    alice: Client, encoding: str, indent: int | None
) -> None:
    """What is no text in it becomes U+FFFD."""
    document = [{"id": "1", "title": "Caf\u00e9", "messages": []}, {"id": "2", "messages": []}]
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    if encoding.endswith("mark"):
        content = b"\xff\xfe" + text.encode("utf-16-le")
    else:
        content = text.encode(encoding)
    assert (await imported(alice, content))["imported"] == 2
    titles = {line["title"] for line in await exported(alice)}
    assert titles == {"Caf\ufffd" if encoding == "latin-1" else "Caf\u00e9", "New conversation"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  \n ",
        b"hello",
        b'"a"',
        b"\x00[",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\x00",
        b"P",
        b"\xff\xfe",
    ],
)
async def test_what_is_no_file_of_conversations_is_refused(alice: Client, content: bytes) -> None:
    problem = check_problem(await alice.post("/api/import", content=content), 400)
    assert ("archive" in problem["detail"]) == (content[:2] in (b"PK", b"\x1f\x8b"))
    form = {"content-type": "multipart/form-data; boundary=x"}
    check_problem(await alice.post("/api/import", content=b"--x--", headers=form), 415)
    packed = {"content-encoding": "gzip"}
    check_problem(await alice.post("/api/import", content=content, headers=packed), 415)


def zipped(files: dict[str, Any], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            written = content if isinstance(content, bytes) else json.dumps(content).encode()
            archive.writestr(name, written)
    return file.getvalue()


OTHERS = {
    "export/user.json": {"id": "user-1", "email": "a@example.org"},
    "export/message_feedback.json": [{"id": "f", "conversation_id": "c", "rating": "good"}] * 3,
    "export/broken.json": b"{",
}
# The files of an archive; the titles imported; the reasons of failures.
ARCHIVES: dict[str, tuple[dict[str, Any], set[str], list[str]]] = {
    "ChatGPT's": (
        {**OTHERS, "export/conversations.json": [CHATGPT], "export/a.png": bytes(99)},
        {"Trip"},
        [],
    ),
    "the conversations first": ({"conversations.json": [CHATGPT, {}], **OTHERS}, {"Trip"}, [
        "conversations.json: This is not a conversation in a known format.",
    ]),
    "divided, in folders of Windows": (
        {"a\\conversations-000.json": [CHATGPT], "a\\conversations-001.json": [LIBRECHAT]},
        {"Trip", "Tea"},
        [],
    ),
    "one file for each conversation": (
        {"b/tea.json": LIBRECHAT, "b/trip.json": [CHATGPT], "__MACOSX/b/._tea.json": b"\0\5",
         "b/other.json": {"a": 1}},
        {"Trip", "Tea"},
        ["other.json: This is not a conversation in a known format."],
    ),
    "no JSON in it": (
        {"conversations.json": b"PK\3\4"},
        set(),
        ["conversations.json: This is an archive: unpack it, and send the file in it."],
    ),
}  # fmt: skip


@pytest.mark.case(99)
@pytest.mark.parametrize("name", ARCHIVES)
async def test_an_archive_is_imported_as_its_files_are(alice: Client, name: str) -> None:
    files, titles, failures = ARCHIVES[name]
    headers = {"content-type": "application/zip"}
    response = await alice.post("/api/import", content=zipped(files), headers=headers)
    report = response.json()
    assert report["imported"] == len(titles)
    assert [failure["detail"] for failure in report["failed"]] == failures
    assert {line["title"] for line in await exported(alice)} == titles
    again = await imported(alice, zipped(files, zipfile.ZIP_STORED))
    assert (again["imported"], again["unchanged"]) == (0, len(titles))


@pytest.mark.case(99)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped({}), "no JSON file"),
        (zipped({"a/chat.html": b"<p>", "json": b"{}"}), "no JSON file"),
        (zipped({"conversations.json": b" " * 50_000_000}), "too much"),
        (zipped({"conversations.json": [CHATGPT]}, zipfile.ZIP_BZIP2), "unusual"),
        (zipped({"conversations.json": [CHATGPT]})[:200], "incomplete"),
    ],
)
async def test_an_archive_that_cannot_be_imported_is_refused_with_the_reason(
    alice: Client, content: bytes, reason: str
) -> None:
    problem = check_problem(await alice.post("/api/import", content=content), 400)
    assert reason in problem["detail"]
    assert await exported(alice) == []


async def test_the_export_of_nothing_is_imported(alice: Client, bob: Client) -> None:
    nothing = await alice.get("/api/export")
    assert nothing.content == b""
    headers = {"content-type": nothing.headers["content-type"]}
    response = await bob.post("/api/import", content=nothing.content, headers=headers)
    assert response.json() == {"imported": 0, "unchanged": 0, "failed": []}
    for content in (b"hello", b"PK\x03\x04", b"\x00["):
        check_problem(await bob.post("/api/import", content=content, headers=headers), 400)


async def test_an_upload_may_take_longer_than_other_requests(
    service_with: Any, auth: AuthServer, db: Database
) -> None:
    async with Client(service_with(REQUEST_SECONDS="1").url, auth.user("slow")) as slow:

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(12):
                yield b'{"id":"%d","messages":[]}\n' % number
                await asyncio.sleep(0.15)  # the time itself is what is tested

        response = await slow.post("/api/import", content=pieces())
        assert response.status_code == 200
        assert response.json()["imported"] == 12
