"""Renewing the leases of this process's generations, and the rows of its subscriptions."""

from chat_api.background import Background
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.generation.registry import Registry
from chat_api.generation.subscriptions import Subscriptions


class Leases:
    """Renews every lease and subscription of this process, a quarter of their length apart."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        subscriptions: Subscriptions,
        *,
        lease_seconds: float,
    ) -> None:
        self._db = db
        self._registry = registry
        self._subscriptions = subscriptions
        self._lease_seconds = lease_seconds

    def task(self) -> Background:
        """Return the task that renews."""
        return Background("renew-leases", self.renew, every_seconds=self._lease_seconds / 4)

    async def renew(self) -> None:
        """Renew once."""
        process = self._registry.process
        subscribed = self._subscriptions.message_ids
        await db_leases.renew(
            self._db, process, self._registry.held(), list(subscribed), self._lease_seconds
        )
        if ended := subscribed - self._subscriptions.message_ids:
            # They ended in the meantime, and this call may have rewritten the rows that the end
            # deleted.
            await db_leases.unsubscribe(self._db, process, list(ended))
