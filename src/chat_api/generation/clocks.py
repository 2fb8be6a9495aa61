"""One check of all deadlines, several times a second, instead of a timer for each."""

import time
from collections.abc import Callable

from chat_api.background import Background
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.generation.subscriptions import Subscriptions

_TICK_SECONDS = 0.25


class Clocks:
    """Stops generations whose engine sends nothing, and checks the deadlines of subscriptions."""

    def __init__(
        self,
        registry: Registry,
        subscriptions: Subscriptions,
        *,
        first_token_seconds: float,
        token_seconds: float,
        generation_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._subscriptions = subscriptions
        self._first_token_seconds = first_token_seconds
        self._token_seconds = token_seconds
        self._generation_seconds = generation_seconds
        self._clock = clock

    def task(self) -> Background:
        """Return the task that checks."""
        return Background("look-at-clocks", self.step, every_seconds=_TICK_SECONDS)

    async def step(self) -> None:
        """Check once."""
        now = self._clock()
        for generation in list(self._registry.running.values()):
            if self._is_late(generation, now):
                generation.stop_writing(StopReason.SILENT)
        self._subscriptions.look_at_clocks()

    def _is_late(self, generation: RunningGeneration, now: float) -> bool:
        generation.look(now)
        if now - generation.began > self._generation_seconds:
            return True
        silence = self._token_seconds if generation.has_begun else self._first_token_seconds
        return now - generation.heard > silence
