"""The bodies that clients of this dialect send. Other fields have no effect."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from chat_api.api.bodies import errors_of
from chat_api.api.schemas.fields import (
    Instructions,
    Metadata,
    ModelTag,
    Storable,
    is_format,
    is_storable,
    whole_number,
)
from chat_api.api.schemas.requests import Request
from chat_api.dialects.openai.errors import invalid, unsupported
from chat_api.dialects.openai.objects import Json
from chat_api.errors import Invalid
from chat_api.text import is_blank

_MOST_CHARS = 8_000
_MOST_MESSAGES = 2_000
_MOST_TOKENS = 4_096
_MOST_INTEGER = 2**31 - 1  # what is stored with the response has at most 64 bits
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXT_PARTS = {"input_text", "output_text", "text"}


class TextOptions(Request):
    format: Annotated[dict[str, Any] | None, AfterValidator(is_format)] = None


class ReasoningOptions(Request):
    effort: Annotated[Storable, Field(max_length=20)] | None = None
    summary: Annotated[Storable, Field(max_length=20)] | None = None


class NewResponse(Request):
    """The fields of a request for a response that have an effect."""

    model: ModelTag | None = None
    instructions: Instructions | None = None
    previous_response_id: Annotated[str | None, Field(max_length=200)] = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    max_output_tokens: Annotated[
        int | None, Field(ge=1, le=_MOST_INTEGER), BeforeValidator(whole_number)
    ] = None
    metadata: Metadata | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None

    @property
    def most_tokens(self) -> int | None:
        """Return the maximum length of the answer, at most that of our own API."""
        return None if self.max_output_tokens is None else min(self.max_output_tokens, _MOST_TOKENS)

    @property
    def response_format(self) -> Json | None:
        """Return the format in the form of Chat Completions."""
        given = None if self.text is None else self.text.format
        if given is None or given.get("type") != "json_schema":
            return given
        schema = {name: value for name, value in given.items() if name != "type"}
        return {"type": "json_schema", "json_schema": schema}

    @property
    def thinks(self) -> bool | None:
        """Return whether reasoning is wanted; None if the request does not say."""
        effort = None if self.reasoning is None else self.reasoning.effort
        return None if effort is None else effort not in {"none", "minimal"}


class ConversationFields(Request):
    """The fields of a conversation that clients may set."""

    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a request's input."""

    role: str
    content: str
    id: str | None = None
    is_reference: bool = False


def fingerprint(user_id: str, document: Json) -> bytes:
    """Return a value that two requests share only if they are equal.

    Raise BadRequest for a document with too many levels, which the parser may still accept.
    """
    try:
        text = json.dumps([user_id, document], sort_keys=True)
    except RecursionError:
        raise invalid("body", "has too many levels") from None
    return hashlib.sha256(text.encode()).digest()


def read_response(document: object) -> NewResponse:
    """Return the request. Raise Invalid, or BadRequest for unsupported parameters."""
    fields = as_object(document)
    for name, is_refused in (
        ("store", fields.get("store") is False),
        ("tools", bool(fields.get("tools"))),
        ("prompt", fields.get("prompt") is not None),
        ("tool_choice", fields.get("tool_choice") not in (None, "auto", "none")),
    ):
        if is_refused:
            raise unsupported(name, ": false" if name == "store" else "")
    return validated(NewResponse, fields)


def as_object(document: object) -> Json:
    """Return the document. Raise Invalid unless it is an object."""
    if not isinstance(document, dict):
        raise invalid("body", "is no object")
    return document


_Model = TypeVar("_Model", bound=Request)


def validated(model: type[_Model], fields: Json) -> _Model:
    """Return the fields as `model`. Raise Invalid."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise Invalid(errors_of(error)) from None


def conversation_of(fields: Json) -> str | None:
    """Return the id of `conversation`, which is a string or an object."""
    given = fields.get("conversation")
    if isinstance(given, dict):
        given = given.get("id")
    if given is not None and not isinstance(given, str):
        raise invalid("conversation", "is no id")
    return given


def read_input(given: object, name: str = "input") -> list[Entry]:
    """Return the messages of an input. Raise BadRequest."""
    if isinstance(given, str):
        return [Entry("user", _checked(given, name))]
    if not isinstance(given, list) or len(given) > _MOST_MESSAGES:
        raise invalid(name, f"is a text or a list of at most {_MOST_MESSAGES} messages")
    entries = (_entry(item, f"{name}[{index}]") for index, item in enumerate(given))
    return [entry for entry in entries if entry is not None]


def _entry(item: object, name: str) -> Entry | None:
    """Return one message; None for reasoning, which is not sent to the model again."""
    if not isinstance(item, dict):
        raise invalid(name, "is no object")
    item_id = item.get("id") if isinstance(item.get("id"), str) else None
    kind = item.get("type", "message" if "role" in item else "item_reference")
    if kind == "reasoning" or (kind == "item_reference" and (item_id or "").startswith("rs_")):
        return None
    if kind == "item_reference":
        if item_id is None:
            raise invalid(f"{name}.id", "is no id")
        return Entry("", "", item_id, is_reference=True)
    if kind != "message":
        raise unsupported(f"{name}.type")
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise invalid(f"{name}.role", f"is one of {', '.join(_ROLES)}")
    content = _text(item.get("content"), f"{name}.content")
    if role == "assistant" and is_blank(content):
        return Entry(role, "", item_id) if item_id else None
    most = None if role == "assistant" else _MOST_CHARS
    return Entry(role, _checked(content, f"{name}.content", most), item_id)


def _text(content: object, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(name, "is a text or a list of parts")
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise invalid(f"{name}[{index}]", "is no object")
        if str(part.get("type")) not in _TEXT_PARTS:
            raise unsupported(f"{name}[{index}].type")
        if not isinstance(part.get("text"), str):
            raise invalid(f"{name}[{index}].text", "is no text")
        texts.append(part["text"])
    return "".join(texts)


def _checked(text: str, name: str, most: int | None = _MOST_CHARS) -> str:
    try:
        is_storable(text)
    except ValueError as error:
        raise invalid(name, str(error)) from None
    if is_blank(text):
        raise invalid(name, "is blank")
    if most is not None and len(text) > most:
        raise invalid(name, f"is longer than {most} characters")
    return text


def instructions_of(asked: NewResponse, entries: Sequence[Entry]) -> str | None:
    """Return the instructions with the system messages of the input."""
    texts = [asked.instructions or "", *(e.content for e in entries if e.role == "system")]
    return "\n\n".join(text for text in texts if text) or None
