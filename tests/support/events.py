"""Reading an event stream: strictly by the standard, or the way old clients do.

The parser follows "9.2.6 Interpreting an event stream" of the WHATWG HTML standard. On top of
it, `StrictReader` holds the service to its own promises: every event has an id and one `data`
line with one JSON object, has no name, and nothing is left over at the end.
"""

import json
from dataclasses import dataclass
from typing import Any

KINDS = ("start", "token", "reasoning", "reset", "snapshot", "error", "done")


class MalformedStreamError(AssertionError):
    """The stream is not what the contract says."""


@dataclass(frozen=True)
class Event:
    """One event: its id and the object in its data."""

    id: str
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """One of KINDS, or `other`: an event of inference without a token (decision 0005)."""
        kinds = [kind for kind in KINDS if kind in self.data]
        if len(kinds) > 1:
            raise MalformedStreamError(f"an event is one of {KINDS}, not {self.data}")
        return kinds[0] if kinds else "other"


class StrictReader:
    """Bytes in, events out; everything that the contract rules out raises MalformedStreamError."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.comments: list[str] = []
        self.raw = bytearray()
        self._pending = b""
        self._fields: list[tuple[str, str]] = []
        self._seen: set[str] = set()
        self._first = True

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes as they come; the events that they complete are returned."""
        self.raw += data
        self._pending += data
        events = []
        # A CR at the end may be the first half of a CRLF: it waits for the next byte.
        while (line := self._line()) is not None:
            event = self._take(line)
            if event is not None:
                events.append(event)
        return events

    def end(self) -> None:
        """The stream is over: nothing may be left over."""
        if self._pending.rstrip(b"\r") or self._fields:
            raise MalformedStreamError(
                f"the stream ends inside an event: {self._fields} {self._pending[-200:]!r}"
            )

    def _line(self) -> bytes | None:
        ends = [end for end in (self._pending.find(b"\n"), self._pending.find(b"\r")) if end >= 0]
        if not ends:
            return None
        end = min(ends)
        width = 1
        if self._pending[end : end + 1] == b"\r":
            if end + 1 == len(self._pending):
                return None
            width = 2 if self._pending[end + 1 : end + 2] == b"\n" else 1
        line, self._pending = self._pending[:end], self._pending[end + width :]
        return line

    def _take(self, line: bytes) -> Event | None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedStreamError(f"not UTF-8: {line!r}") from error
        if self._first:
            self._first = False
            if text != "retry: 1000":
                raise MalformedStreamError(f"`retry: 1000` comes first, not {text!r}")
        if not text:
            return self._dispatch()
        if text.startswith(":"):
            self.comments.append(text[1:])
            return None
        name, _, value = text.partition(":")
        self._fields.append((name, value.removeprefix(" ")))
        return None

    def _dispatch(self) -> Event | None:
        fields, self._fields = self._fields, []
        names = [name for name, _ in fields]
        values = dict(fields)
        for name in names:
            if name not in {"id", "data", "retry"}:
                raise MalformedStreamError(f"a field {name!r} in {fields}")
        if len(set(names)) != len(names):
            raise MalformedStreamError(f"a field twice in {fields}")
        if "retry" in values:
            if not (values["retry"].isascii() and values["retry"].isdigit()):
                raise MalformedStreamError(f"retry is {values['retry']!r}")
            self.retry = int(values["retry"])
        if "data" not in values:
            if "id" in values:
                raise MalformedStreamError(f"an id without data: {fields}")
            return None
        number = values.get("id", "")
        if not number or "\0" in number:
            raise MalformedStreamError(f"an event without a usable id: {fields}")
        if number in self._seen:
            raise MalformedStreamError(f"the id {number!r} comes twice")
        self._seen.add(number)
        try:
            data = json.loads(values["data"], parse_constant=_no_constant)
        except ValueError as error:
            raise MalformedStreamError(f"data is not JSON: {values['data']!r}") from error
        if not isinstance(data, dict):
            raise MalformedStreamError(f"data is not an object: {data!r}")
        event = Event(number, data)
        assert event.kind
        return event


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def text_of(events: list[Event]) -> str:
    """The answer's text that these events add up to."""
    text = ""
    for event in events:
        if event.kind == "token":
            text += event.data["token"]
        elif event.kind == "reset":
            text = ""
        elif event.kind == "snapshot":
            text = event.data["snapshot"]["content"]
    return text


def as_an_old_client(raw: bytes) -> tuple[str, bool]:
    """What samosaChaat's first clients make of a stream: the text, and whether it is done.

    They look at nothing but the lines that begin with `data:`, and know only token and done.
    """
    text, done = "", False
    for line in raw.decode("utf-8").split("\n"):
        if line.startswith("data:"):
            data = json.loads(line[5:])
            if "token" in data:
                text += data["token"]
            if data.get("done"):
                done = True
    return text, done
