"""Messages form a tree; conversations have instructions, options, tags and metadata.

Replicas of the previous version go on serving. They insert messages without `parent_id` and
`version`: both are found out when such a message is read, and written before the tree changes
(`db.tree.fill`). They show no message whose `replaces` is not null, and so none that is not on the
shown path: that has its own id in `replaces`.
"""

from alembic import op

from chat_api.db.steps import Steps

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = """
-- The conversation's id stands for the parent of a first message, so that it compares with `=`.
ALTER TABLE messages
    ADD COLUMN IF NOT EXISTS parent_id uuid,
    ADD COLUMN IF NOT EXISTS version integer;
ALTER TABLE conversations
    ADD COLUMN IF NOT EXISTS instructions text,
    ADD COLUMN IF NOT EXISTS options json,
    ADD COLUMN IF NOT EXISTS tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS metadata json NOT NULL DEFAULT '{}'
"""

# The positions that the trigger of a database that was taken over gives: after the shown path.
PLACE_MESSAGE = """
IF to_regproc('samosachaat_place_message') IS NOT NULL THEN
    EXECUTE replace(pg_get_functiondef('samosachaat_place_message'::regproc),
        'conversation_id = NEW.conversation_id)',
        'conversation_id = NEW.conversation_id AND replaces IS NULL)');
END IF
"""

# One batch. Rows that are locked are left for a later round, so that it never waits; messages are
# read after their conversation is locked, in a later snapshot.
FILL = """
CREATE OR REPLACE FUNCTION samosachaat_fill_tree(after uuid, most integer) RETURNS uuid
LANGUAGE plpgsql AS $body$
DECLARE
    listed uuid[];
    taken uuid[];
BEGIN
    listed := ARRAY(SELECT id FROM conversations WHERE after IS NULL OR id > after
        ORDER BY id LIMIT most);
    taken := ARRAY(SELECT id FROM conversations c WHERE id = ANY (listed) AND EXISTS (
            SELECT 1 FROM messages m WHERE m.conversation_id = c.id AND m.replaces IS NULL
                AND m.parent_id IS NULL)
        FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE messages m SET parent_id = s.parent_id, version = 1
    FROM (
        SELECT id, coalesce(lag(id) OVER (PARTITION BY conversation_id ORDER BY position),
            conversation_id) AS parent_id
        FROM messages WHERE conversation_id = ANY (taken) AND replaces IS NULL) AS s
    WHERE m.id = s.id AND m.parent_id IS NULL;
    RETURN (SELECT max(id::text)::uuid FROM unnest(listed) AS l (id));
END $body$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        steps = Steps(op.get_bind())
        steps.briefly(COLUMNS, PLACE_MESSAGE)
        steps.briefly(FILL)
        _fill(steps)
        steps.briefly("DROP FUNCTION samosachaat_fill_tree")
        # What stands beside the shown messages. Other messages cost this index nothing.
        steps.index(
            "messages_hidden", "ON messages (conversation_id, parent_id) WHERE replaces = id"
        )


def _fill(steps: Steps) -> None:
    """Give every message its parent, once. What replicas of the previous version insert later, and
    conversations that were locked, are filled before their tree changes."""
    after: str | None = None

    def batch(size: int) -> bool:
        nonlocal after
        ((last,),) = steps.rows(
            "SELECT samosachaat_fill_tree($1::uuid, $2::integer)::text", after, size
        )
        after = last
        return last is not None

    steps.in_batches(batch)


def downgrade() -> None:
    """Delete what is not shown: the schema before has no place for it."""
    with op.get_context().autocommit_block():
        steps = Steps(op.get_bind())
        steps.drop_index("messages_hidden")
        steps.rows("DELETE FROM messages WHERE replaces = id")
        steps.briefly(
            "ALTER TABLE conversations DROP COLUMN IF EXISTS instructions, "
            "DROP COLUMN IF EXISTS options, DROP COLUMN IF EXISTS tags, "
            "DROP COLUMN IF EXISTS metadata",
            "ALTER TABLE messages DROP COLUMN IF EXISTS parent_id, DROP COLUMN IF EXISTS version",
        )
