"""What users read and change: owners, titles, pages, and the plans behind them."""

import asyncio
import importlib
import inspect
import json
import pkgutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.support.waiting import eventually
from tests.unit.world import World, connected, key, opened
from uuid_utils.compat import uuid7

from chat_api import db
from chat_api.db import event_log as db_event_log
from chat_api.db import exports, generations, named, queries, responses, resuming, sends, tree
from chat_api.db import leases as db_leases
from chat_api.db.database import Connection, Database
from chat_api.db.event_log import LogRow
from chat_api.db.queries import ConversationSettings
from chat_api.db.quotas import UNLIMITED
from chat_api.db.sends import Busy

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def everything(pool: Database, conversation_id: str) -> list[str]:
    """All that the database holds of a conversation."""
    rows = await pool.fetch(
        """
        SELECT to_json(c)::text AS row FROM conversations c WHERE id = $1
        UNION ALL SELECT to_json(m)::text FROM messages m WHERE conversation_id = $1
        UNION ALL SELECT to_json(g)::text FROM generations g WHERE conversation_id = $1
        UNION ALL SELECT to_json(k)::text FROM idempotency_keys k WHERE conversation_id = $1
        """,
        conversation_id,
    )
    return sorted(row["row"] for row in rows)


async def deleted(pool: Database, user_id: str, conversation_id: str) -> list[str] | None:
    async with pool.transaction() as connection:
        return await queries.delete_conversation(connection, user_id, conversation_id)


async def copied(pool: Database, user_id: str, conversation_id: str) -> str | None:
    async with pool.transaction() as connection:
        return await queries.copy_conversation(
            connection, user_id, conversation_id, str(uuid7()), ConversationSettings()
        )


async def resumed(world: World, user_id: str, conversation_id: str, message_id: str) -> object:
    """What resuming the answer returns to a user, who knows of it all that its own user knows."""
    mine = await world.value("SELECT conversation_id::text FROM messages WHERE id = $1", message_id)
    last = await resuming.read_last(world.pool, world.user, mine)
    assert last is not None
    async with world.pool.transaction() as connection:
        return await resuming.resume(
            connection,
            user_id,
            conversation_id,
            last,
            world.draft(None),
            process=world.process,
            lease_seconds=60,
            quotas=UNLIMITED,
        )


async def locked(pool: Database, user_id: str, conversation_id: str) -> bool:
    async with pool.transaction() as connection:
        return await tree.lock(connection, user_id, conversation_id)


# --- owners ---------------------------------------------------------------------------------------

Ask = Callable[[World, str, str, str], Awaitable[object]]
# Every function that takes a user and an id: asked by `user` about a conversation and a message.
ASKED: dict[str, tuple[Ask, object]] = {
    "read_conversation": (lambda w, u, c, m: queries.read_conversation(w.pool, u, c), None),
    "open_conversation": (
        lambda w, u, c, m: queries.open_conversation(w.pool, u, c, limit=2000, before=None),
        None,
    ),
    "open_conversation before": (
        lambda w, u, c, m: queries.open_conversation(w.pool, u, c, limit=5, before=m),
        None,
    ),
    "read_message": (lambda w, u, c, m: queries.read_message(w.pool, u, c, m), None),
    "read_last_answer": (lambda w, u, c, m: queries.read_last_answer(w.pool, u, c), None),
    "read_versions": (
        lambda w, u, c, m: queries.read_versions(w.pool, u, c, m, limit=5, before=None),
        None,
    ),
    "copy_conversation": (lambda w, u, c, m: copied(w.pool, u, c), None),
    "read_last": (lambda w, u, c, m: resuming.read_last(w.pool, u, c), None),
    "resume": (lambda w, u, c, m: resumed(w, u, c, m), None),
    "lock": (lambda w, u, c, m: locked(w.pool, u, c), False),
    "update_conversation": (
        lambda w, u, c, m: queries.update_conversation(
            w.pool, u, c, ConversationSettings("mine", "mine", is_favorited=True)
        ),
        None,
    ),
    "delete_conversation": (lambda w, u, c, m: deleted(w.pool, u, c), None),
    "begin": (lambda w, u, c, m: w.begin(c, user=u), None),
    "begin_in_steps": (lambda w, u, c, m: begun_in_steps(w, u, c), None),
    "begin regeneration": (lambda w, u, c, m: w.begin(c, w.draft(None), user=u), None),
    "begin with a key": (lambda w, u, c, m: w.begin(c, w.draft(key=key("k")), user=u), None),
    "find_joinable": (lambda w, u, c, m: generations.find_joinable(w.pool, u, c, None), None),
    "find_joinable by cursor": (
        lambda w, u, c, m: generations.find_joinable(w.pool, u, c, m[-12:]),
        None,
    ),
    "find_conversation": (lambda w, u, c, m: named.find_conversation(w.pool, u, [c]), None),
    "find_shown": (lambda w, u, c, m: named.find_shown(w.pool, u, c, m), None),
    "find_run": (lambda w, u, c, m: named.find_run(w.pool, u, m, 1), None),
    "read": (lambda w, u, c, m: responses.read(w.pool, u, m), None),
    "read_inputs": (lambda w, u, c, m: responses.read_inputs(w.pool, u, m, 5), []),
    "find_conversations": (lambda w, u, c, m: responses.find_conversations(w.pool, u, [m]), {}),
    "read_items": (
        lambda w, u, c, m: responses.read_items(
            w.pool, u, c, after=None, limit=5, newest_first=False
        ),
        [],
    ),
    "read_conversations": (lambda w, u, c, m: exports.read_conversations(w.pool, u, [c]), []),
    "read_messages": (
        lambda w, u, c, m: exports.read_messages(w.pool, u, c, None),
        exports.MessagePage([], None, None),
    ),
}
ASKED_BY_MESSAGE = {"find_run", "read", "read_inputs", "find_conversations"}


async def begun_in_steps(world: World, user: str, conversation: str) -> object:
    async with world.pool.transaction() as connection:
        return await sends.begin_in_steps(
            connection,
            user,
            conversation,
            world.draft(),
            process=world.process,
            lease_seconds=60,
        )


@pytest.mark.case(6)
@pytest.mark.parametrize("name", list(ASKED))
async def test_a_stranger_finds_nothing_and_changes_nothing(name: str, world: World) -> None:
    conversation = await world.conversation("Mine")
    lease = await world.lease(conversation)
    await world.end(lease, finish_reason="length")  # so that it can be resumed
    before = await everything(world.pool, conversation)
    ask, nothing = ASKED[name]
    assert await ask(world, world.stranger, conversation, lease.message_id) == nothing
    assert await everything(world.pool, conversation) == before
    # What is not there at all gives the same.
    unknown = str(uuid4()) if name in ASKED_BY_MESSAGE else lease.message_id
    assert await ask(world, world.user, str(uuid4()), unknown) == nothing
    # The owner finds it.
    assert await ask(world, world.user, conversation, lease.message_id) != nothing


@pytest.mark.case(81)
# What is resumed was found by `read_last` before.
@pytest.mark.parametrize("name", sorted(ASKED.keys() - {"resume"}))
async def test_an_expired_conversation_is_told_from_a_missing_one_by_nothing(
    name: str, world: World
) -> None:
    conversation = await world.conversation("Mine")
    lease = await world.lease(conversation)
    await world.end(lease, finish_reason="length")
    await world.pool.fetch(
        "UPDATE conversations SET expires_at = now() WHERE id = $1", conversation
    )
    before = await everything(world.pool, conversation)
    ask, nothing = ASKED[name]
    assert await ask(world, world.user, conversation, lease.message_id) == nothing
    assert await everything(world.pool, conversation) == before


@pytest.mark.case(6)
async def test_a_stranger_finds_no_successor(world: World) -> None:
    conversation = await world.conversation()
    lease = await world.answered(conversation)
    newer = await world.regeneration(conversation)
    await world.end(newer)

    async def asked(user: str) -> str | None:
        found = await named.find_successor(world.pool, user, conversation, lease.message_id)
        return None if found is None else found.id

    assert await asked(world.stranger) is None
    assert await asked(world.user) == newer.message_id
    await world.pool.fetch(
        "UPDATE conversations SET expires_at = now() WHERE id = $1", conversation
    )
    assert await asked(world.user) is None


@pytest.mark.case(6)
def test_every_function_that_takes_a_user_is_asked() -> None:
    modules = [f"{db.__name__}.{module.name}" for module in pkgutil.iter_modules(db.__path__)]
    takes_a_user = {
        name
        for module in map(importlib.import_module, modules)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and "user_id" in getattr(function, "__annotations__", {})
    }
    assert takes_a_user == {
        *(name.split()[0] for name in ASKED),
        "find_successor",
        # About the user alone.
        *("create_conversation", "list_conversations", "search_conversations"),
        *("list_tags", "find_created"),
        *("last_number", "check_quotas", "find_repeat", "find_repeated", "find_all"),
        *("check_day", "read_day", "erase_some", "erase_rest"),
        # Of administrators, about any user.
        *("read_users", "write", "remove", "record"),
        # Of the operator, who moves any user.
        *("as_mover", "copy", "count_running", "digests", "erase", "erase_moved", "freeze"),
        *("has_rows", "lock_move", "read_frozen", "stop_running", "thaw"),
        # Under ids that the user chooses or that the caller has just made.
        *("insert", "keep"),
        # Under the lock of the user's conversation, which their callers take.
        *("count_message", "keep_key"),
    }


async def test_a_message_is_found_in_its_own_conversation_only(world: World) -> None:
    one, other = await world.conversation(), await world.conversation()
    lease = await world.answered(one)
    assert await queries.read_message(world.pool, world.user, one, lease.message_id)
    assert await queries.read_message(world.pool, world.user, other, lease.message_id) is None
    assert (
        await queries.open_conversation(
            world.pool, world.user, other, limit=5, before=lease.message_id
        )
        is None
    )


async def test_a_list_is_one_user_s(world: World) -> None:
    mine = await world.conversation()
    await world.conversation(user=world.stranger)
    listed = await queries.list_conversations(world.pool, world.user, limit=10)
    assert [item.id for item in listed] == [mine]


@pytest.mark.case(8)
@pytest.mark.parametrize("user", ["", "' OR '1'='1", "%", "x" * 255, "😀\n"])
async def test_a_user_s_name_is_data(user: str, world: World) -> None:
    user += str(uuid4())
    conversation = await world.conversation(user=user)
    listed = await queries.list_conversations(world.pool, user, limit=10)
    assert [item.id for item in listed] == [conversation]
    assert json.loads(listed[0].json)["user_id"] == user


# --- titles and changes ---------------------------------------------------------------------------


async def title(world: World, conversation: str) -> str:
    text = await queries.read_conversation(world.pool, world.user, conversation)
    assert text is not None
    return str(json.loads(text)["title"])


async def test_the_first_message_gives_the_title(world: World) -> None:
    conversation = await world.conversation()
    assert await title(world, conversation) == "New conversation"
    await world.end(await world.lease(conversation, world.draft(title="First")))
    assert await title(world, conversation) == "First"
    await world.end(await world.lease(conversation, world.draft(title="Second")))
    assert await title(world, conversation) == "First"


async def test_a_regeneration_gives_no_title(world: World) -> None:
    conversation = await world.conversation()
    await world.end(await world.lease(conversation, world.draft(title="First")))
    await queries.update_conversation(
        world.pool, world.user, conversation, ConversationSettings(is_favorited=True)
    )
    await world.regeneration(conversation)
    assert await title(world, conversation) == "First"


@pytest.mark.parametrize("when", ["created", "renamed"])
async def test_a_title_of_the_user_s_own_stays(when: str, world: World) -> None:
    conversation = await world.conversation("Own" if when == "created" else None)
    if when == "renamed":
        await queries.update_conversation(
            world.pool, world.user, conversation, ConversationSettings(title="Own")
        )
    await world.lease(conversation, world.draft(title="First"))
    assert await title(world, conversation) == "Own"


async def test_a_title_that_reads_like_the_default_is_the_user_s_own(world: World) -> None:
    conversation = await world.conversation("New conversation")
    await world.lease(conversation, world.draft(title="First"))
    assert await title(world, conversation) == "New conversation"


async def test_only_what_is_given_changes(world: World) -> None:
    conversation = await world.conversation("Title")

    async def changed(**changes: Any) -> dict[str, Any]:
        text = await queries.update_conversation(
            world.pool, world.user, conversation, ConversationSettings(**changes)
        )
        assert text is not None
        document: dict[str, Any] = json.loads(text)
        assert text == await queries.read_conversation(world.pool, world.user, conversation)
        return document

    before = await changed()
    assert await changed(title="Other") == before | {"title": "Other"}
    assert await changed(model_tag="m") == before | {"title": "Other", "model_tag": "m"}
    assert (await changed(is_favorited=True))["is_favorited"] is True
    after = await changed(is_favorited=False)
    assert after["is_favorited"] is False
    assert after["updated_at"] == before["updated_at"]


async def test_every_message_moves_its_conversation_to_the_top(world: World) -> None:
    conversations = [await world.conversation() for _ in range(3)]
    for conversation in (conversations[0], conversations[1], conversations[0]):
        await world.answered(conversation)
        listed = await queries.list_conversations(world.pool, world.user, limit=1)
        assert listed[0].id == conversation


async def test_updated_at_never_goes_back(world: World) -> None:
    """Even where the clock of the database does."""
    conversation = await world.conversation()
    await world.pool.fetch(
        "UPDATE conversations SET updated_at = '2099-01-01' WHERE id = $1", conversation
    )
    await world.lease(conversation)
    assert await world.value(
        "SELECT updated_at > '2099-01-01' FROM conversations WHERE id = $1", conversation
    )


# --- pages ----------------------------------------------------------------------------------------


async def test_pages_of_equal_times_skip_and_repeat_nothing(world: World) -> None:
    made = {await world.conversation() for _ in range(11)}
    await world.pool.fetch(
        "UPDATE conversations SET updated_at = $2 WHERE user_id = $1", world.user, NOON
    )
    found: list[str] = []
    after: tuple[datetime, str] | None = None
    while page := await queries.list_conversations(world.pool, world.user, limit=3, after=after):
        found += [item.id for item in page]
        after = (page[-1].updated_at, page[-1].id)
    assert len(found) == len(set(found)) == 11
    assert set(found) == made
    assert found == sorted(found, reverse=True)


async def test_a_cursor_stays_true_while_conversations_move(world: World) -> None:
    made = [await world.conversation() for _ in range(6)]
    for index, conversation in enumerate(made):
        await world.pool.fetch(
            "UPDATE conversations SET updated_at = $2 WHERE id = $1",
            conversation,
            NOON + timedelta(microseconds=index),
        )
    first = await queries.list_conversations(world.pool, world.user, limit=2)
    assert [item.id for item in first] == [made[5], made[4]]
    await world.lease(made[0])  # moves to the top, behind the cursor
    await deleted(world.pool, world.user, made[3])
    rest = await queries.list_conversations(
        world.pool, world.user, limit=10, after=(first[-1].updated_at, first[-1].id)
    )
    assert [item.id for item in rest] == [made[2], made[1]]


async def test_an_offset_skips(world: World) -> None:
    made = [await world.conversation() for _ in range(5)]
    listed = await queries.list_conversations(world.pool, world.user, limit=2, offset=1)
    assert [item.id for item in listed] == [made[3], made[2]]
    assert await queries.list_conversations(world.pool, world.user, limit=2, offset=10**9) == []


def messages_of(found: queries.OpenConversation | None) -> list[dict[str, Any]]:
    """The messages of a page that are not being written."""
    assert found is not None
    messages: list[dict[str, Any]] = json.loads(f"[{found.messages}]")
    return messages


async def test_messages_page_backwards_oldest_first(world: World) -> None:
    conversation = await world.conversation()
    for number in range(4):
        await world.end(await world.lease(conversation, world.draft(f"Q{number}")), f"A{number}")

    async def page(limit: int, before: str | None) -> queries.OpenConversation | None:
        return await queries.open_conversation(
            world.pool, world.user, conversation, limit=limit, before=before
        )

    whole = await page(2000, None)
    everything = messages_of(whole)
    assert [message["content"] for message in everything] == [
        f"{kind}{number}" for number in range(4) for kind in "QA"
    ]
    assert whole is not None
    assert whole.next_before is None
    found: list[Any] = []
    before: str | None = None
    sizes = []
    while True:
        part = await page(3, before)
        assert part is not None
        found = messages_of(part) + found
        sizes.append(len(messages_of(part)))
        if part.next_before is None:
            break
        before = part.next_before
        assert before == messages_of(part)[0]["id"]
    assert found == everything
    assert sizes == [3, 3, 2]
    assert messages_of(await page(3, everything[0]["id"])) == []
    for limit, next_before in ((8, None), (7, everything[1]["id"]), (1, everything[7]["id"])):
        part = await page(limit, None)
        assert part is not None
        assert part.next_before == next_before


async def test_a_regeneration_is_hidden_until_it_is_complete(world: World) -> None:
    conversation = await world.conversation()
    old = await world.answered(conversation, "old")
    new = await world.regeneration(conversation)

    async def shown() -> list[str]:
        found = await queries.open_conversation(
            world.pool, world.user, conversation, limit=2000, before=None
        )
        return [message["id"] for message in messages_of(found)]

    async def last() -> str:
        text = await queries.read_last_answer(world.pool, world.user, conversation)
        assert text is not None
        return str(json.loads(text)["id"])

    assert await shown() == [old.question_id, old.message_id]
    assert await last() == old.message_id
    assert (
        await queries.open_conversation(
            world.pool, world.user, conversation, limit=2000, before=new.message_id
        )
        is None
    )
    await world.end(new, "new")
    assert await shown() == [old.question_id, new.message_id]
    assert await last() == new.message_id
    # The old one stays as a version that is not shown.
    assert await queries.read_message(world.pool, world.user, conversation, old.message_id)
    assert not await generations.message_stands(world.pool, old.message_id)


async def test_a_running_answer_stands_by_itself(world: World) -> None:
    conversation = await world.conversation()
    lease = await world.lease(conversation)
    found = await queries.open_conversation(
        world.pool, world.user, conversation, limit=2000, before=None
    )
    assert [message["id"] for message in messages_of(found)] == [lease.question_id]
    assert found is not None
    assert found.running is not None
    assert found.running.id == json.loads(found.running.json)["id"] == lease.message_id


# --- deleting -------------------------------------------------------------------------------------


async def test_deleting_takes_everything_along_and_names_what_runs(world: World) -> None:
    conversation = await world.conversation()
    old = await world.answered(conversation)
    await world.end(await world.lease(conversation, world.draft(key=key(str(uuid4())))))
    running = await world.lease(conversation)
    for lease in (old, running):
        await world.pool.fetch("INSERT INTO event_log VALUES ($1, 1, 0, 0, '{}')", lease.message_id)
    assert await deleted(world.pool, world.user, conversation) == [running.message_id]
    assert await everything(world.pool, conversation) == []
    for table in ("event_log", "subscriptions"):
        assert (
            await world.value(
                f"SELECT count(*) FROM {table} WHERE message_id = ANY ($1)",  # noqa: S608  # ours
                [old.message_id, running.message_id],
            )
            == 0
        )
    assert await deleted(world.pool, world.user, conversation) is None


async def test_deleting_and_sweeping_at_once_do_not_lock_each_other(world: World) -> None:
    """The sweep takes an answer and then its log; a deletion must not take them the other way."""
    conversation = await world.conversation()
    answer = await world.answered(conversation)
    await world.pool.fetch("INSERT INTO event_log VALUES ($1, 1, 0, 0, '{}')", answer.message_id)
    async with world.pool.transaction() as sweeping:
        await sweeping.execute(
            "UPDATE generations SET logged = false WHERE message_id = $1", answer.message_id
        )
        deleting = asyncio.create_task(deleted(world.pool, world.user, conversation))
        await eventually(
            lambda: world.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock'"
            )
        )
        await sweeping.execute("DELETE FROM event_log WHERE message_id = $1", answer.message_id)
    assert await deleting == []
    assert await everything(world.pool, conversation) == []


# --- plans ----------------------------------------------------------------------------------------


class Explained(Database):
    """Runs each statement, and notes how PostgreSQL means to find its rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        plan = await self._connection.fetch(f"EXPLAIN {statement}", *arguments)
        self.plans.append("\n".join(row[0] for row in plan))
        return list(await self._connection.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        return next(iter(await self.fetch(statement, *arguments)), None)

    def last(self) -> str:
        plan, self.plans = "\n".join(self.plans), []
        return plan


@pytest.fixture(scope="module")
def filled_url(databases: Any) -> str:
    return str(databases.migrated())


async def fill(connection: Connection, user: str) -> tuple[str, str]:
    """Thousands of rows of many users; a conversation with its last answer."""
    await connection.execute("SET synchronous_commit = off")
    if not await connection.fetchval("SELECT 1 FROM conversations LIMIT 1"):
        await connection.execute(
            """
            INSERT INTO conversations (id, user_id, title, title_given, model_tag, updated_at)
            SELECT gen_random_uuid(),
                CASE n % 2 WHEN 0 THEN 'user-7' ELSE 'user-' || n % 50 END, 't', true, 'm',
                now() - n * interval '1 second'
            FROM generate_series(1, 6000) AS n;
            INSERT INTO messages
                (id, conversation_id, position, role, content, status, model_tag)
            SELECT gen_random_uuid(), c.id, p,
                CASE p % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, 'text', 'complete', 'm'
            FROM conversations c, generate_series(0, 3) AS p;
            INSERT INTO generations (message_id, conversation_id, question_id, options, trace_id,
                owner, lease_until, ended_at)
            SELECT m.id, m.conversation_id, m.id, '{}', '', '00000000-0000-0000-0000-000000000000',
                now() - interval '1 hour',
                CASE WHEN row_number() OVER () % 50 = 0 THEN NULL ELSE now() END
            FROM messages m WHERE m.position = 3;
            INSERT INTO event_log (message_id, attempt, first_event, last_event, events)
            SELECT g.message_id, 1, n * 5, n * 5 + 4, '{}'
            FROM generations g, generate_series(0, 4) AS n;
            INSERT INTO subscriptions
            SELECT message_id, owner, now() FROM generations;
            ANALYZE;
            """
        )
    row = await connection.fetchrow(
        "SELECT c.id::text, m.id::text FROM conversations c JOIN messages m "
        "ON m.conversation_id = c.id WHERE c.user_id = $1 AND m.position = 3 LIMIT 1",
        user,
    )
    assert row is not None
    return row[0], row[1]


async def test_what_is_asked_often_is_found_by_an_index(filled_url: str) -> None:
    user = "user-7"
    async with connected(filled_url) as connection:
        conversation, message = await fill(connection, user)
        db = Explained(connection)

        await queries.list_conversations(db, user, limit=50)
        first = db.last()
        assert "conversations_by_activity" in first
        assert "Sort" not in first
        await queries.list_conversations(
            db, user, limit=50, after=(datetime.now(UTC) - timedelta(minutes=30), conversation)
        )
        further = db.last()
        assert "conversations_by_activity" in further
        assert "Sort" not in further
        assert "Index Cond: ((user_id = " in further
        assert "ROW(updated_at, id) <" in further.split("Index Cond")[1].split("\n")[0]

        await queries.open_conversation(db, user, conversation, limit=20, before=message)
        assert "messages_in_order" in db.last()
        await queries.read_last_answer(db, user, conversation)
        assert "messages_in_order" in db.last()

        process = str(uuid4())
        leases = [(message, 1)]
        asked: dict[str, Awaitable[object]] = {
            "read_conversation": queries.read_conversation(db, user, conversation),
            "read_message": queries.read_message(db, user, conversation, message),
            "update_conversation": queries.update_conversation(
                db, user, conversation, ConversationSettings(title="t")
            ),
            "append": db_event_log.append(db, process, [LogRow(message, 1, 0, 1, "{}")]),
            "find_ends": db_event_log.find_ends(db, leases),
            "renew": db_leases.renew(db, process, leases, [message], 8),
            "read_pages": db_event_log.read_pages(db, [(message, 1, 3)]),
            "find_joinable": generations.find_joinable(db, user, conversation, message[-12:]),
            "read_generation": generations.read_generation(db, message),
            "read": db_event_log.read(db, message),
            "release": db_leases.release(db, leases, process),
            "unsubscribe": db_leases.unsubscribe(db, process, [message]),
            "message_stands": generations.message_stands(db, message),
            "take": db_leases.take(db, message, process, 8),
            "claim_abandoned": db_leases.claim_abandoned(
                db, process, 8, limit=20, only_released=False
            ),
        }
        for name, asking in asked.items():
            await asking
            plan = db.last()
            assert "Index" in plan, f"{name}:\n{plan}"
            assert "Seq Scan" not in plan, f"{name}:\n{plan}"


async def _whole_reads(url: str) -> dict[str, int]:
    """Return how often each table was read in full."""
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT relname::text, seq_scan FROM pg_stat_user_tables")
        return dict(rows)


async def test_beginning_and_ending_read_no_whole_table(filled_url: str) -> None:
    async with opened(filled_url, size=1) as pool:
        async with pool.connection() as connection:
            conversation, _ = await fill(connection, "user-9")
            await connection.execute("VACUUM ANALYZE")
            # An index that is missing would be hidden by another one that is read in full.
            await connection.execute("SET enable_seqscan = on")
            await connection.fetch("SELECT pg_stat_force_next_flush()")
        world = World(pool)
        world.user = "user-9"
        before = await _whole_reads(filled_url)
        await pool.fetch(
            "UPDATE generations SET ended_at = now() WHERE conversation_id = $1", conversation
        )
        lease = await world.lease(conversation, world.draft(key=key("k")))
        assert isinstance(await world.begin(conversation), Busy)
        await world.end(lease)
        await world.end(await world.regeneration(conversation))
        async with pool.connection() as connection:
            await generations.read_history(
                connection, conversation, lease.question_id, limit=50, chars=8000
            )
            await connection.fetch("SELECT pg_stat_force_next_flush()")
        after = await _whole_reads(filled_url)
    for table in ("conversations", "messages", "generations"):
        assert after[table] == before[table], f"{table} was read in full"


async def test_plans_made_while_tables_are_small_read_no_whole_table(
    fresh_database_url: str,
) -> None:
    async with opened(fresh_database_url, size=1) as pool:
        world = World(pool)
        await world.answered(await world.conversation())
        async with pool.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
            await connection.fetch("SELECT pg_stat_force_next_flush()")
        before = await _whole_reads(fresh_database_url)
        conversation = await world.conversation()
        for _ in range(8):  # after five of its own values, a statement's plan is kept
            await world.answered(conversation)
        async with pool.connection() as connection:
            await connection.fetch("SELECT pg_stat_force_next_flush()")
        assert await _whole_reads(fresh_database_url) == before


def test_ids_are_in_the_order_of_time() -> None:
    made = [str(uuid7()) for _ in range(1000)]
    assert made == sorted(made)
