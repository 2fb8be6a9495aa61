"""Conversations that a client may ask for again, since it did not get the response.

The key of such a request is in `idempotency_keys`, where the conversation's own id stands for the
message. Each function runs in the transaction that makes the conversation.
"""

from dataclasses import dataclass

from chat_api.db.database import Connection
from chat_api.db.generations import KEPT_FOR
from chat_api.db.queries import CONVERSATION
from chat_api.db.visibility import VISIBLE
from chat_api.errors import IdempotencyKeyReused


@dataclass(frozen=True, slots=True)
class Creation:
    """The request for a conversation, of which there may be repeats."""

    fingerprint: bytes
    key: str | None
    """The client's own key; None where it only counts its repeats."""
    is_repeat: bool
    """Whether the client says that it sends the request again."""
    messages: int
    """How many messages the conversation begins with."""

    @property
    def stored_key(self) -> str:
        """Return the key in the table; a key of a client's own has no backslash."""
        return self.key or f"\\{self.fingerprint.hex()}"


# Requests of a user with the same key take turns.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || $2, 0))"

# Without a key of its own, a repeat is known by its body alone. It gets no conversation that is in
# use already: the response to the first request has arrived, and this is another conversation.
_FIND = f"""
SELECT k.fingerprint, {CONVERSATION} AS json,
    k.created_at > now() - interval '10 minutes' AND (
        SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) = $3 AS is_unused
FROM idempotency_keys k
JOIN conversations c ON c.id = k.conversation_id AND c.user_id = k.user_id AND {VISIBLE}
WHERE k.user_id = $1 AND k.key = $2 AND k.created_at > now() - interval '{KEPT_FOR}'
"""  # noqa: S608  # the inserted text is ours

# A key of the client's own keeps its meaning; no row where it has another one.
_KEEP = f"""
INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, conversation_id, message_id)
VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
    conversation_id = excluded.conversation_id, message_id = excluded.message_id,
    created_at = now()
WHERE $5 OR k.created_at <= now() - interval '{KEPT_FOR}'
RETURNING 1
"""  # noqa: S608  # the inserted text is ours


async def find_created(connection: Connection, user_id: str, creation: Creation) -> str | None:
    """Return the conversation that the request asks for again, as JSON; None for a new request.

    Raise IdempotencyKeyReused.
    """
    await connection.execute(_LOCK, user_id, creation.stored_key)
    row = await connection.fetchrow(_FIND, user_id, creation.stored_key, creation.messages)
    if row is None:
        return None
    if row["fingerprint"] != creation.fingerprint:
        raise IdempotencyKeyReused
    if creation.key is None and not (creation.is_repeat and row["is_unused"]):
        return None
    return str(row["json"])


async def keep(
    connection: Connection, user_id: str, conversation_id: str, creation: Creation
) -> None:
    """Note what the request has made. Raise IdempotencyKeyReused where its key is in use."""
    kept = await connection.fetchval(
        _KEEP,
        user_id,
        creation.stored_key,
        creation.fingerprint,
        conversation_id,
        creation.key is None,
    )
    if kept is None:
        raise IdempotencyKeyReused
