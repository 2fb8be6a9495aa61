"""Changes of a conversation's tree without a generation: switch, delete, append, fork."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from uuid_utils import uuid7

from chat_api.conversations.titles import title_of
from chat_api.db import creations, queries, tree
from chat_api.db.creations import Creation
from chat_api.db.database import Connection, Database, Record
from chat_api.db.queries import ConversationSettings
from chat_api.db.tree import Addition, Node
from chat_api.errors import ConversationBusy, NotFound

Own = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]


@dataclass(frozen=True, slots=True)
class Fork:
    """The message that a new conversation begins with a copy of the path to."""

    conversation_id: str
    message_id: str


class Trees:
    """Changes trees, each in one transaction in a task that no request can cancel."""

    def __init__(self, db: Database, own: Own) -> None:
        """`own` starts a task that is kept until its end."""
        self._db = db
        self._own = own

    async def show_path(self, user_id: str, conversation_id: str, message_id: str) -> None:
        """Show the path through a message, down to its newest leaf.

        Raise NotFound, or ConversationBusy while an answer is written.
        """
        await self._run(self._show_path(user_id, conversation_id, message_id), "show-path")

    async def delete_message(self, user_id: str, conversation_id: str, message_id: str) -> None:
        """Delete a message and all below it; a version beside it is shown in its place.

        Raise NotFound, or ConversationBusy while an answer is written below it, or in its place.
        """
        await self._run(self._delete(user_id, conversation_id, message_id), "delete-message")

    async def append(
        self,
        user_id: str,
        conversation_id: str,
        messages: Sequence[Addition],
        *,
        is_repeat: bool = False,
    ) -> list[str]:
        """Add messages that no generation writes after the last one shown; return the ids of all.

        Clients add the answers that they were given: messages that repeat the end of the shown
        path, up to the answer of a response, are not added again. Nor are those of a request that
        says that it is sent again, where the path ends with all of them.
        Raise NotFound, or ConversationBusy while an answer is written.
        """
        work = self._append(user_id, conversation_id, messages, is_repeat=is_repeat)
        ids: list[str] = await self._run(work, "append")
        return ids

    async def create(
        self,
        user_id: str,
        settings: ConversationSettings,
        messages: Sequence[Addition],
        creation: Creation | None,
    ) -> str:
        """Make a conversation that begins with these messages, and return it as JSON.

        Where `creation` repeats a request, return what that one made. Raise IdempotencyKeyReused.
        """
        created: str = await self._run(
            self._create(user_id, settings, messages, creation), "create"
        )
        return created

    async def fork(self, user_id: str, fork: Fork, settings: ConversationSettings) -> str:
        """Copy the path to a message into a new conversation, and return that as JSON.

        What `settings` leave open is taken from the old one, but for its metadata. Raise NotFound,
        or ConversationBusy where an answer on the path is being written.
        """
        created: str = await self._run(self._fork(user_id, fork, settings), "fork")
        return created

    async def _run(self, work: Coroutine[Any, Any, Any], name: str) -> Any:
        return await asyncio.shield(self._own(work, name))

    async def _show_path(self, user_id: str, conversation_id: str, message_id: str) -> None:
        async with self._db.transaction() as connection:
            node = await _locked(connection, user_id, conversation_id, message_id)
            running = await tree.find_running(connection, conversation_id)
            if running is not None:
                raise ConversationBusy(running.id)
            await tree.fill(connection, conversation_id)
            await tree.show_through(connection, conversation_id, node.id)
            await tree.tell(connection, conversation_id)

    async def _delete(self, user_id: str, conversation_id: str, message_id: str) -> None:
        async with self._db.transaction() as connection:
            node = await _locked(connection, user_id, conversation_id, message_id)
            running = await tree.find_running(connection, conversation_id)
            if running is not None and disturbs(node, running):
                raise ConversationBusy(running.id)
            await tree.fill(connection, conversation_id)
            await tree.delete(connection, conversation_id, node)
            await tree.tell(connection, conversation_id)

    async def _append(
        self,
        user_id: str,
        conversation_id: str,
        messages: Sequence[Addition],
        *,
        is_repeat: bool,
    ) -> list[str]:
        async with self._db.transaction() as connection:
            if not await tree.lock(connection, user_id, conversation_id):
                raise NotFound
            running = await tree.find_running(connection, conversation_id)
            if running is not None:
                raise ConversationBusy(running.id)
            await tree.fill(connection, conversation_id)
            tail = await tree.read_tail(connection, conversation_id, len(messages))
            known = _repeated(tail, messages, is_repeat=is_repeat)
            new = messages[len(known) :]
            if new:
                last = await tree.find_last(connection, conversation_id)
                parent, position = (
                    (conversation_id, 0) if last is None else (last.id, last.position + 1)
                )
                version = await tree.next_version(connection, conversation_id, parent, position)
                await tree.append(connection, conversation_id, parent, position, version, new)
                title = title_of(new[0].content) if last is None else None
                await tree.touch(connection, conversation_id, title)
        return [*known, *(message.id for message in new)]

    async def _create(
        self,
        user_id: str,
        settings: ConversationSettings,
        messages: Sequence[Addition],
        creation: Creation | None,
    ) -> str:
        async with self._db.transaction() as connection:
            if creation is not None:
                found = await creations.find_created(connection, user_id, creation)
                if found is not None:
                    return found
            conversation_id = str(uuid7())
            created = await queries.create_conversation(
                connection, user_id, conversation_id, settings
            )
            if messages:
                await tree.append(connection, conversation_id, conversation_id, 0, 1, messages)
                await tree.touch(connection, conversation_id, title_of(messages[0].content))
            if creation is not None:
                await creations.keep(connection, user_id, conversation_id, creation)
        return created

    async def _fork(self, user_id: str, fork: Fork, settings: ConversationSettings) -> str:
        async with self._db.transaction() as connection:
            node = await _locked(connection, user_id, fork.conversation_id, fork.message_id)
            if node.is_under_way:
                raise ConversationBusy(node.id)
            path = await tree.read_path(connection, fork.conversation_id, node.id)
            for message in path:
                if message["is_running"]:
                    raise ConversationBusy(message["id"])
            conversation_id = str(uuid7())
            created = await queries.copy_conversation(
                connection, user_id, fork.conversation_id, conversation_id, settings
            )
            assert created is not None  # noqa: S101  # it is locked
            await tree.copy_messages(
                connection,
                conversation_id,
                [message["id"] for message in path],
                [str(uuid7()) for _ in path],
            )
        return created


def _repeated(
    tail: Sequence[Record], messages: Sequence[Addition], *, is_repeat: bool
) -> list[str]:
    """Return the ids of the shown messages that `messages` begins with."""
    shown = [(row["role"], row["content"]) for row in tail]
    given = [(message.role, message.content) for message in messages]
    if is_repeat and shown == given:
        return [row["id"] for row in tail]
    if not tail or not tail[-1]["is_response"]:
        return []
    for count in range(len(shown), 0, -1):
        if shown[-count:] == given[:count]:
            return [row["id"] for row in tail[-count:]]
    return []


def disturbs(node: Node, running: Node) -> bool:
    """Return whether deleting a message would take away what a running generation needs.

    A generation runs at the end of the shown path, or beside the answer on it that it regenerates:
    it needs what is shown up to there.
    """
    return node.id == running.id or (node.is_shown and node.position <= running.position)


async def _locked(
    connection: Connection, user_id: str, conversation_id: str, message_id: str
) -> Node:
    """Lock the user's conversation, and return the message's place in it. Raise NotFound."""
    if not await tree.lock(connection, user_id, conversation_id):
        raise NotFound
    node = await tree.find(connection, conversation_id, message_id)
    if node is None:
        raise NotFound
    return node
