"""Cursors of lists: the position after a page, as an opaque string."""

import base64
import re
from datetime import UTC, datetime, timedelta

from chat_api.errors import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def microseconds(time: datetime) -> int:
    """Return the time as a whole number, which a cursor can hold exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def time_of(text: str) -> datetime:
    """Return the time, the inverse of `microseconds`. Raise Invalid outside the calendar."""
    try:
        return _EPOCH + timedelta(microseconds=int(text))
    except OverflowError:
        raise _invalid() from None


def written(*parts: object) -> str:
    """Return a cursor of these parts, which `read` takes apart."""
    return base64.urlsafe_b64encode("_".join(map(str, parts)).encode()).decode().rstrip("=")


def read(text: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Return the groups of the pattern in a cursor. Raise Invalid if it does not match."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found = pattern.fullmatch(base64.b64decode(padded, b"-_", validate=True).decode("ascii"))
    except ValueError:
        found = None
    if found is None:
        raise _invalid()
    return found.groups()


def _invalid() -> Invalid:
    return Invalid([("cursor", "is not a cursor of this list")])
