"""When a process takes over what others left, and what counts as a crash."""

import asyncio
from typing import Any, cast

import pytest
from tests.unit.world import World, opened

from chat_api.db import leases as db_leases
from chat_api.db.generations import Lease
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.leases import Leases
from chat_api.generation.recovery import Recovery
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason
from chat_api.generation.stalls import Stalls
from chat_api.generation.subscriptions import Subscriptions
from chat_api.generation.takeover import Takeover

LEASE = 8.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Taken:
    """What takes over, and only notes it."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []

    def begin(self, lease: Lease) -> None:
        self.leases.append(lease)


class Subscribed:
    """The subscriptions of a process."""

    def __init__(self, *message_ids: str) -> None:
        self.message_ids = set(message_ids)


class Desk:
    """A process that scans, a second apart by its own clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock, self.processor_clock = Clock(), Clock()
        self.registry = Registry(process=world.process)
        self.taken = Taken()
        self.recovery = Recovery(
            world.pool,
            self.registry,
            cast("Takeover", self.taken),
            lease_seconds=LEASE,
            clock=self.clock,
        )
        self.stalls = Stalls(
            world.pool,
            self.registry,
            lease_seconds=LEASE,
            clock=self.clock,
            processor_clock=self.processor_clock,
        )

    async def scan(self, seconds: float = 1.0) -> list[Lease]:
        """Return what a scan takes over that is so much later than the last one."""
        self.clock.now += seconds
        self.taken.leases.clear()
        await self.recovery.scan()
        return list(self.taken.leases)

    async def watch(self, seconds: float, worked: float) -> None:
        """Look for a stall after a time, for some of which the process was busy."""
        self.clock.now += seconds
        self.processor_clock.now += worked
        await self.stalls.watch()

    async def abandoned(self) -> Lease:
        return await self.world.lease(
            process="00000000-0000-4000-8000-000000000000", lease_seconds=-1
        )


@pytest.fixture
def desk(own_world: World) -> Desk:
    return Desk(own_world)


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
    desk.registry.is_draining = True
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


@pytest.mark.case(49)
async def test_a_stall_that_outlasts_the_leases_counts_as_a_crash(desk: Desk) -> None:
    """Also without a takeover meanwhile: the generation is handed over afterwards."""
    lease = await desk.world.lease()
    running = desk.registry.add(lease)
    running.pump = asyncio.create_task(asyncio.sleep(60))
    for stalls, seconds in enumerate([0.0, LEASE - 0.1, LEASE + 0.1, 60.0, 60.0]):
        await desk.watch(seconds, worked=seconds)
        row = await desk.world.generation(lease.message_id)
        assert row["crashes"] == max(0, stalls - 1)
        assert running.stop_reason is (StopReason.STALLED if stalls == 4 else None)
    await db_leases.release(desk.world.pool, desk.registry.held(), desk.world.process)
    (taken,) = await desk.scan()
    assert taken.crashes == 3
    await asyncio.wait({running.pump})


async def test_a_stall_is_not_counted_for_what_another_process_has_taken_over(desk: Desk) -> None:
    lease = await desk.abandoned()
    with desk.registry.claim(lease):
        await desk.watch(0, worked=0)
        await db_leases.claim_abandoned(
            desk.world.pool, desk.world.process, LEASE, limit=1, only_released=False
        )
        await desk.watch(60, worked=60)
    assert (await desk.world.generation(lease.message_id))["crashes"] == 1


async def test_a_process_that_was_frozen_from_outside_counts_no_crash(desk: Desk) -> None:
    lease = await desk.world.lease()
    with desk.registry.claim(lease):
        for _ in range(2):
            await desk.watch(60, worked=1)
    assert (await desk.world.generation(lease.message_id))["crashes"] == 0


async def test_a_stall_that_could_not_be_counted_is_counted_later(desk: Desk) -> None:
    lease = await desk.world.lease()
    there = desk.stalls._db
    with desk.registry.claim(lease):
        await desk.watch(0, worked=0)
        async with opened("postgresql://nobody@127.0.0.1:1/none") as away:
            desk.stalls._db = away
            with pytest.raises(DatabaseUnavailable):
                await desk.watch(60, worked=60)
        desk.stalls._db = there
    await desk.stalls.count()
    await desk.stalls.count()
    assert (await desk.world.generation(lease.message_id))["crashes"] == 1


async def test_a_subscription_that_ends_while_leases_are_renewed_leaves_no_row(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying, leaving = [await desk.world.lease() for _ in range(2)]
    subscribed = Subscribed(staying.message_id, leaving.message_id)
    leases = Leases(
        desk.world.pool, desk.registry, cast("Subscriptions", subscribed), lease_seconds=LEASE
    )
    renew = db_leases.renew

    async def renew_late(*arguments: Any) -> None:
        subscribed.message_ids = {staying.message_id}
        await db_leases.unsubscribe(desk.world.pool, desk.world.process, [leaving.message_id])
        await renew(*arguments)

    monkeypatch.setattr(db_leases, "renew", renew_late)
    await leases.renew()
    rows = await desk.world.rows("SELECT message_id::text AS id FROM subscriptions")
    assert [row["id"] for row in rows] == [staying.message_id]
