"""The rows of subscriptions: a statement of their own only where no end deletes them."""

import asyncio

import pytest
from tests.unit.test_subscription import Client, Desk, desk, finish, saved, without_log, write
from tests.unit.world import LEASE_SECONDS, World

from chat_api.db.generations import Lease
from chat_api.generation.subscriptions import Subscriptions

__all__ = ["desk"]  # a fixture


def subscriptions_of(desk: Desk) -> Subscriptions:
    return Subscriptions(
        desk.pool,
        desk.follower,
        desk.registry,
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=9,
        slow_reader_seconds=9,
    )


def reader(desk: Desk, subscriptions: Subscriptions, lease: Lease) -> Client:
    client = Client(
        lambda sink: subscriptions.open(
            lease.message_id, lease.attempt, sink=sink, one_attempt=True
        )
    )
    desk.clients.append(client)
    return client


async def unsubscribed(desk: Desk) -> int:
    """Return the number of statements, once all tasks that the closing began have ended."""
    await asyncio.gather(*desk.registry._tasks)
    return desk.pool.statements


@pytest.mark.parametrize("is_saved", [True, False])
async def test_a_reader_of_a_saved_end_costs_no_statement(
    is_saved: bool, world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = reader(desk, subscriptions_of(desk), lease)
    await client.settled()
    write(answer, "ab")
    finish(answer, saved=is_saved)
    desk.running.clear()
    await client.to_the_end()
    # Where the end was not saved here, another process runs the generation.
    assert await unsubscribed(desk) == (0 if is_saved else 1)


async def test_a_reader_of_what_was_stored_costs_no_statement_at_its_end(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    await saved(world, lease, "abc")
    await without_log(world, lease)
    subscriptions = subscriptions_of(desk)
    client = Client(
        lambda sink: subscriptions.open(
            lease.message_id, lease.attempt, sink=sink, one_attempt=True, only_stored=True
        )
    )
    assert (await client.to_the_end())[-1][1]["done"] is True
    assert await unsubscribed(desk) == 0


async def test_a_reader_that_leaves_is_not_there_for_the_next_send(
    world: World, desk: Desk
) -> None:
    lease = await world.lease()
    answer = desk.answer(lease)
    client = reader(desk, subscriptions_of(desk), lease)
    await client.settled()
    write(answer, "a")
    await client.leave()
    assert await unsubscribed(desk) == 1
    finish(answer)
