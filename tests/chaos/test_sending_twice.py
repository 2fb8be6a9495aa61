"""Idempotency-Key: the same request again joins or replays the first one's answer."""

import asyncio
import uuid
from typing import Any

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.known import Follower, counted, length, numbered
from tests.support.shapes import NOWHERE, check_problem
from tests.support.waiting import eventually


def new_key() -> dict[str, str]:
    return {"idempotency-key": str(uuid.uuid4())}


async def count_messages(client: Client, conversation_id: str) -> int:
    return len(await client.messages(conversation_id))


@pytest.mark.case(9)
async def test_case_9_a_repeat_while_it_runs_joins_the_answer_from_its_start(
    pair: Pair, inference: Inference
) -> None:
    """Case 9: same key and body, while it runs: the same answer, one row."""
    gate = Gate()
    inference.once(counted(4).wait(gate).count(4).done())
    conversation, key = await pair.here.create(), new_key()
    async with pair.here.send(conversation["id"], "Count", headers=key) as first:
        await first.until("token")
        async with (
            pair.here.send(conversation["id"], "Count", headers=key) as second,
            pair.there.send(conversation["id"], "Count", headers=key) as third,
        ):
            await second.until("token")
            await third.until("token")
            gate.open()
            for stream in (first, second, third):
                await stream.rest()
        assert second.events == first.events
        assert third.events == first.events
        assert length(first.text) == 8
    assert await count_messages(pair.there, conversation["id"]) == 2
    assert len(inference.calls) == 1


@pytest.mark.case(9)
async def test_case_9_repeats_all_at_once_make_one_answer(pair: Pair, inference: Inference) -> None:
    """Case 9: twenty times the same at the same moment over two replicas."""
    inference.default = counted(4).done()
    conversation, key = await pair.here.create(), new_key()
    events = []

    async def send(number: int) -> None:
        client = pair.clients[number % 2]
        async with client.send(conversation["id"], "Count", headers=key) as stream:
            await stream.rest()
            events.append(stream.events)

    await asyncio.gather(*(send(number) for number in range(20)))
    assert all(others == events[0] for others in events)
    assert await count_messages(pair.there, conversation["id"]) == 2
    assert len(inference.calls) == 1


@pytest.mark.case(9)
async def test_case_9_a_repeat_after_the_end_replays_it(pair: Pair, inference: Inference) -> None:
    """Case 9: after it; then also with the log gone, and as JSON."""
    inference.once(counted(6).done())
    conversation, key = await pair.here.create(), new_key()
    async with pair.here.send(conversation["id"], "Count", headers=key) as first:
        await first.rest()
    for client in pair.clients:
        async with client.send(conversation["id"], "Count", headers=key) as again:
            assert await again.rest() == first.events
    message_id = first.start["message_id"]
    await pair.db.execute("DELETE FROM event_log WHERE message_id = $1", message_id)
    for client in pair.clients:
        async with client.send(conversation["id"], "Count", headers=key) as again:
            await again.rest()
            assert [event.kind for event in again.events] == ["start", "token", "done"]
            assert again.events[0] == first.events[0]
            assert again.events[1].data["token"] == first.text
            assert again.events[2] == first.events[-1]
        answer = await client.ask_raw(conversation["id"], {"content": "Count"}, **key)
        assert answer.json()["id"] == message_id
        assert answer.json()["content"] == first.text
    assert await count_messages(pair.there, conversation["id"]) == 2
    assert len(inference.calls) == 1


async def test_a_repeat_of_a_later_message_does_not_mind_what_came_after(
    pair: Pair, inference: Inference
) -> None:
    conversation, key = await pair.here.create(), new_key()
    async with pair.here.send(conversation["id"], "One", headers=key) as first:
        await first.rest()
    gate = Gate()
    inference.once(counted(2).wait(gate).done())
    async with pair.here.send(conversation["id"], "Two") as running:
        await running.until("token")
        # Looked at before the busy rule.
        async with pair.there.send(conversation["id"], "One", headers=key) as again:
            assert await again.rest() == first.events
        gate.open()
        await running.rest()
        assert running.done["status"] == "complete"
    assert await count_messages(pair.there, conversation["id"]) == 4


@pytest.mark.parametrize("swept", [False, True])
async def test_a_repeat_after_a_failure_replays_the_failure(
    pair: Pair, inference: Inference, swept: bool
) -> None:
    inference.once(Script().status(500))
    conversation, key = await pair.here.create(), new_key()
    body = {"content": "Count"}
    first = await pair.here.ask_raw(conversation["id"], body, **key)
    problem = check_problem(first, 502, "message_id")
    if swept:
        await pair.db.execute("DELETE FROM event_log WHERE message_id = $1", problem["message_id"])
    for client in pair.clients:
        again = await client.ask_raw(conversation["id"], body, **key)
        repeated = check_problem(again, 502, "message_id")
        assert repeated["message_id"] == problem["message_id"]
        assert repeated["type"] == problem["type"]
        async with client.send(conversation["id"], "Count", headers=key) as stream:
            await stream.rest()
            assert [event.kind for event in stream.events] == ["start", "error", "done"]
            assert stream.done["status"] == "failed"
    assert len(inference.calls) == 1
    assert await count_messages(pair.there, conversation["id"]) == 2


async def test_a_repeat_after_a_stop_replays_the_stop(pair: Pair, inference: Inference) -> None:
    inference.once(counted(3).hang())
    conversation, key = await pair.here.create(), new_key()
    async with pair.here.send(conversation["id"], "Count", headers=key) as first:
        await first.until(numbered(2))
        await pair.there.post(f"/api/conversations/{conversation['id']}/stop")
        await first.rest()
    for client in pair.clients:
        async with client.send(conversation["id"], "Count", headers=key) as again:
            assert await again.rest() == first.events
            assert again.done["status"] == "stopped"


@pytest.mark.case(9)
@pytest.mark.parametrize(
    "change",
    [
        {"content": "Count!"},
        {"content": "Count", "temperature": 0.5},
        {"content": "Count", "thinking_mode": True},
        {"content": "Count", "top_k": 0},
    ],
)
async def test_case_9_another_body_with_the_same_key_is_422(
    pair: Pair, inference: Inference, change: dict[str, Any]
) -> None:
    """Case 9: another body."""
    conversation, key = await pair.here.create(), new_key()
    await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
    for client in pair.clients:
        response = await client.ask_raw(conversation["id"], change, **key)
        check_problem(response, 422, "errors")
    # A field that means nothing, or nothing new, changes nothing.
    for same in ({"content": "Count", "user_id": "x"}, {"temperature": None, "content": "Count"}):
        assert (await pair.there.ask_raw(conversation["id"], same, **key)).status_code == 200
    assert await count_messages(pair.there, conversation["id"]) == 2


@pytest.mark.case(9)
async def test_case_9_another_path_with_the_same_key_is_422(
    pair: Pair, inference: Inference
) -> None:
    """Case 9: the path belongs to the request."""
    conversation, other, key = await pair.here.create(), await pair.here.create(), new_key()
    await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
    check_problem(await pair.there.ask_raw(other["id"], {"content": "Count"}, **key), 422, "errors")
    async with pair.there.regenerate(conversation["id"], headers=key, expect=422):
        pass
    assert await count_messages(pair.there, other["id"]) == 0


@pytest.mark.case(9)
async def test_case_9_one_key_in_two_conversations_at_once_is_accepted_once(
    pair: Pair, inference: Inference
) -> None:
    """Case 9: the race of the same key on two paths leaves one question."""
    key = new_key()
    conversations = [await pair.here.create() for _ in range(8)]
    responses = await asyncio.gather(
        *(
            pair.clients[number % 2].ask_raw(conversation["id"], {"content": "Count"}, **key)
            for number, conversation in enumerate(conversations)
        )
    )
    assert sorted(response.status_code for response in responses) == [200] + [422] * 7
    counts = [await count_messages(pair.here, conversation["id"]) for conversation in conversations]
    assert sorted(counts) == [0] * 7 + [2]


@pytest.mark.case(9)
@pytest.mark.parametrize("value", ["", '""', '"', "a" * 256, "a b", '"a\\"b"', "a\tb"])
async def test_case_9_a_malformed_or_too_long_key_is_400(
    pair: Pair, inference: Inference, value: str
) -> None:
    """Case 9: key too long or malformed."""
    conversation = await pair.here.create()
    response = await pair.here.ask_raw(
        conversation["id"], {"content": "Count"}, **{"idempotency-key": value}
    )
    check_problem(response, 400)
    assert await count_messages(pair.there, conversation["id"]) == 0


@pytest.mark.case(9)
async def test_case_9_a_key_quoted_and_bare_is_the_same_and_may_have_255_characters(
    pair: Pair, inference: Inference
) -> None:
    """Case 9: quoted or bare."""
    conversation, value = await pair.here.create(), ("k" * 255)
    bodies = []
    for sent in (value, f'"{value}"', value):
        response = await pair.there.ask_raw(
            conversation["id"], {"content": "Count"}, **{"idempotency-key": sent}
        )
        assert response.status_code == 200, response.text
        bodies.append(response.json())
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.case(9)
async def test_case_9_another_users_key_is_unrelated(
    pair: Pair, inference: Inference, auth: AuthServer, clients: MakeClient
) -> None:
    """Case 9: another user's same key: unrelated."""
    key = new_key()
    bob = clients(pair.services[1], auth.user("bob"))
    mine, his = await pair.here.create(), await bob.create()
    first = await pair.here.ask_raw(mine["id"], {"content": "Count"}, **key)
    second = await bob.ask_raw(his["id"], {"content": "Something else"}, **key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] != second.json()["id"]


@pytest.mark.case(9)
async def test_case_9_a_key_of_a_request_that_failed_before_anything_was_kept_is_free(
    pair: Pair, inference: Inference
) -> None:
    """Case 9: a first try that failed before anything was stored does not burn the key."""
    key = new_key()
    body = {"content": "Count"}
    # 404, 422, 413 …
    assert (await pair.here.ask_raw(NOWHERE, body, **key)).status_code == 404
    conversation = await pair.here.create()
    assert (await pair.here.ask_raw(conversation["id"], {"content": ""}, **key)).status_code == 422
    regenerated = await pair.here.post(
        f"/api/conversations/{conversation['id']}/regenerate", headers=key
    )
    assert regenerated.status_code == 400
    # … and 409.
    gate = Gate()
    inference.once(counted(2).wait(gate).done())
    async with pair.here.send(conversation["id"], "One") as running:
        await running.until("token")
        assert (await pair.there.ask_raw(conversation["id"], body, **key)).status_code == 409
        gate.open()
        await running.rest()
    response = await pair.there.ask_raw(conversation["id"], body, **key)
    assert response.status_code == 200
    assert (await pair.here.ask_raw(conversation["id"], body, **key)).json() == response.json()
    assert await count_messages(pair.there, conversation["id"]) == 4


@pytest.mark.case(9)
async def test_case_9_a_key_refused_for_want_of_a_database_is_free(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 9: after a 503."""
    pair = await start_pair(DATABASE_TIMEOUT_SECONDS="1")
    conversation, key = await pair.here.create(), new_key()
    blocker = await pair.db.connect()
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            refused = await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
            check_problem(refused, 503)
            assert "retry-after" in refused.headers
    finally:
        await blocker.close()

    async def accepted() -> bool:
        response = await pair.there.ask_raw(conversation["id"], {"content": "Count"}, **key)
        return response.status_code == 200

    await eventually(accepted)
    assert await count_messages(pair.there, conversation["id"]) == 2


async def test_a_repeat_of_a_replaced_answer_is_409(pair: Pair, inference: Inference) -> None:
    conversation, key, second_key = await pair.here.create(), new_key(), new_key()
    await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
    async with pair.here.regenerate(conversation["id"], headers=second_key) as stream:
        await stream.rest()
        assert stream.done["status"] == "complete"
    for client in pair.clients:
        check_problem(await client.ask_raw(conversation["id"], {"content": "Count"}, **key), 409)
        async with client.regenerate(conversation["id"], headers=second_key) as again:
            assert await again.rest() == stream.events
    assert await count_messages(pair.there, conversation["id"]) == 2


async def test_a_repeat_in_a_deleted_conversation_makes_nothing(
    pair: Pair, inference: Inference
) -> None:
    conversation, key = await pair.here.create(), new_key()
    await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
    await pair.there.delete(f"/api/conversations/{conversation['id']}")
    response = await pair.here.ask_raw(conversation["id"], {"content": "Count"}, **key)
    assert response.status_code in {404, 409}
    assert len(inference.calls) == 1


@pytest.mark.parametrize("swept", [False, True])
async def test_a_repeat_of_a_regeneration_that_failed_says_what_became_of_it(
    pair: Pair, inference: Inference, swept: bool
) -> None:
    """The old answer is kept; the key never makes a second one."""
    conversation, key = await pair.here.create(), new_key()
    old = await pair.here.ask(conversation["id"], "Count")
    inference.once(counted(2).cut())
    async with pair.here.regenerate(conversation["id"], headers=key) as first:
        await first.rest()
        assert first.done["kept_message_id"] == old["id"]
    if swept:
        await pair.db.execute(
            "DELETE FROM event_log WHERE message_id = $1", first.start["message_id"]
        )
    for client in pair.clients:
        async with client.regenerate(conversation["id"], headers=key) as again:
            await again.rest()
            assert again.done == first.done
            if not swept:
                assert again.events == first.events
        response = await client.post(
            f"/api/conversations/{conversation['id']}/regenerate",
            headers={"accept": "application/json", **key},
        )
        assert response.status_code in {200, 502}
        if response.status_code == 200:
            assert response.json() == old
    assert (await pair.there.messages(conversation["id"]))[1:] == [old]
    assert len(inference.calls) == 2


async def test_a_repeat_whose_client_left_reads_on_from_its_cursor(
    pair: Pair, inference: Inference
) -> None:
    """The usual way of a phone: send, lose the connection, send again with the key, join."""
    gate = Gate()
    inference.once(counted(4).wait(gate).count(4).done())
    conversation, key = await pair.here.create(), new_key()
    async with pair.here.send(conversation["id"], "Count", headers=key) as first:
        await first.until("token")
    async with pair.there.send(conversation["id"], "Count", headers=key) as second:
        reader = Follower()
        await reader.read(second, most=3)
    async with pair.here.join(conversation["id"], reader.cursor) as third:
        gate.open()
        assert await reader.read(third) == "done"
    assert length(reader.text) == 8
