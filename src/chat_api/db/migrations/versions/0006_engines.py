"""What engines tell of an answer, and where a later attempt goes on from an earlier one.

Columns are added only, without a rewrite. Replicas of the version before leave them null or as they
are by default, which means what it meant before.
"""

from alembic import op

from chat_api.db.steps import in_short_attempts

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = """
LOCK TABLE messages, generations IN ACCESS EXCLUSIVE MODE;

ALTER TABLE messages
    ADD COLUMN reasoning text,
    ADD COLUMN finish_reason text,
    ADD COLUMN input_tokens integer,
    ADD COLUMN output_tokens integer,
    ADD COLUMN error text;

ALTER TABLE generations
    -- By attempt: the last event that the attempts after it share with it.
    ADD COLUMN seams integer[] NOT NULL DEFAULT '{}',
    -- The last event before a user had the message continued.
    ADD COLUMN resumed_after integer;
"""

DOWNGRADE = """
LOCK TABLE messages, generations IN ACCESS EXCLUSIVE MODE;

ALTER TABLE messages
    DROP COLUMN reasoning, DROP COLUMN finish_reason, DROP COLUMN input_tokens,
    DROP COLUMN output_tokens, DROP COLUMN error;
ALTER TABLE generations DROP COLUMN seams, DROP COLUMN resumed_after;
"""


def upgrade() -> None:
    op.execute(in_short_attempts(UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(DOWNGRADE))
