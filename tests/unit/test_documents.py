"""Files of conversations, split while they arrive."""

import json
import tracemalloc
from typing import Any

import pytest

from chat_api.conversations import sources
from chat_api.conversations.documents import Document, Documents

ARRAY = [{"a": '[{\\"}] é'}, 5, {"b": [1, {"c": 2.5}]}, ["x"], {}]


def split(data: bytes, size: int, most_bytes: int = 10_000) -> list[tuple[int, Any, bool]]:
    documents, found = Documents(most_bytes), list[Document]()
    for start in range(0, len(data), size):
        found += documents.feed(data[start : start + size])
    found += documents.end()
    return [(document.line, document.value, bool(document.fault)) for document in found]


@pytest.mark.case(70)
@pytest.mark.parametrize("size", [1, 2, 7, 4096])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_cut_anywhere_is_the_same_objects(size: int, indent: int | None) -> None:
    expected = [
        (number, value if isinstance(value, dict) else None, not isinstance(value, dict))
        for number, value in enumerate(ARRAY, 1)
    ]
    assert split(json.dumps(ARRAY, indent=indent).encode(), size) == expected
    lines = "\r\n".join(map(json.dumps, ARRAY)).encode()
    assert split(lines, size) == [*expected[:-1], (5, {}, False)]
    one = json.dumps(ARRAY[2], indent=1).encode()
    assert split(one, size) == [(1, ARRAY[2], False)]


@pytest.mark.case(70)
def test_what_is_too_large_is_reported_and_the_next_one_is_read() -> None:
    large = {"many": ["x" * 100] * 200}
    for data in (json.dumps([large, {"b": 1}]), f"{json.dumps(large)}\n{{}}"):
        found = split(data.encode(), 500)
        assert [(line, fault) for line, _, fault in found] == [(1, True), (2, False)]
    # A single text is kept by the parser until its end: the file ends there.
    assert split(json.dumps([{"a": "x" * 30_000}, {}]).encode(), 500) == [(1, None, True)]


@pytest.mark.case(70)
@pytest.mark.parametrize(("head", "tail"), [(b"[", b","), (b"", b"\n")], ids=["array", "lines"])
def test_a_long_file_takes_no_memory(head: bytes, tail: bytes) -> None:
    item = json.dumps({"mapping": {"x" * 50: "y" * 20_000}}).encode() + tail
    documents, count = Documents(), len(list(Documents().feed(head)))
    tracemalloc.start()
    try:
        for piece in (head, *(item for _ in range(2_000))):
            count += sum(document.value is not None for document in documents.feed(piece))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert count >= 1_999


@pytest.mark.case(70)
@pytest.mark.parametrize(
    "piece", ['<details type="reasoning"', '<details type="reasoning">', "\ue200", ":::thinking\n"]
)
def test_marks_without_an_end_are_read_in_linear_time(piece: str) -> None:
    """A quadratic reading of a megabyte would not end within the test's time."""
    text = piece * (900_000 // len(piece))
    webui = {"id": "a", "role": "assistant", "content": text}
    message = {"author": {"role": "assistant"}, "content": {"parts": [text]}}
    for document in (
        {"chat": {"history": {"messages": {"a": webui}}}},
        {"mapping": {"a": {"id": "a", "message": message}}},
        {"conversationId": "1", "messages": [{"messageId": "a", "text": text}]},
    ):
        (node,) = sources.read(document).nodes
        assert node.content.rstrip() == text.rstrip()


@pytest.mark.case(70)
@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [b"Infinity", b"1e999", b"-Infinity", b"NaN", b"9" * 4000])
def test_a_time_that_is_no_finite_number_is_none(number: bytes) -> None:
    line = b'{"messages":[{"role":"user","content":"x","created_at":%b}],"updated_at":%b}'
    ((_, document, _),) = split(line % (number, number), 4096)
    source = sources.read(document)
    assert (source.updated_at, source.nodes[0].created_at) == (None, None)
