"""Deleting a conversation while a generation runs in it."""

import asyncio

from chat_api.db import queries
from chat_api.db.database import Database
from chat_api.errors import NotFound
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason


class Deletions:
    """Deletes conversations, and stops what this process runs in them.

    Another process notices with its next write of the log that its generation is gone.
    """

    def __init__(self, db: Database, registry: Registry) -> None:
        self._db = db
        self._registry = registry

    async def delete_conversation(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation and all in it. Raise NotFound."""
        deleting = self._registry.own(self._delete(user_id, conversation_id), "delete-conversation")
        message_ids = await asyncio.shield(deleting)
        if message_ids is None:
            raise NotFound
        for message_id in message_ids:
            if (running := self._registry.running.get(message_id)) is not None:
                running.stop_writing(StopReason.NOT_OURS)

    async def _delete(self, user_id: str, conversation_id: str) -> list[str] | None:
        async with self._db.transaction() as connection:
            return await queries.delete_conversation(connection, user_id, conversation_id)
