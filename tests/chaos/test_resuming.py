"""Join and resume: exactly the rest, once, in order, on any replica, at any time."""

import asyncio
import contextlib

import psutil
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, Stream
from tests.support.events import as_an_old_client
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.known import Follower, counted, follow, length, numbered, until_first
from tests.support.shapes import NOWHERE
from tests.support.waiting import eventually

SIDES = ["here", "there"]


def at(pair: Pair, side: str) -> Client:
    return pair.here if side == "here" else pair.there


async def finished(pair: Pair, inference: Inference) -> tuple[str, Stream]:
    """Return a conversation whose answer of ten tokens has ended, and the stream of that answer."""
    inference.once(counted(10).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.rest()
        assert length(stream.text) == 10
    return conversation["id"], stream


async def forget_log(pair: Pair, message_id: str) -> None:
    """Do what the sweep does when the retention is over."""
    await pair.db.execute("DELETE FROM event_log WHERE message_id = $1", message_id)


@pytest.mark.case(15)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seen", [1, 2, 5, 8])
async def test_case_15_a_client_cut_off_while_it_runs_gets_exactly_the_rest(
    pair: Pair, inference: Inference, side: str, seen: int
) -> None:
    """Case 15: gone at any event, back on the same or another replica."""
    gate = Gate()
    inference.once(counted(8).wait(gate).count(8).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await reader.read(stream, most=seen)
    async with at(pair, side).join(conversation["id"], reader.cursor) as rest:
        gate.open()
        assert await reader.read(rest) == "done"
    assert length(reader.text) == 16
    assert reader.text == (await inference.call()).text
    assert "reset" not in reader.kinds
    assert "snapshot" not in reader.kinds
    message = (await pair.here.messages(conversation["id"]))[-1]
    assert (message["content"], message["status"]) == (reader.text, "complete")


@pytest.mark.case(15)
async def test_case_15_cut_at_every_byte_of_a_stream_and_joined_again(
    pair: Pair, inference: Inference
) -> None:
    """Case 15: the connection is cut at any byte; half an event counts as not seen."""
    gate = Gate()
    inference.once(counted(3).wait(gate).count(3).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as whole:
        await whole.until(numbered(2))
        raw = whole.raw
        for end in range(0, len(raw) + 1, 7):
            cut = raw[:end].rpartition(b"\n\n")[0]
            lines = [line for line in cut.split(b"\n") if line.startswith(b"id: ")]
            cursor = lines[-1][4:].decode() if lines else None
            side = at(pair, SIDES[end % 2])
            async with side.join(conversation["id"], cursor) as stream:
                number = len(lines)
                while number < 4:
                    event = await stream.next()
                    assert event == whole.events[number]
                    number += 1
        gate.open()
        await whole.rest()


@pytest.mark.parametrize("side", SIDES)
async def test_after_the_end_every_cursor_gives_exactly_its_rest(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation, original = await finished(pair, inference)
    for seen in range(len(original.events) - 1):
        async with at(pair, side).join(conversation, original.events[seen].id) as stream:
            assert await stream.rest() == original.events[seen + 1 :]


@pytest.mark.parametrize("side", SIDES)
async def test_at_the_end_of_an_answer_there_is_nothing_more(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation, original = await finished(pair, inference)
    async with at(pair, side).join(conversation, original.cursor, expect=204):
        pass
    async with at(pair, side).join(conversation, expect=204):
        pass


@pytest.mark.parametrize("side", SIDES)
async def test_a_cursor_at_the_end_joins_the_next_answer(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation, original = await finished(pair, inference)
    gate = Gate()
    inference.once(counted(3).wait(gate).done())
    async with pair.here.send(conversation, "Again") as stream:
        await stream.until("token")
        async with at(pair, side).join(conversation, original.cursor) as joined:
            start = await joined.next()
            assert start.data["start"]["message_id"] == stream.start["message_id"]
            gate.open()
            await joined.rest()
            await stream.rest()
        assert joined.events == stream.events


@pytest.mark.parametrize("side", SIDES)
async def test_a_cursor_in_an_earlier_answer_gives_that_answers_rest_first(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 16: of an earlier answer that has a rest to give, the rest; then the running one."""
    conversation, original = await finished(pair, inference)
    gate = Gate()
    inference.once(counted(3).wait(gate).done())
    async with pair.here.send(conversation, "Again") as stream:
        await stream.until("token")
        async with at(pair, side).join(conversation, original.events[4].id) as joined:
            assert await joined.rest() == original.events[5:]
        gate.open()
        await stream.rest()


@pytest.mark.case(16)
@pytest.mark.parametrize("side", SIDES)
async def test_case_16_a_cursor_of_another_conversation_counts_as_none(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 16: an id of a foreign answer neither skips nor shows anything."""
    _, foreign = await finished(pair, inference)
    conversation = await pair.here.create()
    async with at(pair, side).join(conversation["id"], foreign.events[3].id, expect=204):
        pass
    gate = Gate()
    inference.once(counted(3).wait(gate).done())
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.until("token")
        async with at(pair, side).join(conversation["id"], foreign.events[3].id) as joined:
            assert (await joined.next()).kind == "start"
            gate.open()
            await joined.rest()
            await stream.rest()
        assert joined.events == stream.events


@pytest.mark.case(16)
@pytest.mark.parametrize("side", SIDES)
async def test_case_16_a_cursor_ahead_of_the_log_waits_and_then_gets_the_whole_text(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 16: a number that was never given out; never a silent gap."""
    gate = Gate()
    inference.once(counted(3).wait(gate).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await stream.until("token")
        ahead = stream.cursor.rpartition(".")[0] + ".5000"
        async with at(pair, side).join(conversation["id"], ahead) as joined:
            gate.open()
            await joined.rest()
            assert [event.kind for event in joined.events] == ["snapshot", "done"]
            await stream.rest()
            assert joined.text == stream.text
            assert joined.done == stream.done
    # And the same after the end.
    async with at(pair, side).join(conversation["id"], ahead) as late:
        await late.rest()
        assert late.text == stream.text
        assert late.done == stream.done


@pytest.mark.case(16)
@pytest.mark.parametrize("side", SIDES)
async def test_case_16_a_cursor_of_an_attempt_that_never_was_gets_a_reset(
    pair: Pair, inference: Inference, side: str
) -> None:
    """Case 16: of another attempt: `reset`, then everything."""
    conversation, original = await finished(pair, inference)
    tag = original.cursor.split(".")[0]
    async with at(pair, side).join(conversation, f"{tag}.7.3") as joined:
        await joined.rest()
        assert joined.events[0].kind == "reset"
        assert (joined.text, joined.done) == (original.text, original.done)


@pytest.mark.case(16)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "1",
        "0a3a3e1fb0a1",
        "0a3a3e1fb0a1.1",
        "0a3a3e1fb0a1.1.",
        "0a3a3e1fb0a1.0.1",
        "0a3a3e1fb0a1.1.-1",
        "0a3a3e1fb0a1.1.01",
        "0a3a3e1fb0a1.1.1.1",
        "0A3A3E1FB0A1.1.1",
        "0a3a3e1fb0a1.1.99999999999999999999",
        "0a3a3e1fb0a1.99999999999.1",
        "'; DROP TABLE messages; --",
        "0a3a3e1fb0a1.1.1 ,x",
    ],
)
async def test_case_16_a_malformed_cursor_is_400(pair: Pair, side: str, cursor: str) -> None:
    """Case 16: it does not parse."""
    conversation = await pair.here.create()
    async with at(pair, side).join(conversation["id"], cursor, expect=400) as stream:
        assert (await stream.problem())["status"] == 400
    async with at(pair, side).join(conversation["id"], after=cursor, expect=400) as stream:
        assert (await stream.problem())["status"] == 400


async def test_the_header_beats_the_query(pair: Pair, inference: Inference) -> None:
    conversation, original = await finished(pair, inference)
    first, second = original.events[2].id, original.events[7].id
    async with pair.there.join(conversation, after=second) as stream:
        assert await stream.rest() == original.events[8:]
    async with pair.there.join(conversation, first, after=second) as stream:
        assert await stream.rest() == original.events[3:]
    async with pair.there.join(conversation, first, after="nonsense") as stream:
        assert await stream.rest() == original.events[3:]


@pytest.mark.parametrize("side", SIDES)
async def test_after_the_log_was_swept_a_cursor_gets_a_snapshot(
    pair: Pair, inference: Inference, side: str
) -> None:
    conversation, original = await finished(pair, inference)
    await forget_log(pair, original.start["message_id"])
    for seen in (0, 4, 9):
        async with at(pair, side).join(conversation, original.events[seen].id) as stream:
            await stream.rest()
            assert [event.kind for event in stream.events] == ["snapshot", "done"]
            assert stream.events[0].data == {"snapshot": {"content": original.text}}
            # The id of a snapshot is that of the last event it contains.
            assert stream.events[0].id == original.events[-2].id
            assert stream.events[1] == original.events[-1]
        async with at(pair, side).join(conversation, stream.events[0].id) as stream:
            assert (await stream.rest())[-1] == original.events[-1]
    async with at(pair, side).join(conversation, original.cursor, expect=204):
        pass
    async with at(pair, side).join(conversation, expect=204):
        pass


async def test_the_log_is_swept_when_its_retention_is_over(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(LOG_RETENTION_SECONDS="1")
    conversation, original = await finished(pair, inference)

    async def swept() -> bool:
        return bool(await pair.db.value("SELECT count(*) = 0 FROM event_log"))

    await eventually(swept)
    async with pair.there.join(conversation, original.events[3].id) as stream:
        await stream.rest()
        assert [event.kind for event in stream.events] == ["snapshot", "done"]
        assert (stream.text, stream.done) == (original.text, original.done)


@pytest.mark.parametrize("side", SIDES)
async def test_a_failed_answer_is_replayed_with_its_error(
    pair: Pair, inference: Inference, side: str
) -> None:
    inference.once(Script().status(500))
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as original:
        await original.rest()
        assert [event.kind for event in original.events] == ["start", "error", "done"]
    async with at(pair, side).join(conversation["id"], original.events[0].id) as stream:
        assert await stream.rest() == original.events[1:]
    await forget_log(pair, original.start["message_id"])
    async with at(pair, side).join(conversation["id"], original.events[0].id) as stream:
        events = await stream.rest()
        assert [event.kind for event in events] == ["snapshot", "error", "done"]
        assert events[1:] == original.events[1:]


async def test_an_answer_cut_off_by_upstream_is_replayed_with_its_text_and_error(
    pair: Pair, inference: Inference
) -> None:
    inference.once(counted(4).cut())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as original:
        await original.rest()
        assert original.done["status"] == "interrupted"
    for sweep in (False, True):
        if sweep:
            await forget_log(pair, original.start["message_id"])
        async with pair.there.join(conversation["id"], original.events[2].id) as stream:
            events = await stream.rest()
            assert events[-2].data["error"] == original.events[-2].data["error"]
            assert events[-1] == original.events[-1]
            reader = Follower()
            for event in [*original.events[:3], *events]:
                reader.take(event)
            assert reader.text == original.text


async def test_several_readers_each_at_its_own_pace(pair: Pair, inference: Inference) -> None:
    steps = [Gate() for _ in range(4)]
    script = counted(5)
    for gate in steps:
        script.wait(gate).count(5)
    inference.once(script.done())
    conversation = await pair.here.create()
    async with contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(pair.here.send(conversation["id"], "Count"))
        await sender.until("token")
        joined = [
            await stack.enter_async_context(side.join(conversation["id"]))
            for side in (pair.here, pair.there, pair.here, pair.there)
        ]
        lazy = joined[0]  # takes nothing until the end
        for number, gate in enumerate(steps):
            for stream in joined[1:]:
                await stream.until(numbered(5 * number + 4))
            gate.open()
        for stream in (sender, *joined):
            await stream.rest()
        for stream in joined:
            assert stream.events == sender.events
        assert length(lazy.text) == 25


async def test_a_late_joiner_on_the_owner_is_served_from_the_log(
    pair: Pair, inference: Inference
) -> None:
    """Memory keeps the last 5 s; what came before is read from the log, and then joined to it."""
    gate = Gate()
    inference.once(counted(5).count(60, pause=0.1).wait(gate).count(5).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until(numbered(64))
        for side in pair.clients:
            async with side.join(conversation["id"]) as late:
                await late.until(numbered(64))
                assert late.events == sender.events
            async with side.join(conversation["id"], sender.events[20].id) as late:
                await late.until(numbered(64))
                assert late.events == sender.events[21:]
        async with pair.here.join(conversation["id"]) as late:
            gate.open()
            await late.rest()
            await sender.rest()
            assert late.events == sender.events


async def test_a_late_joiner_keeps_up_with_an_answer_that_goes_on(
    pair: Pair, inference: Inference
) -> None:
    """Read from the log while more is written, and handed over to memory without a seam."""
    inference.once(counted(50).count(70, pause=0.1).count(400, pause=0.002).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until(numbered(118))
        async with (
            pair.here.join(conversation["id"]) as one,
            pair.there.join(conversation["id"]) as two,
        ):
            await asyncio.gather(sender.rest(), one.rest(), two.rest())
        assert one.events == sender.events
        assert two.events == sender.events
        assert length(sender.text) == 520


@pytest.mark.parametrize("owner", [True, False])
async def test_a_followed_stream_has_heartbeats(
    start_pair: StartPair, inference: Inference, owner: bool
) -> None:
    pair = await start_pair(HEARTBEAT_SECONDS="0.3")
    gate = Gate()
    inference.once(counted(2).wait(gate).count(1).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until("token")
        async with (pair.here if owner else pair.there).join(conversation["id"]) as stream:
            await eventually(lambda: len(stream.reader.comments) >= 3)
            gate.open()
            await stream.rest()
            await sender.rest()
            assert stream.events == sender.events
        assert len(sender.reader.comments) >= 2


async def test_a_stream_looks_to_an_old_client_like_any_other(
    pair: Pair, inference: Inference
) -> None:
    gate = Gate()
    inference.once(counted(4).wait(gate).count(4).done())
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Count") as sender:
        await sender.until("token")
        async with pair.there.join(conversation["id"]) as stream:
            gate.open()
            await stream.rest()
            assert as_an_old_client(stream.raw) == (stream.text, True)


@pytest.mark.case(6)
async def test_joining_what_is_not_yours_is_404(pair: Pair, inference: Inference) -> None:
    for conversation_id in (NOWHERE, "nonsense"):
        async with pair.here.join(conversation_id, expect=404):
            pass


async def test_a_joining_client_that_was_cut_ten_times_misses_and_repeats_nothing(
    pair: Pair, inference: Inference
) -> None:
    inference.once(counted(300, pause=0.005).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as stream:
        await until_first(stream, reader, 10)
    for number in range(10):
        side = pair.clients[number % 2]
        async with side.join(conversation["id"], reader.cursor) as stream:
            if await reader.read(stream, most=15) == "done":
                break
    await follow(reader, conversation["id"], pair.clients)
    assert length(reader.text) == 300
    assert reader.text == (await inference.call()).text


@pytest.mark.case(16)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("swept", [False, True])
async def test_case_16_a_cursor_of_a_replaced_answer_counts_as_none(
    pair: Pair, inference: Inference, side: str, swept: bool
) -> None:
    """Case 16, rule 11: of an answer that is gone: never a `done` without what came before it."""
    conversation, original = await finished(pair, inference)
    async with pair.here.regenerate(conversation) as stream:
        await stream.rest()
    if swept:
        await forget_log(pair, original.start["message_id"])
    async with at(pair, side).join(conversation, original.events[3].id, expect=204):
        pass


@pytest.mark.case(16)
async def test_a_hole_in_the_log_is_never_skipped_and_costs_nothing(
    pair: Pair, inference: Inference
) -> None:
    """Rule 2: what the database lost in a crash. Followers wait, and are told in the end."""
    first, second, third = Gate(), Gate(), Gate()
    script = counted(5).wait(first).count(5).wait(second).count(5).wait(third).count(1).done()
    inference.once(script)
    conversation = await pair.here.create()
    async with (
        pair.here.send(conversation["id"], "Count") as sender,
        pair.there.join(conversation["id"]) as reader,
    ):
        await reader.until(numbered(4))
        message_id = reader.start["message_id"]
        # The next batch is lost on its way.
        await pair.db.execute("CREATE TABLE lost (first_event integer)")
        await pair.db.execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO lost VALUES (new.first_event); RETURN NULL; END'"
        )
        await pair.db.execute(
            "CREATE TRIGGER lost BEFORE INSERT ON event_log FOR EACH ROW "
            f"WHEN (new.first_event = 6 AND new.message_id = '{message_id}') "
            "EXECUTE FUNCTION lose()"
        )
        try:
            first.open()

            async def lost() -> bool:
                return bool(await pair.db.value("SELECT count(*) > 0 FROM lost"))

            await eventually(lost)
        finally:
            await pair.db.execute("DROP FUNCTION lose() CASCADE; DROP TABLE lost")
        second.open()

        async def goes_on() -> bool:
            return bool(
                await pair.db.value(
                    "SELECT max(last_event) = 15 FROM event_log WHERE message_id = $1", message_id
                )
            )

        await eventually(goes_on)
        process = psutil.Process(pair.services[1].pid)
        before = sum(process.cpu_times()[:2])
        with contextlib.suppress(AssertionError):
            await eventually(lambda: False, 1)
        assert sum(process.cpu_times()[:2]) - before < 0.3
        third.open()
        await reader.rest()
        await sender.rest()
        seen = Follower()
        for event in reader.events:
            seen.take(event)
        assert (seen.text, seen.done) == (sender.text, sender.done)
