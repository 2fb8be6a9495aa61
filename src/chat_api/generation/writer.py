"""Writing a generation: from the engine's first byte to the database's commit."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, Protocol

from chat_api.context import Context
from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db import leases as db_leases
from chat_api.db.database import Database, StatementRefused
from chat_api.db.generations import Ending, Lease, Outcome
from chat_api.engines.engine import CannotContinue, Event, Usage
from chat_api.engines.engines import Engines, Order
from chat_api.errors import (
    ApiError,
    DatabaseUnavailable,
    EngineFailed,
    EngineIncomplete,
    EngineTimeout,
    InternalError,
)
from chat_api.generation import events, spans
from chat_api.generation.continuing import kept
from chat_api.generation.events import Written
from chat_api.generation.log_writer import LogWriter
from chat_api.generation.options import Options
from chat_api.generation.registry import Registry
from chat_api.generation.running import Beginning, RunningGeneration, StopReason
from chat_api.retrying import until_available
from chat_api.telemetry import (
    ENGINE_FAILURES,
    FIRST_TOKEN_SECONDS,
    GENERATIONS,
    TOKENS,
    log,
)
from chat_api.tracing import Tracing, span_var

_MOST_TOKENS = 2**31 - 1  # in a column


class Titles(Protocol):
    """Gives conversations their titles."""

    def completed(self, lease: Lease) -> None:
        """Note a complete answer, without waiting."""


class GenerationWriter:
    """Runs generations: starts the engine, keeps its events, and saves the end.

    A generation is in the registry from its lease until its end is saved, or until it belongs to
    another process.
    """

    def __init__(
        self,
        db: Database,
        engines: Engines,
        registry: Registry,
        log_writer: LogWriter,
        titles: Titles,
        *,
        tracing: Tracing | None = None,
        max_chars: int,
        max_bytes: int,
        first_token_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._engines = engines
        self._registry = registry
        self._log = log_writer
        self._titles = titles
        self._tracing = tracing
        self._max_chars = max_chars
        self._max_bytes = max_bytes
        self._first_token_seconds = first_token_seconds
        self._clock = clock

    def start(
        self,
        lease: Lease,
        context: Context,
        options: Options,
        beginning: Beginning | None = None,
    ) -> asyncio.Task[None]:
        """Run the generation in a task of its own, from its beginning on."""
        return self._registry.own(
            self.write(lease, context, options, beginning), f"generation-{lease.message_id}"
        )

    @contextmanager
    def _registered(
        self, lease: Lease, beginning: Beginning | None = None
    ) -> Iterator[RunningGeneration]:
        generation = self._registry.add(lease, beginning)
        try:
            yield generation
        finally:
            self._registry.remove(generation)
            if generation.span is not None:
                generation.span.end()

    async def write(
        self,
        lease: Lease,
        context: Context,
        options: Options,
        beginning: Beginning | None = None,
    ) -> None:
        """Start the engine, and save the end; every generation ends in this function.

        A stop cancels only the wait for the engine: the generation ends in order.
        """
        if self._registry.is_outdated(lease):
            return
        with self._registered(lease, beginning) as generation:
            self._trace(generation, options)
            order = self._order(generation, context, options)
            if beginning is None:
                del context  # it may be long, and a generation takes minutes
            outcome = await self._pump(generation, order)
            if not isinstance(outcome, CannotContinue):
                await self._end_as_pumped(generation, outcome)
                return
            if options.on_crash == "interrupt":
                await self._end(generation, "interrupted")
                return
        # Another attempt, from the start: subscriptions are told to forget the text.
        again = await until_available(lambda: db_leases.start_over(self._db, lease))
        if again is not None:
            self.start(again, context, options)

    def _trace(self, generation: RunningGeneration, options: Options) -> None:
        """Begin the span, in the context of the generation's task."""
        if self._tracing is not None:
            provider = self._engines.api_of(generation.model_tag)
            generation.span = spans.begin(self._tracing, generation.lease, options, provider)
            span_var.set(generation.span)

    def _order(self, generation: RunningGeneration, context: Context, options: Options) -> Order:
        """Return what the engine is asked for."""
        order = Order(
            model_tag=generation.model_tag,
            prompt=context,
            options=options.for_engine(),
            trace_id=generation.lease.trace_id,
            until=generation.began + self._first_token_seconds,
        )
        if (beginning := generation.beginning) is not None and beginning.written.text:
            order.beginning = beginning.written.text
            if options.max_tokens is not None:
                # A user who has it continued says how much more it may be.
                resumed_after = generation.lease.resumed_after
                spent = (
                    beginning.written.token_count
                    if resumed_after is None
                    else beginning.last_event - resumed_after
                )
                order.options["max_tokens"] = options.max_tokens - spent
        return order

    async def _pump(
        self, generation: RunningGeneration, order: Order
    ) -> StopReason | ApiError | CannotContinue | None:
        """Take the engine's events; return why they ended before the engine's own end."""
        generation.is_ours = True
        if order.options.get("max_tokens", 1) <= 0:
            generation.finish_reason = "length"
            return None
        receiver = _Pump(
            generation,
            max_chars=self._max_chars,
            max_bytes=self._max_bytes,
            clock=self._clock,
            note_model=self._note_model,
        )
        task = generation.pump = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in one
        try:
            generation.finish_reason = await self._engines.generate(order, receiver)
        except asyncio.CancelledError:
            if generation.stop_reason is not None:
                task.uncancel()
            if task.cancelling():
                raise  # the process ends
            return generation.stop_reason or InternalError()
        except (EngineFailed, CannotContinue) as failure:
            return failure
        except Exception as error:  # noqa: BLE001  # the generation must end all the same
            log.critical("task_failed", task=task.get_name(), exc_info=error)
            return InternalError()
        finally:
            generation.pump = None
        return None

    def _note_model(self, generation: RunningGeneration) -> None:
        """Store which fallback writes: another model must not continue its text after a crash."""

        async def note() -> None:
            # Where the database is away, the model that was asked for may go on.
            with suppress(DatabaseUnavailable):
                await db_generations.note_model(
                    self._db, generation.message_id, generation.model_tag
                )

        self._registry.own(note(), "note-model")

    async def close_from_log(self, lease: Lease, status: str) -> None:
        """End a generation that another process ran, with what its log holds."""
        if self._registry.is_outdated(lease):
            return
        if Options.from_json(lease.options).on_crash == "interrupt":
            shown = await until_available(lambda: kept(self._db, lease))
            if shown is not None:
                with self._registered(lease, shown) as generation:
                    await self._end(generation, status)
                return
        with self._registered(lease) as generation:
            written = await until_available(lambda: self._longest_logged(lease.message_id))
            generation.replace_text(written)
            if written.text or written.reasoning:
                generation.publish(events.snapshot(written.text, written.reasoning))
            await self._end(generation, status)

    # --- the end ---

    async def _end_as_pumped(
        self, generation: RunningGeneration, outcome: StopReason | ApiError | None
    ) -> None:
        """Save the end of the generation after the end of its events."""
        if outcome is StopReason.NOT_OURS:
            return
        if outcome is StopReason.REFUSED:
            await self._end_refused(generation)
        elif outcome is StopReason.STALLED:
            await self._end(generation, "interrupted")
        elif outcome is StopReason.STOPPED:
            await self._end(generation, "stopped")
        elif outcome is None:
            await self._end(generation, "complete")
        else:
            failure = EngineTimeout() if isinstance(outcome, StopReason) else outcome
            ENGINE_FAILURES.labels(failure.code).inc()
            is_cut_off = generation.token_count > 0 or isinstance(failure, EngineIncomplete)
            await self._end(generation, "interrupted" if is_cut_off else "failed", failure)

    async def _end_refused(self, generation: RunningGeneration) -> None:
        """End a generation whose events the database refuses, with the text in the log."""
        generation.ending = True
        generation.keep(await until_available(lambda: self._longest_logged(generation.message_id)))
        status = "interrupted" if generation.chars else "failed"
        await self._end(generation, status, InternalError())

    async def _end(
        self, generation: RunningGeneration, status: str, failure: ApiError | None = None
    ) -> None:
        """Save the end, then send it to the subscriptions.

        They get nothing if the generation now belongs to another process.
        """
        generation.ending = True
        before_done = b""
        if failure is not None:
            before_done = events.error(failure.code, failure.detail) + b"\n"
            generation.publish(before_done[:-1])
            if await self._keep_longer_text(generation):
                status = "interrupted"
                before_done += b"\n"
        ending = self._ending(generation, status, failure, before_done)
        try:
            outcome = await self._save(generation, ending)
        except StatementRefused:
            if generation.refused:
                raise
            await self._end_refused(generation)
            return
        if outcome is not Outcome.SAVED:
            log.warning(
                "generation_not_held", message_id=generation.message_id, outcome=outcome.value
            )
            return
        # Shown with the end of the events, which follows: subscriptions write both at once.
        generation.add(ending.done.encode())
        generation.saved = True
        if generation.span is not None:
            provider = self._engines.api_of(generation.model_tag)
            spans.ended(generation.span, ending, provider)
        if generation.is_ours:  # else another process has counted them
            TOKENS.inc(ending.token_count)
        GENERATIONS.labels(status).inc()
        if status == "complete":
            self._titles.completed(generation.lease)
        log.info(
            "generation_ended",
            message_id=generation.message_id,
            trace_id=generation.lease.trace_id,
            status=status,
            error=ending.error,
            attempt=generation.attempt,
            tokens=ending.token_count,
            took_ms=ending.inference_time_ms,
        )

    async def _keep_longer_text(self, generation: RunningGeneration) -> bool:
        """Return whether an earlier attempt wrote a longer text, which is kept then."""
        if generation.attempt == 1:
            return False
        earlier = await until_available(lambda: self._longest_logged(generation.message_id))
        if len(earlier.text) <= generation.chars:
            return False
        generation.replace_text(earlier)
        generation.publish(events.snapshot(earlier.text, earlier.reasoning))
        return True

    def _ending(
        self,
        generation: RunningGeneration,
        status: str,
        failure: ApiError | None,
        before_done: bytes,
    ) -> Ending:
        lease, written = generation.lease, generation.written
        took_ms = max(1, round((self._clock() - generation.began) * 1000))
        if generation.beginning is not None:
            took_ms += generation.beginning.took_ms
        undone = lease.replaces is not None and status != "complete"
        usage = _usage_of(generation)
        finish_reason = generation.finish_reason
        if isinstance(failure, EngineFailed):
            finish_reason = failure.finish_reason
        return Ending(
            status=status,
            content=written.text,
            token_count=written.token_count,
            inference_time_ms=took_ms,
            error=None if failure is None else failure.code,
            model_tag=generation.model_tag,
            reasoning=written.reasoning or None,
            finish_reason=finish_reason,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            undone=undone,
            done=events.done(
                lease.message_id,
                status,
                written.token_count,
                took_ms,
                kept_message_id=lease.replaces if undone else None,
                model_tag=generation.model_tag,
                finish_reason=finish_reason,
                usage=usage,
            ).decode(),
            last_event=generation.last_event + 1,
            before_done=before_done.decode(),
        )

    async def _save(self, generation: RunningGeneration, ending: Ending) -> Outcome:
        is_doubtful = self._log.doubtful

        async def save() -> Outcome:
            nonlocal is_doubtful
            if is_doubtful:
                await self._log.compare([generation])
            # If this attempt fails, the database may have lost its last asynchronous commits.
            is_doubtful = True
            tail = generation.unlogged(ending.done.encode())
            return await db_generations.end(self._db, generation.lease, ending, tail)

        return await until_available(save)

    async def _longest_logged(self, message_id: str) -> Written:
        rows = await db_event_log.read(self._db, message_id)
        found = await events.written_by_attempt(rows)
        return max(found.values(), key=lambda written: len(written.text), default=Written("", 0))


class _Pump:
    """Takes an engine's events for one generation; see Receiver."""

    def __init__(
        self,
        generation: RunningGeneration,
        *,
        max_chars: int,
        max_bytes: int,
        clock: Callable[[], float],
        note_model: Callable[[RunningGeneration], None],
    ) -> None:
        self._note_model = note_model
        self._generation = generation
        self._max_chars = max_chars
        self._max_bytes = max_bytes
        self._clock = clock

    def written_by(self, model_tag: str | None, *, is_fallback: bool) -> None:
        """Note the model that writes."""
        if model_tag is not None:
            self._generation.model_tag = model_tag
        if is_fallback:
            self._note_model(self._generation)

    def take(self, arrived: list[Event]) -> None:
        """Add the events of a packet, and show them to the subscriptions: step 2 of the hot path.

        Raise EngineIncomplete where the text or its events have become too large.
        """
        generation = self._generation
        generation.heard = self._clock()
        try:
            for event in arrived:
                generation.bytes += len(event.data)
                if generation.bytes > self._max_bytes:
                    raise EngineIncomplete("The answer was cut off: its events are too large.")
                if event.usage is not None:
                    generation.usage = event.usage
                    continue
                if event.reasoning:
                    if len(event.reasoning) > self._max_chars - generation.reasoning_chars:
                        raise EngineIncomplete("The answer was cut off: it is too long.")
                    generation.add_reasoning(event.data, event.reasoning)
                    continue
                if event.text:
                    if generation.token_count == 0:
                        FIRST_TOKEN_SECONDS.observe(generation.heard - generation.began)
                    room = max(0, self._max_chars - generation.chars)
                    if len(event.text) > room:
                        self._cut_off(event.text[:room])
                generation.add(event.data, event.text)
        finally:
            generation.show()

    def take_token(self, data: bytes, text: str) -> None:
        """Do the same for one piece of text, where it is not the first and nothing is too large."""
        generation = self._generation
        size, chars = generation.bytes + len(data), generation.chars + len(text)
        if size > self._max_bytes or chars > self._max_chars or not generation.token_count:
            self.take([Event(data, text)])
            return
        generation.bytes = size
        generation.add(data, text)
        generation.show()

    def _cut_off(self, piece: str) -> NoReturn:
        if piece:
            self._generation.add(events.token(piece), piece)
        raise EngineIncomplete(f"The answer was cut off at {self._max_chars} characters.")


def _usage_of(generation: RunningGeneration) -> Usage | None:
    """Return the answer's usage. After a crash, the continued beginning counts as output, too."""
    usage, beginning = generation.usage, generation.beginning
    if beginning is None:
        return usage
    if (spent := beginning.usage) is not None:
        usage = usage or Usage(0, 0)
        return _bounded(
            spent.input_tokens + usage.input_tokens, spent.output_tokens + usage.output_tokens
        )
    if usage is None or generation.lease.resumed_after is not None:
        return usage
    before = min(usage.input_tokens, beginning.written.token_count)
    return _bounded(usage.input_tokens - before, usage.output_tokens + before)


def _bounded(input_tokens: int, output_tokens: int) -> Usage:
    """Return a usage that can be saved: engines report any numbers, each within the bound."""
    return Usage(min(input_tokens, _MOST_TOKENS), min(output_tokens, _MOST_TOKENS))
