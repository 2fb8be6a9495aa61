"""The event log: the events of running generations, one row per generation and batch.

Rows name their attempt; a row of an attempt that no longer holds its generation is not written. Ids
are strings that hold a UUID.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from chat_api.db.database import Database, Record

# The size of a row, which is the unit of reading. One event may be larger.
ROW_CHARS = 32_768
# The size of what one round reads for all subscriptions of a process.
ROUND_BYTES = 4_000_000


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
    """None where a replica of the previous version wrote the row: a snapshot has fewer lines than
    events then."""


def pieces(row: LogRow) -> Iterator[LogRow]:
    """Yield the same events in rows of at most ROW_CHARS, or of one event."""
    if row.is_snapshot or len(row.events) <= ROW_CHARS:
        yield row
        return
    lines = row.events.split("\n")
    start, size = 0, 0
    for index, line in enumerate(lines):
        if index > start and size + len(line) > ROW_CHARS:
            yield _piece(row, lines, start, index)
            start, size = index, 0
        size += len(line) + 1
    yield _piece(row, lines, start, len(lines))


def _piece(row: LogRow, lines: Sequence[str], start: int, end: int) -> LogRow:
    return replace(
        row,
        first_event=row.first_event + start,
        last_event=row.first_event + end - 1,
        events="\n".join(lines[start:end]),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """The state of a generation of this process in the database."""

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
    """The next rows of the log for one subscription; without rows, the generation has ended."""

    gone: bool
    attempt: int
    ended: bool
    last_event: int | None
    rows: tuple[LogRow, ...]
    seam: int | None = None
    """The last event that a later attempt than the reader's shares with it, if it goes on from it.
    """
    more: bool = False
    """Whether further rows may follow at once."""
    size: int = field(default=0, compare=False)
    """The bytes of the rows' events."""


# Read, for each place, the rows that follow it: up to a number of rows and bytes each, and up to a
# number of bytes in all. The sizes are known without reading the events themselves.
_READ_PAGES = """
SELECT * FROM (
    SELECT r.place, g.message_id IS NULL AS gone, g.attempt,
        g.ended_at IS NOT NULL AS ended, g.last_event AS end_event, seen.seam,
        l.first_event, l.last_event, l.events, l.is_snapshot, l.available,
        coalesce(l.size, 0) AS size,
        coalesce(sum(l.size) OVER (ORDER BY r.place, l.last_event), 0)
            - coalesce(l.size, 0) AS before
    FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::integer[])
        AS r (place, message_id, attempt, event)
    LEFT JOIN generations g ON g.message_id = r.message_id
    CROSS JOIN LATERAL (
        -- Attempts that go on from each other share their events up to the seam. An attempt that
        -- began again has none.
        SELECT shared.seam,
            CASE WHEN g.attempt = r.attempt OR r.event <= shared.seam THEN r.event ELSE -1 END
                AS event
        FROM (SELECT CASE WHEN count(s) = g.attempt - r.attempt THEN min(s) END AS seam
            FROM unnest(g.seams[r.attempt:g.attempt - 1]) AS s) AS shared) seen
    LEFT JOIN LATERAL (
        SELECT w.* FROM (
            SELECT b.*, octet_length(b.events) AS size,
                sum(octet_length(b.events)) OVER (ORDER BY b.last_event)
                    - octet_length(b.events) AS before,
                count(*) OVER () AS available
            FROM (
                SELECT a.first_event, a.last_event, a.events, a.is_snapshot FROM event_log a
                WHERE a.message_id = r.message_id AND a.attempt = g.attempt
                    AND a.last_event >= (
                        SELECT s.last_event FROM event_log s
                        WHERE s.message_id = r.message_id AND s.attempt = g.attempt
                            AND s.last_event > seen.event
                            AND s.first_event <= seen.event + 1
                        ORDER BY s.last_event LIMIT 1)
                ORDER BY a.last_event LIMIT $5) b) w
        WHERE w.before = 0 OR w.before + w.size <= $6
    ) l ON true
    -- A later attempt is none as long as it has logged nothing: it may still go on from this one.
    WHERE g.message_id IS NULL OR g.ended_at IS NOT NULL OR l.events IS NOT NULL) p
WHERE p.before < $7
ORDER BY p.place, p.last_event
"""


async def read_pages(
    db: Database,
    places: Sequence[tuple[str, int, int]],
    *,
    rows_each: int = 100,
    bytes_each: int = ROW_CHARS,
) -> dict[int, Page]:
    """Return the new page of each place (message id, attempt, last event read), by index.

    A place without new rows is not in the result, nor are the last places once the pages reach
    ROUND_BYTES. A page has at most `bytes_each`, or is one larger row. It begins with
    the row that holds the event after the place; behind a hole in the log there is nothing new. Of
    an attempt later than the place's, rows come from its start.
    """
    found = await db.fetch(
        _READ_PAGES,
        list(range(len(places))),
        [message_id for message_id, _, _ in places],
        [attempt for _, attempt, _ in places],
        [event for _, _, event in places],
        rows_each,
        bytes_each,
        ROUND_BYTES,
    )
    is_cut = sum(row["size"] for row in found) >= ROUND_BYTES
    grouped: dict[int, list[Record]] = {}
    for row in found:
        grouped.setdefault(row["place"], []).append(row)
    return {
        place: _page(
            places[place][0], rows, rows_each, is_cut=is_cut and place == found[-1]["place"]
        )
        for place, rows in grouped.items()
    }


def _page(message_id: str, rows: Sequence[Record], rows_each: int, *, is_cut: bool) -> Page:
    available = rows[0]["available"] or 0
    return Page(
        gone=rows[0]["gone"],
        attempt=rows[0]["attempt"] or 0,
        ended=rows[0]["ended"],
        last_event=rows[0]["end_event"],
        rows=tuple(
            LogRow(
                message_id,
                row["attempt"],
                row["first_event"],
                row["last_event"],
                row["events"],
                row["is_snapshot"],
            )
            for row in rows
            if row["events"] is not None
        ),
        seam=rows[0]["seam"],
        more=is_cut or available > len(rows) or available >= rows_each,
        size=sum(row["size"] for row in rows),
    )


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
