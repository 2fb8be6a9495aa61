"""Search in titles and messages: what is found, in which order, and what is shown of it."""

import json
import uuid
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.shapes import check_conversation, check_invalid, check_problem, moment

from chat_api.conversations.search import MOST_OF_A_USER

HIT = {"conversation", "message", "snippet", "matches"}


@pytest.fixture(autouse=True)
def short_answers(inference: Inference) -> None:
    """Answers in which no test finds anything."""
    inference.default = Script().tokens("-").done()


async def search(client: Client, q: str, **params: Any) -> dict[str, Any]:
    """One page, checked against the contract."""
    response = await client.get("/api/search", params={"q": q, **params})
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    assert set(page) == {"items", "next_cursor"}
    times = []
    for item in page["items"]:
        assert set(item) == HIT
        check_conversation(item["conversation"])
        times.append(item["conversation"]["updated_at"])
        if item["message"] is not None:
            assert set(item["message"]) == {"id", "role", "created_at"}
            times[-1] = item["message"]["created_at"]
        for start, end in item["matches"]:
            assert 0 <= start < end <= len(item["snippet"])
    assert times == sorted(times, key=moment, reverse=True)
    return page


async def pages(client: Client, q: str, limit: int) -> list[dict[str, Any]]:
    """Every hit, by the cursors."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await search(client, q, limit=limit, **cursor)
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}


def matched(item: dict[str, Any]) -> list[str]:
    """What is marked in a hit's snippet."""
    return [item["snippet"][start:end] for start, end in item["matches"]]


async def say(client: Client, *texts: str) -> str:
    """A conversation with these messages, under a title that no search finds."""
    conversation_id: str = (await client.create(title="0"))["id"]
    for text in texts:
        await client.ask(conversation_id, text)
    return conversation_id


@pytest.mark.parametrize(
    ("text", "q", "marked"),
    [
        ("How do I fold a samosa?", "samosa", ["samosa"]),
        ("How do I fold a samosa?", "OSA", ["osa"]),
        ("Crème brûlée à Noël", "BRÛLÉE noël", ["brûlée", "Noël"]),
        ("ÅNGSTRÖM", "ångström", ["ÅNGSTRÖM"]),
        ("Где пирожки?", "ПИРОЖ где", ["Где", "пирож"]),
        ("ΟΔΟΣ ΑΘΗΝΩΝ", "οδος", ["ΟΔΟΣ"]),
        ("重点内容在这里", "内容", ["内容"]),
        ("重点内容在这里", "这", ["这"]),
        ("サモサの作り方", "作り", ["作り"]),
        ("समोसा कैसे बनाते हैं", "मोसा", ["मोसा"]),
        ("समोसा कैसे बनाते हैं", "हैं समो", ["समो", "हैं"]),
        ("كيف أطبخ السمبوسة", "سمبوس", ["سمبوس"]),
        ("می‌خواهم سمبوسه", "می‌خواهم", ["می‌خواهم"]),
        ("วิธีทำซาโมซ่า", "ซาโมซ่า", ["ซาโมซ่า"]),
        ("사모사 만들기", "모사", ["모사"]),
        ("a 👩‍🍳 cooks", "👩‍🍳", ["👩‍🍳"]),
        ("cafe\u0301 decomposed", "caf\u00e9", ["cafe\u0301"]),
        ("caf\u00e9 composed", "cafe\u0301", ["caf\u00e9"]),
        ("100% of snake_case in C:\\temp", "% _ \\", ["%", "_", "\\"]),
        ("a.b (c)* [d]", "(c)* a.b", ["a.b", "(c)*"]),
        ("one\n\ttwo   three", "two", ["two"]),
    ],
)
async def test_a_message_is_found_in_any_script_by_parts_of_its_words(
    alice: Client, text: str, q: str, marked: list[str]
) -> None:
    conversation_id = await say(alice, text)
    question = (await alice.messages(conversation_id))[0]
    (item,) = (await search(alice, q))["items"]
    assert item["conversation"]["id"] == conversation_id
    assert item["message"] == {name: question[name] for name in ("id", "role", "created_at")}
    assert item["snippet"] == " ".join(text.split())
    assert matched(item) == marked


@pytest.mark.parametrize("q", ["samosa dosa", "sam osa x", "%", "_", "s_mosa", "samosa\\", "%%%"])
async def test_every_word_must_occur_as_it_is_written(alice: Client, q: str) -> None:
    await say(alice, "One samosa")
    assert await search(alice, q) == {"items": [], "next_cursor": None}


async def test_titles_are_found_and_the_parts_of_a_conversation_by_themselves(
    alice: Client, inference: Inference
) -> None:
    inference.default = Script().tokens("Fold ", "the Samosa").done()
    made = await alice.create(title="Samosas for a party")
    await alice.ask(made["id"], "How are samosas made?")
    await alice.ask((await alice.create(title="Another party"))["id"], "Hello")
    items = (await search(alice, "SAMOSA"))["items"]
    question, first, *_ = [*await alice.messages(made["id"])]
    assert [(item["message"] or {"role": "title"})["role"] for item in items] == [
        "assistant",
        "title",
        "assistant",
        "user",
    ]
    assert [item["message"] and item["message"]["id"] for item in items[1:]] == [
        None,
        first["id"],
        question["id"],
    ]
    assert items[1]["snippet"] == "Samosas for a party"
    assert (await search(alice, "samosa made"))["items"] == [
        items[3] | {"matches": [[8, 14], [16, 20]]}
    ]
    party = await search(alice, "party")
    assert [item["snippet"] for item in party["items"]] == ["Another party", "Samosas for a party"]


async def test_nothing_of_others_is_found(alice: Client, bob: Client) -> None:
    await bob.ask((await bob.create(title="Secret samosa"))["id"], "A secret samosa")
    assert (await search(alice, "samosa"))["items"] == []
    theirs = await search(bob, "samosa", limit=1)
    mine = await search(alice, "samosa", cursor=theirs["next_cursor"])
    assert mine["items"] == []


@pytest.mark.case(94)
async def test_versions_that_are_not_shown_are_found_a_running_one_is_not(
    alice: Client, inference: Inference
) -> None:
    conversation_id = await say(alice)
    inference.once(Script().tokens("The old samosa").done())
    await alice.ask(conversation_id, "Tell me")
    gate = Gate()
    inference.once(Script().tokens("The new samosa").wait(gate).done())
    async with alice.regenerate(conversation_id) as stream:
        await stream.until_text("new")
        assert [item["snippet"] for item in (await search(alice, "samosa"))["items"]] == [
            "The old samosa"
        ]
        gate.open()
        await stream.rest()
    found = [item["snippet"] for item in (await search(alice, "samosa"))["items"]]
    assert found == ["The new samosa", "The old samosa"]
    await alice.ask(conversation_id, "Edited", parent_id=None)
    hits = await pages(alice, "tell", 1) + await pages(alice, "samosa", 1)
    assert [hit["snippet"] for hit in hits] == ["Tell me", *found]
    # Each can be shown.
    old = hits[-1]["message"]["id"]
    path = f"/api/conversations/{conversation_id}/path"
    response = await alice.put(path, json={"message_id": old})
    assert old in [message["id"] for message in response.json()["messages"]]


async def fill(db: Database, client: Client, conversations: int, messages: int) -> None:
    """Messages in turn to each conversation, so that none is the newest with all of its own."""
    await db.execute(
        """
        WITH made AS (
            INSERT INTO conversations
                (id, user_id, title, title_given, model_tag, created_at, updated_at)
            SELECT gen_random_uuid(), $1, 'Needle ' || n, true, 'default',
                '2026-11-20T12:00Z'::timestamptz,
                '2026-11-20T12:00Z'::timestamptz + n * interval '1 hour'
            FROM generate_series(1, $2::integer) n RETURNING id, title)
        INSERT INTO messages
            (id, conversation_id, position, role, content, status, model_tag, created_at)
        SELECT gen_random_uuid(), id, p, CASE p % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
            CASE p % 3 WHEN 0 THEN 'Hay' ELSE 'A NEEDLE in ' || title END, 'complete', 'default',
            -- Pairs of equal times, as a question and its answer have.
            '2026-11-20T12:00Z'::timestamptz + p / 2 * interval '1 minute'
        FROM made, generate_series(0, $3::integer - 1) p
        """,
        client.user_id,
        conversations,
        messages,
    )


@pytest.mark.parametrize("limit", [1, 7, 50])
async def test_pages_show_every_hit_once_newest_first(
    alice: Client, db: Database, limit: int
) -> None:
    """Over more conversations than are searched at first."""
    many = 8 if limit == 1 else 130
    await fill(db, alice, many, 6)
    found = await pages(alice, "needle", limit)
    assert len(found) == many * 5
    assert len({json.dumps([i["conversation"]["id"], i["message"]]) for i in found}) == many * 5
    times = [
        moment((item["message"] or {}).get("created_at") or item["conversation"]["updated_at"])
        for item in found
    ]
    assert times == sorted(times, reverse=True)
    whole = await pages(alice, "needle", 50)
    assert found == whole


async def test_a_cursor_keeps_its_place_while_new_hits_come(alice: Client, db: Database) -> None:
    await fill(db, alice, 5, 6)
    whole = await pages(alice, "needle in", 50)
    first = await search(alice, "needle in", limit=9)
    await alice.ask(whole[0]["conversation"]["id"], "Another needle in between")
    await say(alice, "One more needle in hay")
    rest = await search(alice, "needle in", limit=50, cursor=first["next_cursor"])
    seen = [item["message"]["id"] for item in first["items"] + rest["items"]]
    assert seen == [item["message"]["id"] for item in whole]


async def test_of_a_long_text_the_surroundings_of_the_match_are_shown(
    alice: Client, db: Database
) -> None:
    conversation_id = await say(alice)
    await db.execute(
        """
        INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
        SELECT gen_random_uuid(), $1, 0, 'user',
            repeat('कि', 60000) || ' Needle ' || repeat('कि', 60000), 'complete', 'default'
        """,
        uuid.UUID(conversation_id),
    )
    (item,) = (await search(alice, "needle"))["items"]
    assert matched(item) == ["Needle"]
    assert len(item["snippet"]) <= 202
    before, after = item["snippet"].split(" Needle ")
    # Never a vowel sign without its letter.
    assert before == "…" + "कि" * ((len(before) - 1) // 2)
    assert after == "कि" * ((len(after) - 1) // 2) + "…"


@pytest.mark.case(33)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("q", ""),
        ("q", " \t"),
        ("q", "\u200b\ufeff\u3164"),
        ("q", "x" * 201),
        ("q", "a\x00b"),
        ("limit", "0"),
        ("limit", "51"),
        ("limit", "1.5"),
        ("cursor", "nonsense"),
        ("cursor", "é€😀"),
        ("cursor", "A" * 5000),
    ],
    ids=lambda value: repr(value)[:16],
)
async def test_a_parameter_out_of_bounds_is_refused(alice: Client, name: str, value: str) -> None:
    check_invalid(await alice.get("/api/search", params={"q": "x", name: value}), name)


async def test_a_cursor_of_the_list_is_none_of_the_search(alice: Client) -> None:
    for _ in range(2):
        await alice.create(title="x")
    cursor = (await alice.get("/api/conversations", params={"limit": 1})).json()["next_cursor"]
    check_invalid(await alice.get("/api/search", params={"q": "x", "cursor": cursor}), "cursor")


async def test_a_search_wants_words(alice: Client) -> None:
    check_invalid(await alice.get("/api/search"), "q")
    assert (await search(alice, "अ" * 200))["items"] == []
    assert (await search(alice, " ".join("abcdefghijklmnopqrstuvwxyz" * 3)))["items"] == []


async def test_a_search_that_takes_too_long_ends_and_takes_nothing_from_others(
    alice: Client, bob: Client, db: Database
) -> None:
    """As it does where a user has millions of messages: here, a table that is locked."""
    await say(bob, "Hello")
    connection = await db.connect()
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            problem = check_problem(await alice.get("/api/search", params={"q": "x"}), 503)
            assert problem["type"].endswith(":search_timeout")
            assert (await bob.get("/api/conversations")).status_code == 200
    finally:
        await connection.close()
    assert (await search(alice, "x"))["items"] == []
    assert MOST_OF_A_USER > 1
