"""The log of running answers: what they have sent, a row an answer and batch.

Rows name their attempt; a row of an attempt that no longer holds its answer is not written. Ids are
strings that hold a UUID.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chat_api.db.database import Database, Record

# The size of a row, and so of what a reader is given at once. One event may be larger.
ROW_CHARS = 32_768
# What one round reads for all readers of a process together.
ROUND_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class LogRow:
    """Consecutive events of one attempt; `events` holds their JSON, a line each."""

    message_id: str
    attempt: int
    first_event: int
    last_event: int
    events: str


def pieces(row: LogRow) -> Iterator[LogRow]:
    """Return the same events in rows of at most ROW_CHARS, or of one event."""
    lines = row.events.split("\n") if len(row.events) > ROW_CHARS else []
    if len(lines) != row.last_event - row.first_event + 1:
        yield row  # short, or a snapshot, which is one event for many numbers
        return
    first, start, size = row.first_event, 0, 0
    for index, line in enumerate(lines):
        if index > start and size + len(line) > ROW_CHARS:
            last = first + index - start - 1
            yield LogRow(row.message_id, row.attempt, first, last, "\n".join(lines[start:index]))
            first, start, size = last + 1, index, 0
        size += len(line) + 1
    yield LogRow(row.message_id, row.attempt, first, row.last_event, "\n".join(lines[start:]))


@dataclass(frozen=True, slots=True)
class Held:
    """What the database says about an answer of this process."""

    attempt: int
    stop_requested: bool


async def append_log(db: Database, process: str, rows: Sequence[LogRow]) -> dict[str, Held]:
    """Write the rows, and say which running answers this process holds, by message id.

    A row of an answer that this attempt no longer holds is left out, and costs the others nothing.
    The commit is asynchronous: the last moments may be lost with the database's process. What must
    last is written by `answers.end`.
    """
    held = await db.fetch(
        """
        WITH written AS (
            INSERT INTO answer_log (message_id, attempt, first_event, last_event, events)
            SELECT b.message_id, b.attempt, b.first_event, b.last_event, b.events
            FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::text[])
                AS b (message_id, attempt, first_event, last_event, events)
            CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS s
            CROSS JOIN LATERAL (
                -- By the primary key, row for row: a planner that takes the running answers of an
                -- owner for a handful would compare each row with each of them.
                SELECT 1 FROM generations g
                WHERE g.message_id = b.message_id AND g.attempt = b.attempt
                    AND g.status = 'generating'
                LIMIT 1) AS mine
            ON CONFLICT DO NOTHING)
        SELECT message_id::text AS id, attempt, stop_requested
        FROM generations WHERE owner = $6 AND ended_at IS NULL
        """,
        [row.message_id for row in rows],
        [row.attempt for row in rows],
        [row.first_event for row in rows],
        [row.last_event for row in rows],
        [row.events for row in rows],
        process,
    )
    return {row["id"]: Held(row["attempt"], row["stop_requested"]) for row in held}


async def log_ends(db: Database, answers: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Up to which event the log of each (message id, attempt) has no hole; -1 for no event."""
    rows = await db.fetch(
        """
        SELECT b.message_id::text AS id, coalesce((
            SELECT CASE WHEN min(l.first_event) = 0 THEN
                min(l.last_event) FILTER (WHERE l.following > l.last_event + 1
                    OR l.following IS NULL) END
            FROM (
                SELECT a.first_event, a.last_event,
                    lead(a.first_event) OVER (ORDER BY a.last_event) AS following
                FROM answer_log a
                WHERE a.message_id = b.message_id AND a.attempt = b.attempt) AS l), -1)
            AS last_event
        FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
        """,
        [message_id for message_id, _ in answers],
        [attempt for _, attempt in answers],
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
    more: bool = False
    """Whether further rows may follow at once."""
    size: int = field(default=0, compare=False)
    """The bytes of the rows' events."""


async def read_pages(
    db: Database,
    places: Sequence[tuple[str, int, int]],
    *,
    rows_each: int = 100,
    bytes_each: int = ROW_CHARS,
) -> dict[int, Page]:
    """Return, for each place (message id, attempt, last event seen), what is new; by index.

    A place of which there is nothing new is not in the result, nor are the last places once the
    pages reach ROUND_BYTES. A page has at most `bytes_each`, or is one larger row. It begins with
     the row that holds the event after the place; behind a hole in the log there is nothing
    new. Of an attempt later than the place's, rows come from its start. One statement for all of a
    process's readers; sizes are known without reading the events themselves.
    """
    found = await db.fetch(
        """
        SELECT * FROM (
            SELECT r.place, g.message_id IS NULL AS gone, g.attempt,
                g.ended_at IS NOT NULL AS ended, g.last_event AS end_event,
                l.first_event, l.last_event, l.events, l.available,
                coalesce(l.size, 0) AS size,
                coalesce(sum(l.size) OVER (ORDER BY r.place, l.last_event), 0)
                    - coalesce(l.size, 0) AS before
            FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::integer[])
                AS r (place, message_id, attempt, event)
            LEFT JOIN generations g ON g.message_id = r.message_id
            CROSS JOIN LATERAL (
                SELECT CASE WHEN g.attempt = r.attempt THEN r.event ELSE -1 END AS event) seen
            LEFT JOIN LATERAL (
                SELECT w.* FROM (
                    SELECT b.*, octet_length(b.events) AS size,
                        sum(octet_length(b.events)) OVER (ORDER BY b.last_event)
                            - octet_length(b.events) AS before,
                        count(*) OVER () AS available
                    FROM (
                        SELECT a.first_event, a.last_event, a.events FROM answer_log a
                        WHERE a.message_id = r.message_id AND a.attempt = g.attempt
                            AND a.last_event >= (
                                SELECT s.last_event FROM answer_log s
                                WHERE s.message_id = r.message_id AND s.attempt = g.attempt
                                    AND s.last_event > seen.event
                                    AND s.first_event <= seen.event + 1
                                ORDER BY s.last_event LIMIT 1)
                        ORDER BY a.last_event LIMIT $5) b) w
                WHERE w.before = 0 OR w.before + w.size <= $6
            ) l ON true
            WHERE g.message_id IS NULL OR g.attempt <> r.attempt OR g.ended_at IS NOT NULL
                OR l.events IS NOT NULL) p
        WHERE p.before < $7
        ORDER BY p.place, p.last_event
        """,
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
            LogRow(message_id, row["attempt"], row["first_event"], row["last_event"], row["events"])
            for row in rows
            if row["events"] is not None
        ),
        more=is_cut or available > len(rows) or available >= rows_each,
        size=sum(row["size"] for row in rows),
    )


async def read_log(db: Database, message_id: str) -> list[LogRow]:
    """All that the log holds of an answer, by attempt and then in order."""
    rows = await db.fetch(
        """
        SELECT attempt, first_event, last_event, events
        FROM answer_log WHERE message_id = $1 ORDER BY attempt, last_event
        """,
        message_id,
    )
    return [
        LogRow(message_id, row["attempt"], row["first_event"], row["last_event"], row["events"])
        for row in rows
    ]
