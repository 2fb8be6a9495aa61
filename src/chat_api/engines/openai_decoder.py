"""Decoding the responses of Chat Completions: chunks of a stream, whole bodies and errors."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson

from chat_api import sse
from chat_api.engines.engine import Event, Usage
from chat_api.engines.http import TRANSIENT_STATUSES, retry_after_of
from chat_api.engines.openai_errors import MOST_ERROR_BYTES, failure_of, refused_parameter
from chat_api.engines.reasoning import Splitter
from chat_api.engines.untrusted import read_leniently, storable
from chat_api.errors import (
    EngineFailed,
    EngineIncomplete,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineUnavailable,
)
from chat_api.telemetry import log

_FINISH_REASONS = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
_NO_REASONS = frozenset({"", "null", "none"})
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
_NEVER = b"\0"  # begins no JSON
# Some engines start the answer again instead of going on: so many equal characters show it.
SEAM_CHARS = 24


class OpenAIDecoder:
    """One response of `/chat/completions`.

    Chunks of a stream are alike but for the piece of text, so the bytes around it are learnt from
    the first one, and further chunks of that form are not parsed as a whole.
    """

    def __init__(
        self, max_event_bytes: int, *, beginning: str = "", verify_seam: bool = False
    ) -> None:
        self.is_complete = False
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.is_refused = False  # before anything was written
        self.refused_parameter: str | None = None
        self._limit = max_event_bytes
        self._parser = sse.Parser(max_event_bytes)
        self._splitter = Splitter(at_beginning=not beginning)
        self._beginning = beginning
        self._unverified: str | None = "" if verify_seam and beginning else None
        self._before = self._after = _NEVER
        self._refused: int | None = None
        self._retry_after: float | None = None
        self._body: bytearray | None = bytearray()  # of what is no stream, or not known to be one
        self._is_whole = False  # one JSON document
        self._has_begun = False

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head; see Decoder."""
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if status != HTTPStatus.OK:
            self._refused = status
            self._retry_after = retry_after_of(headers)
            self.is_complete = True  # the body only says more
        elif (
            content_type in {"text/html", "application/xhtml+xml"}
            or headers.get("content-encoding", "identity").strip().lower() != "identity"
        ):
            log.warning("inference_refused", status=status, code=EngineProtocol.code)
            raise EngineProtocol

    def token(self, body: bytes) -> tuple[bytes, str] | None:
        """See Decoder."""
        data = self._parser.only_event(body)
        if data is None or self.is_complete or not data.startswith(self._before):
            return None
        found = self._alike(data)
        return found if found is not None and found[1] else None

    def feed(self, body: bytes, arrived: list[Event]) -> bool:
        """Append the events of `body`; see Decoder."""
        if self._body is not None:
            body = self._sniff(body)
            if not body:
                return False
        try:
            for data in self._parser.feed(body):
                if data.startswith(self._before) and self._take_alike(data, arrived):
                    continue
                if self._take(data, arrived):
                    return True
        except sse.TooLong:
            raise EngineProtocol from None
        return False

    def end(self, arrived: list[Event]) -> None:
        """Take the end of the response; see Decoder."""
        if self._refused is not None:
            raise self._refusal(self._refused)
        if self._is_whole:
            self._take_whole(bytes(self._body or b""), arrived)
        elif rest := self._parser.rest():
            with suppress(EngineProtocol):  # cut off within the event
                self._take(rest, arrived)
        self._release(arrived)
        if not self.is_complete:
            raise EngineIncomplete

    # --- not a stream ---

    def _sniff(self, body: bytes) -> bytes:
        """Collect a body that is not a stream; return the bytes if it turns out to be one."""
        assert self._body is not None  # noqa: S101  # the caller's condition
        self._body += body
        if self._refused is not None:
            if len(self._body) > MOST_ERROR_BYTES:
                raise self._refusal(self._refused)
            return b""
        if not self._is_whole:
            # Searched once, then dropped or known: the work stays linear, however bytes are cut.
            start = self._body.lstrip(b" \t\r\n")
            if not start:
                self._body.clear()
                return b""
            if start.startswith(b"<"):
                raise EngineProtocol
            if not start.startswith(b"{"):
                self._body = None
                return bytes(start)
            self._is_whole = True
        if len(self._body) > self._limit:
            raise EngineProtocol
        return b""

    def _refusal(self, status: int) -> EngineFailed:
        try:
            document = orjson.loads(self._body or b"")
        except orjson.JSONDecodeError:
            document = None
        failure = failure_of(status, document)
        failure.retry_after = self._retry_after
        failure.transient = status in TRANSIENT_STATUSES and not isinstance(failure, EngineRefused)
        self.is_refused = True
        if isinstance(document, dict):
            error = document.get("error", document)
            self.refused_parameter = refused_parameter(error if isinstance(error, dict) else {})
        log.warning("inference_refused", status=status, code=failure.code)
        return failure

    def _take_whole(self, body: bytes, arrived: list[Event]) -> None:
        """Append the events of a whole answer, which an engine sends that does not stream."""
        document = _read(body)
        if not _is_error(document):
            choice = _first_choice(document.get("choices"))
            if choice is None:
                raise EngineProtocol
            if self._beginning:
                _drop_beginning(choice, self._beginning)
        self._take_document(document, arrived)
        self.is_complete = True

    # --- a stream ---

    def _alike(self, data: bytes) -> tuple[bytes, str] | None:
        """Return our event and its text for a chunk that differs from the one learnt only in it."""
        before, after = len(self._before), len(self._after)
        if len(data) < before + after or not data.endswith(self._after):
            return None
        piece = b'"%b"' % data[before:-after]
        if piece.find(b"\\u") >= 0:  # may be what PostgreSQL cannot store
            return None
        try:
            text = orjson.loads(piece)
        except orjson.JSONDecodeError:
            return None
        return b'{"token":%b}' % piece, text

    def _take_alike(self, data: bytes, arrived: list[Event]) -> bool:
        alike = self._alike(data)
        if alike is None:
            return False
        if alike[1]:
            arrived.append(Event(*alike))
            self.is_complete = False
        return True

    def _take(self, data: bytes, arrived: list[Event]) -> bool:
        """Take any event; True for the last one."""
        if data.strip() == b"[DONE]":
            self._release(arrived)
            self.is_complete = True
            return True
        if not data.strip():
            return False
        document = _read(data)
        before = len(arrived)
        self._take_document(document, arrived)
        if len(arrived) == before + 1 and self._splitter.is_plain and not self.is_complete:
            self._learn(data, arrived[-1].text)
        return False

    def _learn(self, data: bytes, text: str) -> None:
        """Remember what surrounds this chunk's text, where it is certain which bytes are the text.

        A `"content":"` inside a string would have its quotes escaped, so one that occurs once is
        the key; a backslash elsewhere could hide another spelling of it.
        """
        key = b'"content":"'
        at = data.find(key) + len(key)
        piece = orjson.dumps(text)[1:]
        if at < len(key) or not text or not data.startswith(piece, at):
            return
        before, after = data[:at], data[at + len(piece) - 1 :]
        if data.count(b'"content"') == 1 and b"\\" not in before and b"\\" not in after:
            self._before, self._after = before, after

    def _take_document(self, document: dict[str, Any], arrived: list[Event]) -> None:
        if _is_error(document):
            self._release(arrived)
            failure = failure_of(None, document)
            failure.transient = isinstance(failure, (EngineOverloaded, EngineUnavailable))
            self.is_refused = not self._has_begun
            log.warning("inference_failed_in_stream", code=failure.code)
            raise failure
        choice = _first_choice(document.get("choices"))
        if choice is not None:
            delta = choice.get("delta")
            if not delta and not self._has_begun:  # else it is the whole text, once more
                delta = choice.get("message")
            if isinstance(delta, dict):
                self._take_delta(delta, arrived)
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason.strip().lower() not in _NO_REASONS:
                self._finish(reason.strip().lower(), arrived)
        usage = _usage_of(document.get("usage"))
        if usage is not None and usage != self.usage:
            self.usage = usage
            arrived.append(Event(b"", usage=usage))

    def _take_delta(self, delta: dict[str, Any], arrived: list[Event]) -> None:
        reasoning, text = _pieces_of(delta.get("content"))
        for name in _REASONING_FIELDS:  # some send the same under two names
            if isinstance(piece := delta.get(name), str) and piece:
                reasoning = piece
                break
        if isinstance(refusal := delta.get("refusal"), str):
            text += refusal
        self._has_begun = self._has_begun or bool(text or reasoning)
        if text and self._unverified is not None:
            text = self._verified(text)
        if text and not self._splitter.is_plain:
            thought, text = self._splitter.feed(text)
            reasoning += thought
        if reasoning or text:
            self.is_complete = False  # the earlier finish reason was not the end
        _append(reasoning, text, arrived)

    def _finish(self, reason: str, arrived: list[Event]) -> None:
        self._release(arrived)
        if reason == "error":
            raise EngineFailed
        if reason in {"abort", "cancelled"}:
            raise EngineIncomplete
        self.finish_reason = _FINISH_REASONS.get(reason)
        self.is_complete = True

    def _release(self, arrived: list[Event]) -> None:
        """Append the held back text."""
        if self._unverified:
            held, self._unverified = self._unverified, None
            _append("", held, arrived)
        _append(*self._splitter.end(), arrived)

    def _verified(self, text: str) -> str:
        """Return the text, once it is certain that the answer does not begin again.

        Raise EngineRefused if it does.
        """
        assert self._unverified is not None  # noqa: S101  # the caller's condition
        held = self._unverified + text
        expected = self._beginning.strip()[:SEAM_CHARS]
        start = held.lstrip()
        if start.startswith(expected):
            self.is_refused = True
            raise EngineRefused
        self._unverified = held if expected.startswith(start) else None
        return "" if self._unverified is not None else held


def _read(data: bytes) -> dict[str, Any]:
    """Return `data` as a storable JSON object. Raise EngineProtocol for anything else."""
    try:
        document = orjson.loads(data)
        if b"\\u" in data:
            document = storable(document)
    except (orjson.JSONDecodeError, RecursionError):
        document = read_leniently(data)
    if not isinstance(document, dict):
        raise EngineProtocol
    return document


def _is_error(document: dict[str, Any]) -> bool:
    if document.get("error") or "error" in (document.get("object"), document.get("type")):
        return True
    # FastAPI's, and others': an error by what it has instead of choices.
    return "choices" not in document and (
        isinstance(document.get("message"), str) or isinstance(document.get("detail"), str)
    )


def _first_choice(choices: object) -> dict[str, Any] | None:
    """Return the first choice. Azure sends an empty list first, usage comes with one last."""
    if choices is None:
        return None
    if not isinstance(choices, list):
        raise EngineProtocol
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (0, None):  # may be unhashable
            return choice
    return None


def _pieces_of(content: object) -> tuple[str, str]:
    """Return reasoning and text of a delta's content, which may be in parts (Mistral)."""
    if isinstance(content, str):
        return "", content
    if content is None:
        return "", ""
    if not isinstance(content, list):
        raise EngineProtocol
    reasoning = text = ""
    for part in content:
        if isinstance(part, dict):
            if isinstance(piece := part.get("text"), str):
                text += piece
            elif part.get("thinking") is not None:
                thought = part["thinking"]
                reasoning += thought if isinstance(thought, str) else _pieces_of(thought)[1]
    return reasoning, text


def _append(reasoning: str, text: str, arrived: list[Event]) -> None:
    if reasoning:
        arrived.append(Event(orjson.dumps({"reasoning": reasoning}), reasoning=reasoning))
    if text:
        arrived.append(Event(orjson.dumps({"token": text}), text))


def _usage_of(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(count) is int and 0 <= count < 2**31 for count in counts):
        return None
    return Usage(int(counts[0]), int(counts[1]))  # type: ignore[arg-type]


def _drop_beginning(choice: dict[str, Any], beginning: str) -> None:
    """Remove the beginning, which a whole body of a continued answer repeats."""
    message = choice.get("message")
    if isinstance(message, dict) and isinstance(content := message.get("content"), str):
        message["content"] = content.removeprefix(beginning)
