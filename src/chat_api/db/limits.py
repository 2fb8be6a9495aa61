"""Limits of single users, which replace those of the settings."""

from dataclasses import dataclass

from chat_api.db.connecting import Connection
from chat_api.db.database import Database


@dataclass(frozen=True, slots=True)
class UserLimits:
    """The limits set for one user. None: the setting applies. 0: no limit."""

    answers_per_day: int | None = None
    tokens_per_day: int | None = None


# An expression that gives what is set for the user $1, or null.
OF_USER = "(SELECT ARRAY[answers_per_day, tokens_per_day] FROM user_limits l WHERE l.user_id = $1)"


async def read(db: Database, user_id: str) -> UserLimits:
    """Return the limits that are set for the user."""
    row = await db.fetchrow(f"SELECT {OF_USER} AS limits", user_id)
    return UserLimits(*(row["limits"] or ())) if row is not None else UserLimits()


_SET = """
INSERT INTO user_limits AS l (user_id, answers_per_day, tokens_per_day) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET answers_per_day = excluded.answers_per_day,
    tokens_per_day = excluded.tokens_per_day, set_at = now()
"""

# While the user moves, a change would be lost with the old rows.
_REFUSE_FROZEN = "SELECT samosachaat_refuse_frozen($1)"


async def write(connection: Connection, user_id: str, limits: UserLimits) -> None:
    """Set the user's limits, as a whole."""
    await connection.execute(_REFUSE_FROZEN, user_id)
    await connection.execute(_SET, user_id, limits.answers_per_day, limits.tokens_per_day)


async def remove(connection: Connection, user_id: str) -> None:
    """Remove the user's limits, so that the settings apply."""
    await connection.execute(_REFUSE_FROZEN, user_id)
    await connection.execute("DELETE FROM user_limits WHERE user_id = $1", user_id)
