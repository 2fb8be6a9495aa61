"""Deleting conversations while generations run in them."""

import asyncio
from collections.abc import Iterable

from chat_api.db import erasure, queries
from chat_api.db.database import Database
from chat_api.errors import NotFound
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason


class Deletions:
    """Deletes conversations, and stops the generations that this process runs in them.

    Another process learns from its next write of the log that its generation is deleted.
    """

    def __init__(self, db: Database, registry: Registry) -> None:
        self._db = db
        self._registry = registry

    async def delete_conversation(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation and all in it. Raise NotFound."""
        deleting = self._registry.own(self._delete(user_id, conversation_id), "delete-conversation")
        if not await asyncio.shield(deleting):
            raise NotFound

    async def delete_user(self, user_id: str) -> None:
        """Erase all data of a user. After an interruption it can be repeated."""
        await asyncio.shield(self._registry.own(self._erase(user_id), "delete-user"))

    async def _delete(self, user_id: str, conversation_id: str) -> bool:
        """Delete it, and return whether it was there."""
        async with self._db.transaction() as connection:
            running = await queries.delete_conversation(connection, user_id, conversation_id)
        if running:
            self._stop(running)
            async with self._db.transaction() as connection:
                await erasure.erase_late(connection, running)
        return running is not None

    async def _erase(self, user_id: str) -> None:
        message_ids: list[str] = []
        is_last = False
        while not is_last:
            async with self._db.transaction() as connection:
                erased, is_last = await erasure.erase_some(connection, user_id)
            self._stop(erased.running)
            message_ids += erased.message_ids
        # Later than the commits above: their triggers have written changes.
        async with self._db.transaction() as connection:
            await erasure.erase_rest(connection, user_id, message_ids)

    def _stop(self, message_ids: Iterable[str]) -> None:
        for message_id in message_ids:
            if (running := self._registry.running.get(message_id)) is not None:
                running.stop_writing(StopReason.NOT_OURS)
