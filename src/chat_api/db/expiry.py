"""Deleting expired and old conversations, each in a transaction of its own, and old acts.

Several processes may do so at once. A conversation that is locked, or in which a generation runs,
is left for a later round. Two in one transaction could deadlock: at its commit, the triggers of the
change feed lock the counters of their users.
"""

from datetime import datetime

import asyncpg

from chat_api.db.database import BUSY, Connection, Database, StatementRefused
from chat_api.db.erasure import erase_conversations
from chat_api.errors import DatabaseUnavailable
from chat_api.telemetry import log

# The size of a batch.
BATCH = 100
# The number of conversations, in the order of their ids, that one statement checks for their age.
LOOKED_AT = 2_000
# How many acts are deleted in one statement.
ACTS_AT_ONCE = 2_000

# Errors that concern a single conversation, while the database works.
_OF_ONE: tuple[type[BaseException], ...] = (*BUSY, asyncpg.QueryCanceledError, TimeoutError)

_EXPIRED = "expires_at <= now()"
_OLD = "updated_at < $2"

# The conversations of a user who is being moved are deleted by the new cell.
_NOT_FROZEN = "NOT EXISTS (SELECT FROM frozen_users f WHERE f.user_id = c.user_id)"

# Find conversations that have expired, by their own index.
_FIND_EXPIRED = f"""
SELECT id::text AS id FROM conversations c WHERE {_EXPIRED} AND {_NOT_FROZEN}
    AND NOT EXISTS (SELECT FROM generations g WHERE g.conversation_id = c.id AND g.ended_at IS NULL)
ORDER BY expires_at LIMIT {BATCH}
"""  # noqa: S608  # the inserted text is ours

# Find the conversations of a range of ids that are past the retention time. An index on that time
# would cost more with each message than reading all conversations once an hour.
_FIND_OLD = f"""
SELECT id::text AS id, {_OLD} AS is_old FROM conversations
WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT {LOOKED_AT}
"""  # noqa: S608  # the inserted text is ours

# Acts are few, as administrators are: reading all of them once an hour costs less than an index.
_DELETE_OLD_ACTS = """
WITH old AS (
    DELETE FROM audit_log WHERE id = ANY (ARRAY(
        SELECT id FROM audit_log WHERE at < now() - make_interval(days => $1)
        LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING 1)
SELECT count(*) AS deleted FROM old
"""

_CUTOFF = "SELECT now() - make_interval(days => $1) AS cutoff"


async def find_expired(db: Database) -> list[str]:
    """Return a batch of conversations that have expired and in which nothing runs."""
    return [row["id"] for row in await db.fetch(_FIND_EXPIRED)]


async def read_cutoff(db: Database, days: int) -> datetime:
    """Return the time before which conversations are too old."""
    row = await db.fetchrow(_CUTOFF, days)
    assert row is not None  # noqa: S101  # such a SELECT gives its row
    cutoff: datetime = row["cutoff"]
    return cutoff


async def find_old(
    db: Database, cutoff: datetime, after: str | None
) -> tuple[list[str], str | None]:
    """Return the too old ones of the next conversations, and the next place or None."""
    rows = await db.fetch(_FIND_OLD, after, cutoff)
    old = [row["id"] for row in rows if row["is_old"]]
    return old, rows[-1]["id"] if len(rows) == LOOKED_AT else None


async def delete_expired(db: Database, conversation_id: str) -> bool:
    """Delete a conversation that has expired; return whether it was deleted."""
    return await _delete(db, f"WHERE id = $1 AND {_EXPIRED}", conversation_id)


async def delete_old(db: Database, conversation_id: str, cutoff: datetime) -> bool:
    """Delete a conversation if it is still too old; return whether it was deleted."""
    return await _delete(db, f"WHERE id = $1 AND {_OLD}", conversation_id, cutoff)


async def _delete(db: Database, condition: str, conversation_id: str, *others: object) -> bool:
    """Delete a conversation; return whether it was.

    One that cannot be deleted, or not now, must not keep those that come after it.
    """
    try:
        return await _delete_unlocked(db, condition, conversation_id, *others)
    except (DatabaseUnavailable, StatementRefused) as error:
        # Its rows are locked, take too long, or cannot be read.
        if isinstance(error, DatabaseUnavailable) and not isinstance(error.__cause__, _OF_ONE):
            raise
        log.warning("conversation_not_deleted", conversation_id=conversation_id)
        return False


async def _delete_unlocked(
    db: Database, condition: str, conversation_id: str, *others: object
) -> bool:
    async with db.transaction() as connection:
        locked = await connection.fetchval(
            f"SELECT 1 FROM conversations c {condition} AND {_NOT_FROZEN} "  # noqa: S608  # ours
            "FOR UPDATE SKIP LOCKED",
            conversation_id,
            *others,
        )
        # Needs a later snapshot than the lock's: a send may have committed just before the lock.
        if locked is None or await _is_running(connection, conversation_id):
            return False
        await erase_conversations(connection, [conversation_id])
    return True


async def _is_running(connection: Connection, conversation_id: str) -> bool:
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM generations WHERE conversation_id = $1 AND ended_at IS NULL)",
        conversation_id,
    )
    return bool(found)


async def delete_old_acts(db: Database, days: int) -> None:
    """Delete the acts in the audit log that are older than `days`; 0 deletes none."""
    deleted = ACTS_AT_ONCE if days else 0
    while deleted == ACTS_AT_ONCE:
        row = await db.fetchrow(_DELETE_OLD_ACTS, days, ACTS_AT_ONCE)
        deleted = 0 if row is None else row["deleted"]
