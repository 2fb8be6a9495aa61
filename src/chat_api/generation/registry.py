"""The registry of everything that this process works on."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from chat_api.db.generations import Lease
from chat_api.errors import ApiError
from chat_api.generation.running import Beginning, RunningGeneration, StopReason
from chat_api.telemetry import RUNNING_GENERATIONS, log

_T = TypeVar("_T")


class Registry:
    """Owns the running generations, the claims under way and the tasks of this process.

    No other object keeps such a list.
    """

    def __init__(
        self, *, process: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.process = process or str(uuid4())
        self.is_draining = False
        """Whether this process begins and claims no more generations. Set by the drain."""
        self._clock = clock
        self._running: dict[str, RunningGeneration] = {}
        self._is_busy = asyncio.Event()
        self._claims: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sends: set[asyncio.Future[Any]] = set()

    # --- running generations ---

    @property
    def running(self) -> Mapping[str, RunningGeneration]:
        """Return the running generations by message id."""
        return self._running

    def add(self, lease: Lease, beginning: Beginning | None = None) -> RunningGeneration:
        """Create, register and return the running generation of a lease.

        An earlier attempt of this process at the same generation is stopped.
        """
        if (earlier := self._running.get(lease.message_id)) is not None:
            earlier.stop_writing(StopReason.NOT_OURS)
        generation = RunningGeneration(lease, beginning, clock=self._clock)
        self._running[lease.message_id] = generation
        self._is_busy.set()
        RUNNING_GENERATIONS.set(len(self._running))
        return generation

    def remove(self, generation: RunningGeneration) -> None:
        """Remove and close a generation, for which this process does nothing more."""
        # A later attempt may have taken its place.
        if self._running.get(generation.message_id) is generation:
            del self._running[generation.message_id]
        if not self._running:
            self._is_busy.clear()
        RUNNING_GENERATIONS.set(len(self._running))
        generation.close()

    def is_outdated(self, lease: Lease) -> bool:
        """Return whether this process runs the generation at this or a later attempt already."""
        running = self._running.get(lease.message_id)
        return running is not None and running.attempt >= lease.attempt

    async def until_busy(self) -> None:
        """Return once a generation runs."""
        await self._is_busy.wait()

    # --- claims ---

    @contextmanager
    def claim(self, lease: Lease) -> Iterator[None]:
        """Hold a lease that was claimed until its generation runs: it is renewed inside."""
        self._claims[lease.message_id] = lease
        try:
            yield
        finally:
            # A later claim may have taken its place.
            if self._claims.get(lease.message_id) is lease:
                del self._claims[lease.message_id]

    def claimed(self) -> list[tuple[str, int]]:
        """Return message id and attempt of each claim under way."""
        return [(lease.message_id, lease.attempt) for lease in self._claims.values()]

    def held(self) -> list[tuple[str, int]]:
        """Return message id and attempt of all leases that this process must renew."""
        running = [(one.message_id, one.attempt) for one in self._running.values()]
        return running + self.claimed()

    # --- tasks ---

    def own(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """Start a task that no request owns, so that no request can cancel it.

        It is referenced until its end, and a defect is logged.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def own_send(
        self, work: Coroutine[Any, Any, None], accepted: asyncio.Future[Any], name: str
    ) -> None:
        """Do the same for a send, which the drain waits for until `accepted` is done."""
        self._sends.add(accepted)
        accepted.add_done_callback(self._sends.discard)
        self.own(work, name)

    @property
    def has_sends(self) -> bool:
        """Return whether a send is being accepted."""
        return bool(self._sends)

    async def until_sends_run(self, timeout: float) -> None:
        """Return once every send that is being accepted now has begun its generation."""
        if self._sends:
            await asyncio.wait(set(self._sends), timeout=timeout)

    async def cancel_tasks(self, timeout: float) -> None:
        """Cancel every task, and wait for their ends."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ApiError):
            log.critical("task_failed", task=task.get_name(), exc_info=error)
