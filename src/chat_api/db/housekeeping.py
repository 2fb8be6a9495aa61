"""Removing rows that are no longer needed, in small statements that use indexes."""

from chat_api.db.database import Database
from chat_api.db.generations import KEPT_FOR

_SWEPT_AT_ONCE = 500


async def sweep(db: Database, log_retention_seconds: float) -> None:
    """Remove the event log of generations that ended a while ago, and rows that are a day old.

    In small statements that find their rows by index; several processes share the work.
    """
    statements = (
        (
            """
            WITH due AS (
                UPDATE generations SET logged = false WHERE message_id = ANY (ARRAY(
                    SELECT message_id FROM generations
                    WHERE logged AND ended_at IS NOT NULL
                        AND ended_at < now() - make_interval(secs => $1)
                    ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))
                RETURNING message_id),
            log AS (
                DELETE FROM event_log
                WHERE message_id = ANY (ARRAY(SELECT message_id FROM due)))
            SELECT count(*) AS swept FROM due
            """,
            (log_retention_seconds, _SWEPT_AT_ONCE),
        ),
        (
            f"""
            WITH old AS (
                DELETE FROM generations WHERE message_id = ANY (ARRAY(
                    SELECT message_id FROM generations
                    WHERE ended_at < now() - interval '{KEPT_FOR}'
                    ORDER BY ended_at LIMIT $1 FOR UPDATE SKIP LOCKED))
                RETURNING 1)
            SELECT count(*) AS swept FROM old
            """,  # noqa: S608  # the inserted text is ours
            (_SWEPT_AT_ONCE,),
        ),
        (
            f"""
            WITH old AS (
                DELETE FROM idempotency_keys WHERE (user_id, key) IN (
                    SELECT user_id, key FROM idempotency_keys
                    WHERE created_at < now() - interval '{KEPT_FOR}'
                    ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED)
                RETURNING 1)
            SELECT count(*) AS swept FROM old
            """,  # noqa: S608  # the inserted text is ours
            (_SWEPT_AT_ONCE,),
        ),
    )
    for statement, arguments in statements:
        swept = _SWEPT_AT_ONCE
        while swept == _SWEPT_AT_ONCE:
            row = await db.fetchrow(statement, *arguments)
            swept = 0 if row is None else row["swept"]
    await db.fetch("DELETE FROM subscriptions WHERE until < now() - interval '1 hour'")


async def try_to_write(db: Database) -> None:
    """Write a row without meaning, which is swept later. Raise DatabaseUnavailable."""
    await db.fetch(
        """
        INSERT INTO subscriptions (message_id, process, until)
        VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours')
        """
    )


async def sweep_orphans(db: Database) -> None:
    """Remove rows that no index finds; call it once an hour.

    That is, log rows that were written while their conversation was deleted, and the quotas of
    users who have sent nothing for a while.
    """
    await db.fetch("DELETE FROM message_quotas WHERE began < now() - interval '1 hour'")
    await db.fetch(
        """
        DELETE FROM event_log l WHERE l.written_at < now() - interval '1 hour'
            AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.message_id = l.message_id)
        """
    )
