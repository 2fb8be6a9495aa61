"""Responses: what a dialect of other clients must repeat of a generation's request.

Replicas of the version before write none, and answer no such requests.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations, in_short_attempts

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE responses (
    message_id uuid PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    user_id text NOT NULL,
    echo text NOT NULL,
    is_background boolean NOT NULL,
    fingerprint bytea NOT NULL,  -- of the request
    last_number integer,  -- of the final event, once it is known
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX responses_by_request ON responses (user_id, fingerprint);
CREATE INDEX responses_not_numbered ON responses (message_id) WHERE last_number IS NULL;
"""

DOWNGRADE = "DROP TABLE responses;"


def upgrade() -> None:
    op.execute(in_short_attempts(UPGRADE, grant_like_conversations(("responses",))))


def downgrade() -> None:
    op.execute(in_short_attempts(DOWNGRADE))
