"""The busy rule, where timing decides."""

from typing import Any, cast

import pytest
from tests.unit.world import LEASE_SECONDS, World

from chat_api.db import leases as db_leases
from chat_api.db.generations import Lease
from chat_api.db.quotas import UNLIMITED
from chat_api.errors import ConversationBusy
from chat_api.generation.options import Options
from chat_api.generation.prompts import Prompts
from chat_api.generation.registry import Registry
from chat_api.generation.send_policy import PATIENCE_SECONDS, SendPolicy
from chat_api.generation.sink import Discard


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += PATIENCE_SECONDS / 4
        return self.now


class Stopping:
    """Ends the running generation, and lets another send be faster than the one that waited."""

    def __init__(self, world: World, running: Lease) -> None:
        self.world = world
        self.running = running
        self.faster: Lease | None = None
        self.halted: list[str] = []

    async def halt(self, message_id: str) -> None:
        self.halted.append(message_id)
        await self.world.end(self.running, status="stopped")
        self.faster = await self.world.lease(self.running.conversation_id)
        await db_leases.unsubscribe(self.world.pool, self.world.process, [self.faster.message_id])


async def send(world: World, stops: Any, conversation_id: str) -> None:
    nothing = cast("Any", None)
    policy = SendPolicy(
        world.pool,
        Registry(),
        Prompts(
            system_prompt="",
            thinking_prompt="",
            max_messages=50,
            max_chars=8000,
            max_message_chars=8000,
        ),
        nothing,
        nothing,
        nothing,
        stops,
        nothing,
        quotas=UNLIMITED,
        lease_seconds=LEASE_SECONDS,
        clock=Clock(),
    )
    await policy.send(
        world.user,
        conversation_id,
        content="And?",
        title=None,
        options=Options(),
        idempotency=None,
        sink=Discard(),
        one_attempt=True,
    )


@pytest.mark.case(11)
async def test_a_send_stops_only_the_generation_that_it_found_first(world: World) -> None:
    running = await world.lease()
    await db_leases.unsubscribe(world.pool, world.process, [running.message_id])
    stops = Stopping(world, running)
    with pytest.raises(ConversationBusy) as refused:
        await send(world, stops, running.conversation_id)
    assert stops.faster is not None
    assert refused.value.fields == {"message_id": stops.faster.message_id}
    assert stops.halted == [running.message_id]


async def test_a_send_waits_for_subscribers_only_so_long(world: World) -> None:
    running = await world.lease()
    stops = Stopping(world, running)
    with pytest.raises(ConversationBusy) as refused:
        await send(world, stops, running.conversation_id)
    assert refused.value.fields == {"message_id": running.message_id}
    assert stops.halted == []
