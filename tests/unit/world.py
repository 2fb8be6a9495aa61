"""Users, conversations and answers, made by the statements that the service itself uses."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
from uuid_utils.compat import uuid7

from chat_api.db import generations, queries, sends
from chat_api.db.database import Connection, Database, driver_address
from chat_api.db.event_log import LogRow
from chat_api.db.generations import Ending, Lease, Outcome
from chat_api.db.idempotency import IdempotencyKey, Repeat
from chat_api.db.queries import ConversationSettings
from chat_api.db.quotas import UNLIMITED, Quotas
from chat_api.db.sends import Begun, Busy, Draft, HistoryBounds
from chat_api.generation import events

LEASE_SECONDS = 60.0


@asynccontextmanager
async def opened(url: str, *, size: int = 4) -> AsyncIterator[Database]:
    """The service's pool on a database."""
    pool = Database(url, size=size, timeout_seconds=10)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def connected(url: str, **settings: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection that is not the service's."""
    connection = await asyncpg.connect(
        driver_address(url), timeout=10, server_settings={"timezone": "UTC", **settings}
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


class OnConnection(Database):
    """The service's database, all on one connection: what runs can be looked at before it ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._connection

    @asynccontextmanager
    async def _share(self) -> AsyncIterator[None]:
        yield


class World:
    """One user, whose conversations are made and answered here."""

    def __init__(self, pool: Database) -> None:
        self.pool = pool
        self.user = f"user-{uuid4()}"
        self.stranger = f"stranger-{uuid4()}"
        self.process = str(uuid4())

    async def conversation(self, title: str | None = None, *, user: str | None = None) -> str:
        conversation_id = str(uuid7())
        await queries.create_conversation(
            self.pool, user or self.user, conversation_id, ConversationSettings(title=title)
        )
        return conversation_id

    def draft(
        self,
        content: str | None = "Why?",
        *,
        title: str | None = None,
        key: IdempotencyKey | None = None,
        at: str | None = None,
    ) -> Draft:
        return Draft(
            message_id=str(uuid7()),
            question_id=str(uuid7()),
            content=content,
            title=title,
            options="{}",
            trace_id="trace",
            idempotency=key,
            at=at,
        )

    async def begin(
        self,
        conversation_id: str,
        draft: Draft | None = None,
        *,
        user: str | None = None,
        process: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        quotas: Quotas = UNLIMITED,
    ) -> Lease | Busy | Repeat | None:
        begun = await sends.begin(
            self.pool,
            user or self.user,
            conversation_id,
            draft or self.draft(),
            process=process or self.process,
            lease_seconds=lease_seconds,
            bounds=HistoryBounds(50, 8000),
            quotas=quotas,
        )
        return begun.lease if isinstance(begun, Begun) else begun

    async def lease(
        self,
        conversation_id: str | None = None,
        draft: Draft | None = None,
        *,
        process: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> Lease:
        """A running answer, in a conversation of its own unless one is given."""
        begun = await self.begin(
            conversation_id or await self.conversation(),
            draft,
            process=process,
            lease_seconds=lease_seconds,
        )
        assert isinstance(begun, Lease)
        return begun

    async def regeneration(self, conversation_id: str, at: str | None = None) -> Lease:
        return await self.lease(conversation_id, self.draft(None, at=at))

    async def end(
        self,
        lease: Lease,
        content: str = "Because.",
        *,
        status: str = "complete",
        last_event: int = 2,
        tail: LogRow | None = None,
        **others: Any,
    ) -> Outcome:
        """End it; `others` are fields of the ending."""
        return await generations.end(
            self.pool,
            lease,
            replace(ending(lease, content, status=status, last_event=last_event), **others),
            tail,
        )

    async def answered(self, conversation_id: str, content: str = "Because.") -> Lease:
        """An answer that is complete."""
        lease = await self.lease(conversation_id)
        assert await self.end(lease, content) is Outcome.SAVED
        return lease

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(statement, *arguments)]

    async def value(self, statement: str, *arguments: Any) -> Any:
        row = await self.pool.fetchrow(statement, *arguments)
        return None if row is None else row[0]

    async def messages(self, conversation_id: str) -> list[tuple[int, str, str, str]]:
        """Position, role, status and content of what is shown or under way."""
        return [
            (row["position"], row["role"], row["status"], row["content"])
            for row in await self.rows(
                "SELECT position, role, status, content FROM messages "
                "WHERE conversation_id = $1 AND (replaces IS NULL OR replaces <> id) "
                "ORDER BY position, replaces NULLS FIRST",
                conversation_id,
            )
        ]

    async def generation(self, message_id: str) -> dict[str, Any]:
        (row,) = await self.rows("SELECT * FROM generations WHERE message_id = $1", message_id)
        return row


def ending(
    lease: Lease,
    content: str = "Because.",
    *,
    status: str = "complete",
    last_event: int = 2,
    error: str | None = None,
) -> Ending:
    kept = None if status == "complete" else lease.replaces
    return Ending(
        status=status,
        content=content,
        token_count=1,
        inference_time_ms=7,
        error=error,
        model_tag="default",
        reasoning=None,
        finish_reason=None,
        input_tokens=None,
        output_tokens=None,
        undone=kept is not None,
        done=events.done(lease.message_id, status, 1, 7, kept_message_id=kept).decode(),
        last_event=last_event,
    )


def key(name: str, stands_for: str = "this") -> IdempotencyKey:
    return IdempotencyKey(name, hashlib.sha256(stands_for.encode()).digest())


def log_row(
    lease: Lease, first: int, texts: Sequence[str], *, attempt: int | None = None
) -> LogRow:
    """A row of the log whose events are tokens."""
    return LogRow(
        lease.message_id,
        lease.attempt if attempt is None else attempt,
        first,
        first + len(texts) - 1,
        "\n".join(events.token(text).decode() for text in texts),
    )
