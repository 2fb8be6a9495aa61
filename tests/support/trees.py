"""What must hold of the messages of a conversation, whatever has happened to it."""

# What must hold of every conversation at any time: one row for each fault.
FAULTS = """
WITH shown AS (
    SELECT *, lag(id) OVER (ORDER BY position) AS above, row_number() OVER (ORDER BY position) - 1
        AS place
    FROM messages WHERE conversation_id = $1 AND replaces IS NULL)
SELECT 'not a chain' AS fault, id FROM shown
    WHERE place <> position OR coalesce(parent_id, above, conversation_id)
        <> coalesce(above, conversation_id)
UNION ALL SELECT 'the last one shown is no leaf', c.id FROM messages c
    WHERE c.conversation_id = $1 AND c.parent_id = (
        SELECT id FROM shown ORDER BY position DESC LIMIT 1)
UNION ALL SELECT 'nothing is shown', id FROM messages
    WHERE conversation_id = $1 AND NOT EXISTS (SELECT 1 FROM shown)
UNION ALL SELECT 'no parent', m.id FROM messages m
    LEFT JOIN messages p ON p.id = m.parent_id AND p.conversation_id = $1
    WHERE m.conversation_id = $1 AND m.replaces = m.id AND m.parent_id <> m.conversation_id
        AND p.position IS DISTINCT FROM m.position - 1
UNION ALL SELECT 'hidden without a place', id FROM messages
    WHERE conversation_id = $1 AND replaces = id
        AND (parent_id IS NULL OR coalesce(version, 0) = 0)
UNION ALL SELECT 'hidden without a generation', m.id FROM messages m
    LEFT JOIN generations g ON g.message_id = m.id AND g.ended_at IS NULL
    WHERE m.conversation_id = $1 AND m.replaces <> m.id AND g.message_id IS NULL
UNION ALL SELECT 'a version twice', min(id::text)::uuid FROM messages
    WHERE conversation_id = $1 AND version > 0 GROUP BY parent_id, version HAVING count(*) > 1
"""
