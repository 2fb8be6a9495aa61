"""Everything that is done to answers: begin, join, stop, delete, take up, hand over.

An answer's way: `begin` keeps the question and starts a task; the task (`writer`) reads the
inference service, publishes events and saves the end; readers (`reader`) join and leave as they
like. A process that dies loses nothing but time: another one finds the answer (`recovery`) and
writes it again.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from uuid_utils.compat import uuid7

from chat_api.context import build_context
from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db import leases as db_leases
from chat_api.db import queries
from chat_api.db.database import Connection, Database
from chat_api.db.generations import (
    Begun,
    Draft,
    IdempotencyKey,
    Lease,
    Quotas,
    Repeat,
    Running,
    Turn,
)
from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.errors import (
    AnswerGone,
    ApiError,
    ConversationBusy,
    DatabaseUnavailable,
    Draining,
    IdempotencyKeyReused,
    NotFound,
    NothingToAnswer,
    TooManyGenerations,
    TooManyMessages,
)
from chat_api.generation import events
from chat_api.generation.background import Background
from chat_api.generation.event_log import Follower, LogWriter
from chat_api.generation.events import Cursor, Written
from chat_api.generation.options import Options
from chat_api.generation.recovery import MOST_CRASHES, Recovery
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.generation.subscription import Subscription
from chat_api.generation.subscriptions import Subscriptions
from chat_api.generation.writer import GenerationWriter, until_there
from chat_api.settings import INFERENCE_MESSAGE_CHARS, Settings
from chat_api.telemetry import log, trace_id_var

# How long a send waits for a busy answer's listeners to go, and a stop for the answer's owner.
PATIENCE_SECONDS = 1.0
# When to come back after too many running answers; nobody knows when one of them ends.
_ANSWER_RETRY_SECONDS = 5
# The last part of the drain, for handing over what is left.
HANDOVER_SECONDS = 3.0
_POLL_SECONDS = 0.05
_STOP_SECONDS = 1.0
_NOTICE_SECONDS = 1.0
_TICK_SECONDS = 0.25

_T = TypeVar("_T")


class Generations:
    """The answers of this process, and its way to those of others."""

    def __init__(
        self, db: Database, upkeep: Database, inference: SamosachaatEngine, settings: Settings
    ) -> None:
        """`upkeep` has a few connections for leases and log, which no request can take away."""
        self.process = str(uuid4())
        self.draining = False
        self._db = db
        self._upkeep = upkeep
        self._settings = settings
        self._quotas = Quotas(settings.messages_per_minute, settings.max_running_answers)
        self._running: dict[str, RunningGeneration] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepting: set[asyncio.Task[Any]] = set()
        self._taking_up: dict[str, Lease] = {}  # claimed, not yet registered
        self._log = LogWriter(
            upkeep, self.process, self._running, every_seconds=settings.log_flush_seconds
        )
        self._follower = Follower(upkeep, every_seconds=settings.log_flush_seconds)
        self._readers = Subscriptions(
            db,
            self._follower,
            self.process,
            self._running,
            self._own,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            slow_reader_seconds=settings.slow_reader_seconds,
        )
        self._writer = GenerationWriter(
            db,
            inference,
            self._running,
            self._log,
            max_answer_chars=settings.max_answer_chars,
            max_answer_bytes=settings.max_answer_bytes,
        )
        self._recovery = Recovery(
            upkeep,
            self.process,
            self._held,
            lambda: self._readers.listened,
            lambda lease: self._own(self._take_up(lease), f"take-up-{lease.message_id}"),
            self._give_up,
            lease_seconds=settings.lease_seconds,
            log_retention_seconds=settings.log_retention_seconds,
        )
        self._background = (
            Background("write-log", self._log.step),
            Background("follow-log", self._follower.step),
            Background("watch-clocks", self._watch_clocks, every_seconds=_TICK_SECONDS),
            *self._recovery.tasks(),
        )

    def start(self) -> None:
        for task in self._background:
            task.start()

    async def stop(self) -> None:
        """End every task. What still runs is left to another process."""
        self.draining = True
        await asyncio.gather(*(task.stop(_STOP_SECONDS) for task in self._background))
        await self._hand_over()
        self._readers.send_away()
        for left in list(self._tasks):
            left.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_STOP_SECONDS)

    def _give_up(self, message_id: str) -> None:
        if (answer := self._running.get(message_id)) is not None:
            answer.stop_writing(StopReason.STALLED)

    def _held(self) -> list[tuple[str, int]]:
        """Message id and attempt of every answer that this process is to write."""
        running = [(answer.message_id, answer.attempt) for answer in self._running.values()]
        return running + [(lease.message_id, lease.attempt) for lease in self._taking_up.values()]

    # --- what the API asks for -------------------------------------------------------------------

    async def begin(
        self,
        user_id: str,
        conversation_id: str,
        *,
        content: str | None,
        title: str | None,
        options: Options,
        idempotency: IdempotencyKey | None,
        one_attempt: bool,
    ) -> Subscription:
        """Keep the question (none: regenerate) and start its answer; a reader from its start.

        With the key of an earlier request, a reader of the answer that it began. An answer that
        runs in the conversation is stopped if nobody listens to it. Raises NotFound,
        NothingToAnswer, ConversationBusy, IdempotencyKeyReused, AnswerGone, TooManyMessages,
        TooManyGenerations, Draining, DatabaseUnavailable.
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
        deadline = time.monotonic() + PATIENCE_SECONDS
        first_found: str | None = None
        while True:
            if self.draining:
                raise Draining
            accepting = self._own(
                self._accept(user_id, conversation_id, draft, options, one_attempt), "accept"
            )
            self._accepting.add(accepting)
            accepting.add_done_callback(self._accepting.discard)
            try:
                accepted = await asyncio.shield(accepting)
            except asyncio.CancelledError:
                accepting.add_done_callback(_close_reader)
                raise
            if isinstance(accepted, Subscription):
                return accepted
            if isinstance(accepted, Repeat):
                return await self._repeat(accepted.message_id, one_attempt=one_attempt)
            if first_found not in (None, accepted.message_id):
                raise ConversationBusy(accepted.message_id)
            first_found = accepted.message_id
            if accepted.listened:
                await self._until_nobody_listens(conversation_id, first_found, deadline)
            await self._halt(first_found)

    async def join(
        self, user_id: str, conversation_id: str, cursor: Cursor | None
    ) -> Subscription | None:
        """A reader from the cursor on, or from the start of the answer that runs.

        None where nothing runs and there is no rest to give. Raises NotFound, Draining.
        """
        if self.draining:
            raise Draining
        found = await db_generations.read_joinable(
            self._db, user_id, conversation_id, None if cursor is None else cursor.tag
        )
        if found is None:
            raise NotFound
        if cursor is not None and (named := found.named) is not None:
            at_end = named.ended and (cursor.attempt, cursor.number) == (
                named.attempt,
                named.last_event,
            )
            if not at_end and not await self._is_gone(named):
                return await self._readers.listen(named.message_id, cursor.attempt, cursor.number)
        if found.running is not None:
            return await self._readers.listen(found.running.message_id, found.running.attempt)
        return None

    async def stop_answer(self, user_id: str, conversation_id: str) -> str:
        """Stop what runs in the conversation; its last answer, as saved, as JSON.

        Raises NotFound where there never was an answer.
        """
        found = await db_generations.read_joinable(self._db, user_id, conversation_id, None)
        if found is None:
            raise NotFound
        if found.running is not None:
            await self._halt(found.running.message_id)
        message = await queries.read_last_answer(self._db, user_id, conversation_id)
        if message is None:
            raise NotFound("No answer was ever written in this conversation.")
        return message

    async def delete_conversation(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation and all in it; a running answer ends. Raises NotFound."""
        deleting = self._own(self._delete(user_id, conversation_id), "delete-conversation")
        running = await asyncio.shield(deleting)
        if running is None:
            raise NotFound
        for message_id in running:
            if (answer := self._running.get(message_id)) is not None:
                answer.stop_writing(StopReason.NOT_OURS)

    async def written_so_far(self, message_id: str) -> Written:
        """A running answer's text, wherever it is being written."""
        answer = self._running.get(message_id)
        if answer is not None:
            return answer.written
        rows = await db_event_log.read_log(self._db, message_id)
        found = await events.written_by_attempt(rows)
        return found[max(found)] if found else Written("", 0)

    async def ended(self, message_id: str) -> Begun | None:
        """How an answer ended; None where it has not, or is gone with its conversation."""
        begun = await db_generations.read_begun(self._db, message_id)
        return begun if begun is not None and begun.ended else None

    # --- beginning -------------------------------------------------------------------------------

    async def _accept(
        self,
        user_id: str,
        conversation_id: str,
        draft: Draft,
        options: Options,
        one_attempt: bool,
    ) -> Subscription | Running | Repeat:
        try:
            async with self._db.transaction() as connection:
                begun = await db_generations.begin(
                    connection,
                    user_id,
                    conversation_id,
                    draft,
                    process=self.process,
                    lease_seconds=self._settings.lease_seconds,
                    quotas=self._quotas,
                )
                if begun is None:
                    raise NotFound
                if not isinstance(begun, Lease):
                    return begun
                history = await self._history(connection, begun)
        except db_generations.NoQuestion:
            raise NothingToAnswer from None
        except db_generations.KeyReused:
            raise IdempotencyKeyReused from None
        except db_generations.TooManyMessages as over:
            raise TooManyMessages(self._quotas.messages_per_minute, over.seconds) from None
        except db_generations.TooManyGenerations:
            raise TooManyGenerations(self._quotas.running_answers, _ANSWER_RETRY_SECONDS) from None
        # Nothing is awaited between the commit and the task's start: a row of ours without a task
        # would wait for its lease to run out.
        self._launch(begun, history, options)
        return self._readers.open(begun.message_id, begun.attempt, one_attempt=one_attempt)

    async def _repeat(self, message_id: str, *, one_attempt: bool) -> Subscription:
        """A reader from the start of an answer begun by an earlier request with the same key."""
        begun = await db_generations.read_begun(self._db, message_id)
        if begun is None or await self._is_gone(begun):
            raise AnswerGone
        # An answer that began again may have kept an earlier attempt's text: it is told as saved,
        # since the response to a POST has no `snapshot`.
        return await self._readers.listen(
            message_id,
            begun.attempt,
            -1,
            one_attempt=one_attempt,
            only_stored=one_attempt and begun.ended and begun.attempt > 1,
        )

    async def _is_gone(self, begun: Begun) -> bool:
        """Whether an answer was deleted or replaced after its end.

        What an undone regeneration came to is known without its message.
        """
        if not begun.ended or events.is_undone(begun.done or ""):
            return False
        return not await db_generations.is_there(self._db, begun.message_id)

    async def _history(self, connection: Connection, lease: Lease) -> list[Turn]:
        return await db_generations.history(
            connection,
            lease.conversation_id,
            lease.question_id,
            limit=self._settings.max_conversation_history,
            chars=INFERENCE_MESSAGE_CHARS,
        )

    def _launch(self, lease: Lease, history: Sequence[Turn], options: Options) -> None:
        prompts = [self._settings.system_prompt]
        if options.thinking_mode:
            prompts.append(self._settings.thinking_prompt)
        context = build_context(
            history,
            prompt="\n\n".join(prompt for prompt in prompts if prompt),
            most_messages=self._settings.max_conversation_history,
            most_chars=self._settings.max_token_budget,
        )
        self._own(self._writer.write(lease, context, options), f"answer-{lease.message_id}")

    async def _until_nobody_listens(
        self, conversation_id: str, message_id: str, deadline: float
    ) -> None:
        """Wait, holding no connection. Raises ConversationBusy where somebody goes on listening."""
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            async with self._db.connection() as connection:
                running = await db_generations.running_answer(connection, conversation_id)
            if running is None or running.message_id != message_id:
                break
            if not running.listened:
                return
        raise ConversationBusy(message_id)

    async def _delete(self, user_id: str, conversation_id: str) -> list[str] | None:
        async with self._db.transaction() as connection:
            return await queries.delete_conversation(connection, user_id, conversation_id)

    # --- stopping and taking up ------------------------------------------------------------------

    async def _halt(self, message_id: str) -> None:
        """Stop a running answer wherever it is written; returns once it has ended.

        Raises DatabaseUnavailable where that cannot be saved in time.
        """
        answer = self._running.get(message_id)
        if answer is not None:
            answer.stop_writing(StopReason.STOPPED)
            try:
                async with asyncio.timeout(self._settings.database_timeout_seconds):
                    await answer.until_closed()
            except TimeoutError:
                raise DatabaseUnavailable from None
            if answer.saved:
                return
        await db_leases.request_stop(self._db, message_id)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            begun = await db_generations.read_begun(self._db, message_id)
            if begun is None or begun.ended:
                return
            await asyncio.sleep(_POLL_SECONDS)
        await asyncio.shield(self._own(self._fence(message_id), "fence"))
        # Another stop may have fenced this one, and be about to save.
        deadline = time.monotonic() + self._settings.database_timeout_seconds
        while (begun := await db_generations.read_begun(self._db, message_id)) and not begun.ended:
            if time.monotonic() > deadline:
                raise DatabaseUnavailable
            await asyncio.sleep(_POLL_SECONDS)

    async def _fence(self, message_id: str) -> None:
        """Take an answer from an owner that does not react, and end it from the log."""
        lease = await db_leases.take(
            self._db, message_id, self.process, self._settings.lease_seconds
        )
        if lease is not None:
            log.warning("answer_fenced", message_id=message_id, attempt=lease.attempt)
            await self._writer.close_from_log(lease, "stopped")

    async def _take_up(self, lease: Lease) -> None:
        """Go on with an answer whose process died or handed it over."""
        self._taking_up[lease.message_id] = lease
        try:
            if self.draining or not await self._go_on(lease):
                # The drain began just now: somebody else may have it.
                await db_leases.release(
                    self._upkeep, [(lease.message_id, lease.attempt)], self.process
                )
        finally:
            if self._taking_up.get(lease.message_id) is lease:
                del self._taking_up[lease.message_id]

    async def _go_on(self, lease: Lease) -> bool:
        """End it, or start writing it; False where a drain has begun meanwhile."""
        if lease.stop_requested:
            await self._writer.close_from_log(lease, "stopped")
        elif lease.crashes >= MOST_CRASHES or (
            lease.crashes and self._settings.on_crash == "interrupt"
        ):
            await self._writer.close_from_log(lease, "interrupted")
        else:

            async def read() -> list[Turn]:
                async with self._db.connection() as connection:
                    return await self._history(connection, lease)

            history = await until_there(read)
            if self.draining:
                return False
            self._launch(lease, history, Options.from_json(lease.options))
        return True

    # --- what goes on in the background ----------------------------------------------------------

    async def _watch_clocks(self) -> None:
        """Silent upstreams, then readers: one look at all instead of a timer each."""
        now = time.monotonic()
        settings = self._settings
        for answer in list(self._running.values()):
            if answer.token_count:
                is_silent = now - answer.heard > settings.token_timeout_seconds
            else:
                is_silent = now - answer.began > settings.first_token_timeout_seconds
            if is_silent or now - answer.began > settings.answer_timeout_seconds:
                answer.stop_writing(StopReason.SILENT)
        self._readers.watch_clocks()

    # --- leaving ---------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Let running answers end, within `DRAIN_SECONDS`; hand over what is left then.

        From here on nothing new is begun or taken up.
        """
        self.draining = True
        self._recovery.paused = True
        log.info("draining", running=len(self._running), readers=len(self._readers))
        self._readers.send_away_followers()
        began = time.monotonic()
        deadline = began + max(0.0, self._settings.drain_seconds - HANDOVER_SECONDS)
        # Long enough for a load balancer to see that readiness fails.
        earliest = began + min(_NOTICE_SECONDS, self._settings.drain_seconds / 10)
        # An answer's end is not its readers' end: some are still taking the last of it.
        while time.monotonic() < deadline and (  # noqa: ASYNC110  # rare, and short
            self._running or self._readers or self._accepting or time.monotonic() < earliest
        ):
            await asyncio.sleep(_POLL_SECONDS)
        await self._hand_over()
        self._readers.send_away()
        log.info("drained")

    async def _hand_over(self) -> None:
        """Give every running answer back, with its log up to date, for another process."""
        if self._accepting:
            # Whatever is being accepted in this moment begins an answer, to be handed over too.
            await asyncio.wait(set(self._accepting), timeout=HANDOVER_SECONDS / 3)
            await asyncio.sleep(0)
        left = [answer for answer in self._running.values() if not answer.ending]
        held = [(answer.message_id, answer.attempt) for answer in left]
        held += [(lease.message_id, lease.attempt) for lease in self._taking_up.values()]
        if not held:
            return
        log.info("handing_over", answers=len(held))
        # Where the database is away, the leases run out by themselves.
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS / 3):
                await self._log.flush()
                await self._recovery.count_stall()
        for answer in left:
            answer.stop_writing(StopReason.NOT_OURS)
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS / 3):
                await db_leases.release(self._upkeep, held, self.process)

    # --- tasks -----------------------------------------------------------------------------------

    def _own(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """A task that no request owns. It is referenced until its end, and a defect is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._owned_ended)
        return task

    def _owned_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ApiError):
            log.critical("task_failed", task=task.get_name(), exc_info=error)


def _close_reader(task: "asyncio.Task[Subscription | Running | Repeat]") -> None:
    """For a request that went away while its message was being accepted."""
    if not task.cancelled() and task.exception() is None:
        accepted = task.result()
        if isinstance(accepted, Subscription):
            accepted.close()
