"""Two cells behind one HAProxy; a user moves from one to the other under load (docs/scaling.md).

    make cells                      CELLS_TALKERS and CELLS_SECONDS change it

Each cell is two replicas and a PostgreSQL of its own. HAProxy reads the subject of the token and
looks the cell up in a map file. First all users are in one cell, then half of them in each, with
the same load: what both carry is compared. Then one user after the other is moved by `samosachaat
move-user` while all go on; at the end everything that was acknowledged is looked up. The numbers
are printed as JSON.
"""

import asyncio
import json
import os
import random
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import jwt
import psutil
from tests.support.auth import Account, AuthServer
from tests.support.client import Client
from tests.support.database import Database, Databases
from tests.support.inference import Inference
from tests.support.known import planned
from tests.support.service import COMMAND, Service

from bench.cluster import (
    DEPLOY,
    HOST,
    Program,
    ProgramsMissingError,
    fill_in,
    free_ports,
    owned_folder,
    passable_folder,
    program,
    until,
)
from bench.talkers import Talker, Tally, faults, neighbours
from chat_api.local.postgres import EmbeddedPostgres

TALKERS = int(os.environ.get("CELLS_TALKERS", "24"))
SECONDS = float(os.environ.get("CELLS_SECONDS", "15"))
MOVES = 4
"""The command of the first is killed after its first step, of the second after two, and so on."""
SEED = int(os.environ.get("CELLS_SEED") or random.SystemRandom().randrange(2**32))
KEY = "key-of-the-cells-27a0d8b5e1f94c63"
CELLS = ("cell_one", "cell_two")


class Cell:
    """Two replicas and a PostgreSQL."""

    def __init__(
        self, name: str, stack: ExitStack, folder: Path, neighbour: dict[str, str]
    ) -> None:
        self.name = name
        self.postgres = stack.enter_context(EmbeddedPostgres(folder / f"postgres-{name}"))
        self.url = Databases(self.postgres, KEY).migrated()
        self.db = Database(self.url)
        self.services = []
        for _ in range(2):
            service = Service({**neighbour, "DATABASE_URL": self.url}, folder=folder)
            stack.callback(service.close)
            self.services.append(service.start())

    def cpu_seconds(self) -> float:
        """CPU time of its replicas so far."""
        times = [psutil.Process(service.pid).cpu_times() for service in self.services]
        return sum(time.user + time.system for time in times)

    async def users(self) -> set[str]:
        """Return the users who have conversations here."""
        rows = await self.db.fetch("SELECT DISTINCT user_id FROM conversations")
        return {row["user_id"] for row in rows}


class Edge:
    """HAProxy with its map."""

    def __init__(self, folder: Path, cells: list[Cell]) -> None:
        self.folder = owned_folder(folder / "edge")
        self.map = self.folder / "cells.map"
        self.socket = self.folder / "admin.sock"
        [self.port] = free_ports(1)
        values: dict[str, object] = {
            "bind": f"{HOST}:{self.port}",
            "socket": self.socket,
            "map": self.map,
        }
        for cell in cells:
            for letter, service in zip("ab", cell.services, strict=True):
                values[f"{cell.name}_{letter}"] = f"{HOST}:{service.port}"
        self.lead({})
        fill_in(DEPLOY / "cells" / "haproxy.cfg", self.folder / "haproxy.cfg", values)
        argv = [program("haproxy", "haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")]
        self.program = Program(argv, self.folder, "haproxy")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def lead(self, users: dict[str, str]) -> None:
        """Write the map file, before HAProxy reads it."""
        lines = [f"{user} {cell}\n" for user, cell in users.items()]
        self.map.write_text("".join(lines) or "# no user is mapped\n", "utf-8")


class Play:
    """Users who talk to the edge, and what becomes of them."""

    def __init__(self, cells: list[Cell], edge: Edge, auth: AuthServer) -> None:
        self.cells = cells
        self.edge = edge
        self.auth = auth
        self.tally = Tally()

    def account(self, number: int) -> Account:
        """Return a user whose token is a JWT, of which the edge reads the subject."""
        user_id = f"user-{SEED}-{number}"
        token = jwt.encode({"sub": user_id, "n": number}, KEY, algorithm="HS256")
        return self.auth.user(user_id, user_id=user_id, token=token, expires_in=10**6)

    async def measure(self, talkers: list[Talker], what: str) -> dict[str, Any]:
        """Let all talk without pauses for a while; return what was carried."""
        before = self.tally.seen["answers"]
        cpu = {cell.name: cell.cpu_seconds() for cell in self.cells}
        machine, began = psutil.cpu_times(), time.monotonic()
        await asyncio.gather(
            *(talker.talk(began + SECONDS, tokens=20, pause=0.0, think=0.0) for talker in talkers)
        )
        seconds, now = time.monotonic() - began, psutil.cpu_times()
        answers = self.tally.seen["answers"] - before
        idle = now.idle - machine.idle
        return {
            "what": what,
            "answers a second": round(answers / seconds, 1),
            "CPU of the replicas, ms an answer": {
                cell.name: round(1000 * (cell.cpu_seconds() - cpu[cell.name]) / max(answers, 1), 1)
                for cell in self.cells
            },
            "machine idle, %": round(100 * idle / (seconds * (os.cpu_count() or 1))),
        }

    async def move(
        self, user_id: str, source: Cell, target: Cell, *, kill_after: int
    ) -> dict[str, Any]:
        """Move a user by the command, which is killed after so many steps and repeated."""
        argv = [*COMMAND, "move-user", user_id, "--cell", target.name]
        argv += ["--map", str(self.edge.map), "--haproxy", str(self.edge.socket)]
        argv += ["--drain", "10", "--grace", "3"]
        env = {
            "PATH": os.environ.get("PATH", ""),
            "SOURCE_DATABASE_URL": source.url,
            "TARGET_DATABASE_URL": target.url,
        }
        began, frozen, led = time.monotonic(), 0.0, 0.0
        is_killed = False
        while True:
            process = await asyncio.create_subprocess_exec(
                *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            assert process.stdout is not None
            said = []
            while line := await process.stdout.readline():
                said.append(line.decode().strip())
                frozen = frozen or time.monotonic()
                if said[-1].startswith("the edge"):
                    led = time.monotonic()
                if not is_killed and len(said) == kill_after:
                    is_killed = True
                    process.kill()
                    break
            await process.stdout.read()
            code = await process.wait()
            if code == 0:
                return {
                    "user": user_id,
                    "to": target.name,
                    "seconds": round(time.monotonic() - began, 1),
                    "seconds of refused changes": round(led - frozen, 1),
                    "killed after": kill_after,
                    "said after that": said,
                }
            if code > 0:
                raise RuntimeError(f"move-user: {code} {said}")

    async def lost(self) -> dict[str, Any]:
        """Look up what was acknowledged, in both cells together."""
        found: dict[str, dict[str, Any]] = {}
        doubled = []
        for cell in self.cells:
            rows = await cell.db.fetch(
                "SELECT a.id::text AS id, a.content, a.status, q.content AS question "
                "FROM messages a JOIN generations g ON g.message_id = a.id "
                "JOIN messages q ON q.id = g.question_id"
            )
            doubled += [row["id"] for row in rows if row["id"] in found]
            found |= {row["id"]: row for row in rows}
        lost = [
            exchange.message_id
            for exchange in self.tally.exchanges
            if (row := found.get(str(exchange.message_id))) is None
            or row["question"] != exchange.question
            or row["content"] != exchange.text
            or row["status"] != "complete"
        ]
        questions = [row["question"] for row in found.values()]
        return {
            "acknowledged sends": len(self.tally.exchanges),
            "lost": lost,
            "in both cells": doubled,
            "questions stored twice": len(questions) - len(set(questions)),
        }


async def play(cells: list[Cell], edge: Edge, auth: AuthServer) -> dict[str, Any]:
    """Measure, move, and look everything up."""
    game = Play(cells, edge, auth)
    one, two = cells
    report: dict[str, Any] = {}
    async with AsyncExitStack() as stack:

        async def talkers(first: int, count: int) -> list[Talker]:
            made = []
            for number in range(first, first + count):
                client = await stack.enter_async_context(Client(edge.url, game.account(number)))
                made.append(Talker([client], game.tally, random.Random(f"{SEED}/{number}")))
            return made

        alone = await talkers(0, TALKERS)
        report["one cell"] = await game.measure(alone, "all users in cell_one")
        both = await talkers(TALKERS, TALKERS)
        for talker in both[::2]:
            await _map(edge, talker.clients[0].user_id, two.name)
        report["two cells"] = await game.measure(both, "half of the users in each cell")
        where = await two.users()
        assert where == {talker.clients[0].user_id for talker in both[::2]}, "the edge misled users"
        moving = both[1 : 1 + 2 * MOVES : 2]
        seen, stop = game.tally.seen.copy(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            talking = [group.create_task(_talk(talker, stop)) for talker in both]
            report["moves"] = [
                await game.move(talker.clients[0].user_id, one, two, kill_after=number)
                for number, talker in enumerate(moving, start=1)
            ]
            stop.set()
            await asyncio.wait(talking)
        report["what clients saw during the moves"] = dict(game.tally.seen - seen)
        gone = {talker.clients[0].user_id for talker in moving}
        assert gone <= await two.users(), "a user was not moved"
        assert not gone & await one.users(), "the old rows are still there"
    return {**report, **await game.lost()}


async def _talk(talker: Talker, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await talker.talk(time.monotonic() + 1, tokens=20, pause=0.02)


async def _map(edge: Edge, user_id: str, cell: str) -> None:
    from chat_api.edge_map import EdgeMap

    await EdgeMap(edge.map, [str(edge.socket)]).put(user_id, cell)


async def main() -> int:
    """Set everything up and play; 0 where nothing was lost."""
    print(f"cells: {TALKERS} users, CELLS_SEED={SEED}", flush=True)
    program("haproxy", "haproxy")
    with ExitStack() as stack:
        folder = passable_folder(stack, "cells-")
        auth = stack.enter_context(AuthServer(KEY))
        inference = stack.enter_context(Inference(KEY))
        inference.default = planned()
        neighbour = {
            **neighbours(auth.url, inference.url, KEY),
            "TRUSTED_PROXIES": HOST,
            "UNAUTHENTICATED_PER_MINUTE": "0",
        }
        cells = [Cell(name, stack, folder, neighbour) for name in CELLS]
        edge = Edge(folder, cells)
        stack.callback(edge.program.stop)

        async def ready() -> bool:
            async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
                return (await http.get(f"{edge.url}/api/ready")).status_code == 200

        await until(ready, 30, "the edge", edge.program)
        try:
            report = await play(cells, edge, auth)
        except BaseException:
            for cell in cells:
                for service in cell.services:
                    print("\n".join(service.text().splitlines()[-20:]), file=sys.stderr)
            raise
        services: list[Service] = [service for cell in cells for service in cell.services]
        report["faults in the logs"] = faults(services)
    print(json.dumps(report, indent=1), flush=True)
    bad = ("lost", "in both cells", "questions stored twice", "faults in the logs")
    passed = not any(report[name] for name in bad)
    print("cells: passed" if passed else "cells: FAILED", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        raise SystemExit(asyncio.run(main()))
    except ProgramsMissingError as missing:
        print(f"cells: {missing}", file=sys.stderr)
        raise SystemExit(2) from None
