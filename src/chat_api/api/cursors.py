"""Cursors of lists: what a page ended with, as an opaque string."""

import base64
import re
from datetime import UTC, datetime, timedelta

from chat_api.errors import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def microseconds(time: datetime) -> int:
    """The time as a whole number, which a cursor holds exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def time_of(text: str) -> datetime:
    """The inverse of `microseconds`. Raise Invalid where no calendar reaches."""
    try:
        return _EPOCH + timedelta(microseconds=int(text))
    except OverflowError:
        raise _invalid() from None


def written(*parts: object) -> str:
    return base64.urlsafe_b64encode("_".join(map(str, parts)).encode()).decode().rstrip("=")


def read(text: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """The groups of the pattern in what was written. Raise Invalid for any other text."""
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
