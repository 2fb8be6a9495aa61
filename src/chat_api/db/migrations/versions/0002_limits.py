"""What a user's limits are counted by: whose answer runs, and the messages of the last minute."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
-- Null in what a replica of the release before has begun: that is not counted.
ALTER TABLE generations ADD COLUMN user_id text;
UPDATE generations g SET user_id = c.user_id
    FROM conversations c WHERE c.id = g.conversation_id AND g.ended_at IS NULL;
CREATE INDEX generations_running_of_user ON generations (user_id) WHERE ended_at IS NULL;

-- A minute that begins with a user's first message, and how many were accepted in it. Not derived
-- from messages or generations: deleting a conversation must not give its messages back.
CREATE TABLE message_quotas (
    user_id text PRIMARY KEY,
    began timestamptz NOT NULL,
    sent integer NOT NULL
);
"""


def upgrade() -> None:
    for statement in UPGRADE.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE message_quotas")
    op.execute("DROP INDEX generations_running_of_user")
    op.execute("ALTER TABLE generations DROP COLUMN user_id")
