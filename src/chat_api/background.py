"""Tasks that live as long as the process."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ClassVar, Self

from chat_api.retrying import until_available
from chat_api.telemetry import log


class Background:
    """Calls `step` again and again until stopped.

    While the database is unavailable the step is tried again. Any other error is a defect, which
    would end the task silently: so the process logs it and ends, and another one takes over.
    """

    died: ClassVar[bool] = False
    """Whether a task of this process has died of a defect: the exit code says so then."""

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
                await until_available(
                    self._step, first_pause=0.5, longest_pause=max(1.0, self._every)
                )
            except Exception:  # noqa: BLE001  # any defect must be logged
                log.critical("background_task_died", task=self._name, exc_info=True)
                Background.died = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            await asyncio.sleep(self._every)
