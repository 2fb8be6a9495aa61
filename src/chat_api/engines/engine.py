"""The interface of engines to the rest of the service, whatever their dialect.

A dialect is one module with a client (`Engine`) and a `Decoder`; nothing of a dialect is known
outside its module. A third dialect is one more module and one line in `catalogue.DIALECTS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = dict[str, str]
# A model_tag has at most 100 characters, an engine's name among them.
MOST_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that one request cost, as the engine counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Event:
    """One event of an engine.

    `data` is what subscribers get, JSON on one line; empty for what only the service reads (usage).
    `text` and `reasoning` are the pieces in it; at most one of them is not empty.
    """

    data: bytes
    text: str = ""
    reasoning: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an engine's requests. None: only the model's context is a limit."""

    message_chars: int | None = None
    request_chars: int | None = None
    takes_system: bool = True
    """Whether there is a system role, and roles may come in any order."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of an engine. `id` is the engine's own name for it, `name` ours."""

    id: str
    name: str
    source: str = ""
    path: str = ""
    available: bool = True
    loaded: bool = True
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """An engine's list of models; `raw` is its own JSON if that may be passed on."""

    models: tuple[ModelInfo, ...]
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation as an engine is asked for it.

    `options` holds what the client said, by our names; a dialect takes what it knows. With a
    `beginning`, the answer goes on from that text, which the engine has to be able to
    (`can_continue`).
    """

    model: str
    """The engine's own name for it."""
    messages: list[Message]
    """Emptied once the answer has begun."""
    trace_id: str
    options: Mapping[str, Any] = field(default_factory=dict)
    beginning: str = ""


class EventReceiver(Protocol):
    """Takes the events of one response."""

    def take(self, arrived: list[Event], /) -> None:
        """Take events that arrived together; none for a comment."""

    def take_token(self, data: bytes, text: str, /) -> None:
        """Take the event of a piece of text that arrived alone: the usual case, and a short way."""
        self.take([Event(data, text)])


class Decoder(Protocol):
    """The response to one request, as bytes in, events out.

    What `feed` and `end` append before they raise counts.
    """

    is_complete: bool
    """The answer is complete or has failed: the rest of the response has a short deadline."""
    finish_reason: str | None
    """`stop`, `length` or `content_filter`, as far as the engine told."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head; names of headers are in lower case. Raise EngineFailed to refuse it."""

    def token(self, body: bytes, /) -> tuple[bytes, str] | None:
        """Return data and text of the one event in `body` if it is nothing but a piece of text.

        None for anything else, which `feed` is to take. `feed` would come to the same.
        """

    def feed(self, body: bytes, arrived: list[Event]) -> bool:
        """Append the events that `body` completes; True after the last one.

        Raise EngineFailed for an error of the engine or for what is no answer.
        """

    def end(self, arrived: list[Event], /) -> None:
        """Take the end of the bytes. Raise EngineFailed unless the answer is whole."""


class Engine(Protocol):
    """A client of one engine. Every method raises EngineFailed or one of its kinds."""

    name: str
    limits: Limits
    takes_any_tag: bool
    """Whether it answers with whichever model it has loaded, so that tags are only labels."""

    async def generate(self, request: Request, receiver: EventReceiver) -> str | None:
        """Generate an answer; return its finish reason, if the engine reports one.

        Cancelling closes the request.
        """

    async def can_continue(self, request: Request, /) -> bool:
        """Return whether the engine continues `request.beginning` instead of starting over."""

    async def list_models(self, trace_id: str) -> Listing:
        """Return the engine's models."""

    async def swap(self, model: str, trace_id: str, /) -> "Reply":
        """Load another model. Raise ModelRefused if the engine cannot."""

    def close(self) -> None:
        """Close the idle connections."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An engine's response to a plain request: a success, or a refusal (4xx)."""

    status: int
    body: bytes


class CannotContinue(Exception):  # no failure: another attempt begins
    """The engine cannot continue this beginning; the answer may be requested from its start."""
