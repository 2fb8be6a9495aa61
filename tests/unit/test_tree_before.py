"""Replicas of the version before the tree serve while, and after, the schema is migrated."""

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.database import Databases
from tests.support.trees import FAULTS
from tests.unit import statements_of_0003 as before
from tests.unit.world import World, connected, opened
from uuid_utils.compat import uuid7

from chat_api.conversations.tree import Trees
from chat_api.db import queries
from chat_api.db.generations import Outcome
from chat_api.db.migrate import migrate

migration = import_module("chat_api.db.migrations.versions.0007_tree")


class Replica:
    """What a replica of that version does to messages, with the statements it has prepared."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.user = f"user-{uuid4()}"

    async def conversation(self) -> str:
        conversation = str(uuid7())
        await self.connection.execute(
            "INSERT INTO conversations (id, user_id, title, title_given, model_tag) "
            "VALUES ($1, $2, 'T', true, 'm')",
            conversation,
            self.user,
        )
        return conversation

    async def begin(self, conversation: str, content: str | None) -> tuple[str, str | None]:
        """Send, or regenerate the last answer; the message's id, and the old one's."""
        async with self.connection.transaction():
            await self.connection.execute(
                "SELECT 1 FROM conversations WHERE id = $1 FOR NO KEY UPDATE", conversation
            )
            last = await self.connection.fetchrow(
                before.COUNT_MESSAGE, conversation, self.user, False, 0, content is None
            )
            position = -1 if last["id"] is None else last["position"]
            message = str(uuid7())
            begun = await self.connection.fetchval(
                before.BEGIN,
                message,
                conversation,
                position if content is None else position + 2,
                "m",
                last["id"] if content is None else None,
                last["question_id"] if content is None else str(uuid7()),
                "{}",
                "trace",
                str(uuid4()),
                60.0,
                None,
                self.user,
                0,
                content,
            )
        assert begun
        return message, last["id"] if content is None else None

    async def end(self, message: str, replaces: str | None, content: str) -> None:
        async with self.connection.transaction():
            await self.connection.execute(
                before.END_GENERATION, message, "complete", None, 1, "{}", False, ""
            )
            if replaces is not None:
                await self.connection.execute(before.DELETE_MESSAGE, replaces)
            await self.connection.execute(before.END_MESSAGE, message, "complete", content, 1, 1)

    async def say(self, conversation: str, question: str | None, answer: str) -> str:
        message, replaces = await self.begin(conversation, question)
        await self.end(message, replaces, answer)
        return message


@pytest.fixture
async def url(databases: Databases) -> str:
    url = databases.empty()
    await migrate(url, "0003")
    return url


@pytest.fixture
async def replica(url: str) -> AsyncIterator[Replica]:
    async with connected(url) as connection:
        yield Replica(connection)


async def shown(connection: Any, conversation: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT content FROM messages WHERE conversation_id = $1 AND replaces IS NULL "
        "ORDER BY position",
        conversation,
    )
    return [row["content"] for row in rows]


@pytest.mark.case(63)
async def test_both_versions_go_on_in_each_other_s_conversations(
    url: str, replica: Replica
) -> None:
    conversation = await replica.conversation()
    await replica.say(conversation, "One", "Uno")
    await replica.say(conversation, "Two", "Dos")
    two = await replica.say(conversation, None, "Zwei")
    await migrate(url)
    empty = "SELECT count(*) FROM messages WHERE parent_id IS NULL OR version IS NULL"
    assert await replica.connection.fetchval(empty) == 0
    async with opened(url) as pool:
        world = World(pool)
        world.user = replica.user
        trees = Trees(pool, lambda work, name: asyncio.create_task(work, name=name))
        three = await replica.say(conversation, "Three", "Tres")
        lease = await world.regeneration(conversation)
        assert await world.end(lease, "Drei") is Outcome.SAVED
        # The version before deletes the answer that it replaces, and knows nothing of the other.
        await replica.say(conversation, None, "Trois")
        edited = await world.lease(conversation, world.draft("Three!", at=two))
        await world.end(edited, "Tres!")
        await replica.say(conversation, "Four", "Cuatro")
        path = ["One", "Uno", "Two", "Zwei"]
        assert await shown(replica.connection, conversation) == [
            *path,
            *("Three!", "Tres!", "Four", "Cuatro"),
        ]
        question = await world.value("SELECT id::text FROM messages WHERE content = 'Three'")
        await trees.show_path(replica.user, conversation, question)
        assert await shown(replica.connection, conversation) == [*path, "Three", "Trois"]
        await trees.show_path(replica.user, conversation, three)
        assert await shown(replica.connection, conversation) == [*path, "Three", "Tres"]
        assert await world.rows(FAULTS, conversation) == []


@pytest.mark.case(63)
async def test_it_cannot_end_an_earlier_answer_s_regeneration(url: str, replica: Replica) -> None:
    """It would delete an answer that others follow: it fails, and the next replica ends it."""
    await migrate(url)
    async with opened(url) as pool:
        world = World(pool)
        conversation = await world.conversation()
        first = await world.answered(conversation, "Uno")
        await world.answered(conversation, "Dos")
        lease = await world.regeneration(conversation, first.message_id)
        replaces = await world.value(
            "SELECT replaces::text FROM messages WHERE id = $1", lease.message_id
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            await replica.end(lease.message_id, replaces, "Eins")
        assert await shown(replica.connection, conversation) == ["Why?", "Uno", "Why?", "Dos"]
        assert await world.end(lease, "Eins") is Outcome.SAVED
        assert await shown(replica.connection, conversation) == ["Why?", "Eins"]
        assert await world.rows(FAULTS, conversation) == []


@pytest.mark.case(63)
async def test_a_locked_conversation_is_left_by_the_migration_and_filled_later(
    url: str, replica: Replica
) -> None:
    await migrate(url)
    conversation, other = await replica.conversation(), await replica.conversation()
    for one in (conversation, other):
        await replica.say(one, "One", "Uno")
    filled = "SELECT count(*) FROM messages WHERE conversation_id = $1 AND version = 1"
    async with connected(url) as locking:
        await locking.execute(migration.FILL)
        async with locking.transaction():
            await locking.execute(
                "SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", conversation
            )
            async with asyncio.timeout(10):
                await replica.connection.fetch("SELECT samosachaat_fill_tree(NULL, 10)")
            assert await replica.connection.fetchval(filled, conversation) == 0
            assert await replica.connection.fetchval(filled, other) == 2
    async with opened(url) as pool:
        world = World(pool)
        world.user = replica.user
        found = await queries.open_conversation(
            pool, replica.user, conversation, limit=9, before=None
        )
        assert found is not None
        assert found.messages.count('"version" : 1, "versions" : 1') == 2
        await world.end(await world.regeneration(conversation), "Eins")
        assert await world.rows(FAULTS, conversation) == []


@pytest.mark.case(63)
async def test_going_back_deletes_what_is_not_shown(url: str, replica: Replica) -> None:
    await migrate(url)
    async with opened(url) as pool:
        world = World(pool)
        conversation = await world.conversation()
        await world.answered(conversation, "Uno")
        await world.end(await world.regeneration(conversation), "Eins")
    await migrate(url, "0003")
    assert await shown(replica.connection, conversation) == ["Why?", "Eins"]
    assert await replica.connection.fetchval("SELECT count(*) FROM messages") == 2
    await migrate(url)
    assert await replica.connection.fetch(FAULTS, conversation) == []
