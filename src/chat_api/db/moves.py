"""Moving a user's rows to the database of another cell, with their ids (docs/scaling.md).

Statements run on connections of the mover's own. `frozen_users` says in both databases how far a
move has come; a trigger refuses all other changes of the user's data (migration 0013).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chat_api.db import erasure
from chat_api.db.connecting import Connection

_OF_USER = "t.user_id = $1"
_OF_CONVERSATIONS = "t.conversation_id IN (SELECT id FROM conversations WHERE user_id = $1)"
# The copied tables, in the order of copying, each with the condition on its rows. A test compares
# them with all tables.
COPIED = {
    # First, so that the changes that triggers write while rows are copied get later numbers.
    "change_counters": _OF_USER,
    "changes": _OF_USER,
    "conversations": _OF_USER,
    "messages": _OF_CONVERSATIONS,
    "generations": _OF_CONVERSATIONS,
    "event_log": "t.message_id IN (SELECT g.message_id FROM generations g "
    "JOIN conversations c ON c.id = g.conversation_id WHERE c.user_id = $1)",
    "idempotency_keys": _OF_USER,
    "responses": _OF_USER,
    "usage_ledger": _OF_USER,
    "message_quotas": _OF_USER,
    "user_limits": _OF_USER,
}
# No answer runs during a move, so there are no subscriptions. Each cell has its own frozen users
# and audit log.
NOT_COPIED = {"subscriptions", "frozen_users", "audit_log"}
# The tables that are compared again after the commit. The others are swept, or triggers add rows.
LASTING = ("conversations", "messages", "usage_ledger")
_LOCK = 1836021349  # as in migration 0013
_MOVER = 1836021350
_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class Frozen:
    """How far a move has come, in one of its two databases."""

    state: str
    cell: str


async def lock_move(connection: Connection, user_id: str) -> bool:
    """Return whether this session is the only one that moves the user from here, until it ends."""
    locked = await connection.fetchval(
        "SELECT pg_try_advisory_lock(hashtextextended($1, $2))", user_id, _MOVER
    )
    return bool(locked)


async def read_frozen(connection: Connection, user_id: str) -> Frozen | None:
    """Return how far a move of the user has come here; None where there is none."""
    row = await connection.fetchrow(
        "SELECT state, cell FROM frozen_users WHERE user_id = $1", user_id
    )
    return None if row is None else Frozen(**dict(row))


async def freeze(connection: Connection, user_id: str, state: str, cell: str) -> None:
    """Enter a state; returns once no earlier change of the user's data is under way."""
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", user_id, _LOCK
        )
        await connection.execute(
            """
            INSERT INTO frozen_users (user_id, state, cell) VALUES ($1, $2, $3)
            ON CONFLICT (user_id) DO UPDATE SET state = $2, cell = $3, changed_at = now()
            """,
            user_id,
            state,
            cell,
        )


async def thaw(connection: Connection, user_id: str) -> None:
    """Let the user's data be changed here again."""
    await connection.execute("DELETE FROM frozen_users WHERE user_id = $1", user_id)


async def count_running(connection: Connection, user_id: str) -> int:
    """Return how many of the user's answers are being written."""
    count = await connection.fetchval(
        f"SELECT count(*) FROM generations t WHERE {_OF_CONVERSATIONS} AND t.ended_at IS NULL",  # noqa: S608  # ours
        user_id,
    )
    return int(count)


async def stop_running(connection: Connection, user_id: str) -> None:
    """Ask for the end of the user's answers, as a user does."""
    await connection.execute(
        f"UPDATE generations t SET stop_requested = true WHERE {_OF_CONVERSATIONS} "  # noqa: S608  # ours
        "AND t.ended_at IS NULL",
        user_id,
    )


async def has_rows(connection: Connection, user_id: str) -> bool:
    """Return whether the user has any conversation or usage here."""
    found = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM conversations WHERE user_id = $1)
            OR EXISTS (SELECT FROM usage_ledger WHERE user_id = $1)
        """,
        user_id,
    )
    return bool(found)


async def revision(connection: Connection) -> str | None:
    """Return the revision of the schema."""
    found = await connection.fetchval("SELECT max(version_num) FROM samosachaat_schema_version")
    return None if found is None else str(found)


# --- copying --------------------------------------------------------------------------------------


async def _columns(connection: Connection, table: str) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT attname::text AS name FROM pg_attribute
        WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
            AND attgenerated = ''
        ORDER BY attname
        """,
        table,
    )
    return [row["name"] for row in rows]


async def columns_that_differ(source: Connection, target: Connection) -> list[str]:
    """Return the tables whose columns are not the same in both databases."""
    return [
        table for table in COPIED if await _columns(source, table) != await _columns(target, table)
    ]


@asynccontextmanager
async def as_mover(connection: Connection, user_id: str) -> AsyncIterator[None]:
    """Begin a transaction that may change the frozen user's data."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('samosachaat.moving', $1, true)", user_id)
        yield


async def copy(source: Connection, target: Connection, user_id: str) -> dict[str, int]:
    """Copy all rows of the user in one transaction; return how many of each table.

    Raise CopyDiffers, and leave nothing behind, where the copies are not what was read.
    """
    async with (
        source.transaction(isolation="repeatable_read", readonly=True),
        as_mover(target, user_id),
    ):
        for table in COPIED:
            await _copy_table(source, target, table, user_id)
        # The triggers write at the commit, so these are still as they were read.
        there = await digests(source, user_id, tuple(COPIED))
        here = await digests(target, user_id, tuple(COPIED))
        if different := [table for table in COPIED if there[table] != here[table]]:
            raise CopyDiffers(different)
        return {table: count for table, (count, _) in here.items()}


class CopyDiffers(Exception):
    """The rows of a user are not the same in both databases; names the tables."""

    def __init__(self, tables: Sequence[str]) -> None:
        super().__init__(f"The copies differ in: {', '.join(tables)}.")


async def _copy_table(source: Connection, target: Connection, table: str, user_id: str) -> None:
    """Copy one table's rows of the user, a few chunks ahead at most."""
    columns = await _columns(source, table)
    names = ", ".join(f't."{name}"' for name in columns)
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS)

    async def read() -> None:
        await source.copy_from_query(
            f"SELECT {names} FROM {table} t WHERE {COPIED[table]}",  # noqa: S608  # ours
            user_id,
            output=chunks.put,
            format="binary",
        )
        await chunks.put(None)

    async def arrived() -> AsyncIterator[bytes]:
        while (chunk := await chunks.get()) is not None:
            yield bytes(chunk)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        group.create_task(
            target.copy_to_table(table, source=arrived(), columns=columns, format="binary")
        )


async def digests(
    connection: Connection, user_id: str, tables: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """Return the number of the user's rows in each table, and a digest of their contents."""
    found = {}
    for table in tables:
        names = ", ".join(f't."{name}"' for name in await _columns(connection, table))
        row = await connection.fetchrow(
            f"""
            SELECT count(*) AS count, coalesce(md5(string_agg(d, '' ORDER BY d)), '') AS digest
            FROM (SELECT md5(ROW({names})::text) AS d FROM {table} t WHERE {COPIED[table]}) AS t
            """,  # noqa: S608  # ours
            user_id,
        )
        assert row is not None  # noqa: S101  # such a SELECT gives its row
        found[table] = (int(row["count"]), str(row["digest"]))
    return found


# --- erasing --------------------------------------------------------------------------------------


async def erase(connection: Connection, user_id: str) -> None:
    """Erase all rows of a frozen user, in batches; `frozen_users` keeps its row."""
    message_ids: list[str] = []
    is_last = False
    while not is_last:
        async with as_mover(connection, user_id):
            erased, is_last = await erasure.erase_some(connection, user_id)
        message_ids += erased.message_ids
    async with as_mover(connection, user_id):
        await erasure.erase_moved(connection, user_id, message_ids)
