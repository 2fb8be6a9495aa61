"""Who tests the tests: the strict reader takes what the contract allows and nothing else."""

import pytest
from tests.support.events import MalformedStreamError, StrictReader, as_an_old_client, text_of

GOOD = (
    b"retry: 1000\n\n"
    b'id: 1\ndata: {"start": {}}\n\n'
    b": heartbeat\n\n"
    b'id: 2\ndata: {"token": "a\xc3\xa4"}\n\n'
    b'id: 3\r\ndata: {"snapshot": {"content": "aX"}}\r\n\r\n'
    b'id: 4\ndata: {"token": "b"}\n\n'
    b'id: 5\ndata: {"done": true}\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_good_stream_is_read_in_pieces_of_any_size(size: int) -> None:
    reader = StrictReader()
    events = [
        event
        for start in range(0, len(GOOD), size)
        for event in reader.feed(GOOD[start : start + size])
    ]
    reader.end()
    assert [event.kind for event in events] == ["start", "token", "snapshot", "token", "done"]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert (reader.retry, reader.comments) == (1000, [" heartbeat"])
    assert text_of(events) == "aXb"
    assert as_an_old_client(GOOD) == ("aäb", True)


@pytest.mark.parametrize(
    "bad",
    [
        b'id: 1\ndata: {"token": "a"}\n\n',
        b'retry: 1000\n\ndata: {"token": "a"}\n\n',
        b'retry: 1000\n\nid:\ndata: {"token": "a"}\n\n',
        b'retry: 1000\n\nevent: token\nid: 1\ndata: {"token": "a"}\n\n',
        b'retry: 1000\n\nid: 1\ndata: {"token":\ndata: "a"}\n\n',
        b"retry: 1000\n\nid: 1\ndata: nonsense\n\n",
        b'retry: 1000\n\nid: 1\ndata: {"token": NaN}\n\n',
        b"retry: 1000\n\nid: 1\ndata: []\n\n",
        b'retry: 1000\n\nid: 1\ndata: {"token": "a", "done": true}\n\n',
        b'retry: 1000\n\nid: 1\ndata: {"token": "\xff"}\n\n',
        b'retry: 1000\n\nid: 1\ndata: {"token": "a"}\n\nid: 1\ndata: {"token": "b"}\n\n',
        b"retry: 1000\n\nid: 1\n\n",
        b'retry: 1000\n\nid: 1\ndata: {"token": "a"}\n',
        b'retry: 1000\n\nid: 1\ndata: {"tok',
    ],
    ids=[
        "no retry",
        "no id",
        "empty id",
        "a name",
        "two data lines",
        "no JSON",
        "NaN",
        "no object",
        "two kinds",
        "no UTF-8",
        "an id twice",
        "an id alone",
        "no blank line at the end",
        "half a line at the end",
    ],
)
def test_a_bad_stream_is_noticed(bad: bytes) -> None:
    def read() -> None:
        reader = StrictReader()
        reader.feed(bad)
        reader.end()

    with pytest.raises(MalformedStreamError):
        read()
