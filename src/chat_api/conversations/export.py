"""Exports: whole conversations as JSON, NDJSON or Markdown, made in pieces of bounded size."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import orjson

from chat_api.db import exports
from chat_api.db.database import Database
from chat_api.db.queries import RunningMessage
from chat_api.errors import NotFound

# What a piece is filled up to; it may exceed this by a page of messages.
_PIECE_CHARS = 65_536
_CONVERSATIONS_AT_ONCE = 100
_HEADINGS = {"user": "User", "assistant": "Assistant", "system": "System"}

WithText = Callable[[RunningMessage], Awaitable[str]]


class Exports:
    """Reads conversations a page at a time: between two pieces no connection is held."""

    def __init__(self, db: Database, with_text: WithText) -> None:
        """`with_text` gives the JSON of a running answer with its text so far."""
        self._db = db
        self._with_text = with_text

    async def conversation(self, user_id: str, conversation_id: str) -> tuple[str, str]:
        """Return the conversation's title and its own JSON. Raise NotFound."""
        found = await exports.read_conversations(self._db, user_id, [conversation_id])
        if not found:
            raise NotFound
        json = found[0][1]
        return orjson.loads(json)["title"], json

    async def as_json(
        self, user_id: str, conversation_id: str, conversation: str
    ) -> AsyncIterator[str]:
        """Yield one JSON object on one line: the conversation with all messages of its tree."""
        yield f'{_one_line(conversation)[:-1]}, "messages":['
        separator = ""
        async for messages in self._pages(user_id, conversation_id):
            if messages:
                yield separator + ",".join(map(_one_line, messages))
                separator = ","
        yield "]}\n"

    async def as_markdown(
        self, user_id: str, conversation_id: str, title: str
    ) -> AsyncIterator[str]:
        """Yield the messages that are shown, as Markdown."""
        yield f"# {' '.join(title.split())}\n"
        async for messages in self._pages(user_id, conversation_id):
            shown = (message for message in map(orjson.loads, messages) if message["shown"])
            yield "".join(map(_section, shown))

    async def everything(self, user_id: str) -> AsyncIterator[str]:
        """Yield all conversations of the user as NDJSON, newest activity first.

        They are those of the beginning, each as it is when it is read.
        """
        ids = await exports.find_all(self._db, user_id)
        step = 16 * _CONVERSATIONS_AT_ONCE
        waiting: list[str] = []
        size = 0
        for first in range(0, len(ids), step):
            page = [
                str(UUID(bytes=ids[place : place + 16]))
                for place in range(first, min(first + step, len(ids)), 16)
            ]
            for conversation_id, json in await exports.read_conversations(self._db, user_id, page):
                async for piece in self.as_json(user_id, conversation_id, json):
                    waiting.append(piece)
                    size += len(piece)
                    if size >= _PIECE_CHARS:
                        yield "".join(waiting)
                        waiting, size = [], 0
        yield "".join(waiting)

    async def _pages(self, user_id: str, conversation_id: str) -> AsyncIterator[list[str]]:
        after: tuple[int, str] | None = None
        while True:
            page = await exports.read_messages(self._db, user_id, conversation_id, after)
            messages = page.messages
            if page.running is not None:
                messages = [*messages, await self._with_text(page.running)]
            yield messages
            after = page.after
            if after is None:
                return


def _one_line(json: str) -> str:
    # A raw line end can only be white space between the JSON's tokens.
    return json.replace("\n", " ")


def _section(message: dict[str, Any]) -> str:
    return f"\n## {_HEADINGS[message['role']]}\n\n{message['content']}\n"
