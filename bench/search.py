"""What a search costs, without an index and with pg_trgm's (docs/decisions/0011-search.md).

    python -m bench.search --others 10000000

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
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil

from bench.log_cost import database_seconds
from chat_api.conversations.search import Search
from chat_api.db.database import Database, driver_address
from chat_api.db.migrate import migrate
from chat_api.local.postgres import EmbeddedPostgres

MESSAGES = 20_000
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


# One step: a message of each of the three users and its share of the others', ten a conversation.
_STEPS = """
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag, created_at)
    SELECT gen_random_uuid(), md5(whose)::uuid, position, 'user', body || mark, 'complete', 'm', at
    FROM (
        SELECT 'other ' || step || ' ' || other / 10 AS whose, other % 10 AS position, '' AS mark,
            $6::timestamptz AS at, $5::integer + abs(hashint8(step * $3 + other) % 2000) AS key
        FROM generate_series($1::integer, $2::integer - 1) step,
            generate_series(0, $3::bigint - 1) other
        UNION ALL
        SELECT name || step % 400, step / 400, ' n' || step || 'x', $6 + step * interval '1 s',
            (number - 1) * 2000 + step % 2 * 1000 + abs(hashint4(step) % 1000)
        FROM generate_series($1, $2 - 1) step,
            unnest($4::text[]) WITH ORDINALITY AS u (name, number)
        ) AS made JOIN pool USING (key)
    ORDER BY random()"""
_INDEXES = (
    "ALTER TABLE messages ADD PRIMARY KEY (id)",
    (
        "ALTER TABLE messages ADD CONSTRAINT messages_in_order"
        " UNIQUE NULLS NOT DISTINCT (conversation_id, position, replaces)"
    ),
    "CREATE INDEX messages_hidden ON messages (conversation_id, parent_id) WHERE replaces = id",
    (
        "CREATE UNIQUE INDEX messages_one_generating ON messages (conversation_id)"
        " WHERE status = 'generating'"
    ),
)
_CONVERSATIONS = """
    INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at)
    SELECT m.id, coalesce(name, 'other-' || hashtext(m.id::text) % 5000), 'A title', true, 'm', at
    FROM (SELECT conversation_id, max(created_at) FROM messages GROUP BY 1) AS m (id, at)
    LEFT JOIN (SELECT md5(name || n)::uuid, name
        FROM unnest($1::text[]) name, generate_series(0, 399) n) AS ours (id, name) USING (id)"""


async def fill(connection: "asyncpg.Connection[Any]", others: int) -> None:
    """Make the rows on the server, without checks of foreign keys, and the indexes afterwards:
    ten million take minutes.
    """
    pools = [texts(size, 1000) for sizes in USERS.values() for size in sizes]
    common = len(pools) * 1000
    bodies = [text for pool in (*pools, texts(lambda: 300, 2000)) for text in pool]
    await connection.execute("CREATE UNLOGGED TABLE pool (key integer, body text)")
    await connection.copy_records_to_table("pool", records=list(enumerate(bodies)))
    await connection.execute(
        "ANALYZE pool; ALTER TABLE messages SET (autovacuum_enabled = off);"
        "SET session_replication_role = replica; SET jit = off;"
        "SET max_parallel_workers_per_gather = 0; SET work_mem = '256MB';"
        "SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '512MB';"
        "ALTER TABLE messages DROP CONSTRAINT messages_in_order;"
        "ALTER TABLE messages DROP CONSTRAINT messages_pkey CASCADE;"
        "DROP INDEX messages_hidden, messages_one_generating"
    )
    for step in range(0, MESSAGES, 100):
        await connection.execute(
            _STEPS, step, step + 100, others // MESSAGES, list(USERS), common, BASE
        )
    for index in _INDEXES:
        await connection.execute(index)
    await connection.execute(_CONVERSATIONS, list(USERS))
    await connection.execute("VACUUM ANALYZE messages")
    await connection.execute("VACUUM ANALYZE conversations")
    await connection.execute("CHECKPOINT")


async def measure(url: str, postmaster: psutil.Process, repeats: int) -> None:
    """Print the median time of each query of each user, and the average CPU of the search's own
    backend and of all of PostgreSQL's processes.
    """
    db = Database(url, size=1, timeout_seconds=60)
    await db.open()
    own = await db.fetchrow("SELECT pg_backend_pid() AS pid")
    assert own is not None
    backend = psutil.Process(own["pid"])
    search = Search(db, at_once=1)
    for user in USERS:
        for name, query in QUERIES.items():
            took = []
            alone, cpu = seconds_of(backend), database_seconds(postmaster)
            for _ in range(repeats):
                began = time.perf_counter()
                await search.find(user, query, limit=20, after=None)
                took.append((time.perf_counter() - began) * 1000)
            alone = (seconds_of(backend) - alone) / repeats * 1000
            cpu = (database_seconds(postmaster) - cpu) / repeats * 1000
            median = statistics.median(took)
            print(
                f"  {user:6} {name:22} {median:8.1f} ms, CPU of the backend {alone:8.1f} ms,"
                f" of all {cpu:8.1f} ms",
                flush=True,
            )
    await db.close()


def seconds_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


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
            asyncio.run(measure(url, postmaster_of(home), repeats=20))
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
