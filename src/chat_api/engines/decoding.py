"""The inference service's events, as they may be passed on.

Nothing that it sends is trusted: text that PostgreSQL cannot store is replaced, and fields that our
own events use are dropped.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from chat_api.errors import EngineFailed, EngineProtocol

# Fields by which our stream speaks of itself: an upstream event must not be able to imitate them.
RESERVED = frozenset({"start", "reset", "snapshot", "error", "done", "message_id", "status"})
NOTHING = b"{}"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Event:
    """One event of an answer. `data` is JSON on one line, `text` the piece of text in it."""

    data: bytes
    text: str


def decode_event(data: bytes) -> Event | None:
    """One upstream event as we pass it on; None for the final one.

    The bytes are kept where nothing in them has to change. Raises EngineProtocol for what is
    no JSON object, and EngineFailed for the service's own `error` event.
    """
    as_it_is = b"\\u" not in data and b"\n" not in data
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = _read_leniently(data)
        as_it_is = False
    if not isinstance(document, dict):
        raise EngineProtocol
    as_it_is = as_it_is and RESERVED.isdisjoint(document)
    token = document.get("token")
    if as_it_is and type(token) is str:
        return Event(data, token)  # the usual case
    if token is not None and not isinstance(token, str):
        raise EngineProtocol
    if token is None:
        if document.get("error"):
            raise EngineFailed
        if document.get("done") is True:
            return None
    if as_it_is:
        return Event(data, "")
    try:
        clean = _storable({key: value for key, value in document.items() if key not in RESERVED})
        return Event(orjson.dumps(clean), clean.get("token") or "")
    except (TypeError, RecursionError):  # nested too deeply
        raise EngineProtocol from None


def _read_leniently(data: bytes) -> object:
    """JSON that only Python's own parser takes: with lone surrogates, or huge integers."""
    try:
        return _storable(json.loads(data, parse_int=_bounded_int))
    except (ValueError, OverflowError, RecursionError):
        raise EngineProtocol from None


def _bounded_int(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(value)


def _storable(value: Any) -> Any:
    """The value with what PostgreSQL's text cannot hold replaced by U+FFFD.

    Also what JSON cannot say: not-a-number and the infinities become null.
    """
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value).replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
