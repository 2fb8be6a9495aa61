"""One word per thing: `event_log`, `subscriptions`; what was derived from JSON becomes columns.

Replicas of the version before go on serving. They read and write the renamed tables through views
of the old names, and leave the new columns null, which means "find out as before". Both views and
the null case can go in the version after.

Every step takes an exclusive lock for a moment. Waiting for it holds up all later statements on the
table, so the wait is short, shorter than PostgreSQL's deadlock check, and is tried again.
"""

from alembic import op

from chat_api.db.steps import in_short_attempts

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
LOCK TABLE generations, answer_log, listeners IN ACCESS EXCLUSIVE MODE;

-- Whether a regeneration ended without replacing the old message.
ALTER TABLE generations ADD COLUMN undone boolean;
-- The events between the text and `done`, a line each; an empty line is a `snapshot`.
ALTER TABLE generations ADD COLUMN before_done text;

ALTER TABLE answer_log RENAME TO event_log;
ALTER INDEX answer_log_pkey RENAME TO event_log_pkey;
-- Whether the row is one `snapshot` event that stands for all events up to `last_event`.
ALTER TABLE event_log ADD COLUMN is_snapshot boolean;

ALTER TABLE listeners RENAME TO subscriptions;
ALTER INDEX listeners_pkey RENAME TO subscriptions_pkey;

CREATE VIEW answer_log AS
    SELECT message_id, attempt, first_event, last_event, events, written_at FROM event_log;
ALTER VIEW answer_log ALTER COLUMN written_at SET DEFAULT now();
CREATE VIEW listeners AS SELECT message_id, process, until FROM subscriptions;
"""

# A role that may use the tables, but is not the one that migrates, may use the views as well.
_GRANTS = """
DO $grants$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT view, privilege_type AS privilege, grantee
        FROM (VALUES ('answer_log', 'event_log'), ('listeners', 'subscriptions')) AS v (view, of)
        JOIN pg_class ON pg_class.oid = of::regclass
        CROSS JOIN LATERAL aclexplode(relacl)
        WHERE grantee <> relowner
            AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', held.privilege, held.view,
            CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE held.grantee::regrole::text END);
    END LOOP;
END $grants$
"""

DOWNGRADE = """
DROP VIEW listeners;
DROP VIEW answer_log;
LOCK TABLE generations, event_log, subscriptions IN ACCESS EXCLUSIVE MODE;
ALTER INDEX subscriptions_pkey RENAME TO listeners_pkey;
ALTER TABLE subscriptions RENAME TO listeners;
ALTER TABLE event_log DROP COLUMN is_snapshot;
ALTER INDEX event_log_pkey RENAME TO answer_log_pkey;
ALTER TABLE event_log RENAME TO answer_log;
ALTER TABLE generations DROP COLUMN before_done;
ALTER TABLE generations DROP COLUMN undone;
"""


def upgrade() -> None:
    op.execute(in_short_attempts(UPGRADE))
    op.execute(_GRANTS)


def downgrade() -> None:
    op.execute(in_short_attempts(DOWNGRADE))
