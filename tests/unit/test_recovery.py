"""When a process takes up what others left."""

import pytest
from tests.unit.world import World, opened

from chat_api.db import leases as db_leases
from chat_api.db.generations import Lease
from chat_api.errors import DatabaseUnavailable
from chat_api.generation import recovery as module
from chat_api.generation.recovery import Recovery

LEASE = 8.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Desk:
    """A process that scans, a second apart by its own clock."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.taken: list[Lease] = []
        self.recovery = Recovery(
            world.pool,
            world.process,
            list,
            set,
            self.taken.append,
            lease_seconds=LEASE,
            log_retention_seconds=300,
        )

    async def scan(self, seconds: float = 1.0) -> list[Lease]:
        """What is taken up by a scan so much later than the last one."""
        self.clock.now += seconds
        self.taken.clear()
        await self.recovery._scan()
        return list(self.taken)

    async def abandoned(self) -> Lease:
        return await self.world.lease(
            process="00000000-0000-4000-8000-000000000000", lease_seconds=-1
        )


@pytest.fixture
def desk(own_world: World, monkeypatch: pytest.MonkeyPatch) -> Desk:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return Desk(own_world, clock)


async def in_touch(desk: Desk) -> None:
    for _ in range(10):
        assert await desk.scan() == []


async def test_what_is_abandoned_is_taken_up_at_once_by_whoever_is_in_touch(desk: Desk) -> None:
    await in_touch(desk)
    lease = await desk.abandoned()
    (taken,) = await desk.scan()
    assert (taken.message_id, taken.attempt, taken.crashes) == (lease.message_id, 2, 1)


async def test_nobody_takes_over_before_one_lease_of_contact(desk: Desk) -> None:
    await desk.abandoned()
    for _ in range(8):  # the first scan begins the contact
        assert await desk.scan() == []
    assert len(await desk.scan()) == 1


async def test_what_was_handed_over_is_taken_up_at_once(desk: Desk) -> None:
    lease = await desk.world.lease()
    await db_leases.release(desk.world.pool, [(lease.message_id, 1)], desk.world.process)
    (taken,) = await desk.scan()
    assert (taken.attempt, taken.crashes) == (2, 0)


@pytest.mark.parametrize("frozen", [LEASE / 2 + 0.1, 3600])
async def test_a_process_that_was_frozen_begins_its_contact_anew(frozen: float, desk: Desk) -> None:
    await in_touch(desk)
    await desk.abandoned()
    assert await desk.scan(frozen) == []
    for _ in range(7):
        assert await desk.scan() == []
    assert len(await desk.scan()) == 1


async def test_an_outage_of_the_database_is_no_crash(desk: Desk) -> None:
    await in_touch(desk)
    await desk.abandoned()
    there = desk.recovery._db
    async with opened("postgresql://nobody@127.0.0.1:1/none") as away:
        desk.recovery._db = away
        with pytest.raises(DatabaseUnavailable):
            await desk.scan()
    desk.recovery._db = there
    for _ in range(8):
        assert await desk.scan() == []
    assert len(await desk.scan()) == 1


async def test_a_process_that_leaves_takes_up_nothing(desk: Desk) -> None:
    await in_touch(desk)
    await desk.abandoned()
    desk.recovery.paused = True
    for _ in range(20):
        assert await desk.scan() == []


async def test_what_ran_out_since_the_scan_before_is_left_to_its_owner_once_more(
    desk: Desk,
) -> None:
    """A stall that breaks no connection: the owner's renewal waits behind the claim."""
    await in_touch(desk)
    lease = await desk.abandoned()
    await desk.world.pool.fetch(
        "UPDATE generations SET lease_until = now() WHERE message_id = $1", lease.message_id
    )
    assert await desk.scan() == []
    assert len(await desk.scan()) == 1
