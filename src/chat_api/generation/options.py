"""The options of one generation."""

from dataclasses import dataclass
from typing import Any, Literal

import orjson


@dataclass(frozen=True, slots=True)
class Options:
    """None is left to the conversation's options, and then to the engine."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    force_web_search: bool | None = None
    thinking_mode: bool | None = None
    top_p: float | None = None
    stop: list[str] | None = None
    response_format: dict[str, Any] | None = None
    instructions: str | None = None
    """In place of the conversation's, for this generation."""
    on_crash: Literal["rerun", "interrupt"] | None = None
    """What happens to a shown text that cannot be continued; None means rerun."""

    def as_json(self) -> str:
        """Return the options as JSON."""
        return orjson.dumps(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Options":
        """Return the options that `as_json` wrote; fields of a newer replica are ignored."""
        document = orjson.loads(text)
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})

    def for_engine(self) -> dict[str, Any]:
        """Return the fields of the engine's request; an engine takes those that it knows."""
        return {
            name: value
            for name in self.__slots__
            if name not in _OURS and (value := getattr(self, name)) is not None
        }


# Options that are not sent to engines.
_OURS = frozenset({"thinking_mode", "instructions", "on_crash"})
