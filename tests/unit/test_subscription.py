"""One client's way through an answer: from memory, from the log, from what was saved."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from tests.unit.world import LEASE_SECONDS, World, ending, log_row

from chat_api import sse
from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db import leases as db_leases
from chat_api.db import queries
from chat_api.db.database import Database
from chat_api.db.event_log import LogRow
from chat_api.db.generations import Lease, Outcome
from chat_api.generation import events
from chat_api.generation import running as running_module
from chat_api.generation.log_follower import Follower
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration
from chat_api.generation.sink import Discard, Sink
from chat_api.generation.subscription import Subscription

Event = tuple[str, dict[str, Any]]  # `attempt.number`, and the event


class Counting(Database):
    """Counts the statements that go through it."""

    statements = 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        self.statements += 1
        return await super().fetch(statement, *arguments)


class Client:
    """A sink, and the subscription that writes to it in a task of its own."""

    blocked_since: float | None = None
    aborted = False

    def __init__(self, subscribe: Callable[[Sink], Subscription]) -> None:
        self.takes = False  # whether it can be written to at once
        self.written_at_once = 0
        self.events: list[Event] = []
        self.heartbeats = 0
        self.retries = 0
        self.reader = subscribe(self)
        self._task = asyncio.create_task(self._read())

    def try_write(self, data: bytes) -> bool:
        if self.takes:
            self.written_at_once += 1
            self.receive(data)
        return self.takes

    async def write(self, data: bytes) -> None:
        self.receive(data)

    def abort(self) -> None:
        self.aborted = True
        self._task.cancel()

    async def _read(self) -> None:
        try:
            await self.reader.run()
        finally:
            self.reader.close()

    def receive(self, chunk: bytes) -> None:
        for frame in chunk.split(b"\n\n")[:-1]:
            lines = frame.split(b"\n")
            if lines[0].startswith(b"id: "):
                tag, _, place = lines[0][4:].decode().partition(".")
                assert tag == self.reader.message_id[-12:]
                self.events.append((place, json.loads(lines[1].removeprefix(b"data: "))))
            elif frame + b"\n\n" == sse.RETRY:
                self.retries += 1
            else:
                assert frame + b"\n\n" == sse.HEARTBEAT
                self.heartbeats += 1

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def settled(self) -> "Client":
        """Once it has read what is there for it."""
        for _ in range(10):
            await asyncio.sleep(0)
        return self

    async def to_the_end(self) -> list[Event]:
        async with asyncio.timeout(5):
            await self._task
        assert self.retries == 1
        return self.events

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


class Desk:
    """What a process has: answers in memory, a follower of the log, readers."""

    def __init__(self, pool: Counting) -> None:
        self.pool = pool
        self.registry = Registry()
        self.follower = Follower(pool, every_seconds=0.005)
        self.left: list[Subscription] = []
        self.clients: list[Client] = []

    @property
    def running(self) -> dict[str, RunningGeneration]:
        return self.registry._running

    def reader(
        self,
        message_id: str,
        sink: Sink | None = None,
        *,
        attempt: int = 1,
        number: int = -1,
        one_attempt: bool = False,
    ) -> Subscription:
        return Subscription(
            self.pool,
            self.follower,
            self.registry,
            sink or Discard(),
            message_id,
            attempt=attempt,
            number=number,
            one_attempt=one_attempt,
            on_close=self.left.append,
        )

    def client(self, lease: Lease, **place: Any) -> Client:
        client = Client(lambda sink: self.reader(lease.message_id, sink, **place))
        self.clients.append(client)
        return client

    async def read(self, lease: Lease, **place: Any) -> list[Event]:
        """All that a client gets, the log being followed meanwhile."""
        following = asyncio.create_task(self.follow())
        try:
            return await self.client(lease, **place).to_the_end()
        finally:
            following.cancel()

    async def follow(self) -> None:
        while True:
            await self.follower.step()

    def answer(self, lease: Lease) -> RunningGeneration:
        """Written by this process from now on."""
        return self.registry.add(lease)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    pool = Counting(database_url, size=4, timeout_seconds=10)
    await pool.open()
    desk = Desk(pool)
    yield desk
    for client in desk.clients:
        await client.leave()
    await pool.close()


def beat(reader: Subscription) -> None:
    reader.look_at_clock(time.monotonic() + 99, heartbeat_seconds=9, slow_reader_seconds=9)


def write(answer: RunningGeneration, text: str) -> None:
    for letter in text:
        answer.add(events.token(letter), letter)
        answer.show()


def finish(answer: RunningGeneration, *, saved: bool = True) -> None:
    if saved:
        answer.publish(events.done(answer.message_id, "complete", 1, 7))
        answer.saved = True
    answer.close()


def tokens(text: str, first: int = 1, attempt: int = 1) -> list[Event]:
    return [(f"{attempt}.{at}", {"token": letter}) for at, letter in enumerate(text, first)]


def start_row(lease: Lease, text: str) -> LogRow:
    """A row that begins as every attempt does."""
    row = log_row(lease, 1, list(text))
    start = events.start(lease.conversation_id, lease.message_id, lease.question_id, lease.attempt)
    return replace(row, first_event=0, events=f"{start.decode()}\n{row.events}")


def start(lease: Lease) -> Event:
    data = events.start(lease.conversation_id, lease.message_id, lease.question_id, lease.attempt)
    return (f"{lease.attempt}.0", json.loads(data))


def done(lease: Lease, number: int, status: str = "complete") -> Event:
    return (f"{lease.attempt}.{number}", json.loads(ending(lease, status=status).done))


async def log(world: World, *rows: LogRow) -> None:
    await db_event_log.append(world.pool, world.process, rows)


async def saved(
    world: World, lease: Lease, text: str, *, status: str = "complete", error: str | None = None
) -> int:
    """Ends the answer; the number of its last event."""
    last = len(text) + 1 + (error is not None)
    lines = [start_row(lease, text).events]
    if error is not None:
        lines.append(events.error(error, "It failed.").decode())
    lines.append(ending(lease, status=status).done)
    tail = LogRow(lease.message_id, lease.attempt, 0, last, "\n".join(lines))
    outcome = await world.end(lease, text, status=status, error=error, last_event=last, tail=tail)
    assert outcome is Outcome.SAVED
    return last


async def without_log(world: World, *leases: Lease) -> None:
    await world.pool.fetch(
        "DELETE FROM event_log WHERE message_id = ANY ($1)",
        [lease.message_id for lease in leases],
    )


def joined(found: Iterable[Event]) -> str:
    """The text as a client puts it together."""
    text = ""
    for _, event in found:
        if "reset" in event:
            text = ""
        elif "snapshot" in event:
            text = event["snapshot"]["content"]
        text += event.get("token") or ""
    return text


# --- from memory ----------------------------------------------------------------------------------


async def test_who_is_up_to_date_is_written_to_at_once(world: World, desk: Desk) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = await desk.client(lease, one_attempt=True).settled()
    client.takes = True
    write(answer, "ab")
    assert client.events == [start(lease), *tokens("ab")]  # before anything else could run
    finish(answer)
    assert client.written_at_once == 3
    assert await client.to_the_end() == [*client.events[:3], ("1.3", client.events[-1][1])]


async def test_who_cannot_be_written_to_at_once_misses_nothing(world: World, desk: Desk) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = await desk.client(lease, one_attempt=True).settled()
    client.takes = False
    write(answer, "a")
    client.takes = True
    write(answer, "b")  # stands behind one that waits
    assert client.events == [start(lease)]
    await client.settled()
    assert client.events == [start(lease), *tokens("ab")]
    beat(client.reader)
    write(answer, "c")  # behind a heartbeat
    assert client.written_at_once == 0
    await client.settled()
    write(answer, "d")
    assert client.written_at_once == 1
    assert client.events == [start(lease), *tokens("abcd")]
    assert client.heartbeats == 1


async def test_a_snapshot_is_not_written_at_once_into_the_response_to_a_post(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = await desk.client(lease, one_attempt=True).settled()
    client.takes = True
    answer.replace_text(events.Written("an earlier text", 3))
    answer.publish(events.snapshot("an earlier text"))
    assert client.written_at_once == 0
    await client.settled()
    assert client.events == [start(lease)]


async def test_a_local_answer_is_read_from_memory_alone(world: World, desk: Desk) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = await desk.client(lease).settled()
    assert client.events == [start(lease)]
    write(answer, "ab")
    await client.settled()
    write(answer, "c")
    late = desk.client(lease, number=2)
    finish(answer)
    assert await client.to_the_end() == [
        start(lease),
        *tokens("abc"),
        ("1.4", client.events[-1][1]),
    ]
    assert await late.to_the_end() == client.events[3:]
    assert client.events[-1][1]["done"] is True
    assert desk.pool.statements == 0
    assert answer.subscribers == set()
    assert len(desk.left) == 2


async def test_one_slow_reader_holds_up_nobody(world: World, desk: Desk) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    slow = desk.reader(lease.message_id)._chunks()
    assert (await anext(slow)).count(b"data: ") == 1
    fast = desk.client(lease)
    for letter in "abc":
        write(answer, letter)
        await fast.settled()
    finish(answer)
    assert joined(await fast.to_the_end()) == "abc"
    rest = b"".join([chunk async for chunk in slow])
    assert rest.count(b"data: ") == 4


async def test_an_answer_that_is_not_ours_any_more_ends_without_done(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = desk.client(lease)
    write(answer, "ab")
    finish(answer, saved=False)
    assert await client.to_the_end() == [start(lease), *tokens("ab")]


async def test_what_memory_has_dropped_comes_from_the_log(
    world: World, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "KEPT_SECONDS", -1)  # dropped once it is confirmed
    lease = await world.lease()
    answer = desk.answer(lease)
    write(answer, "abc")
    row = answer.unlogged()
    assert row is not None
    await log(world, row)
    answer.confirm(row.last_event)
    assert answer.after(-1) is None
    write(answer, "de")
    late = desk.client(lease)
    await late.settled()
    await desk.follower.step()
    await late.settled()
    assert late.events == [start(lease), *tokens("abcde")]
    finish(answer)
    await late.to_the_end()
    assert desk.pool.statements == 1


# --- from the log ---------------------------------------------------------------------------------


@pytest.mark.parametrize("one_attempt", [False, True])
@pytest.mark.parametrize("number", [-1, 0, 1, 3])
async def test_an_answer_of_another_process_is_read_from_the_log(
    number: int, one_attempt: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    last = await saved(world, lease, "abc")
    expected = [start(lease), *tokens("abc"), done(lease, last)]
    found = await desk.read(lease, number=number, one_attempt=one_attempt)
    assert found == expected[number + 1 :]


async def test_the_log_is_followed_while_it_grows(world: World, desk: Desk) -> None:
    lease = await world.lease()
    client = await desk.client(lease).settled()
    await log(world, start_row(lease, "ab"))
    await desk.follower.step()
    await client.settled()
    assert client.events == [start(lease), *tokens("ab")]
    await log(world, log_row(lease, 3, ["c"]))
    await desk.follower.step()
    await client.settled()
    await world.end(lease, "abc", last_event=4, tail=None)
    await log(world)
    await world.pool.fetch(
        "INSERT INTO event_log VALUES ($1, 1, 4, 4, $2)", lease.message_id, ending(lease).done
    )
    await desk.follower.step()
    assert await client.to_the_end() == [start(lease), *tokens("abc"), done(lease, 4)]


async def test_what_follows_a_hole_waits_until_it_is_filled(world: World, desk: Desk) -> None:
    lease = await world.lease()
    client = await desk.client(lease).settled()
    await log(world, start_row(lease, "ab"), log_row(lease, 4, ["d", "e"]))
    for _ in range(3):
        await desk.follower.step()
        await client.settled()
        assert client.events == [start(lease), *tokens("ab")]
    await log(world, log_row(lease, 3, ["c"]))
    await desk.follower.step()
    await client.settled()
    assert client.events == [start(lease), *tokens("abcde")]


async def test_rows_that_overlap_are_delivered_once(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await log(
        world,
        start_row(lease, "a"),
        start_row(lease, "abc"),
        log_row(lease, 2, list("bcd")),
        log_row(lease, 3, list("cdef")),
    )
    client = await desk.client(lease).settled()
    await desk.follower.step()
    await client.settled()
    assert client.events == [start(lease), *tokens("abcdef")]


async def test_a_long_log_is_read_page_by_page_without_waiting(world: World, desk: Desk) -> None:
    desk.follower = Follower(desk.pool, every_seconds=3600)
    lease = await world.lease()
    await log(
        world,
        start_row(lease, ""),
        *(log_row(lease, number, ["x"]) for number in range(1, 250)),
    )
    await world.end(
        lease,
        last_event=250,
        tail=LogRow(lease.message_id, 1, 250, 250, ending(lease).done),
    )
    found = await desk.read(lease)
    assert [place for place, _ in found] == [f"1.{number}" for number in range(251)]


@pytest.mark.parametrize("rows", [1, 150])
async def test_a_reader_at_a_hole_does_not_ask_at_once(rows: int, world: World, desk: Desk) -> None:
    desk.follower = Follower(desk.pool, every_seconds=3600)
    lease = await world.lease()
    await log(
        world,
        start_row(lease, "a"),
        *(log_row(lease, number, ["x"]) for number in range(5, 5 + rows)),
    )
    client = await desk.client(lease).settled()
    for _ in range(4):
        if not desk.follower._asked.is_set():
            break  # it waits for the follower's next round
        await desk.follower.step()
        await client.settled()
    assert client.events == [start(lease), *tokens("a")]
    assert not desk.follower._asked.is_set()


# --- attempts -------------------------------------------------------------------------------------


async def begun_again(world: World, lease: Lease) -> Lease:
    new = await db_leases.take(world.pool, lease.message_id, world.process, LEASE_SECONDS)
    assert new is not None
    return new


RESET_TO_2 = "1.999999999"


@pytest.mark.case(59)
@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_reset_has_an_id_of_its_own_from_which_the_rest_follows(
    attempt: int, world: World, desk: Desk
) -> None:
    """Attempt 1 has one too, for cursors of an attempt that never was."""
    lease = await world.lease()
    if attempt == 2:
        lease = await begun_again(world, lease)
    last = await saved(world, lease, "xy")
    rest = [*tokens("xy", attempt=attempt), done(lease, last)]
    whole = await desk.read(lease, attempt=attempt)
    (place, reset), *after = await desk.read(lease, attempt=3 - attempt, number=1)
    assert (reset, after) == ({"reset": {"attempt": attempt}}, rest)
    assert place not in dict(whole)
    of, number = map(int, place.split("."))
    assert await desk.read(lease, attempt=of, number=number) == rest


async def test_a_new_attempt_is_told_as_reset(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "abc"))
    client = await desk.client(lease).settled()
    await desk.follower.step()
    await client.settled()
    new = await begun_again(world, lease)
    await log(world, start_row(new, ""))
    await desk.follower.step()
    await client.settled()
    assert client.events[4:] == [(RESET_TO_2, {"reset": {"attempt": 2}})]
    last = await saved(world, new, "xy")
    await desk.follower.step()
    found = await client.to_the_end()
    assert found[5:] == [*tokens("xy", attempt=2), done(new, last)]
    assert joined(found) == "xy"


async def test_a_new_attempt_in_this_process_is_read_from_memory(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "abc"))
    new = await begun_again(world, lease)
    answer = desk.answer(new)
    write(answer, "xy")
    await log(world, start_row(new, ""))
    client = await desk.client(lease, number=3).settled()
    await desk.follower.step()
    await client.settled()
    assert client.events == [(RESET_TO_2, {"reset": {"attempt": 2}}), *tokens("xy", attempt=2)]
    finish(answer)
    await client.to_the_end()


async def test_a_post_s_response_belongs_to_one_attempt(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "abc"))
    client = await desk.client(lease, one_attempt=True).settled()
    await desk.follower.step()
    await client.settled()
    await saved(world, await begun_again(world, lease), "xy")
    await desk.follower.step()
    assert await client.to_the_end() == [start(lease), *tokens("abc")]


async def test_a_cursor_of_an_earlier_attempt_gets_a_reset_and_all_of_the_later(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    new = await begun_again(world, lease)
    last = await saved(world, new, "xy")
    assert await desk.read(lease, attempt=1, number=77) == [
        (RESET_TO_2, {"reset": {"attempt": 2}}),
        *tokens("xy", attempt=2),
        done(new, last),
    ]


# --- snapshots ------------------------------------------------------------------------------------


async def snapshot_logged(world: World, lease: Lease, text: str) -> None:
    """The log has `text` as one row from event 2 on."""
    row = LogRow(lease.message_id, 1, 2, len(text), events.snapshot(text).decode())
    await log(world, start_row(lease, text[:1]), row, log_row(lease, len(text) + 1, ["!"]))


async def test_a_snapshot_s_id_is_that_of_the_last_event_in_it(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await snapshot_logged(world, lease, "abcde")
    client = await desk.client(lease, number=1).settled()
    await desk.follower.step()
    await client.settled()
    assert client.events == [
        ("1.5", {"snapshot": {"content": "abcde"}}),
        ("1.6", {"token": "!"}),
    ]


@pytest.mark.parametrize(("number", "continues"), [(-1, False), (0, False), (1, False)])
async def test_a_post_gets_no_snapshot_from_the_log(
    number: int, continues: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    await snapshot_logged(world, lease, "abcde")
    found = await desk.read(lease, number=number, one_attempt=True)
    assert not any("snapshot" in event for _, event in found)
    # What it cannot get, it is not told wrongly: the response ends, without `done`.
    assert joined(found) in {"", "a"}
    assert not any("done" in event for _, event in found)


async def test_a_post_gets_the_text_of_a_snapshot_that_begins_the_answer(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    row = LogRow(lease.message_id, 1, 0, 5, events.snapshot("abcde").decode())
    await log(world, row)
    client = await desk.client(lease, number=0, one_attempt=True).settled()
    await desk.follower.step()
    await client.settled()
    assert client.events == [("1.5", {"token": "abcde"})]


async def test_a_post_gets_no_snapshot_from_memory(world: World, desk: Desk) -> None:
    """An idempotent repeat that joins an attempt which keeps an earlier one's text."""
    lease = await world.lease()
    new = await begun_again(world, lease)
    answer = desk.answer(new)
    answer.replace_text(events.Written("abc", 3))
    answer.publish(events.snapshot("abc"))
    row = answer.unlogged(ending(new).done.encode())
    assert await world.end(new, "abc", last_event=2, tail=row) is Outcome.SAVED
    finish(answer)
    assert await desk.read(lease, attempt=2, one_attempt=True) == [
        start(new),
        ("2.1", {"token": "abc"}),
        done(new, 2),
    ]


# --- what was saved -------------------------------------------------------------------------------


async def test_an_answer_whose_log_is_gone_is_a_snapshot(world: World, desk: Desk) -> None:
    lease = await world.lease()
    last = await saved(world, lease, "abc")
    await without_log(world, lease)
    for number in (-1, 0, 2):
        assert await desk.read(lease, number=number) == [
            ("1.3", {"snapshot": {"content": "abc"}}),
            done(lease, last),
        ]


async def test_an_answer_whose_log_is_gone_is_one_token_to_a_post(world: World, desk: Desk) -> None:
    lease = await world.lease()
    last = await saved(world, lease, "abc")
    await without_log(world, lease)
    assert await desk.read(lease, one_attempt=True) == [
        start(lease),
        ("1.5", {"token": "abc"}),  # no event had this id
        done(lease, last),
    ]
    # One that has had some of it already is left to reconnect.
    assert await desk.read(lease, number=1, one_attempt=True) == []


@pytest.mark.parametrize("one_attempt", [False, True])
async def test_a_failed_answer_whose_log_is_gone_fails_again(
    one_attempt: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    last = await saved(world, lease, "abc", status="interrupted", error="inference_timeout")
    await without_log(world, lease)
    found = await desk.read(lease, one_attempt=one_attempt)
    text = ("1.6", {"token": "abc"}) if one_attempt else ("1.3", {"snapshot": {"content": "abc"}})
    assert found[-3:] == [
        text,
        (
            "1.4",
            {
                "error": "inference_timeout",
                "detail": "The inference service sent nothing for too long.",
            },
        ),
        done(lease, last, "interrupted"),
    ]


@pytest.mark.case(59)
@pytest.mark.parametrize("one_attempt", [False, True])
@pytest.mark.parametrize("older", [False, True])
async def test_an_id_never_comes_again_with_other_data(
    one_attempt: bool, older: bool, world: World, desk: Desk
) -> None:
    """Also not after the log is gone, for an error with a wording of its own."""
    lease = await world.lease()
    answer = RunningGeneration(lease)
    answer.add(events.token("abc"), "abc")
    answer.publish(events.error("inference_error", "Cut off at 3 characters."))
    if older:
        answer.publish(events.snapshot("abcdef"))
    end = replace(
        ending(lease, "abcdef" if older else "abc", status="interrupted", error="inference_error"),
        last_event=answer.last_event + 1,
        before_done=events.error("inference_error", "Cut off at 3 characters.").decode()
        + ("\n\n" if older else "\n"),
    )
    tail = answer.unlogged(end.done.encode())
    assert await db_generations.end(world.pool, lease, end, tail) is Outcome.SAVED
    first = dict(await desk.read(lease))
    await without_log(world, lease)
    again = await desk.read(lease, one_attempt=one_attempt)
    told = {place: event for place, event in again if "snapshot" not in event}
    assert {place: first.get(place, event) for place, event in told.items()} == told
    assert again[-1] == list(first.items())[-1]
    assert [event["detail"] for event in told.values() if "error" in event] == [
        "Cut off at 3 characters."
    ]
    if older and not one_attempt:
        assert ("1.3", {"snapshot": {"content": "abcdef"}}) in again
        assert first["1.3"] == {"snapshot": {"content": "abcdef"}}


async def test_an_undone_regeneration_whose_log_is_gone_only_ends(world: World, desk: Desk) -> None:
    conversation = await world.conversation()
    await world.answered(conversation, "old")
    lease = await world.regeneration(conversation)
    last = await saved(world, lease, "abc", status="stopped")
    await without_log(world, lease)
    assert await desk.read(lease) == [done(lease, last, "stopped")]
    assert await desk.read(lease, one_attempt=True) == [
        start(lease),
        done(lease, last, "stopped"),
    ]


async def test_a_cursor_ahead_of_the_log_waits_and_then_gets_a_snapshot(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "ab"))
    client = await desk.client(lease, number=50).settled()
    for _ in range(3):
        await desk.follower.step()
        await client.settled()
    assert client.events == []
    last = await saved(world, lease, "abc")
    await desk.follower.step()
    assert await client.to_the_end() == [
        ("1.3", {"snapshot": {"content": "abc"}}),
        done(lease, last),
    ]


async def test_a_cursor_ahead_of_memory_waits_and_then_gets_a_snapshot(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    write(answer, "abc")
    client = await desk.client(lease, number=50).settled()
    assert client.events == []
    last = await saved(world, lease, "abc")
    del desk.running[lease.message_id]
    finish(answer)
    await client.settled()
    await desk.follower.step()
    assert await client.to_the_end() == [
        ("1.3", {"snapshot": {"content": "abc"}}),
        done(lease, last),
    ]


async def test_a_deleted_answer_ends_the_reading(world: World, desk: Desk) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "ab"))
    client = await desk.client(lease).settled()
    await desk.follower.step()
    await client.settled()
    async with world.pool.transaction() as connection:
        await queries.delete_conversation(connection, world.user, lease.conversation_id)
    await desk.follower.step()
    assert await client.to_the_end() == [start(lease), *tokens("ab")]


async def test_nothing_past_the_last_event_is_delivered(world: World, desk: Desk) -> None:
    lease = await world.lease()
    last = await saved(world, lease, "abc")
    stray = log_row(lease, last + 1, ["stray"])
    await world.pool.fetch(
        "INSERT INTO event_log VALUES ($1, 1, $2, $2, $3)",
        lease.message_id,
        stray.first_event,
        stray.events,
    )
    found = await desk.read(lease)
    assert [event for _, event in found if event.get("token") == "stray"] == []


# --- heartbeats and leaving -----------------------------------------------------------------------


@pytest.mark.parametrize("local", [True, False])
async def test_a_heartbeat_is_sent_in_silence(local: bool, world: World, desk: Desk) -> None:
    lease = await world.lease()
    if local:
        desk.answer(lease)
    client = await desk.client(lease).settled()
    beat(client.reader)
    await client.settled()
    beat(client.reader)
    await client.settled()
    assert client.heartbeats == 2
    assert not client.ended


@pytest.mark.parametrize("local", [True, False])
async def test_a_reader_leaves_when_told_to(local: bool, world: World, desk: Desk) -> None:
    lease = await world.lease()
    if local:
        desk.answer(lease)
    client = await desk.client(lease).settled()
    client.reader.leave()
    await client.settled()
    assert client.ended
    assert desk.left == [client.reader]
    assert not desk.follower._waiting
    if local:
        assert desk.running[lease.message_id].subscribers == set()


async def test_a_reader_told_to_leave_before_it_began_only_begins(world: World, desk: Desk) -> None:
    lease = await world.lease()
    desk.answer(lease)
    reader = desk.reader(lease.message_id)
    reader.leave()
    assert [chunk async for chunk in reader._chunks()] == [sse.RETRY]


async def test_a_reader_told_to_leave_between_events_delivers_no_more(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    reader = desk.reader(lease.message_id)
    chunks = reader._chunks()
    await anext(chunks)
    write(answer, "a")
    reader.leave()
    assert [chunk async for chunk in chunks] == []


@pytest.mark.parametrize("local", [True, False])
async def test_a_reader_told_to_leave_during_a_heartbeat_leaves(
    local: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    if not local:
        desk.running.clear()
    reader = desk.reader(lease.message_id, number=answer.last_event)
    chunks = reader._chunks()
    assert await anext(chunks) == sse.RETRY
    beat(reader)
    assert await anext(chunks) == sse.HEARTBEAT
    reader.leave()
    async with asyncio.timeout(5):
        assert [chunk async for chunk in chunks] == []


@pytest.mark.case(17)
@pytest.mark.parametrize(
    ("blocked_seconds", "is_dropped"), [(None, False), (8.9, False), (9.1, True)]
)
async def test_a_client_that_takes_nothing_for_too_long_is_dropped(
    blocked_seconds: float | None, is_dropped: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    client = await desk.client(lease).settled()
    client.blocked_since = None if blocked_seconds is None else 1000.0
    now = 1000.0 + (blocked_seconds or 0)
    client.reader.look_at_clock(now, heartbeat_seconds=1e9, slow_reader_seconds=9)
    await client.settled()
    assert (client.aborted, client.ended) == (is_dropped, is_dropped)
    assert client.heartbeats == 0


@pytest.mark.parametrize("blocked", [False, True])
async def test_at_the_exit_a_client_that_takes_nothing_is_cut_off(
    blocked: bool, world: World, desk: Desk
) -> None:
    client = await desk.client(await world.lease()).settled()
    client.blocked_since = 1000.0 if blocked else None
    client.reader.send_away()
    await client.settled()
    assert client.ended
    assert client.aborted is blocked


# --- the follower ---------------------------------------------------------------------------------


async def test_all_readers_are_asked_for_in_one_statement(world: World, desk: Desk) -> None:
    leases = [await world.lease() for _ in range(5)]
    clients = [desk.client(lease) for lease in leases for _ in range(4)]
    for client in clients:
        await client.settled()
    await log(world, *(start_row(lease, "ab") for lease in leases[:3]))
    await desk.follower.step()
    for client in clients:
        await client.settled()
    assert desk.pool.statements == 1
    assert [len(client.events) for client in clients] == [3] * 12 + [0] * 8
    # Those without news wait on; those with some ask for what follows.
    assert len(desk.follower._waiting) == 20


async def test_nobody_waiting_asks_nothing(world: World, desk: Desk) -> None:
    step = asyncio.create_task(desk.follower.step())
    await asyncio.sleep(0)
    assert not step.done()
    lease = await world.lease()
    reader = desk.reader(lease.message_id)
    desk.follower.ask(reader, urgent=True)
    desk.follower.forget(reader)
    await step
    assert desk.pool.statements == 0


async def test_a_reader_that_left_while_it_was_looked_up_gets_nothing(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    await log(world, start_row(lease, "ab"))
    client = await desk.client(lease).settled()
    step = asyncio.create_task(desk.follower.step())
    await asyncio.sleep(0)
    client.reader.leave()
    await step
    await client.settled()
    assert client.ended
    assert client.events == []


async def test_ids_never_repeat_whatever_happens(world: World, desk: Desk) -> None:
    """Reconnecting after every event, with the last id seen, gives each event once."""
    lease = await world.lease()
    last = await saved(world, lease, "abcdef")
    found: list[Event] = []
    number = -1
    while number < last:
        rest = await desk.read(lease, number=number)
        found.append(rest[0])
        number = int(rest[0][0].partition(".")[2])
    assert [place for place, _ in found] == [f"1.{number}" for number in range(last + 1)]
    assert joined(found) == "abcdef"
    unknown = replace(lease, message_id=str(uuid4()))
    assert await desk.read(unknown) == []


# --- many readers of a long answer ----------------------------------------------------------------


def long_answer(desk: Desk, lease: Lease, count: int = 20_000) -> RunningGeneration:
    answer = desk.answer(lease)
    for number in range(count):
        answer.add(events.token(f"{number} "), f"{number} ")
    answer.show()
    return answer


async def pieces_of(reader: Subscription) -> list[bytes]:
    return [chunk async for chunk in reader._chunks()][1:]


@pytest.mark.case(50)
@pytest.mark.parametrize("place", ["memory", "batches", "log", "saved"])
async def test_readers_of_a_long_answer_are_given_small_pieces_that_they_share(
    place: str, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = long_answer(desk, lease)
    row = answer.unlogged()
    assert row is not None
    if place == "batches":
        answer.confirm(answer.last_event)
    elif place != "memory":
        last = answer.last_event + 1
        end = replace(ending(lease, answer.written.text), last_event=last)
        tail = answer.unlogged(end.done.encode())
        assert await db_generations.end(world.pool, lease, end, tail) is Outcome.SAVED
        desk.running.clear()
        if place == "saved":
            await without_log(world, lease)
    readings = [asyncio.create_task(pieces_of(desk.reader(lease.message_id))) for _ in range(20)]
    if place in {"memory", "batches"}:
        for _ in range(500):
            await asyncio.sleep(0)
        answer.close()
    following = asyncio.create_task(desk.follow())
    statements = desk.pool.statements
    async with asyncio.timeout(20):
        read = await asyncio.gather(*readings)
    following.cancel()
    whole = b"".join(read[0])
    assert all(b"".join(pieces) == whole for pieces in read)
    assert answer.written.text[-20:].encode() in b"".join(
        json.loads(line[6:]).get("token", json.dumps(json.loads(line[6:]))).encode()
        for line in whole.split(b"\n")
        if line.startswith(b"data: ")
    )
    assert max(len(piece) for pieces in read for piece in pieces) < 200_000
    distinct = {id(piece): len(piece) for pieces in read for piece in pieces}
    if place != "saved":
        assert sum(distinct.values()) < 2 * len(whole)
    assert desk.pool.statements - statements < 60


async def test_a_round_is_bounded_and_the_readers_left_out_come_next(
    world: World, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = [await world.lease() for _ in range(4)]
    for lease in leases:
        answer = long_answer(desk, lease, 3000)
        row = answer.unlogged()
        assert row is not None
        await db_event_log.append(world.pool, world.process, list(db_event_log.pieces(row)))
    desk.running.clear()
    places = [(lease.message_id, 1, -1) for lease in leases]
    monkeypatch.setattr(db_event_log, "ROUND_BYTES", 50_000)
    found = await db_event_log.read_pages(world.pool, places)
    assert list(found) == [0, 1]
    assert all(page.more for page in found.values())
    assert sum(page.size for page in found.values()) < 50_000 + db_event_log.ROW_CHARS
    following = asyncio.create_task(desk.follow())
    clients = [desk.client(lease) for lease in leases]
    async with asyncio.timeout(10):
        while any(len(client.events) < 3001 for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0)
    following.cancel()


@pytest.mark.parametrize("size", [1, 100, 40_000, 200_000])
def test_a_row_is_cut_into_pieces_that_hold_the_same_events(size: int) -> None:
    lines = [events.token("x" * (size + number % 7)).decode() for number in range(50)]
    row = LogRow("m", 1, 10, 59, "\n".join(lines))
    cut = list(db_event_log.pieces(row))
    assert [event.data.decode() for event in events.unpack(cut, 9)] == lines
    assert (cut[0].first_event, cut[-1].last_event) == (10, 59)
    for piece in cut:
        alone = piece.first_event == piece.last_event
        assert alone or len(piece.events) <= db_event_log.ROW_CHARS


def test_a_snapshot_is_never_cut() -> None:
    row = LogRow("m", 1, 0, 9, events.snapshot("x" * 100_000).decode(), is_snapshot=True)
    assert list(db_event_log.pieces(row)) == [row]
