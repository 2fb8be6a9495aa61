"""What a search costs, without an index and with pg_trgm's (docs/decisions/0011-search.md).

    python -m bench.search --others 1000000

Three users with 20,000 messages each, in four scripts, spread among so many messages of others:
short ones (300 bytes), a usual mixture (questions of 150 bytes, answers of 1.5 KB on average) and
long ones (300 bytes and 8 KB). Cold means: PostgreSQL restarted, and the system's page cache
dropped, which wants root.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psutil

from bench.log_cost import database_seconds
from chat_api.conversations.search import Search
from chat_api.db.database import Database, driver_address
from chat_api.db.migrate import migrate
from chat_api.local.postgres import EmbeddedPostgres

MESSAGES, EACH, OTHERS_EACH = 20_000, 50, 10
BASE = datetime(2026, 1, 1, tzinfo=UTC)
RANDOM = random.Random(7)
# The letters of the words, and what stands between words.
SCRIPTS = (
    ("abcdefghijklmnopqrstuvwxyzéüäöñç", " "),
    ("абвгдежзийклмнопрстуфхцчшщыьэюя", " "),
    ("".join(map(chr, range(0x4E00, 0x5200))), ""),
    ("".join(map(chr, range(0x905, 0x94D))), " "),
)
USERS: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {
    "short": (lambda: 300, lambda: 300),
    "mixed": (lambda: 150, lambda: int(min(20_000, RANDOM.lognormvariate(7.0, 0.8)))),
    "long": (lambda: 300, lambda: 8_000),
}
QUERIES = {
    "nothing, Latin": "zzqqx",
    "nothing, Cyrillic": "ъщйъщ",
    "nothing, CJK": "鸡蛋",
    "nothing, Devanagari": "क्षत्रिय",
    "one message": "n777x",
    "every message": "n",
    "two words": "n7 x",
}


def texts(size: Callable[[], int], count: int) -> list[str]:
    """So many texts, each in one of the scripts."""
    made = []
    for number in range(count):
        letters, between = SCRIPTS[number % len(SCRIPTS)]
        words, bytes_left = [], size()
        while bytes_left > 0:
            word = "".join(RANDOM.choices(letters, k=RANDOM.randint(2, 9)))
            words.append(word.capitalize() if RANDOM.random() < 0.15 else word)
            bytes_left -= len(word.encode()) + len(between)
        made.append(between.join(words))
    return made


def rows(others: int) -> Iterator[tuple[Any, ...]]:
    """The messages, those of the three users spread evenly among the others."""
    pools = {user: [texts(size, 1000) for size in sizes] for user, sizes in USERS.items()}
    ids = {user: [uuid4() for _ in range(MESSAGES // EACH)] for user in USERS}
    common = texts(lambda: 300, 2000)
    conversation: UUID = uuid4()
    for number in range(MESSAGES):
        for user in USERS:
            body = f"{RANDOM.choice(pools[user][number % 2])} n{number}x"
            at = BASE + timedelta(seconds=number)
            yield (
                user,
                ids[user][number % (MESSAGES // EACH)],
                number // (MESSAGES // EACH),
                body,
                at,
            )
        for other in range(others // MESSAGES):
            if other % OTHERS_EACH == 0:
                conversation = uuid4()
            yield "other", conversation, other % OTHERS_EACH, RANDOM.choice(common), BASE


async def fill(connection: "asyncpg.Connection[Any]", others: int) -> None:
    """The database, without the cost of a foreign key's check for each row."""
    seen: dict[UUID, str] = {}
    batch: list[tuple[Any, ...]] = []
    columns = ["id", "conversation_id", "position", "role", "content", "status", "model_tag"]

    async def flush() -> None:
        await connection.copy_records_to_table(
            "messages", records=batch, columns=[*columns, "created_at"]
        )
        batch.clear()

    await connection.execute("SET session_replication_role = replica")
    for user, conversation, position, body, at in rows(others):
        seen[conversation] = user if user in USERS else f"other-{len(seen) % 5000}"
        batch.append((uuid4(), conversation, position, "user", body, "complete", "m", at))
        if len(batch) == 20_000:
            await flush()
    await flush()
    await connection.copy_records_to_table(
        "conversations",
        records=[(key, user, "A title", True, "m", BASE) for key, user in seen.items()],
        columns=["id", "user_id", "title", "title_given", "model_tag", "updated_at"],
    )
    await connection.execute(
        "UPDATE conversations c SET updated_at = at FROM (SELECT conversation_id, max(created_at)"
        " AS at FROM messages GROUP BY 1) m WHERE m.conversation_id = c.id AND user_id = ANY ($1)",
        list(USERS),
    )
    await connection.execute("VACUUM ANALYZE messages")
    await connection.execute("VACUUM ANALYZE conversations")
    await connection.execute("CHECKPOINT")


async def measure(url: str, postmaster: psutil.Process, repeats: int) -> None:
    """Each query of each user: the median time, and PostgreSQL's CPU on average."""
    db = Database(url, size=2, timeout_seconds=60)
    await db.open()
    search = Search(db, at_once=1)
    for user in USERS:
        for name, query in QUERIES.items():
            took = []
            cpu = database_seconds(postmaster)
            for _ in range(repeats):
                began = time.perf_counter()
                await search.find(user, query, limit=20, after=None)
                took.append((time.perf_counter() - began) * 1000)
            cpu = (database_seconds(postmaster) - cpu) / repeats * 1000
            median = statistics.median(took)
            print(f"  {user:6} {name:22} {median:8.1f} ms, CPU {cpu:8.1f} ms", flush=True)
    await db.close()


def postmaster_of(home: Path) -> psutil.Process:
    """The server's first process."""
    return psutil.Process(int((home / "data" / "postmaster.pid").read_text().split()[0]))


async def compare_index(url: str) -> None:
    """The same questions to an index of trigrams, and what that costs a message."""
    connection = await asyncpg.connect(driver_address(url))
    statement = """
        SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
        WHERE c.user_id = 'mixed' AND m.content ILIKE '%' || $1 || '%'
        ORDER BY m.created_at DESC LIMIT 20"""
    print(f"  insert without pg_trgm   {await inserted(connection):8.1f} µs a message")
    began = time.perf_counter()
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    await connection.execute("CREATE INDEX trigrams ON messages USING gin (content gin_trgm_ops)")
    await connection.execute("ANALYZE messages")
    sizes = await connection.fetchval(
        "SELECT pg_size_pretty(pg_relation_size('trigrams')) || ' beside '"
        " || pg_size_pretty(pg_table_size('messages'))"
    )
    print(f"  index built in {time.perf_counter() - began:.0f} s: {sizes}")
    print(f"  insert with pg_trgm      {await inserted(connection):8.1f} µs a message")
    for name, query in QUERIES.items():
        began = time.perf_counter()
        try:
            await connection.fetch(statement, query, timeout=30)
            print(f"  mixed  {name:22} {(time.perf_counter() - began) * 1000:8.1f} ms", flush=True)
        except TimeoutError:
            print(f"  mixed  {name:22} over 30 s", flush=True)
    await connection.close()


async def inserted(connection: "asyncpg.Connection[Any]") -> float:
    """Microseconds that one message of the usual mixture takes to be inserted."""
    bodies = texts(USERS["mixed"][1], 500) * 4
    conversation = await connection.fetchval("SELECT id FROM conversations WHERE user_id = 'mixed'")
    began = time.perf_counter()
    async with connection.transaction():
        await connection.executemany(
            "INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)"
            " VALUES ($1, $2, $3, 'user', $4, 'complete', 'm')",
            [(uuid4(), conversation, -1 - RANDOM.randrange(2**31), body) for body in bodies],
        )
    return (time.perf_counter() - began) / len(bodies) * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--others", type=int, default=1_000_000)
    arguments.add_argument("--index", action="store_true", help="compare with pg_trgm")
    chosen = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="samosachaat-bench-"))
    home = folder / "postgres"
    try:
        with EmbeddedPostgres(home) as server:
            server.create_database("bench")
            url = server.url("bench")

            async def prepare() -> None:
                await migrate(url)
                connection = await asyncpg.connect(driver_address(url))
                began = time.perf_counter()
                await fill(connection, chosen.others)
                print(f"filled in {time.perf_counter() - began:.0f} s\nwarm", flush=True)
                await connection.close()

            asyncio.run(prepare())
            asyncio.run(measure(url, postmaster_of(home), repeats=15))
        with suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("3")
        with EmbeddedPostgres(home) as server:
            print("cold, in this order", flush=True)
            asyncio.run(measure(server.url("bench"), postmaster_of(home), repeats=1))
            if chosen.index:
                print("pg_trgm", flush=True)
                asyncio.run(compare_index(server.url("bench")))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
