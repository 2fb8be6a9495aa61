"""Titles by a model: after the first complete answer, in the background.

Nothing waits for a title, a failed one is not retried, and the first line of the first message then
stays.
"""

import asyncio
import re
import time
from typing import Any

from chat_api.background import Background
from chat_api.conversations.titles import title_of
from chat_api.db import titles as db_titles
from chat_api.db.database import Database, StatementRefused
from chat_api.db.generations import Lease
from chat_api.db.titles import Opening
from chat_api.engines.engine import Event, EventReceiver, Limits, Message
from chat_api.engines.engines import Engines, Order
from chat_api.errors import DatabaseUnavailable, EngineFailed
from chat_api.telemetry import log

# Titles that wait for their turn; further ones are skipped.
_MOST_WAITING = 100
# Titles that one process has written at the same time.
_AT_ONCE = 2
_MOST_SECONDS = 30.0
# What the model reads of the question and of the answer, and the most that it writes.
EXCERPT_CHARS = 1_500
_MOST_CHARS = 400
_OPTIONS = {"temperature": 0.2, "max_tokens": 40}
_PROMPT = (
    "Write a title for the conversation below: at most six words, in the language of the "
    "conversation, on one line. Answer with the title only.\n\n"
    "User: {question}\n\nAssistant: {answer}\n\nTitle:"
)
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_LABEL = re.compile(r"(title|titel|शीर्षक)\s*[:：]\s*", re.IGNORECASE)
_WRAPPING = " \t#*_`\"'“”„‘’«»「」『』"


class Titling:
    """Has a model write the titles of conversations whose users gave none."""

    def __init__(self, db: Database, engines: Engines, *, model_tag: str) -> None:
        """Without a `model_tag`, nothing is done."""
        self._db = db
        self._engines = engines
        self._model_tag = model_tag
        self._waiting: asyncio.Queue[Lease] = asyncio.Queue(_MOST_WAITING)

    def tasks(self) -> tuple[Background, ...]:
        """Return the tasks that write titles; a drain does not wait for them."""
        if not self._model_tag:
            return ()
        return tuple(Background(f"title-{number}", self._step) for number in range(_AT_ONCE))

    def completed(self, lease: Lease) -> None:
        """Note a complete answer, whose conversation may need a title."""
        if self._model_tag and not self._waiting.full():
            self._waiting.put_nowait(lease)

    async def _step(self) -> None:
        lease = await self._waiting.get()
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await self._write(lease)
        except (EngineFailed, DatabaseUnavailable, StatementRefused, TimeoutError) as error:
            log.info("title_not_written", error=type(error).__name__)

    async def _write(self, lease: Lease) -> None:
        opening = await db_titles.read_opening(
            self._db, lease.conversation_id, lease.message_id, chars=EXCERPT_CHARS
        )
        # One that the user gave, or that a model has written already, stays.
        if opening is None or opening.title != title_of(opening.question):
            return
        title = as_title(await self._ask(opening, lease.trace_id))
        if title:
            await db_titles.replace_title(
                self._db, lease.conversation_id, old=opening.title, new=title
            )

    async def _ask(self, opening: Opening, trace_id: str) -> str:
        """Return the model's text up to its second line. Raise EngineFailed."""
        prompt = _PROMPT.format(
            question=opening.question[:EXCERPT_CHARS], answer=opening.answer[:EXCERPT_CHARS]
        )
        answer = _Title()
        order = Order(
            model_tag=self._model_tag,
            prompt=_Asked(prompt),
            options=_OPTIONS,
            trace_id=trace_id,
            until=time.monotonic() + _MOST_SECONDS,
        )
        asking = asyncio.ensure_future(self._engines.generate(order, answer))
        try:
            first: set[asyncio.Future[Any]] = {asking, answer.is_enough}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                await asking
        finally:
            answer.is_enough.cancel()
            asking.cancel()
        return answer.text


class _Asked:
    """One question to a model, whatever its engine takes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def messages_for(self, _limits: Limits, _context_tokens: int | None, /) -> list[Message]:
        return [{"role": "user", "content": self._text}]


class _Title(EventReceiver):
    """Collects a model's text until it is enough for a title."""

    def __init__(self) -> None:
        self.text = ""
        self.is_enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def written_by(self, model_tag: str | None, *, is_fallback: bool) -> None:
        """Do nothing: the model does not matter here."""

    def take(self, arrived: list[Event], /) -> None:
        self.text += "".join(event.text for event in arrived)
        if len(self.text) > _MOST_CHARS and not self.is_enough.done():
            self.is_enough.set_result(None)


def as_title(text: str) -> str:
    """Return a model's text as a title of one line; empty if it has none."""
    line = title_of(_THOUGHTS.sub("", text)).strip(_WRAPPING)
    found = _LABEL.match(line)
    return title_of((line if found is None else line[found.end() :]).strip(_WRAPPING))
