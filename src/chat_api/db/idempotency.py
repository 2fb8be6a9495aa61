"""Idempotency keys: what the first request with a key began, so that a repeat gets the same."""

from dataclasses import dataclass

from chat_api.db.connecting import Connection
from chat_api.db.generations import KEPT_FOR
from chat_api.errors import IdempotencyKeyReused


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key of the user's own choice, with the request that it belongs to."""

    key: str
    fingerprint: bytes  # of the request that first used the key


@dataclass(frozen=True, slots=True)
class Repeat:
    """The generation that an earlier request with the same idempotency key began."""

    message_id: str


# Find what the user's key was first used for, unless that is a day ago.
_FIND_KEY = f"""
SELECT fingerprint, message_id::text AS id FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > now() - interval '{KEPT_FOR}'
"""  # noqa: S608  # the inserted text is a constant

# Note what the user's key is used for; no row where it is in use already.
_KEEP_KEY = f"""
INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, conversation_id, message_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
    conversation_id = excluded.conversation_id, message_id = excluded.message_id,
    created_at = now()
WHERE k.created_at <= now() - interval '{KEPT_FOR}'
RETURNING 1
"""  # noqa: S608  # the inserted text is a constant


async def find_repeat(
    connection: Connection, user_id: str, idempotency: IdempotencyKey
) -> Repeat | None:
    """Return what the key stands for, None for a new key. Raise IdempotencyKeyReused."""
    row = await connection.fetchrow(_FIND_KEY, user_id, idempotency.key)
    if row is None:
        return None
    if row["fingerprint"] != idempotency.fingerprint:
        raise IdempotencyKeyReused
    return Repeat(row["id"])


async def keep_key(
    connection: Connection,
    user_id: str,
    conversation_id: str,
    message_id: str,
    idempotency: IdempotencyKey,
) -> None:
    """Note what the key stands for.

    Raise IdempotencyKeyReused where a request to another conversation has just noted it: requests
    to one conversation take turns, those to several do not.
    """
    kept = await connection.fetchval(
        _KEEP_KEY,
        user_id,
        idempotency.key,
        idempotency.fingerprint,
        conversation_id,
        message_id,
    )
    if kept is None:
        raise IdempotencyKeyReused
