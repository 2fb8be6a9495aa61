"""What the log of running answers costs: the statement, PostgreSQL's CPU, the writer's CPU.

    make bench-log    (or: python bench/log_cost.py --answers 100 --answers 1000 --seconds 10)

Writes as the service does (`db.event_log.append`, a batch every 160 ms, 4 tokens an answer and
batch, which is 25 tokens/s each) to an embedded PostgreSQL with its default durability, and follows
every tenth answer as a second replica would.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from uuid_utils.compat import uuid7

from chat_api.db import event_log as db_event_log
from chat_api.db import queries, sends
from chat_api.db.database import Database
from chat_api.db.event_log import LogRow
from chat_api.db.generations import Lease
from chat_api.db.migrate import migrate
from chat_api.db.sends import Draft
from chat_api.local.postgres import EmbeddedPostgres

BATCH_SECONDS = 0.16
TOKENS_A_BATCH = 4
EVENT = '{"token":" token","gpu":0}'


@dataclass
class Cost:
    statement_ms: float  # median
    slowest_ms: float
    database_us: float  # CPU per token
    writer_us: float
    pages_ms: float


async def begin(db: Database, process: str, count: int) -> list[Lease]:
    leases = []
    for _ in range(count):
        conversation_id = str(uuid7())
        await queries.create_conversation(
            db, "bench", conversation_id, queries.ConversationSettings()
        )
        draft = Draft(str(uuid7()), str(uuid7()), "Hello", None, "{}", "trace")
        async with db.transaction() as connection:
            lease = await sends.begin_in_steps(
                connection, "bench", conversation_id, draft, process=process, lease_seconds=3600
            )
        assert isinstance(lease, Lease)
        leases.append(lease)
    return leases


def database_seconds(postmaster: psutil.Process) -> float:
    """CPU of all of PostgreSQL's processes, those that have ended included."""
    own = postmaster.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in postmaster.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total


async def measure(
    db: Database, postmaster: psutil.Process, leases: list[Lease], process: str, seconds: float
) -> Cost:
    events = "\n".join([EVENT] * TOKENS_A_BATCH)
    statements, pages = [], []
    tokens = 0
    last = -1
    followed = leases[::10]
    began = time.perf_counter()
    database, writer = database_seconds(postmaster), time.process_time()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        rows = [
            LogRow(lease.message_id, 1, last + 1, last + TOKENS_A_BATCH, events) for lease in leases
        ]
        await db_event_log.append(db, process, rows)
        statements.append(time.perf_counter() - started)
        started = time.perf_counter()
        places = [(lease.message_id, 1, last) for lease in followed]
        assert len(await db_event_log.read_pages(db, places)) == len(followed)
        pages.append(time.perf_counter() - started)
        last += TOKENS_A_BATCH
        tokens += TOKENS_A_BATCH * len(leases)
        await asyncio.sleep(max(0.0, BATCH_SECONDS - sum((statements[-1], pages[-1]))))
    return Cost(
        statement_ms=statistics.median(statements) * 1000,
        slowest_ms=max(statements) * 1000,
        database_us=(database_seconds(postmaster) - database) / tokens * 1e6,
        writer_us=(time.process_time() - writer) / tokens * 1e6,
        pages_ms=statistics.median(pages) * 1000,
    )


async def run(url: str, postmaster: psutil.Process, counts: list[int], seconds: float) -> None:
    await migrate(url)
    print("| answers | statement, median | slowest | PostgreSQL | writer | poll of a tenth |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in counts:
        process = str(uuid7())
        db = Database(url, size=4, timeout_seconds=30)
        await db.open()
        cost = await measure(db, postmaster, await begin(db, process, count), process, seconds)
        print(
            f"| {count:,} | {cost.statement_ms:.1f} ms | {cost.slowest_ms:.1f} ms "
            f"| {cost.database_us:.1f} µs/token | {cost.writer_us:.1f} µs/token "
            f"| {cost.pages_ms:.1f} ms |",
            flush=True,
        )
        await db.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--answers", type=int, action="append", help="may be repeated")
    arguments.add_argument("--seconds", type=float, default=10)
    chosen = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="samosachaat-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as server,
    ):
        server.create_database("bench")
        pid = int((Path(folder) / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        print(f"{os.cpu_count()} cores, Python {'.'.join(map(str, sys.version_info[:3]))}\n")
        asyncio.run(
            run(
                server.url("bench"),
                psutil.Process(pid),
                chosen.answers or [100, 1000],
                chosen.seconds,
            )
        )


if __name__ == "__main__":
    main()
