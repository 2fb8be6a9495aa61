"""All readers of this process, and what the other processes know of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.event_log import Follower
from chat_api.generation.running import RunningGeneration
from chat_api.generation.subscription import Subscription
from chat_api.telemetry import log


class Subscriptions:
    """Opens readers, and notes in the database which answers this process listens to.

    A message that is sent while an answer runs must know whether anybody still reads that answer,
    on any replica (`db.leases`). `own` runs a task that no request owns.
    """

    def __init__(
        self,
        db: Database,
        follower: Follower,
        process: str,
        running: Mapping[str, RunningGeneration],
        own: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        *,
        lease_seconds: float,
        heartbeat_seconds: float,
        slow_reader_seconds: float,
    ) -> None:
        self._db = db
        self._follower = follower
        self._process = process
        self._running = running
        self._own = own
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._slow_reader_seconds = slow_reader_seconds
        self._open: set[Subscription] = set()
        self._by_message: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def listened(self) -> AbstractSet[str]:
        """The answers that somebody reads here, by message id."""
        return set(self._by_message)

    def open(
        self,
        message_id: str,
        attempt: int,
        number: int = -1,
        *,
        one_attempt: bool,
        only_stored: bool = False,
    ) -> Subscription:
        """A subscription whose row in the database the caller has written already."""
        reader = Subscription(
            self._db,
            self._follower,
            self._running,
            message_id,
            attempt=attempt,
            number=number,
            one_attempt=one_attempt,
            only_stored=only_stored,
            on_close=self._closed,
        )
        self._open.add(reader)
        self._by_message[message_id] += 1
        return reader

    async def listen(
        self,
        message_id: str,
        attempt: int,
        number: int = -1,
        *,
        one_attempt: bool = False,
        only_stored: bool = False,
    ) -> Subscription:
        """A reader that other processes know of when this returns. Raises DatabaseUnavailable."""
        reader = self.open(
            message_id, attempt, number, one_attempt=one_attempt, only_stored=only_stored
        )
        try:
            await db_leases.listen(self._db, self._process, [message_id], self._lease_seconds)
        except BaseException:
            reader.close()
            raise
        return reader

    def _closed(self, reader: Subscription) -> None:
        if reader not in self._open:
            return
        self._open.discard(reader)
        message_id = reader.message_id
        self._by_message[message_id] -= 1
        if self._by_message[message_id]:
            return
        del self._by_message[message_id]
        answer = self._running.get(message_id)
        if answer is not None and answer.ending:
            return  # the end takes the listeners away itself
        self._own(self._stop_listening(message_id), "stop-listening")

    async def _stop_listening(self, message_id: str) -> None:
        # Where this fails, the row runs out by itself.
        with suppress(DatabaseUnavailable):
            await db_leases.stop_listening(self._db, self._process, [message_id])
            if message_id in self._by_message:
                # Somebody came meanwhile, whose row may have gone with this.
                await db_leases.listen(self._db, self._process, [message_id], self._lease_seconds)

    def watch_clocks(self) -> None:
        """Heartbeats for the silent, an end for those who take nothing: one look at all."""
        now = time.monotonic()
        for reader in list(self._open):
            if reader.sending_since is not None:
                if now - reader.sending_since > self._slow_reader_seconds:
                    log.info("slow_reader_dropped", message_id=reader.message_id)
                    reader.drop()
            elif now - reader.last_sent > self._heartbeat_seconds:
                reader.beat()

    def send_away_followers(self) -> None:
        """End the readings of answers that are written elsewhere; they can be read there too."""
        for reader in list(self._open):
            if reader.message_id not in self._running and not reader.is_local:
                reader.leave()

    def send_away(self) -> None:
        """End every reading; clients come back to another replica with their last event's id."""
        for reader in list(self._open):
            if reader.sending_since is None:
                reader.leave()
            else:
                reader.drop()  # it takes nothing, and would hold up the exit
