"""Making an engine's untrusted JSON fit to be stored and passed on."""

import json
import re
from typing import Any

from chat_api.errors import EngineProtocol

_SURROGATES = re.compile("[\ud800-\udfff]")


def read_leniently(data: bytes | bytearray) -> Any:
    """Return JSON that only Python's own parser accepts: with lone surrogates, or huge integers.

    Raise EngineProtocol for what is no JSON.
    """
    try:
        return storable(json.loads(data, parse_int=_bounded_int))
    except (ValueError, OverflowError, RecursionError):
        raise EngineProtocol from None


def _bounded_int(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(value)


def storable(value: Any) -> Any:
    """Return the value with U+FFFD for characters that PostgreSQL cannot store.

    Not-a-number and the infinities, which JSON does not have, become null.
    """
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value).replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value
