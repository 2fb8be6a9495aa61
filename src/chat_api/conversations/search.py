"""Search: the words of a query, the queue of searches, and the snippets of hits."""

import asyncio
import re
import time
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

import regex

from chat_api.db import search as statements
from chat_api.db.database import Database
from chat_api.db.search import STATEMENT_SECONDS, Form, Hit, Place
from chat_api.errors import SearchTimeout, TooManySearches
from chat_api.text import clusters, trimmed

# Searches of one user at once in one process: one runs, the others wait.
MOST_OF_A_USER = 5
_RETRY_SECONDS = 1
_WAIT_SECONDS = 10.0
# The newest conversations are searched first; most searches need no others.
_FIRST_CONVERSATIONS = 100
_GROWTH = 4
# Code points of a snippet: at most so many, and so many of them before the first match.
SNIPPET_CHARS = 200
_LEAD_CHARS = 40
_ELLIPSIS = "…"
# What separates words: white space, and the invisible spaces of scripts that are written without.
_BETWEEN_WORDS = re.compile("[\\s\x00-\x20\x7f-\x9f\u200b\u2060\ufeff]+")


class Found(NamedTuple):
    """One hit as it is shown. `matches` are pairs of offsets in code points of the snippet."""

    conversation: str  # JSON
    message: str | None  # JSON; None for a title
    snippet: str
    matches: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of hits, newest first."""

    items: list[Found]
    next_place: Place | None
    """Where the next page begins; None where there is none."""


class Search:
    """The searches of one process: one at a time for each user, and few in total.

    Other requests of the process need its database connections, too.
    """

    def __init__(self, db: Database, *, at_once: int) -> None:
        self._db = db
        self._fold: str | None = None
        self._places = asyncio.Semaphore(at_once)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()

    async def find(self, user_id: str, query: str, *, limit: int, after: Place | None) -> FoundPage:
        """Return a page of the hits that contain every word of the query, newest first.

        Raise TooManySearches, SearchTimeout and DatabaseUnavailable.
        """
        forms = [words for form in forms_of(query) if (words := words_of(form))]
        if not forms:
            return FoundPage([], None)
        async with self._turn(user_id):
            hits = await self._hits(
                user_id, [(words[0], words[1:]) for words in forms], limit + 1, after
            )
        pattern = pattern_of(word for words in forms for word in words)
        page = [_shown(hit, pattern) for hit in hits[:limit]]
        return FoundPage(page, hits[limit - 1].place if len(hits) > limit else None)

    @asynccontextmanager
    async def _turn(self, user_id: str) -> AsyncIterator[None]:
        if self._waiting[user_id] >= MOST_OF_A_USER:
            raise TooManySearches(MOST_OF_A_USER, _RETRY_SECONDS)
        self._waiting[user_id] += 1
        turn = self._turns.setdefault(user_id, asyncio.Semaphore(1))
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(_WAIT_SECONDS):
                        await held.enter_async_context(turn)
                        await held.enter_async_context(self._places)
                except TimeoutError:
                    raise SearchTimeout from None
                yield
        finally:
            self._waiting[user_id] -= 1
            if not self._waiting[user_id]:
                del self._waiting[user_id], self._turns[user_id]

    async def _hits(
        self, user_id: str, forms: Sequence[Form], limit: int, after: Place | None
    ) -> list[Hit]:
        """Return the newest hits from a place on.

        The conversations are searched in the order of their last activity. No message is newer
        than its conversation's last activity, so the walk ends where what has been found is newer
        than all that is left.
        """
        deadline = time.monotonic() + STATEMENT_SECONDS
        found: list[Hit] = []
        rest: tuple[datetime, str] | None = None
        conversations = _FIRST_CONVERSATIONS
        async with self._db.transaction() as connection:
            await statements.begin_search(connection)
            if self._fold is None:
                self._fold = await statements.read_fold(connection)
            fold = fold_for(forms, self._fold)
            while True:
                batch = await statements.search_conversations(
                    connection,
                    user_id,
                    fold,
                    forms,
                    conversations=conversations,
                    rest=rest,
                    limit=limit,
                    after=after,
                )
                found = sorted([*found, *batch.hits], key=_place, reverse=True)[:limit]
                rest = batch.rest
                if rest is None or (len(found) == limit and found[-1].place[0] > rest[0]):
                    return found
                if time.monotonic() > deadline:
                    raise SearchTimeout
                conversations *= _GROWTH


def _place(hit: Hit) -> Place:
    return hit.place


def fold_for(forms: Sequence[Form], fold: str) -> str:
    """Return the cheapest way to fold texts that finds these words as `fold` would."""
    words = "".join(word for first, others in forms for word in (first, *others))
    cased = [char for char in words if char.lower() != char.upper()]
    if not cased:
        return statements.NO_FOLD
    return statements.ASCII_FOLD if all(map(str.isascii, cased)) else fold


def forms_of(query: str) -> list[str]:
    """Return the query as sent, composed and decomposed: a text may have any of these forms."""
    composed = unicodedata.normalize("NFC", query)
    return list(dict.fromkeys([composed, unicodedata.normalize("NFD", query), query]))


def words_of(query: str) -> list[str]:
    """Return the words, longest first, without those that are parts of others."""
    kept: list[str] = []
    words = {trimmed(word) for word in _BETWEEN_WORDS.split(query)}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        if word and not any(word in longer for longer in kept):
            kept.append(word)
    return kept


def pattern_of(words: Iterable[str]) -> regex.Pattern[str]:
    """Return a pattern that matches any of the words, in any case, the longest first."""
    longest_first = sorted(set(words), key=len, reverse=True)
    return regex.compile("|".join(map(regex.escape, longest_first)), regex.IGNORECASE)


def _shown(hit: Hit, pattern: regex.Pattern[str]) -> Found:
    snippet, matches = snippet_of(
        hit.excerpt, pattern, cut_before=hit.cut_before, cut_after=hit.cut_after
    )
    return Found(hit.conversation, hit.message, snippet, matches)


def snippet_of(
    excerpt: str, pattern: regex.Pattern[str], *, cut_before: bool, cut_after: bool
) -> tuple[str, list[tuple[int, int]]]:
    """Return one line of the excerpt around its first match, and the places of the matches.

    It is cut between grapheme clusters, marked by an ellipsis.
    """
    line = _one_line(excerpt)
    found = pattern.search(line)
    first, last = found.span() if found else (0, 0)
    edges = [*accumulate(map(len, clusters(line)), initial=0)]
    # What the excerpt has cut through is not shown, unless it is the match itself.
    inner = edges[1 if cut_before else 0 : -1 if cut_after else None]
    start = max(0, first - _LEAD_CHARS)
    start = next((edge for edge in inner if start <= edge <= first), _edge_before(edges, first))
    end = _edge_before([edge for edge in inner if edge > start], start + SNIPPET_CHARS)
    if end < last:
        end = next(edge for edge in edges if edge >= last)
    before = _ELLIPSIS if cut_before or start > 0 else ""
    after = _ELLIPSIS if cut_after or end < len(line) else ""
    snippet = before + line[start:end] + after
    return snippet, [match.span() for match in pattern.finditer(snippet)]


def _edge_before(edges: Sequence[int], position: int) -> int:
    return max((edge for edge in edges if edge <= position), default=0)


def _one_line(text: str) -> str:
    """Return the text with each run of white space as one space, and none at its ends."""
    return " ".join(text.split())
