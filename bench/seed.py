"""What the pages are read from: one user's conversations, and as many of others as asked for."""

from functools import partial

from bench.ground import Ground, Subject

USER = "reader"
LIST = "/api/conversations?limit=50"
_SHORT = "00000000-0000-7000-8000-000000000100"
_LONG = "00000000-0000-7000-8000-000000002000"
PAGES = {
    "list": LIST,
    "list, page 200": f"{LIST}&cursor=",
    "list, by offset": f"{LIST}&offset=9950",
    "conversation of 100": f"/api/conversations/{_SHORT}",
    "conversation of 2000": f"/api/conversations/{_LONG}",
}
TEXTBOOK_PAGES = ("list", "conversation of 100", "conversation of 2000")
_CONVERSATIONS = 10_000
_TEXT = "A samosa is a fried pastry with a savoury filling of potatoes, peas and spices. "


def fill(ground: Ground) -> None:
    """USER's 10,000 conversations, the newest two with 100 and 2,000 messages."""
    ground.sql(f"""
        INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at)
        SELECT gen_random_uuid(), '{USER}', 'Conversation ' || n, true, 'default',
            now() - n * interval '20 minutes' - interval '1 day'
        FROM generate_series(1, {_CONVERSATIONS} - 2) n;
        INSERT INTO conversations (id, user_id, title, title_given, model_tag) VALUES
            ('{_SHORT}', '{USER}', 'A short one', true, 'default'),
            ('{_LONG}', '{USER}', 'A long one', true, 'default');
        {_messages(f"'{_SHORT}'::uuid", 100)}
        {_messages(f"'{_LONG}'::uuid", 2000)}
        ANALYZE conversations, messages;
    """)


def cursor_of_page_200(ground: Ground, service: Subject) -> str:
    """Return the `next_cursor` of page 199."""
    page = ground.get(service, f"{LIST}&offset=9900", USER)
    return str(page["next_cursor"])


def add_others(ground: Ground, conversations: int, messages: int, *, database: str) -> None:
    """Add conversations of a thousand other users or more, with so many messages in all.

    Without triggers: that for moves takes a lock for each user until the commit.
    """
    sql = partial(ground.sql, database=database)
    sql(f"""
        SET session_replication_role = replica;
        INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at)
        SELECT gen_random_uuid(), 'other-' || n % greatest(1000, {conversations} / 50),
            'Conversation ' || n, true, 'default', now() - n * interval '1 second'
        FROM generate_series(1, {conversations}) n;
    """)
    each = max(1, messages // conversations)
    sql(f"""
        SET session_replication_role = replica;
        INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
        SELECT gen_random_uuid(), c.id, n, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
            '{_TEXT}', 'complete', 'default'
        FROM conversations c CROSS JOIN generate_series(1, {each}) n
        WHERE c.user_id LIKE 'other-%'
            AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = c.id);
    """)
    sql("VACUUM ANALYZE conversations")
    sql("VACUUM ANALYZE messages")


def _messages(conversation: str, count: int) -> str:
    return f"""
        INSERT INTO messages (id, conversation_id, position, role, content, status, token_count,
            model_tag)
        SELECT gen_random_uuid(), {conversation}, n,
            CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
            repeat('{_TEXT}', CASE n % 2 WHEN 1 THEN 1 ELSE 5 END), 'complete', 80, 'default'
        FROM generate_series(1, {count}) n;
    """
