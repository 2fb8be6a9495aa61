"""Inspection of a database: whether the service can use it, and otherwise the reason.

The revision of our schema stands in a table of our own name, so that another program's migrations
can stand beside it. The first two releases used Alembic's default name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from chat_api.db.connecting import Connection, Record
from chat_api.db.predecessor import is_predecessor

# Every revision of this code, oldest first; a test compares it with the migrations' folder.
REVISIONS = (
    *("0001", "0002", "0003", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013"),
    *("0014", "0015"),
)

VERSION_TABLE = "samosachaat_schema_version"
# The revision while the database of the predecessor is being taken over.
TAKING_OVER = "taking-over"
FORMER_VERSION_TABLE = "alembic_version"
FORMER_REVISIONS = ("0001", "0002")

# Tables and columns that the statements of this code name; a test compares them with a migrated
# database.
TABLES: Mapping[str, tuple[str, ...]] = {
    "conversations": (
        *("id", "user_id", "title", "title_given", "model_tag", "is_favorited"),
        *("created_at", "updated_at", "instructions", "options", "tags", "metadata"),
        "expires_at",
    ),
    "messages": (
        *("id", "conversation_id", "position", "role", "content", "status", "token_count"),
        *("model_tag", "inference_time_ms", "replaces", "created_at", "reasoning"),
        *("finish_reason", "input_tokens", "output_tokens", "error", "parent_id", "version"),
    ),
    "generations": (
        *("message_id", "conversation_id", "question_id", "options", "trace_id", "attempt"),
        *("crashes", "owner", "lease_until", "stop_requested", "started_at", "ended_at"),
        *("status", "error", "last_event", "done", "before_done", "logged", "user_id"),
        *("undone", "seams", "resumed_after"),
    ),
    "event_log": (
        *("message_id", "attempt", "first_event", "last_event", "events", "written_at"),
        "is_snapshot",
    ),
    "subscriptions": ("message_id", "process", "until"),
    "idempotency_keys": (
        *("user_id", "key", "fingerprint", "conversation_id", "message_id", "created_at"),
    ),
    "message_quotas": ("user_id", "began", "sent"),
    "change_counters": ("user_id", "last"),
    "usage_ledger": (
        *("user_id", "day", "model_tag", "status", "answers", "input_tokens", "output_tokens"),
        "estimated",
    ),
    "user_limits": ("user_id", "answers_per_day", "tokens_per_day", "set_at"),
    "audit_log": ("id", "at", "administrator_id", "act", "user_id", "details", "trace_id"),
    "frozen_users": ("user_id", "state", "cell", "changed_at"),
    "changes": ("user_id", "number", "conversation_id", "message_id", "status", "deleted"),
    "responses": (
        *("message_id", "user_id", "echo", "is_background", "fingerprint", "last_number"),
        "created_at",
    ),
}
# Without these the database would not hold what the service promises.
INDEXES = ("messages_in_order", "messages_one_generating")
FUNCTIONS = (
    *("samosachaat_begin_answer_2", "samosachaat_end_answer_2", "samosachaat_refuse_frozen"),
)
_OLDEST_SERVER = 15
_PREDECESSOR = (
    "The database is that of the service before, or half taken over. Run `samosachaat migrate`."
)


class Schema(Enum):
    """What a database holds, compared with this code."""

    BEHIND = "behind"
    CURRENT = "current"
    AHEAD = "ahead"  # a newer replica has migrated already, as in a rolling deploy
    PREDECESSOR = "predecessor"  # of the service that this one replaces; it can be taken over
    FOREIGN = "foreign"  # another program's tables have our tables' names
    DAMAGED = "damaged"  # not what the revision says


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a database."""

    schema: Schema
    revision: str | None = None
    is_former: bool = False
    """Whether the revision stands in the table of the first two releases."""
    fault: str | None = None
    """Why the service cannot work on its tables, as a sentence for an operator."""
    refusal: str | None = None
    """Why it can never use this database, whatever an operator changes in it."""
    read_only: bool = False
    session: str | None = None
    """What is wrong with the sessions, as a sentence."""


_LOOK = """
SELECT current_setting('server_version_num')::integer / 10000 AS server,
    (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())
        AS encoding,
    current_setting('transaction_read_only') = 'on' AS read_only,
    current_setting('statement_timeout') = '0' AS unbounded,
    current_schema() AS schema,
    current_user AS role,
    ARRAY(SELECT name FROM unnest($1::text[]) AS ours (name)
        WHERE to_regclass(quote_ident(name)) IS NOT NULL) AS tables,
    ARRAY(SELECT table_name || '.' || column_name
        FROM unnest($2::text[], $3::text[]) AS ours (table_name, column_name)
        WHERE to_regclass(quote_ident(table_name)) IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(table_name))
                AND attname = column_name AND NOT attisdropped)) AS missing_columns,
    ARRAY(SELECT name FROM unnest($4::text[]) AS ours (name) WHERE NOT EXISTS (
        SELECT FROM pg_index WHERE indexrelid = to_regclass(quote_ident(name)) AND indisvalid))
        AS missing_indexes,
    ARRAY(SELECT name FROM unnest($7::text[]) AS ours (name) WHERE to_regproc(name) IS NULL)
        AS missing_functions,
    ARRAY(SELECT name FROM unnest($1::text[]) AS ours (name)
        WHERE to_regclass(quote_ident(name)) IS NOT NULL AND NOT (
            has_table_privilege(to_regclass(quote_ident(name)), 'SELECT')
            AND (name IN ($5, $6) OR has_table_privilege(to_regclass(quote_ident(name)), 'INSERT')
                AND has_table_privilege(to_regclass(quote_ident(name)), 'UPDATE')
                AND has_table_privilege(to_regclass(quote_ident(name)), 'DELETE')))
        UNION ALL SELECT name FROM unnest($7::text[]) AS ours (name)
        WHERE NOT has_function_privilege(to_regproc(name)::oid, 'EXECUTE')) AS forbidden
"""


async def inspect(connection: Connection) -> Found:
    """Return the state of the database, without changing or locking anything."""
    columns = [(table, column) for table, names in TABLES.items() for column in names]
    look = await connection.fetchrow(
        _LOOK,
        [*TABLES, VERSION_TABLE, FORMER_VERSION_TABLE],
        [table for table, _ in columns],
        [column for _, column in columns],
        list(INDEXES),
        VERSION_TABLE,
        FORMER_VERSION_TABLE,
        list(FUNCTIONS),
    )
    assert look is not None  # noqa: S101  # such a SELECT gives its row
    known: dict[str, Any] = {
        "read_only": look["read_only"],
        "refusal": _refusal(look),
        "session": "a pooler drops the settings of sessions" if look["unbounded"] else None,
    }
    if look["schema"] is None:
        return Found(Schema.DAMAGED, fault="The search_path names no schema.", **known)
    if VERSION_TABLE in look["forbidden"]:
        return Found(Schema.DAMAGED, fault=_forbidden(look), **known)
    revisions = await _revisions(connection, look, VERSION_TABLE)
    former = [] if revisions else await _revisions(connection, look, FORMER_VERSION_TABLE)
    is_former = "generations" in look["tables"] and bool(former) and former[0] in FORMER_REVISIONS
    found = _judged(look, former if is_former else revisions, is_former, known)
    may_be_before = found.schema in {Schema.BEHIND, Schema.FOREIGN} and found.revision is None
    if may_be_before and await is_predecessor(connection, former[0] if former else None):
        return replace(found, schema=Schema.PREDECESSOR, fault=_PREDECESSOR)
    return found


async def _revisions(connection: Connection, look: Record, table: str) -> list[str]:
    """Return the rows of a table of revisions; [] if it is missing or may not be read."""
    if table not in look["tables"] or table in look["forbidden"]:
        return []
    rows = await connection.fetch(f"SELECT version_num FROM {table}")  # noqa: S608  # ours
    return [row["version_num"] for row in rows]


def _refusal(look: Record) -> str | None:
    if look["encoding"] != "UTF8":
        return (
            f"The database is encoded in {look['encoding']}; it must be UTF8. "
            "Make one with CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'."
        )
    if look["server"] < _OLDEST_SERVER:
        return f"The server is PostgreSQL {look['server']}; it must be {_OLDEST_SERVER} or newer."
    return None


def _judged(look: Record, revisions: list[str], is_former: bool, known: dict[str, Any]) -> Found:
    ours = [name for name in TABLES if name in look["tables"]]
    if len(revisions) > 1:
        fault = f"The table {VERSION_TABLE} names several revisions."
        return Found(Schema.DAMAGED, fault=fault, **known)
    if not revisions and not ours:
        fault = "The schema has not been made. Run `samosachaat migrate`."
        return Found(Schema.BEHIND, fault=fault, **known)
    if not revisions:
        if look["missing_columns"]:
            fault = f"Tables of another program have our names: {', '.join(ours)}."
            return Found(Schema.FOREIGN, fault=fault, **known)
        fault = f"The tables are there, but {VERSION_TABLE} names no revision."
        return Found(Schema.DAMAGED, fault=fault, **known)
    (revision,) = revisions
    known |= {"revision": revision, "is_former": is_former}
    if revision == TAKING_OVER:
        return Found(Schema.PREDECESSOR, fault=_PREDECESSOR, **known)
    if revision in REVISIONS[:-1]:
        fault = f"The schema is at {revision}, behind {REVISIONS[-1]}. Run `samosachaat migrate`."
        return Found(Schema.BEHIND, fault=fault, **known)
    missing = [
        *(f"table {name}" for name in TABLES if name not in look["tables"]),
        *(f"column {name}" for name in look["missing_columns"]),
        *(f"index {name}" for name in look["missing_indexes"]),
        *(f"function {name}" for name in look["missing_functions"]),
    ]
    if missing:
        fault = f"The schema is at {revision} but lacks: {', '.join(missing)}."
        return Found(Schema.DAMAGED, fault=fault, **known)
    schema = Schema.CURRENT if revision == REVISIONS[-1] else Schema.AHEAD
    return Found(schema, fault=_forbidden(look), **known)


def _forbidden(look: Record) -> str | None:
    forbidden = [name for name in look["forbidden"] if name != FORMER_VERSION_TABLE]
    if not forbidden:
        return None
    return f"The role {look['role']} lacks rights on: {', '.join(forbidden)}."
