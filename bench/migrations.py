"""How long migrations take, and whom they hold up.

    make bench-migrations                  one million messages
    python -m bench.migrations 200000

A PostgreSQL with its own defaults is filled with conversations of twenty messages: as the service
before left them, and as our first release did. While the one is taken over and the other brought
up to date, replicas of what was there before list, read and send; the longest time that one of
them had to wait is what a person would have noticed.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from tests.support import predecessor

from chat_api.db.database import driver_address
from chat_api.db.migrate import migrate
from chat_api.db.schema import REVISIONS
from chat_api.local.postgres import EmbeddedPostgres

EACH = 20
READERS = 2
WRITERS = 2

FILL = """
INSERT INTO users (id, email, provider, provider_id)
    SELECT gen_random_uuid(), n || '@example.org', 'google', n FROM generate_series(1, {users}) n;
INSERT INTO conversations (user_id, title, updated_at)
    SELECT id, 'New chat', now() - random() * interval '300 days'
    FROM users, generate_series(1, {conversations} / {users});
INSERT INTO messages (conversation_id, role, content, created_at)
    SELECT id, CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, repeat(md5(n::text), 10),
        now() - interval '300 days' + n * interval '1 minute'
    FROM conversations, generate_series(0, {each} - 1) n;
VACUUM ANALYZE
"""


class Waits:
    """How long single requests took, in seconds."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.count: dict[str, int] = {}

    def note(self, name: str, began: float) -> None:
        self.longest[name] = max(self.longest.get(name, 0.0), time.perf_counter() - began)
        self.count[name] = self.count.get(name, 0) + 1


async def again(connection: Any, statement: str, *arguments: Any) -> Any:
    try:
        return await connection.fetch(statement, *arguments)
    except asyncpg.InvalidCachedStatementError:
        return await connection.fetch(statement, *arguments)


FILL_OURS = """
INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at)
    SELECT gen_random_uuid(), 'user ' || n % {users}, 'A title', true, 'default',
        now() - random() * interval '300 days'
    FROM generate_series(1, {conversations}) n;
INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
    SELECT gen_random_uuid(), id, n, CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
        repeat(md5(n::text), 10), 'complete', 'default'
    FROM conversations, generate_series(0, {each} - 1) n;
INSERT INTO generations (message_id, conversation_id, question_id, options, trace_id, lease_until,
        ended_at, status)
    SELECT id, conversation_id, id, '{{}}', 'trace', now(), now(), 'complete' FROM messages
    WHERE role = 'assistant';
VACUUM ANALYZE
"""
_PLACE = (
    "WITH place AS (SELECT max(position) + 1 AS next FROM messages WHERE conversation_id = $1), "
    "question AS (INSERT INTO messages (id, conversation_id, position, role, content, status, "
    "model_tag) SELECT gen_random_uuid(), $1, next, 'user', 'Hello', 'complete', 'default' "
    "FROM place RETURNING id) INSERT INTO generations (message_id, conversation_id, question_id, "
    "options, trace_id, lease_until, ended_at, status) "
    "SELECT id, $1, id, '{}', 'trace', now(), now(), 'complete' FROM question"
)
SEND_OURS = (
    "SELECT 1 FROM conversations WHERE id = $1 FOR NO KEY UPDATE",
    _PLACE,
    "UPDATE conversations SET updated_at = now() WHERE id = $1",
)


async def our_replica(
    url: str, places: list[tuple[UUID, str]], waits: Waits, over: asyncio.Event
) -> None:
    """Send and list as a replica of our first release."""
    connection = await asyncpg.connect(driver_address(url))
    number = 0
    while not over.is_set():
        number += 1
        conversation, user = places[number * 7919 % len(places)]
        began = time.perf_counter()
        async with connection.transaction():
            for statement in SEND_OURS:
                await connection.execute(statement, conversation)
        waits.note("send", began)
        began = time.perf_counter()
        await again(
            connection,
            "SELECT title FROM conversations WHERE user_id = $1 ORDER BY updated_at DESC LIMIT 50",
            user,
        )
        waits.note("list", began)
        await asyncio.sleep(0.005)
    await connection.close()


async def replica(
    url: str, places: list[tuple[UUID, UUID]], waits: Waits, sends: bool, over: asyncio.Event
) -> None:
    """Read, or send, as a replica of the service before ours."""
    connection = await asyncpg.connect(driver_address(url))
    number = 0
    while not over.is_set():
        number += 1
        conversation, user = places[number * 7919 % len(places)]
        began = time.perf_counter()
        if sends:
            async with connection.transaction():
                await again(
                    connection, predecessor.SEND, uuid4(), conversation, "user", f"m {number}"
                )
                await again(connection, predecessor.TOUCH, conversation)
            waits.note("send", began)
        else:
            await again(connection, predecessor.LIST, user, 50)
            waits.note("list", began)
            began = time.perf_counter()
            await again(connection, predecessor.READ, conversation)
            waits.note("read", began)
        await asyncio.sleep(0.005)
    await connection.close()


async def filled(url: str, statements: str, messages: int) -> list[tuple[UUID, Any]]:
    """Fill the database; ids and users of some conversations."""
    connection = await asyncpg.connect(driver_address(url))
    conversations = messages // EACH
    users = conversations // 50
    for statement in statements.format(users=users, conversations=conversations, each=EACH).split(
        ";"
    ):
        await connection.execute(statement)
    rows = await connection.fetch("SELECT id, user_id FROM conversations ORDER BY id LIMIT 5000")
    await connection.close()
    return [(row["id"], row["user_id"]) for row in rows]


async def measured(
    url: str, name: str, waits: Waits, over: asyncio.Event, replicas: list[asyncio.Task[None]]
) -> None:
    """Migrate while the replicas run, and say what they noticed."""
    connection = await asyncpg.connect(driver_address(url))
    size = "SELECT pg_total_relation_size('messages') + pg_total_relation_size('conversations')"
    before = await connection.fetchval(size)
    began = time.perf_counter()
    # Not in this process, whose own pauses would be measured.
    command = (sys.executable, "-m", "chat_api.cli", "migrate")
    process = await asyncio.create_subprocess_exec(*command, env={"DATABASE_URL": url})
    assert await process.wait() == 0
    took = time.perf_counter() - began
    over.set()
    await asyncio.gather(*replicas)
    after = await connection.fetchval(size)
    await connection.close()
    print(f"{name}: {took:.1f} s")
    print(f"  tables and indexes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    for kind, longest in sorted(waits.longest.items()):
        print(f"  {kind}: {waits.count[kind]:,} times, at most {longest * 1000:.0f} ms")


async def measure_takeover(url: str, messages: int) -> None:
    connection = await asyncpg.connect(driver_address(url))
    await connection.execute(predecessor.SCHEMAS["004"])
    await connection.close()
    places = await filled(url, FILL, messages)
    waits, over = Waits(), asyncio.Event()
    replicas = [
        asyncio.create_task(replica(url, places, waits, number < WRITERS, over))
        for number in range(READERS + WRITERS)
    ]
    await measured(url, f"takeover of {messages:,} messages", waits, over, replicas)


async def measure_upgrade(url: str, messages: int) -> None:
    await migrate(url, REVISIONS[0])
    places = await filled(url, FILL_OURS, messages)
    waits, over = Waits(), asyncio.Event()
    replicas = [asyncio.create_task(our_replica(url, places, waits, over)) for _ in range(WRITERS)]
    name = f"{REVISIONS[0]} to {REVISIONS[-1]}, {messages:,} messages"
    await measured(url, name, waits, over, replicas)


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            for measure in (measure_takeover, measure_upgrade):
                server.create_database(measure.__name__)
                asyncio.run(measure(server.url(measure.__name__), messages))
                server.drop_database(measure.__name__)


if __name__ == "__main__":
    main()
