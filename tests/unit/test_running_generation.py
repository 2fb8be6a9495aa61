"""One answer while it is written: its numbers, its memory, its text."""

import asyncio
import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api import sse
from chat_api.db.generations import Lease
from chat_api.engines.engine import Event, Usage
from chat_api.errors import EngineIncomplete
from chat_api.generation import events
from chat_api.generation.events import Written, unpack
from chat_api.generation.running import (
    KEPT_SECONDS,
    Beginning,
    RunningGeneration,
    StopReason,
)
from chat_api.generation.writer import _Pump, _usage_of

ID = "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1"
LEASE = Lease(ID, "conversation", "question", 2, 0, "{}", "trace", None)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(answer: RunningGeneration, text: str) -> None:
    for letter in text:
        answer.add(events.token(letter), letter)
        answer.show()


def frame(number: int, data: bytes) -> bytes:
    return sse.encode(f"0a3a3e1fb0a1.2.{number}", data)


def in_memory(answer: RunningGeneration) -> int:
    """How many events `after` can serve."""
    return next(
        count
        for count in range(answer.last_event + 1, -1, -1)
        if answer.after(answer.last_event - count) is not None
    )


class Subscription:
    def __init__(self) -> None:
        self.shown: list[tuple[bytes, int, int]] = []
        self.woken = 0

    def show(self, frames: bytes, first: int, last: int) -> None:
        self.shown.append((frames, first, last))

    def wake(self) -> None:
        self.woken += 1


def test_it_begins_with_its_start() -> None:
    answer = RunningGeneration(LEASE)
    assert answer.last_event == 0
    assert answer.after(-1) == (frame(0, events.start("conversation", ID, "question", 2)), 0)
    assert answer.written == Written("", 0)


def test_events_are_numbered_and_served_from_any_place() -> None:
    answer = RunningGeneration(LEASE)
    write(answer, "abc")
    frames = [
        frame(0, events.start("conversation", ID, "question", 2)),
        *(frame(number, events.token(letter)) for number, letter in enumerate("abc", 1)),
    ]
    for place in range(-1, 4):
        assert answer.after(place) == (b"".join(frames[place + 1 :]), answer.last_event)
    assert answer.after(99) == (b"", 99)


async def test_every_reader_is_shown_every_event_and_told_of_the_end() -> None:
    answer = RunningGeneration(LEASE)
    one, other = Subscription(), Subscription()
    answer.subscribers |= {one, other}
    write(answer, "ab")
    answer.subscribers.discard(other)
    waiting = asyncio.create_task(answer.until_closed())
    await asyncio.sleep(0)
    answer.close()
    await waiting
    await answer.until_closed()
    letters = [(frame(n, events.token(letter)), n, n) for n, letter in enumerate("ab", 1)]
    assert one.shown == other.shown == letters
    assert (one.woken, other.woken) == (1, 0)
    assert answer.closed


def test_what_was_added_together_is_shown_together() -> None:
    answer = RunningGeneration(LEASE)
    reader = Subscription()
    answer.subscribers.add(reader)
    answer.add(events.token("a"))
    answer.add(events.token("b"))
    assert reader.shown == []
    answer.show()
    answer.show()  # nothing new
    together = frame(1, events.token("a")) + frame(2, events.token("b"))
    assert reader.shown == [(together, 1, 2)]


def test_confirmed_events_stay_five_seconds(clock: Clock) -> None:
    assert KEPT_SECONDS == 5
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "abc")
    answer.confirm(3)
    clock.now += 3
    write(answer, "d")
    answer.confirm(4)
    clock.now += 2
    answer.confirm(4)
    assert in_memory(answer) == 5  # exactly five seconds are not more than five
    clock.now += 0.5
    write(answer, "e")
    answer.confirm(5)
    assert in_memory(answer) == 2
    assert answer.after(3) == (frame(4, events.token("d")) + frame(5, events.token("e")), 5)
    assert answer.after(2) is None
    assert answer.after(-1) is None


def test_what_is_not_confirmed_is_never_dropped(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "a" * 1000)
    clock.now += 3600
    answer.confirm(10)
    clock.now += 3600
    answer.confirm(10)
    assert answer.unlogged() is not None
    assert in_memory(answer) == 990
    assert answer.after(10) is not None
    assert answer.after(9) is None


def test_memory_does_not_grow_with_the_answer(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    most = 0
    for _ in range(1000):
        write(answer, "abcd")
        answer.confirm(answer.last_event)
        clock.now += 0.16
        most = max(most, in_memory(answer))
    assert most <= 4 * (6 / 0.16 + 3)
    assert len(answer._batches) <= 6 + 2
    assert answer.written.text == "abcd" * 1000


def test_confirmed_events_take_little_memory_and_are_served_as_they_were(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    frames = [frame(0, events.start("conversation", ID, "question", 2))]
    for second in range(5):
        for letter in "samosa":
            write(answer, letter)
            frames.append(frame(len(frames), events.token(letter)))
            answer.confirm(answer.last_event)
        clock.now += 1 if second < 4 else 0
    *packed, newest = answer._batches
    assert [batch.is_packed for batch in (*packed, newest)] == [True] * 4 + [False]
    assert sum(len(batch.lines) for batch in packed[1:]) < 0.5 * len(b"".join(frames[7:25]))
    for place in range(-1, answer.last_event):
        assert answer.after(place) == (b"".join(frames[place + 1 :]), answer.last_event)


def lines_of(answer: RunningGeneration, final: bytes | None = None) -> tuple[int, int, list[Any]]:
    row = answer.unlogged(final)
    assert row is not None
    assert (row.message_id, row.attempt) == (ID, 2)
    return row.first_event, row.last_event, [json.loads(line) for line in row.events.split("\n")]


def test_what_is_not_logged_is_one_row(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "ab")
    assert lines_of(answer)[:2] == (0, 2)
    answer.confirm(2)
    assert answer.unlogged() is None
    write(answer, "c")
    assert lines_of(answer) == (3, 3, [{"token": "c"}])
    assert lines_of(answer, b'{"done":true}') == (3, 4, [{"token": "c"}, {"done": True}])
    answer.confirm(3)
    assert lines_of(answer, b'{"done":true}') == (4, 4, [{"done": True}])
    assert answer.last_event == 3  # the final event is published once it is saved


def test_a_log_that_lost_its_end_gets_it_again(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "abcd")
    answer.confirm(2)
    clock.now += 1
    answer.confirm(4)
    answer.log_lost(1)
    assert lines_of(answer) == (2, 4, [{"token": letter} for letter in "bcd"])
    answer.log_lost(3)  # a log does not grow by being compared
    assert lines_of(answer)[0] == 2
    clock.now += 60
    answer.confirm(4)
    assert in_memory(answer) == 5  # lost confirmations drop nothing
    clock.now += 5.1
    answer.confirm(4)
    assert in_memory(answer) == 0


def test_a_log_that_lost_more_than_memory_holds_gets_a_snapshot(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "abcd")
    answer.confirm(4)
    clock.now += 6
    write(answer, "ef")
    answer.confirm(4)
    answer.log_lost(1)
    first, last, lines = lines_of(answer)
    assert (first, last, lines) == (2, 6, [{"snapshot": {"content": "abcdef"}}])
    row = answer.unlogged()
    assert row is not None
    assert [event.number for event in unpack([row], 1)] == [6]
    # With a final event the row still holds the text only: `done` is in the answer's own row.
    assert lines_of(answer, b'{"done":true}') == (first, last, lines)


def test_a_log_lost_altogether_gets_everything_again(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)
    write(answer, "ab")
    answer.confirm(2)
    answer.log_lost(-1)
    assert lines_of(answer)[:2] == (0, 2)


@given(
    steps=st.lists(
        st.one_of(
            st.text(alphabet="abc", min_size=1, max_size=5),
            st.sampled_from(["confirm", "late"]),
            st.integers(min_value=-1, max_value=30),  # the log ends here
        ),
        max_size=30,
    )
)
def test_the_log_always_adds_up(steps: list[str | int]) -> None:
    """Whatever is written, confirmed and lost: the rows hold the whole text in the end."""
    clock = Clock()
    answer = RunningGeneration(LEASE, clock=clock)
    rows: dict[int, Any] = {}
    text = ""

    def flush() -> None:
        if (row := answer.unlogged()) is not None:
            rows.setdefault(row.last_event, row)
            answer.confirm(row.last_event)

    for step in steps:
        if isinstance(step, int):
            ends = [last for last in rows if last <= step]
            rows = {last: rows[last] for last in ends}
            answer.log_lost(max(ends, default=-1))
        elif step == "confirm":
            flush()
        elif step == "late":
            clock.now += 4
        else:
            write(answer, step)
            text += step
    flush()
    found = list(unpack([rows[last] for last in sorted(rows)], -1))
    assert found[-1].number == answer.last_event
    assert events.written([rows[last] for last in sorted(rows)]).text == text
    assert answer.written == Written(text, len(text))


# --- text -----------------------------------------------------------------------------------------


@given(pieces=st.lists(st.text(min_size=1, max_size=3), max_size=300))
def test_the_text_is_the_sum_of_its_pieces(pieces: list[str]) -> None:
    answer = RunningGeneration(LEASE)
    for number, piece in enumerate(pieces, 1):
        answer.add(events.token(piece), piece)
        if number % 50 == 0:
            assert answer.written == Written("".join(pieces[:number]), number)
    assert answer.written == answer.written == Written("".join(pieces), len(pieces))
    assert answer.chars == len("".join(pieces))


@pytest.mark.parametrize(
    ("max_chars", "max_bytes", "written"),
    [(1000, 10_000, "abcdef"), (4, 10_000, "abcd"), (5, 10_000, "abcde"), (1000, 41, "abcde")],
)
def test_tokens_that_arrive_alone_meet_the_same_limits(
    max_chars: int, max_bytes: int, written: str, clock: Clock
) -> None:
    outcomes = []
    for is_short in (True, False):
        answer, subscription = RunningGeneration(LEASE, clock=clock), Subscription()
        answer.subscribers.add(subscription)
        pump = _Pump(
            answer,
            max_chars=max_chars,
            max_bytes=max_bytes,
            clock=clock,
            note_model=lambda _generation: None,
        )
        failure = ""
        try:
            for text in ("abc", "de", "f"):
                clock.now += 1
                if is_short:
                    pump.take_token(events.token(text), text)
                else:
                    pump.take([Event(events.token(text), text)])
        except EngineIncomplete as error:
            failure = error.detail
        answer.look(clock.now)
        assert answer.heard == clock.now
        outcomes.append((answer.written, answer.bytes, subscription.shown, failure))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0].text == written


def test_a_beginning_that_is_over_the_limit_gets_no_more(clock: Clock) -> None:
    """It may have been imported, or written under a higher limit."""
    answer = RunningGeneration(LEASE, Beginning(Written("abcdef", 2), 2), clock=clock)
    pump = _Pump(answer, max_chars=4, max_bytes=100, clock=clock, note_model=lambda _: None)
    with pytest.raises(EngineIncomplete):
        pump.take_token(events.token("xyz"), "xyz")
    assert answer.written.text == "abcdef"


@pytest.mark.case(72)
@pytest.mark.parametrize("spent", [Usage(2**31 - 1, 2**31 - 1), None], ids=["resumed", "crashed"])
def test_usage_of_two_requests_fits_into_its_columns(spent: Usage | None) -> None:
    """An engine may report as much as a column holds, for each."""
    beginning = Beginning(Written("abc", 3), 3, spent)
    answer = RunningGeneration(LEASE, beginning)
    answer.usage = Usage(2**31 - 1, 2**31 - 1)
    usage = _usage_of(answer)
    assert usage is not None
    assert usage.output_tokens == 2**31 - 1
    assert usage.input_tokens <= 2**31 - 1


def test_replaced_text_is_gone() -> None:
    answer = RunningGeneration(LEASE)
    write(answer, "short")
    answer.replace_text(Written("something longer", 3))
    assert answer.written == Written("something longer", 3)
    assert answer.chars == 16
    answer.add(events.token("!"), "!")
    assert answer.written == Written("something longer!", 4)


def calls_of(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, run."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_token_costs_no_more_at_the_end_than_at_the_beginning(clock: Clock) -> None:
    answer = RunningGeneration(LEASE, clock=clock)

    def ten_thousand() -> None:
        for _ in range(100):
            write(answer, "x" * 100)
            row = answer.unlogged()
            assert row is not None
            assert row.last_event - row.first_event <= 100  # only what is new is written
            answer.confirm(row.last_event)
            clock.now += 0.15

    first, second = calls_of(ten_thousand), calls_of(ten_thousand)
    assert answer.token_count == 20_000
    assert second == pytest.approx(first, rel=0.05)


# --- stopping -------------------------------------------------------------------------------------


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_first_reason_stands() -> None:
    answer = RunningGeneration(LEASE)
    answer.pump = asyncio.create_task(forever())
    answer.stop_writing(StopReason.STOPPED)
    answer.stop_writing(StopReason.NOT_OURS)
    assert answer.stop_reason is StopReason.STOPPED
    await asyncio.wait({answer.pump})
    assert answer.pump.cancelled()


async def test_what_is_being_saved_is_not_stopped() -> None:
    answer = RunningGeneration(LEASE)
    answer.pump = asyncio.create_task(forever())
    answer.ending = True
    answer.stop_writing(StopReason.STOPPED)
    assert answer.stop_reason is None
    assert answer.pump.cancelling() == 0
    answer.pump.cancel()
    await asyncio.wait({answer.pump})


def test_what_reads_nothing_is_not_stopped() -> None:
    answer = RunningGeneration(LEASE)
    answer.stop_writing(StopReason.STOPPED)
    assert answer.stop_reason is None
