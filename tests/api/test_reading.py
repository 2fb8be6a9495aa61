"""Reading a conversation: its messages, oldest first, in pages."""

import uuid
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.shapes import (
    NOWHERE,
    check_conversation,
    check_invalid,
    check_problem,
)
from tests.support.waiting import eventually


async def conversation_of(client: Client, exchanges: int) -> str:
    """A conversation with so many questions, each answered."""
    conversation = await client.create()
    for number in range(exchanges):
        await client.ask(conversation["id"], f"Question {number}")
    conversation_id: str = conversation["id"]
    return conversation_id


async def test_messages_are_shown_oldest_first(alice: Client) -> None:
    conversation_id = await conversation_of(alice, 3)
    conversation = await alice.conversation(conversation_id)
    check_conversation(conversation, messages=True)
    assert [(message["role"], message["content"]) for message in conversation["messages"]] == [
        (role, content)
        for number in range(3)
        for role, content in (("user", f"Question {number}"), ("assistant", PLAIN_TEXT))
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_a_limit_shows_the_newest_and_before_shows_what_came_before(
    alice: Client, limit: int
) -> None:
    conversation_id = await conversation_of(alice, 3)
    everything = await alice.messages(conversation_id)
    found: list[dict[str, Any]] = []
    before: dict[str, str] = {}
    while True:
        conversation = await alice.conversation(conversation_id, limit=limit, **before)
        check_conversation(conversation, messages=True)
        part = conversation["messages"]
        assert len(part) <= limit
        found = part + found
        if conversation["next_before"] is None:
            break
        assert conversation["next_before"] == part[0]["id"]
        before = {"before": part[0]["id"]}
    assert found == everything


async def test_nothing_comes_before_the_first_message(alice: Client) -> None:
    conversation_id = await conversation_of(alice, 1)
    first = (await alice.messages(conversation_id))[0]
    assert (await alice.conversation(conversation_id, before=first["id"]))["messages"] == []


@pytest.mark.parametrize("before", [NOWHERE, "nonsense", "", "%00", "' OR 1=1 --"])
async def test_an_unknown_message_to_page_from_is_not_found(alice: Client, before: str) -> None:
    conversation_id = await conversation_of(alice, 1)
    response = await alice.get(
        f"/api/conversations/{conversation_id}", params={"limit": 2, "before": before}
    )
    check_problem(response, 404)


async def test_a_message_of_another_conversation_is_nothing_to_page_from(
    alice: Client, bob: Client
) -> None:
    mine = await conversation_of(alice, 1)
    for other in (await conversation_of(bob, 1),):
        foreign = (await bob.messages(other))[0]["id"]
        response = await alice.get(f"/api/conversations/{mine}", params={"before": foreign})
        check_problem(response, 404)
    own = (await alice.messages(await conversation_of(alice, 1)))[0]["id"]
    check_problem(await alice.get(f"/api/conversations/{mine}", params={"before": own}), 404)


@pytest.mark.case(33)
@pytest.mark.parametrize("limit", ["0", "-1", "2001", "many", "1.5", "9" * 400])
async def test_a_limit_out_of_bounds_is_refused(alice: Client, limit: str) -> None:
    conversation_id = (await alice.create())["id"]
    response = await alice.get(f"/api/conversations/{conversation_id}", params={"limit": limit})
    check_invalid(response, "limit")


async def test_a_running_answer_is_shown_with_its_text_so_far(
    alice: Client, inference: Inference
) -> None:
    gate = Gate()
    inference.once(Script().tokens(*words(3)).wait(gate).tokens(*words(3, 3)).done())
    conversation_id = (await alice.create())["id"]
    async with alice.send(conversation_id, "Count") as stream:
        await stream.until_text("<2>")

        async def shown() -> bool:
            question, answer = await alice.messages(conversation_id)
            assert (question["content"], question["status"]) == ("Count", "complete")
            assert answer["id"] == stream.start["message_id"]
            assert answer["status"] == "generating"
            return bool(answer["content"] == "<0><1><2>")

        await eventually(shown)
        gate.open()
        await stream.rest()
    assert (await alice.messages(conversation_id))[1]["content"] == "".join(words(6))


async def test_an_answer_without_a_first_token_is_shown_empty(
    alice: Client, inference: Inference
) -> None:
    inference.once(Script().head().hang())
    conversation_id = (await alice.create())["id"]
    async with alice.send(conversation_id, "Well?") as stream:
        start = (await stream.until("start")).data["start"]
        question, answer = await alice.messages(conversation_id)
        assert question["id"] == start["user_message_id"]
        assert (answer["id"], answer["status"]) == (start["message_id"], "generating")
        assert (answer["content"], answer["token_count"]) == ("", 0)


FULL_PAGE = 5_100_000
"""Bytes of the largest response: messages, commas, and the conversation around them."""


@pytest.mark.case(43, 51)
@pytest.mark.parametrize(
    ("count", "text"),
    [
        (60, "repeat('é', 100000 * (n % 5)) || n"),  # large texts, and small ones
        (5000, "n::text"),  # almost only metadata
        (80, "repeat(chr(1), 100000) || n"),  # each character is six bytes of JSON
        (3, "repeat(chr(1), 2000000) || n"),  # more than a page each
    ],
    ids=["long", "many", "escaped", "huge"],
)
async def test_a_page_is_bounded_in_rows_and_bytes_whatever_the_messages_are(
    alice: Client, db: Database, count: int, text: str
) -> None:
    """Without a limit too: what one request takes of our memory must not grow with the years."""
    made = await alice.create()
    await db.execute(
        f"""
        INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
        SELECT gen_random_uuid(), $1, n, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
            {text}, 'complete', 'default'
        FROM generate_series(1, {count}) n
        """,  # noqa: S608  # ours
        uuid.UUID(made["id"]),
    )
    path = f"/api/conversations/{made['id']}"
    params: dict[str, str] = {}
    seen: list[int] = []
    while True:
        response = await alice.get(path, params=params)
        page = response.json()
        messages = page["messages"]
        assert len(response.content) < FULL_PAGE or len(messages) == 1
        assert 0 < len(messages) <= 2000
        seen = [*(int(message["content"].lstrip("é\x01")) for message in messages), *seen]
        if page["next_before"] is None:
            break
        assert page["next_before"] == messages[0]["id"]
        params = {"before": page["next_before"]}
    assert seen == list(range(1, count + 1))


async def test_a_conversation_of_2000_messages_is_whole(alice: Client, db: Database) -> None:
    """Clients that know nothing of pages see all of what people write."""
    made = await alice.create()
    await db.execute(
        """
        INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
        SELECT gen_random_uuid(), $1, n, 'user', repeat('x', 1500), 'complete', 'default'
        FROM generate_series(1, 2000) n
        """,
        uuid.UUID(made["id"]),
    )
    conversation = await alice.conversation(made["id"])
    assert (len(conversation["messages"]), conversation["next_before"]) == (2000, None)
