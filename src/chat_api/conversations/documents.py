"""Splitting a file of conversations into JSON objects, piece by piece and in bounded memory.

A file is NDJSON (one object a line), one JSON array of objects, or one object over many lines.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import ijson
import orjson

# The largest conversation that is read; larger ones are reported and skipped.
MOST_BYTES = 32_000_000
_TOO_LARGE = f"The conversation is larger than {MOST_BYTES // 1_000_000} MB."
_NOT_JSON = "This is not valid JSON."
_CUT_OFF = "The file ends in the middle of this."
_NO_OBJECT = "This is not a JSON object."
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b")


class Document(NamedTuple):
    """A line of NDJSON or an element of an array, by its number from 1, or why it is unreadable."""

    line: int
    value: dict[str, Any] | None
    fault: str = ""


class _Reader(Protocol):
    def feed(self, data: bytes) -> Iterator[Document]: ...

    def end(self) -> Iterator[Document]: ...


class NotJson(ValueError):
    """The file is not JSON; the text says what it is, if that is known."""


class Documents:
    """Takes a file in pieces, and yields the objects in it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._start = bytearray()
        self._reader: _Reader | None = None
        self._first = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> Iterator[Document]:
        """Yield the objects that this piece completes. Raise NotJson."""
        yield from self._feed(self._decoded(data))

    def _decoded(self, data: bytes, *, is_end: bool = False) -> bytes:
        """Return the piece in UTF-8, with U+FFFD for what is no text."""
        if self._decoder is None:
            self._first += data
            if len(self._first) < 4 and not is_end:
                return b""
            data, self._first = bytes(self._first), bytearray()
            if data.startswith(_ARCHIVES):
                raise NotJson("This is an archive: unpack it, and send the file in it.")
            encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8"
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        text: str = self._decoder.decode(data, is_end)
        return text.encode("utf-8", "replace")

    def _feed(self, data: bytes) -> Iterator[Document]:
        if not data:  # which the parser would take for the end
            return
        if self._reader is None:
            self._start += data
            self._reader = self._choose(is_end=False)
            if self._reader is None:
                return
            data, self._start = bytes(self._start), bytearray()
        yield from self._reader.feed(data)

    @property
    def is_blank(self) -> bool:
        """Return whether there was nothing but white space so far."""
        return self._reader is None and not self._start.strip(_SPACE)

    def end(self) -> Iterator[Document]:
        """Yield the objects that the end of the file completes. Raise NotJson for an empty file."""
        yield from self._feed(self._decoded(b"", is_end=True))
        if self._reader is None:
            self._reader = self._choose(is_end=True)
            if self._reader is None:
                raise NotJson
            yield from self._reader.feed(bytes(self._start))
        yield from self._reader.end()

    def _choose(self, *, is_end: bool) -> _Reader | None:
        """Return the reader for a file with this beginning; None if more of it is needed."""
        if self._start[:3] == _BOM:
            del self._start[:3]
        begin = self._start.lstrip(_SPACE)
        if not begin:
            if len(self._start) > self._most_bytes:
                raise NotJson
            return None
        if begin[:1] == b"[":
            return _Tree(self._most_bytes, depth=1)
        if begin[:1] != b"{":
            raise NotJson
        first, ended, _ = begin[:65_536].partition(b"\n")
        if not ended and len(begin) < 65_536 and not is_end:
            return None
        if first.strip(_SPACE) == b"{" and ended:
            return _Tree(self._most_bytes, depth=0)
        return _Lines(self._most_bytes)


class _Lines:
    """NDJSON. A line that cannot be read is reported, and the next one is read."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._line = bytearray()
        self._number = 1
        self._is_too_large = False

    def feed(self, data: bytes) -> Iterator[Document]:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._add(piece)
            yield from self._read()
            self._number += 1
        self._add(rest)

    def end(self) -> Iterator[Document]:
        yield from self._read()

    def _add(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > self._most_bytes:
            self._is_too_large = True
            self._line.clear()
        if not self._is_too_large:
            self._line += piece

    def _read(self) -> Iterator[Document]:
        line, self._line = bytes(self._line), bytearray()
        if self._is_too_large:
            self._is_too_large = False
            yield Document(self._number, None, _TOO_LARGE)
        elif line.strip(_SPACE):
            yield _document(self._number, *_parsed(line))


def _parsed(line: bytes) -> tuple[Any, str]:
    try:
        return orjson.loads(line), _NO_OBJECT
    except orjson.JSONDecodeError:
        pass
    try:
        # Python's own parser takes lone surrogates, which other programs write.
        return json.loads(line), _NO_OBJECT
    except (ValueError, RecursionError):
        return None, _NOT_JSON


def _document(number: int, value: Any, fault: str) -> Document:
    return Document(number, value) if isinstance(value, dict) else Document(number, None, fault)


class _Tree:
    """One array of objects (`depth` 1), or one object over many lines (0)."""

    def __init__(self, most_bytes: int, *, depth: int) -> None:
        self._most_bytes = most_bytes
        self._base = depth
        self._depth = 0
        self._number = 1
        self._size = 0  # of the element being read, to the piece
        self._reported = 0  # the number of the last element that was too large
        self._silent = 0  # bytes in which nothing ended: one text
        self._builder: Any = None
        self._is_ended = False
        self._events: Any = ijson.sendable_list()
        self._parser: Any = ijson.basic_parse_coro(self._events, use_float=True)

    def feed(self, data: bytes) -> Iterator[Document]:
        if self._is_ended:
            return
        fault = ""
        try:
            self._parser.send(data)
        except (ijson.JSONError, UnicodeDecodeError, StopIteration):
            fault = _NOT_JSON
        self._size += len(data)
        self._silent = 0 if self._events else self._silent + len(data)
        yield from self._take_all()
        # The parser keeps a text until its end, so an endless one cannot be skipped.
        self._is_ended = bool(fault) or self._silent > self._most_bytes
        if self._is_ended or (self._size > self._most_bytes and self._builder is not None):
            self._builder = None
            if fault or self._reported != self._number:
                yield Document(self._number, None, fault or _TOO_LARGE)
            self._reported = self._number

    def end(self) -> Iterator[Document]:
        if self._is_ended:
            return
        try:
            self._parser.close()
        except (ijson.JSONError, UnicodeDecodeError):
            yield from self._take_all()
            yield Document(self._number, None, _CUT_OFF)
        else:
            yield from self._take_all()

    def _take_all(self) -> Iterator[Document]:
        events, self._events[:] = list(self._events), []
        for event, value in events:
            if event in ("end_map", "end_array"):
                self._depth -= 1
            if self._depth == self._base and self._builder is None:
                if event in ("end_map", "end_array"):
                    self._size = 0
                    self._number += 1
                    continue  # of what was passed over
                if not (event == "start_array" and self._base == 1 and self._depth == 0):
                    self._builder = ijson.ObjectBuilder()
            if self._depth >= self._base and self._builder is not None:
                self._builder.event(event, value)
                if self._depth == self._base and event not in ("start_map", "start_array"):
                    yield _document(self._number, self._builder.value, _NO_OBJECT)
                    self._builder, self._size = None, 0
                    self._number += 1
            if event in ("start_map", "start_array"):
                self._depth += 1
