"""Statements of the version before the tree (0007), as its replicas send them.

Recorded from that version, and not to be edited: replicas of it run while a deploy migrates.
"""

BEGIN = """
WITH within_quota AS MATERIALIZED (
    SELECT 1 WHERE $13 = 0 OR $13 > (
        SELECT count(*) FROM generations WHERE user_id = $12 AND ended_at IS NULL)),
question AS (
    INSERT INTO messages (id, conversation_id, position, role, content, status, model_tag)
    SELECT $6::uuid, $2::uuid, $3::integer - 1, 'user', $14, 'complete', $4
    FROM within_quota WHERE $14::text IS NOT NULL),
answer AS (
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag, replaces)
    SELECT $1::uuid, $2::uuid, $3::integer, 'assistant', '', 'generating', $4::text, $5::uuid
    FROM within_quota),
generation AS (
    INSERT INTO generations (message_id, conversation_id, question_id, user_id, options,
        trace_id, owner, lease_until)
    SELECT $1::uuid, $2::uuid, $6::uuid, $12::text, $7, $8, $9::uuid,
        clock_timestamp() + make_interval(secs => $10)
    FROM within_quota),
subscription AS (
    INSERT INTO subscriptions (message_id, process, until)
    SELECT $1::uuid, $9::uuid, clock_timestamp() + make_interval(secs => $10) FROM within_quota)
UPDATE conversations SET
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
    title = CASE WHEN title_given OR $11::text IS NULL THEN title ELSE $11 END
WHERE id = $2 AND EXISTS (SELECT 1 FROM within_quota)
RETURNING true
"""

COUNT_MESSAGE = """
WITH quota AS (
    INSERT INTO message_quotas AS q (user_id, began, sent)
    SELECT $2, statement_timestamp(), 1 WHERE $3
    ON CONFLICT (user_id) DO UPDATE SET (began, sent) = (
        SELECT CASE WHEN past THEN statement_timestamp() ELSE q.began END,
            CASE WHEN past THEN 1 ELSE q.sent + 1 END
        FROM (SELECT q.began <= statement_timestamp() - interval '1 minute') AS m (past))
    WHERE $4 = 0 OR q.sent < $4 OR q.began <= statement_timestamp() - interval '1 minute'
    RETURNING 1)
SELECT EXISTS (SELECT 1 FROM quota) AS is_counted, last.*, question.id AS question_id
FROM (SELECT 1) AS always
LEFT JOIN LATERAL (
    SELECT id::text AS id, position, role FROM messages
    WHERE conversation_id = $1 AND replaces IS NULL ORDER BY position DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT id::text AS id FROM messages
    WHERE $5 AND conversation_id = $1 AND replaces IS NULL AND role = 'user'
    ORDER BY position DESC LIMIT 1
) AS question ON true
"""

READ_HISTORY = """
SELECT role, right(content, $4) AS content FROM messages
WHERE conversation_id = $1 AND replaces IS NULL AND content ~ '[^[:space:]]'
    AND position <= (SELECT position FROM messages WHERE id = $2)
ORDER BY position DESC LIMIT $3
"""

DELETE_MESSAGE = "DELETE FROM messages WHERE id = $1"

END_MESSAGE = """
UPDATE messages SET status = $2, content = $3, token_count = $4, inference_time_ms = $5,
    replaces = NULL
WHERE id = $1
"""

END_GENERATION = """
WITH unsubscribed AS (DELETE FROM subscriptions WHERE message_id = $1)
UPDATE generations SET ended_at = now(), status = $2, error = $3, last_event = $4, done = $5,
    undone = $6, before_done = $7
WHERE message_id = $1
"""
