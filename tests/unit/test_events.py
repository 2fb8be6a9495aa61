"""Events, their ids, and what a log adds up to."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.db.event_log import LogRow
from chat_api.errors import BadRequest
from chat_api.generation import events
from chat_api.generation.events import Cursor, Written, unpack, written
from chat_api.generation.options import Options

ID = "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1"


def row(first: int, *lines: bytes, last: int | None = None) -> LogRow:
    last = first + len(lines) - 1 if last is None else last
    return LogRow(ID, 1, first, last, b"\n".join(lines).decode())


def tokens(first: int, text: str) -> LogRow:
    return row(first, *(events.token(letter) for letter in text))


def numbers(*rows: LogRow, after: int = -1) -> list[int]:
    return [event.number for event in unpack(rows, after)]


@given(
    attempt=st.integers(min_value=1, max_value=999_999_999),
    number=st.integers(min_value=0, max_value=999_999_999),
)
def test_an_id_is_a_cursor(attempt: int, number: int) -> None:
    cursor = Cursor.parse(events.event_id(ID, attempt, number))
    assert cursor == Cursor(events.tag_of(ID), attempt, number)
    assert cursor.tag == "0a3a3e1fb0a1"


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "abc",
        "0a3a3e1fb0a1.1",
        "0a3a3e1fb0a1.0.1",
        "0a3a3e1fb0a1.1.-1",
        "0a3a3e1fb0a1.01.1",
        "0a3a3e1fb0a1.1.01",
        "0a3a3e1fb0a1.1.1234567890",
        "0a3a3e1fb0a1.1234567890.1",
        "0A3A3E1FB0A1.1.1",
        "0a3a3e1fb0a1.1.1\n",
        " 0a3a3e1fb0a1.1.1",
        "0a3a3e1fb0a1.1.1.1",
        "0a3a3e1fb0a1.1.١",
        "0a3a3e1fb0a.1.1",
        "0a3a3e1fb0a1.1.1; DROP TABLE",
    ],
)
def test_what_is_no_id_of_ours_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Cursor.parse(text)
    assert "DROP" not in caught.value.detail


@given(text=st.text())
def test_every_event_is_one_line(text: str) -> None:
    for data in (
        events.token(text),
        events.snapshot(text),
        events.error("code", text),
        events.reset(2),
        events.done(ID, "complete", 1, 2),
        events.start(ID, ID, ID, 1),
    ):
        assert b"\n" not in data
        assert b"\r" not in data
        assert isinstance(json.loads(data), dict)
    assert events.snapshot_content(events.snapshot(text)) == text
    assert events.snapshot_content(events.token(text)) is None


def test_events_are_those_of_the_contract() -> None:
    assert json.loads(events.start("c", "m", "q", 2)) == {
        "start": {
            "conversation_id": "c",
            "message_id": "m",
            "user_message_id": "q",
            "attempt": 2,
        }
    }
    assert json.loads(events.reset(2)) == {"reset": {"attempt": 2}}
    assert json.loads(events.snapshot("x")) == {"snapshot": {"content": "x"}}
    assert json.loads(events.error("a", "b")) == {"error": "a", "detail": "b"}
    assert json.loads(events.done("m", "complete", 3, 4)) == {
        "done": True,
        "message_id": "m",
        "status": "complete",
        "token_count": 3,
        "inference_time_ms": 4,
        "model_tag": "default",
        "finish_reason": None,
        "usage": None,
    }
    assert json.loads(events.reasoning("x")) == {"reasoning": "x"}
    assert json.loads(events.snapshot("x", "y")) == {"snapshot": {"content": "x", "reasoning": "y"}}


def test_rows_are_read_from_the_place_on() -> None:
    rows = (tokens(0, "abc"), tokens(3, "de"))
    assert numbers(*rows) == [0, 1, 2, 3, 4]
    assert numbers(*rows, after=1) == [2, 3, 4]
    assert numbers(*rows, after=4) == []
    assert numbers(*rows, after=99) == []


def test_what_follows_a_hole_waits() -> None:
    assert numbers(tokens(0, "ab"), tokens(3, "d")) == [0, 1]
    assert numbers(tokens(1, "b")) == []
    assert numbers(tokens(0, "ab"), tokens(2, "c"), tokens(3, "d")) == [0, 1, 2, 3]


def test_rows_may_overlap() -> None:
    rows = (tokens(0, "ab"), tokens(0, "abcd"), tokens(1, "bcd"), tokens(2, "cdef"))
    assert numbers(*rows) == [0, 1, 2, 3, 4, 5]
    assert written(rows) == Written("abcdef", 6)


@pytest.mark.parametrize("is_snapshot", [True, None])  # None: of the version before
def test_a_snapshot_stands_for_all_up_to_its_number(is_snapshot: bool | None) -> None:
    snapshot = replace(row(2, events.snapshot("abcdef"), last=6), is_snapshot=is_snapshot)
    rows = (tokens(0, "ab"), snapshot, tokens(7, "gh"))
    assert numbers(*rows) == [0, 1, 6, 7, 8]
    assert numbers(*rows, after=4) == [6, 7, 8]
    assert written(rows).text == "abcdefgh"


@given(
    text=st.text(alphabet="abcdef", min_size=1, max_size=40),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12),
    after=st.integers(-1, 40),
)
def test_whatever_rows_there_are_events_come_once_in_order_without_a_gap(
    text: str, cuts: list[tuple[int, int]], after: int
) -> None:
    rows = [
        tokens(first, text[first : last + 1]) for first, last in cuts if first <= last < len(text)
    ]
    rows.sort(key=lambda row: row.last_event)  # as the database orders them
    found = list(unpack(rows, after))
    assert [event.number for event in found] == list(range(after + 1, after + 1 + len(found)))
    assert [json.loads(event.data)["token"] for event in found] == [
        text[event.number] for event in found
    ]


def test_only_tokens_count() -> None:
    rows = (
        row(0, events.start("c", "m", "q", 1), b'{"token":"a","gpu":0}', b'{"token":""}'),
        row(3, b'{"usage":1}', b'{"token":null}', b'{"token":"b"}', events.error("x", "y")),
    )
    assert written(rows) == Written("ab", 2)
    assert written(()) == Written("", 0)


def test_a_snapshot_keeps_the_count() -> None:
    rows = (tokens(0, "ab"), row(2, events.snapshot("abcdef"), last=6), tokens(7, "g"))
    assert written(rows).token_count == 7


def test_options_come_back_as_they_were() -> None:
    options = Options(0.5, 10, 0, force_web_search=False, thinking_mode=True)
    assert Options.from_json(options.as_json()) == options
    assert Options.from_json("{}") == Options()
    assert Options.from_json('{"of_a_newer_replica":1,"top_k":3}') == Options(top_k=3)
    assert options.for_engine() == {
        "temperature": 0.5,
        "max_tokens": 10,
        "top_k": 0,
        "force_web_search": False,
    }
    assert Options().for_engine() == {}
