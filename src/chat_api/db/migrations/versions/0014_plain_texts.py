"""Texts of up to 4 KB stay in their rows uncompressed: searches read them (docs/decisions/0011).

Holds for rows written from now on. The lock of the statement blocks neither reads nor writes.
"""

from alembic import op

from chat_api.db.steps import Steps

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Two rows fill a page of 8 KB. Larger ones would leave much of their pages empty, and would be
# copied at every step of the statement that reads a conversation.
ROW_BYTES = 4080

# An operator's own value stays.
SET = f"""
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = 'messages'::regclass
            AND array_to_string(reloptions, ' ') LIKE '%toast_tuple_target=%') THEN
        ALTER TABLE messages SET (toast_tuple_target = {ROW_BYTES});
    END IF
"""
RESET = f"""
    IF EXISTS (SELECT FROM pg_class WHERE oid = 'messages'::regclass
            AND 'toast_tuple_target={ROW_BYTES}' = ANY (reloptions)) THEN
        ALTER TABLE messages RESET (toast_tuple_target);
    END IF
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        Steps(op.get_bind()).briefly(SET)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        Steps(op.get_bind()).briefly(RESET)
