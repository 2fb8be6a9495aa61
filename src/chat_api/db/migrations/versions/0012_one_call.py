"""Beginning an answer in one call, and ending it in one call.

The functions do what the statements of `db.sends` and `db.generations` do in the usual case, and
change nothing where anything stands in its way: the statements decide then. Each statement inside
takes a snapshot of its own after the conversation's lock, which one statement with CTEs would not.

A later migration that changes what a function does gives it another name, so that replicas of the
version before go on calling this one.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Locks are taken in the order of `db.sends`: the conversation, the user's quota, the key.
_BEGIN = """
CREATE FUNCTION samosachaat_begin_answer(
    of_user text, in_conversation uuid, answer uuid, question uuid, question_text text,
    new_title text, INOUT model_tag text, given_options text, trace text, process uuid,
    lease_seconds double precision,
    is_limited boolean, most_a_minute integer, most_running integer,
    idempotency_key text, key_fingerprint bytea, key_kept_for interval,
    most_turns integer, most_chars integer, shown_text text,
    OUT begun boolean, OUT instructions text, OUT roles text[], OUT contents text[],
    OUT input_tokens integer[], OUT output_tokens integer[], OUT reasoning_bytes integer[]
) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    conversation record;
    last record;
    until timestamptz;
    is_counted boolean := false;
    place integer;
BEGIN
    begun := false;
    SELECT c.title_given, c.model_tag, c.instructions, c.options INTO conversation
        FROM conversations c WHERE c.user_id = of_user AND c.id = in_conversation
            AND (c.expires_at IS NULL OR c.expires_at > now())
        FOR NO KEY UPDATE;
    -- Options of the conversation are merged by the service.
    IF NOT FOUND OR conversation.options IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM 1 FROM user_limits l WHERE l.user_id = of_user;
    IF FOUND THEN
        RETURN;
    END IF;
    IF idempotency_key IS NOT NULL THEN
        PERFORM 1 FROM idempotency_keys k WHERE k.user_id = of_user AND k.key = idempotency_key
            AND k.created_at > now() - key_kept_for;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    PERFORM 1 FROM generations g
        WHERE g.conversation_id = in_conversation AND g.ended_at IS NULL;
    IF FOUND THEN
        RETURN;
    END IF;
    IF is_limited THEN
        INSERT INTO message_quotas AS q (user_id, began, sent)
            VALUES (of_user, statement_timestamp(), 1)
            ON CONFLICT (user_id) DO UPDATE SET (began, sent) = (
                SELECT CASE WHEN past THEN statement_timestamp() ELSE q.began END,
                    CASE WHEN past THEN 1 ELSE q.sent + 1 END
                FROM (SELECT q.began <= statement_timestamp() - interval '1 minute') AS m (past))
            WHERE most_a_minute = 0 OR q.sent < most_a_minute
                OR q.began <= statement_timestamp() - interval '1 minute';
        IF NOT FOUND THEN
            RETURN;
        END IF;
        is_counted := true;
        IF most_running > 0 THEN
            PERFORM 1 FROM generations g WHERE g.user_id = of_user AND g.ended_at IS NULL
                OFFSET most_running - 1 LIMIT 1;
            IF FOUND THEN
                UPDATE message_quotas q SET sent = q.sent - 1 WHERE q.user_id = of_user;
                RETURN;
            END IF;
        END IF;
    END IF;
    IF idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency_keys AS k
                (user_id, key, fingerprint, conversation_id, message_id)
            VALUES (of_user, idempotency_key, key_fingerprint, in_conversation, answer)
            ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
                conversation_id = excluded.conversation_id, message_id = excluded.message_id,
                created_at = now()
            WHERE k.created_at <= now() - key_kept_for;
        IF NOT FOUND THEN  -- a send to another conversation was faster
            IF is_counted THEN
                UPDATE message_quotas q SET sent = q.sent - 1 WHERE q.user_id = of_user;
            END IF;
            RETURN;
        END IF;
    END IF;

    SELECT m.id, m.position INTO last FROM messages m
        WHERE m.conversation_id = in_conversation AND m.replaces IS NULL
        ORDER BY m.position DESC LIMIT 1;
    place := coalesce(last.position + 1, 0);
    until := clock_timestamp() + make_interval(secs => lease_seconds);
    begun := true;
    model_tag := coalesce($7, conversation.model_tag);
    instructions := conversation.instructions;
    INSERT INTO messages
            (id, conversation_id, position, role, content, status, model_tag, parent_id, version)
        VALUES (question, in_conversation, place, 'user', question_text, 'complete', $7,
                coalesce(last.id, in_conversation), 1),
            (answer, in_conversation, place + 1, 'assistant', '', 'generating', $7, question, 1);
    INSERT INTO generations (message_id, conversation_id, question_id, user_id, options, trace_id,
            owner, lease_until)
        VALUES (answer, in_conversation, question, of_user, given_options, trace, process, until);
    INSERT INTO subscriptions (message_id, process, until) VALUES (answer, process, until);
    -- The change of the generation tells that of the conversation (migration 0008).
    PERFORM set_config('samosachaat.told_with_generation', in_conversation::text, true);
    UPDATE conversations c SET
        updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 microsecond'),
        title = CASE WHEN c.title_given OR new_title IS NULL OR last.id IS NOT NULL
            THEN c.title ELSE new_title END
        WHERE c.id = in_conversation;

    SELECT array_agg(t.role ORDER BY t.position), array_agg(t.content ORDER BY t.position),
            array_agg(t.input_tokens ORDER BY t.position),
            array_agg(t.output_tokens ORDER BY t.position),
            array_agg(t.bytes ORDER BY t.position)
        INTO roles, contents, input_tokens, output_tokens, reasoning_bytes
        FROM (
            SELECT m.position, m.role, right(m.content, most_chars) AS content, m.input_tokens,
                m.output_tokens, coalesce(octet_length(m.reasoning), 0) AS bytes
            FROM messages m
            WHERE m.conversation_id = in_conversation AND m.replaces IS NULL
                AND (left(m.content, 100) ~ shown_text OR m.content ~ shown_text)
            ORDER BY m.position DESC LIMIT most_turns) AS t;
END $body$
"""

# Returns an `Outcome` of `db.generations`; null where the statements are to decide.
_END = """
CREATE FUNCTION samosachaat_end_answer(
    answer uuid, in_conversation uuid, of_attempt integer,
    its_status text, its_error text, its_last_event integer, its_done text, its_before_done text,
    its_content text, tokens integer, milliseconds integer, its_model_tag text, its_reasoning text,
    its_finish_reason text, tokens_in integer, tokens_out integer,
    first_events integer[], last_events integer[], tail text[], are_snapshots boolean[]
) RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
    held record;
BEGIN
    PERFORM 1 FROM conversations WHERE id = in_conversation FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    SELECT attempt, ended_at IS NOT NULL AS ended INTO held FROM generations
        WHERE message_id = answer FOR NO KEY UPDATE;
    IF NOT FOUND OR held.ended THEN
        RETURN NULL;
    END IF;
    IF held.attempt <> of_attempt THEN
        RETURN 'fenced';
    END IF;
    DELETE FROM subscriptions WHERE message_id = answer;
    -- Before the message: the ledger's trigger reads what that had cost until now (migration 0010).
    UPDATE generations SET ended_at = now(), status = its_status, error = its_error,
        last_event = its_last_event, done = its_done, undone = false, before_done = its_before_done
        WHERE message_id = answer;
    INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
        SELECT answer, of_attempt, t.* FROM unnest(first_events, last_events, tail, are_snapshots) t
        ON CONFLICT DO NOTHING;
    UPDATE messages SET status = its_status, content = its_content, token_count = tokens,
        inference_time_ms = milliseconds, replaces = NULL, model_tag = its_model_tag,
        reasoning = its_reasoning, finish_reason = its_finish_reason, input_tokens = tokens_in,
        output_tokens = tokens_out, error = its_error
        WHERE id = answer;
    RETURN 'saved';
END $body$
"""

FUNCTIONS = ("samosachaat_begin_answer", "samosachaat_end_answer")


def upgrade() -> None:
    for statement in (_BEGIN, _END, grant_like_conversations(functions=FUNCTIONS)):
        op.execute(statement)


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
