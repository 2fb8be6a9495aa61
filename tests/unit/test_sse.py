"""Server-sent events, both ways, cut anywhere."""

import json
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.sse import cut, parsed, read_by_the_book

from chat_api import sse
from chat_api.sse import Parser, TooLong

LIMIT = 200


# What a parser may stumble over, more often than chance would have it.
PIECES = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"data",
        b"data:",
        b"data: ",
        b"data:  ",
        b" ",
        b":",
        b": comment",
        b"id: 1",
        b"event: done",
        b"retry: 1",
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\x0b\x0c\x1c",
        b'{"token":"a"}',
        b"\0",
    ]
)
STREAMS = st.one_of(st.binary(max_size=120), st.lists(PIECES, max_size=40).map(b"".join))
PLACES = st.lists(st.integers(min_value=0, max_value=2000), max_size=30)


@pytest.mark.case(23)
@given(stream=STREAMS, places=PLACES)
@example(stream=b"data: a\r\n\r\ndata: b\r\n\r\n", places=[8, 9, 10, 11])
@example(stream=b"\xef\xbb\xbfdata: a\n\n", places=[1, 2])
@example(stream=b"data: a\r\r\n\n", places=[8, 8, 9, 10])
def test_any_split_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    assert parsed(cut(stream, places)) == parsed([stream])


@pytest.mark.case(23)
@given(stream=STREAMS)
def test_single_bytes_give_the_same_events(stream: bytes) -> None:
    assert parsed(stream[at : at + 1] for at in range(len(stream))) == parsed([stream])


@pytest.mark.case(23)
@given(stream=STREAMS)
@example(stream=b"data\n\ndata\ndata\n\ndata:")
@example(stream=b"data: a\r\n\rdata: b\n\r\n")
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    assert parsed([stream]) == read_by_the_book(stream)


@pytest.mark.case(23)
@given(
    texts=st.lists(st.text(max_size=20), max_size=10),
    ends=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=20, max_size=20),
    places=PLACES,
)
def test_json_comes_through_every_mix_of_line_ends(
    texts: list[str], ends: list[bytes], places: list[int]
) -> None:
    documents = [json.dumps({"token": text}, ensure_ascii=False) for text in texts]
    stream = b"".join(
        # A CR would join the LF after it to one line end: the blank line needs the same end.
        b"data: %b%b%b" % (document.encode("utf-8", "surrogatepass"), end, end)
        for document, end in zip(documents, ends, strict=False)
    )
    found = [data.decode("utf-8", "surrogatepass") for data in parsed(cut(stream, places))]
    assert found == documents


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a \n\n", [b"a "]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\nid: 1\nevent: x\n: comment\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\ndata\n\n", [b"\n"]),
        (b"\n\n\n", []),
        (b": only a comment\n\n", []),
        (b"id: 1\n\n", []),
        (b"datax: a\n\n", []),
        (b"Data: a\n\n", []),
        (b" data: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"data: a\n\ndata: b\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        ("data: x\u2028y\u0085z\n\n".encode(), ["x\u2028y\u0085z".encode()]),
        (b"data: x\x0by\x0cz\x1c\n\n", [b"x\x0by\x0cz\x1c"]),
    ],
)
def test_examples_of_the_standard(stream: bytes, events: list[bytes]) -> None:
    assert parsed([stream]) == events


@pytest.mark.case(22)
@pytest.mark.parametrize("size", [1, 7, LIMIT, LIMIT * 10])
def test_a_line_without_an_end_is_too_long(size: int) -> None:
    with pytest.raises(TooLong):
        parsed((b"data: " + b"x" * size for _ in range(LIMIT * 2)), LIMIT)


def test_a_finished_line_is_too_long() -> None:
    with pytest.raises(TooLong):
        parsed([b"data: " + b"x" * LIMIT + b"\n\n"], LIMIT)


@pytest.mark.parametrize("before", [[], [b"data: a\n\n"], [b"data: a\n\n", b"\n"]])
def test_the_limit_holds_for_an_event_in_one_piece_too(before: list[bytes]) -> None:
    longest = b"data: " + b"x" * (LIMIT - len(b"data: "))
    assert parsed([*before, longest + b"\n\n"], LIMIT)[-1] == longest[6:]
    with pytest.raises(TooLong):
        parsed([*before, longest + b"x\n\n"], LIMIT)


def seconds_of(pieces: Callable[[int], Iterable[bytes]], size: int) -> float:
    """The least processor time of three tries at parsing pieces of that many bytes."""

    def once() -> float:
        parser = Parser(10**9)
        chunks = list(pieces(size))
        began = time.process_time()
        for chunk in chunks:
            for _ in parser.feed(chunk):
                pass
        return time.process_time() - began

    return min(once() for _ in range(3))


@pytest.mark.case(49)
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(lambda size: [b"data: ", *([b"x"] * size)], id="one line, byte by byte"),
        pytest.param(
            lambda size: [b"data: " + b"x" * size, *([b"x"] * (size // 8))],
            id="a long line, then single bytes",
        ),
        pytest.param(lambda size: [b"data:\n"] * (size // 6), id="one event of many lines"),
        pytest.param(lambda size: [b"data:\n" * (size // 6)], id="many lines in one piece"),
        pytest.param(lambda size: [b": ", *([b"c"] * size)], id="a comment without an end"),
        pytest.param(lambda size: [b":\n"] * (size // 2), id="many comments"),
        pytest.param(lambda size: [b"\r", b"\n"] * (size // 2), id="line ends cut in two"),
        pytest.param(lambda size: [b"data: x\r", b"\n\r", b"\n"] * (size // 11), id="CR LF events"),
        pytest.param(lambda size: [b"data: {}\n\n" * (size // 10)], id="many events in one piece"),
    ],
)
def test_the_work_is_linear_in_the_bytes(pieces: Callable[[int], Iterable[bytes]]) -> None:
    """Eight times the bytes take about 8 times as long; quadratic work takes 64 times."""
    size = 20_000
    assert seconds_of(pieces, 8 * size) < 24 * seconds_of(pieces, size) + 0.05


@pytest.mark.parametrize("line", [b"data: x\n", b"data:\n", b"data\n"])
def test_an_event_of_endless_lines_is_too_long(line: bytes) -> None:
    with pytest.raises(TooLong):
        parsed((line * 10 for _ in range(LIMIT)), LIMIT)


def test_what_came_before_an_endless_line_is_delivered() -> None:
    parser = Parser(LIMIT)
    found: list[bytes] = []
    with pytest.raises(TooLong):
        found.extend(parser.feed(b"data: a\n\ndata: b\n\ndata: " + b"x" * LIMIT))
    assert found == [b"a", b"b"]


def test_the_limit_is_one_event_s_not_the_stream_s() -> None:
    assert len(parsed([b"data: " + b"x" * 100 + b"\n\n"] * 50, LIMIT)) == 50


def test_endless_comments_and_fields_take_no_memory() -> None:
    parser = Parser(LIMIT)
    for _ in range(1000):
        assert list(parser.feed(b": comment\nid: 7\nevent: x\n")) == []
    assert parser._rest == b""
    assert parser._data == []


@given(
    event_id=st.from_regex(r"[0-9a-f]{12}\.[1-9]\.[0-9]{1,4}", fullmatch=True),
    document=st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_what_is_encoded_is_read_again(event_id: str, document: dict[str, str]) -> None:
    data = json.dumps(document).encode()
    frame = sse.encode(event_id, data)
    assert parsed([frame]) == [data]
    assert frame.startswith(b"id: " + event_id.encode() + b"\n")


def test_data_that_looks_like_a_frame_is_read_again() -> None:
    data = json.dumps({"token": "\ndata: x\n\nid: 1\ndata: {}\n\n"}).encode()
    assert parsed([sse.encode("a.1.1", data)]) == [data]


def test_a_numbered_event_is_encoded_like_any_other() -> None:
    assert sse.numbered(sse.id_prefix("a.1."), 17, b"{}") == sse.encode("a.1.17", b"{}")


def test_heartbeat_and_retry_are_no_events() -> None:
    assert parsed([sse.RETRY, sse.HEARTBEAT]) == []
    assert sse.RETRY == b"retry: 1000\n\n"
    assert sse.HEADERS["cache-control"] == "no-cache, no-transform"
    assert sse.HEADERS["x-accel-buffering"] == "no"
