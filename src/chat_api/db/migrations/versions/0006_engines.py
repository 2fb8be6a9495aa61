"""What engines tell of an answer, and where a later attempt goes on from an earlier one.

Columns are added without a rewrite. Replicas of the version before leave them null, or as they are
by default, which means what it meant before.
"""

from alembic import op

from chat_api.db.steps import Steps

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None

_ADD = (
    """
    ALTER TABLE messages
        ADD COLUMN IF NOT EXISTS reasoning text,
        ADD COLUMN IF NOT EXISTS finish_reason text,
        ADD COLUMN IF NOT EXISTS input_tokens integer,
        ADD COLUMN IF NOT EXISTS output_tokens integer,
        ADD COLUMN IF NOT EXISTS error text
    """,
    # `seams`, by attempt: the last event that the attempts after it share with it.
    # `resumed_after`: the last event before a user had the message continued.
    """
    ALTER TABLE generations
        ADD COLUMN IF NOT EXISTS seams integer[] NOT NULL DEFAULT '{}',
        ADD COLUMN IF NOT EXISTS resumed_after integer
    """,
)
_DROP = (
    """
    ALTER TABLE messages
        DROP COLUMN IF EXISTS reasoning, DROP COLUMN IF EXISTS finish_reason,
        DROP COLUMN IF EXISTS input_tokens, DROP COLUMN IF EXISTS output_tokens,
        DROP COLUMN IF EXISTS error
    """,
    """
    ALTER TABLE generations
        DROP COLUMN IF EXISTS seams, DROP COLUMN IF EXISTS resumed_after
    """,
)


def _run(statements: tuple[str, ...]) -> None:
    with op.get_context().autocommit_block():
        steps = Steps(op.get_bind())
        for statement in statements:
            steps.briefly(statement)


def upgrade() -> None:
    _run(_ADD)


def downgrade() -> None:
    _run(_DROP)
