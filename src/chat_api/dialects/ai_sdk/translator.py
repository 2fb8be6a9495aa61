"""From a generation's events to the chunks of a UI message stream (protocol version 1).

Clients refuse a stream with a chunk, a field or a `finishReason` that they do not know: only what
5.0 knew is sent. Running generations outlive deploys: chunks that clients have counted
(`startIndex`) must stay the same.
"""

import hashlib
import math
from typing import Any

import orjson

from chat_api.dialects.translated import CannotGoOn

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_DONE = b"data: [DONE]\n\n"
_CUT_OFF = "The answer was cut off before its end."
_LOST = "The rest of this answer cannot be sent here. Load the conversation again."
_BEGINNING = 2  # chunks before the text
# The finish reasons that clients are told. Without one, they assume "stop".
_FINISH_REASONS = {"length": "length", "content_filter": "content-filter"}


def ui_id(message_id: str) -> str:
    """Return a message's id as this dialect shows it."""
    return f"msg_{message_id.replace('-', '')}"


class UiMessageStream:
    """The chunks of one generation, from its first event on: a `Translator`.

    A text that the client has received cannot be revoked. If a later attempt has the same text so
    far, the stream continues, otherwise it raises CannotGoOn.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._start: dict[str, Any] = {}
        self._skip = 0
        self._shared: float = math.inf
        self._chunks = 0
        self._out: list[bytes] = []
        self._has_begun = False
        self._is_reset = False
        self._part = ""  # the one that is open
        self._parts = 0
        self._delta = b""  # the beginning of the open part's next chunk
        self._sent = {"text": _Sent(), "reasoning": _Sent()}
        self._error: str | None = None

    def begin(
        self,
        message_id: str,
        model_tag: str | None,
        *,
        skip: int = 0,
        shared: float = math.inf,
    ) -> None:
        """Say of which message the events are, before the first one.

        The client has `skip` chunks already; they are those of the events up to number `shared`.
        """
        self._start = {"type": "start", "messageId": ui_id(message_id)}
        if model_tag is not None:
            self._start["messageMetadata"] = {"model_tag": model_tag}
        self._skip = skip
        self._shared = shared

    def translate(self, _attempt: int, number: int, data: bytes) -> bytes:
        """Return the chunks of an event. Raise CannotGoOn."""
        if self.has_ended:
            return b""
        event = orjson.loads(data)
        if number > self._shared and self._chunks < self._skip:
            return self._lost()
        if isinstance(piece := event.get("token"), str):
            self._add("text", piece)
        elif isinstance(piece := event.get("reasoning"), str):
            self._add("reasoning", piece)
        elif "start" in event:
            self._begin()
        elif isinstance(snapshot := event.get("snapshot"), dict):
            if max(self._chunks, _BEGINNING) < self._skip:
                return self._lost()
            self._replace(snapshot)
        elif "reset" in event:
            self._is_reset = self._parts > 0
        elif isinstance(event.get("error"), str):
            self._error = str(event.get("detail", _CUT_OFF))
        elif event.get("done") is True:
            self._end(event)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._emit(self._start)
            self._emit({"type": "start-step"})

    def _emit(self, chunk: dict[str, Any]) -> None:
        self._emit_bytes(orjson.dumps(chunk))

    def _emit_bytes(self, chunk: bytes) -> None:
        self._chunks += 1
        if self._chunks > self._skip:
            self._out.append(b"data: %b\n\n" % chunk)

    def _add(self, kind: str, piece: str) -> None:
        if not piece:
            return
        if self._is_reset:
            raise CannotGoOn
        if self._part != kind:
            self._begin()
            self._close_part()
            self._part = kind
            self._parts += 1
            part_id = f"{kind}-{self._parts}"
            self._emit({"type": f"{kind}-start", "id": part_id})
            self._delta = b'{"type":"%b-delta","id":"%b","delta":' % (
                kind.encode(),
                part_id.encode(),
            )
        self._sent[kind].add(piece)
        self._emit_bytes(self._delta + orjson.dumps(piece) + b"}")

    def _close_part(self) -> None:
        if self._part:
            self._emit({"type": f"{self._part}-end", "id": f"{self._part}-{self._parts}"})
            self._part = ""

    def _replace(self, snapshot: dict[str, Any]) -> None:
        """Go on from a whole text, where what was sent is its beginning."""
        text = self._sent["text"].rest_of(str(snapshot.get("content", "")))
        thoughts = str(snapshot.get("reasoning", ""))
        reasoning = self._sent["reasoning"].rest_of(thoughts) if thoughts else ""
        self._is_reset = False
        self._begin()
        self._add("reasoning", reasoning)
        self._add("text", text)

    def _end(self, done: dict[str, Any]) -> None:
        if self._is_reset:
            raise CannotGoOn
        self._begin()
        self._close_part()
        self._emit({"type": "finish-step"})
        metadata = {"status": done["status"], "usage": done.get("usage")}
        finish: dict[str, Any] = {"type": "finish"}
        if done["status"] == "complete":
            reason = _FINISH_REASONS.get(done.get("finish_reason") or "")
            if reason is not None:
                finish["finishReason"] = reason
        else:
            self._emit({"type": "message-metadata", "messageMetadata": metadata})
            if done["status"] == "stopped":
                self._emit({"type": "abort"})
            else:
                self._emit({"type": "error", "errorText": self._error or _CUT_OFF})
        self._emit({**finish, "messageMetadata": metadata})
        self._out.append(_DONE)
        self.has_ended = True

    def _lost(self) -> bytes:
        """End a stream whose place is unknown; otherwise the client would retry endlessly."""
        self.has_ended = True
        chunks = ({"type": "error", "errorText": _LOST}, {"type": "finish"})
        return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + _DONE


class _Sent:
    """How much of a text was sent, and its digest, which takes less memory than the text."""

    def __init__(self) -> None:
        self._length = 0
        self._digest = hashlib.sha256()

    def add(self, piece: str) -> None:
        self._length += len(piece)
        self._digest.update(piece.encode())

    def rest_of(self, whole: str) -> str:
        """Return the rest of a text. Raise CannotGoOn if it begins differently."""
        begun = hashlib.sha256(whole[: self._length].encode())
        if begun.digest() != self._digest.digest():
            raise CannotGoOn
        return whole[self._length :]
