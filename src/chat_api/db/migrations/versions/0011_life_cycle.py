"""Conversations that expire; limits of single users; what administrators did.

A column and tables are added only. Replicas of the version before go on serving: they hold the
limits of their settings, and show a conversation that has expired until it is swept.
"""

from alembic import op

from chat_api.db.steps import Steps, grant_like_conversations

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE conversations ADD COLUMN IF NOT EXISTS expires_at timestamptz"

TABLES = """
-- Null: the limit of the settings holds. 0: no limit.
CREATE TABLE IF NOT EXISTS user_limits (
    user_id text PRIMARY KEY,
    answers_per_day bigint CHECK (answers_per_day >= 0),
    tokens_per_day bigint CHECK (tokens_per_day >= 0),
    set_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    administrator_id text NOT NULL,
    act text NOT NULL,
    user_id text,  -- whom it concerned; null also once that user has been erased
    details json NOT NULL,
    trace_id text NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_log_by_user ON audit_log (user_id, id) WHERE user_id IS NOT NULL
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        steps = Steps(op.get_bind())
        steps.briefly(COLUMN)
        steps.briefly(TABLES)
        steps.run(grant_like_conversations(("user_limits", "audit_log")))
        # What is not temporary costs this index nothing.
        steps.index(
            "conversations_expiring", "ON conversations (expires_at) WHERE expires_at IS NOT NULL"
        )
        steps.index("usage_ledger_by_day", "ON usage_ledger (day)")


def downgrade() -> None:
    """Temporary conversations are deleted: the schema before would keep them for good."""
    with op.get_context().autocommit_block():
        steps = Steps(op.get_bind())
        steps.drop_index("usage_ledger_by_day")
        steps.drop_index("conversations_expiring")
        steps.rows("DELETE FROM conversations WHERE expires_at IS NOT NULL")
        steps.briefly(
            "ALTER TABLE conversations DROP COLUMN IF EXISTS expires_at",
            "DROP TABLE IF EXISTS user_limits, audit_log",
        )
