"""Responses: what a dialect of other clients must repeat of a generation's request.

Replicas of the version before write none, and answer no such requests.
"""

from alembic import op

from chat_api.db.steps import in_short_attempts

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

-- A role that may change conversations, but does not migrate, writes these, too.
DO $grants$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT privilege_type AS privilege, grantee
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE pg_class.oid = 'conversations'::regclass AND grantee <> relowner
            AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON responses TO %s', held.privilege,
            CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE held.grantee::regrole::text END);
    END LOOP;
END $grants$;
"""

DOWNGRADE = "DROP TABLE responses;"


def upgrade() -> None:
    op.execute(in_short_attempts(UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(DOWNGRADE))
