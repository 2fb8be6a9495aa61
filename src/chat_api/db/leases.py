"""Leases (which process runs a generation) and the processes with subscriptions to it.

Times are the database's own (`now()`), so that the replicas' clocks do not matter; leases are in
seconds. An attempt fences: claiming a generation raises it by one, and the process that held it
changes nothing any more. Ids are strings that hold a UUID.
"""

from collections.abc import Sequence
from datetime import datetime

from chat_api.db.database import Database, Record
from chat_api.db.generations import Lease


async def renew(
    db: Database,
    process: str,
    held: Sequence[tuple[str, int]],
    subscribed: Sequence[str],
    lease_seconds: float,
) -> None:
    """Renew this process's leases of (message id, attempt), and its subscriptions to messages."""
    if held:
        await db.fetch(
            """
            UPDATE generations SET lease_until = now() + make_interval(secs => $4)
            WHERE message_id IN (
                SELECT mine.message_id
                FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
                CROSS JOIN LATERAL (
                    SELECT g.message_id FROM generations g
                    WHERE g.message_id = b.message_id AND g.attempt = b.attempt
                        AND g.owner = $3 AND g.status = 'generating'
                    LIMIT 1 FOR UPDATE SKIP LOCKED) AS mine)
            """,
            [message_id for message_id, _ in held],
            [attempt for _, attempt in held],
            process,
            lease_seconds,
        )
    if subscribed:
        await subscribe(db, process, subscribed, lease_seconds)


async def subscribe(
    db: Database, process: str, message_ids: Sequence[str], lease_seconds: float
) -> None:
    """Record that this process has subscriptions to these generations."""
    await db.fetch(
        """
        INSERT INTO subscriptions (message_id, process, until)
        SELECT g.message_id, $2, now() + make_interval(secs => $3)
        FROM generations g WHERE g.message_id = ANY ($1::uuid[]) AND g.ended_at IS NULL
        ON CONFLICT (message_id, process) DO UPDATE SET until = excluded.until
        """,
        list(message_ids),
        process,
        lease_seconds,
    )


async def unsubscribe(db: Database, process: str, message_ids: Sequence[str]) -> None:
    """Note that this process has no subscriptions to these generations any more."""
    await db.fetch(
        "DELETE FROM subscriptions WHERE process = $1 AND message_id = ANY ($2::uuid[])",
        process,
        list(message_ids),
    )


_LEASE_COLUMNS = """g.message_id::text AS message_id, g.conversation_id::text AS conversation_id,
    g.question_id::text AS question_id, g.attempt, g.crashes, g.options, g.trace_id,
    g.stop_requested, g.resumed_after,
    coalesce(
        (SELECT m.model_tag FROM messages m WHERE m.id = g.message_id), 'default') AS model_tag,
    (SELECT c.instructions FROM conversations c WHERE c.id = g.conversation_id) AS instructions,
    (SELECT coalesce((
        -- The regeneration of an earlier answer has the conversation's id.
        SELECT s.id FROM messages s WHERE m.replaces = m.conversation_id
            AND s.conversation_id = m.conversation_id AND s.position = m.position
            AND s.replaces IS NULL), m.replaces)::text
        FROM messages m WHERE m.id = g.message_id) AS replaces"""


def _lease(row: Record) -> Lease:
    return Lease(**dict(row))


async def database_time(db: Database) -> datetime:
    """Return the time by the database's clock."""
    row = await db.fetchrow("SELECT now() AS at")
    assert row is not None  # noqa: S101  # the statement always gives one row
    at: datetime = row["at"]
    return at


async def claim_abandoned(
    db: Database,
    process: str,
    lease_seconds: float,
    *,
    limit: int,
    only_released: bool,
    expired_before: datetime | None = None,
) -> list[Lease]:
    """Claim running generations that were handed over or (unless `only_released`) have expired.

    `expired_before` is a time by the database's clock; None means now. The attempt of each grows by
    one, which fences the process that held it. A lease that expired counts as a crash, a hand-over
    does not.
    """
    rows = await db.fetch(
        f"""
        UPDATE generations g SET
            attempt = g.attempt + 1,
            crashes = g.crashes + CASE WHEN g.owner IS NULL THEN 0 ELSE 1 END,
            owner = $1,
            lease_until = now() + make_interval(secs => $2)
        WHERE g.message_id IN (
            SELECT a.message_id FROM generations a
            WHERE a.ended_at IS NULL AND a.lease_until < least(now(), $5::timestamptz)
                AND (a.owner IS NULL OR NOT $4)
            ORDER BY a.lease_until LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING {_LEASE_COLUMNS}
        """,  # noqa: S608  # the inserted text is ours
        process,
        lease_seconds,
        limit,
        only_released,
        expired_before,
    )
    return [_lease(row) for row in rows]


async def release(db: Database, held: Sequence[tuple[str, int]], process: str) -> None:
    """Hand (message id, attempt) over: another process may claim them at once."""
    await db.fetch(
        """
        UPDATE generations g SET owner = NULL, lease_until = '-infinity'
        FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
        WHERE g.message_id = b.message_id AND g.attempt = b.attempt
            AND g.owner = $3 AND g.ended_at IS NULL
        """,
        [message_id for message_id, _ in held],
        [attempt for _, attempt in held],
        process,
    )


async def count_stall(
    db: Database, answers: Sequence[tuple[str, int]], process: str
) -> dict[str, int]:
    """Count a crash for each (message id, attempt) that this process holds; crashes by id."""
    rows = await db.fetch(
        """
        UPDATE generations g SET crashes = g.crashes + 1
        FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
        WHERE g.message_id = b.message_id AND g.attempt = b.attempt
            AND g.owner = $3 AND g.ended_at IS NULL
        RETURNING g.message_id::text AS id, g.crashes
        """,
        [message_id for message_id, _ in answers],
        [attempt for _, attempt in answers],
        process,
    )
    return {row["id"]: row["crashes"] for row in rows}


# Make the log of an earlier attempt, up to an event, the beginning of this attempt's.
_CONTINUE = """
WITH held AS (
    UPDATE generations g SET seams = ARRAY(
        SELECT CASE WHEN number < $4 THEN g.seams[number] ELSE $3 END
        FROM generate_series(1, $2 - 1) AS number ORDER BY number)
    WHERE message_id = $1 AND attempt = $2 AND ended_at IS NULL
    RETURNING message_id),
copied AS (
    INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
    SELECT l.message_id, $2, l.first_event, l.last_event, l.events, l.is_snapshot
    FROM event_log l JOIN held USING (message_id)
    WHERE l.attempt = $4 AND l.last_event <= $3
    ON CONFLICT DO NOTHING)
SELECT message_id FROM held
"""


async def continue_from(
    db: Database, lease: Lease, last_event: int, attempt: int | None = None
) -> bool:
    """Let the lease go on from an earlier attempt up to whose `last_event` both are the same.

    None for `attempt` is the one before.

    Return whether the attempt still holds the generation.
    """
    source = lease.attempt - 1 if attempt is None else attempt
    row = await db.fetchrow(_CONTINUE, lease.message_id, lease.attempt, last_event, source)
    return row is not None


async def start_over(db: Database, lease: Lease) -> Lease | None:
    """Return this process's lease of a further attempt, which shares nothing with this one.

    None where the attempt does not hold the generation any more.
    """
    row = await db.fetchrow(
        f"""
        UPDATE generations g SET attempt = g.attempt + 1
        WHERE g.message_id = $1 AND g.attempt = $2 AND g.ended_at IS NULL
        RETURNING {_LEASE_COLUMNS}
        """,  # noqa: S608  # the inserted text is ours
        lease.message_id,
        lease.attempt,
    )
    return None if row is None else _lease(row)


async def request_stop(db: Database, message_id: str) -> None:
    """Request a stop from the process that runs the generation."""
    await db.fetch(
        "UPDATE generations SET stop_requested = true WHERE message_id = $1 AND ended_at IS NULL",
        message_id,
    )


async def take(db: Database, message_id: str, process: str, lease_seconds: float) -> Lease | None:
    """Take a running generation from its process; None if it has ended."""
    row = await db.fetchrow(
        f"""
        UPDATE generations g SET attempt = g.attempt + 1, owner = $2,
            lease_until = now() + make_interval(secs => $3)
        WHERE g.message_id = $1 AND g.ended_at IS NULL
        RETURNING {_LEASE_COLUMNS}
        """,  # noqa: S608  # the inserted text is ours
        message_id,
        process,
        lease_seconds,
    )
    return None if row is None else _lease(row)
