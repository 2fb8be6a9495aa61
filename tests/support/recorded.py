"""What a release asks of the database, recorded, to be run again on the schema of a later one.

    python -m tests.support.recorded 0002     writes tests/support/recorded/0002.json

is run once, when a schema has been released, with the code of that release. A replica of it serves
on while the next one migrates: so each of these statements must go on working, in the same order,
and leave the same rows behind.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

FOLDER = Path(__file__).parent / "recorded"

# What the recorded statements leave behind, without times.
LEFT = {
    "conversations": "SELECT id::text, user_id::text, title, title_given, model_tag, is_favorited "
    "FROM conversations ORDER BY id",
    "messages": "SELECT id::text, conversation_id::text, position, role, content, status, "
    "token_count, model_tag, inference_time_ms FROM messages ORDER BY id",
    "generations": "SELECT message_id::text, question_id::text, attempt, crashes, status, "
    "last_event, done FROM generations ORDER BY message_id",
}


def encoded(value: Any) -> Any:
    """An argument as JSON."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [encoded(one) for one in value]
    return value


def decoded(value: Any) -> Any:
    """The argument again."""
    if isinstance(value, dict):
        (kind,) = value
        text = value[kind]
        return bytes.fromhex(text) if kind == "bytes" else datetime.fromisoformat(text)
    if isinstance(value, list):
        return [decoded(one) for one in value]
    return value


async def left(connection: Any) -> dict[str, list[list[Any]]]:
    """The rows that are there."""
    return {
        name: [list(row) for row in await connection.fetch(statement)]
        for name, statement in LEFT.items()
    }


async def replay(connection: Any, recorded: Sequence[dict[str, Any]]) -> None:
    """Run them in their order on one connection."""
    for one in recorded:
        arguments = decoded(one["arguments"])
        if arguments:
            await connection.fetch(one["statement"], *arguments)
        else:
            await connection.execute(one["statement"])


async def live(world: Any) -> None:
    """All that a replica does to conversations and answers, by the release's own functions."""
    from tests.unit.world import key, log_row

    from chat_api.db import event_log, generations, housekeeping, leases, queries, sends
    from chat_api.db.quotas import Quotas

    pool, user = world.pool, world.user
    first, second = await world.conversation("Mine"), await world.conversation()
    quotas = Quotas(messages_per_minute=60, running_generations=10)
    draft = world.draft("Why?", key=key("a"))
    lease = await world.begin(first, draft, quotas=quotas)
    await world.begin(first, draft, quotas=quotas)
    await world.begin(first, world.draft("Busy?"), quotas=quotas)
    async with pool.connection() as connection:
        await generations.read_history(connection, first, lease.question_id, limit=50, chars=8000)
        await sends.find_busy(connection, first)
    await event_log.append(pool, world.process, [log_row(lease, 0, ["Be", "cause"])])
    await leases.renew(pool, world.process, [(lease.message_id, 1)], [lease.message_id], 60)
    await event_log.find_ends(pool, [(lease.message_id, 1)])
    await event_log.read_pages(pool, [(lease.message_id, 1, 0)])
    await event_log.read(pool, lease.message_id)
    await generations.find_joinable(pool, user, first, lease.message_id[-12:])
    await leases.request_stop(pool, lease.message_id)
    await leases.unsubscribe(pool, world.process, [lease.message_id])
    await world.end(lease, "Because", tail=log_row(lease, 2, ["."]))
    await generations.read_generation(pool, lease.message_id)
    await generations.message_stands(pool, lease.message_id)
    await generations.read_content(pool, lease.message_id)
    better = await world.regeneration(first)
    await world.end(better, "Because of it")
    undone = await world.regeneration(first)
    await world.end(undone, "Be", status="stopped")
    crashed = await world.lease(second, lease_seconds=-1)
    await leases.database_time(pool)
    later = datetime(2100, 1, 1, tzinfo=UTC)
    await leases.claim_abandoned(
        pool, world.process, 60, limit=10, only_released=False, expired_before=later
    )
    await leases.release(pool, [(crashed.message_id, 2)], world.process)
    taken = await leases.take(pool, crashed.message_id, world.process, 60)
    await world.end(taken, "Late", status="interrupted")
    await queries.list_conversations(pool, user, limit=10)
    (newest, *_) = await queries.list_conversations(pool, user, limit=10, offset=0)
    await queries.list_conversations(pool, user, limit=10, after=(newest.updated_at, newest.id))
    await queries.read_conversation(pool, user, first)
    await queries.open_conversation(pool, user, first, limit=200, before=None)
    await queries.read_message(pool, user, first, better.message_id)
    await queries.read_last_answer(pool, user, first)
    settings = queries.ConversationSettings(title="Yours", is_favorited=True)
    await queries.update_conversation(pool, user, second, settings)
    gone = await world.conversation()
    await world.lease(gone)
    async with pool.transaction() as connection:
        await queries.delete_conversation(connection, user, gone)
    await housekeeping.sweep(pool, 300)
    await housekeeping.sweep_orphans(pool)
    await housekeeping.try_to_write(pool)


async def record(url: str) -> dict[str, Any]:
    """What a life asks of the database, and what it leaves behind."""
    from tests.unit.world import World, opened

    statements: list[dict[str, Any]] = []

    def note(query: Any) -> None:
        if "set_config" not in query.query or query.args:
            statements.append({"statement": query.query, "arguments": encoded(list(query.args))})

    async with opened(url, size=1) as pool:
        async with pool.connection() as connection:
            connection.add_query_logger(note)
        await live(World(pool))
        async with pool.connection() as connection:
            connection.remove_query_logger(note)
            return {"statements": statements, "left": await left(connection)}


def main() -> None:
    from chat_api.db.migrate import run
    from chat_api.local.postgres import EmbeddedPostgres

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            run(server.url())
            recorded = asyncio.run(record(server.url()))
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(recorded, indent=1)
    (FOLDER / f"{sys.argv[1]}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
