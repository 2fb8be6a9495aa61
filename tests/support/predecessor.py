"""The database of the service that this one replaces: its schema, and rows as they really are."""

USERS = """
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL UNIQUE,
    name varchar(255),
    avatar_url text,
    provider varchar(50) NOT NULL,
    provider_id varchar(255) NOT NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    last_login_at timestamptz DEFAULT now(),
    CONSTRAINT uq_users_provider UNIQUE (provider, provider_id)
);
"""
CONVERSATIONS = """
CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title varchar(500),
    model_tag varchar(100) DEFAULT 'default',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX idx_conversations_user ON conversations (user_id, updated_at DESC);
"""
MESSAGES = """
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role varchar(20) NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    content text NOT NULL,
    token_count integer,
    model_tag varchar(100),
    inference_time_ms integer,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX idx_messages_conversation ON messages (conversation_id, created_at);
"""
FAVORITED = "ALTER TABLE conversations ADD COLUMN is_favorited boolean NOT NULL DEFAULT false;"
IS_ADMIN = "ALTER TABLE users ADD COLUMN is_admin boolean;"


def version(number: str) -> str:
    """Alembic's table, at that service's own revision."""
    return (
        "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY);"  # noqa: S608  # ours
        f"INSERT INTO alembic_version VALUES ('{number}');"
    )


SCHEMAS = {
    "004": USERS + CONVERSATIONS + MESSAGES + FAVORITED + version("004_add_favorited"),
    "004 with admins": USERS
    + IS_ADMIN
    + CONVERSATIONS
    + MESSAGES
    + FAVORITED
    + version("004_add_favorited"),
    "003": USERS + CONVERSATIONS + MESSAGES + version("003_create_messages"),
    "002": USERS + CONVERSATIONS + version("002_create_conversations"),
    "001": USERS + version("001_create_users"),
    "no revision": USERS + CONVERSATIONS + MESSAGES + FAVORITED,
}

# Two users; conversations and messages with every oddity that has been met.
ROWS = """
INSERT INTO users (id, email, provider, provider_id) VALUES
    ('00000000-0000-4000-8000-00000000000a', 'a@example.org', 'google', '1'),
    ('00000000-0000-4000-8000-00000000000b', 'b@example.org', 'github', '2');

INSERT INTO conversations (id, user_id, title, model_tag, created_at, updated_at) VALUES
    ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-00000000000a',
        'Samosas', 'default', '2025-01-01 10:00+00', '2025-01-03 10:00+00'),
    ('10000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000a',
        'New chat', 'small', '2025-01-01 10:00+00', '2025-01-02 10:00+00'),
    ('10000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000a',
        NULL, NULL, NULL, NULL),
    ('10000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-00000000000a',
        ' ', 'default', '2025-01-01 10:00+00', NULL),
    ('10000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-00000000000b',
        '  Keep me  ', 'default', NULL, '2025-01-05 10:00+00');

INSERT INTO messages (conversation_id, role, content, token_count, model_tag, inference_time_ms,
    created_at) VALUES
    -- An ordinary one, written in another order than its times.
    ('00000000-0000-0000-0000-000000000000', 'assistant', 'Fold them.', 3, 'default', 250,
        '2025-01-01 10:00:02+00'),
    ('00000000-0000-0000-0000-000000000000', 'user', 'How are samosas made?', NULL, NULL, NULL,
        '2025-01-01 10:00:01+00'),
    ('00000000-0000-0000-0000-000000000000', 'system', 'Be brief.', NULL, NULL, NULL,
        '2025-01-01 10:00:00+00'),
    -- A question and its answer at the same time, and the answer first in the table.
    ('10000000-0000-4000-8000-000000000001', 'assistant', 'One.', 1, NULL, NULL,
        '2025-01-02 10:00+00'),
    ('10000000-0000-4000-8000-000000000001', 'user', 'Count', NULL, NULL, NULL,
        '2025-01-02 10:00+00'),
    -- Four at the same time, as they were written; two questions in a row; no time at all.
    ('10000000-0000-4000-8000-000000000001', 'user', 'And then?', NULL, NULL, NULL,
        '2025-01-02 10:01+00'),
    ('10000000-0000-4000-8000-000000000001', 'assistant', 'Two.', 1, NULL, NULL,
        '2025-01-02 10:01+00'),
    ('10000000-0000-4000-8000-000000000001', 'user', 'Go on', NULL, NULL, NULL,
        '2025-01-02 10:01+00'),
    ('10000000-0000-4000-8000-000000000001', 'user', 'Hello?', NULL, NULL, NULL,
        '2025-01-02 10:01+00'),
    ('10000000-0000-4000-8000-000000000001', 'assistant', '', NULL, NULL, NULL, NULL),
    -- Nothing is known but the text.
    ('10000000-0000-4000-8000-000000000002', 'user', 'When was this?', NULL, NULL, NULL, NULL),
    ('10000000-0000-4000-8000-000000000004', 'user', '', NULL, NULL, NULL, '2025-01-04 10:00+00');
"""

# What its replicas ask, with parameters as its driver sends them.
LIST = (
    "SELECT conversations.id, conversations.user_id, conversations.title FROM conversations "
    "WHERE conversations.user_id = $1::uuid ORDER BY conversations.updated_at DESC LIMIT $2"
)
OPEN = (
    "SELECT conversations.id FROM conversations "
    "WHERE conversations.id = $1::uuid AND conversations.user_id = $2::uuid"
)
READ = (
    "SELECT messages.id, messages.role, messages.content, messages.created_at FROM messages "
    "WHERE messages.conversation_id = $1::uuid ORDER BY messages.created_at"
)
SEND = (
    "INSERT INTO messages (id, conversation_id, role, content, token_count, model_tag, "
    "inference_time_ms) VALUES ($1::uuid, $2::uuid, $3::varchar, $4::varchar, NULL, NULL, NULL)"
)
TOUCH = "UPDATE conversations SET updated_at = now() WHERE conversations.id = $1::uuid"
CREATE = (
    "INSERT INTO conversations (id, user_id, title, model_tag) "
    "VALUES ($1::uuid, $2::uuid, $3::varchar, $4::varchar)"
)
