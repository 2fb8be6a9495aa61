"""A crash does not end an answer: somebody finds it, writes it again, or closes it honestly."""

import asyncio
import contextlib
import time
import uuid

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, Stream
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.known import Follower, counted, follow, length, numbered, until_first
from tests.support.waiting import eventually

TAKEOVER_SECONDS = 15.0


async def number(stream: Stream, last: int) -> None:
    """Read until the token with this number."""
    await stream.until(numbered(last))


async def state(pair: Pair, message_id: str) -> tuple[int, int, str]:
    """Attempt, crashes and status of an answer."""
    [row] = await pair.db.fetch(
        "SELECT attempt, crashes, status FROM generations WHERE message_id = $1", message_id
    )
    return row["attempt"], row["crashes"], row["status"]


async def logged(pair: Pair, message_id: str, last_event: int) -> None:
    """Wait until the log has this event."""

    async def there() -> bool:
        return bool(
            await pair.db.value(
                "SELECT max(last_event) >= $2 FROM event_log WHERE message_id = $1",
                message_id,
                last_event,
            )
        )

    await eventually(there)


@pytest.mark.case(25)
async def test_case_25_the_other_replica_writes_a_dead_ones_answer_again(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 25: SIGKILL in mid-answer; readers elsewhere see `reset` and then the whole text."""
    pair = await start_pair()
    inference.once(counted(6).hang(), counted(9).done())
    conversation = await pair.here.create()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as reader,
    ):
        await number(sender, 5)
        await number(reader, 5)
        pair.services[0].kill()
        killed = time.monotonic()
        broken = Follower()
        for event in sender.events:
            broken.take(event)
        assert await broken.read(sender) in {"broken", "end"}
        assert broken.done is None
        assert length(broken.text) == 6
        await reader.rest(TAKEOVER_SECONDS + 5)
        assert time.monotonic() - killed < TAKEOVER_SECONDS
        kinds = [event.kind for event in reader.events]
        assert kinds == ["start", *["token"] * 6, "reset", *["token"] * 9, "done"]
        assert reader.events[7].data == {"reset": {"attempt": 2}}
        assert reader.done["status"] == "complete"
    # The one whose connection broke comes back with its cursor.
    await follow(broken, conversation["id"], [pair.there])
    assert "reset" in broken.kinds
    assert broken.text == reader.text == inference.calls[1].text
    [_, message] = await pair.there.messages(conversation["id"])
    assert (message["content"], message["status"]) == (reader.text, "complete")
    assert await state(pair, message["id"]) == (2, 1, "complete")
    assert (await pair.there.ask(conversation["id"], "Next"))["status"] == "complete"


@pytest.mark.case(25)
async def test_case_25_a_replica_restarted_takes_its_own_answer_up(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 25: the only replica, killed and started again."""
    pair = await start_pair()
    pair.services[1].kill()
    inference.once(counted(6).hang(), counted(9).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await until_first(sender, reader, 6)
        pair.services[0].kill()
    pair.services[0].start()
    ready = time.monotonic()
    await follow(reader, conversation["id"], [pair.here])
    assert time.monotonic() - ready < TAKEOVER_SECONDS
    assert reader.kinds.count("reset") == 1
    assert length(reader.text) == 9
    assert (await pair.here.messages(conversation["id"]))[-1]["content"] == reader.text


@pytest.mark.case(25)
async def test_case_25_with_on_crash_interrupt_what_was_logged_is_kept(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 25: closed as `interrupted` with what the log had."""
    pair = await start_pair(ON_CRASH="interrupt")
    inference.once(counted(6).hang())
    conversation = await pair.here.create()
    reader = Follower()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await until_first(sender, reader, 6)
        await number(other, 5)
        pair.services[0].kill()
        await other.rest()
        assert other.done["status"] == "interrupted"
        assert length(other.text) == 6
    await follow(reader, conversation["id"], [pair.there])
    [_, message] = await pair.there.messages(conversation["id"])
    assert (message["content"], message["status"]) == (reader.text, "interrupted")
    assert (length(reader.text), message["token_count"]) == (6, 6)
    assert len(inference.calls) == 1
    assert (await pair.there.ask(conversation["id"], "Next"))["status"] == "complete"


@pytest.mark.case(25)
async def test_case_25_an_answer_that_kills_its_replica_each_time_is_given_up(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 25: three crashes end an answer; what was saved of the longest attempt is kept."""
    pair = await start_pair()
    inference.once(counted(3).hang(), counted(8).hang(), counted(5).hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until("token")
        message_id = sender.start["message_id"]
    lengths = (3, 8, 5)
    owner = 0
    for crash in range(3):
        await inference.call(crash, 30)
        await logged(pair, message_id, lengths[crash])
        pair.services[owner].kill()
        pair.services[owner].start()
        owner = await owner_of(pair, message_id, crash + 2)
    reader = Follower(message_id=message_id, cursor=sender.cursor)
    await follow(reader, conversation["id"], pair.clients)
    assert reader.done is not None
    assert reader.done["status"] == "interrupted"
    [_, message] = await pair.here.messages(conversation["id"])
    assert (message["content"], message["status"]) == (reader.text, "interrupted")
    assert length(message["content"]) == 8
    assert len(inference.calls) == 3
    assert await state(pair, message_id) == (4, 3, "interrupted")
    assert (await pair.here.ask(conversation["id"], "Next"))["status"] == "complete"


async def owner_of(pair: Pair, message_id: str, attempt: int) -> int:
    """Which of the two services took the answer up at this attempt, by their logs."""

    def taken() -> list[int]:
        return [
            index
            for index, service in enumerate(pair.services)
            if any(
                line.get("event") == "generation_taken_over"
                and line.get("message_id") == message_id
                and line.get("attempt") == attempt
                for line in service.logs()
            )
        ]

    found = await eventually(taken, 30)
    return int(found[0])


async def test_a_rerun_that_fails_keeps_the_longer_earlier_text(
    start_pair: StartPair, inference: Inference
) -> None:
    """Rule 9: rerun never makes it worse."""
    pair = await start_pair()
    inference.once(counted(6).hang(), counted(2).cut())
    conversation = await pair.here.create()
    key = {"idempotency-key": str(uuid.uuid4())}
    reader = Follower()
    async with (
        pair.here.send(conversation["id"], "Count", headers=key) as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await until_first(sender, reader, 6)
        await number(other, 5)
        pair.services[0].kill()
        await other.rest()
        assert [event.kind for event in other.events][7:] == [
            "reset",
            "token",
            "token",
            "error",
            "snapshot",
            "done",
        ]
        assert other.done["status"] == "interrupted"
        assert (length(other.text), other.done["token_count"]) == (6, 6)
    await follow(reader, conversation["id"], [pair.there])
    [_, message] = await pair.there.messages(conversation["id"])
    assert (message["content"], message["status"]) == (reader.text, "interrupted")
    assert reader.text == inference.calls[0].text
    # A POST that repeats it knows no `snapshot`: the text comes in one token.
    async with pair.there.send(conversation["id"], "Count", headers=key) as again:
        await again.rest()
        assert [event.kind for event in again.events] == ["start", "token", "error", "done"]
        assert (again.text, again.done) == (reader.text, reader.done)


async def test_a_post_is_not_shown_the_snapshot_of_a_rerun_that_fails_under_it(
    start_pair: StartPair, inference: Inference
) -> None:
    """`reset` and `snapshot` come only to those who join by GET."""
    pair = await start_pair()
    gate = Gate()
    inference.once(counted(6).hang(), counted(2).wait(gate).cut())
    conversation = await pair.here.create()
    key = {"idempotency-key": str(uuid.uuid4())}
    async with pair.here.send(conversation["id"], "Count", headers=key) as sender:
        await number(sender, 5)
        await logged(pair, sender.start["message_id"], 6)
        pair.services[0].kill()
    await inference.call(1)
    async with (
        pair.there.send(conversation["id"], "Count", headers=key) as repeat,
        pair.there.join(conversation["id"]) as joined,
    ):
        await number(repeat, 1)
        await number(joined, 1)
        gate.open()
        await repeat.rest()
        await joined.rest()
        assert {"reset", "snapshot", "done"}.isdisjoint(event.kind for event in repeat.events)
        assert [event.kind for event in joined.events][-3:] == ["error", "snapshot", "done"]
        assert length(joined.text) == 6
    async with pair.there.send(conversation["id"], "Count", headers=key) as again:
        await again.rest()
        assert (again.text, again.done) == (joined.text, joined.done)


async def test_a_rerun_that_fails_after_more_text_keeps_its_own(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    inference.once(counted(3).hang(), counted(7).cut())
    conversation = await pair.here.create()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await number(sender, 2)
        await number(other, 2)
        pair.services[0].kill()
        await other.rest()
        assert other.done["status"] == "interrupted"
        assert other.text == inference.calls[1].text
    assert (await pair.there.messages(conversation["id"]))[-1]["content"] == other.text


async def test_a_post_belongs_to_one_attempt(start_pair: StartPair, inference: Inference) -> None:
    """A POST that joined by its key closes without `done` when the answer begins again."""
    pair = await start_pair()
    gate = Gate()
    inference.once(counted(6).hang(), counted(2).wait(gate).count(2).done())
    conversation = await pair.here.create()
    key = {"idempotency-key": str(uuid.uuid4())}
    async with (
        pair.here.send(conversation["id"], "Count", headers=key) as sender,
        pair.there.send(conversation["id"], "Count", headers=key) as repeat,
    ):
        await number(sender, 5)
        await number(repeat, 5)
        pair.services[0].kill()
        await repeat.rest()
        assert [event.kind for event in repeat.events] == ["start", *["token"] * 6]
    # Now the same key joins the second attempt, from its start.
    async with pair.there.send(conversation["id"], "Count", headers=key) as again:
        await again.until("token")
        assert again.start["attempt"] == 2
        gate.open()
        await again.rest()
        assert length(again.text) == 4
        assert [event.kind for event in again.events] == ["start", *["token"] * 4, "done"]
    waited = await pair.there.ask_raw(conversation["id"], {"content": "Count"}, **key)
    assert waited.json()["content"] == again.text


async def test_a_json_request_waits_through_a_crash_of_the_writer(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    inference.once(counted(6).hang(), counted(4).done())
    conversation = await pair.here.create()
    key = {"idempotency-key": str(uuid.uuid4())}
    async with pair.here.send(conversation["id"], "Count", headers=key) as sender:
        await number(sender, 5)
        waiting = asyncio.create_task(
            pair.there.ask_raw(conversation["id"], {"content": "Count"}, **key)
        )
        await asyncio.wait({waiting}, timeout=0.3)
        pair.services[0].kill()
        response = await waiting
    assert response.status_code == 200
    assert length(response.json()["content"]) == 4


async def test_a_crash_during_a_regeneration_keeps_the_old_answer_until_the_rerun_is_complete(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    conversation = await pair.here.create()
    old = await pair.here.ask(conversation["id"], "Count")
    gate = Gate()
    inference.once(counted(4).hang(), counted(2).wait(gate).count(4).done())
    async with (
        pair.here.regenerate(conversation["id"]) as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await number(sender, 3)
        await number(other, 3)
        pair.services[0].kill()
        await other.until("reset", TAKEOVER_SECONDS)
        await number(other, 1)
        assert (await pair.there.messages(conversation["id"]))[1:] == [old]
        gate.open()
        await other.rest()
        assert other.done["status"] == "complete"
    [question, message] = await pair.there.messages(conversation["id"])
    assert question["content"] == "Count"
    assert (message["id"], message["content"]) == (sender.start["message_id"], other.text)
    assert length(message["content"]) == 6
    # The rerun saw what the first attempt saw.
    assert inference.calls[1].contents == inference.calls[2].contents == ["Count"]


async def test_a_crash_during_a_regeneration_whose_rerun_fails_leaves_the_old_answer(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    conversation = await pair.here.create()
    old = await pair.here.ask(conversation["id"], "Count")
    inference.once(counted(4).hang(), Script().status(500))
    async with (
        pair.here.regenerate(conversation["id"]) as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await number(sender, 3)
        await number(other, 3)
        pair.services[0].kill()
        await other.rest()
        assert other.done["kept_message_id"] == old["id"]
        assert other.done["status"] in {"failed", "interrupted"}
    assert (await pair.there.messages(conversation["id"]))[1:] == [old]
    assert (await pair.there.ask(conversation["id"], "Next"))["status"] == "complete"


async def test_a_stop_of_a_dead_replicas_answer_does_not_wait_for_its_lease(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(LEASE_SECONDS="60")
    inference.once(counted(6).hang())
    conversation = await pair.here.create()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as other,
    ):
        await number(sender, 5)
        await number(other, 5)
        pair.services[0].kill()
        response = await pair.there.post(f"/api/conversations/{conversation['id']}/stop")
        message = response.json()
        assert (length(message["content"]), message["status"]) == (6, "stopped")
        await other.rest()
        assert (other.text, other.done["status"]) == (message["content"], "stopped")


async def test_a_send_takes_over_from_a_dead_replica_that_nobody_listens_at(
    start_pair: StartPair, inference: Inference
) -> None:
    """Its listening ends with its lease; the answer goes on, or gives way to the new message."""
    pair = await start_pair()
    inference.on("Two", counted(3).done())
    inference.on("One", counted(6).hang())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "One") as sender:
        await number(sender, 5)
        pair.services[0].kill()

    async def accepted() -> bool:
        response = await pair.there.ask_raw(conversation["id"], {"content": "Two"})
        assert response.status_code in {200, 409}, response.text
        return response.status_code == 200

    await eventually(accepted, TAKEOVER_SECONDS)
    contents = [message["content"] for message in await pair.there.messages(conversation["id"])]
    assert contents[::2] == ["One", "Two"]


@pytest.mark.case(26)
async def test_case_26_a_replica_frozen_past_its_lease_writes_nothing_when_it_wakes(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 26: SIGSTOP past the lease, then SIGCONT: fenced; its readers are closed, no `done`."""
    pair = await start_pair()
    gate = Gate()
    inference.once(counted(6).wait(gate).count(20).done(), counted(9).done())
    conversation = await pair.here.create()
    frozen_reader = Follower()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.here.join(conversation["id"]) as beside,
        pair.there.join(conversation["id"]) as other,
    ):
        await number(sender, 5)
        await number(beside, 5)
        await number(other, 5)
        pair.services[0].pause()
        try:
            await other.until("done", TAKEOVER_SECONDS)
            before = await pair.there.messages(conversation["id"])
            gate.open()
        finally:
            pair.services[0].resume()
        for stream in (sender, beside):
            await stream.rest()
            assert all(event.kind != "done" for event in stream.events)
        assert length(other.text) == 9
    for event in beside.events:
        frozen_reader.take(event)
    await follow(frozen_reader, conversation["id"], pair.clients)
    assert frozen_reader.text == other.text == inference.calls[1].text
    await inference.calls[0].ended.wait()
    assert await pair.there.messages(conversation["id"]) == before
    message_id = sender.start["message_id"]
    assert await state(pair, message_id) == (2, 1, "complete")
    # The log of the earlier attempt has nothing that came after the fence.
    last = await pair.db.value(
        "SELECT max(last_event) FROM event_log WHERE message_id = $1 AND attempt = 1", message_id
    )
    assert last == 6
    for client in pair.clients:
        assert (await client.ask(conversation["id"], "Next"))["status"] == "complete"


@pytest.mark.case(26)
async def test_case_26_a_frozen_replica_without_a_replacement_goes_on(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 26, alone: an owner whose attempt still stands just renews."""
    pair = await start_pair()
    pair.services[1].kill()
    gate = Gate()
    inference.once(counted(6).wait(gate).count(6).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await number(sender, 5)
        pair.services[0].pause()

        async def expired() -> bool:
            return bool(
                await pair.db.value(
                    "SELECT lease_until < now() FROM generations WHERE ended_at IS NULL"
                )
            )

        try:
            await eventually(expired)
        finally:
            pair.services[0].resume()
        gate.open()
        await sender.rest()
        assert sender.done["status"] == "complete"
        assert length(sender.text) == 12
    assert await state(pair, sender.start["message_id"]) == (1, 0, "complete")


@pytest.mark.case(26)
async def test_case_26_both_frozen_and_woken_take_nothing_from_each_other(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 26: a host that sleeps. The first to wake has no unbroken contact to judge by."""
    pair = await start_pair()
    gate = Gate()
    inference.on("One", counted(6).wait(gate).count(6).done())
    inference.on("Two", counted(6).wait(gate).count(6).done())
    one, two = await pair.here.create(), await pair.here.create()
    async with pair.here.send(one["id"], "One") as first, pair.there.send(two["id"], "Two") as last:
        await number(first, 5)
        await number(last, 5)
        for service in pair.services:
            service.pause()

        async def expired() -> bool:
            return bool(
                await pair.db.value(
                    "SELECT bool_and(lease_until < now() - interval '1 second') "
                    "FROM generations WHERE ended_at IS NULL"
                )
            )

        try:
            await eventually(expired)
        finally:
            for service in pair.services:
                service.resume()
        # Longer than a lease: time enough for a mistake.
        with contextlib.suppress(AssertionError):
            await eventually(lambda: len(inference.calls) > 2, 3)
        gate.open()
        for stream in (first, last):
            await stream.rest()
            assert stream.done["status"] == "complete"
            assert length(stream.text) == 12
    assert len(inference.calls) == 2
    for stream in (first, last):
        assert await state(pair, stream.start["message_id"]) == (1, 0, "complete")


@pytest.mark.case(25)
async def test_many_answers_of_a_dead_replica_are_all_taken_up(
    start_pair: StartPair, inference: Inference
) -> None:
    """More than are claimed at once."""
    pair = await start_pair()
    gate = Gate()
    inference.default = counted(4).wait(gate, 60).count(4).done()
    conversations = [await pair.here.create() for _ in range(45)]
    readers = [Follower() for _ in conversations]

    async def send(client: Client, conversation_id: str, reader: Follower) -> None:
        async with client.send(conversation_id, "Count") as stream:
            await reader.read(stream)

    sending = [
        asyncio.create_task(send(pair.here, conversation["id"], reader))
        for conversation, reader in zip(conversations, readers, strict=True)
    ]
    await eventually(lambda: all(length(reader.text) == 4 for reader in readers))
    pair.services[0].kill()
    gate.open()
    await asyncio.gather(*sending)
    await asyncio.gather(
        *(
            follow(reader, conversation["id"], [pair.there])
            for conversation, reader in zip(conversations, readers, strict=True)
        )
    )
    for conversation, reader in zip(conversations, readers, strict=True):
        [_, message] = await pair.there.messages(conversation["id"])
        assert (message["content"], message["status"]) == (reader.text, "complete")
        assert length(reader.text) == 8


@pytest.mark.case(25)
@pytest.mark.parametrize("side", ["here", "there"])
async def test_case_25_a_cursor_of_the_dead_attempt_gets_a_reset_after_the_end(
    start_pair: StartPair, inference: Inference, side: str
) -> None:
    """Case 25: clients that reconnect late get a right ending, with the log and without."""
    pair = await start_pair()
    inference.once(counted(6).hang(), counted(4).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await until_first(sender, reader, 6)
        pair.services[0].kill()
    cursor = reader.cursor
    await follow(reader, conversation["id"], [pair.there])
    pair.services[0].start()
    client = pair.here if side == "here" else pair.there
    for sweep in (False, True):
        if sweep:
            await pair.db.execute("DELETE FROM event_log")
        async with client.join(conversation["id"], cursor) as late:
            await late.rest()
            assert late.events[0].kind == "reset"
            assert (late.text, late.done["status"]) == (reader.text, "complete")
