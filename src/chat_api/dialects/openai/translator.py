"""Translation of a generation's events into a response's: a pure function of all events.

Translations must not change while generations run: a client's cursor counts what was translated.
The golden tests hold them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from chat_api.dialects.openai import ids, objects
from chat_api.dialects.openai.objects import Echo, Ended, Json
from chat_api.dialects.translated import CannotGoOn


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between the items of the output: the names of their events and fields."""

    text: str
    """Of the events that carry the text."""
    part: str
    """Of the events of the item's only part."""
    index: str
    """The field with the number of that part."""
    document: Callable[[str, str, Sequence[Json]], Json]
    """Makes the item from its id, its status and its parts."""
    part_of: Callable[[str], Json]
    """Makes a part from its text."""
    more: Json
    """Further fields beside each piece of the text, and beside the whole."""


_MESSAGE = _Kind(
    text="output_text",
    part="content_part",
    index="content_index",
    document=lambda item_id, status, parts: objects.message_item(
        item_id, "assistant", status, parts
    ),
    part_of=objects.output_text,
    more={"logprobs": []},
)
_REASONING = _Kind(
    text="reasoning_summary_text",
    part="reasoning_summary_part",
    index="summary_index",
    document=objects.reasoning_item,
    part_of=objects.summary_text,
    more={},
)


class _Item:
    """An item of the output that is open."""

    __slots__ = ("_pieces", "after_text", "before_number", "before_text", "id", "index", "kind")

    def __init__(self, kind: _Kind, item_id: str, index: int) -> None:
        self.kind = kind
        self.id = item_id
        self.index = index
        self._pieces: list[str] = []
        # The bytes of a delta's event around its number and its text.
        name = f"response.{kind.text}.delta".encode()
        self.before_number = b'event: %b\ndata: {"type": "%b", "sequence_number": ' % (name, name)
        self.before_text = (
            f', "item_id": "{item_id}", "output_index": {index}, "{kind.index}": 0, "delta": '
        ).encode()
        more = (b', "%b": %b' % (key.encode(), orjson.dumps(kind.more[key])) for key in kind.more)
        self.after_text = b"".join(more) + b"}\n\n"

    def add(self, text: str) -> None:
        """Add a piece of the text."""
        self._pieces.append(text)

    @property
    def text(self) -> str:
        """Return the text so far."""
        return "".join(self._pieces)

    @property
    def place(self) -> Json:
        """Return the fields that say where the item's part is."""
        return {"item_id": self.id, "output_index": self.index, self.kind.index: 0}


class Translator:
    """Makes the events of one response, numbered from 0.

    Those up to `after` are left out. `last_number` is that of the final event, where it is known
    from an earlier translation: without the log the numbers before it cannot be rebuilt, and a
    client with a cursor gets the final event only.
    """

    def __init__(
        self,
        message_id: str,
        conversation_id: str,
        echo: Echo,
        *,
        after: int = -1,
        last_number: int | None = None,
    ) -> None:
        self.has_ended = False
        self.number = -1
        """Of the last event."""
        self._message_id = message_id
        self._conversation_id = conversation_id
        self._echo = echo
        self._after = after
        self._last_number = last_number
        self._output: list[Json] = []
        self._message: _Item | None = None
        self._reasoning: _Item | None = None
        self._reasonings = 0
        self._error: str | None = None
        self._is_lost = False
        """Whether the numbers before the final event cannot be rebuilt for the client's cursor."""

    def belong_to(self, message_id: str, conversation_id: str, echo: Echo) -> None:
        """Translate another response, before the first event."""
        self._message_id = message_id
        self._conversation_id = conversation_id
        self._echo = echo

    def translate(self, _attempt: int, _number: int, data: bytes) -> bytes:
        """Return the response's events for one of the generation's. Raise CannotGoOn."""
        if self.has_ended:
            return b""
        sent = self._begin() if self.number < 0 else b""
        event = orjson.loads(data)
        if isinstance(text := event.get("token"), str):
            return sent + self._add_text(text)
        if isinstance(thought := event.get("reasoning"), str):
            return sent + self._add_reasoning(thought)
        if "snapshot" in event:
            return sent + self._catch_up(event["snapshot"])
        if "reset" in event:
            return sent + self._begin_again()
        if "error" in event:
            self._error = str(event["error"])
        elif event.get("done"):
            return sent + self._end(event)
        return sent

    # --- what is shown ---

    def _event(self, kind: str, **fields: Any) -> bytes:
        """Number an event; return its bytes unless the client has it."""
        self.number += 1
        if self.number <= self._after or self._is_lost:
            return b""
        document = {"type": kind, "sequence_number": self.number, **fields}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), objects.written(document))

    def _begin(self) -> bytes:
        response = objects.response(self._message_id, self._conversation_id, self._echo)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _add_text(self, text: str) -> bytes:
        if not text:
            return b""
        sent = b""
        if self._reasoning is not None:
            sent = self._close_reasoning("completed")
        if self._message is None:
            sent += self._open_message()
        assert self._message is not None  # noqa: S101  # it is open
        return sent + self._delta(self._message, text)

    def _add_reasoning(self, thought: str) -> bytes:
        if not thought:
            return b""
        sent = self._open_reasoning() if self._reasoning is None else b""
        assert self._reasoning is not None  # noqa: S101  # it is open
        return sent + self._delta(self._reasoning, thought)

    def _catch_up(self, snapshot: Json) -> bytes:
        """Show the part of a snapshot that was not shown before."""
        content = str(snapshot["content"])
        shown = "" if self._message is None else self._message.text
        if not content.startswith(shown):
            raise CannotGoOn
        if self._message is None and not self._reasonings and self._after >= 0:
            self._is_lost = True
        sent = b""
        thought = str(snapshot.get("reasoning", ""))
        if thought and not self._reasonings:
            sent = self._add_reasoning(thought)
        return sent + self._add_text(content[len(shown) :])

    def _begin_again(self) -> bytes:
        if self._message is not None:
            raise CannotGoOn
        return b"" if self._reasoning is None else self._close_reasoning("incomplete")

    def _delta(self, item: _Item, text: str) -> bytes:
        item.add(text)
        self.number += 1
        if self.number <= self._after or self._is_lost:
            return b""
        return b"%b%d%b%b%b" % (
            item.before_number,
            self.number,
            item.before_text,
            orjson.dumps(text),
            item.after_text,
        )

    # --- items ---

    def _open_message(self) -> bytes:
        self._message, sent = self._open(_MESSAGE, ids.item_id(self._message_id))
        return sent

    def _close_message(self, status: str) -> bytes:
        item, self._message = self._message, None
        return self._close(item, status)

    def _open_reasoning(self) -> bytes:
        item_id = ids.reasoning_id(self._message_id, self._reasonings)
        self._reasonings += 1
        self._reasoning, sent = self._open(_REASONING, item_id)
        return sent

    def _close_reasoning(self, status: str) -> bytes:
        item, self._reasoning = self._reasoning, None
        return self._close(item, status)

    def _open(self, kind: _Kind, item_id: str) -> tuple[_Item, bytes]:
        """Return a new item at the end of the output, and the events that announce it."""
        item = _Item(kind, item_id, len(self._output))
        document = kind.document(item_id, "in_progress", [])
        self._output.append(document)
        return item, self._event(
            "response.output_item.added", output_index=item.index, item=document
        ) + self._event(f"response.{kind.part}.added", **item.place, part=kind.part_of(""))

    def _close(self, item: _Item | None, status: str) -> bytes:
        """Put the whole item into the output, and return the events that end it."""
        assert item is not None  # noqa: S101  # it was open
        kind = item.kind
        part = kind.part_of(item.text)
        document = kind.document(item.id, status, [part])
        self._output[item.index] = document
        return (
            self._event(f"response.{kind.text}.done", **item.place, text=item.text, **kind.more)
            + self._event(f"response.{kind.part}.done", **item.place, part=part)
            + self._event("response.output_item.done", output_index=item.index, item=document)
        )

    # --- the end ---

    def _end(self, done: Json) -> bytes:
        ended = Ended(
            done["status"],
            done["token_count"],
            done["inference_time_ms"],
            done.get("finish_reason"),
            done.get("usage"),
            self._error,
        )
        status = "completed" if ended.is_whole else "incomplete"
        sent = b""
        if self._reasoning is not None:
            sent = self._close_reasoning(status)
        if self._message is None and ended.status == "complete":
            sent += self._open_message()
        if self._message is not None:
            sent += self._close_message(status)
        if self._last_number is not None:
            self.number = max(self.number, self._last_number - 1)
        elif self._is_lost:
            self.number = max(self.number, self._after)
        self._is_lost = False
        response = objects.response(
            self._message_id, self._conversation_id, self._echo, self._output, ended
        )
        sent += self._event(objects.final_event(ended), response=response)
        self.has_ended = True
        return sent
