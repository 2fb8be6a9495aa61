"""What each user's answers cost, by day, model and status.

A trigger writes it in the transaction that ends a generation, so that the ends of replicas of the
version before are counted, too, and each exactly once: `ended_at` is set once for each end.
"""

from alembic import op

from chat_api.db.steps import grant_like_conversations, in_short_attempts

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COUNT = """
    INSERT INTO usage_ledger AS u
        (user_id, day, model_tag, status, answers, input_tokens, output_tokens, estimated)
    VALUES ({values})
    ON CONFLICT (user_id, day, model_tag, status) DO UPDATE SET
        answers = u.answers + 1,
        input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        estimated = u.estimated + excluded.estimated;
    RETURN NULL;
"""
_ENDED = _COUNT.format(
    values="NEW.user_id, (NEW.ended_at AT TIME ZONE 'UTC')::date, "
    "coalesce(told->>'model_tag', before.model_tag, 'default'), NEW.status, 1, input, output, "
    "is_estimated::integer"
)
_DELETED = _COUNT.format(
    values="OLD.user_id, (now() AT TIME ZONE 'UTC')::date, 'default', 'stopped', 1, 0, 0, 1"
)

UPGRADE = (
    "LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE",
    # Of an erased user, `user_id` is empty. `estimated`: answers whose engine told no usage.
    """
    CREATE TABLE usage_ledger (
        user_id text NOT NULL,
        day date NOT NULL,  -- in UTC
        model_tag text NOT NULL,
        status text NOT NULL,
        answers bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        estimated bigint NOT NULL,
        PRIMARY KEY (user_id, day, model_tag, status)
    )
    """,
    # The message still holds what an earlier end of the same answer cost (POST …/continue).
    f"""
CREATE FUNCTION samosachaat_generation_ended() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    told CONSTANT json := coalesce(NEW.done, '{{}}')::json;
    before record;
    tokens bigint := coalesce((told->>'token_count')::bigint, 0);
    input bigint := coalesce((told#>>'{{usage,input_tokens}}')::bigint, 0);
    output bigint := coalesce((told#>>'{{usage,output_tokens}}')::bigint, 0);
    is_estimated boolean;
BEGIN
    SELECT model_tag, token_count, input_tokens, output_tokens INTO before
        FROM messages WHERE id = NEW.message_id;
    IF NEW.resumed_after IS NOT NULL THEN
        tokens := greatest(tokens - coalesce(before.token_count, 0), 0);
        input := greatest(input - coalesce(before.input_tokens, 0), 0);
        output := greatest(output - coalesce(before.output_tokens, 0), 0);
    END IF;
    is_estimated := tokens > 0 AND input = 0 AND output = 0;
    IF is_estimated THEN
        output := tokens;
    END IF;
    {_ENDED}
END $body$
    """,  # noqa: S608  # the inserted text is ours
    f"""
CREATE FUNCTION samosachaat_generation_deleted() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    {_DELETED}
END $body$
    """,  # the inserted text is ours
    """
CREATE TRIGGER samosachaat_generation_ended AFTER UPDATE OF ended_at ON generations
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
        AND NEW.user_id IS NOT NULL) EXECUTE FUNCTION samosachaat_generation_ended()
    """,
    # Deleted with its conversation while it ran.
    """
CREATE TRIGGER samosachaat_generation_deleted AFTER DELETE ON generations
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND OLD.user_id IS NOT NULL)
    EXECUTE FUNCTION samosachaat_generation_deleted()
    """,
    # A role that may change conversations, but is not the one that migrates, runs the triggers.
    grant_like_conversations(("usage_ledger",)),
)
DOWNGRADE = (
    "LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE",
    "DROP TRIGGER samosachaat_generation_deleted ON generations",
    "DROP TRIGGER samosachaat_generation_ended ON generations",
    "DROP FUNCTION samosachaat_generation_deleted()",
    "DROP FUNCTION samosachaat_generation_ended()",
    "DROP TABLE usage_ledger",
)


def upgrade() -> None:
    op.execute(in_short_attempts(*UPGRADE))


def downgrade() -> None:
    op.execute(in_short_attempts(*DOWNGRADE))
