"""Kill the primary of a highly available PostgreSQL under load (docs/high-availability.md).

    make ha                         HA_TALKERS and HA_SECONDS change it

Three nodes under Patroni in synchronous mode; two replicas of the service, once by HAProxy and once
by an address that names all nodes. Users send and read all the time; then comes a switchover, and
then SIGKILL for the primary and its Patroni. At the end everything that was acknowledged is looked
up in the database. It writes nothing; the numbers are printed as JSON.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import asyncpg
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.database import Database, migrate
from tests.support.inference import Inference
from tests.support.known import planned
from tests.support.service import Service

from bench.cluster import Cluster, ProgramsMissingError, passable_folder, until
from bench.talkers import Prober, Talker, Tally, faults, longest_gap, neighbours

TALKERS = int(os.environ.get("HA_TALKERS", "20"))
CALM_SECONDS = float(os.environ.get("HA_SECONDS", "8"))
"""Under load before, between and after the two events."""
SEED = int(os.environ.get("HA_SEED") or random.SystemRandom().randrange(2**32))
KEY = "key-of-the-cluster-8c1f72d05be94a36"


class Run:
    """One way to the database."""

    def __init__(
        self, cluster: Cluster, way: str, services: list[Service], auth: AuthServer
    ) -> None:
        self.cluster = cluster
        self.way = way
        self.services = services
        self.auth = auth
        self.tally = Tally()
        self.probers: list[Prober] = []

    async def play(self) -> dict[str, Any]:
        """Load, switchover, load, SIGKILL, load; return what is to be reported."""
        async with AsyncExitStack() as stack:
            self.probers = [
                Prober(
                    await stack.enter_async_context(Client(service.url, self.auth.user("probe"))),
                    number,
                )
                for number, service in enumerate(self.services)
            ]
            stop = asyncio.Event()
            talkers = [await self._talker(stack, number) for number in range(TALKERS)]
            events: dict[str, Any] = {}
            async with asyncio.TaskGroup() as group:
                for prober in self.probers:
                    group.create_task(prober.run(stop))
                tasks = [group.create_task(self._talk(talker, stop)) for talker in talkers]
                await asyncio.sleep(CALM_SECONDS)
                events["switchover"] = await self._event(self._switch_over)
                events["kill -9"] = await self._event(self._kill)
                stop.set()
                await asyncio.wait(tasks)
        return {"way": self.way, **events, **self._seen(), **await self._lost()}

    async def _talker(self, stack: AsyncExitStack, number: int) -> Talker:
        account = self.auth.user(f"user-{number}", expires_in=10**6)
        clients = [
            await stack.enter_async_context(Client(service.url, account))
            for service in self.services
        ]
        return Talker(clients, self.tally, random.Random(f"{SEED}/{self.way}/{number}"))

    async def _talk(self, talker: Talker, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await talker.talk(time.monotonic() + 1)

    async def _event(self, act: Any) -> dict[str, Any]:
        before = self.tally.seen.copy()
        began = time.monotonic()
        what = await act()
        written = [len(prober.acknowledged) for prober in self.probers]

        async def writes() -> bool:
            return all(
                len(prober.acknowledged) > count + 10
                for prober, count in zip(self.probers, written, strict=True)
            )

        await until(writes, 90, "writes on both replicas")
        await asyncio.sleep(CALM_SECONDS)
        seconds, statuses = await longest_gap(self.probers, began)
        return {
            "what": what,
            "seconds without writes": round(seconds, 1),
            "refusals of the probes": dict(statuses),
            "what clients saw": dict(self.tally.seen - before),
        }

    async def _switch_over(self) -> str:
        old, new = await self.cluster.switch_over()
        return f"{old} -> {new}"

    async def _kill(self) -> str:
        await self.cluster.whole()
        node = await self.cluster.primary()
        assert node is not None
        await asyncio.to_thread(node.kill)

        async def successor() -> Any:
            return await self.cluster.primary()

        new = await until(successor, 90, "another primary")
        return f"{node.name} -> {new.name}"

    def _seen(self) -> dict[str, Any]:
        return {
            "answers": self.tally.seen["answers"],
            "tokens": self.tally.seen["tokens"],
            "acknowledged probes": sum(len(prober.acknowledged) for prober in self.probers),
            "longest silence in a stream, s": round(max(self.tally.silences), 1),
            "median silence, s": round(statistics.median(self.tally.silences), 2),
            "faults in the logs": faults(self.services),
        }

    async def _lost(self) -> dict[str, Any]:
        """Look up what was acknowledged, on the primary of now."""
        database = Database(self.cluster.by_hosts(self.way))
        titles = {row["title"] for row in await database.fetch("SELECT title FROM conversations")}
        rows = await database.fetch(
            "SELECT a.id::text AS id, a.status, a.content, q.content AS question "
            "FROM messages a JOIN generations g ON g.message_id = a.id "
            "JOIN messages q ON q.id = g.question_id"
        )
        found = {row["id"]: row for row in rows}
        questions = [row["question"] for row in rows]
        lost = [
            title for prober in self.probers for title in prober.acknowledged if title not in titles
        ]
        wrong = [
            exchange.message_id
            for exchange in self.tally.exchanges
            if (row := found.get(str(exchange.message_id))) is None
            or row["question"] != exchange.question
            or (exchange.text is not None and row["content"] != exchange.text)
            or row["status"] != "complete"
        ]
        return {
            "acknowledged sends": len(self.tally.exchanges),
            "lost": lost + wrong,
            "questions stored twice": len(questions) - len(set(questions)),
        }


async def run(cluster: Cluster, way: str, auth: AuthServer, inference: Inference) -> dict[str, Any]:
    """Start two replicas on a database of their own, and play."""
    connection = await asyncpg.connect(cluster.by_hosts("postgres"), timeout=15)
    await connection.execute(f'CREATE DATABASE "{way}"')
    await connection.close()
    url = cluster.by_proxy(way) if way == "haproxy" else cluster.by_hosts(way)
    await asyncio.to_thread(migrate, url, KEY)
    with ExitStack() as stack:
        services = []
        for _ in range(2):
            service = Service(
                {**neighbours(auth.url, inference.url, KEY), "DATABASE_URL": url},
                folder=cluster.folder,
            )
            stack.callback(service.close)
            services.append(service)
            await asyncio.to_thread(service.start)
        try:
            report = await Run(cluster, way, services, auth).play()
        except BaseException:
            for service in services:
                print("\n".join(service.text().splitlines()[-30:]), file=sys.stderr)
            raise
        codes = [await asyncio.to_thread(service.stop) for service in services]
    return {**report, "exit codes": codes}


async def main() -> int:
    """Run both ways; 0 where nothing was lost."""
    print(f"ha: {TALKERS} users, HA_SEED={SEED}", flush=True)
    passed = True
    with ExitStack() as stack:
        folder = passable_folder(stack, "ha-")
        auth = stack.enter_context(AuthServer(KEY))
        inference = stack.enter_context(Inference(KEY))
        inference.default = planned()
        async with Cluster(folder) as cluster:
            for way in ("haproxy", "hosts"):
                await cluster.whole()
                report = await run(cluster, way, auth, inference)
                passed = passed and not any(
                    (
                        report["lost"],
                        report["questions stored twice"],
                        report["faults in the logs"],
                        any(report["exit codes"]),
                    )
                )
                print(json.dumps(report, indent=1), flush=True)
                for node in cluster.nodes:
                    if node.patroni is None or not node.patroni.running:
                        node.start()  # what was killed comes back as a standby
            began = time.monotonic()
            await cluster.whole()
            print(f"three nodes again after {time.monotonic() - began:.0f} s more", flush=True)
    print("ha: passed" if passed else "ha: FAILED", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        raise SystemExit(asyncio.run(main()))
    except ProgramsMissingError as missing:
        print(f"ha: {missing}", file=sys.stderr)
        raise SystemExit(2) from None
