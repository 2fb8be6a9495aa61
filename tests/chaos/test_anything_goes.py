"""Anything goes: people who cut, resume, stop and repeat, while fate kills what they talk to.

A seeded random driver. Hypothesis' state machines run one step after the other; here a dozen
people and fate act at the same time, as in life, so the driver is our own. A seed repeats the
decisions, not the timing. `CHAOS_SEED` and `CHAOS_SECONDS` set both; a failure names its seed.
"""

import asyncio
import contextlib
import copy
import logging
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, Stream
from tests.support.database import Databases
from tests.support.inference import Inference
from tests.support.known import Follower, asked_for, follow, length, plan, planned
from tests.support.service import Service
from tests.support.trees import FAULTS
from tests.support.waiting import eventually

from chat_api.local.postgres import EmbeddedPostgres

SECONDS = float(os.environ.get("CHAOS_SECONDS", "40"))
PEOPLE = int(os.environ.get("CHAOS_PEOPLE", "10"))
# A replica that says nothing for so long is left for the other.
PATIENCE = 3.0
# In which every request must have found its way, whatever fate does meanwhile.
STUCK_SECONDS = 60.0


@pytest.fixture(scope="module")
def durable(
    tmp_path_factory: pytest.TempPathFactory, internal_api_key: str
) -> Iterator[tuple[EmbeddedPostgres, Databases]]:
    """A server with PostgreSQL's own defaults, for fate to kill."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("chaos")) as server:
        yield server, Databases(server, internal_api_key)


@dataclass
class Person:
    """One user in one conversation, and what the service has promised to them."""

    clients: tuple[Client, Client]
    rng: random.Random
    conversation: str = ""
    accepted: list[str] = field(default_factory=list)
    """Questions that were acknowledged, in order."""
    heard: list[Follower] = field(default_factory=list)
    """Subscriptions that heard `done`."""
    partial: list[tuple[Follower, Follower]] = field(default_factory=list)
    """Where a reader once was, and that reader."""
    may_be_stopped: set[str] = field(default_factory=set)
    """Answers that were stopped or left."""
    sent: list[tuple[dict[str, str], str, Follower]] = field(default_factory=list)
    """Keys, their question (none: a regeneration), and the reader of the first try."""
    steps: int = 0
    doing: str = ""

    async def step(self) -> None:
        """Do something."""
        act = self.rng.choices(
            [
                self.listen,
                self.come_and_go,
                self.stop,
                self.leave,
                self.twice,
                self.audience,
                self.replay,
                self.look_back,
                self.edit,
                self.again,
                self.switch,
                self.delete,
            ],
            [4, 5, 4, 3, 2, 2, 2, 2, 3, 2, 3, 2],
        )[0]
        self.doing = act.__name__
        await act()
        self.steps += 1
        await self.look_at_the_tree()

    # What people do.

    async def listen(self) -> None:
        """Ask, and read to the end."""
        await self.finish(await self.begin())

    async def come_and_go(self) -> None:
        """Ask, and lose the connection every few events."""
        reader = await self.begin(most=self.rng.randint(1, 20))
        await self.finish(reader, most=self.rng.randint(1, 15))

    async def stop(self) -> None:
        """Ask, read a little, stop."""
        reader = await self.begin(most=self.rng.randint(1, 10), end="any")
        assert reader.message_id is not None
        self.may_be_stopped.add(reader.message_id)
        await self.halt()
        await self.finish(reader)

    async def leave(self) -> None:
        """Ask, read a little, and never come back: the next message may take the place."""
        reader = await self.begin(most=self.rng.randint(1, 10), end="any")
        assert reader.message_id is not None
        self.may_be_stopped.add(reader.message_id)
        if reader.done is not None:
            self.heard.append(reader)

    async def twice(self) -> None:
        """Ask the same twice at the same moment."""
        key, question = new_key(), self.question()
        self.accepted.append(question)
        first, second = await asyncio.gather(
            self.ask(question, key, self.clients[0]), self.ask(question, key, self.clients[1])
        )
        assert first.message_id == second.message_id
        for reader in (first, second):
            await self.finish(reader)
        assert first.text == second.text
        self.sent.append((key, question, first))

    async def audience(self) -> None:
        """Ask, and read along on other devices."""
        reader = await self.begin(most=self.rng.randint(1, 5))
        others = [copy.deepcopy(reader) for _ in range(3)]
        await asyncio.gather(
            *(self.finish(one, most=self.rng.choice([None, 5, 40])) for one in (reader, *others))
        )
        assert all(other.text == reader.text for other in others)
        assert all(other.done == reader.done for other in others)

    async def replay(self) -> None:
        """Repeat an old request with its key: nothing new is made."""
        if not self.sent:
            return
        key, question, first = self.rng.choice(self.sent)
        assert first.message_id is not None
        if first.done is None and first.message_id in self.may_be_stopped:
            return  # left: it may be one that never ends
        reader = await self.ask(question or None, key, gone=True)
        if reader is None:
            return  # replaced meanwhile
        assert reader.message_id == first.message_id
        await self.finish(reader)
        if first.done is not None:
            assert reader.done == first.done
            # Of a regeneration that came to nothing no text is kept.
            assert reader.text == first.text or "kept_message_id" in first.done

    async def look_back(self) -> None:
        """Come back with a cursor of long ago."""
        if not self.partial:
            return
        then, reader = self.rng.choice(self.partial)
        late = copy.deepcopy(then)
        if reader.done is None or "done" in late.kinds:
            return
        path = f"/api/conversations/{self.conversation}"
        messages = (await self.call(lambda client: client.get(path))).json()["messages"]
        there = any(message["id"] == reader.message_id for message in messages)
        if there or "kept_message_id" in reader.done:
            await self.finish(late, remember=False)
            assert (late.text, late.done) == (reader.text, reader.done)
            return
        # Replaced since: the cursor counts as none. (What was left may still run.)

        async def can_be_joined() -> bool:
            return await self.status_of_join(late.cursor) in {200, 204}

        await eventually(can_be_joined, STUCK_SECONDS)

    # What people do with the tree.

    async def edit(self) -> None:
        """Send another text in place of a question, and read its answer."""
        place = await self.pick("user")
        if place is None:
            return
        key, question = new_key(), self.question()
        kept = self.accepted[: place["number"]]
        reader = await self.ask(question, key, parent_id=place["parent_id"])
        self.accepted = [*kept, question]
        await self.finish(reader)

    async def again(self) -> None:
        """Have an earlier answer written again."""
        place = await self.pick("assistant")
        if place is None or asked_for(self.accepted[place["number"]])[1] == "hang":
            return
        key = new_key()
        reader = await self.ask(None, key, message_id=place["id"])
        await self.finish(reader)
        if reader.done is not None and reader.done["status"] == "complete":
            self.accepted = self.accepted[: place["number"] + 1]

    async def switch(self) -> None:
        """Show another version of something."""
        place = await self.pick("user", "assistant")
        if place is None:
            return
        base = f"/api/conversations/{self.conversation}"
        url = f"{base}/messages/{place['id']}/versions"
        items = (await self.call(lambda client: client.get(url))).json()["items"]
        body = {"message_id": self.rng.choice(items)["id"]}
        response = await self.call(lambda client: client.request("PUT", f"{base}/path", json=body))
        assert response.status_code == 200, response.text
        self.accepted = questions_of(response.json()["messages"])

    async def delete(self) -> None:
        """Delete a message with what follows it."""
        place = await self.pick("user", "assistant")
        if place is None or asked_for(self.accepted[place["number"]])[1] == "hang":
            return
        url = f"/api/conversations/{self.conversation}/messages/{place['id']}"
        response = await self.call(lambda client: client.delete(url))
        # 404: an earlier try was cut off after it had done it.
        assert response.status_code in {204, 404}, response.text
        opened = await self.call(
            lambda client: client.get(f"/api/conversations/{self.conversation}")
        )
        messages = opened.json()["messages"]
        if place["role"] == "assistant" and place["versions"] == 1:
            assert messages[-1]["id"] == place["parent_id"]
            # Every question gets an answer: the rest of this person takes turns for granted.
            key = new_key()
            reader = await self.ask(None, key)
            await self.finish(reader)
        self.accepted = questions_of(messages)

    async def pick(self, *roles: str) -> dict[str, Any] | None:
        """A shown message of these roles, with the number of its question, once nothing runs."""
        await self.halt_if_any()
        opened = await self.call(
            lambda client: client.get(f"/api/conversations/{self.conversation}")
        )
        messages: list[dict[str, Any]] = opened.json()["messages"]
        assert questions_of(messages) == self.accepted
        self.may_be_stopped.update(
            message["id"] for message in messages if message["status"] == "stopped"
        )
        found = [
            message | {"number": index // 2}
            for index, message in enumerate(messages)
            if message["role"] in roles
        ]
        return self.rng.choice(found) if found else None

    async def look_at_the_tree(self) -> None:
        """Whatever has happened, the shown messages form one chain from a first one to a leaf."""
        rows = await self.call(lambda client: client.get(f"/api/conversations/{self.conversation}"))
        parent = None
        for message in rows.json()["messages"]:
            assert message["parent_id"] == parent, rows.json()
            assert 1 <= message["version"] <= message["versions"]
            parent = message["id"]

    # How they do it.

    def question(self, end: str = "done") -> str:
        """Something to ask; `end` "any" may also have no end, and must be stopped or left."""
        ends = ["done"] * 8 + ["cut", "bare"] + (["hang"] * 3 if end == "any" else [])
        return plan(
            self.rng.choice([0, 1, 5, 20, 60]),
            pause=self.rng.choice([0.0, 0.01, 0.03]),
            end=self.rng.choice(ends),
        )

    async def begin(self, *, most: int | None = None, end: str = "done") -> Follower:
        """Send something new, or regenerate, and read so many events of it."""
        key = new_key()
        last_hangs = bool(self.accepted) and asked_for(self.accepted[-1])[1] == "hang"
        if self.accepted and self.rng.random() < 0.3 and not (last_hangs and end != "any"):
            reader: Follower = await self.ask(None, key, most=most)
            self.sent.append((key, "", reader))
        else:
            question = self.question(end)
            self.accepted.append(question)
            reader = await self.ask(question, key, most=most)
            self.sent.append((key, question, reader))
        self.partial.append((copy.deepcopy(reader), reader))
        return reader

    async def ask(
        self,
        question: str | None,
        key: dict[str, str],
        client: Client | None = None,
        *,
        most: int | None = None,
        gone: bool = False,
        **place: Any,
    ) -> Any:
        """Send with a key until there is a start; a reader. With `gone`, None where it is gone."""
        async with asyncio.timeout(STUCK_SECONDS):
            while True:
                reader = Follower()
                using = client or self.rng.choice(self.clients)
                client = None
                request = (
                    using.regenerate(self.conversation, headers=key, expect=None, **place)
                    if question is None
                    else using.send(self.conversation, question, headers=key, expect=None, **place)
                )
                with contextlib.suppress(httpx2.TransportError, TimeoutError):
                    async with contextlib.AsyncExitStack() as stack:
                        async with asyncio.timeout(PATIENCE):
                            stream: Stream = await stack.enter_async_context(request)
                        if stream.status == 200:
                            await reader.read(stream, most=most, patience=PATIENCE)
                            assert {"reset", "snapshot"}.isdisjoint(reader.kinds)
                        elif stream.status == 409:
                            # Only this client is here: the former subscribers will be found gone.
                            kind = (await stream.problem())["type"].rpartition(":")[2]
                            if gone and kind == "answer_gone":
                                return None
                            assert kind == "conversation_busy"
                        else:
                            assert stream.status == 503, await stream.problem()
                            assert "retry-after" in stream.headers
                if reader.message_id is not None:
                    return reader
                await asyncio.sleep(0.05)

    async def finish(
        self, reader: Follower, *, most: int | None = None, remember: bool = True
    ) -> None:
        """Read to the end, over as many connections as it takes."""
        self.doing += f" finish {reader.message_id} at {reader.cursor}"
        await follow(
            reader,
            self.conversation,
            self.clients,
            timeout=STUCK_SECONDS,
            patience=PATIENCE,
            most=most,
            choose=self.rng.choice,
        )
        if remember:
            self.heard.append(reader)

    async def status_of_join(self, cursor: str | None) -> int:
        """What a replica answers to this cursor; 0 for nothing."""
        client = self.rng.choice(self.clients)
        with contextlib.suppress(httpx2.TransportError, TimeoutError):
            async with contextlib.AsyncExitStack() as stack:
                request = client.join(self.conversation, cursor, expect=None)
                async with asyncio.timeout(PATIENCE):
                    return (await stack.enter_async_context(request)).status
        return 0

    async def halt(self) -> None:
        """Stop, until the service says that it is."""
        path = f"/api/conversations/{self.conversation}/stop"
        response = await self.call(lambda client: client.post(path))
        assert response.status_code == 200, response.text
        assert response.json()["status"] != "generating"

    async def halt_if_any(self) -> None:
        """Stop what may still run."""
        if self.accepted:
            await self.halt()

    async def call(
        self, request: Callable[[Client], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        """A plain request, until it is answered by anything but 503."""
        async with asyncio.timeout(STUCK_SECONDS):
            while True:
                with contextlib.suppress(httpx2.TransportError, TimeoutError):
                    async with asyncio.timeout(PATIENCE + 2):
                        response = await request(self.rng.choice(self.clients))
                    if response.status_code != 503:
                        return response
                    assert "retry-after" in response.headers
                await asyncio.sleep(0.05)

    async def open(self) -> None:
        """A conversation to be in."""
        response = await self.call(lambda client: client.post("/api/conversations", json={}))
        assert response.status_code == 201
        self.conversation = response.json()["id"]


def questions_of(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


def new_key() -> dict[str, str]:
    return {"idempotency-key": uuid.uuid4().hex}


class Fate:
    """Does things to replicas and to the database, one after the other."""

    def __init__(
        self, pair: Pair, server: EmbeddedPostgres, rng: random.Random, until: float
    ) -> None:
        self.pair = pair
        self.server = server
        self.rng = rng
        self.until = until
        self.deeds: list[str] = []

    async def work(self) -> None:
        """Strike every second or two, and leave everything running."""
        while time.monotonic() < self.until:
            await asyncio.sleep(self.rng.uniform(0.3, 2.5))
            deed = self.rng.choices(
                [
                    self.kill,
                    self.kill_both,
                    self.freeze,
                    self.restart,
                    self.cut_connections,
                    self.stop_database,
                    self.kill_database,
                    self.everything_at_once,
                ],
                [6, 1, 4, 4, 3, 1, 1, 1],
            )[0]
            self.deeds.append(deed.__name__)
            await deed()

    def one(self) -> Service:
        return self.rng.choice(self.pair.services)

    async def kill(self) -> None:
        service = self.one()
        service.kill()
        await asyncio.sleep(self.rng.uniform(0, 2))
        service.start(wait=False)
        await asyncio.to_thread(service.wait_alive)

    async def kill_both(self) -> None:
        for service in self.pair.services:
            service.kill()
        for service in self.pair.services:
            service.start(wait=False)
        for service in self.pair.services:
            await asyncio.to_thread(service.wait_alive)

    async def freeze(self) -> None:
        service = self.one()
        service.pause()
        await asyncio.sleep(self.rng.uniform(0.2, 4))
        service.resume()

    async def restart(self) -> None:
        service = self.one()
        assert await asyncio.to_thread(service.stop) == 0
        service.start(wait=False)
        await asyncio.to_thread(service.wait_alive)

    async def cut_connections(self) -> None:
        await self.pair.db.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'samosachaat-chat-api' AND datname = current_database()"
        )

    async def stop_database(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(self.rng.uniform(0, 2))
        await asyncio.to_thread(self.server.start)

    async def everything_at_once(self) -> None:
        """The database goes, and a replica with it, which comes back before the database does."""
        service = self.one()
        await asyncio.to_thread(self.server.kill)
        service.kill()
        service.start(wait=False)
        await asyncio.to_thread(service.wait_alive)
        await asyncio.to_thread(self.server.start)

    async def kill_database(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


@pytest.mark.case(65)
@pytest.mark.timeout(SECONDS + 200)
# A request that is given up while its connection is being made leaves that to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
async def test_whatever_happens_every_reader_is_told_what_the_database_says(
    start_pair: StartPair,
    durable: tuple[EmbeddedPostgres, Databases],
    inference: Inference,
) -> None:
    """Exactly once, in order, without a silent gap; no client stuck; every status true."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    logging.getLogger(__name__).warning("CHAOS_SEED=%d CHAOS_SECONDS=%g", seed, SECONDS)
    inference.default = planned()
    server, databases = durable
    pair = await start_pair(
        database_url=databases.migrated(), DATABASE_TIMEOUT_SECONDS="3", DRAIN_SECONDS="4"
    )
    until = time.monotonic() + SECONDS
    people = [Person(pair.clients, random.Random(f"{seed}/{n}")) for n in range(PEOPLE)]
    fate = Fate(pair, server, random.Random(f"{seed}/fate"), until)

    async def live(person: Person) -> None:
        await person.open()
        while time.monotonic() < until:
            await person.step()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fate.work(), name="fate")
            for person in people:
                group.create_task(live(person), name="person")
        await judge(pair, people)
    except BaseException as error:
        error.add_note(f"CHAOS_SEED={seed} CHAOS_SECONDS={SECONDS:g}")
        error.add_note(f"fate: {fate.deeds[-8:]}")
        error.add_note(await situation(pair, people))
        raise
    steps = sum(person.steps for person in people)
    logging.getLogger(__name__).warning("%d steps, %d strikes", steps, len(fate.deeds))
    assert steps > PEOPLE


async def situation(pair: Pair, people: list[Person]) -> str:
    """What somebody will want to know who reads that this has failed."""
    lines = []
    with contextlib.suppress(Exception):
        for row in await pair.db.fetch(
            "SELECT now(), g.message_id, g.attempt, g.crashes, g.owner, g.lease_until, "
            "g.stop_requested, g.ended_at, g.status, g.last_event, (SELECT array_agg("
            "array[l.attempt, l.first_event, l.last_event] ORDER BY l.attempt, l.last_event) "
            "FROM event_log l WHERE l.message_id = g.message_id) AS log FROM generations g "
            "WHERE g.ended_at IS NULL OR g.ended_at > now() - interval '90 seconds'"
        ):
            lines.append(str({name: str(value) for name, value in row.items()}))  # noqa: PERF401
    for person in people:
        lines.append(f"{person.conversation}: {person.doing}")  # noqa: PERF401
    for service in pair.services:
        lines += ["", *service.text().splitlines()[-60:]]
    return "\n".join(lines)


async def judge(pair: Pair, people: list[Person]) -> None:
    """Compare what was acknowledged and heard with what the database says."""

    async def none_runs() -> bool:
        left = await pair.db.fetch(
            "SELECT g.message_id, q.content FROM generations g "
            "JOIN messages q ON q.id = g.question_id WHERE g.ended_at IS NULL"
        )
        # One that was left, and that upstream never ends, goes on until it is stopped.
        assert all(asked_for(row["content"])[1] == "hang" for row in left), left
        return True

    await eventually(none_runs, STUCK_SECONDS)
    for person in people:
        await person.halt_if_any()
        await check(pair, person)
    assert await pair.db.value("SELECT count(*) FROM messages WHERE status = 'generating'") == 0
    assert await pair.db.value("SELECT count(*) FROM messages WHERE replaces <> id") == 0
    for person in people:
        assert await pair.db.fetch(FAULTS, uuid.UUID(person.conversation)) == []


async def check(pair: Pair, person: Person) -> None:
    """One conversation."""
    response = await person.call(
        lambda client: client.get(f"/api/conversations/{person.conversation}")
    )
    messages: list[dict[str, Any]] = response.json()["messages"]
    questions = [message["content"] for message in messages if message["role"] == "user"]
    assert questions == person.accepted
    assert [message["role"] for message in messages] == ["user", "assistant"] * len(questions)
    generations = {
        str(row["id"]): row
        for row in await pair.db.fetch(
            "SELECT message_id AS id, status, crashes, attempt FROM generations "
            "WHERE conversation_id = $1",
            person.conversation,
        )
    }
    answers = {message["id"]: message for message in messages[1::2]}
    for question, answer in zip(questions, messages[1::2], strict=True):
        count, end = asked_for(question)
        written = length(answer["content"])
        crashes = generations[answer["id"]]["crashes"]
        assert written <= count
        assert (answer["token_count"] == written) or crashes
        if answer["status"] == "complete":
            assert (written, end) == (count, "done")
        elif answer["status"] == "stopped":
            assert answer["id"] in person.may_be_stopped
        elif answer["status"] == "interrupted":
            assert end in {"cut", "bare"} or crashes >= 3
        else:
            assert (answer["status"], end, written) == ("failed", "cut", 0)
    for reader in person.heard:
        assert reader.done is not None
        assert reader.message_id is not None
        assert reader.done["status"] == generations[reader.message_id]["status"]
        if reader.message_id in answers:
            answer = answers[reader.message_id]
            assert (reader.text, reader.done["status"]) == (answer["content"], answer["status"])
            assert "kept_message_id" not in reader.done
        else:
            # Replaced since, or a regeneration that came to nothing.
            assert reader.done["status"] != "generating"
