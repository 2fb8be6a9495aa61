"""The tables of the service that this one replaces, and how they are recognised."""

from chat_api.db.connecting import Connection

# Table, column, type; a column that is only in some deployments is not required.
_REQUIRED = {
    "users": {
        "id": "uuid",
        "email": "character varying(255)",
        "provider": "character varying(50)",
        "provider_id": "character varying(255)",
    },
    "conversations": {
        "id": "uuid",
        "user_id": "uuid",
        "title": "character varying(500)",
        "model_tag": "character varying(100)",
        "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone",
    },
    "messages": {
        "id": "uuid",
        "conversation_id": "uuid",
        "role": "character varying(20)",
        "content": "text",
        "token_count": "integer",
        "model_tag": "character varying(100)",
        "inference_time_ms": "integer",
        "created_at": "timestamp with time zone",
    },
}
_OPTIONAL = {("conversations", "is_favorited")}

_COLUMNS_FOUND = """
SELECT relname AS table_name, attname AS column_name, format_type(atttypid, atttypmod) AS type,
    attnotnull AND NOT atthasdef AS must_be_given
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE pg_class.oid IN (to_regclass('users'), to_regclass('conversations'), to_regclass('messages'))
    AND attnum > 0 AND NOT attisdropped
"""


# What its first two revisions lack.
TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title varchar(500),
    model_tag varchar(100) DEFAULT 'default',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role varchar(20) NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    content text NOT NULL,
    token_count integer,
    model_tag varchar(100),
    inference_time_ms integer,
    created_at timestamptz DEFAULT now()
);
"""


async def is_predecessor(connection: Connection, revision: str | None) -> bool:
    """Return whether the tables are those of the service that this one replaces, and usable.

    `revision` is what that service's own migrations have noted.
    """
    found = await connection.fetch(_COLUMNS_FOUND)
    types = {(row["table_name"], row["column_name"]): row["type"] for row in found}
    there = {table for table, _ in types}
    is_early = revision is not None and revision[:3] in {"001", "002"}
    if "users" not in there or (len(there) < len(_REQUIRED) and not is_early):
        return False
    wanted = {
        (table, column): kind
        for table, columns in _REQUIRED.items()
        for column, kind in columns.items()
        if table in there
    }
    if any(types.get(name) != kind for name, kind in wanted.items()):
        return False
    # What else is in the tables must not be needed by an INSERT of ours.
    return not any(
        row["must_be_given"]
        for row in found
        if row["table_name"] != "users"
        and (row["table_name"], row["column_name"]) not in wanted.keys() | _OPTIONAL
    )


_COUNTS = """
SELECT (SELECT count(*) FROM users) AS users, c.*, m.*,
    pg_size_pretty(pg_total_relation_size('conversations') + pg_total_relation_size('messages'))
        AS size
FROM (SELECT count(*) AS conversations, count(*) FILTER (WHERE title IS NULL) AS untitled
        FROM conversations) AS c,
    (SELECT count(*) AS messages, count(*) FILTER (WHERE created_at IS NULL) AS timeless,
        count(*) FILTER (WHERE role = 'assistant' AND content = '') AS empty FROM messages) AS m
"""
# Measured by bench/migrations.py; a slow disk takes longer.
_SECONDS_PER_MESSAGE = 100e-6


async def describe(connection: Connection) -> list[str]:
    """Return, as sentences, what taking the database over would do."""
    if await connection.fetchval("SELECT to_regclass('messages') IS NULL"):
        return ["The database is that of the service before, without messages: it is taken over."]
    counts = await connection.fetchrow(_COUNTS)
    assert counts is not None  # noqa: S101  # such a SELECT gives its row
    minutes = 1 + int(counts["messages"] * _SECONDS_PER_MESSAGE / 60)
    return [
        "The database is that of the service before. It would be taken over in place:",
        "{conversations:,} conversations and {messages:,} messages are kept.".format(**counts),
        "{users:,} users are only read.".format(**counts),
        "{untitled:,} conversations without a title get one.".format(**counts),
        "{timeless:,} messages without a time get their conversation's.".format(**counts),
        "{empty:,} empty answers are marked as interrupted.".format(**counts),
        f"It takes {minutes} minutes or so, and up to {counts['size']} more disk until a vacuum.",
        "Replicas of that service can keep running meanwhile.",
    ]
