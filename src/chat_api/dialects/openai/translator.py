"""Translation of a generation's events into a response's: a pure function of all events.

Translations must not change while generations run: a client's cursor counts what was translated.
The golden tests hold them.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from chat_api.dialects.openai import ids, objects
from chat_api.dialects.openai.objects import Echo, Ended, Json
from chat_api.dialects.translated import CannotGoOn


@dataclass(slots=True)
class _Item:
    """An item of the output that is open."""

    id: str
    index: int
    before_delta: bytes
    after_delta: bytes
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


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
        item.pieces.append(text)
        self.number += 1
        if self.number <= self._after or self._is_lost:
            return b""
        return b"%b%d%b%b%b" % (
            _BEFORE_NUMBER[item.id[0]],
            self.number,
            item.before_delta,
            orjson.dumps(text),
            item.after_delta,
        )

    # --- items ---

    def _open_message(self) -> bytes:
        item_id = ids.item_id(self._message_id)
        index = len(self._output)
        self._message = _Item(
            item_id,
            index,
            b', "item_id": "%b", "output_index": %d, "content_index": 0, "delta": '
            % (item_id.encode(), index),
            b', "logprobs": []}\n\n',
        )
        item = objects.message_item(item_id, "assistant", "in_progress", [])
        self._output.append(item)
        return self._event(
            "response.output_item.added", output_index=index, item=item
        ) + self._event(
            "response.content_part.added",
            item_id=item_id,
            output_index=index,
            content_index=0,
            part=objects.output_text(""),
        )

    def _close_message(self, status: str) -> bytes:
        item, self._message = self._message, None
        assert item is not None  # noqa: S101  # it was open
        at = {"item_id": item.id, "output_index": item.index, "content_index": 0}
        part = objects.output_text(item.text)
        whole = objects.message_item(item.id, "assistant", status, [part])
        self._output[item.index] = whole
        return (
            self._event("response.output_text.done", **at, text=item.text, logprobs=[])
            + self._event("response.content_part.done", **at, part=part)
            + self._event("response.output_item.done", output_index=item.index, item=whole)
        )

    def _open_reasoning(self) -> bytes:
        item_id = ids.reasoning_id(self._message_id, self._reasonings)
        self._reasonings += 1
        index = len(self._output)
        self._reasoning = _Item(
            item_id,
            index,
            b', "item_id": "%b", "output_index": %d, "summary_index": 0, "delta": '
            % (item_id.encode(), index),
            b"}\n\n",
        )
        item = objects.reasoning_item(item_id, "in_progress", [])
        self._output.append(item)
        return self._event(
            "response.output_item.added", output_index=index, item=item
        ) + self._event(
            "response.reasoning_summary_part.added",
            item_id=item_id,
            output_index=index,
            summary_index=0,
            part=objects.summary_text(""),
        )

    def _close_reasoning(self, status: str) -> bytes:
        item, self._reasoning = self._reasoning, None
        assert item is not None  # noqa: S101  # it was open
        at = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
        part = objects.summary_text(item.text)
        whole = objects.reasoning_item(item.id, status, [part])
        self._output[item.index] = whole
        return (
            self._event("response.reasoning_summary_text.done", **at, text=item.text)
            + self._event("response.reasoning_summary_part.done", **at, part=part)
            + self._event("response.output_item.done", output_index=item.index, item=whole)
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


# By the first letter of the item's id.
_BEFORE_NUMBER = {
    letter: b'event: %b\ndata: {"type": "%b", "sequence_number": ' % (kind, kind)
    for letter, kind in (
        ("m", b"response.output_text.delta"),
        ("r", b"response.reasoning_summary_text.delta"),
    )
}
