"""When a process takes up what others left."""

from typing import Any

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
        self.worked = 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.worked


class Desk:
    """A process that scans, a second apart by its own clock."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.taken: list[Lease] = []
        self.given_up: list[str] = []
        self.held: list[tuple[str, int]] = []
        self.listened: set[str] = set()
        self.recovery = Recovery(
            world.pool,
            world.process,
            lambda: self.held,
            lambda: self.listened,
            self.taken.append,
            self.given_up.append,
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


@pytest.mark.case(49)
async def test_a_stall_that_outlasts_the_leases_counts_as_a_crash(desk: Desk) -> None:
    """Also where nobody took the answer up meanwhile, and it is handed over afterwards."""
    lease = await desk.world.lease()
    desk.held = [(lease.message_id, lease.attempt)]
    for stalls, seconds in enumerate([0.0, LEASE - 0.1, LEASE + 0.1, 60.0, 60.0]):
        desk.clock.now += seconds
        desk.clock.worked += seconds
        await desk.recovery._watch_stalls()
        row = await desk.world.generation(lease.message_id)
        assert row["crashes"] == max(0, stalls - 1)
        assert desk.given_up == ([lease.message_id] if stalls == 4 else [])
    await db_leases.release(desk.world.pool, desk.held, desk.world.process)
    (taken,) = await desk.scan()
    assert taken.crashes == 3


async def test_a_stall_is_not_counted_for_what_another_process_has_taken_up(desk: Desk) -> None:
    lease = await desk.abandoned()
    desk.held = [(lease.message_id, lease.attempt)]
    await desk.recovery._watch_stalls()
    await db_leases.claim_abandoned(
        desk.world.pool, desk.world.process, LEASE, limit=1, only_released=False
    )
    desk.clock.now += 60
    desk.clock.worked += 60
    await desk.recovery._watch_stalls()
    assert (await desk.world.generation(lease.message_id))["crashes"] == 1


async def test_a_process_that_was_frozen_from_outside_counts_no_crash(desk: Desk) -> None:
    lease = await desk.world.lease()
    desk.held = [(lease.message_id, lease.attempt)]
    for _ in range(2):
        desk.clock.now += 60
        desk.clock.worked += 1
        await desk.recovery._watch_stalls()
    assert (await desk.world.generation(lease.message_id))["crashes"] == 0


async def test_a_reader_that_leaves_while_leases_are_renewed_is_listened_to_no_longer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying, leaving = [await desk.world.lease() for _ in range(2)]
    desk.listened = {staying.message_id, leaving.message_id}
    renew = db_leases.renew

    async def renew_late(*arguments: Any) -> None:
        desk.listened = {staying.message_id}
        await db_leases.stop_listening(desk.world.pool, desk.world.process, [leaving.message_id])
        await renew(*arguments)

    monkeypatch.setattr(db_leases, "renew", renew_late)
    await desk.recovery._renew()
    rows = await desk.world.rows("SELECT message_id::text AS id FROM listeners")
    assert [row["id"] for row in rows] == [staying.message_id]
