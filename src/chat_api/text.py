"""Visible text: blank texts, grapheme clusters, and where a text may be cut."""

import re
from collections.abc import Iterator
from itertools import islice

import regex

# Code points that show nothing, as inclusive ranges: White_Space, control characters,
# Default_Ignorable_Code_Point, and format characters except those that show a sign (Arabic number
# signs; Prepended_Concatenation_Mark). Three more are blank without such a property: the braille
# blank (U+2800), the Khitan filler (U+16FE4) and the musical null notehead (U+1D159). A test
# compares the table with the properties.
BLANK_RANGES = (
    (0x0000, 0x0020),
    (0x007F, 0x00A0),
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x1680, 0x1680),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x13430, 0x1343F),
    (0x16FE4, 0x16FE4),
    (0x1BCA0, 0x1BCA3),
    (0x1D159, 0x1D159),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)


def _escaped(point: int) -> str:
    """Return a code point for a regular expression of Python, PostgreSQL and JSON Schema.

    They have no common escape beyond U+FFFF, so those stand for themselves.
    """
    return f"\\u{point:04X}" if point <= 0xFFFF else chr(point)


# Inside brackets of a regular expression; NUL is left out, which PostgreSQL cannot store.
BLANK_CLASS = "".join(
    _escaped(max(first, 1)) + (f"-{_escaped(last)}" if last > first else "")
    for first, last in BLANK_RANGES
)
_SHOWN = re.compile(f"[^\0{BLANK_CLASS}]")
_ASCII_BLANK = "".join(point for point in map(chr, range(128)) if _SHOWN.match(point) is None)
_CLUSTER = regex.compile(r"\X")


def is_blank(text: str) -> bool:
    """Return whether the text is empty, or has only white space and invisible characters."""
    return _SHOWN.search(text) is None


def clusters(text: str) -> Iterator[str]:
    """Return the extended grapheme clusters (UAX #29) of the text: its visible characters."""
    return (found.group() for found in _CLUSTER.finditer(text))


def near_first_shown(text: str, most_chars: int) -> str:
    """Return at most so many code points before and after the first visible character.

    Clusters take much time and memory in a long text.
    """
    shown = _SHOWN.search(text)
    if shown is None:
        return ""
    return text[max(0, shown.start() - most_chars) : shown.start() + most_chars]


def trimmed(text: str) -> str:
    """Return the text without invisible characters at its ends.

    Whole clusters go: a variation selector or a joiner that belongs to a character stays with it.
    """
    if text.isascii():
        return text.strip(_ASCII_BLANK)
    found = list(_CLUSTER.finditer(text))
    shown = [cluster for cluster in found if not is_blank(cluster.group())]
    return text[shown[0].start() : shown[-1].end()] if shown else ""


def cut(text: str, *, most_clusters: int, most_chars: int) -> str:
    """Return the beginning of the text: at most so many grapheme clusters and code points.

    A first cluster that is longer than `most_chars` is cut inside.
    """
    if text.isascii() and "\r" not in text:  # else CR LF is a cluster
        return text[: min(most_clusters, most_chars)]
    kept = 0
    for cluster in islice(clusters(text), most_clusters):
        if kept + len(cluster) > most_chars:
            return text[: kept or most_chars]
        kept += len(cluster)
    return text[:kept]
