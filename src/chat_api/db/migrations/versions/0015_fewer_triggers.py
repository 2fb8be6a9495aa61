"""An answer's two calls write its changes, its usage and its user's guard by themselves.

Each of the triggers of 0008, 0010 and 0013 costs a call, and a deferred one also a queue. The new
functions do what these would do, and say so by a setting of the transaction, for which the
triggers pass the row over. All other statements are left to the triggers, also those of replicas
of the version before, which go on calling the functions of 0012.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations, in_short_attempts

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Numbers are those of migration 0008.
_TELL = """
    WITH counter AS (
        INSERT INTO change_counters AS k (user_id, last)
            VALUES (of_user, (date_part('epoch', clock_timestamp()) * 1e6)::bigint)
            ON CONFLICT (user_id) DO UPDATE SET last = greatest(k.last + {count}, excluded.last)
            RETURNING last)
    INSERT INTO changes (user_id, number, conversation_id, message_id, status)
        {rows};
"""
_BEGUN = """SELECT of_user, last - 1, in_conversation, NULL, NULL FROM counter
        UNION ALL SELECT of_user, last, in_conversation, answer, 'generating' FROM counter"""
_IS_OVER = "SELECT of_user, last, in_conversation, answer, its_status FROM counter"

# Locks are taken in the order of `db.sends`: the conversation, the user's quota, the key. The
# user's guard is that of migration 0013. The assignments to `ignored` are calls without the
# statement that PERFORM would need. A history has some more messages than are asked for, since
# blank ones are left out of it.
_BEGIN = f"""
CREATE FUNCTION samosachaat_begin_answer_2(
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
    before record;
    minute_ago CONSTANT timestamptz := statement_timestamp() - interval '1 minute';
    place integer;
    ignored text;
BEGIN
    begun := false;
    SELECT c.model_tag, c.instructions, c.options IS NOT NULL AS has_options INTO conversation
        FROM conversations c WHERE c.user_id = of_user AND c.id = in_conversation
            AND (c.expires_at IS NULL OR c.expires_at > now())
        FOR NO KEY UPDATE;
    -- Options of the conversation are merged by the service.
    IF NOT FOUND OR conversation.has_options THEN
        RETURN;
    END IF;
    ignored := pg_advisory_xact_lock_shared(hashtextextended(of_user, 1836021349));
    IF is_limited THEN
        INSERT INTO message_quotas AS q (user_id, began, sent)
            VALUES (of_user, statement_timestamp(), 1)
            ON CONFLICT (user_id) DO UPDATE SET
                began = CASE WHEN q.began <= minute_ago THEN excluded.began ELSE q.began END,
                sent = CASE WHEN q.began <= minute_ago THEN 1 ELSE q.sent + 1 END
            WHERE most_a_minute = 0 OR q.sent < most_a_minute OR q.began <= minute_ago;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    -- What is read here is current: all locks are held.
    SELECT EXISTS (SELECT FROM frozen_users f WHERE f.user_id = of_user)
                OR EXISTS (SELECT FROM user_limits l WHERE l.user_id = of_user)
                OR EXISTS (SELECT FROM generations g
                    WHERE g.conversation_id = in_conversation AND g.ended_at IS NULL)
                OR most_running > 0 AND EXISTS (SELECT FROM generations g
                    WHERE g.user_id = of_user AND g.ended_at IS NULL
                    OFFSET greatest(most_running - 1, 0))
                OR idempotency_key IS NOT NULL AND EXISTS (SELECT FROM idempotency_keys k
                    WHERE k.user_id = of_user AND k.key = idempotency_key
                        AND k.created_at > now() - key_kept_for)
                OR count(*) = most_turns + 10 AND count(*) FILTER (WHERE t.shows) < most_turns
                AS is_unusual,
            max(t.position) AS position,
            (array_agg(t.id ORDER BY t.position))[count(*)] AS id,
            array_agg(t.role ORDER BY t.position) FILTER (WHERE t.shows) AS roles,
            array_agg(t.content ORDER BY t.position) FILTER (WHERE t.shows) AS contents,
            array_agg(t.input_tokens ORDER BY t.position) FILTER (WHERE t.shows) AS input_tokens,
            array_agg(t.output_tokens ORDER BY t.position) FILTER (WHERE t.shows) AS output_tokens,
            array_agg(t.bytes ORDER BY t.position) FILTER (WHERE t.shows) AS bytes
        INTO before
        FROM (
            SELECT m.id, m.position, m.role, m.input_tokens, m.output_tokens,
                CASE WHEN octet_length(m.content) <= most_chars THEN m.content
                    ELSE right(m.content, most_chars) END AS content,
                coalesce(octet_length(m.reasoning), 0) AS bytes,
                left(m.content, 1) ~ shown_text OR left(m.content, 100) ~ shown_text
                    OR m.content ~ shown_text AS shows
            FROM messages m WHERE m.conversation_id = in_conversation AND m.replaces IS NULL
            ORDER BY m.position DESC LIMIT most_turns + 10) AS t;
    IF NOT before.is_unusual AND idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency_keys AS k
                (user_id, key, fingerprint, conversation_id, message_id)
            VALUES (of_user, idempotency_key, key_fingerprint, in_conversation, answer)
            ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
                conversation_id = excluded.conversation_id, message_id = excluded.message_id,
                created_at = now()
            WHERE k.created_at <= now() - key_kept_for;
        before.is_unusual := NOT FOUND;  -- a send to another conversation was faster
    END IF;
    IF before.is_unusual THEN
        IF is_limited THEN
            UPDATE message_quotas q SET sent = q.sent - 1 WHERE q.user_id = of_user;
        END IF;
        RETURN;
    END IF;

    begun := true;
    model_tag := coalesce($7, conversation.model_tag);
    instructions := conversation.instructions;
    roles := before.roles;
    contents := before.contents;
    input_tokens := before.input_tokens;
    output_tokens := before.output_tokens;
    reasoning_bytes := before.bytes;
    place := coalesce(before.position + 1, 0);
    ignored := set_config('samosachaat.in_one_call', in_conversation::text, true);
    INSERT INTO messages
            (id, conversation_id, position, role, content, status, model_tag, parent_id, version)
        VALUES (question, in_conversation, place, 'user', question_text, 'complete', $7,
                coalesce(before.id, in_conversation), 1),
            (answer, in_conversation, place + 1, 'assistant', '', 'generating', $7, question, 1);
    WITH subscribed AS (
        INSERT INTO subscriptions (message_id, process, until) VALUES
            (answer, process, clock_timestamp() + make_interval(secs => lease_seconds))
            RETURNING until)
    INSERT INTO generations (message_id, conversation_id, question_id, user_id, options, trace_id,
            owner, lease_until)
        SELECT answer, in_conversation, question, of_user, given_options, trace, process, until
        FROM subscribed;
    UPDATE conversations c SET
        updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 microsecond'),
        title = CASE WHEN c.title_given OR new_title IS NULL OR before.id IS NOT NULL
            THEN c.title ELSE new_title END
        WHERE c.id = in_conversation;
    ignored := set_config('samosachaat.in_one_call', '', true);
    {_TELL.format(count=2, rows=_BEGUN)}
END $body$
"""  # noqa: S608  # the inserted text is ours

# Returns an `Outcome` of `db.generations`; null where the statements are to decide. The usage is
# counted as by the trigger of migration 0010, which counts answers that were continued.
_END = f"""
CREATE FUNCTION samosachaat_end_answer_2(
    answer uuid, in_conversation uuid, of_attempt integer,
    its_status text, its_error text, its_last_event integer, its_done text, its_before_done text,
    its_content text, tokens integer, milliseconds integer, its_model_tag text, its_reasoning text,
    its_finish_reason text, tokens_in integer, tokens_out integer,
    first_events integer[], last_events integer[], tail text[], are_snapshots boolean[]
) RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
    of_user text;
    is_estimated CONSTANT boolean :=
        tokens > 0 AND coalesce(tokens_in, 0) = 0 AND coalesce(tokens_out, 0) = 0;
    ignored text;
BEGIN
    PERFORM 1 FROM conversations WHERE id = in_conversation FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    ignored := set_config('samosachaat.in_one_call', in_conversation::text, true);
    UPDATE generations SET ended_at = now(), status = its_status, error = its_error,
        last_event = its_last_event, done = its_done, undone = false, before_done = its_before_done
        WHERE message_id = answer AND attempt = of_attempt AND ended_at IS NULL
            AND resumed_after IS NULL AND user_id IS NOT NULL
        RETURNING user_id INTO of_user;
    ignored := set_config('samosachaat.in_one_call', '', true);
    IF of_user IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO usage_ledger AS u
        (user_id, day, model_tag, status, answers, input_tokens, output_tokens, estimated)
        VALUES (of_user, (now() AT TIME ZONE 'UTC')::date, its_model_tag, its_status, 1,
            coalesce(tokens_in, 0),
            CASE WHEN is_estimated THEN tokens ELSE coalesce(tokens_out, 0) END,
            is_estimated::integer)
        ON CONFLICT (user_id, day, model_tag, status) DO UPDATE SET
            answers = u.answers + 1,
            input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            estimated = u.estimated + excluded.estimated;
    DELETE FROM subscriptions WHERE message_id = answer;
    INSERT INTO event_log (message_id, attempt, first_event, last_event, events, is_snapshot)
        SELECT answer, of_attempt, t.* FROM unnest(first_events, last_events, tail, are_snapshots) t
        ON CONFLICT DO NOTHING;
    UPDATE messages SET status = its_status, content = its_content, token_count = tokens,
        inference_time_ms = milliseconds, replaces = NULL, model_tag = its_model_tag,
        reasoning = its_reasoning, finish_reason = its_finish_reason, input_tokens = tokens_in,
        output_tokens = tokens_out, error = its_error
        WHERE id = answer;
    {_TELL.format(count=1, rows=_IS_OVER)}
    RETURN 'saved';
END $body$
"""  # noqa: S608  # the inserted text is ours

_FUNCTIONS = ("samosachaat_begin_answer_2", "samosachaat_end_answer_2")
# Each with the condition that is added to its own.
_TRIGGERS = {
    "samosachaat_conversation_changed ON conversations": """
CREATE CONSTRAINT TRIGGER samosachaat_conversation_changed AFTER UPDATE ON conversations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        current_setting('samosachaat.told_with_generation', true) IS DISTINCT FROM NEW.id::text
        {unless_in_one_call})
    EXECUTE FUNCTION samosachaat_conversation_changed()
    """,
    "samosachaat_generation_begun ON generations": """
CREATE CONSTRAINT TRIGGER samosachaat_generation_begun AFTER INSERT ON generations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.user_id IS NOT NULL {unless_in_one_call})
    EXECUTE FUNCTION samosachaat_generation_begun()
    """,
    "samosachaat_generation_changed ON generations": """
CREATE CONSTRAINT TRIGGER samosachaat_generation_changed AFTER UPDATE OF status ON generations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        NEW.status <> OLD.status AND NEW.user_id IS NOT NULL {unless_in_one_call})
    EXECUTE FUNCTION samosachaat_generation_changed()
    """,
    "samosachaat_generation_ended ON generations": """
CREATE TRIGGER samosachaat_generation_ended AFTER UPDATE OF ended_at ON generations
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
        AND NEW.user_id IS NOT NULL {unless_in_one_call})
    EXECUTE FUNCTION samosachaat_generation_ended()
    """,
}
_GUARD = """
CREATE TRIGGER samosachaat_conversation_{name} BEFORE {event} ON conversations
    FOR EACH ROW {condition} EXECUTE FUNCTION samosachaat_conversation_guarded()
"""
_NOT_IN_ONE_CALL = "current_setting('samosachaat.in_one_call', true) IS DISTINCT FROM {id}::text"
_IDS = {"conversations": "NEW.id", "generations": "NEW.conversation_id"}
_LOCK = "LOCK TABLE conversations, generations IN ACCESS EXCLUSIVE MODE"


def _replaced(*, may_be_in_one_call: bool) -> list[str]:
    """Return the statements that make the triggers again."""
    statements = []
    for name, statement in _TRIGGERS.items():
        column = _IDS[name.rpartition(" ")[2]]
        unless = f"AND {_NOT_IN_ONE_CALL.format(id=column)}" if may_be_in_one_call else ""
        statements += [f"DROP TRIGGER {name}", statement.format(unless_in_one_call=unless)]
    return statements


UPGRADE = (
    _LOCK,
    *_replaced(may_be_in_one_call=True),
    "DROP TRIGGER samosachaat_conversation_guarded ON conversations",
    _GUARD.format(name="guarded", event="INSERT OR DELETE", condition=""),
    _GUARD.format(
        name="update_guarded",
        event="UPDATE",
        condition=f"WHEN ({_NOT_IN_ONE_CALL.format(id=_IDS['conversations'])})",
    ),
)
DOWNGRADE = (
    _LOCK,
    *_replaced(may_be_in_one_call=False),
    "DROP TRIGGER samosachaat_conversation_guarded ON conversations",
    "DROP TRIGGER samosachaat_conversation_update_guarded ON conversations",
    _GUARD.format(name="guarded", event="INSERT OR UPDATE OR DELETE", condition=""),
)


def upgrade() -> None:
    for statement in (_BEGIN, _END, grant_like_conversations(functions=_FUNCTIONS)):
        op.execute(statement)
    op.execute(in_short_attempts(*UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(*DOWNGRADE))
    for name in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
