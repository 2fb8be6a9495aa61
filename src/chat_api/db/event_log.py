"""The event log: what running generations have sent, one row per generation and batch.

Rows name their attempt; a row of an attempt that no longer holds its generation is not written. Ids
are strings that hold a UUID.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chat_api.db.database import Database


@dataclass(frozen=True, slots=True)
class LogRow:
    """Consecutive events of one attempt; `events` holds their JSON, a line each.

    Or one `snapshot` event that stands for all of them.
    """

    message_id: str
    attempt: int
    first_event: int
    last_event: int
    events: str
    is_snapshot: bool | None = None
    """None where a replica of the version before wrote the row: a snapshot has fewer lines than
    events then."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the database says about a generation of this process."""

    attempt: int
    stop_requested: bool


# Log the rows of generations that their attempt still holds, and return which generations this
# process holds. The commit is asynchronous. Each row looks its generation up by the primary key: a
# planner that expects few running generations per process would compare all rows with all of them.
_APPEND = """
WITH written AS (
    INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
    SELECT b.message_id, b.attempt, b.first_event, b.last_event, b.events, b.is_snapshot
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::boolean[])
        AS b (message_id, attempt, first_event, last_event, events, is_snapshot)
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS s
    CROSS JOIN LATERAL (
        SELECT 1 FROM generations g
        WHERE g.message_id = b.message_id AND g.attempt = b.attempt
            AND g.status = 'generating'
        LIMIT 1) AS held
    ON CONFLICT DO NOTHING)
SELECT message_id::text AS id, attempt, stop_requested
FROM generations WHERE owner = $7 AND ended_at IS NULL
"""


async def append(db: Database, process: str, rows: Sequence[LogRow]) -> dict[str, Held]:
    """Write the rows, and return which running generations this process holds, by message id.

    A row of a generation that this attempt no longer holds is left out, and costs the others
    nothing. The last rows may be lost if the database's server dies; `generations.end` writes what
    must last.
    """
    held = await db.fetch(
        _APPEND,
        [row.message_id for row in rows],
        [row.attempt for row in rows],
        [row.first_event for row in rows],
        [row.last_event for row in rows],
        [row.events for row in rows],
        [row.is_snapshot for row in rows],
        process,
    )
    return {row["id"]: Held(row["attempt"], row["stop_requested"]) for row in held}


# Find, for each generation, the last event up to which its log has no hole.
_FIND_ENDS = """
SELECT b.message_id::text AS id, coalesce((
    SELECT CASE WHEN min(l.first_event) = 0 THEN
        min(l.last_event) FILTER (WHERE l.following > l.last_event + 1 OR l.following IS NULL) END
    FROM (
        SELECT a.first_event, a.last_event,
            lead(a.first_event) OVER (ORDER BY a.last_event) AS following
        FROM event_log a
        WHERE a.message_id = b.message_id AND a.attempt = b.attempt) AS l), -1) AS last_event
FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
"""


async def find_ends(db: Database, generations: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return up to which event the log of each (message id, attempt) has no hole; -1 for none."""
    rows = await db.fetch(
        _FIND_ENDS,
        [message_id for message_id, _ in generations],
        [attempt for _, attempt in generations],
    )
    return {row["id"]: row["last_event"] for row in rows}


@dataclass(frozen=True, slots=True)
class Page:
    """What the log holds for one reader. Without rows the attempt, or the end, is the news."""

    gone: bool
    attempt: int
    ended: bool
    last_event: int | None
    rows: tuple[LogRow, ...]


async def read_pages(
    db: Database, places: Sequence[tuple[str, int, int]], *, rows_each: int = 100
) -> dict[int, Page]:
    """For each place (message id, attempt, last event seen), what is new; by index.

    A place of which there is nothing new is not in the result. Of an attempt later than the
    place's, rows come from its start. One statement for all of a process's readers.
    """
    found = await db.fetch(
        """
        SELECT r.place, g.message_id IS NULL AS gone, g.attempt, g.ended_at IS NOT NULL AS ended,
            g.last_event AS end_event, l.first_event, l.last_event, l.events
        FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::integer[])
            AS r (place, message_id, attempt, event)
        LEFT JOIN generations g ON g.message_id = r.message_id
        LEFT JOIN LATERAL (
            SELECT a.first_event, a.last_event, a.events FROM answer_log a
            WHERE a.message_id = r.message_id AND a.attempt = g.attempt
                AND a.last_event > CASE WHEN g.attempt = r.attempt THEN r.event ELSE -1 END
            ORDER BY a.last_event LIMIT $5
        ) l ON true
        WHERE g.message_id IS NULL OR g.attempt <> r.attempt OR g.ended_at IS NOT NULL
            OR l.events IS NOT NULL
        ORDER BY r.place, l.last_event
        """,
        list(range(len(places))),
        [message_id for message_id, _, _ in places],
        [attempt for _, attempt, _ in places],
        [event for _, _, event in places],
        rows_each,
    )
    grouped: dict[int, list[Any]] = {}
    for row in found:
        grouped.setdefault(row["place"], []).append(row)
    return {
        place: Page(
            gone=rows[0]["gone"],
            attempt=rows[0]["attempt"] or 0,
            ended=rows[0]["ended"],
            last_event=rows[0]["end_event"],
            rows=tuple(
                LogRow(
                    places[place][0],
                    row["attempt"],
                    row["first_event"],
                    row["last_event"],
                    row["events"],
                )
                for row in rows
                if row["events"] is not None
            ),
        )
        for place, rows in grouped.items()
    }


async def read(db: Database, message_id: str) -> list[LogRow]:
    """Return all rows of a generation, by attempt and then in order."""
    rows = await db.fetch(
        """
        SELECT message_id::text AS message_id, attempt, first_event, last_event, events, is_snapshot
        FROM event_log WHERE message_id = $1 ORDER BY attempt, last_event
        """,
        message_id,
    )
    return [LogRow(**dict(row)) for row in rows]
