"""The quotas of a user, which hold on all replicas together: counted and checked in a send."""

from dataclasses import dataclass, replace

from chat_api.db import usage
from chat_api.db.connecting import Connection, Record
from chat_api.db.limits import UserLimits
from chat_api.errors import (
    TooManyAnswersToday,
    TooManyGenerations,
    TooManyMessages,
    TooManyTokensToday,
)

# When to retry after too many running generations: the time at which one of them ends is unknown.
GENERATION_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of one user, on all replicas together. 0 means no limit."""

    messages_per_minute: int = 0
    running_generations: int = 0
    answers_per_day: int = 0
    tokens_per_day: int = 0

    def __bool__(self) -> bool:
        return bool(self.messages_per_minute or self.running_generations or self.of_a_day)

    @property
    def of_a_day(self) -> bool:
        """Return whether there is a daily limit."""
        return bool(self.answers_per_day or self.tokens_per_day)

    def of_user(self, limits: UserLimits) -> "Quotas":
        """Return these quotas with the limits that are set for the user."""
        answers, tokens = limits.answers_per_day, limits.tokens_per_day
        return replace(
            self,
            answers_per_day=self.answers_per_day if answers is None else answers,
            tokens_per_day=self.tokens_per_day if tokens is None else tokens,
        )


UNLIMITED = Quotas()


def quotas_of(conversation: Record, quotas: Quotas) -> Quotas:
    """Return the quotas of the user, from a row of LOCK_CONVERSATION and those of everybody."""
    set_for_user = conversation["limits"]
    return quotas if set_for_user is None else quotas.of_user(UserLimits(*set_for_user))


# Count a message in the user's minute unless the minute is used up, and read the last message, or
# the one that is named, and, for a regeneration, its question. Counting locks the user's row until
# the transaction ends, so that the user's sends to other conversations, on any replica, wait here,
# and the number of running generations that a send counts stays true.
_COUNT_MESSAGE = """
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
    WHERE conversation_id = $1 AND replaces IS NULL AND ($6::uuid IS NULL OR id = $6)
    ORDER BY position DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT id::text AS id FROM messages
    WHERE $5 AND conversation_id = $1 AND replaces IS NULL AND role = 'user'
        AND position <= last.position
    ORDER BY position DESC LIMIT 1
) AS question ON true
"""

# Read how much of the user's quotas is used.
_READ_QUOTAS = """
SELECT coalesce(q.sent, 0) AS sent,
    ceil(extract(epoch FROM q.began + interval '1 minute' - now()))::integer AS seconds,
    (SELECT count(*) FROM generations WHERE user_id = $1 AND ended_at IS NULL) AS running
FROM (SELECT 1) AS always LEFT JOIN message_quotas q
    ON q.user_id = $1 AND q.began > now() - interval '1 minute'
"""


async def count_message(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    quotas: Quotas,
    *,
    regenerates: bool,
    message_id: str | None = None,
) -> Record:
    """Count the message; return `id`, `position` and `role` of the last shown one, or `message_id`.

    With `regenerates`, also the `question_id` of the last question up to that message. Each is None
    where there is no such message. Raise TooManyMessages, TooManyGenerations, TooManyAnswersToday
    or TooManyTokensToday.
    """
    last = await connection.fetchrow(
        _COUNT_MESSAGE,
        conversation_id,
        user_id,
        bool(quotas),
        quotas.messages_per_minute,
        regenerates,
        message_id,
    )
    assert last is not None  # noqa: S101  # the statement always gives one row
    if quotas and not last["is_counted"]:
        await check_quotas(connection, user_id, quotas)
        raise TooManyMessages(quotas.messages_per_minute, 1)  # the minute has just ended
    await check_day(connection, user_id, quotas, running=0)
    return last


async def check_quotas(connection: Connection, user_id: str, quotas: Quotas) -> None:
    """Raise the refusal that a message would get if it took the running generation's place."""
    if not quotas:
        return
    used = await connection.fetchrow(_READ_QUOTAS, user_id)
    assert used is not None  # noqa: S101  # the statement always gives one row
    if 0 < quotas.messages_per_minute <= used["sent"]:
        raise TooManyMessages(quotas.messages_per_minute, max(1, used["seconds"]))
    if 0 < quotas.running_generations < used["running"]:
        raise TooManyGenerations(quotas.running_generations, GENERATION_RETRY_SECONDS)
    await check_day(connection, user_id, quotas, running=1)


async def check_day(connection: Connection, user_id: str, quotas: Quotas, *, running: int) -> None:
    """Raise TooManyAnswersToday or TooManyTokensToday.

    Of the user's running generations, `running` have been allowed and are about to be replaced. A
    caller that holds the user's row in `message_quotas` sees all others.
    """
    if not quotas.of_a_day:
        return
    used = await usage.read_day(connection, user_id)
    if 0 < quotas.answers_per_day <= used.answers - running:
        raise TooManyAnswersToday(quotas.answers_per_day, max(1, used.seconds_left))
    if 0 < quotas.tokens_per_day <= used.tokens:
        raise TooManyTokensToday(quotas.tokens_per_day, max(1, used.seconds_left))
