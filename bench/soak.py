"""Three hundred people for half an hour: nothing may grow, fail or get lost.

    make soak                       SOAK_SECONDS, SOAK_USERS and SOAK_SEED change it

Two replicas, a PostgreSQL with its own defaults, a scripted inference service whose every token is
numbered. People send, read, are cut off and resume on either replica, stop, leave in mid-answer,
regenerate, and delete old conversations. Each checks what it reads token by token, and each
conversation is compared with the database before it is deleted. Every five seconds memory (PSS),
file handles, connections and rows are noted. At the end the median of the last quarter must not
exceed that of the second by more than TOLERANCE. It writes docs/pictures/soak.json and soak.svg.
"""

import asyncio
import json
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.database import Database, Databases
from tests.support.inference import Inference
from tests.support.known import Follower, asked_for, follow, length, plan, planned
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.wire import Wire, WireRequest

from bench.picture import Chart, Line, draw
from chat_api.local.postgres import EmbeddedPostgres

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
USERS = int(os.environ.get("SOAK_USERS", "300"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(2**32))
SAMPLE_SECONDS = 5.0
PAUSE_SECONDS = 8.0
"""How long people think between two things that they do, on average."""
EXCHANGES = 6
"""So many questions a conversation; then it is checked, and deleted."""
KEY = "key-of-the-soak-51d07c2e9ab84f63"
# The log is kept for less time than by default, so that short runs see it level off.
SETTINGS = {"LOG_RETENTION_SECONDS": "30", "DATABASE_POOL_SIZE": "10", "LOG_LEVEL": "WARNING"}
# By how much the last quarter may exceed the second: a part of it, and so much more.
TOLERANCE: Mapping[str, tuple[float, float]] = {
    "memory_mb": (0.05, 3),
    "handles": (0.10, 20),
    "connections": (0.10, 20),
    "database_connections": (0.0, 2),
    "log_rows": (0.20, 300),
    "subscriptions": (0.20, 60),
}
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


@dataclass
class Tally:
    """What has happened so far."""

    done: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from sending to the first event, since the last sample."""


@dataclass
class User:
    """Somebody in a conversation, and what the service has promised to them."""

    clients: Sequence[Client]
    rng: random.Random
    tally: Tally
    conversation: str = ""
    asked: list[str] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    """The text of each answer that was read to its end, by the answer's id."""

    async def live(self, until: float) -> None:
        """Do things until it is time to go."""
        while time.monotonic() < until:
            await asyncio.sleep(self.rng.expovariate(1 / PAUSE_SECONDS))
            if not self.conversation:
                self.conversation = (await self.anyone().create())["id"]
            act = self.rng.choices(
                [self.listen, self.resume, self.stop, self.leave, self.regenerate, self.look],
                [5, 4, 2, 2, 1, 2],
            )[0]
            await act()
            self.tally.done[act.__name__] += 1
            if len(self.asked) >= EXCHANGES:
                await self.check()
                response = await self.anyone().delete(f"/api/conversations/{self.conversation}")
                assert response.status_code == 204, response.text
                self.conversation, self.asked, self.read = "", [], {}

    def anyone(self) -> Client:
        """Either replica."""
        return self.rng.choice(self.clients)

    async def listen(self) -> None:
        """Ask, and read to the end."""
        await self.finish(await self.ask())

    async def resume(self) -> None:
        """Ask, and lose the connection every few events."""
        reader = await self.ask(most=self.rng.randint(1, 12))
        await self.finish(reader, most=self.rng.randint(4, 20))
        self.tally.done["cuts"] += 1

    async def stop(self) -> None:
        """Ask for what never ends, and stop it on either replica."""
        reader = await self.ask(most=self.rng.randint(1, 3), end="hang")
        response = await self.anyone().post(f"/api/conversations/{self.conversation}/stop")
        assert response.status_code == 200, response.text
        assert response.json()["status"] == "stopped", response.text
        await self.finish(reader, fenced=True)

    async def leave(self) -> None:
        """Ask, and be gone: the next question takes the place, or the answer ends by itself."""
        await self.ask(most=self.rng.randint(1, 5))

    async def regenerate(self) -> None:
        """Regenerate the last answer."""
        if self.asked and asked_for(self.asked[-1])[1] == "done":
            await self.finish(await self.ask(again=True))

    async def look(self) -> None:
        """Open the list and the conversation, as a page does that is loaded."""
        for path in ("", f"/{self.conversation}"):
            response = await self.anyone().get(f"/api/conversations{path}")
            assert response.status_code == 200, response.text

    async def ask(
        self, *, most: int | None = None, end: str = "done", again: bool = False
    ) -> Follower:
        """Send, and read so many events."""
        question = plan(self.rng.randint(3, 60), pause=self.rng.choice([0.01, 0.03]), end=end)
        while True:
            reader = Follower()
            client = self.anyone()
            began = time.monotonic()
            async with AsyncExitStack() as stack:
                request = (
                    client.regenerate(self.conversation, expect=None)
                    if again
                    else client.send(self.conversation, question, expect=None)
                )
                stream = await stack.enter_async_context(request)
                if stream.status == 200:
                    if not again:
                        self.asked.append(question)
                    await reader.read(stream, most=1)
                    self.tally.waits.append(time.monotonic() - began)
                    if most is None or most > 1:
                        await reader.read(stream, most=None if most is None else most - 1)
                    return reader
                # Who has just left may still be listened for.
                assert stream.status == 409, f"{stream.status}: {await stream.problem()}"
                self.tally.done["busy"] += 1
            await asyncio.sleep(0.2)

    async def finish(
        self, reader: Follower, *, most: int | None = None, fenced: bool = False
    ) -> None:
        """Read to the end, over as many connections as it takes."""
        await follow(
            reader,
            self.conversation,
            self.clients,
            timeout=300,
            most=most,
            choose=self.rng.choice,
        )
        assert reader.done is not None
        assert reader.message_id is not None
        assert not reader.errors, reader.errors
        # A stop fences an owner that does not react within a second, as on an overfull machine.
        self.tally.done["fenced"] += reader.kinds.count("reset")
        assert fenced or "reset" not in reader.kinds, "a takeover without a crash"
        self.read[reader.message_id] = reader.text
        self.tally.done["tokens"] += reader.kinds.count("token")

    async def check(self) -> None:
        """Compare what was asked and read with what the service has kept."""
        messages = await self.anyone().messages(self.conversation)
        questions = [message["content"] for message in messages if message["role"] == "user"]
        assert questions == self.asked, "a question is lost"
        assert [message["role"] for message in messages] == ["user", "assistant"] * len(questions)
        for message in messages[1::2]:
            length(message["content"])
            if message["id"] in self.read:
                assert message["content"] == self.read[message["id"]], "not what was read"
        self.tally.done["checked"] += len(questions)


class Forgetful(Inference):
    """Remembers the latest calls only: it is not the one whose memory is measured."""

    async def answer(self, request: WireRequest, wire: Wire) -> None:
        del self.calls[:-1000]
        await super().answer(request, wire)


@dataclass
class Watch:
    """Notes how things are, every few seconds."""

    services: Sequence[Service]
    db: Database
    tally: Tally
    samples: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, until: float) -> None:
        """Until it is time to go."""
        began = time.monotonic()
        while (now := time.monotonic()) < until:
            self.samples.append({"at": round(now - began, 1), **(await self.sample())})
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self) -> dict[str, Any]:
        """Return how things are now; lists have a place for each replica."""
        [row] = await self.db.fetch(
            "SELECT (SELECT count(*) FROM event_log) AS log_rows, "
            "(SELECT count(*) FROM subscriptions) AS subscriptions, "
            "(SELECT count(*) FROM generations WHERE ended_at IS NULL) AS running, "
            "(SELECT count(*) FROM conversations) AS conversations, "
            "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'samosachaat-chat-api') AS database_connections"
        )
        processes = [psutil.Process(service.pid) for service in self.services]
        waits, self.tally.waits = sorted(self.tally.waits), []
        return {
            **row,
            "memory_mb": [round(p.memory_full_info().pss / 1e6, 1) for p in processes],
            "handles": [process.num_fds() for process in processes],
            "connections": [len(process.net_connections("tcp4")) for process in processes],
            "tokens": self.tally.done["tokens"],
            "first_event_p50": round(statistics.median(waits), 3) if waits else None,
            "first_event_p99": round(waits[int(len(waits) * 0.99)], 3) if waits else None,
        }


def verdicts(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each measure: the medians of the second and the last quarter, and whether it is flat."""
    quarter = len(samples) // 4
    found = []
    for name, (part, more) in TOLERANCE.items():
        width = len(samples[0][name]) if isinstance(samples[0][name], list) else 1
        for index in range(width):
            values = [s[name][index] if isinstance(s[name], list) else s[name] for s in samples]
            second = statistics.median(values[quarter : 2 * quarter])
            last = statistics.median(values[-quarter:])
            found.append(
                {
                    "measure": name if width == 1 else f"{name}[{index}]",
                    "second_quarter": second,
                    "last_quarter": last,
                    "allowed": round(second * (1 + part) + more, 1),
                    "flat": last <= second * (1 + part) + more,
                }
            )
    return found


def picture(samples: Sequence[Mapping[str, Any]], subtitle: str) -> None:
    """docs/pictures/soak.svg."""

    def line(name: str, measure: str, index: int | None = None) -> Line:
        points = [
            (s["at"] / 60, s[measure] if index is None else s[measure][index]) for s in samples
        ]
        return Line(name, [(at, value) for at, value in points if value is not None])

    def each(measure: str) -> list[Line]:
        return [line(f"replica {index + 1}", measure, index) for index in range(2)]

    draw(
        PICTURES / "soak.svg",
        [
            Chart("Memory of a replica", each("memory_mb"), "minutes", "MB (PSS)"),
            Chart("File handles of a replica", each("handles"), "minutes", "handles"),
            Chart(
                "Rows and running answers",
                [
                    line("rows of the log", "log_rows"),
                    line("subscriptions", "subscriptions"),
                    line("running answers", "running"),
                ],
                "minutes",
                "rows",
            ),
            Chart(
                "Sending to the first event",
                [line("median", "first_event_p50"), line("99 %", "first_event_p99")],
                "minutes",
                "seconds",
            ),
        ],
        title=f"{USERS} people, two replicas",
        subtitle=subtitle,
        columns=2,
    )


async def counted(services: Sequence[Service], pattern: str) -> int:
    """Return what the metrics whose line fits add up to, on all replicas."""
    async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
        pages = [(await http.get(f"{service.url}/metrics")).text for service in services]
    rows = [row for page in pages for row in page.splitlines() if re.match(pattern, row)]
    return round(sum(float(row.rpartition(" ")[2]) for row in rows))


async def soak(services: Sequence[Service], db: Database, auth: AuthServer) -> dict[str, Any]:
    """Run the soak, and return its report. Raise AssertionError if a promise was broken."""
    tally = Tally()
    watch = Watch(services, db, tally)
    until = time.monotonic() + SECONDS
    users = []
    async with AsyncExitStack() as stack:
        for number in range(USERS):
            account = auth.user(f"user-{number}", expires_in=10**6)
            clients = [
                await stack.enter_async_context(Client(service.url, account))
                for service in services
            ]
            users.append(User(clients, random.Random(f"{SEED}/{number}"), tally))
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run(until))
            for user in users:
                group.create_task(user.live(until))

        async def quiet() -> bool:
            return not await db.value("SELECT count(*) FROM generations WHERE ended_at IS NULL")

        await eventually(quiet, 60)
        for user in users:
            if user.conversation:
                await user.check()
    takeovers = await counted(services, r"chat_api_takeovers_total ")
    errors = await counted(services, r'chat_api_requests_total\{.*status="5')
    broken = [
        line
        for service in services
        for line in service.logs()
        if line.get("level") in {"error", "critical"}
    ]
    flat = verdicts(watch.samples)
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "seconds": SECONDS,
        "users": USERS,
        "seed": SEED,
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {sys.version.split()[0]}",
        "settings": SETTINGS,
        "done": dict(sorted(tally.done.items())),
        "server_errors": errors,
        "takeovers": takeovers,
        "error_lines": len(broken),
        "verdicts": flat,
        "samples": watch.samples,
        "passed": not errors and not takeovers and not broken and all(v["flat"] for v in flat),
    }


def main() -> int:
    """Set everything up, soak, write; 0 where all is well."""
    print(f"soak: {USERS} users for {SECONDS:g} s, SOAK_SEED={SEED}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        auth = stack.enter_context(AuthServer(KEY))
        inference = stack.enter_context(Forgetful(KEY))
        inference.default = planned()
        url = Databases(postgres, KEY).migrated()
        services = []
        for _ in range(2):
            service = Service(
                {
                    "DATABASE_URL": url,
                    "AUTH_SERVICE_URL": auth.url,
                    "INFERENCE_SERVICE_URL": inference.url,
                    "INTERNAL_API_KEY": KEY,
                    **SETTINGS,
                },
                folder=folder,
            )
            stack.callback(service.close)
            services.append(service.start())
        try:
            report = asyncio.run(soak(services, Database(url), auth))
        except BaseException:
            for service in services:
                print("\n".join(service.text().splitlines()[-30:]))
            raise
        codes = [service.stop() for service in services]
    report["exit_codes"] = codes
    report["passed"] = report["passed"] and codes == [0, 0]
    PICTURES.mkdir(parents=True, exist_ok=True)
    written = json.dumps(report, indent=None, separators=(",", ":"))
    (PICTURES / "soak.json").write_text(written.replace('{"at"', '\n{"at"') + "\n", "utf-8")
    picture(
        report["samples"],
        f"{SECONDS / 60:g} minutes on {report['machine']}; {report['done'].get('tokens', 0):,} "
        f"tokens read, {report['server_errors']} server errors",
    )
    for verdict in report["verdicts"]:
        print(
            "  {measure}: {second_quarter} -> {last_quarter} (at most {allowed})".format(**verdict)
        )
    print({name: report[name] for name in ("done", "server_errors", "takeovers", "passed")})
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
