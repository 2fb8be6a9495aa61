"""Reading a generation from any process: subscriptions, and its text so far."""

from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db.database import Database
from chat_api.db.generations import Generation, Lease
from chat_api.errors import AnswerGone, Draining, NotFound
from chat_api.generation import events
from chat_api.generation.events import Cursor, Written
from chat_api.generation.registry import Registry
from chat_api.generation.sink import Sink
from chat_api.generation.subscription import Subscription
from chat_api.generation.subscriptions import Subscriptions


def resumed_start(generation: Generation | Lease) -> bytes:
    """Return the frame with which the response to a request to continue begins."""
    start = events.start(
        generation.conversation_id,
        generation.message_id,
        generation.question_id,
        generation.attempt,
    )
    number = (generation.resumed_after or 1) - 1
    return events.frame(generation.message_id, generation.attempt, number, start)


class Joins:
    """Subscribes to generations that run already or have ended, and reads their text."""

    def __init__(self, db: Database, registry: Registry, subscriptions: Subscriptions) -> None:
        self._db = db
        self._registry = registry
        self._subscriptions = subscriptions

    async def join(
        self, user_id: str, conversation_id: str, cursor: Cursor | None, sink: Sink
    ) -> Subscription | None:
        """Subscribe from the cursor on, or from the start of the running generation.

        Return None if nothing runs and there is no rest. Raise NotFound or Draining.
        """
        if self._registry.is_draining:
            raise Draining
        found = await db_generations.find_joinable(
            self._db, user_id, conversation_id, None if cursor is None else cursor.tag
        )
        if found is None:
            raise NotFound
        if cursor is not None and (named := found.named) is not None:
            is_at_end = named.ended and (cursor.attempt, cursor.number) == (
                named.attempt,
                named.last_event,
            )
            if not is_at_end and not await self._is_gone(named):
                return await self._subscriptions.subscribe(
                    named.message_id, cursor.attempt, cursor.number, sink=sink
                )
        if found.running is not None:
            return await self._subscriptions.subscribe(
                found.running.message_id, found.running.attempt, sink=sink
            )
        return None

    async def repeat(
        self,
        message_id: str,
        sink: Sink,
        *,
        one_attempt: bool,
        resumed: bool = False,
        from_log: bool = False,
    ) -> Subscription:
        """Subscribe from the start to the generation that an earlier request with the same key
        began.

        Raise AnswerGone where it was deleted or replaced.
        """
        generation = await db_generations.read_generation(self._db, message_id)
        if generation is None or await self._is_gone(generation):
            raise AnswerGone
        if resumed and (after := generation.resumed_after) is not None:
            return await self._subscriptions.subscribe(
                message_id,
                generation.attempt,
                after,
                sink=sink,
                one_attempt=one_attempt,
                preface=resumed_start(generation),
            )
        # A later attempt may have kept an earlier one's text in a `snapshot`, which the response to
        # a POST never contains: the text is sent as it was saved.
        only_stored = one_attempt and generation.ended and generation.attempt > 1
        return await self._subscriptions.subscribe(
            message_id,
            generation.attempt,
            sink=sink,
            one_attempt=one_attempt,
            only_stored=only_stored,
            from_log=from_log,
        )

    async def read(
        self, message_id: str, attempt: int, sink: Sink, *, from_log: bool
    ) -> Subscription:
        """Subscribe to a generation from its first event on, even if its message was deleted.

        The caller must have checked that it belongs to the user. Raise Draining.
        """
        if self._registry.is_draining:
            raise Draining
        return await self._subscriptions.subscribe(
            message_id, attempt, sink=sink, from_log=from_log
        )

    async def written_so_far(self, message_id: str) -> Written:
        """Return a running generation's text, from memory or from the log."""
        running = self._registry.running.get(message_id)
        if running is not None:
            return running.written
        rows = await db_event_log.read(self._db, message_id)
        found = await events.written_by_attempt(rows)
        return found[max(found)] if found else Written("", 0)

    async def ended(self, message_id: str) -> Generation | None:
        """Return how a generation ended; None where it has not, or was deleted."""
        generation = await db_generations.read_generation(self._db, message_id)
        return generation if generation is not None and generation.ended else None

    async def _is_gone(self, generation: Generation) -> bool:
        """Return whether a message was deleted or replaced after its generation's end.

        An undone regeneration never had one to keep: its events are all that it was. What runs in
        a conversation that has expired is gone for its user, too.
        """
        if not generation.ended or generation.undone:
            there = await db_generations.conversation_stands(self._db, generation.conversation_id)
            return not there
        return not await db_generations.message_stands(self._db, generation.message_id)
