"""The result of a send: a new generation, a repeat of an earlier one, or a refusal."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from uuid_utils import uuid7

from chat_api.context import Context
from chat_api.db import queries
from chat_api.db import resuming as db_resuming
from chat_api.db import sends as db_sends
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.db.idempotency import IdempotencyKey, Repeat
from chat_api.db.quotas import Quotas
from chat_api.db.responses import KeptRequest
from chat_api.db.sends import Begun, Busy, Draft
from chat_api.db.tree import Addition
from chat_api.engines.engine import Usage
from chat_api.errors import (
    ConversationBusy,
    Draining,
    EngineCannotContinue,
    NotFound,
    NothingToContinue,
)
from chat_api.generation import events
from chat_api.generation.continuing import Continuing
from chat_api.generation.events import Written
from chat_api.generation.joining import Joins, resumed_start
from chat_api.generation.options import Options
from chat_api.generation.prompts import Prompts
from chat_api.generation.registry import Registry
from chat_api.generation.running import Beginning
from chat_api.generation.sink import Sink
from chat_api.generation.stopping import Stops
from chat_api.generation.subscription import Subscription
from chat_api.generation.subscriptions import Subscriptions
from chat_api.generation.writer import GenerationWriter
from chat_api.telemetry import trace_id_var

# How long a send waits for the running generation's subscribers to go.
PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.05

_Accepted: TypeAlias = Subscription | Busy | Repeat
_Writing: TypeAlias = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class _Send:
    user_id: str
    conversation_id: str
    draft: Draft
    sink: Sink
    one_attempt: bool
    if_busy: Literal["reject", "stop"] | None = None
    resumes: bool = False
    from_log: bool = False


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
        continuing: Continuing,
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
        self._continuing = continuing
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
        model_tag: str | None = None,
        idempotency: IdempotencyKey | None,
        sink: Sink,
        one_attempt: bool,
        at: str | None = None,
        if_busy: Literal["reject", "stop"] | None = None,
        message_id: str | None = None,
        question_id: str | None = None,
        before: Sequence[Addition] = (),
        creates: bool = False,
        request: KeptRequest | None = None,
    ) -> Subscription:
        """Save the message (None: regenerate), begin its generation, and subscribe to it.

        `at` is the message to send it after, or the answer to regenerate; None for the last one.
        The conversation's id stands for the parent of a first message. With the key of an earlier
        request, subscribe to the generation that it began. A generation that runs in the
        conversation is stopped if it has no subscriber; with `if_busy`, always or never.
        `question_id` is the message's id, where a client has named it: the same one again
        subscribes to its answer. With `creates`, a conversation that is unknown is created.
        `message_id` is the answer's, unless the request is a repeat. The messages of `before` are
        added before the question. `request` is kept with the generation; of one in the background,
        only what the log has is shown.
        Raise NotFound, NothingToAnswer, ConversationBusy, IdempotencyKeyReused, AnswerGone,
        TooManyMessages, TooManyGenerations, Draining or DatabaseUnavailable.
        """
        draft = Draft(
            message_id=message_id or str(uuid7()),
            question_id=question_id or str(uuid7()),
            content=content,
            title=title,
            options=options.as_json(),
            trace_id=trace_id_var.get(),
            idempotency=idempotency,
            model_tag=model_tag,
            at=at,
            before=before,
            request=request,
            is_named=question_id is not None,
            creates=creates,
        )
        return await self._begun(
            _Send(
                user_id,
                conversation_id,
                draft,
                sink,
                one_attempt,
                if_busy=if_busy,
                from_log=request is not None and request.is_background,
            )
        )

    async def resume(
        self,
        user_id: str,
        conversation_id: str,
        *,
        options: Options,
        model_tag: str | None,
        idempotency: IdempotencyKey | None,
        sink: Sink,
        one_attempt: bool,
        if_busy: Literal["reject", "stop"] | None = None,
    ) -> Subscription:
        """Continue the last answer where it ended, and subscribe to its new text.

        A generation that runs is stopped only with `if_busy`: it may be one that could not go on.
        Raise NothingToContinue or EngineCannotContinue, and what `send` raises.
        """
        draft = Draft(
            message_id="",
            question_id="",
            content="",
            title=None,
            options=options.as_json(),
            trace_id=trace_id_var.get(),
            idempotency=idempotency,
            model_tag=model_tag,
        )
        return await self._begun(
            _Send(
                user_id,
                conversation_id,
                draft,
                sink,
                one_attempt,
                if_busy=if_busy or "reject",
                resumes=True,
            )
        )

    async def _begun(self, send: _Send) -> Subscription:
        """Subscribe to the generation that the send begins, or has begun before."""
        deadline = self._clock() + PATIENCE_SECONDS
        first_found: str | None = None
        while True:
            accepted = await self._accept(send)
            if isinstance(accepted, Subscription):
                return accepted
            if isinstance(accepted, Repeat):
                return await self._joins.repeat(
                    accepted.message_id,
                    send.sink,
                    one_attempt=send.one_attempt,
                    resumed=send.resumes,
                    from_log=send.from_log,
                )
            if send.if_busy == "reject" or first_found not in (None, accepted.message_id):
                # Another send was faster: its generation is not the one to be stopped.
                raise ConversationBusy(accepted.message_id)
            first_found = accepted.message_id
            if accepted.has_subscribers and send.if_busy != "stop":
                await self._until_unsubscribed(send.conversation_id, first_found, deadline)
            await self._stops.halt(first_found)

    async def _accept(self, send: _Send) -> _Accepted:
        """Begin the generation in a task that outlives the request: a COMMIT is not cancelled."""
        if self._registry.is_draining:
            raise Draining
        accepted: asyncio.Future[_Accepted] = asyncio.get_running_loop().create_future()
        name = f"generation-{send.draft.message_id}"
        self._registry.own_send(self._carry_out(send, accepted), accepted, name)
        try:
            return await asyncio.shield(accepted)
        except asyncio.CancelledError:
            accepted.add_done_callback(_close_subscription)
            raise

    async def _carry_out(self, send: _Send, accepted: "asyncio.Future[_Accepted]") -> None:
        """Set the result of the send, and write the generation that it begins."""
        try:
            result, writing = await (self._resume if send.resumes else self._begin)(send)
        except asyncio.CancelledError:
            accepted.cancel()
            raise
        except Exception as error:
            accepted.set_exception(error)
            raise
        accepted.set_result(result)
        del send, accepted, result  # a generation takes minutes
        # Nothing is awaited between the commit and this: a lease of ours without a task would have
        # to expire.
        if writing is not None:
            await writing

    async def _begin(self, send: _Send) -> tuple[_Accepted, _Writing | None]:
        begun = await db_sends.begin(
            self._db,
            send.user_id,
            send.conversation_id,
            send.draft,
            process=self._registry.process,
            lease_seconds=self._lease_seconds,
            bounds=self._prompts.bounds,
            quotas=self._quotas,
        )
        if begun is None:
            raise NotFound
        if not isinstance(begun, Begun):
            return begun, None
        lease = begun.lease
        options = Options.from_json(lease.options)
        messages = self._prompts.build(begun.history, options, lease.instructions)
        subscription = self._subscriptions.open(
            lease.message_id,
            lease.attempt,
            sink=send.sink,
            one_attempt=send.one_attempt,
            from_log=send.from_log,
        )
        return subscription, self._writer.write(lease, messages, options)

    async def _resume(self, send: _Send) -> tuple[_Accepted, _Writing | None]:
        ended = await db_resuming.read_last(self._db, send.user_id, send.conversation_id)
        if ended is None:
            if await queries.read_conversation(self._db, send.user_id, send.conversation_id):
                raise NothingToContinue
            raise NotFound
        written = Written(ended.content, ended.token_count, ended.reasoning)
        options = Options.from_json(db_sends.with_defaults(send.draft.options, ended.defaults))
        context: Context | None = None
        if ended.is_resumable:
            async with self._db.connection() as connection:
                history = await self._prompts.read_history(
                    connection, send.conversation_id, str(ended.question_id)
                )
            context = self._prompts.build(history, options, ended.instructions)
            tag = send.draft.model_tag or ended.model_tag
            if not await self._continuing.is_possible(written, tag, context, options):
                raise EngineCannotContinue
        # The transaction finds out about a repeat, or a running generation.
        async with self._db.transaction() as connection:
            begun = await db_resuming.resume(
                connection,
                send.user_id,
                send.conversation_id,
                ended,
                send.draft,
                process=self._registry.process,
                lease_seconds=self._lease_seconds,
                quotas=self._quotas,
            )
            if isinstance(begun, Lease):
                start = events.start(
                    begun.conversation_id, begun.message_id, begun.question_id, begun.attempt
                )
                snapshot = events.snapshot(ended.content)
                await db_resuming.log_beginning(
                    connection, begun, start.decode(), snapshot.decode()
                )
        if begun is None:
            raise NotFound
        if not isinstance(begun, Lease):
            return begun, None
        assert context is not None  # noqa: S101  # only what is resumable is resumed
        assert begun.resumed_after is not None  # noqa: S101  # as it has been
        usage = None
        if ended.input_tokens is not None and ended.output_tokens is not None:
            usage = Usage(ended.input_tokens, ended.output_tokens)
        beginning = Beginning(written, begun.resumed_after, usage, ended.inference_time_ms)
        subscription = self._subscriptions.open(
            begun.message_id,
            begun.attempt,
            begun.resumed_after,
            sink=send.sink,
            one_attempt=send.one_attempt,
            preface=resumed_start(begun),
        )
        return subscription, self._writer.write(begun, context, options, beginning)

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


def _close_subscription(accepted: "asyncio.Future[_Accepted]") -> None:
    """Close the subscription of a request that went away while its message was accepted."""
    if not accepted.cancelled() and accepted.exception() is None:
        result = accepted.result()
        if isinstance(result, Subscription):
            result.close()
