"""The change feed on two replicas that are killed, with database backends that are killed."""

import asyncio
import contextlib
import random
from typing import Any

import httpx2
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, StreamEndedError
from tests.support.waiting import eventually


class Device:
    """A client of the change feed that follows it on one replica or the other, to no end."""

    def __init__(self, clients: tuple[Client, ...]) -> None:
        self._clients = clients
        self.cursor: str | None = None
        self.changes: list[tuple[int, dict[str, Any]]] = []
        self.arrived = asyncio.Event()

    async def follow(self) -> None:
        turn = 0
        while True:
            client = self._clients[turn % len(self._clients)]
            turn += 1
            headers = {} if self.cursor is None else {"last-event-id": self.cursor}
            with contextlib.suppress(StreamEndedError, httpx2.HTTPError):
                async with client.stream(
                    "GET", "/api/changes", headers=headers, expect=None
                ) as stream:
                    while stream.status == 200:
                        event = await stream.next(timeout=60)
                        self.cursor = event.id
                        self.changes.append((int(event.id), event.data))
                        self.arrived.set()
            await asyncio.sleep(0.05)

    async def until_deleted(self, conversation_id: str) -> None:
        async with asyncio.timeout(60):
            while not any(data.get("deleted") == conversation_id for _, data in self.changes):
                self.arrived.clear()
                await self.arrived.wait()

    def replayed(self) -> dict[str, str]:
        """The titles of the conversations that are left, from the changes alone."""
        titles: dict[str, str] = {}
        for _, data in self.changes:
            if "conversation" in data:
                titles[data["conversation"]["id"]] = data["conversation"]["title"]
            elif "deleted" in data:
                titles.pop(data["deleted"], None)
        return titles


async def change_something(client: Client, known: list[str], rng: random.Random) -> None:
    """One random change; it may fail where a replica or a connection is killed meanwhile."""
    with contextlib.suppress(AssertionError, httpx2.HTTPError):
        action = rng.choice(["create", "create", "rename", "delete", "ask"]) if known else "create"
        if action == "create":
            known.append((await client.create(title=f"New {rng.random()}"))["id"])
        elif action == "delete":
            await client.delete(f"/api/conversations/{known.pop(rng.choice(range(len(known))))}")
        elif action == "rename":
            path = f"/api/conversations/{rng.choice(known)}"
            await client.patch(path, json={"title": f"Renamed {rng.random()}"})
        else:
            await client.ask(rng.choice(known), "Why?")


@pytest.mark.case(69)
@pytest.mark.timeout(300)
async def test_two_devices_see_every_committed_change_through_kills(
    start_pair: StartPair, request: pytest.FixtureRequest
) -> None:
    pair: Pair = await start_pair()
    rng = random.Random(int(request.config.getoption("hypothesis_seed")))
    devices = [Device(pair.clients), Device(pair.clients[::-1])]
    following = [asyncio.create_task(device.follow()) for device in devices]
    async with asyncio.timeout(60):
        for device in devices:
            await device.arrived.wait()
    known: list[str] = []
    for step in range(24):
        changing = [
            change_something(rng.choice(pair.clients), known, rng) for _ in range(rng.randint(2, 6))
        ]
        if step % 8 == 3:
            changing.append(kill_backends(pair))
        if step % 8 == 7:
            changing.append(kill_replica(pair, rng.randrange(2)))
        await asyncio.gather(*changing)
        if step % 8 == 7:
            for service in pair.services:
                if not service.running:
                    await asyncio.to_thread(service.start)
    # An answer of a killed replica is taken over seconds later, and its end is a change as well.
    await eventually(lambda: nothing_runs(pair), 30)
    last = await pair.here.create(title="The last one")
    await pair.here.delete(f"/api/conversations/{last['id']}")
    for device in devices:
        await device.until_deleted(last["id"])
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    left = await pair.db.fetch(
        "SELECT id::text AS id, title FROM conversations WHERE user_id = $1", pair.here.user_id
    )
    written = await pair.db.fetch(
        "SELECT number FROM changes WHERE user_id = $1 ORDER BY number", pair.here.user_id
    )
    answers = await pair.db.fetch(
        "SELECT number FROM changes WHERE user_id = $1 AND message_id IS NOT NULL",
        pair.here.user_id,
    )
    for device in devices:
        numbers = [number for number, _ in device.changes]
        assert numbers == sorted(set(numbers))
        assert not any("resync" in data for _, data in device.changes)
        assert set(numbers) <= {row["number"] for row in written}
        # Of a conversation only the newest state is told; answers are told one by one.
        assert {number for number, data in device.changes if "answer" in data} == {
            row["number"] for row in answers if row["number"] > numbers[0]
        }
        assert device.replayed() == {row["id"]: row["title"] for row in left}


async def nothing_runs(pair: Pair) -> bool:
    running = await pair.db.value("SELECT count(*) FROM generations WHERE ended_at IS NULL")
    return bool(running == 0)


async def kill_backends(pair: Pair) -> None:
    await pair.db.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def kill_replica(pair: Pair, index: int) -> None:
    await asyncio.to_thread(pair.services[index].kill)
