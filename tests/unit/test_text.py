"""What shows nothing, where a text may be cut, and what is shown of a hit."""

import tracemalloc

import pytest
import regex

from chat_api.conversations.search import pattern_of, snippet_of, words_of
from chat_api.conversations.titles import given_title, title_of
from chat_api.text import BLANK_RANGES, cut, is_blank, trimmed

# In no property, but blank in every font.
_OTHERS = {0x2800, 0x16FE4, 0x1D159}


@pytest.mark.case(60)
def test_the_table_of_blank_characters_is_that_of_unicode() -> None:
    invisible = regex.compile(
        r"[\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}"
        r"[\p{Cf}--\p{Prepended_Concatenation_Mark}]]",
        regex.V1,
    )
    surrogates = range(0xD800, 0xE000)
    expected = {
        point
        for point in range(0x110000)
        if point not in surrogates and invisible.match(chr(point))
    }
    ours = {point for first, last in BLANK_RANGES for point in range(first, last + 1)}
    assert ours == expected | _OTHERS
    assert all(is_blank(chr(point)) for point in ours)


@pytest.mark.case(60)
@pytest.mark.parametrize(
    "text", ["x", ".", "म", "\u0301", "\u0600", "\u06dd", "😀", "\u200b.", "\ufffd", "¨"]
)
def test_what_shows_anything_is_not_blank(text: str) -> None:
    assert not is_blank(text)
    assert title_of(text)


def test_the_ends_of_a_text_lose_what_shows_nothing() -> None:
    assert trimmed("\ufeff \u200b❤\ufe0f x \u2060\n") == "❤\ufe0f x"
    assert trimmed("\u200b \n") == ""
    assert trimmed("\x00\x1f\x7f \r\n a \r\n b \x7f\r\n") == "a \r\n b"
    assert trimmed("\r\n") == ""


def test_a_text_is_cut_between_clusters() -> None:
    assert cut("🇩🇪🇫🇷x", most_clusters=1, most_chars=9) == "🇩🇪"
    assert cut("🇩🇪🇫🇷x", most_clusters=9, most_chars=3) == "🇩🇪"
    assert cut("e\u0301\u0301\u0301", most_clusters=9, most_chars=2) == "e\u0301"
    assert cut("a\r\nb", most_clusters=2, most_chars=9) == "a\r\n"
    assert cut("a\r\nb", most_clusters=9, most_chars=2) == "a"
    assert cut("abc", most_clusters=2, most_chars=9) == "ab"
    assert cut("abc", most_clusters=9, most_chars=1) == "a"


def test_the_title_of_a_long_text_takes_little_memory() -> None:
    text = "\u200b" * 900 + "नमस्ते " * 200_000
    tracemalloc.start()
    try:
        title = title_of(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert title == cut(text[900:], most_clusters=80, most_chars=1_000).rstrip()
    assert peak < 8 * len(text)


def test_a_title_that_only_begins_like_a_placeholder_is_given() -> None:
    for title in ("New chat 2", "Untitled poem", "My new chat", "Newchat"):
        assert given_title(title) == title


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("one  two\tone", ["one", "two"]),
        ("sam samosa osa", ["samosa"]),
        ("\u3000重点\u200b内容\ufeff", ["内容", "重点"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("\u00ad x \u200e", ["x"]),
    ],
)
def test_a_query_is_words_longest_first_without_parts_of_others(
    query: str, words: list[str]
) -> None:
    assert words_of(query) == words


FAR = "x " * 300
FLAGS = "🇮🇳" * 150


@pytest.mark.parametrize(
    ("excerpt", "cut_before", "cut_after", "snippet"),
    [
        ("The needle here", False, False, "The needle here"),
        ("the needle here", True, True, "…he needle her…"),
        (FAR + "needle " + FAR, False, False, "…" + "x " * 20 + "needle " + "x " * 76 + "x…"),
        (FLAGS + "needle" + FLAGS, True, True, "…" + "🇮🇳" * 20 + "needle" + "🇮🇳" * 77 + "…"),
        ("needle", True, True, "…needle…"),
        ("needle" + "\u0301" * 300 + "x", False, False, "needle" + "\u0301" * 300 + "…"),
    ],
)
def test_a_snippet_is_the_surroundings_of_the_first_match(
    excerpt: str, cut_before: bool, cut_after: bool, snippet: str
) -> None:
    shown, matches = snippet_of(
        excerpt, pattern_of(["needle"]), cut_before=cut_before, cut_after=cut_after
    )
    assert shown == snippet
    assert [shown[start:end] for start, end in matches] == ["needle"]


@pytest.mark.parametrize(("text", "word"), [("ΟΔΟΣ", "οδος"), ("\u212a", "k"), ("ſ", "S")])
def test_matches_are_marked_as_postgresql_folds_case(text: str, word: str) -> None:
    """The sigma at a word's end, the Kelvin sign, the long s."""
    _, matches = snippet_of(text, pattern_of([word]), cut_before=False, cut_after=False)
    assert matches == [(0, len(text))]
