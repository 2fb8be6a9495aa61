"""The sink that translates a subscription's events into another dialect.

A subscription writes the frames of our own dialect, also here: several of them, or pieces of one,
at a time. So the subscription does not know of dialects, and a token in our own costs what it did.
"""

import asyncio
from typing import Protocol

from chat_api import sse
from chat_api.api.streaming.connection import Connection


class CannotGoOn(Exception):
    """The sent text cannot be revoked, and the next text does not continue it."""


class Translator(Protocol):
    """Makes the dialect's bytes of a generation's events, from the first one on."""

    @property
    def has_ended(self) -> bool:
        """Return whether the stream is complete and may be closed normally."""

    def translate(self, attempt: int, number: int, data: bytes) -> bytes:
        """Return the bytes to send for an event, which may be empty. `data` is its JSON.

        Raise CannotGoOn.
        """


class Translated:
    """A `generation.sink.Sink` that writes a translator's bytes to a connection.

    If the stream ends before its translator has, the connection is reset: clients take a normal
    close for the end of the answer.
    """

    def __init__(self, connection: Connection, translator: Translator) -> None:
        self._connection = connection
        self._translator = translator
        self._rest = b""  # of a frame

    @property
    def blocked_since(self) -> float | None:
        return self._connection.blocked_since

    def try_write(self, data: bytes) -> bool:
        # What is translated must be written: a translator does not go back.
        if self._rest or not self._connection.is_writable:
            return False
        try:
            translated = self._translate(data)
        except CannotGoOn:
            self._connection.abort()
            return True
        return not translated or self._connection.try_write(translated)

    async def write(self, data: bytes) -> None:
        try:
            translated = self._translate(data)
        except CannotGoOn:
            await self._cut_off()
            return
        if translated:
            await self._connection.write(translated)

    def abort(self) -> None:
        self._connection.abort()

    async def finish(self) -> None:
        """End the response: normally only if the translator has ended."""
        if self._translator.has_ended:
            await self._connection.finish()
        else:
            await self._cut_off()

    async def _cut_off(self) -> None:
        self._connection.abort()
        await asyncio.sleep(0)  # where the connection's task, which this is, is cancelled

    def _translate(self, data: bytes) -> bytes:
        frames = (self._rest + data).split(b"\n\n")
        self._rest = frames.pop()
        translated: list[bytes] = []
        for frame in frames:
            if frame.startswith(b"id: "):
                event_id, _, event = frame.partition(b"\ndata: ")
                _, attempt, number = event_id.split(b".")
                translated.append(self._translator.translate(int(attempt), int(number), event))
            elif frame.startswith(b":"):
                translated.append(sse.HEARTBEAT)
        return b"".join(translated)
