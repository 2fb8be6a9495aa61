"""Titles: which ones count as given, and the title made from the first message."""

import re

from chat_api.text import cut, is_blank, near_first_shown, trimmed

TITLE_CLUSTERS = 80
# Most code points of it. Emoji have up to a dozen in a cluster, hostile text any number.
TITLE_CHARS = 1_000
# What clients send where the user has given no title.
_PLACEHOLDERS = frozenset({"new chat", "new conversation", "untitled"})
# Mandatory line breaks (UAX #14: BK, CR, LF, NL).
_LINE_END = re.compile("[\n\v\f\r\x85\u2028\u2029]")


def given_title(title: str | None) -> str | None:
    """Return the title if the user gave it; None for a placeholder of a client."""
    if title is None or " ".join(trimmed(title).split()).casefold() in _PLACEHOLDERS:
        return None
    return title


def title_of(content: str) -> str:
    """Return the first line that is not blank, at most 80 grapheme clusters of it.

    A text that shows nothing gives an empty title.
    """
    line = next((line for line in _LINE_END.split(content) if not is_blank(line)), "")
    line = near_first_shown(line, 2 * TITLE_CHARS)
    return trimmed(cut(trimmed(line), most_clusters=TITLE_CLUSTERS, most_chars=TITLE_CHARS))
