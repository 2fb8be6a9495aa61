"""Taking over the database of the service that this one replaces, in place.

That service's replicas may go on reading and writing while it runs, and read afterwards: what they
insert is completed by triggers. Rows are changed in batches, each conversation in one piece. The
table `users` belongs to the auth service and is only read (docs/decisions/0012).

    taking-over   noted as the revision, so that a run that was cut off is taken up again
    columns       added, empty; triggers complete what is inserted from here on
    batches       every conversation and its messages
    constraints   validated; indexes built concurrently
    the switch    one short transaction: `user_id` is now text, as in every database of ours
    0002          the revision; later migrations follow as everywhere
"""

import re
from importlib import import_module
from typing import TYPE_CHECKING

from chat_api.db.predecessor import TABLES
from chat_api.db.schema import TAKING_OVER, VERSION_TABLE
from chat_api.db.steps import NOT_DURABLE, Steps

if TYPE_CHECKING:
    from sqlalchemy import Connection as AlchemyConnection

REVISION = "0002"

# Titles that clients send although the user has chosen none.
_PLACEHOLDERS = "'new chat', 'new conversation', 'untitled', ''"
_TITLE_GIVEN = f"lower(btrim(coalesce({{row}}.title, ''))) NOT IN ({_PLACEHOLDERS})"
_TITLE = "CASE WHEN btrim(coalesce(title, '')) = '' THEN 'New conversation' ELSE title END"
_UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"

_COLUMNS = """
ALTER TABLE conversations
    ADD COLUMN IF NOT EXISTS is_favorited boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS title_given boolean,
    ADD COLUMN IF NOT EXISTS user_id_as_text text;
ALTER TABLE messages
    ADD COLUMN IF NOT EXISTS position integer,
    ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'complete',
    ADD COLUMN IF NOT EXISTS replaces uuid,
    ALTER COLUMN token_count SET DEFAULT 0,
    ALTER COLUMN inference_time_ms SET DEFAULT 0;
"""

# A message of a conversation that is still to be taken over gets its position with the others.
_PLACE_MESSAGE = """
CREATE OR REPLACE FUNCTION samosachaat_place_message() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    conversation record;
BEGIN
    SELECT model_tag, title_given INTO conversation FROM conversations
        WHERE id = NEW.conversation_id FOR NO KEY UPDATE;
    IF conversation.title_given IS NOT NULL THEN
        NEW.position := (SELECT coalesce(max(position), -1) + 1 FROM messages
            WHERE conversation_id = NEW.conversation_id AND replaces IS NULL);
    END IF;
    NEW.token_count := coalesce(NEW.token_count, 0);
    NEW.inference_time_ms := coalesce(NEW.inference_time_ms, 0);
    NEW.model_tag := coalesce(NEW.model_tag, conversation.model_tag, 'default');
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END $body$
"""
_COMPLETE_CONVERSATION = f"""
    NEW.title_given := coalesce(NEW.title_given, {_TITLE_GIVEN.format(row="NEW")});
    NEW.title := coalesce(NEW.title, 'New conversation');
    NEW.model_tag := coalesce(NEW.model_tag, 'default');
    NEW.created_at := coalesce(NEW.created_at, now());
    NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
"""
_CONVERSATION_BEFORE = f"""
CREATE OR REPLACE FUNCTION samosachaat_take_conversation() RETURNS trigger LANGUAGE plpgsql
AS $body$
BEGIN
    NEW.user_id_as_text := NEW.user_id::text;
    IF TG_OP = 'INSERT' THEN
        {_COMPLETE_CONVERSATION}
    END IF;
    RETURN NEW;
END $body$
"""
# `auth_user_id` carries the foreign key: deleting a user deletes their conversations. A user whom
# the auth service keeps elsewhere has none.
_CONVERSATION_AFTER = f"""
CREATE OR REPLACE FUNCTION samosachaat_take_conversation() RETURNS trigger LANGUAGE plpgsql
AS $body$
BEGIN
    NEW.auth_user_id := CASE WHEN NEW.user_id ~ {_UUID} THEN
        (SELECT id FROM users WHERE id = NEW.user_id::uuid) END;
    IF TG_OP = 'INSERT' THEN
        {_COMPLETE_CONVERSATION}
    END IF;
    RETURN NEW;
END $body$
"""  # noqa: S608  # the inserted text is ours
_MESSAGE_TRIGGER = """
DROP TRIGGER IF EXISTS samosachaat_place_message ON messages;
CREATE TRIGGER samosachaat_place_message BEFORE INSERT ON messages FOR EACH ROW
    WHEN (NEW.position IS NULL) EXECUTE FUNCTION samosachaat_place_message();
"""
_CONVERSATION_TRIGGER = """
DROP TRIGGER IF EXISTS samosachaat_take_conversation ON conversations;
CREATE TRIGGER samosachaat_take_conversation BEFORE INSERT OR UPDATE OF user_id ON conversations
    FOR EACH ROW EXECUTE FUNCTION samosachaat_take_conversation();
"""

# One batch. Rows that another session has locked are left for a later round, so that it waits for
# none; messages are read after their conversation is locked, in a later snapshot.
_BATCH = f"""
CREATE OR REPLACE FUNCTION samosachaat_take_over(after uuid, most integer) RETURNS uuid
LANGUAGE plpgsql AS $body$
DECLARE
    listed uuid[];
    taken uuid[];
BEGIN
    {NOT_DURABLE}
    listed := ARRAY(SELECT id FROM conversations WHERE after IS NULL OR id > after
        ORDER BY id LIMIT most);
    taken := ARRAY(SELECT id FROM conversations
        WHERE id = ANY (listed) AND title_given IS NULL FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE messages m SET
        position = ordered.position,
        status = CASE WHEN m.role = 'assistant' AND m.content = '' THEN 'interrupted'
            ELSE 'complete' END,
        token_count = coalesce(m.token_count, 0),
        inference_time_ms = coalesce(m.inference_time_ms, 0),
        model_tag = coalesce(m.model_tag, ordered.model_tag, 'default'),
        created_at = coalesce(m.created_at, ordered.latest, now())
    FROM (
        -- As they were shown: by time, the unknown ones last. Of two at the same time the question
        -- comes first, of more the one that was written first.
        SELECT id, model_tag, latest, row_number() OVER (PARTITION BY conversation_id
            ORDER BY created_at NULLS LAST,
                CASE WHEN at_once = 2 THEN (role = 'assistant')::integer ELSE 0 END, place) - 1
            AS position
        FROM (
            SELECT t.id, t.conversation_id, t.created_at, t.role, t.ctid AS place, c.model_tag,
                count(*) OVER (PARTITION BY t.conversation_id, t.created_at) AS at_once,
                coalesce(max(t.created_at) OVER (PARTITION BY t.conversation_id), c.updated_at,
                    c.created_at) AS latest
            FROM messages t JOIN conversations c ON c.id = t.conversation_id
            WHERE t.conversation_id = ANY (taken)) AS timed) AS ordered
    WHERE m.id = ordered.id;
    UPDATE conversations c SET
        user_id_as_text = user_id::text,
        title_given = {_TITLE_GIVEN.format(row="c")},
        title = {_TITLE},
        model_tag = coalesce(model_tag, 'default'),
        created_at = coalesce(created_at, (SELECT min(m.created_at) FROM messages m
            WHERE m.conversation_id = c.id), updated_at, now()),
        updated_at = coalesce(updated_at, (SELECT max(m.created_at) FROM messages m
            WHERE m.conversation_id = c.id), created_at, now())
    WHERE id = ANY (taken);
    RETURN (SELECT max(id::text)::uuid FROM unnest(listed) AS l (id));
END $body$
"""  # noqa: S608  # the inserted text is ours

_SWITCH = (
    """
ALTER TABLE conversations RENAME COLUMN user_id TO auth_user_id;
ALTER TABLE conversations RENAME COLUMN user_id_as_text TO user_id;
ALTER TABLE conversations
    ALTER COLUMN auth_user_id DROP NOT NULL,
    ALTER COLUMN title TYPE text,
    ALTER COLUMN model_tag TYPE text;
ALTER TABLE messages ALTER COLUMN model_tag TYPE text;
""",
    _CONVERSATION_AFTER,
    _CONVERSATION_TRIGGER,
    # For reads of the service before, whose parameters are of the type uuid.
    """
CREATE OR REPLACE FUNCTION samosachaat_is_user(text, uuid) RETURNS boolean
    IMMUTABLE STRICT LANGUAGE sql AS 'SELECT $1 = $2::text';
CREATE OPERATOR = (FUNCTION = samosachaat_is_user, LEFTARG = text, RIGHTARG = uuid);
""",
)


def our_other_tables() -> list[str]:
    """Return statements that make what the first two revisions have, except tables that exist."""
    upgrades = "".join(
        import_module(f"chat_api.db.migrations.versions.{name}").UPGRADE
        for name in ("0001_foundation", "0002_limits")
    )
    statements = [part.strip() for part in re.sub(r"--.*", "", upgrades).split(";\n")]
    there = re.compile(r"(TABLE|ON) (conversations|messages) ")
    return [
        re.sub(
            r"^CREATE (TABLE|INDEX|UNIQUE INDEX) ", r"CREATE \1 IF NOT EXISTS ", statement
        ).replace("ADD COLUMN user_id", "ADD COLUMN IF NOT EXISTS user_id")
        for statement in statements
        if statement and not there.search(statement)
    ]


def take_over(bind: "AlchemyConnection") -> None:
    """Bring the database of the service before to our revision 0002.

    `bind` is in AUTOCOMMIT, under the lock of migrations. To be run again where it was cut off.
    """
    steps = Steps(bind)
    steps.briefly(
        f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num varchar(32) NOT NULL "
        f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY)",
        f"INSERT INTO {VERSION_TABLE} VALUES ('{TAKING_OVER}') "  # noqa: S608  # ours
        "ON CONFLICT DO NOTHING",
    )
    if not _is_switched(steps):
        steps.briefly(TABLES)
        steps.briefly(_COLUMNS)
        steps.briefly(_PLACE_MESSAGE, _MESSAGE_TRIGGER, _CONVERSATION_BEFORE, _CONVERSATION_TRIGGER)
        _take_rows(steps)
        _constrain(steps)
        steps.briefly(*our_other_tables())
        steps.briefly(*_SWITCH)
    # Our indexes serve the reads of both services, and the foreign key has its own index.
    for index in ("idx_messages_conversation", "idx_conversations_user"):
        steps.drop_index(index)
    steps.briefly(
        "ALTER TABLE messages ADD CONSTRAINT messages_in_order UNIQUE USING INDEX messages_in_order"
        if not steps.rows("SELECT 1 FROM pg_constraint WHERE conname = 'messages_in_order'")
        else "NULL",
        "DROP FUNCTION IF EXISTS samosachaat_take_over",
        f"UPDATE {VERSION_TABLE} SET version_num = '{REVISION}'",  # noqa: S608  # ours
    )


def _is_switched(steps: Steps) -> bool:
    return bool(
        steps.rows(
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('conversations') "
            "AND attname = 'auth_user_id' AND NOT attisdropped"
        )
    )


def _take_rows(steps: Steps) -> None:
    steps.briefly(_BATCH)
    while True:
        after: str | None = None

        def batch(size: int) -> bool:
            nonlocal after
            ((last,),) = steps.rows(
                "SELECT samosachaat_take_over($1::uuid, $2::integer)::text", after, size
            )
            after = last
            return last is not None

        steps.in_batches(batch)
        if not steps.rows("SELECT 1 FROM conversations WHERE title_given IS NULL LIMIT 1"):
            return
        steps.pause()


def _constrain(steps: Steps) -> None:
    steps.check(
        "messages",
        "messages_status_check",
        "status IN ('generating', 'complete', 'stopped', 'interrupted', 'failed')",
    )
    steps.not_null(
        "messages", "position", "token_count", "model_tag", "inference_time_ms", "created_at"
    )
    steps.not_null(
        "conversations",
        *("user_id_as_text", "title", "title_given", "model_tag", "created_at", "updated_at"),
    )
    steps.index(
        "UNIQUE messages_in_order",
        "ON messages (conversation_id, position, replaces) NULLS NOT DISTINCT",
    )
    steps.index(
        "UNIQUE messages_one_generating",
        "ON messages (conversation_id) WHERE status = 'generating'",
    )
    steps.index(
        "conversations_by_activity",
        "ON conversations (user_id_as_text, updated_at DESC, id DESC)",
    )
    steps.index("conversations_by_auth_user", "ON conversations (user_id)")
