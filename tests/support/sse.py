"""Ways to run the SSE parser, and another one to compare it with. Standard library only."""

from collections.abc import Iterable
from itertools import pairwise

from chat_api.sse import Parser


def parsed(pieces: Iterable[bytes], limit: int = 1_000_000) -> list[bytes]:
    """The events' data."""
    parser = Parser(limit)
    found: list[bytes] = []
    for piece in pieces:
        only = parser.only_event(piece)
        found += parser.feed(piece) if only is None else [only]
    return found


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in pieces."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def read_by_the_book(stream: bytes) -> list[bytes]:
    """WHATWG HTML, 9.2.6, as slowly as it is written there."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    *lines, _unfinished = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events, buffer = [], b""
    for line in lines:
        field, _, value = line.partition(b":")
        if not line:
            if buffer:
                events.append(buffer.removesuffix(b"\n"))
            buffer = b""
        elif field == b"data":
            buffer += value.removeprefix(b" ") + b"\n"
    return events
