"""Server-sent events, both ways (WHATWG HTML, section 9.2 "Server-sent events").

What we send, decided here once: unnamed events of an `id` line and one `data` line of JSON; a
`retry` of one second first, so that a browser's EventSource comes back quickly; a comment as
heartbeat. JSON has no raw line ends, so one `data` line always suffices.
"""

from collections.abc import Iterator

RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": still here\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def encode(event_id: str, data: bytes) -> bytes:
    """Return one event's bytes. `data` is JSON on one line."""
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), data)


def id_prefix(begin: str) -> bytes:
    """Return the common beginning of many events' ids, for `numbered`."""
    return b"id: " + begin.encode()


def numbered(prefix: bytes, number: int, data: bytes) -> bytes:
    """Return one event's bytes; its id is that beginning and the number."""
    return b"%b%d\ndata: %b\n\n" % (prefix, number, data)


class TooLong(ValueError):
    """A line or an event is longer than the parser's limit."""


class Parser:
    """Bytes in, in pieces cut anywhere; the events' data out.

    Lines end at CR LF, LF or CR and nowhere else: JSON may hold U+2028, which `splitlines` would
    take for a line's end. A byte order mark at the start, comments and fields other than `data` are
    passed over. An event that the stream's end cuts off is not delivered, as the standard says.
    """

    def __init__(self, max_event_bytes: int = 1_000_000) -> None:
        self._limit = max_event_bytes
        # The unfinished line. It is extended in place and never searched again, so that the work is
        # linear in the bytes, however they are cut.
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._skip_lf = False
        self._is_between = False  # nothing of an event, or of a line's end, has begun

    def only_event(self, chunk: bytes) -> bytes | None:
        """Return the data of an event that is all of `chunk`, in one line, as engines write it.

        None for anything else, which `feed` is to take. Nothing is kept of either.
        """
        if not self._is_between or len(chunk) > self._limit:
            return None
        line, _, rest = chunk.partition(b"\n")
        data = line.removeprefix(b"data: ")
        # `find`, since `in` costs bytes an exception: they may contain numbers, too.
        if rest != b"\n" or len(data) == len(line) or data.find(b"\r") >= 0:
            return None
        return data

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that `chunk` completes.

        Raise TooLong when an event outgrows the limit, finished or not.
        """
        self._is_between = False
        if self._skip_lf and chunk:
            # A CR ended the last chunk; this LF is the second half of the same line end.
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if self._at_start:
            chunk = bytes(self._rest) + chunk  # at most two bytes of a byte order mark
            if len(chunk) < 3 and b"\xef\xbb\xbf".startswith(chunk):
                self._rest = bytearray(chunk)
                return
            self._at_start = False
            self._rest.clear()
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        if len(lines) > 1:
            if self._rest:
                self._rest += lines[0]
                lines[0] = bytes(self._rest)
            self._rest = bytearray(lines.pop())
            yield from self._events(lines)
        else:
            self._rest += chunk
        self._check(len(self._rest))
        self._is_between = not (self._rest or self._data or self._skip_lf)

    def _events(self, lines: list[bytes]) -> Iterator[bytes]:
        """Return the data of every event that these whole lines complete."""
        for line in lines:
            if line.startswith(b"data:"):
                self._size += len(line)
                self._check(0)
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    self._data = []
                    self._size = 0
                    yield data
            elif line == b"data":
                self._size += len(line)
                self._check(0)
                self._data.append(b"")

    def rest(self) -> bytes:
        """Return the received data of an event that the stream's end has cut off."""
        list(self._events([bytes(self._rest)] if self._rest else []))
        return b"\n".join(self._data)

    def _check(self, unfinished: int) -> None:
        if self._size + unfinished > self._limit:
            raise TooLong(f"an event of more than {self._limit} bytes")
