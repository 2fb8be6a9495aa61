"""Writing a generation: from the engine's first byte to the database's commit."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn, Protocol

from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db.database import Database, StatementRefused
from chat_api.db.generations import Ending, Lease, Outcome
from chat_api.engines.decoding import Event
from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.errors import (
    ApiError,
    EngineFailed,
    EngineIncomplete,
    EngineTimeout,
    InternalError,
)
from chat_api.generation import events
from chat_api.generation.events import Written
from chat_api.generation.log_writer import LogWriter
from chat_api.generation.options import Options
from chat_api.generation.registry import Registry
from chat_api.generation.retrying import until_available
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.telemetry import (
    ENGINE_FAILURES,
    FIRST_TOKEN_SECONDS,
    GENERATIONS,
    TOKENS,
    log,
)


class Titles(Protocol):
    """Gives conversations their titles."""

    def completed(self, lease: Lease) -> None:
        """Take note of a complete answer, without waiting for anything."""


class GenerationWriter:
    """Runs generations: has the engine write, keeps what it writes, and saves the end.

    A generation is in the registry from the moment its lease is there until nothing more will be
    done for it here: its end is saved, or it belongs to another process.
    """

    def __init__(
        self,
        db: Database,
        engine: SamosachaatEngine,
        registry: Registry,
        log_writer: LogWriter,
        titles: Titles,
        *,
        max_chars: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._engine = engine
        self._registry = registry
        self._log = log_writer
        self._titles = titles
        self._max_chars = max_chars
        self._max_bytes = max_bytes
        self._clock = clock

    def start(
        self, lease: Lease, messages: Sequence[Mapping[str, str]], options: Options
    ) -> asyncio.Task[None]:
        """Run the generation in a task of its own."""
        return self._registry.own(
            self._write(lease, messages, options), f"generation-{lease.message_id}"
        )

    @contextmanager
    def _registered(self, lease: Lease) -> Iterator[RunningGeneration]:
        generation = self._registry.add(lease)
        try:
            yield generation
        finally:
            self._registry.remove(generation)

    async def _write(
        self, lease: Lease, messages: Sequence[Mapping[str, str]], options: Options
    ) -> None:
        """Have the engine write, and save the end: every way out leads through here.

        A stop does not cancel this task. It cancels the pump, and the generation ends in order.
        """
        if self._registry.is_outdated(lease):
            return
        with self._registered(lease) as generation:
            generation.pump = asyncio.create_task(
                self._pump(generation, messages, options), name=f"pump-{generation.message_id}"
            )
            del messages
            try:
                await _ended(generation.pump)
            finally:
                generation.pump.cancel()
            await self._end_as_pumped(generation, generation.pump)

    async def _pump(
        self,
        generation: RunningGeneration,
        messages: Sequence[Mapping[str, str]],
        options: Options,
    ) -> None:
        generating = self._engine.generate(
            messages,
            options.for_inference(),
            generation.lease.trace_id,
            lambda arrived: self._take(generation, arrived),
        )
        del messages  # they may be long, and a generation takes minutes
        await generating

    def _take(self, generation: RunningGeneration, arrived: list[Event]) -> None:
        """Add the events of a packet, and show them to the subscriptions: step 2 of the hot path.

        Raise EngineIncomplete where the text or its events have become too large.
        """
        generation.heard = self._clock()
        try:
            for event in arrived:
                generation.bytes += len(event.data)
                if generation.bytes > self._max_bytes:
                    raise EngineIncomplete("The answer was cut off: its events are too large.")
                if event.text:
                    if generation.token_count == 0:
                        FIRST_TOKEN_SECONDS.observe(generation.heard - generation.began)
                    room = self._max_chars - generation.chars
                    if len(event.text) > room:
                        self._cut_off(generation, event.text[:room])
                generation.add(event.data, event.text)
        finally:
            generation.show()

    def _cut_off(self, generation: RunningGeneration, piece: str) -> NoReturn:
        if piece:
            generation.add(events.token(piece), piece)
        raise EngineIncomplete(f"The answer was cut off at {self._max_chars} characters.")

    async def close_from_log(self, lease: Lease, status: str) -> None:
        """End a generation that another process ran, with what its log holds."""
        if self._registry.is_outdated(lease):
            return
        with self._registered(lease) as generation:
            written = await until_available(lambda: self._longest_logged(lease.message_id))
            generation.replace_text(written)
            if written.text:
                generation.publish(events.snapshot(written.text))
            await self._end(generation, status)

    # --- the end ---

    async def _end_as_pumped(self, generation: RunningGeneration, pump: asyncio.Task[None]) -> None:
        """Save the end that the pump's end means."""
        reason = generation.stop_reason if pump.cancelled() else None
        if reason is StopReason.NOT_OURS:
            return
        if reason is StopReason.REFUSED:
            await self._end_refused(generation)
        elif reason is StopReason.STALLED:
            await self._end(generation, "interrupted")
        elif reason is StopReason.STOPPED:
            await self._end(generation, "stopped")
        else:
            failure = EngineTimeout() if reason is StopReason.SILENT else _failure_of(pump)
            if failure is None:
                await self._end(generation, "complete")
                return
            ENGINE_FAILURES.labels(failure.code).inc()
            is_cut_off = generation.token_count > 0 or isinstance(failure, EngineIncomplete)
            await self._end(generation, "interrupted" if is_cut_off else "failed", failure)

    async def _end_refused(self, generation: RunningGeneration) -> None:
        """End a generation whose events the database refuses, with what the log has of it."""
        generation.ending = True
        generation.keep(await until_available(lambda: self._longest_logged(generation.message_id)))
        status = "interrupted" if generation.chars else "failed"
        await self._end(generation, status, InternalError())

    async def _end(
        self, generation: RunningGeneration, status: str, failure: ApiError | None = None
    ) -> None:
        """Save the end, then tell the subscriptions.

        They are told nothing where the generation belongs to another process by now.
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
        generation.publish(ending.done.encode())
        generation.saved = True
        if generation.pump is not None:  # else another process has counted them
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
        generation.publish(events.snapshot(earlier.text))
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
        undone = lease.replaces is not None and status != "complete"
        return Ending(
            status=status,
            content=written.text,
            token_count=written.token_count,
            inference_time_ms=took_ms,
            error=None if failure is None else failure.code,
            undone=undone,
            done=events.done(
                lease.message_id,
                status,
                written.token_count,
                took_ms,
                kept_message_id=lease.replaces if undone else None,
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
            async with self._db.transaction() as connection:
                tail = generation.unlogged(ending.done.encode())
                return await db_generations.end(connection, generation.lease, ending, tail)

        return await until_available(save)

    async def _longest_logged(self, message_id: str) -> Written:
        rows = await db_event_log.read(self._db, message_id)
        found = await events.written_by_attempt(rows)
        return max(found.values(), key=lambda written: len(written.text), default=Written("", 0))


async def _ended(pump: asyncio.Task[None]) -> None:
    """Return once the pump has ended, however it did.

    What `asyncio.wait` does, for less memory: a generation takes minutes, and there are many.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_pump: asyncio.Task[None]) -> None:
        if not ended.done():
            ended.set_result(None)

    pump.add_done_callback(tell)
    await ended


def _failure_of(pump: asyncio.Task[None]) -> ApiError | None:
    """Return why the pump ended early, if it did."""
    if pump.cancelled():
        return InternalError()
    error = pump.exception()
    if error is None or isinstance(error, EngineFailed):
        return error
    log.critical("task_failed", task=pump.get_name(), exc_info=error)
    return InternalError()
