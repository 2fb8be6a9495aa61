"""Stores the number of each response's final event while the log still has the events."""

from chat_api.background import Background
from chat_api.db import event_log, responses
from chat_api.db.database import Database
from chat_api.db.responses import NotNumbered
from chat_api.dialects.openai.objects import Echo
from chat_api.dialects.openai.translator import Translator
from chat_api.dialects.translated import CannotGoOn
from chat_api.generation.events import unpack

_MOST_AT_ONCE = 50


class Numbering:
    """Translates responses that have ended once more; several processes may do the same."""

    def __init__(self, db: Database, *, log_retention_seconds: float) -> None:
        self._db = db
        self._every = min(10.0, max(0.5, log_retention_seconds / 10))

    def task(self) -> Background:
        return Background("number-responses", self._step, every_seconds=self._every)

    async def _step(self) -> None:
        for ended in await responses.find_not_numbered(self._db, _MOST_AT_ONCE):
            await responses.number(self._db, ended.message_id, await self._last(ended))

    async def _last(self, ended: NotNumbered) -> int:
        rows = await event_log.read(self._db, ended.message_id)
        translator = Translator(ended.message_id, ended.conversation_id, Echo.from_json(ended.echo))
        try:
            for event in unpack((row for row in rows if row.attempt == ended.attempt), -1):
                translator.translate(ended.attempt, event.number, event.data)
        except CannotGoOn:
            pass  # what was shown ends where the stream was cut off
        return translator.number
