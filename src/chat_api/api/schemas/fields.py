"""The types of fields in the bodies of requests, with their checks."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from chat_api.text import BLANK_CLASS, is_blank

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
# An even number of backslashes before it stands for backslashes of the text, as in a pattern.
_WRITTEN_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def is_storable(text: str) -> str:
    """Return the text. Raise ValueError for NUL and lone surrogates, which PostgreSQL refuses."""
    if _NOT_STORABLE.search(text):
        raise ValueError("holds a character (NUL or a lone surrogate) that cannot be stored")
    return text


def _says_something(text: str) -> str:
    if is_blank(text):
        raise ValueError("is blank")
    return text


# For the description only: the validators give better error messages.
TEXT_PATTERN = {"pattern": rf"^[^\u0000]*[^\u0000{BLANK_CLASS}][^\u0000]*$"}
Text = Annotated[str, AfterValidator(is_storable), AfterValidator(_says_something)]
Title = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=500,
        examples=["Samosas for a party"],
        json_schema_extra=TEXT_PATTERN,
    ),
]
ModelTag = Annotated[
    Text, Field(min_length=1, max_length=100, examples=["default"], json_schema_extra=TEXT_PATTERN)
]


def whole_number(value: object) -> object:
    """Return 40 for 40.0, which JSON Schema counts among the integers; other values as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_list(value: object) -> object:
    """Return a list of one for a single text; other values as they are."""
    return [value] if isinstance(value, str) else value


def few_texts(value: list[str] | None) -> list[str] | None:
    """Return the list. Raise ValueError unless it has 1 to 4 texts of 1 to 100 characters."""
    if value is not None and not (
        1 <= len(value) <= 4 and all(1 <= len(is_storable(text)) <= 100 for text in value)
    ):
        raise ValueError("is 1 to 4 texts of 1 to 100 characters")
    return value


def is_format(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the format. Raise ValueError for an unknown type, or for what JSON cannot hold."""
    if value is not None and value.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError("has a type: text, json_object or json_schema")
    try:
        written = orjson.dumps(value)
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # lone surrogates, huge integers, too many levels; NaN
        raise ValueError("holds what cannot be stored") from None
    if _WRITTEN_NUL.search(written):
        raise ValueError("holds what cannot be stored")
    return value


MaxTokens = Annotated[int, Field(ge=1, le=4096), BeforeValidator(whole_number)]
TopK = Annotated[int, Field(ge=0, le=200), BeforeValidator(whole_number)]

_STORABLE = {"pattern": r"^[^\u0000]*$"}
Storable = Annotated[str, AfterValidator(is_storable)]
Instructions = Annotated[
    Storable,
    Field(
        max_length=8000,
        description="the system prompt of this conversation; a blank one counts as null",
        examples=["Answer in one sentence."],
        json_schema_extra=_STORABLE,
    ),
]
Tag = Annotated[
    Text, Field(min_length=1, max_length=50, examples=["work"], json_schema_extra=TEXT_PATTERN)
]
Tags = Annotated[list[Tag], Field(max_length=20, description="duplicates are removed")]
MetadataKey = Annotated[Storable, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[Storable, Field(max_length=512, json_schema_extra=_STORABLE)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(
        max_length=16,
        examples=[{"client": "phone"}],
        json_schema_extra={"propertyNames": {"minLength": 1, "maxLength": 64, **_STORABLE}},
    ),
]
# Checked by `services.checked_id`: what is no id is the same 404 as an unknown one.
AnyId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _written_as_a_time(value: object) -> object:
    """Return the value; raise ValueError for what is no time of RFC 3339, such as a number."""
    if value is not None and (not isinstance(value, str) or _TIME.fullmatch(value) is None):
        raise ValueError("is not a time with an offset such as 2026-11-25T12:00:00Z")
    return value


def _to_come(value: datetime) -> datetime:
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None
    if in_utc <= datetime.now(UTC):
        raise ValueError("is in the past")
    return in_utc


ExpiresAt = Annotated[
    datetime,
    Field(
        strict=False,
        description="when the conversation is deleted, a time to come; null: never",
        examples=["2099-01-01T00:00:00Z"],
    ),
    BeforeValidator(_written_as_a_time),
    AfterValidator(_to_come),
]
