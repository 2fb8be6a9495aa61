"""All subscriptions of this process to generations, and their rows in the database."""

import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress

from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.log_follower import Follower
from chat_api.generation.registry import Registry
from chat_api.generation.sink import Sink
from chat_api.generation.subscription import Subscription


class Subscriptions:
    """Opens subscriptions, and notes in the database which generations this process subscribes to.

    A send that finds a generation running must know whether any process has a subscription to it
    (`db.leases`).
    """

    def __init__(
        self,
        db: Database,
        follower: Follower,
        registry: Registry,
        *,
        lease_seconds: float,
        heartbeat_seconds: float,
        slow_reader_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._follower = follower
        self._registry = registry
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._slow_reader_seconds = slow_reader_seconds
        self._clock = clock
        self._open: set[Subscription] = set()
        self._by_message: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def message_ids(self) -> AbstractSet[str]:
        """Return the message ids of the generations that have subscriptions here."""
        return set(self._by_message)

    def open(
        self,
        message_id: str,
        attempt: int,
        number: int = -1,
        *,
        sink: Sink,
        one_attempt: bool,
        only_stored: bool = False,
        preface: bytes = b"",
        from_log: bool = False,
    ) -> Subscription:
        """Return a subscription whose row in the database the caller has written already."""
        subscription = Subscription(
            self._db,
            self._follower,
            self._registry,
            sink,
            message_id,
            attempt=attempt,
            number=number,
            one_attempt=one_attempt,
            only_stored=only_stored,
            preface=preface,
            from_log=from_log,
            on_close=self._closed,
            clock=self._clock,
        )
        self._open.add(subscription)
        self._by_message[message_id] += 1
        return subscription

    async def subscribe(
        self,
        message_id: str,
        attempt: int,
        number: int = -1,
        *,
        sink: Sink,
        one_attempt: bool = False,
        only_stored: bool = False,
        preface: bytes = b"",
        from_log: bool = False,
    ) -> Subscription:
        """Return a subscription after noting it in the database. Raise DatabaseUnavailable."""
        subscription = self.open(
            message_id,
            attempt,
            number,
            sink=sink,
            one_attempt=one_attempt,
            only_stored=only_stored,
            preface=preface,
            from_log=from_log,
        )
        try:
            await db_leases.subscribe(
                self._db, self._registry.process, [message_id], self._lease_seconds
            )
        except BaseException:
            subscription.close()
            raise
        return subscription

    def _closed(self, subscription: Subscription) -> None:
        if subscription not in self._open:
            return
        self._open.discard(subscription)
        message_id = subscription.message_id
        self._by_message[message_id] -= 1
        if self._by_message[message_id]:
            return
        del self._by_message[message_id]
        running = self._registry.running.get(message_id)
        if subscription.knows_end or (running is not None and running.ending):
            return  # the end deletes all subscriptions
        self._registry.own(self._unsubscribe(message_id), "unsubscribe")

    async def _unsubscribe(self, message_id: str) -> None:
        process = self._registry.process
        # Where this fails, the row expires by itself.
        with suppress(DatabaseUnavailable):
            await db_leases.unsubscribe(self._db, process, [message_id])
            if message_id in self._by_message:
                # A new subscription's row may have been deleted with the old one's.
                await db_leases.subscribe(self._db, process, [message_id], self._lease_seconds)

    def look_at_clocks(self) -> None:
        """Send heartbeats after a silence, and disconnect clients that read nothing."""
        now = self._clock()
        for subscription in list(self._open):
            subscription.look_at_clock(
                now,
                heartbeat_seconds=self._heartbeat_seconds,
                slow_reader_seconds=self._slow_reader_seconds,
            )

    def send_away_followers(self) -> None:
        """End subscriptions to generations of other processes: clients can reconnect to those."""
        for subscription in list(self._open):
            if subscription.message_id not in self._registry.running and not subscription.is_local:
                subscription.leave()

    def send_away(self) -> None:
        """End every subscription; clients reconnect elsewhere with their last event's id."""
        for subscription in list(self._open):
            subscription.send_away()
