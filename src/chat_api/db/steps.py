"""Steps of a migration that may run while replicas serve.

A statement that waits for a table's lock makes all others wait behind it. So each such step gives
up after a moment and tries again, and long steps take no such lock: rows are changed in
batches, indexes are built concurrently, constraints are validated after they were added.

Everything here runs outside of transactions: in Alembic's `autocommit_block()`, or on a connection
in AUTOCOMMIT. Each step can be repeated, so that a migration that was cut off can be run again.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from sqlalchemy import Connection as AlchemyConnection

# The longest wait of a send behind a step that waits for a lock (twice that, for two tables).
LOCK_MILLISECONDS = 150
# So that no lock is held while the disk is waited for: what a crash takes away is done again.
NOT_DURABLE = "PERFORM set_config('synchronous_commit', 'off', true);\n"
# Time for a batch: rows that it changes are locked until its end.
_BATCH_SECONDS = 0.1
_PAUSE_SECONDS = (0.05, 0.5)
_PATIENCE_SECONDS = 600.0
_PASSING = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_IN_SHORT_ATTEMPTS = """
DO $attempts$
BEGIN
    SET LOCAL lock_timeout = '{milliseconds}ms';
    FOR attempt IN 1 .. 100 LOOP
        BEGIN
            {statements}
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF attempt = 100 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.1 + random() * 0.4);
        END;
    END LOOP;
END $attempts$
"""


def in_short_attempts(*statements: str) -> str:
    """Return one statement that does these inside the migration's own transaction.

    It waits for a lock only briefly, and tries again later; the last attempt's error,
    `lock_not_available`, is raised.
    """
    joined = "".join(f"{statement.strip().removesuffix(';')};\n" for statement in statements)
    return _IN_SHORT_ATTEMPTS.format(statements=joined, milliseconds=2 * LOCK_MILLISECONDS)


_GRANT_LIKE_CONVERSATIONS = """
DO $grants$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT privilege_type AS privilege,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE pg_class.oid = 'conversations'::regclass AND grantee <> relowner
            AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        {grants}
    END LOOP;
END $grants$
"""
_GRANT_TABLES = "EXECUTE format('GRANT %s ON {names} TO %s', held.privilege, held.grantee);"
_GRANT_FUNCTIONS = (
    "IF held.privilege <> 'SELECT' THEN "
    "EXECUTE format('GRANT EXECUTE ON FUNCTION {names} TO %s', held.grantee); END IF;"
)


def grant_like_conversations(tables: Sequence[str] = (), functions: Sequence[str] = ()) -> str:
    """Return one statement that grants these to the roles that have rights on `conversations`.

    Such a role, where it is not the one that migrates, gets the same rights on the tables. It may
    call the functions if it may change conversations, also where a database grants new functions to
    no role by default.
    """
    kinds = ((_GRANT_TABLES, tables), (_GRANT_FUNCTIONS, functions))
    grants = (grant.format(names=", ".join(names)) for grant, names in kinds if names)
    return _GRANT_LIKE_CONVERSATIONS.format(grants="\n        ".join(grants))


def cause_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """Return the driver's error, which SQLAlchemy wraps twice, if it is one of these."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kinds):
        found = getattr(found, "orig", None) or found.__cause__
    return found


class Steps:
    """The steps, on one connection of SQLAlchemy's in AUTOCOMMIT."""

    def __init__(self, bind: "AlchemyConnection") -> None:
        self._bind = bind

    def rows(self, statement: str, *arguments: Any) -> list[Any]:
        """Return the rows of one statement, run in a transaction of its own."""
        from sqlalchemy.util import await_only

        driver = self._driver()

        async def fetch() -> list[Any]:
            # Inside a transaction a pooler does not change the session under a statement.
            async with driver.transaction():
                return list(await driver.fetch(statement, *arguments))

        return await_only(fetch())

    def run(self, statement: str) -> None:
        """Run a statement that may not be in a transaction block, or is a whole one (DO)."""
        from sqlalchemy.util import await_only

        await_only(self._driver().execute(statement))

    def _driver(self) -> Any:
        return self._bind.connection.driver_connection

    def briefly(self, *statements: str) -> None:
        """Run statements as one transaction; where it has to wait for a lock, try again later."""
        body = "".join(f"{statement.strip().rstrip(';')};\n" for statement in statements)
        self._until_unlocked(
            f"DO $steps$ BEGIN\nPERFORM set_config('lock_timeout', '{LOCK_MILLISECONDS}', true);\n"
            f"{NOT_DURABLE}{body}END $steps$"
        )

    def _until_unlocked(self, statement: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self.run(statement)
            except Exception as error:
                if cause_of(error, _PASSING) is None or time.monotonic() > deadline:
                    raise
                self.pause()
            else:
                return

    def pause(self) -> None:
        """Wait a moment, so that others can take the lock."""
        from sqlalchemy.util import await_only

        sleep: Coroutine[Any, Any, None] = asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311
        await_only(sleep)

    def in_batches(self, batch: Callable[[int], bool], *, size: int = 100) -> None:
        """Call `batch(size)` while it returns True, with as many rows as fit into a moment."""
        while True:
            began = time.monotonic()
            if not batch(size):
                return
            took = time.monotonic() - began
            if took > _BATCH_SECONDS:
                size = max(1, size // 2)
            elif took < _BATCH_SECONDS / 4:
                size = min(5_000, size * 2)

    def index(self, name: str, definition: str) -> None:
        """Build an index concurrently: `definition` is what follows `INDEX CONCURRENTLY name`.

        With `UNIQUE ` in front of the name it is a unique one. What an earlier try left invalid is
        removed first.
        """
        unique = "UNIQUE " if name.startswith("UNIQUE ") else ""
        name = name.removeprefix("UNIQUE ")
        found = self.rows(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", name
        )
        if found and found[0][0]:
            return
        if found:
            self.drop_index(name)
        self.run(f"CREATE {unique}INDEX CONCURRENTLY {name} {definition}")

    def drop_index(self, name: str) -> None:
        """Drop an index, if it exists, without blocking writes."""
        self.run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

    def check(self, table: str, name: str, condition: str) -> None:
        """Add a constraint and validate it, without blocking writes."""
        known = self.rows(
            "SELECT convalidated FROM pg_constraint "
            "WHERE conrelid = to_regclass($1) AND conname = $2",
            table,
            name,
        )
        if not known:
            self.briefly(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
        if not known or not known[0][0]:
            self._until_unlocked(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")

    def not_null(self, table: str, *columns: str) -> None:
        """Make columns NOT NULL; the rows are looked at before the lock is taken."""
        left = self.rows(
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($1) "
            "AND attname = ANY ($2::text[]) AND NOT attnotnull",
            table,
            list(columns),
        )
        name = f"{table}_are_complete"
        if left:
            self.check(table, name, " AND ".join(f"{column} IS NOT NULL" for column in columns))
            self.briefly(
                f"ALTER TABLE {table} "
                + ", ".join(f"ALTER COLUMN {column} SET NOT NULL" for column in columns)
            )
        self.briefly(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
