"""Statements of the version before the tables were renamed (0003), as its replicas send them.

Recorded from that version, and not to be edited: replicas of it run while a deploy migrates.
"""

FIND_RUNNING = """
SELECT g.message_id::text AS id, EXISTS (
    SELECT 1 FROM listeners l WHERE l.message_id = g.message_id AND l.until > now()
) AS listened
FROM generations g WHERE g.conversation_id = $1 AND g.ended_at IS NULL
"""

BEGIN = """
WITH room AS MATERIALIZED (
    SELECT 1 WHERE $14 = 0 OR $14 > (
        SELECT count(*) FROM generations WHERE user_id = $13 AND ended_at IS NULL)),
question AS (
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag)
    SELECT $6::uuid, $2::uuid, $3::integer - 1, 'user', $15, 'complete', $4
    FROM room WHERE $15::text IS NOT NULL),
answer AS (
    INSERT INTO messages
        (id, conversation_id, position, role, content, status, model_tag, replaces)
    SELECT $1::uuid, $2::uuid, $3::integer, 'assistant', '', 'generating', $4::text,
        $5::uuid
    FROM room),
generation AS (
    INSERT INTO generations (message_id, conversation_id, question_id, user_id, options,
        trace_id, owner, lease_until)
    SELECT $1::uuid, $2::uuid, $6::uuid, $13::text, $7, $8, $9::uuid,
        clock_timestamp() + make_interval(secs => $10)
    FROM room),
ear AS (
    INSERT INTO listeners (message_id, process, until)
    SELECT $1::uuid, $9::uuid, clock_timestamp() + make_interval(secs => $10) FROM room)
UPDATE conversations SET
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond'),
    title = CASE WHEN title_given OR $11::text IS NULL OR $12 THEN title ELSE $11 END
WHERE id = $2 AND EXISTS (SELECT 1 FROM room)
RETURNING true
"""

APPEND = """
WITH written AS (
    INSERT INTO answer_log (message_id, attempt, first_event, last_event, events)
    SELECT b.message_id, b.attempt, b.first_event, b.last_event, b.events
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::text[])
        AS b (message_id, attempt, first_event, last_event, events)
    CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS s
    CROSS JOIN LATERAL (
        -- By the primary key, row for row: a planner that takes the running answers of an
        -- owner for a handful would compare each row with each of them.
        SELECT 1 FROM generations g
        WHERE g.message_id = b.message_id AND g.attempt = b.attempt
            AND g.status = 'generating'
        LIMIT 1) AS mine
    ON CONFLICT DO NOTHING)
SELECT message_id::text AS id, attempt, stop_requested
FROM generations WHERE owner = $6 AND ended_at IS NULL
"""

FIND_ENDS = """
SELECT b.message_id::text AS id, coalesce((
    SELECT CASE WHEN min(l.first_event) = 0 THEN
        min(l.last_event) FILTER (WHERE l.following > l.last_event + 1
            OR l.following IS NULL) END
    FROM (
        SELECT a.first_event, a.last_event,
            lead(a.first_event) OVER (ORDER BY a.last_event) AS following
        FROM answer_log a
        WHERE a.message_id = b.message_id AND a.attempt = b.attempt) AS l), -1)
    AS last_event
FROM unnest($1::uuid[], $2::integer[]) AS b (message_id, attempt)
"""

READ_PAGES = """
SELECT r.place, g.message_id IS NULL AS gone, g.attempt, g.ended_at IS NOT NULL AS ended,
    g.last_event AS end_event, l.first_event, l.last_event, l.events
FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::integer[])
    AS r (place, message_id, attempt, event)
LEFT JOIN generations g ON g.message_id = r.message_id
LEFT JOIN LATERAL (
    SELECT a.first_event, a.last_event, a.events FROM answer_log a
    WHERE a.message_id = r.message_id AND a.attempt = g.attempt
        AND a.last_event > CASE WHEN g.attempt = r.attempt THEN r.event ELSE -1 END
    ORDER BY a.last_event LIMIT $5
) l ON true
WHERE g.message_id IS NULL OR g.attempt <> r.attempt OR g.ended_at IS NOT NULL
    OR l.events IS NOT NULL
ORDER BY r.place, l.last_event
"""

READ = """
SELECT attempt, first_event, last_event, events
FROM answer_log WHERE message_id = $1 ORDER BY attempt, last_event
"""

LISTEN = """
INSERT INTO listeners (message_id, process, until)
SELECT g.message_id, $2, now() + make_interval(secs => $3)
FROM generations g WHERE g.message_id = ANY ($1::uuid[]) AND g.ended_at IS NULL
ON CONFLICT (message_id, process) DO UPDATE SET until = excluded.until
"""

STOP_LISTENING = """
DELETE FROM listeners WHERE process = $1 AND message_id = ANY ($2::uuid[])
"""

END_GENERATION = """
WITH ears AS (DELETE FROM listeners WHERE message_id = $1)
UPDATE generations SET ended_at = now(), status = $2, error = $3, last_event = $4, done = $5
WHERE message_id = $1
"""

INSERT_TAIL = """
INSERT INTO answer_log (message_id, attempt, first_event, last_event, events) VALUES ($1, $2,
$3, $4, $5) ON CONFLICT DO NOTHING
"""

DELETE = """
WITH answers AS MATERIALIZED (
    -- Locked before their log, in the order in which the sweep does it.
    SELECT message_id, ended_at FROM generations WHERE conversation_id = $1 FOR UPDATE),
log AS (DELETE FROM answer_log l USING answers a WHERE l.message_id = a.message_id),
ears AS (DELETE FROM listeners l USING answers a WHERE l.message_id = a.message_id)
SELECT message_id::text AS id FROM answers WHERE ended_at IS NULL
"""

SWEEP = """
WITH due AS (
    UPDATE generations SET logged = false WHERE message_id = ANY (ARRAY(
        SELECT message_id FROM generations
        WHERE logged AND ended_at IS NOT NULL
            AND ended_at < now() - make_interval(secs => $1)
        ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING message_id),
log AS (
    DELETE FROM answer_log
    WHERE message_id = ANY (ARRAY(SELECT message_id FROM due)))
SELECT count(*) AS swept FROM due
"""

SWEEP_LISTENERS = """
DELETE FROM listeners WHERE until < now() - interval '1 hour'
"""

TRY_TO_WRITE = """
INSERT INTO listeners (message_id, process, until)
VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours')
"""

SWEEP_ORPHANS = """
DELETE FROM answer_log l WHERE l.written_at < now() - interval '1 hour'
    AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.message_id = l.message_id)
"""
