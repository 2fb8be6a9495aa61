"""What is counted: a user's messages and answers in the database, the rest in memory."""

import asyncio
import tracemalloc
from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest
from tests.unit.world import World

from chat_api.api.limits import Failures, network_of
from chat_api.api.streaming.accounting import OpenStreams
from chat_api.db import housekeeping
from chat_api.db.generations import Lease
from chat_api.db.quotas import Quotas
from chat_api.db.sends import Busy
from chat_api.errors import (
    NothingToAnswer,
    TooManyFailures,
    TooManyGenerations,
    TooManyMessages,
    TooManyStreams,
)

# --- messages of a minute -------------------------------------------------------------------------

FIVE = Quotas(messages_per_minute=5)


async def ask(world: World, quotas: Quotas, conversation: str | None = None) -> Lease:
    """A message whose answer ends at once."""
    conversation = conversation or await world.conversation()
    begun = await world.begin(conversation, quotas=quotas)
    assert isinstance(begun, Lease)
    await world.end(begun)
    return begun


async def let_the_minute_pass(world: World) -> None:
    await world.pool.fetch(
        "UPDATE message_quotas SET began = began - interval '1 minute' WHERE user_id = $1",
        world.user,
    )


async def test_a_user_has_so_many_messages_in_a_minute(world: World) -> None:
    conversation = await world.conversation()
    for _ in range(5):
        await ask(world, FIVE, conversation)
    before = await world.messages(conversation)
    with pytest.raises(TooManyMessages) as refused:
        await world.begin(conversation, quotas=FIVE)
    assert 55 <= int(refused.value.headers["Retry-After"]) <= 60
    assert await world.messages(conversation) == before
    await let_the_minute_pass(world)
    for _ in range(5):
        await ask(world, FIVE)
    with pytest.raises(TooManyMessages):
        await ask(world, FIVE)


async def test_a_refused_message_does_not_count(world: World) -> None:
    for _ in range(5):
        await ask(world, FIVE)
    for _ in range(3):
        with pytest.raises(TooManyMessages):
            await ask(world, FIVE)
    assert await world.value("SELECT sent FROM message_quotas WHERE user_id = $1", world.user) == 5


async def test_a_regeneration_is_a_message(world: World) -> None:
    conversation = await world.conversation()
    await ask(world, FIVE, conversation)
    for _ in range(4):
        lease = await world.begin(conversation, world.draft(None), quotas=FIVE)
        assert isinstance(lease, Lease)
        await world.end(lease)
    with pytest.raises(TooManyMessages):
        await world.begin(conversation, world.draft(None), quotas=FIVE)


async def test_a_deleted_conversation_gives_no_message_back(world: World) -> None:
    for _ in range(5):
        lease = await ask(world, FIVE)
        await world.pool.fetch("DELETE FROM conversations WHERE id = $1", lease.conversation_id)
    with pytest.raises(TooManyMessages):
        await ask(world, FIVE)


async def test_what_is_not_accepted_does_not_count(world: World) -> None:
    once = Quotas(messages_per_minute=1)
    empty = await world.conversation()
    with pytest.raises(NothingToAnswer):
        await world.begin(empty, world.draft(None), quotas=once)
    assert await world.begin(empty, user=world.stranger, quotas=once) is None
    await ask(world, once)


async def test_users_do_not_share_their_messages(world: World) -> None:
    one = Quotas(messages_per_minute=1)
    await ask(world, one)
    theirs = await world.conversation(user=world.stranger)
    assert isinstance(await world.begin(theirs, user=world.stranger, quotas=one), Lease)


async def test_of_many_messages_at_once_no_more_are_accepted(world: World) -> None:
    conversations = [await world.conversation() for _ in range(20)]

    async def send(conversation: str) -> bool:
        try:
            begun = await world.begin(conversation, quotas=FIVE)
        except TooManyMessages:
            return False
        assert isinstance(begun, Lease)
        return True

    accepted = await asyncio.gather(*map(send, conversations))
    assert accepted.count(True) == 5


async def test_without_limits_nothing_is_counted(world: World) -> None:
    for _ in range(3):
        await ask(world, Quotas())
    assert await world.rows("SELECT 1 FROM message_quotas WHERE user_id = $1", world.user) == []


async def test_quotas_of_an_hour_ago_are_forgotten(own_world: World) -> None:
    world = own_world
    await ask(world, FIVE)
    await housekeeping.sweep_orphans(world.pool)
    assert await world.value("SELECT count(*) FROM message_quotas") == 1
    await world.pool.fetch("UPDATE message_quotas SET began = began - interval '61 minutes'")
    await housekeeping.sweep_orphans(world.pool)
    assert await world.value("SELECT count(*) FROM message_quotas") == 0


# --- running answers ------------------------------------------------------------------------------

TWO = Quotas(running_generations=2)


async def running(world: World, quotas: Quotas, conversation: str | None = None) -> Lease:
    begun = await world.begin(conversation or await world.conversation(), quotas=quotas)
    assert isinstance(begun, Lease)
    return begun


async def test_a_user_has_so_many_answers_at_once(world: World) -> None:
    first = await running(world, TWO)
    await running(world, TWO)
    conversation = await world.conversation()
    with pytest.raises(TooManyGenerations):
        await world.begin(conversation, quotas=TWO)
    assert await world.messages(conversation) == []
    await world.end(first)
    await running(world, TWO, conversation)


async def test_a_deleted_conversation_makes_room_for_an_answer(world: World) -> None:
    lease = await running(world, TWO)
    await running(world, TWO)
    await world.pool.fetch("DELETE FROM conversations WHERE id = $1", lease.conversation_id)
    await running(world, TWO)


async def test_of_many_answers_at_once_no_more_are_begun(world: World) -> None:
    conversations = [await world.conversation() for _ in range(20)]

    async def send(conversation: str) -> bool:
        try:
            begun = await world.begin(conversation, quotas=TWO)
        except TooManyGenerations:
            return False
        assert isinstance(begun, Lease)
        return True

    assert (await asyncio.gather(*map(send, conversations))).count(True) == 2


async def test_a_message_that_counts_but_finds_no_room_gives_its_count_back(world: World) -> None:
    both = Quotas(messages_per_minute=3, running_generations=1)
    lease = await running(world, both)
    for _ in range(5):
        with pytest.raises(TooManyGenerations):
            await running(world, both)
    await world.end(lease)
    await ask(world, both)
    await ask(world, both)
    with pytest.raises(TooManyMessages):
        await ask(world, both)


async def test_an_answer_that_a_message_would_replace_takes_no_room(world: World) -> None:
    one = Quotas(running_generations=1)
    lease = await running(world, one)
    assert await world.begin(lease.conversation_id, quotas=one) == Busy(
        lease.message_id, has_subscribers=True
    )


async def test_a_message_that_will_be_refused_does_not_tell_to_stop_the_running_answer(
    world: World,
) -> None:
    one = Quotas(messages_per_minute=1)
    lease = await running(world, one)
    with pytest.raises(TooManyMessages):
        await world.begin(lease.conversation_id, quotas=one)


async def test_answers_of_the_release_before_do_not_count(world: World) -> None:
    lease = await running(world, TWO)
    await world.pool.fetch(
        "UPDATE generations SET user_id = NULL WHERE message_id = $1", lease.message_id
    )
    await running(world, TWO)
    await running(world, TWO)


# --- failures of an address -----------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fails(failures: Failures, host: str | None, times: int) -> None:
    for _ in range(times):
        failures.check(host)
        failures.add(host)


def test_an_address_has_so_many_failures_in_a_minute() -> None:
    clock = Clock()
    failures = Failures(3, clock=clock)
    fails(failures, "192.0.2.1", 3)
    clock.now += 20.5
    with pytest.raises(TooManyFailures) as refused:
        failures.check("192.0.2.1")
    assert refused.value.headers == {
        "Retry-After": "40",
        "RateLimit-Policy": '"unauthenticated";q=3;w=60',
        "RateLimit": '"unauthenticated";r=0;t=40',
    }
    failures.check("192.0.2.2")
    clock.now += 39.5
    fails(failures, "192.0.2.1", 3)


@pytest.mark.parametrize(("most", "host"), [(0, "192.0.2.1"), (1, None)])
def test_without_a_limit_or_an_address_nothing_is_refused(most: int, host: str | None) -> None:
    fails(Failures(most), host, 10)


@pytest.mark.parametrize(
    ("hosts", "networks"),
    [
        (("192.0.2.1", "192.0.2.2"), 2),
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), 1),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), 2),
        (("192.0.2.1", "::ffff:192.0.2.1"), 1),
        (("testclient", "fe80::1%eth0", "fe80::1%" + "x" * 5000), 2),
    ],
)
def test_an_ipv6_subscriber_counts_as_one_address(hosts: Sequence[str], networks: int) -> None:
    assert len({network_of(host) for host in hosts}) == networks
    assert all(len(network_of(host)) <= 64 for host in hosts)


@pytest.mark.slow
def test_a_million_addresses_take_no_more_memory_than_a_few() -> None:
    failures = Failures(3)
    for number in range(30_000):
        failures.add(str(IPv4Address(number)))
    tracemalloc.start()
    try:
        for number in range(30_000, 230_000):
            failures.add(str(IPv4Address(number)))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What was remembered before the tracing is gone and counts nothing; 20,000 are there now.
    assert len(failures._counted) == 20_000
    assert grown < 20_000_000


# --- streams of a user ----------------------------------------------------------------------------


def test_a_user_has_so_many_streams() -> None:
    streams = OpenStreams(2)
    streams.enter("a")
    streams.enter("a")
    streams.enter("b")
    with pytest.raises(TooManyStreams) as refused:
        streams.enter("a")
    assert refused.value.headers == {
        "Retry-After": "5",
        "RateLimit-Policy": '"streams";q=2;qu="concurrent-requests"',
        "RateLimit": '"streams";r=0',
    }
    streams.leave("a")
    streams.enter("a")
    for user in ("a", "a", "b"):
        streams.leave(user)
    assert not streams._open


def test_without_a_limit_streams_are_not_refused() -> None:
    streams = OpenStreams(0)
    for _ in range(1000):
        streams.enter("a")


# --- the ledger -----------------------------------------------------------------------------------


@pytest.mark.case(72)
async def test_what_is_continued_counts_again_with_what_was_added(world: World) -> None:
    """Also where a replica of the version before ends it: its `done` tells less."""
    lease = await world.lease()
    end = """
        UPDATE generations SET ended_at = now(), status = $2, done = $3, resumed_after = $4
        WHERE message_id = $1
    """
    old = '{"done":true,"token_count":3}'
    await world.pool.fetch(end, lease.message_id, "stopped", old, None)
    await world.pool.fetch(end, lease.message_id, "stopped", old, None)  # no end of its own
    await world.pool.fetch(
        "UPDATE messages SET token_count = 3, input_tokens = 10, output_tokens = 4 WHERE id = $1",
        lease.message_id,
    )
    again = "UPDATE generations SET ended_at = NULL WHERE message_id = $1"
    await world.pool.fetch(again, lease.message_id)
    told = '{"token_count":5,"model_tag":"m","usage":{"input_tokens":25,"output_tokens":7}}'
    await world.pool.fetch(end, lease.message_id, "complete", told, 4)
    await world.pool.fetch(again, lease.message_id)
    same = told.replace("25", "10").replace("7}", "4}")
    await world.pool.fetch(end, lease.message_id, "complete", same, 4)
    rows = await world.pool.fetch(
        "SELECT model_tag, status, answers, input_tokens, output_tokens, estimated "
        "FROM usage_ledger WHERE user_id = $1 ORDER BY status",
        world.user,
    )
    assert [tuple(row) for row in rows] == [
        ("m", "complete", 2, 15, 5, 1),
        ("default", "stopped", 1, 0, 3, 1),
    ]
