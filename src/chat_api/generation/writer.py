"""Writing an answer: from the inference service's first byte to the database's commit."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from chat_api.db import event_log as db_event_log
from chat_api.db import generations as db_generations
from chat_api.db.database import Database, StatementRefused
from chat_api.db.generations import Ending, Lease, Outcome
from chat_api.engines.decoding import Event
from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.errors import (
    ApiError,
    DatabaseUnavailable,
    EngineFailed,
    EngineIncomplete,
    EngineTimeout,
    InternalError,
)
from chat_api.generation import events
from chat_api.generation.event_log import LogWriter
from chat_api.generation.events import Written
from chat_api.generation.options import Options
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.telemetry import (
    ANSWERS,
    FIRST_TOKEN_SECONDS,
    INFERENCE_FAILURES,
    RUNNING_ANSWERS,
    TOKENS,
    log,
)

_RETRY_SECONDS = 0.05
_MOST_RETRY_SECONDS = 1.0

_T = TypeVar("_T")


class GenerationWriter:
    """Writes answers; `running` holds those under way, by message id.

    Each is registered in the moment its lease is there, and leaves when nothing more will be done
    for it here: its end is saved, or it belongs to somebody else.
    """

    def __init__(
        self,
        db: Database,
        inference: SamosachaatEngine,
        running: dict[str, RunningGeneration],
        log_writer: LogWriter,
        *,
        max_answer_chars: int,
        max_answer_bytes: int,
    ) -> None:
        self._db = db
        self._inference = inference
        self._running = running
        self._log = log_writer
        self._max_chars = max_answer_chars
        self._max_bytes = max_answer_bytes

    @contextmanager
    def _registered(self, lease: Lease) -> Iterator[RunningGeneration]:
        """The answer, known to readers, log and lease renewal while inside."""
        if (earlier := self._running.get(lease.message_id)) is not None:
            earlier.stop_writing(StopReason.NOT_OURS)  # an attempt of ours that was taken away
        answer = RunningGeneration(lease)
        self._running[lease.message_id] = answer
        RUNNING_ANSWERS.set(len(self._running))
        self._log.notice()
        try:
            yield answer
        finally:
            if self._running.get(lease.message_id) is answer:
                del self._running[lease.message_id]
            RUNNING_ANSWERS.set(len(self._running))
            answer.close()

    def _is_outdated(self, lease: Lease) -> bool:
        """Whether this process writes the answer at a later attempt already."""
        earlier = self._running.get(lease.message_id)
        return earlier is not None and earlier.attempt >= lease.attempt

    async def write(
        self, lease: Lease, messages: Sequence[Mapping[str, str]], options: Options
    ) -> None:
        """Have the answer written, and save it: every way out leads through here.

        A stop does not cancel this; it cancels the pump, and the answer ends in order.
        """
        if self._is_outdated(lease):
            return
        with self._registered(lease) as answer:
            answer.pump = asyncio.create_task(
                self._pump(answer, messages, options), name=f"upstream-{answer.message_id}"
            )
            del messages
            # What `asyncio.wait` does, for less memory: this may take minutes.
            pumped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake_up(_pump: asyncio.Task[None]) -> None:
                if not pumped.done():
                    pumped.set_result(None)

            answer.pump.add_done_callback(wake_up)
            try:
                await pumped
            finally:
                answer.pump.cancel()
            reason = answer.stop_reason if answer.pump.cancelled() else None
            if reason is StopReason.NOT_OURS:
                return
            if reason is StopReason.REFUSED:
                await self._end_refused(answer)
                return
            if reason is StopReason.STALLED:
                await self._end(answer, "interrupted")
                return
            if reason is StopReason.STOPPED:
                await self._end(answer, "stopped")
                return
            failure = EngineTimeout() if reason is StopReason.SILENT else _failure_of(answer.pump)
            if failure is None:
                await self._end(answer, "complete")
                return
            INFERENCE_FAILURES.labels(failure.code).inc()
            cut_off = answer.token_count > 0 or isinstance(failure, EngineIncomplete)
            await self._end(answer, "interrupted" if cut_off else "failed", failure)

    async def _pump(
        self, answer: RunningGeneration, messages: Sequence[Mapping[str, str]], options: Options
    ) -> None:
        """Have the inference service write; what it sends is taken as it comes."""
        generating = self._inference.generate(
            messages,
            options.for_inference(),
            answer.lease.trace_id,
            lambda arrived: self._take(answer, arrived),
        )
        del messages  # they may be long, and the answer takes its time
        await generating

    def _take(self, answer: RunningGeneration, arrived: list[Event]) -> None:
        """Add what has just arrived, and show it to the readers: the middle of the hot path.

        Raises EngineIncomplete where the answer has become too large.
        """
        answer.heard = time.monotonic()
        try:
            for event in arrived:
                answer.bytes += len(event.data)
                if answer.bytes > self._max_bytes:
                    raise EngineIncomplete("The answer was cut off: its events are too large.")
                if event.text:
                    if answer.token_count == 0:
                        FIRST_TOKEN_SECONDS.observe(answer.heard - answer.began)
                    room = self._max_chars - answer.chars
                    if len(event.text) > room:
                        self._cut_off(answer, event.text[:room])
                answer.add(event.data, event.text)
        finally:
            answer.show()

    def _cut_off(self, answer: RunningGeneration, piece: str) -> NoReturn:
        if piece:
            answer.add(events.token(piece), piece)
        raise EngineIncomplete(f"The answer was cut off at {self._max_chars} characters.")

    async def close_from_log(self, lease: Lease, status: str) -> None:
        """End an answer, that another process wrote, with what its log holds."""
        if self._is_outdated(lease):
            return
        with self._registered(lease) as answer:
            written = await until_there(lambda: self._longest_logged(lease.message_id))
            answer.replace_text(written)
            if written.text:
                answer.publish(events.snapshot(written.text))
            await self._end(answer, status)

    async def _end(
        self, answer: RunningGeneration, status: str, failure: ApiError | None = None
    ) -> None:
        """Save the answer, then tell its readers; they hear nothing where it is no longer ours."""
        answer.ending = True
        lease = answer.lease
        before_done = b""
        if failure is not None:
            before_done = events.error(failure.code, failure.detail) + b"\n"
            answer.publish(before_done[:-1])
        if failure is not None and lease.attempt > 1:
            older = await until_there(lambda: self._longest_logged(lease.message_id))
            if len(older.text) > answer.chars:
                # Writing it again must not make it worse.
                status = "interrupted"
                answer.replace_text(older)
                answer.publish(events.snapshot(older.text))
                before_done += b"\n"
        took_ms = max(1, round((time.monotonic() - answer.began) * 1000))
        written = answer.written
        undone = lease.replaces is not None and status != "complete"
        ending = Ending(
            status=status,
            content=written.text,
            token_count=written.token_count,
            inference_time_ms=took_ms,
            error=None if failure is None else failure.code,
            done=events.done(
                lease.message_id,
                status,
                written.token_count,
                took_ms,
                kept_message_id=lease.replaces if undone else None,
            ).decode(),
            last_event=answer.last_event + 1,
            before_done=before_done.decode(),
        )
        try:
            outcome = await self._save(answer, ending)
        except StatementRefused:
            if answer.refused:
                raise
            await self._end_refused(answer)
            return
        if outcome is not Outcome.SAVED:
            log.warning("answer_not_ours", message_id=lease.message_id, outcome=outcome.value)
            return
        answer.publish(ending.done.encode())
        answer.saved = True
        if answer.pump is not None:  # else another process has counted them
            TOKENS.inc(written.token_count)
        ANSWERS.labels(status).inc()
        log.info(
            "answer_ended",
            message_id=lease.message_id,
            trace_id=lease.trace_id,
            status=status,
            error=ending.error,
            attempt=lease.attempt,
            tokens=written.token_count,
            took_ms=took_ms,
        )

    async def _end_refused(self, answer: RunningGeneration) -> None:
        """End an answer whose events the database refuses, with what the log has of it."""
        answer.ending = True
        answer.keep(await until_there(lambda: self._longest_logged(answer.message_id)))
        status = "interrupted" if answer.chars else "failed"
        await self._end(answer, status, InternalError())

    async def _save(self, answer: RunningGeneration, ending: Ending) -> Outcome:
        doubtful = self._log.doubtful

        async def save() -> Outcome:
            nonlocal doubtful
            if doubtful:
                await self._log.compare([answer])
            doubtful = True  # should this try fail, the database may have lost its last moments
            async with self._db.transaction() as connection:
                tail = answer.unlogged(ending.done.encode())
                return await db_generations.end(connection, answer.lease, ending, tail)

        return await until_there(save)

    async def _longest_logged(self, message_id: str) -> Written:
        rows = await db_event_log.read_log(self._db, message_id)
        found = await events.written_by_attempt(rows)
        return max(found.values(), key=lambda written: len(written.text), default=Written("", 0))


async def until_there(action: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """The action's result, tried again while the database is away."""
    delay = _RETRY_SECONDS
    while True:
        try:
            return await action()
        except DatabaseUnavailable:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MOST_RETRY_SECONDS)


def _failure_of(pump: asyncio.Task[None]) -> ApiError | None:
    """Why the pump ended early, if it did."""
    if pump.cancelled():
        return InternalError()
    error = pump.exception()
    if error is None or isinstance(error, EngineFailed):
        return error
    log.critical("task_failed", task=pump.get_name(), exc_info=error)
    return InternalError()
