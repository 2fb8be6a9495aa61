"""Subscriptions that take nothing, and readers in great numbers: other clients are unaffected."""

import asyncio
import contextlib
import http.client
import time

import psutil
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Stream
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import Known, counted, length
from tests.support.lazy import lazily
from tests.support.service import Service
from tests.support.waiting import eventually

HUGE = {"MAX_ANSWER_CHARS": "10000000", "SLOW_READER_SECONDS": "1"}
SIZE = 8000


def memory(pair: Pair) -> int:
    """Resident bytes of both replicas."""
    return sum(
        process.memory_info().rss for service in pair.services for process in service.processes()
    )


def connections(pair: Pair) -> int:
    """Open connections to the replicas' own ports."""
    return sum(
        1
        for service in pair.services
        for connection in psutil.Process(service.pid).net_connections("tcp4")
        if connection.laddr.port == service.port and connection.status == "ESTABLISHED"
    )


@pytest.mark.case(17)
async def test_case_17_a_client_that_stops_reading_is_dropped_and_the_answer_goes_on(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 17: with a huge answer, at the owner and at the other replica; memory is bounded."""
    pair = await start_pair(**HUGE)
    inference.once(Known().count(1000, size=SIZE).done())
    conversation = await pair.here.create()
    path = f"/api/conversations/{conversation['id']}/stream"
    gate = Gate()
    before = memory(pair)
    async with contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(pair.here.send(conversation["id"], "Much"))
        await sender.until("token")
        slow = [
            await stack.enter_async_context(lazily(client, "GET", path))
            for client in pair.clients * 5
        ]
        for stream in slow:
            assert await stream.head() == 200
        await sender.rest(40)
        assert length(sender.text) == 1000
        assert len(sender.text) > 1000 * SIZE
        assert sender.done["status"] == "complete"

        def dropped() -> int:
            return sum(
                line.get("event") == "slow_subscription_dropped"
                for service in pair.services
                for line in service.logs()
            )

        await eventually(lambda: dropped() == 10)
        assert memory(pair) - before < 80_000_000
        gate.open()
        for stream in slow:
            await stream.rest()
            assert not stream.ended
            assert stream.taken < len(sender.text)
    await eventually(lambda: connections(pair) <= 4)
    # A dropped one that comes back gets the rest.
    cursor = slow[1].events[-1].id if slow[1].events else None
    if cursor is not None:
        async with pair.there.join(conversation["id"], cursor) as again:
            await again.rest(40)
            assert again.done == sender.done


async def test_a_slow_client_that_takes_a_little_now_and_then_is_kept(
    start_pair: StartPair, inference: Inference
) -> None:
    """What counts is silence, not pace."""
    pair = await start_pair(**HUGE)
    inference.once(Known().count(100, size=SIZE).done())
    conversation = await pair.here.create()
    path = f"/api/conversations/{conversation['id']}/messages"
    async with lazily(pair.here, "POST", path, {"content": "Much"}) as slow:
        assert await slow.head() == 200
        events = await slow.rest(40)
        assert slow.ended
    assert [event.kind for event in events] == ["start", *["token"] * 100, "done"]


async def test_a_drain_waits_for_a_slow_reader_of_an_answer_that_has_ended(
    start_pair: StartPair, inference: Inference
) -> None:
    """Short answers end untouched, also where their client is still taking the last bytes."""
    pair = await start_pair(**{**HUGE, "SLOW_READER_SECONDS": "20"}, DRAIN_SECONDS="20")
    inference.once(Known().count(500, size=SIZE).done())
    conversation = await pair.here.create()
    path = f"/api/conversations/{conversation['id']}/messages"
    async with lazily(pair.here, "POST", path, {"content": "Much"}) as slow:
        assert await slow.head() == 200

        async def ended() -> bool:
            answer = (await pair.there.messages(conversation["id"]))[-1]
            return bool(answer["status"] == "complete")

        await eventually(ended)
        pair.services[0].terminate()
        await eventually(lambda: draining(pair))
        events = await slow.rest()
        assert slow.ended
        assert [event.kind for event in events] == ["start", *["token"] * 500, "done"]
    assert await asyncio.to_thread(pair.services[0].wait) == 0


def draining(pair: Pair) -> bool:
    """Whether the first replica's drain has begun."""
    return any(line.get("event") == "draining" for line in pair.services[0].logs())


@pytest.mark.case(50)
@pytest.mark.slow
async def test_a_hundred_and_fifty_readers_of_a_long_answer_cost_little_memory(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 50: at the writer and elsewhere, from its start, reading nothing and then everything."""
    pair = await start_pair(**{**HUGE, "SLOW_READER_SECONDS": "60"}, MAX_OPEN_STREAMS="0")
    count = 60_000
    gate = Gate()
    inference.once(Known().count(count).wait(gate, 100).done())
    conversation = await pair.here.create()
    path = f"/api/conversations/{conversation['id']}/stream"
    async with contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(pair.here.send(conversation["id"], "Much"))
        await sender.until(lambda _event: len(sender.events) > count, 60)
        before = [memory_of(service) for service in pair.services]
        slowest = 0.0
        readers = []
        for client in pair.clients:
            for _ in range(75):
                reader = await stack.enter_async_context(lazily(client, "GET", path))
                readers.append(reader)
                assert await reader.head() == 200
            slowest = max(slowest, *[await health_seconds(service) for service in pair.services])
        grown = [
            memory_of(service) - was for service, was in zip(pair.services, before, strict=True)
        ]
        assert max(grown) < 75_000_000
        gate.open()
        reading = asyncio.gather(*(reader.bytes_left() for reader in readers[::3]))
        while not reading.done():
            slowest = max(slowest, *[await health_seconds(service) for service in pair.services])
            await asyncio.sleep(0.05)
        for received in await reading:
            assert received.count(b'{"token":') == count
            assert b'{"done":' in received
        grown = [
            memory_of(service) - was for service, was in zip(pair.services, before, strict=True)
        ]
        print(f"memory {grown}, slowest health {slowest:.2f} s")  # noqa: T201  # what was measured
        assert max(grown) < 75_000_000
        assert slowest < 3  # a tenth of it on an idle machine


def memory_of(service: Service) -> int:
    return sum(process.memory_info().rss for process in service.processes())


async def health_seconds(service: Service) -> float:
    """How long a request that needs nothing takes; asked in a thread, as this loop is busy."""

    def ask() -> float:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        began = time.monotonic()
        connection.request("GET", "/api/health")
        assert connection.getresponse().status == 200
        took = time.monotonic() - began
        connection.close()
        return took

    return await asyncio.to_thread(ask)


@pytest.mark.case(18)
@pytest.mark.slow
async def test_case_18_five_hundred_idle_streams_and_a_pool_of_five_connections(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 18: sends still work, and no connection of the database is held by a stream."""
    pair = await start_pair(DATABASE_POOL_SIZE="5", LEASE_SECONDS="8")
    gate = Gate()
    inference.on("Wait", counted(2).wait(gate, 100).count(1).done())
    conversations = [await pair.here.create() for _ in range(50)]
    async with contextlib.AsyncExitStack() as stack:
        streams: list[Stream] = []

        async def open_one(number: int) -> None:
            conversation = conversations[number % 50]["id"]
            client = pair.clients[number % 2]
            request = (
                pair.here.send(conversation, "Wait") if number < 50 else client.join(conversation)
            )
            stream = await stack.enter_async_context(request)
            streams.append(stream)
            await stream.until("token", 40)

        for start in range(0, 500, 50):
            await asyncio.gather(*(open_one(start + number) for number in range(50)))
        assert len(streams) == 500
        began = time.monotonic()
        for client in pair.clients:
            for _ in range(3):
                conversation = await client.create()
                assert (await client.ask(conversation["id"], "Hello"))["status"] == "complete"
        assert time.monotonic() - began < 10
        used = await pair.db.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'samosachaat-chat-api'"
        )
        # Five for the requests of each replica, and the few for leases and log.
        assert used <= 2 * (5 + 4)

        async def nothing_held() -> bool:
            # A lease that is renewed is between two statements of a transaction now and then.
            return not await pair.db.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                "application_name = 'samosachaat-chat-api' AND state LIKE 'idle in transaction%'"
            )

        await eventually(nothing_held)
        gate.open()
        for stream in streams:
            await stream.rest(40)
            assert stream.done["status"] == "complete"
            assert length(stream.text) == 3
