"""The events of a generation: how they are numbered, named and written as JSON.

An event has a number in its attempt, from 0, which is the attempt's `start`. Its id on the wire,
`<tag>.<attempt>.<number>`, names the message too (by the last 12 hex digits of the message's id,
which are random), so that a cursor of another message is recognised as such.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import orjson

from chat_api import sse
from chat_api.db.event_log import LogRow
from chat_api.engines.engine import Usage
from chat_api.errors import BadRequest

_CURSOR = re.compile(r"([0-9a-f]{12})\.([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_START = b'{"start":'
_SNAPSHOT = b'{"snapshot":'
_NEVER_REACHED = 999_999_999  # the largest number that a cursor may have
_ENDINGS = (b'{"error":', b'{"done":')


def tag_of(message_id: str) -> str:
    """Return the part of an event's id that stands for the message."""
    return message_id[-12:]


def event_id_prefix(message_id: str, attempt: int) -> str:
    """Return the beginning that the ids of all events of an attempt share."""
    return f"{tag_of(message_id)}.{attempt}."


def event_id(message_id: str, attempt: int, number: int) -> str:
    """Return an event's id on the wire."""
    return f"{event_id_prefix(message_id, attempt)}{number}"


def place_of_reset(attempt: int) -> tuple[int, int]:
    """Return the attempt and the number that the id of the `reset` to `attempt` has.

    No event has it: number 0 of the attempt is its `start`. As a cursor it is one of an earlier
    attempt (or, before the first, of one that never was), so that every version understands it.
    """
    return (attempt - 1 or _NEVER_REACHED), _NEVER_REACHED


def frame(message_id: str, attempt: int, number: int, data: bytes) -> bytes:
    """Return an event's bytes on the wire. `data` is JSON on one line."""
    return sse.encode(event_id(message_id, attempt, number), data)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event that a client has seen."""

    tag: str
    attempt: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Return the cursor of an event's id. Raise BadRequest for anything else."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise BadRequest("The cursor is not an id of an event of this service.")
        return cls(found[1], int(found[2]), int(found[3]))


def start(conversation_id: str, message_id: str, question_id: str, attempt: int) -> bytes:
    """Return the first event of every attempt."""
    return orjson.dumps(
        {
            "start": {
                "conversation_id": conversation_id,
                "message_id": message_id,
                "user_message_id": question_id,
                "attempt": attempt,
            }
        }
    )


def reset(attempt: int) -> bytes:
    """Return the event that makes a client forget the text so far."""
    return orjson.dumps({"reset": {"attempt": attempt}})


def snapshot(content: str, reasoning: str = "") -> bytes:
    """Return an event with the text so far, and the reasoning if there is any."""
    document = {"content": content, "reasoning": reasoning} if reasoning else {"content": content}
    return orjson.dumps({"snapshot": document})


def token(text: str) -> bytes:
    """Return the event of a piece of text."""
    return orjson.dumps({"token": text})


def reasoning(text: str) -> bytes:
    return orjson.dumps({"reasoning": text})


def error(code: str, detail: str) -> bytes:
    """Return the event of a failure; `done` follows it."""
    return orjson.dumps({"error": code, "detail": detail})


def done(
    message_id: str,
    status: str,
    token_count: int,
    inference_time_ms: int,
    kept_message_id: str | None = None,
    *,
    model_tag: str = "default",
    finish_reason: str | None = None,
    usage: Usage | None = None,
) -> bytes:
    """Return the last event. An undone regeneration leaves the message `kept_message_id`."""
    event: dict[str, object] = {
        "done": True,
        "message_id": message_id,
        "status": status,
        "token_count": token_count,
        "inference_time_ms": inference_time_ms,
        "model_tag": model_tag,
        "finish_reason": finish_reason,
        "usage": None if usage is None else asdict(usage),
    }
    if kept_message_id is not None:
        event["kept_message_id"] = kept_message_id
    return orjson.dumps(event)


def is_start(data: bytes) -> bool:
    """Return whether it is the first event of an attempt."""
    return data.startswith(_START)


def snapshot_content(data: bytes) -> str | None:
    """Return the text of a `snapshot` event; None for any other event."""
    if not data.startswith(_SNAPSHOT):
        return None
    return str(orjson.loads(data)["snapshot"]["content"])


def _snapshot_reasoning(data: bytes) -> str:
    return str(orjson.loads(data)["snapshot"].get("reasoning", ""))


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event from the log. A snapshot may stand for all events up to its number."""

    number: int
    data: bytes


def unpack(rows: Iterable[LogRow], after: int) -> Iterator[Numbered]:
    """Yield the events of one attempt's rows that follow event `after`, without a gap.

    Rows may overlap. What follows a hole is skipped until the writer fills the hole, with a row
    that ends behind those that were there already.
    """
    for row in rows:
        if row.last_event <= after or row.first_event > after + 1:
            continue
        lines = row.events.encode().split(b"\n")
        is_snapshot = row.is_snapshot
        if is_snapshot is None:  # written by a replica of the previous version (migration 0003)
            is_snapshot = len(lines) != row.last_event - row.first_event + 1
        if is_snapshot:
            yield Numbered(row.last_event, lines[0])
        else:
            for number, line in enumerate(lines, row.first_event):
                if number > after:
                    yield Numbered(number, line)
        after = row.last_event


@dataclass(frozen=True, slots=True)
class Written:
    """The text of a generation so far."""

    text: str
    token_count: int
    reasoning: str = ""


class Collector:
    """Adds up the rows of one attempt."""

    def __init__(self) -> None:
        self.last_event = -1
        """Up to which event there is no hole; the end does not count."""
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._count = 0

    def add(self, row: LogRow) -> None:
        """Add the events of the attempt's next row, except those of its end."""
        for event in unpack((row,), self.last_event):
            if event.data.startswith(_ENDINGS):
                return
            self.last_event = event.number
            document = orjson.loads(event.data)
            if isinstance(piece := document.get("token"), str):
                self._pieces.append(piece)
                self._count += bool(piece)
            elif "reset" in document:
                self._pieces, self._thoughts, self._count = [], [], 0
            elif isinstance(thought := document.get("reasoning"), str):
                self._thoughts.append(thought)
            elif (content := snapshot_content(event.data)) is not None:
                self._pieces, self._thoughts = [content], [_snapshot_reasoning(event.data)]
                self._count = max(self._count, event.number)  # it stands for those before it

    @property
    def written(self) -> Written:
        """Return the text and reasoning so far."""
        return Written("".join(self._pieces), self._count, "".join(self._thoughts))


def collected(rows: Iterable[LogRow]) -> Collector:
    """Return one attempt's rows added up."""
    collector = Collector()
    for row in rows:
        collector.add(row)
    return collector


def written(rows: Iterable[LogRow]) -> Written:
    """Return what one attempt's rows add up to."""
    return collected(rows).written


async def written_by_attempt(rows: Iterable[LogRow]) -> dict[int, Written]:
    """Return the same for every attempt, in as many turns of the event loop as there are rows."""
    collectors: dict[int, Collector] = {}
    for row in rows:
        collectors.setdefault(row.attempt, Collector()).add(row)
        await asyncio.sleep(0)
    return {attempt: collector.written for attempt, collector in collectors.items()}
