"""Which generations are stopped because their engine is silent."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from chat_api.db.generations import Lease
from chat_api.generation import events
from chat_api.generation.clocks import Clocks
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.generation.subscriptions import Subscriptions

LEASE = Lease("019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1", "c", "q", 1, 0, "{}", "t", None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class NoSubscriptions:
    looks = 0

    def look_at_clocks(self) -> None:
        self.looks += 1


@pytest.fixture
async def generation() -> AsyncIterator[RunningGeneration]:
    generation = RunningGeneration(LEASE, clock=Clock())
    generation.pump = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    yield generation
    generation.pump.cancel()


@pytest.mark.parametrize(
    ("passed", "heard", "tokens", "is_silent"),
    [
        (9.9, 0.0, 0, False),
        (10.1, 0.0, 0, True),  # no first token
        (20.1, 10.2, 0, False),  # a sign of life: a comment, an event without text
        (20.1, 10.0, 0, True),
        (50.0, 46.0, 1, False),
        (50.0, 44.9, 1, True),  # none after the last
        (100.0, 100.0, 1, False),
        (100.1, 100.1, 1, True),  # it takes too long as a whole
    ],
)
async def test_a_silent_engine_is_given_up(
    generation: RunningGeneration, passed: float, heard: float, tokens: int, is_silent: bool
) -> None:
    registry, clock, subscriptions = Registry(), Clock(), NoSubscriptions()
    registry._running[LEASE.message_id] = generation
    clocks = Clocks(
        registry,
        cast("Subscriptions", subscriptions),
        first_token_seconds=10,
        token_seconds=5,
        generation_seconds=100,
        clock=clock,
    )
    for _ in range(tokens):
        generation.add(events.token("x"), "x")
    clock.now = generation.began + heard
    if tokens:
        await clocks.step()
    else:
        generation.heard = clock.now
    assert generation.stop_reason is None or heard == passed
    clock.now = generation.began + passed
    await clocks.step()
    assert generation.stop_reason is (StopReason.SILENT if is_silent else None)
    assert subscriptions.looks == 1 + bool(tokens)
