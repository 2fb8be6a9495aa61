"""Tasks that live as long as the process."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ClassVar, Self

from chat_api.errors import DatabaseUnavailable
from chat_api.telemetry import log


class Background:
    """Calls `step` again and again until stopped.

    A database that is away is waited for. Any other error is a defect that would silently take a
    promise with it: the process says so and ends, and another takes over its answers.
    """

    died: ClassVar[bool] = False
    """Whether a task of this process has died of a defect: its exit is no success then."""

    def __init__(
        self, name: str, step: Callable[[], Awaitable[None]], *, every_seconds: float = 0.0
    ) -> None:
        self._name = name
        self._step = step
        self._every = every_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self, timeout: float = 2.0) -> None:
        """End the task; give up waiting for it after `timeout` seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout)
            self._task = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except DatabaseUnavailable:
                await asyncio.sleep(max(self._every, 0.25))
            except Exception:  # noqa: BLE001  # whatever it is, it must not end unnoticed
                log.critical("background_task_died", task=self._name, exc_info=True)
                Background.died = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            else:
                await asyncio.sleep(self._every)
