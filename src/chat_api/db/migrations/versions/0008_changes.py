"""The change feed: what changed in each user's conversations, numbered in the order of commits.

Triggers write the changes, so that every statement is covered, also those of replicas of the
version before and of any other program that deletes rows (docs/decisions/0021). They are deferred
to the commit: the user's counter is the last lock of a transaction, and no client can hold it.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations, in_short_attempts

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Numbers are microseconds since 1970, or one more than the last number where that is later. So they
# grow also after a failover that lost the last commits, or after a counter was swept: none repeats.
_NUMBER = """
    UPDATE change_counters c SET last = greatest(c.last + {count}, clock)
        WHERE user_id = {row}.user_id RETURNING last INTO next;
    IF NOT FOUND THEN
        INSERT INTO change_counters AS c (user_id, last) VALUES ({row}.user_id, clock)
            ON CONFLICT (user_id) DO UPDATE SET last = greatest(c.last + {count}, excluded.last)
            RETURNING last INTO next;
    END IF;
"""


def _function(name: str, columns: str, *values: str, row: str = "NEW") -> str:
    """Return the trigger function that writes these changes with consecutive numbers."""
    count = len(values)
    rows = ", ".join(
        f"({row}.user_id, next - {count - 1 - index}, {value})"
        for index, value in enumerate(values)
    )
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    next bigint;
    clock CONSTANT bigint := (date_part('epoch', clock_timestamp()) * 1e6)::bigint;
BEGIN
    {_NUMBER.format(row=row, count=count)}
    INSERT INTO changes (user_id, number, {columns}) VALUES {rows};
    RETURN NULL;
END $body$
"""  # noqa: S608  # the inserted text is ours


def _trigger(name: str, function: str, event: str, condition: str = "true") -> str:
    return f"""
CREATE CONSTRAINT TRIGGER samosachaat_{name} AFTER {event} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION samosachaat_{function}()
"""


UPGRADE = (
    "LOCK TABLE conversations, generations IN SHARE ROW EXCLUSIVE MODE",
    # A counter's update stays on its page.
    """
    CREATE TABLE change_counters (
        user_id text PRIMARY KEY,
        last bigint NOT NULL
    ) WITH (fillfactor = 50)
    """,
    # A row without a message is of the conversation. What it tells is read later, and so is the
    # newest state; no text is kept here.
    """
    CREATE TABLE changes (
        user_id text NOT NULL,
        number bigint NOT NULL,
        conversation_id uuid,  -- null: nothing changed, the user's feed was opened
        message_id uuid,
        status text,  -- of the message's generation
        deleted boolean NOT NULL DEFAULT false,
        PRIMARY KEY (user_id, number)
    )
    """,
    "CREATE INDEX changes_by_age ON changes (number)",
    _function("samosachaat_conversation_changed", "conversation_id", "NEW.id"),
    _function(
        "samosachaat_conversation_deleted", "conversation_id, deleted", "OLD.id, true", row="OLD"
    ),
    _function(
        "samosachaat_generation_begun",
        "conversation_id, message_id, status",
        "NEW.conversation_id, NULL, NULL",
        "NEW.conversation_id, NEW.message_id, NEW.status",
    ),
    _function(
        "samosachaat_generation_changed",
        "conversation_id, message_id, status",
        "NEW.conversation_id, NEW.message_id, NEW.status",
    ),
    _trigger("conversation_created", "conversation_changed", "INSERT ON conversations"),
    # A send says that its generation's change tells the conversation's, too: two functions for an
    # answer instead of three.
    _trigger(
        "conversation_changed",
        "conversation_changed",
        "UPDATE ON conversations",
        "current_setting('samosachaat.told_with_generation', true) IS DISTINCT FROM NEW.id::text",
    ),
    _trigger("conversation_deleted", "conversation_deleted", "DELETE ON conversations"),
    # The user is not known in what a version before 0002 began.
    _trigger(
        "generation_begun",
        "generation_begun",
        "INSERT ON generations",
        "NEW.user_id IS NOT NULL",
    ),
    _trigger(
        "generation_changed",
        "generation_changed",
        "UPDATE OF status ON generations",
        "NEW.status <> OLD.status AND NEW.user_id IS NOT NULL",
    ),
    # A role that may change conversations, but is not the one that migrates, runs the triggers.
    grant_like_conversations(("changes", "change_counters")),
)
DOWNGRADE = (
    "LOCK TABLE conversations, generations IN SHARE ROW EXCLUSIVE MODE",
    "DROP TRIGGER samosachaat_generation_changed ON generations",
    "DROP TRIGGER samosachaat_generation_begun ON generations",
    "DROP TRIGGER samosachaat_conversation_deleted ON conversations",
    "DROP TRIGGER samosachaat_conversation_changed ON conversations",
    "DROP TRIGGER samosachaat_conversation_created ON conversations",
    "DROP FUNCTION samosachaat_generation_changed()",
    "DROP FUNCTION samosachaat_generation_begun()",
    "DROP FUNCTION samosachaat_conversation_deleted()",
    "DROP FUNCTION samosachaat_conversation_changed()",
    "DROP TABLE changes",
    "DROP TABLE change_counters",
)


def upgrade() -> None:
    op.execute(in_short_attempts(*UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(*DOWNGRADE))
