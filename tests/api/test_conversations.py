"""Making, changing and deleting conversations."""

import uuid
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.database import Database
from tests.support.inference import Inference
from tests.support.shapes import EMPTY, check_conversation, check_invalid, check_problem, moment


async def test_a_new_conversation_has_the_default_title_and_model(alice: Client) -> None:
    response = await alice.post("/api/conversations", json={})
    assert response.status_code == 201
    conversation = response.json()
    check_conversation(conversation)
    assert conversation["user_id"] == alice.user_id
    assert conversation["title"] == "New conversation"
    assert conversation["model_tag"] == "default"
    assert conversation["is_favorited"] is False
    assert response.headers["location"].endswith(f"/api/conversations/{conversation['id']}")
    assert await alice.conversation(conversation["id"]) == {**conversation, **EMPTY}


@pytest.mark.parametrize(
    "options",
    [{}, {"content": b""}, {"content": b"", "headers": {"content-type": "application/json"}}],
    ids=["no body", "empty body", "empty body, called JSON"],
)
async def test_a_conversation_can_be_made_of_an_empty_body(
    alice: Client, options: dict[str, Any]
) -> None:
    response = await alice.post("/api/conversations", **options)
    assert response.status_code == 201
    assert response.json()["title"] == "New conversation"


async def test_a_conversation_takes_the_title_and_model_given(alice: Client) -> None:
    conversation = await alice.create(title="Recipes", model_tag="d32")
    assert (conversation["title"], conversation["model_tag"]) == ("Recipes", "d32")


async def test_null_for_an_optional_field_is_as_if_it_were_absent(alice: Client) -> None:
    conversation = await alice.create(title=None, model_tag=None)
    assert (conversation["title"], conversation["model_tag"]) == ("New conversation", "default")
    same = await alice.patch(
        f"/api/conversations/{conversation['id']}",
        json={"title": None, "model_tag": None, "is_favorited": None},
    )
    assert same.status_code == 200
    assert same.json()["title"] == "New conversation"


@pytest.mark.case(33)
@pytest.mark.parametrize("length", [1, 499, 500])
async def test_a_title_may_have_500_characters(alice: Client, length: int) -> None:
    title = "म" * length
    conversation = await alice.create(title=title)
    assert conversation["title"] == title
    path = f"/api/conversations/{conversation['id']}"
    for response in (
        await alice.put(path, json={"title": title}),
        await alice.patch(path, json={"title": title}),
    ):
        assert response.status_code == 200
        assert response.json()["title"] == title


BAD_TITLES = ["x" * 501, "", " \t\n", "\u200b\u2800", 5, True, ["x"], {"x": 1}]


@pytest.mark.case(33)
@pytest.mark.parametrize("title", BAD_TITLES, ids=lambda title: repr(title)[:12])
async def test_a_title_out_of_bounds_is_refused_everywhere(alice: Client, title: Any) -> None:
    check_invalid(await alice.post("/api/conversations", json={"title": title}), "title")
    conversation = await alice.create(title="Kept")
    path = f"/api/conversations/{conversation['id']}"
    check_invalid(await alice.put(path, json={"title": title}), "title")
    check_invalid(await alice.patch(path, json={"title": title}), "title")
    assert (await alice.conversation(conversation["id"]))["title"] == "Kept"


@pytest.mark.case(33)
@pytest.mark.parametrize("model_tag", ["x" * 101, 5, ["d20"]], ids=["101", "number", "list"])
async def test_a_model_tag_out_of_bounds_is_refused(alice: Client, model_tag: Any) -> None:
    check_invalid(
        await alice.post("/api/conversations", json={"model_tag": model_tag}), "model_tag"
    )
    path = f"/api/conversations/{(await alice.create())['id']}"
    check_invalid(await alice.patch(path, json={"model_tag": model_tag}), "model_tag")


@pytest.mark.case(33)
async def test_a_model_tag_may_have_100_characters(alice: Client) -> None:
    conversation = await alice.create(model_tag="x" * 100)
    assert conversation["model_tag"] == "x" * 100


@pytest.mark.parametrize("body", [[], "text", 5, True], ids=repr)
async def test_a_body_that_is_no_object_is_refused(alice: Client, body: Any) -> None:
    check_invalid(await alice.post("/api/conversations", json=body))


async def test_put_sets_the_title_and_nothing_else(alice: Client) -> None:
    before = await alice.create(title="Old", model_tag="d32")
    response = await alice.put(
        f"/api/conversations/{before['id']}", json={"title": "New", "is_favorited": True}
    )
    assert response.status_code == 200
    after = response.json()
    check_conversation(after)
    assert after == {**before, "title": "New", "updated_at": after["updated_at"]}


@pytest.mark.parametrize("body", [{}, {"title": None}, {"name": "x"}], ids=repr)
async def test_put_wants_a_title(alice: Client, body: dict[str, Any]) -> None:
    path = f"/api/conversations/{(await alice.create())['id']}"
    check_invalid(await alice.put(path, json=body), "title")


@pytest.mark.parametrize(
    "change",
    [
        {"title": "New"},
        {"model_tag": "d32"},
        {"is_favorited": True},
        {"title": "New", "model_tag": "d32", "is_favorited": True},
        {},
    ],
    ids=repr,
)
async def test_patch_changes_what_it_names_and_nothing_else(
    alice: Client, change: dict[str, Any]
) -> None:
    before = await alice.create(title="Old")
    path = f"/api/conversations/{before['id']}"
    response = await alice.patch(path, json=change)
    assert response.status_code == 200
    after = response.json()
    check_conversation(after)
    assert after == {**before, **change, "updated_at": after["updated_at"]}
    assert await alice.conversation(before["id"]) == {**after, **EMPTY}


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, "", []], ids=repr)
async def test_is_favorited_is_a_boolean(alice: Client, value: Any) -> None:
    path = f"/api/conversations/{(await alice.create())['id']}"
    check_invalid(await alice.patch(path, json={"is_favorited": value}), "is_favorited")


async def test_a_favourite_can_be_taken_back(alice: Client) -> None:
    path = f"/api/conversations/{(await alice.create())['id']}"
    assert (await alice.patch(path, json={"is_favorited": True})).json()["is_favorited"] is True
    assert (await alice.patch(path, json={"is_favorited": False})).json()["is_favorited"] is False


async def test_unknown_fields_have_no_effect(alice: Client, inference: Inference) -> None:
    other = str(uuid.uuid4())
    conversation = await alice.create(user_id=other, id=other, api_base="http://evil.example")
    assert conversation["user_id"] == alice.user_id
    assert conversation["id"] != other
    path = f"/api/conversations/{conversation['id']}"
    changed = await alice.patch(path, json={"user_id": other, "created_at": "1999-01-01"})
    assert changed.status_code == 200
    assert changed.json()["user_id"] == alice.user_id
    assert changed.json()["created_at"] == conversation["created_at"]
    answer = await alice.ask(
        conversation["id"],
        "Hello",
        user_id=other,
        api_base="http://evil.example",
        role="assistant",
        messages=[],
        model="x",
    )
    assert answer["status"] == "complete"
    call = await inference.call()
    assert set(call.body) <= {
        "messages",
        "temperature",
        "max_tokens",
        "top_k",
        "force_web_search",
    }


async def test_a_deleted_conversation_is_gone_with_its_messages(
    alice: Client, db: Database
) -> None:
    conversation = await alice.create()
    await alice.ask(conversation["id"], "Hello")
    path = f"/api/conversations/{conversation['id']}"
    response = await alice.delete(path)
    assert response.status_code == 204
    assert response.content == b""
    check_problem(await alice.get(path), 404)
    check_problem(await alice.delete(path), 404)
    page = (await alice.get("/api/conversations")).json()
    assert page["items"] == []
    left = await db.value(
        "SELECT count(*) FROM messages WHERE conversation_id = $1", uuid.UUID(conversation["id"])
    )
    assert left == 0


# Titles that come from the first message.


FAMILY = "👨\u200d👩\u200d👧\u200d👦"
FLAG = "🇮🇳"
ACCENTED = "e\u0301"
CONJUNCT = "क्षि"


@pytest.mark.case(60)
@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("How do I fold a samosa?", "How do I fold a samosa?"),
        ("First line\nSecond line", "First line"),
        ("First line\r\nSecond line", "First line"),
        ("First line\u2028Second line", "First line"),
        ("First line\x85Second line", "First line"),
        ("\n\n   \nThe first line with text\nmore", "The first line with text"),
        ("\u200b\n\ufeff\u3164\nShown\nmore", "Shown"),
        ("\ufeffBegins with a mark\u200b", "Begins with a mark"),
        ("I ❤\ufe0f", "I ❤\ufe0f"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 80),
        ("😀" * 80, "😀" * 80),
        ("😀" * 81, "😀" * 80),
        (f"{FAMILY * 70}{'x' * 11}", f"{FAMILY * 70}{'x' * 10}"),
        (FAMILY * 90, FAMILY * 80),
        ("x" * 79 + FAMILY + "x", "x" * 79 + FAMILY),
        ("x" + FLAG * 100, "x" + FLAG * 79),
        (ACCENTED * 100, ACCENTED * 80),
        (CONJUNCT * 100, CONJUNCT * 80),
        ("\u1100\u1161\u11a8" * 81, "\u1100\u1161\u11a8" * 80),
        ("x" * 79 + " y", "x" * 79),
        ("e" + "\u0301" * 7000, "e" + "\u0301" * 999),
    ],
    ids=lambda text: ascii(text)[:24],
)
async def test_the_first_line_that_shows_something_gives_a_title_of_whole_characters(
    alice: Client, content: str, title: str
) -> None:
    """At most 80 grapheme clusters, and 1,000 code points."""
    conversation = await alice.create()
    await alice.ask(conversation["id"], content)
    assert (await alice.conversation(conversation["id"]))["title"] == title


@pytest.mark.case(60)
@pytest.mark.parametrize(
    "placeholder",
    [
        "New chat",
        "New conversation",
        "Untitled",
        "NEW CHAT",
        "  new  Chat\n",
        "\ufeffuntitled\u200b",
        "nEW cONVERSATION",
    ],
    ids=ascii,
)
async def test_a_placeholder_is_no_title(alice: Client, placeholder: str) -> None:
    made = await alice.create(title=placeholder)
    assert made["title"] == "New conversation"
    path = f"/api/conversations/{made['id']}"
    for method in ("PUT", "PATCH"):
        response = await alice.request(method, path, json={"title": placeholder})
        assert (response.status_code, response.json()["title"]) == (200, "New conversation")
    await alice.ask(made["id"], "The first line")
    assert (await alice.conversation(made["id"]))["title"] == "The first line"
    for method in ("PUT", "PATCH"):
        response = await alice.request(method, path, json={"title": placeholder})
        assert (response.status_code, response.json()["title"]) == (200, "The first line")


async def test_the_second_message_leaves_the_title_alone(alice: Client) -> None:
    conversation = await alice.create()
    await alice.ask(conversation["id"], "One")
    await alice.ask(conversation["id"], "Two")
    assert (await alice.conversation(conversation["id"]))["title"] == "One"


@pytest.mark.parametrize("title", ["Mine", "New chat about samosas"])
async def test_a_title_that_the_user_gave_is_kept(alice: Client, title: str) -> None:
    given = await alice.create(title=title)
    put = await alice.create()
    await alice.put(f"/api/conversations/{put['id']}", json={"title": title})
    patched = await alice.create()
    await alice.patch(f"/api/conversations/{patched['id']}", json={"title": title})
    for conversation in (given, put, patched):
        await alice.ask(conversation["id"], "Hello")
        assert (await alice.conversation(conversation["id"]))["title"] == title


async def test_times_only_move_forward(alice: Client) -> None:
    conversation = await alice.create()
    await alice.ask(conversation["id"], "Hello")
    after = await alice.conversation(conversation["id"])
    assert after["created_at"] == conversation["created_at"]
    assert moment(after["updated_at"]) > moment(conversation["updated_at"])
