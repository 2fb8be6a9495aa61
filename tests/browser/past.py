"""What was said before a test begins, put straight into the database."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.support.auth import Account
from tests.support.database import Database


class Past:
    """Makes conversations that were there already."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def conversation(
        self,
        account: Account,
        title: str = "An old talk",
        *said: str | tuple[str, str],
        at: datetime | None = None,
        favourite: bool = False,
    ) -> str:
        """One conversation; its id. What was `said` is by turns the person's and the model's.

        A pair is a text and the status of that message.
        """
        conversation_id = uuid.uuid4()
        await self._db.execute(
            "INSERT INTO conversations (id, user_id, title, title_given, model_tag, is_favorited, "
            "created_at, updated_at) VALUES ($1, $2, $3, true, 'd20', $4, $5, $5)",
            conversation_id,
            account.id,
            title,
            favourite,
            at or datetime.now(UTC),
        )
        for position, message in enumerate(said):
            text, status = (message, "complete") if isinstance(message, str) else message
            await self._db.execute(
                "INSERT INTO messages (id, conversation_id, position, role, content, status, "
                "model_tag, token_count, inference_time_ms, created_at) "
                "VALUES ($1, $2, $3, $4, $5, $6, 'd20', $7, $8, $9)",
                uuid.uuid4(),
                conversation_id,
                position + 1,
                "assistant" if position % 2 else "user",
                text,
                status,
                12 * (position % 2),
                480 * (position % 2),
                at or datetime.now(UTC),
            )
        return str(conversation_id)

    async def conversations(
        self, account: Account, titles: Sequence[str], at: Sequence[datetime]
    ) -> None:
        """Many, without messages."""
        await self._db.execute(
            "INSERT INTO conversations (id, user_id, title, title_given, model_tag, created_at, "
            "updated_at) SELECT gen_random_uuid(), $1, title, true, 'd20', at, at "
            "FROM unnest($2::text[], $3::timestamptz[]) AS given (title, at)",
            account.id,
            titles,
            at,
        )

    async def title(self, conversation_id: str) -> str | None:
        """The title as it is kept now; None if the conversation is gone."""
        title: str | None = await self._db.value(
            "SELECT title FROM conversations WHERE id = $1", uuid.UUID(conversation_id)
        )
        return title

    async def is_favourite(self, conversation_id: str) -> bool:
        """Is it a favourite now?"""
        return bool(
            await self._db.value(
                "SELECT is_favorited FROM conversations WHERE id = $1", uuid.UUID(conversation_id)
            )
        )

    async def messages(self, conversation_id: str) -> list[tuple[str, str, str]]:
        """Role, content and status of its messages, in order, as they are kept now."""
        rows = await self._db.fetch(
            "SELECT role, content, status FROM messages WHERE conversation_id = $1 "
            "AND replaces IS NULL ORDER BY position",
            uuid.UUID(conversation_id),
        )
        return [(row["role"], row["content"], row["status"]) for row in rows]
