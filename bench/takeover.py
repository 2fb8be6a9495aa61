"""How long taking over the database of the service before takes, and whom it holds up.

    python -m bench.takeover            one million messages
    python -m bench.takeover 200000

A PostgreSQL with its own defaults is filled with conversations of twenty messages. While it is
taken over, replicas of that service list, read and send as fast as they can; the longest time that
one of them had to wait is what a person would have noticed.
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


async def replica(
    url: str, places: list[tuple[UUID, UUID]], waits: Waits, sends: bool, over: asyncio.Event
) -> None:
    """A replica of the service before that reads, or sends."""
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


async def measure(url: str, messages: int) -> None:
    connection = await asyncpg.connect(driver_address(url))
    await connection.execute(predecessor.SCHEMAS["004"])
    conversations = messages // EACH
    filled = FILL.format(users=conversations // 50, conversations=conversations, each=EACH)
    for statement in filled.split(";"):
        await connection.execute(statement)
    size = "SELECT pg_total_relation_size('messages') + pg_total_relation_size('conversations')"
    before = await connection.fetchval(size)
    rows = await connection.fetch("SELECT id, user_id FROM conversations ORDER BY id LIMIT 5000")
    places = [(row["id"], row["user_id"]) for row in rows]
    waits, over = Waits(), asyncio.Event()
    replicas = [
        asyncio.create_task(replica(url, places, waits, number < WRITERS, over))
        for number in range(READERS + WRITERS)
    ]
    began = time.perf_counter()
    await migrate(url)
    took = time.perf_counter() - began
    over.set()
    await asyncio.gather(*replicas)
    after = await connection.fetchval(size)
    print(f"{messages:,} messages in {conversations:,} conversations: {took:.1f} s")
    print(f"tables and indexes: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    for name, longest in sorted(waits.longest.items()):
        print(f"{name}: {waits.count[name]:,} times, at most {longest * 1000:.0f} ms")
    await connection.close()


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            server.create_database("before")
            asyncio.run(measure(server.url("before"), messages))


if __name__ == "__main__":
    main()
