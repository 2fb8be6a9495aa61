"""Reading a request's body: bounded, JSON only, each refusal with its own status."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, TypeVar

from fastapi import Request as HttpRequest
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from chat_api.api.schemas.requests import Request
from chat_api.api.services import services_of
from chat_api.errors import BadRequest, Invalid, PayloadTooLarge, UnsupportedMediaType

_Model = TypeVar("_Model", bound=Request)


def json_body(
    model: type[_Model], *, empty: bool = False, at_least_bytes: int = 0
) -> Callable[[HttpRequest], Awaitable[_Model]]:
    """Return a dependency that reads the body as `model`; with `empty`, no body counts as `{}`.

    A body may have MAX_BODY_BYTES, and at least `at_least_bytes`.
    """

    async def read(request: HttpRequest) -> _Model:
        limit = max(at_least_bytes, services_of(request).settings.max_body_bytes)
        document = _parse(await _read(request, limit), request, empty=empty)
        try:
            return model.model_validate(document)
        except ValidationError as error:
            raise Invalid(errors_of(error)) from None

    return read


def errors_of(error: ValidationError) -> list[tuple[str, str]]:
    """Return the fields that a model refused, each with the reason, without their values."""
    return [
        (".".join(str(part) for part in problem["loc"]) or "body", reason_of(problem["msg"]))
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


# What Pydantic says of an object, and of a text whose length it checks after another validator.
_OBJECT = re.compile(r"a valid dictionary( or instance of \w+)?")
_LENGTH = re.compile(r"Value should have at (most|least) (\d+) item(s?) after validation, not \d+")


def reason_of(message: str) -> str:
    """Return what Pydantic says of a value, as a client can use it."""
    message = _OBJECT.sub("an object", message.removeprefix("Value error, "))
    return _LENGTH.sub(r"String should have at \1 \2 character\3", message)


async def json_document(request: HttpRequest, limit: int) -> object:
    """Return the JSON of a body of at most `limit` bytes; no body counts as `{}`."""
    return _parse(await _read(request, limit), request, empty=True)


# RFC 8259, section 2: JSON's only white space.
_JSON_SPACE = b" \t\n\r"


async def _read(request: HttpRequest, limit: int) -> bytes:
    """Return the whole body. Raise as `pieces_of` does."""
    _check_head(request, limit)
    body = b""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise _incomplete()
        piece: bytes = message.get("body", b"")
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return body


async def pieces_of(request: HttpRequest, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raise PayloadTooLarge, UnsupportedMediaType, BadRequest."""
    _check_head(request, limit)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            yield piece
    except ClientDisconnect:
        raise _incomplete() from None


def _check_head(request: HttpRequest, limit: int) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request's body is larger than {limit} bytes.")


def _incomplete() -> BadRequest:
    return BadRequest("The request's body is incomplete.")


def _parse(body: bytes, request: HttpRequest, *, empty: bool) -> object:
    if not body.strip(_JSON_SPACE):
        if empty:
            return {}
        raise BadRequest("The request needs a JSON body.")
    media_type = request.headers.get("content-type", "application/json").split(";")[0]
    media_type = media_type.strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType
    try:
        # Python's own parser passes NaN and lone surrogates on to the models, which answer 422 and
        # name the field. It raises ValueError for a number of thousands of digits.
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        _refuse()


def _refuse() -> NoReturn:
    raise BadRequest("The request's body is not JSON.") from None
