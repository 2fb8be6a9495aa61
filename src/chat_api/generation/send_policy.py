"""What becomes of a send: a new generation, a repeat of an earlier one, or a refusal."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from uuid_utils.compat import uuid7

from chat_api.db import sends as db_sends
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.db.sends import Busy, Draft, IdempotencyKey, Quotas, Repeat
from chat_api.errors import ConversationBusy, Draining, NotFound
from chat_api.generation.joining import Joins
from chat_api.generation.options import Options
from chat_api.generation.prompts import Prompts
from chat_api.generation.registry import Registry
from chat_api.generation.sink import Sink
from chat_api.generation.stopping import Stops
from chat_api.generation.subscription import Subscription
from chat_api.generation.subscriptions import Subscriptions
from chat_api.generation.writer import GenerationWriter
from chat_api.telemetry import trace_id_var

# How long a send waits for the running generation's subscribers to go.
PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Send:
    user_id: str
    conversation_id: str
    draft: Draft
    options: Options
    sink: Sink
    one_attempt: bool


class SendPolicy:
    """Keeps the busy rule, idempotency and quotas, and begins generations."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        prompts: Prompts,
        writer: GenerationWriter,
        subscriptions: Subscriptions,
        joins: Joins,
        stops: Stops,
        *,
        quotas: Quotas,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._registry = registry
        self._prompts = prompts
        self._writer = writer
        self._subscriptions = subscriptions
        self._joins = joins
        self._stops = stops
        self._quotas = quotas
        self._lease_seconds = lease_seconds
        self._clock = clock

    async def send(
        self,
        user_id: str,
        conversation_id: str,
        *,
        content: str | None,
        title: str | None,
        options: Options,
        idempotency: IdempotencyKey | None,
        sink: Sink,
        one_attempt: bool,
    ) -> Subscription:
        """Keep the message (None: regenerate), begin its generation, and subscribe to it.

        With the key of an earlier request, subscribe to the generation that it began. A generation
        that runs in the conversation is stopped if it has no subscriber. Raise NotFound,
        NothingToAnswer, ConversationBusy, IdempotencyKeyReused, AnswerGone, TooManyMessages,
        TooManyGenerations, Draining or DatabaseUnavailable.
        """
        draft = Draft(
            message_id=str(uuid7()),
            question_id=str(uuid7()),
            content=content,
            title=title,
            options=options.as_json(),
            trace_id=trace_id_var.get(),
            idempotency=idempotency,
        )
        send = _Send(user_id, conversation_id, draft, options, sink, one_attempt)
        deadline = self._clock() + PATIENCE_SECONDS
        first_found: str | None = None
        while True:
            accepted = await self._accept(send)
            if isinstance(accepted, Subscription):
                return accepted
            if isinstance(accepted, Repeat):
                return await self._joins.repeat(accepted.message_id, sink, one_attempt=one_attempt)
            if first_found not in (None, accepted.message_id):
                # Another send was faster: its generation is not the one to be stopped.
                raise ConversationBusy(accepted.message_id)
            first_found = accepted.message_id
            if accepted.has_subscribers:
                await self._until_unsubscribed(conversation_id, first_found, deadline)
            await self._stops.halt(first_found)

    async def _accept(self, send: _Send) -> Subscription | Busy | Repeat:
        """Begin the generation in a task that outlives the request: a COMMIT is not cancelled."""
        if self._registry.is_draining:
            raise Draining
        accepting = self._registry.own_send(self._begin(send))
        try:
            return await asyncio.shield(accepting)
        except asyncio.CancelledError:
            accepting.add_done_callback(_close_subscription)
            raise

    async def _begin(self, send: _Send) -> Subscription | Busy | Repeat:
        async with self._db.transaction() as connection:
            begun = await db_sends.begin(
                connection,
                send.user_id,
                send.conversation_id,
                send.draft,
                process=self._registry.process,
                lease_seconds=self._lease_seconds,
                quotas=self._quotas,
            )
            if begun is None:
                raise NotFound
            if not isinstance(begun, Lease):
                return begun
            history = await self._prompts.read_history(connection, begun)
        # Nothing is awaited between the commit and the task's start: a lease of ours without a
        # task would have to expire.
        self._writer.start(begun, self._prompts.build(history, send.options), send.options)
        return self._subscriptions.open(
            begun.message_id, begun.attempt, sink=send.sink, one_attempt=send.one_attempt
        )

    async def _until_unsubscribed(
        self, conversation_id: str, message_id: str, deadline: float
    ) -> None:
        """Wait, without a connection, until there is no subscriber. Raise ConversationBusy."""
        while self._clock() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            async with self._db.connection() as connection:
                busy = await db_sends.find_busy(connection, conversation_id)
            if busy is None or busy.message_id != message_id:
                break
            if not busy.has_subscribers:
                return
        raise ConversationBusy(message_id)


def _close_subscription(accepting: "asyncio.Task[Subscription | Busy | Repeat]") -> None:
    """Close the subscription of a request that went away while its message was accepted."""
    if not accepting.cancelled() and accepting.exception() is None:
        accepted = accepting.result()
        if isinstance(accepted, Subscription):
            accepted.close()
