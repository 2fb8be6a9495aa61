"""The tree of messages in the database: what is shown, and what changes that."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.support.trees import FAULTS
from tests.unit.world import World, opened

from chat_api.conversations.search import Search
from chat_api.conversations.tree import Fork, Trees
from chat_api.db import generations, leases, queries, titles, tree
from chat_api.db.generations import Lease, Outcome
from chat_api.db.queries import ConversationSettings
from chat_api.db.sends import Busy
from chat_api.errors import ConversationBusy, NotFound, NothingToAnswer


def trees(world: World) -> Trees:
    return Trees(world.pool, lambda work, name: asyncio.create_task(work, name=name))


async def faults(world: World, conversation: str) -> list[dict[str, Any]]:
    return await world.rows(FAULTS, conversation)


async def shown(world: World, conversation: str) -> list[dict[str, Any]]:
    assert await faults(world, conversation) == []
    found = await queries.open_conversation(
        world.pool, world.user, conversation, limit=2000, before=None
    )
    assert found is not None
    messages = [found.messages] if found.messages else []
    if found.running is not None:
        messages.append(found.running.json)
    listed: list[dict[str, Any]] = json.loads(f"[{','.join(messages)}]")
    return listed


async def texts(world: World, conversation: str) -> list[str]:
    return [message["content"] for message in await shown(world, conversation)]


async def say(
    world: World, conversation: str, question: str, answer: str, at: str | None = None
) -> Lease:
    """Send and answer."""
    lease = await world.lease(conversation, world.draft(question, at=at))
    assert await world.end(lease, answer) is Outcome.SAVED
    return lease


async def regenerate(world: World, conversation: str, answer: str, at: str | None = None) -> Lease:
    lease = await world.regeneration(conversation, at)
    assert await world.end(lease, answer) is Outcome.SAVED
    return lease


async def versions(world: World, conversation: str, message: str) -> list[tuple[str, bool]]:
    found = await queries.read_versions(
        world.pool, world.user, conversation, message, limit=100, before=None
    )
    assert found is not None
    items = json.loads(f"[{found.messages}]")
    assert [item["version"] for item in items] == list(range(1, len(items) + 1))
    assert {item["versions"] for item in items} == {len(items)}
    return [(item["content"], item["shown"]) for item in items]


async def test_an_edit_stays_beside_what_it_edits(world: World) -> None:
    conversation = await world.conversation()
    await say(world, conversation, "One", "Uno")
    two = await say(world, conversation, "Two", "Dos")
    await say(world, conversation, "Three", "Tres")
    parent = (await shown(world, conversation))[1]["id"]
    await say(world, conversation, "Two!", "Dos!", at=parent)
    path = await shown(world, conversation)
    assert [message["content"] for message in path] == ["One", "Uno", "Two!", "Dos!"]
    assert [(m["version"], m["versions"]) for m in path] == [(1, 1), (1, 1), (2, 2), (1, 1)]
    assert [m["parent_id"] for m in path] == [None, *(m["id"] for m in path[:-1])]
    assert await versions(world, conversation, two.question_id) == [("Two", False), ("Two!", True)]
    await trees(world).show_path(world.user, conversation, two.question_id)
    assert await texts(world, conversation) == ["One", "Uno", "Two", "Dos", "Three", "Tres"]


async def test_a_new_first_message_is_a_version_of_the_first(world: World) -> None:
    conversation = await world.conversation()
    await world.lease(conversation, world.draft("One", title="One"))
    await world.end(await latest(world, conversation), "Uno")
    lease = await world.lease(conversation, world.draft("Two", title="Two", at=conversation))
    await world.end(lease, "Dos")
    assert await texts(world, conversation) == ["Two", "Dos"]
    assert await versions(world, conversation, lease.question_id) == [("One", False), ("Two", True)]
    # The title is that of the first message ever.
    title = "SELECT title FROM conversations WHERE id = $1"
    assert await world.value(title, conversation) == "One"


async def latest(world: World, conversation: str) -> Lease:
    row = await world.value(
        "SELECT message_id::text FROM generations WHERE conversation_id = $1 AND ended_at IS NULL",
        conversation,
    )
    question = await world.value(
        "SELECT question_id::text FROM generations WHERE message_id = $1", row
    )
    return Lease(row, conversation, question, 1, 0, "{}", "trace", None)


@pytest.mark.parametrize("status", ["complete", "stopped"])
async def test_an_earlier_answer_is_regenerated_beside_what_followed_it(
    world: World, status: str
) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "Two", "Dos")
    lease = await world.regeneration(conversation, one.message_id)
    assert (lease.replaces, lease.question_id) == (one.message_id, one.question_id)
    assert await texts(world, conversation) == ["One", "Uno", "Two", "Dos"]
    async with world.pool.connection() as connection:
        history = await generations.read_history(
            connection, conversation, lease.question_id, limit=9, chars=9
        )
    assert [turn.content for turn in history] == ["One"]
    await world.end(lease, "Eins", status=status)
    if status == "complete":
        assert await texts(world, conversation) == ["One", "Eins"]
        expected = [("Uno", False), ("Eins", True)]
    else:
        assert await texts(world, conversation) == ["One", "Uno", "Two", "Dos"]
        expected = [("Uno", True)]
    assert await versions(world, conversation, one.message_id) == expected


async def test_a_hidden_answer_is_regenerated_on_its_own_path(world: World) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "One!", "Uno!", at=conversation)
    await regenerate(world, conversation, "Eins", one.message_id)
    assert await texts(world, conversation) == ["One", "Eins"]


async def test_a_lease_that_is_claimed_knows_the_old_answer(world: World) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "Two", "Dos")
    lease = await world.regeneration(conversation, one.message_id)
    taken = await take(world, lease.message_id)
    assert taken is not None
    assert (taken.replaces, taken.attempt) == (one.message_id, 2)
    assert await world.end(lease) is Outcome.FENCED
    assert await world.end(taken, "Eins") is Outcome.SAVED
    assert await texts(world, conversation) == ["One", "Eins"]


async def test_a_switch_goes_down_to_the_newest_leaf(world: World) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "Two", "Dos")
    await regenerate(world, conversation, "Eins", one.message_id)
    await trees(world).show_path(world.user, conversation, one.message_id)
    await say(world, conversation, "Three", "Tres", at=one.message_id)
    assert await texts(world, conversation) == ["One", "Uno", "Three", "Tres"]
    first = (await shown(world, conversation))[0]
    await regenerate(world, conversation, "Drei")
    await say(world, conversation, "X", "Y", at=conversation)
    await trees(world).show_path(world.user, conversation, first["id"])
    assert await texts(world, conversation) == ["One", "Uno", "Three", "Drei"]


async def test_what_is_deleted_goes_with_all_below_it_and_its_log(world: World) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    two = await say(world, conversation, "Two", "Dos")
    edited = await say(world, conversation, "Two!", "Dos!", at=one.message_id)
    await world.pool.fetch(
        "INSERT INTO event_log (message_id, attempt, first_event, last_event, events) "
        "VALUES ($1, 1, 0, 0, 'x')",
        edited.message_id,
    )
    await trees(world).delete_message(world.user, conversation, edited.question_id)
    assert await texts(world, conversation) == ["One", "Uno", "Two", "Dos"]
    log = "SELECT count(*) FROM event_log WHERE message_id = $1"
    assert await world.value(log, edited.message_id) == 0
    assert await versions(world, conversation, two.question_id) == [("Two", True)]
    await trees(world).delete_message(world.user, conversation, two.message_id)
    assert await texts(world, conversation) == ["One", "Uno", "Two"]
    await trees(world).delete_message(world.user, conversation, one.question_id)
    assert await texts(world, conversation) == []
    assert await world.messages(conversation) == []
    await say(world, conversation, "Again", "Otra")
    assert await texts(world, conversation) == ["Again", "Otra"]


async def test_the_version_that_is_left_counts_from_one(world: World) -> None:
    conversation = await world.conversation()
    first = await say(world, conversation, "One", "1")
    for text in ("2", "3"):
        await regenerate(world, conversation, text)
    second = await world.value(
        "SELECT id::text FROM messages WHERE content = '2' AND conversation_id = $1", conversation
    )
    await trees(world).delete_message(world.user, conversation, second)
    assert await versions(world, conversation, first.message_id) == [("1", False), ("3", True)]
    assert (await shown(world, conversation))[1]["version"] == 2


@pytest.mark.parametrize("is_regeneration", [False, True])
async def test_what_a_running_generation_needs_is_neither_deleted_nor_switched(
    world: World, is_regeneration: bool
) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    other = await say(world, conversation, "Other", "Otro", at=conversation)
    await trees(world).show_path(world.user, conversation, one.message_id)
    two = await say(world, conversation, "Two", "Dos")
    if is_regeneration:
        lease = await world.regeneration(conversation, one.message_id)
        kept = [one.question_id, one.message_id, lease.message_id]
        free = [two.question_id, other.question_id]
    else:
        lease = await world.lease(conversation, world.draft("Three"))
        kept = [one.question_id, two.message_id, lease.question_id, lease.message_id]
        free = [other.message_id]
    for message in kept:
        with pytest.raises(ConversationBusy):
            await trees(world).delete_message(world.user, conversation, message)
    for message in (*kept, *free):
        with pytest.raises(ConversationBusy):
            await trees(world).show_path(world.user, conversation, message)
    for message in free:
        await trees(world).delete_message(world.user, conversation, message)
    await world.end(lease, "Done")
    assert (await texts(world, conversation))[-1] == "Done"


async def test_foreign_and_missing_messages_are_not_found(world: World) -> None:
    conversation, other = await world.conversation(), await world.conversation()
    mine = await say(world, conversation, "One", "Uno")
    await say(world, other, "Two", "Dos")
    running = await world.regeneration(conversation)
    before = await world.rows("SELECT * FROM messages WHERE conversation_id = $1", other)
    for user, within, message in (
        (world.stranger, conversation, mine.message_id),
        (world.user, other, mine.message_id),
        (world.user, conversation, conversation),
    ):
        for act in (trees(world).show_path, trees(world).delete_message):
            with pytest.raises(NotFound):
                await act(user, within, message)
        with pytest.raises(NotFound):
            await trees(world).fork(user, Fork(within, message), ConversationSettings())
    for message in (mine.message_id, running.message_id):
        with pytest.raises(NotFound):
            await world.begin(other, world.draft(at=message))
    # What is under way is no message yet.
    with pytest.raises(NotFound):
        await world.begin(conversation, world.draft(at=running.message_id))
    with pytest.raises(NothingToAnswer):
        await world.begin(conversation, world.draft(None, at=mine.question_id))
    assert isinstance(await world.begin(conversation, world.draft(at=mine.message_id)), Busy)
    assert await world.rows("SELECT * FROM messages WHERE conversation_id = $1", other) == before


async def test_a_switch_and_a_delete_are_changes_that_leave_the_list_as_it_is(
    world: World,
) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    other = await say(world, conversation, "Other", "Otro", at=conversation)
    told = "SELECT count(*) FROM changes WHERE user_id = $1 AND conversation_id = $2"
    updated = "SELECT updated_at FROM conversations WHERE id = $1"
    before = await world.value(updated, conversation)
    for act, message in (
        (trees(world).show_path, one.message_id),
        (trees(world).delete_message, other.message_id),
    ):
        count = await world.value(told, world.user, conversation)
        await act(world.user, conversation, message)
        assert await world.value(told, world.user, conversation) == count + 1
    assert await world.value(updated, conversation) == before


async def test_a_title_is_made_of_what_is_shown(world: World) -> None:
    conversation = await world.conversation()
    stopped = await world.lease(conversation, world.draft("One"))
    await world.end(stopped, "Uno", status="stopped")
    lease = await say(world, conversation, "Other", "Otro", at=conversation)
    newest = await regenerate(world, conversation, "Otra")

    async def opening(message: str) -> tuple[str, str] | None:
        found = await titles.read_opening(world.pool, conversation, message, chars=100)
        return None if found is None else (found.question, found.answer)

    assert await opening(newest.message_id) == ("Other", "Otra")
    assert await opening(lease.message_id) is None  # hidden
    await say(world, conversation, "Next", "Siguiente")
    assert await opening(newest.message_id) is None


async def test_a_search_finds_every_version(world: World) -> None:
    conversation = await world.conversation("Title")
    one = await say(world, conversation, "One word", "Uno word")
    other = await say(world, conversation, "Other word", "Otro word", at=conversation)
    for shown in (other, one):
        await trees(world).show_path(world.user, conversation, shown.message_id)
        page = await Search(world.pool, at_once=1).find(world.user, "word", limit=10, after=None)
        found = {json.loads(hit.message)["id"] for hit in page.items if hit.message is not None}
        assert found == {one.question_id, one.message_id, other.question_id, other.message_id}


async def test_a_fork_copies_every_column(world: World) -> None:
    conversation = await world.conversation()
    lease = await say(world, conversation, "One", "Uno")
    await world.pool.fetch(
        "UPDATE messages SET reasoning = 'r', finish_reason = 'length', input_tokens = 1, "
        "output_tokens = 2, error = 'e', created_at = 'yesterday' WHERE conversation_id = $1",
        conversation,
    )
    created = json.loads(
        await trees(world).fork(
            world.user, Fork(conversation, lease.message_id), ConversationSettings()
        )
    )
    rows = "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY position"
    own = {"id", "conversation_id", "parent_id"}
    found = [await world.rows(rows, one) for one in (conversation, created["id"])]
    original, copy = (
        [{name: value for name, value in row.items() if name not in own} for row in listed]
        for listed in found
    )
    assert copy == original


async def test_a_fork_is_a_copy_of_one_path(world: World) -> None:
    conversation = await world.conversation("Title")
    await queries.update_conversation(
        world.pool,
        world.user,
        conversation,
        ConversationSettings(instructions="Be brief.", tags=["a"], metadata='{"k":"v"}'),
    )
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "Two", "Dos")
    await regenerate(world, conversation, "Eins", one.message_id)
    before = await world.rows(
        "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id", conversation
    )
    hidden = next(row for row in before if row["content"] == "Dos")
    created = json.loads(
        await trees(world).fork(
            world.user, Fork(conversation, str(hidden["id"])), ConversationSettings()
        )
    )
    assert (created["title"], created["instructions"]) == ("Title", "Be brief.")
    assert (created["tags"], created["metadata"]) == (["a"], {})
    assert await texts(world, created["id"]) == ["One", "Uno", "Two", "Dos"]
    assert before == await world.rows(
        "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id", conversation
    )
    await say(world, created["id"], "More", "Más")
    assert await texts(world, conversation) == ["One", "Eins"]
    running = await world.lease(conversation)
    with pytest.raises(ConversationBusy):
        await trees(world).fork(
            world.user, Fork(conversation, running.message_id), ConversationSettings()
        )


@pytest.mark.case(63)
async def test_what_the_version_before_inserts_is_part_of_the_tree(world: World) -> None:
    conversation = await world.conversation()
    one = await say(world, conversation, "One", "Uno")
    await say(world, conversation, "Two", "Dos")
    last = await regenerate(world, conversation, "Zwei")
    expected = await shown(world, conversation)
    # As that version inserts them, and as it ends a regeneration.
    await world.pool.fetch(
        "UPDATE messages SET parent_id = NULL, version = NULL "
        "WHERE conversation_id = $1 AND replaces IS NULL",
        conversation,
    )
    assert await shown(world, conversation) == expected
    assert await versions(world, conversation, last.message_id) == [("Dos", False), ("Zwei", True)]
    read = await queries.read_message(world.pool, world.user, conversation, last.message_id)
    assert read is not None
    assert json.loads(read) == expected[-1]
    await regenerate(world, conversation, "Eins", one.message_id)
    assert await texts(world, conversation) == ["One", "Eins"]
    await trees(world).show_path(world.user, conversation, one.message_id)
    assert await shown(world, conversation) == [
        expected[0],
        {**expected[1], "versions": 2},
        *expected[2:],
    ]


class Histories(RuleBasedStateMachine):
    """Several connections at once do anything to one tree; the invariants hold after each round."""

    messages = Bundle("messages")

    loop: asyncio.AbstractEventLoop
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.entered = opened(self.url, size=6)
        self.count = 0

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    @initialize()
    def begin(self) -> None:
        self.world = World(self.run(self.entered.__aenter__()))
        self.conversation = self.run(self.world.conversation())

    def teardown(self) -> None:
        self.run(self.entered.__aexit__(None, None, None))

    @rule(
        acts=st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "send",
                        "send after",
                        "send first",
                        "regenerate",
                        "regenerate it",
                        "switch",
                        "delete",
                        "as before",
                        "stop",
                    ]
                ),
                st.integers(0, 10_000),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def act(self, acts: list[tuple[str, int, bool]]) -> None:
        self.run(self._act(acts))

    async def _act(self, acts: list[tuple[str, int, bool]]) -> None:
        ids = [
            row["id"]
            for row in await self.world.rows(
                "SELECT id::text AS id FROM messages WHERE conversation_id = $1 ORDER BY id",
                self.conversation,
            )
        ]
        results = await asyncio.gather(
            *(
                self._one(name, ids[pick % len(ids)] if ids else None, ends)
                for name, pick, ends in acts
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(
                result, (ConversationBusy, NotFound, NothingToAnswer)
            ):
                raise result

    async def _one(self, name: str, message: str | None, ends: bool) -> None:
        world, conversation = self.world, self.conversation
        if name == "stop":
            rows = await world.rows(
                "SELECT message_id::text AS id FROM generations "
                "WHERE conversation_id = $1 AND ended_at IS NULL",
                conversation,
            )
            for row in rows:
                lease = await take(world, row["id"])
                if lease is not None:
                    await world.end(lease, "taken", status="complete" if ends else "stopped")
        elif name == "as before":
            async with world.pool.transaction() as connection:
                await tree.lock(connection, world.user, conversation)
                await connection.execute(
                    "UPDATE messages SET parent_id = NULL, version = NULL WHERE id = ("
                    "SELECT id FROM messages WHERE conversation_id = $1 AND replaces IS NULL "
                    "ORDER BY position DESC LIMIT 1)",
                    conversation,
                )
        elif name == "switch" and message:
            await trees(world).show_path(world.user, conversation, message)
        elif name == "delete" and message:
            await trees(world).delete_message(world.user, conversation, message)
        elif name.startswith(("send", "regenerate")):
            at = {"send after": message, "regenerate it": message, "send first": conversation}
            self.count += 1
            text = f"q{self.count}" if name.startswith("send") else None
            begun = await world.begin(conversation, world.draft(text, at=at.get(name)))
            if isinstance(begun, Lease) and ends:
                await world.end(begun, f"a{self.count}")

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "conversation"):
            assert self.run(faults(self.world, self.conversation)) == []
            self.run(shown(self.world, self.conversation))


async def take(world: World, message_id: str) -> Lease | None:
    return await leases.take(world.pool, message_id, world.process, 60)


@pytest.mark.case(65)
def test_whatever_is_done_at_once_one_chain_is_shown(database_url: str) -> None:
    Histories.url = database_url
    Histories.loop = asyncio.new_event_loop()
    try:
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=30,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Histories.loop.close()
