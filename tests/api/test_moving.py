"""A user moves from one cell to another: what their clients see of it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Database, Databases
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import counted, numbered
from tests.support.service import StartService
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

from chat_api.moving import Move, Plan


@dataclass
class Cells:
    """Two cells of one replica each, and the same user at either."""

    old: Client
    new: Client
    old_db: Database
    new_db: Database

    def move(self, drain_seconds: float = 20.0) -> "asyncio.Task[None]":
        plan = Plan(
            self.old.user_id,
            self.old_db.url,
            self.new_db.url,
            "two",
            drain_seconds=drain_seconds,
            grace_seconds=2,
        )
        return asyncio.create_task(Move(plan, None).run())

    async def reached(self, state: str) -> None:
        """Wait until the move has come so far."""

        async def is_there() -> bool:
            statement = "SELECT 1 FROM frozen_users WHERE state = $1"
            return bool(await self.old_db.value(statement, state))

        await eventually(is_there)


@pytest.fixture
async def cells(
    start_service: StartService, databases: Databases, clients: MakeClient, auth: AuthServer
) -> AsyncIterator[Cells]:
    urls = databases.migrated(), databases.migrated()
    services = [start_service(DATABASE_URL=url, LEASE_SECONDS="2", wait=False) for url in urls]
    for service in services:
        service.wait_ready()
    alice = auth.user("alice")
    here, there = (clients(service, alice) for service in services)
    yield Cells(here, there, Database(urls[0]), Database(urls[1]))
    for service in services:
        assert [line for line in service.logs() if line.get("level") == "critical"] == []


async def _exported(client: Client) -> list[str]:
    response = await client.get("/api/export")
    assert response.status_code == 200
    return sorted(response.text.splitlines())


async def _changes(alice: Client, conversation: str) -> list[tuple[str, str, Any]]:
    """Requests that would change something, one of each kind."""
    kept = f"/api/conversations/{conversation}"
    answer = (await alice.messages(conversation))[1]["id"]
    versions = (await alice.get(f"{kept}/messages/{answer}/versions")).json()["items"]
    hidden = next(version["id"] for version in versions if version["id"] != answer)
    fork = {"fork": {"conversation_id": conversation, "message_id": answer}}
    return [
        ("POST", "/api/conversations", {}),
        ("POST", "/api/conversations", fork),
        ("PATCH", kept, {"title": "New"}),
        ("POST", f"{kept}/messages", {"content": "Three"}),
        ("POST", f"{kept}/regenerate", {}),
        ("PUT", f"{kept}/path", {"message_id": hidden}),
        ("DELETE", f"{kept}/messages/{answer}", None),
        ("DELETE", kept, None),
        ("POST", "/api/import", {"id": "x", "title": "New", "messages": []}),
        ("DELETE", "/api/me", None),
        ("POST", "/v1/responses", {"model": "default", "input": "Hello"}),
    ]


@pytest.mark.case(92)
async def test_changes_are_refused_while_a_user_moves_and_nothing_is_lost(
    cells: Cells, inference: Inference, auth: AuthServer
) -> None:
    old, new = cells.old, cells.new
    conversation = (await old.create(title="Kept", tags=["a"], instructions="Be brief"))["id"]
    key = {"idempotency-key": "first"}
    await old.ask(conversation, "Zero")
    async with old.regenerate(conversation) as stream:
        await stream.rest()
    first = await old.ask_raw(conversation, {"content": "One"}, **key)
    gate = Gate()
    inference.once(counted(3).wait(gate).count(3).done())
    other = (await old.create())["id"]
    async with old.send(other, "Two") as stream:
        await stream.until(numbered(2))
        moving = cells.move()
        await cells.reached("draining")
        for method, path, body in await _changes(old, conversation):
            refused = await old.request(method, path, json=body)
            assert refused.status_code == 503, (method, path, refused.text)
            assert "retry-after" in refused.headers
            if path.startswith("/api"):
                assert check_problem(refused, 503)["type"].endswith(":user_moving")
        assert (await old.conversation(conversation))["title"] == "Kept"
        gate.open()
        await stream.rest()
        assert stream.done["status"] == "complete"
    before = await _exported(old)
    usage = (await old.get("/api/usage")).json()
    await cells.reached("moved")
    check_problem(await old.post("/api/conversations", json={}), 503)
    await moving
    assert await _exported(new) == before
    repeated = await new.ask_raw(conversation, {"content": "One"}, **key)
    assert repeated.json()["id"] == first.json()["id"]
    assert (await new.get("/api/usage")).json() == usage
    assert (await new.ask(conversation, "Three"))["status"] == "complete"
    assert await cells.old_db.value("SELECT count(*) FROM messages") == 0
    bob = auth.user("bob")
    async with Client(old.url, bob) as neighbour:
        assert (await neighbour.create())["user_id"] == bob.id


@pytest.mark.case(92)
async def test_an_answer_that_takes_too_long_is_stopped_and_keeps_its_text(
    cells: Cells, inference: Inference
) -> None:
    inference.once(counted(4).hang())
    conversation = (await cells.old.create())["id"]
    async with cells.old.send(conversation, "Count") as stream:
        await stream.until(numbered(3))
        moving = cells.move(drain_seconds=0.1)
        await stream.rest()
        assert stream.done["status"] == "stopped"
        text = stream.text
    await moving
    answer = (await cells.new.messages(conversation))[-1]
    assert (answer["content"], answer["status"]) == (text, "stopped")


@pytest.mark.case(92)
async def test_change_feeds_end_in_the_old_cell_and_go_on_in_the_new_one(cells: Cells) -> None:
    accept = {"accept": "text/event-stream"}
    async with cells.old.stream("GET", "/api/changes", headers=accept) as feed:
        await feed.until(lambda event: "cursor" in event.data)
        conversation = (await cells.old.create())["id"]
        await feed.until(lambda event: "conversation" in event.data)
        cursor = feed.cursor
        moving = cells.move()
        await feed.rest()
        told = [event.data for event in feed.events]
        assert not any("deleted" in data for data in told)
    async with cells.old.stream("GET", "/api/changes", headers=accept, expect=503):
        pass
    await moving
    resumed = {**accept, "last-event-id": cursor}
    async with cells.new.stream("GET", "/api/changes", headers=resumed) as feed:
        await cells.new.ask(conversation, "Hello")
        await feed.until(lambda event: "answer" in event.data)
        assert not any("resync" in event.data for event in feed.events)


@pytest.mark.case(91)
def test_the_command_moves_a_user_and_says_what_is_wrong(
    databases: Databases, tmp_path: object
) -> None:
    urls = databases.migrated(), databases.migrated()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        named = ["--source", urls[0], "--target", urls[1], "--cell", "two", "--grace", "1"]
        return subprocess.run(
            [sys.executable, "-m", "chat_api.cli", "move-user", *arguments, *named],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = run("unknown")
    assert (done.returncode, done.stderr) == (1, "The user has no data in the old cell.\n")
    assert run("a b", "--map", f"{tmp_path}/cells.map").returncode == 1
    assert run("unknown", "--haproxy", "/tmp/socket").returncode == 2
