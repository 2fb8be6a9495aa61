"""Which answer of a message this process knows."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace

from tests.unit.world import World

from chat_api.engines.samosachaat import SamosachaatEngine
from chat_api.generation.event_log import LogWriter
from chat_api.generation.running import RunningGeneration, StopReason
from chat_api.generation.writer import GenerationWriter


async def test_an_attempt_that_leaves_late_does_not_deregister_the_next_one(world: World) -> None:
    lease = await world.lease()
    running: dict[str, RunningGeneration] = {}
    log_writer = LogWriter(world.pool, world.process, running, every_seconds=1)
    engine = SamosachaatEngine.__new__(SamosachaatEngine)  # never called
    writer = GenerationWriter(
        world.pool, engine, running, log_writer, max_answer_chars=1000, max_answer_bytes=1000
    )
    first, second = ExitStack(), ExitStack()
    earlier = first.enter_context(writer._registered(lease))
    earlier.pump = asyncio.create_task(asyncio.sleep(60))
    later = second.enter_context(writer._registered(replace(lease, attempt=2)))
    assert earlier.stop_reason is StopReason.NOT_OURS
    first.close()
    assert running == {lease.message_id: later}
    assert earlier.closed
    assert not later.closed
    second.close()
    assert running == {}
