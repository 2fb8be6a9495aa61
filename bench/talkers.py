"""People who send and read all the time, and note what the service has acknowledged.

Every token of the scripted engine is numbered (tests.support.known): what is lost, doubled or out
of order in a stream shows at once, whatever connections it was read over.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tests.support.client import Client
from tests.support.known import Follower, asked_for, length, plan
from tests.support.service import Service

_PATIENCE_SECONDS = 45.0
"""For one event: heartbeats are not events, so a stream may be silent for as long as an outage."""


@dataclass
class Exchange:
    """One question, and what was acknowledged of it."""

    user_id: str
    conversation_id: str
    question: str
    key: str
    message_id: str | None = None
    text: str | None = None
    """Of an answer that was read to its `done`."""


@dataclass
class Tally:
    """What clients saw."""

    seen: Counter[str] = field(default_factory=Counter)
    exchanges: list[Exchange] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    """The longest time between two events of each answer, in seconds."""


class Talker:
    """One user with one conversation, who asks on either replica and never gives up."""

    def __init__(self, clients: Sequence[Client], tally: Tally, rng: random.Random) -> None:
        self.clients = clients
        self.tally = tally
        self.rng = rng
        self.conversation_id = ""

    async def talk(
        self, until: float, *, tokens: int = 40, pause: float = 0.05, think: float | None = None
    ) -> None:
        """Pause, ask and read until `until` (monotonic); the last answer is read to its end.

        `think` is the longest pause in seconds; by default, twice what an answer takes.
        """
        longest = 2 * tokens * pause if think is None else think
        while time.monotonic() < until:
            if not self.conversation_id:
                self.conversation_id = (await self._create())["id"]
            await asyncio.sleep(self.rng.uniform(0, longest))
            await self.exchange(plan(tokens, pause=pause))

    async def exchange(self, question: str) -> Exchange:
        """Send one question and read its answer, over as many connections as that takes."""
        client = self.clients[0]
        exchange = Exchange(client.user_id, self.conversation_id, question, uuid.uuid4().hex)
        reader = Follower()
        last = time.monotonic()
        longest = 0.0
        while reader.done is None:
            client = self.rng.choice(self.clients)
            try:
                async with AsyncExitStack() as stack:
                    stream = await stack.enter_async_context(
                        client.join(self.conversation_id, reader.cursor, expect=None)
                        if reader.cursor is not None
                        else client.send(
                            self.conversation_id,
                            question,
                            expect=None,
                            headers={"idempotency-key": exchange.key},
                        )
                    )
                    if stream.status != 200:
                        await self._refused(stream.status, await stream.problem())
                        continue
                    why = ""
                    while why not in {"done", "end", "broken", "silent"}:
                        why = await reader.read(stream, most=1, patience=_PATIENCE_SECONDS)
                        if not exchange.message_id and reader.message_id:
                            exchange.message_id = reader.message_id
                            self.tally.exchanges.append(exchange)
                        now = time.monotonic()
                        longest, last = max(longest, now - last), now
                    if why != "done":
                        self.tally.seen[f"stream {why}"] += 1
            except (httpx2.TransportError, TimeoutError) as error:
                self.tally.seen[type(error).__name__] += 1
                await asyncio.sleep(0.2)
        exchange.text = reader.text
        assert not reader.errors, reader.errors
        assert reader.done["status"] == "complete", reader.done
        assert length(reader.text) == asked_for(question)[0], "not the whole answer"
        self.tally.seen["answers"] += 1
        self.tally.seen["tokens"] += reader.kinds.count("token")
        for kind in ("reset", "snapshot"):
            self.tally.seen[kind] += reader.kinds.count(kind)
        self.tally.silences.append(longest)
        return exchange

    async def _create(self) -> dict[str, Any]:
        while True:
            try:
                response = await self.rng.choice(self.clients).post("/api/conversations", json={})
            except httpx2.TransportError as error:
                self.tally.seen[type(error).__name__] += 1
                await asyncio.sleep(0.2)
                continue
            if response.status_code == 201:
                created: dict[str, Any] = response.json()
                return created
            await self._refused(response.status_code, response.json())

    async def _refused(self, status: int, problem: dict[str, Any]) -> None:
        code = str(problem.get("type", "")).rpartition(":")[2]
        self.tally.seen[f"{status} {code}"] += 1
        assert status == 503, problem
        await asyncio.sleep(self.rng.uniform(0.2, 0.5))


@dataclass
class Gap:
    """A time without acknowledged writes on one replica."""

    replica: int
    began: float
    seconds: float
    statuses: Counter[str]


class Prober:
    """Writes ten times a second to one replica, and notes when writes are refused.

    The title of each conversation that was acknowledged is kept: it must be there at the end.
    """

    def __init__(self, client: Client, replica: int) -> None:
        self.client = client
        self.replica = replica
        self.acknowledged: list[str] = []
        self.gaps: list[Gap] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop` is set."""
        last_good = time.monotonic()
        statuses: Counter[str] = Counter()
        number = 0
        while not stop.is_set():
            number += 1
            title = f"probe {self.replica} {number} {uuid.uuid4().hex[:8]}"
            try:
                response = await self.client.post("/api/conversations", json={"title": title})
                outcome = str(response.status_code)
            except httpx2.TransportError as error:
                outcome = type(error).__name__
            now = time.monotonic()
            if outcome == "201":
                self.acknowledged.append(title)
                if statuses or now - last_good > 1:
                    self.gaps.append(Gap(self.replica, last_good, now - last_good, statuses))
                    statuses = Counter()
                last_good = now
            else:
                statuses[outcome] += 1
            await asyncio.sleep(0.1)


async def longest_gap(probers: Sequence[Prober], since: float) -> tuple[float, Counter[str]]:
    """Return the longest time without writes that began or ended after `since`, of any replica."""
    seconds, statuses = 0.0, Counter[str]()
    for prober in probers:
        for gap in prober.gaps:
            if gap.began + gap.seconds > since:
                seconds = max(seconds, gap.seconds)
                statuses += gap.statuses
    return seconds, statuses


def neighbours(auth_url: str, inference_url: str, key: str) -> dict[str, str]:
    """Return the environment of a replica, beside its database."""
    return {
        "AUTH_SERVICE_URL": auth_url,
        "INFERENCE_SERVICE_URL": inference_url,
        "INTERNAL_API_KEY": key,
        "LOG_LEVEL": "INFO",
        "DATABASE_POOL_SIZE": "5",
        "DRAIN_SECONDS": "3",
    }


def faults(services: Sequence[Service]) -> list[str]:
    """Return the lines of the logs that no outage explains."""
    return [
        str(line)[:400]
        for service in services
        for line in service.logs()
        if line.get("level") == "critical" or "Traceback" in str(line)
    ]
