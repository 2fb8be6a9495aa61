"""Conversations, messages, running answers, their log, who listens, idempotency keys."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    title text NOT NULL,
    title_given boolean NOT NULL,  -- by the user; else the first message gives one
    model_tag text NOT NULL,
    is_favorited boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversations_by_activity ON conversations (user_id, updated_at DESC, id DESC);

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    position integer NOT NULL,  -- given out under the conversation's row lock
    role text NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    content text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('generating', 'complete', 'stopped', 'interrupted', 'failed')),
    token_count integer NOT NULL DEFAULT 0,
    model_tag text NOT NULL,
    inference_time_ms integer NOT NULL DEFAULT 0,
    -- A regeneration under way names the answer at whose position it stands, hidden until it is
    -- complete and takes that place.
    replaces uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT messages_in_order
        UNIQUE NULLS NOT DISTINCT (conversation_id, position, replaces)
);
-- One answer at a time in a conversation.
CREATE UNIQUE INDEX messages_one_generating ON messages (conversation_id)
    WHERE status = 'generating';

-- One row for each answer ever begun, kept for a day after its end. The holder of the current
-- attempt, and only that process, may write to the answer.
CREATE TABLE generations (
    message_id uuid PRIMARY KEY,  -- no foreign key: an undone regeneration has no message left
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    question_id uuid NOT NULL,
    options text NOT NULL,  -- JSON
    trace_id text NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    crashes integer NOT NULL DEFAULT 0,
    owner uuid,  -- the process; null once handed over
    lease_until timestamptz NOT NULL,
    stop_requested boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    status text NOT NULL DEFAULT 'generating',
    error text,
    last_event integer,  -- nothing past it is delivered
    done text,  -- the final event's JSON
    logged boolean NOT NULL DEFAULT true  -- until its log is swept
);
CREATE INDEX generations_by_conversation ON generations (conversation_id, started_at DESC);
-- On the owner alone, so that renewing a lease stays a heap-only update.
CREATE INDEX generations_running ON generations (owner) WHERE ended_at IS NULL;
CREATE INDEX generations_ended ON generations (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX generations_to_sweep ON generations (ended_at) WHERE logged AND ended_at IS NOT NULL;

-- What running answers have sent, a row an answer and batch. No foreign key: a deleted conversation
-- must not make a whole batch fail.
CREATE TABLE answer_log (
    message_id uuid NOT NULL,
    attempt integer NOT NULL,
    first_event integer NOT NULL,
    last_event integer NOT NULL,
    events text NOT NULL,  -- the events' JSON, a line each
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (message_id, attempt, last_event)
);

-- Which process has a reader on which answer.
CREATE TABLE listeners (
    message_id uuid NOT NULL,
    process uuid NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (message_id, process)
);

CREATE TABLE idempotency_keys (
    user_id text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    message_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_by_conversation ON idempotency_keys (conversation_id);
"""


def upgrade() -> None:
    for statement in UPGRADE.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    for table in (
        "idempotency_keys",
        "listeners",
        "answer_log",
        "generations",
        "messages",
        "conversations",
    ):
        op.execute(f"DROP TABLE {table}")
