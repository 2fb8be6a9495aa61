"""Reasoning inside the text: `<think>…</think>` at its beginning.

Engines without a reasoning parser send the model's thinking as text. The marks may be cut
anywhere; what could be the beginning of one is held back until that is decided, which is never
more than its length.
"""

from enum import Enum

OPENING = "<think>"
CLOSING = "</think>"


class _State(Enum):
    BEGINNING = 0
    REASONING = 1
    SPACE = 2  # between the closing mark and the text
    TEXT = 3


class Splitter:
    """Separates reasoning from text. `is_plain`: everything from here on is text."""

    def __init__(self, *, at_beginning: bool = True) -> None:
        self._has_reasoning = False
        self._state = _State.BEGINNING if at_beginning else _State.TEXT
        self._held = ""

    @property
    def is_plain(self) -> bool:
        return self._state is _State.TEXT

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text that `piece` adds; reasoning comes before text."""
        reasoning = ""
        if self._state is _State.BEGINNING:
            piece = self._begin(self._held + piece)
        if self._state is _State.REASONING:
            reasoning, piece = self._reason(self._held + piece)
            if not self._has_reasoning:  # some models open and close it with nothing in it
                reasoning = reasoning.lstrip()
                self._has_reasoning = bool(reasoning)
        if self._state is _State.SPACE:
            piece = piece.lstrip()
            if piece:
                self._state = _State.TEXT
        return reasoning, piece

    def end(self) -> tuple[str, str]:
        """Return the held back text, which is not a mark."""
        held, self._held = self._held, ""
        return (held, "") if self._state is _State.REASONING else ("", held)

    def _begin(self, held: str) -> str:
        start = held.lstrip()
        if start.startswith(OPENING):
            self._state, self._held = _State.REASONING, ""
            return start[len(OPENING) :]
        if OPENING.startswith(start) and len(held) <= len(OPENING):
            self._held = held
            return ""
        self._state, self._held = _State.TEXT, ""
        return held

    def _reason(self, held: str) -> tuple[str, str]:
        reasoning, mark, rest = held.partition(CLOSING)
        if mark:
            self._state, self._held = _State.SPACE, ""
            return reasoning, rest
        for size in range(min(len(held), len(CLOSING) - 1), 0, -1):
            if held.endswith(CLOSING[:size]):
                self._held = held[-size:]
                return held[:-size], ""
        self._held = ""
        return held, ""
