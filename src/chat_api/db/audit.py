"""The audit log: the acts of administrators. Rows are added, and deleted after AUDIT_DAYS."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from chat_api.db.connecting import Connection
from chat_api.db.database import Database

Act = Literal[
    "delete_user", "read_limits", "read_usage", "remove_limits", "set_limits", "swap_model"
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One act of an administrator."""

    id: int
    at: datetime
    administrator_id: str
    act: str
    user_id: str | None
    """The user concerned; None if there is no single one, and after that user is erased."""
    details: str
    """JSON, without the identity of the user."""
    trace_id: str


_RECORD = """
INSERT INTO audit_log (administrator_id, act, user_id, details, trace_id)
VALUES ($1, $2, $3, $4::json, $5)
"""


async def record(
    connection: "Connection | Database",
    administrator_id: str,
    act: Act,
    user_id: str | None,
    details: str,
    trace_id: str,
) -> None:
    """Record an act, in the transaction of a change or before data is returned."""
    await connection.fetch(_RECORD, administrator_id, act, user_id, details, trace_id)


_READ = """
SELECT id, at, administrator_id, act, user_id, details::text AS details, trace_id
FROM audit_log WHERE ($1::text IS NULL OR user_id = $1) AND ($2::bigint IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""


async def read(db: Database, *, user_id: str | None, before: int | None, limit: int) -> list[Entry]:
    """Return at most `limit` acts, the newest first; with `user_id`, those that concerned them."""
    return [Entry(**dict(row)) for row in await db.fetch(_READ, user_id, before, limit)]
