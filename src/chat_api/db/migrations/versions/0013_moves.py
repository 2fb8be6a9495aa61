"""Users who are being moved to another cell: no statement changes their conversations meanwhile.

A trigger refuses, so that replicas of the version before are covered, too: to them the refusal is a
locked row. Every change that a user makes touches the user's `conversations` (the change feed needs
it); the end of an answer does not, so running answers end in order.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations, in_short_attempts

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPGRADE = (
    "LOCK TABLE conversations IN SHARE ROW EXCLUSIVE MODE",
    """
    CREATE TABLE frozen_users (
        user_id text PRIMARY KEY,
        -- draining: running answers may end. frozen: they have. arriving: rows are copied here.
        -- moved: the user's data is in another cell.
        state text NOT NULL CHECK (state IN ('draining', 'frozen', 'arriving', 'moved')),
        cell text NOT NULL,  -- where the user is moved to
        changed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Changes hold the lock shared until their commit; a freeze waits for them. A statement of a
    # function sees what was committed while the one before it waited.
    """
CREATE FUNCTION samosachaat_refuse_frozen(named text) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(named, 1836021349));
    IF EXISTS (SELECT FROM frozen_users WHERE user_id = named)
        AND current_setting('samosachaat.moving', true) IS DISTINCT FROM named
    THEN
        RAISE EXCEPTION 'the user is being moved to another cell'
            USING ERRCODE = 'lock_not_available', CONSTRAINT = 'user_is_not_frozen';
    END IF;
END $body$
    """,
    """
CREATE FUNCTION samosachaat_conversation_guarded() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM samosachaat_refuse_frozen(OLD.user_id);
        RETURN OLD;
    END IF;
    PERFORM samosachaat_refuse_frozen(NEW.user_id);
    RETURN NEW;
END $body$
    """,
    """
CREATE TRIGGER samosachaat_conversation_guarded BEFORE INSERT OR UPDATE OR DELETE ON conversations
    FOR EACH ROW EXECUTE FUNCTION samosachaat_conversation_guarded()
    """,
    # A role that may change conversations, but is not the one that migrates, runs the trigger.
    grant_like_conversations(("frozen_users",), functions=("samosachaat_refuse_frozen",)),
)
DOWNGRADE = (
    "LOCK TABLE conversations IN SHARE ROW EXCLUSIVE MODE",
    "DROP TRIGGER samosachaat_conversation_guarded ON conversations",
    "DROP FUNCTION samosachaat_conversation_guarded()",
    "DROP FUNCTION samosachaat_refuse_frozen(text)",
    "DROP TABLE frozen_users",
)


def upgrade() -> None:
    op.execute(in_short_attempts(*UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(*DOWNGRADE))
