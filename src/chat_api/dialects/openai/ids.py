"""Ids of this dialect: a prefix and the 32 hex digits of one of ours."""

import re

from chat_api.errors import NotFound

_ID = re.compile(r"([a-z]{2,4})_([0-9a-f]{32})")


def response_id(message_id: str) -> str:
    return f"resp_{message_id.replace('-', '')}"


def conversation_id(conversation_id: str) -> str:
    return f"conv_{conversation_id.replace('-', '')}"


def item_id(message_id: str) -> str:
    return f"msg_{message_id.replace('-', '')}"


def reasoning_id(message_id: str, index: int = 0) -> str:
    """Return the id of the reasoning before an answer's text, or of later reasoning."""
    name = f"rs_{message_id.replace('-', '')}"
    return f"{name}_{index}" if index else name


def find(prefix: str, text: str) -> str | None:
    """Return our id; None for a text that is not an id with this prefix."""
    found = _ID.fullmatch(text)
    if found is None or found[1] != prefix:
        return None
    digits = found[2]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def ours(prefix: str, text: str) -> str:
    """Return our id. Raise NotFound for a text that is not an id with this prefix."""
    found = find(prefix, text)
    if found is None:
        raise NotFound
    return found
