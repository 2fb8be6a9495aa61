"""What a client may say about one answer."""

from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Options:
    """None is left to the engine."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    force_web_search: bool | None = None
    thinking_mode: bool = False
    top_p: float | None = None
    stop: list[str] | None = None
    response_format: dict[str, Any] | None = None

    def as_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> "Options":
        """The options as `as_json` wrote them; a newer replica's further fields are passed over."""
        document = orjson.loads(text)
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})

    def for_engine(self) -> dict[str, Any]:
        """The fields of the engine's request, by our names; an engine takes those that it knows."""
        named = asdict(self)
        del named["thinking_mode"]
        return {name: value for name, value in named.items() if value is not None}
