"""The life of an answer in the database, statement by statement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.unit.world import (
    LEASE_SECONDS,
    OnConnection,
    World,
    connected,
    ending,
    key,
    log_row,
    opened,
)

from chat_api.db import event_log as db_event_log
from chat_api.db import generations, housekeeping, queries, sends
from chat_api.db import leases as db_leases
from chat_api.db.database import Connection, Database
from chat_api.db.event_log import Held, LogRow, Page
from chat_api.db.generations import Lease, Outcome, Turn
from chat_api.db.idempotency import Repeat
from chat_api.db.sends import Busy
from chat_api.errors import IdempotencyKeyReused, NothingToAnswer
from chat_api.text import is_blank


async def log_of(world: World, lease: Lease) -> list[tuple[int, int, int]]:
    return [
        (row.attempt, row.first_event, row.last_event)
        for row in await db_event_log.read(world.pool, lease.message_id)
    ]


async def taken(world: World, lease: Lease, process: str | None = None) -> Lease:
    """The next attempt, in another process's hands."""
    new = await db_leases.take(world.pool, lease.message_id, process or str(uuid4()), LEASE_SECONDS)
    assert new is not None
    return new


@asynccontextmanager
async def rolled_back(world: World) -> AsyncIterator[Connection]:
    """A transaction that comes to nothing."""
    with suppress(RollBack):
        async with world.pool.transaction() as connection:
            yield connection
            raise RollBack


class RollBack(Exception):
    """Raised to end a transaction."""


async def expire(world: World, lease: Lease) -> None:
    await world.pool.fetch(
        "UPDATE generations SET lease_until = now() - interval '1 second' WHERE message_id = $1",
        lease.message_id,
    )


async def claim(
    world: World, process: str | None = None, *, limit: int = 20, only_released: bool = False
) -> list[Lease]:
    return await db_leases.claim_abandoned(
        world.pool,
        process or str(uuid4()),
        LEASE_SECONDS,
        limit=limit,
        only_released=only_released,
    )


# --- begin ----------------------------------------------------------------------------------------


async def test_a_send_keeps_question_answer_lease_and_listener_together(world: World) -> None:
    conversation = await world.conversation()
    draft = world.draft("Why?", title="Why")
    lease = await world.lease(conversation, draft)
    assert lease == Lease(
        message_id=draft.message_id,
        conversation_id=conversation,
        question_id=draft.question_id,
        attempt=1,
        crashes=0,
        options="{}",
        trace_id="trace",
        replaces=None,
    )
    assert await world.messages(conversation) == [
        (0, "user", "complete", "Why?"),
        (1, "assistant", "generating", ""),
    ]
    generation = await world.generation(lease.message_id)
    assert str(generation["owner"]) == world.process
    assert (generation["status"], generation["ended_at"]) == ("generating", None)
    subscriptions = await world.rows(
        "SELECT process::text AS process, until > now() AS now FROM subscriptions "
        "WHERE message_id = $1",
        lease.message_id,
    )
    assert subscriptions == [{"process": world.process, "now": True}]
    assert await world.value(
        "SELECT lease_until - now() BETWEEN '50 s' AND '60 s' FROM generations "
        "WHERE message_id = $1",
        lease.message_id,
    )


async def test_a_send_that_is_rolled_back_leaves_nothing(world: World) -> None:
    conversation = await world.conversation()
    draft = world.draft(key=key(str(uuid4())))
    async with rolled_back(world) as connection:
        await sends.begin_in_steps(
            connection, world.user, conversation, draft, process=world.process, lease_seconds=8
        )
    assert await world.messages(conversation) == []
    for table in ("generations", "subscriptions"):
        assert (
            await world.value(
                f"SELECT count(*) FROM {table} WHERE message_id = $1",  # noqa: S608  # ours
                draft.message_id,
            )
            == 0
        )
    # The key is not burnt.
    assert isinstance(await world.begin(conversation, draft), Lease)


async def test_a_busy_conversation_says_with_what_and_whether_anyone_listens(
    world: World,
) -> None:
    conversation = await world.conversation()
    lease = await world.lease(conversation)
    for content in ("And?", None):
        assert await world.begin(conversation, world.draft(content)) == Busy(
            lease.message_id, has_subscribers=True
        )
    await db_leases.unsubscribe(world.pool, world.process, [lease.message_id])
    assert await world.begin(conversation) == Busy(lease.message_id, has_subscribers=False)
    await db_leases.subscribe(world.pool, str(uuid4()), [lease.message_id], -1)  # it has run out
    assert await world.begin(conversation) == Busy(lease.message_id, has_subscribers=False)
    assert len(await world.messages(conversation)) == 2


async def test_positions_go_on_behind_whatever_was_there(world: World) -> None:
    conversation = await world.conversation()
    for _ in range(3):
        await world.answered(conversation)
    assert [position for position, *_ in await world.messages(conversation)] == list(range(6))


@pytest.mark.case(11)
async def test_fifty_sends_at_once_are_one(fresh_database_url: str) -> None:
    async with opened(fresh_database_url, size=20) as pool:
        world = World(pool)
        conversation = await world.conversation()
        begun = await asyncio.gather(*(world.begin(conversation) for _ in range(50)))
        (lease,) = [one for one in begun if isinstance(one, Lease)]
        assert {one for one in begun if isinstance(one, Busy)} == {
            Busy(lease.message_id, has_subscribers=True)
        }
        assert len(begun) == 50
        assert len(await world.messages(conversation)) == 2


async def test_the_database_itself_allows_one_running_answer(world: World) -> None:
    conversation = await world.conversation()
    await world.lease(conversation)
    with pytest.raises(asyncpg.UniqueViolationError, match="messages_one_generating"):
        await world.pool.fetch(
            "INSERT INTO messages (id, conversation_id, position, role, content, status, "
            "model_tag) VALUES (gen_random_uuid(), $1, 9, 'assistant', '', 'generating', 'm')",
            conversation,
        )


@pytest.mark.parametrize(("column", "value"), [("role", "robot"), ("status", "done")])
async def test_the_database_knows_roles_and_statuses(column: str, value: str, world: World) -> None:
    lease = await world.answered(await world.conversation())
    with pytest.raises(asyncpg.CheckViolationError):
        await world.pool.fetch(
            f"UPDATE messages SET {column} = $2 WHERE id = $1",  # noqa: S608  # ours
            lease.message_id,
            value,
        )


async def test_two_messages_cannot_stand_at_one_position(world: World) -> None:
    conversation = await world.conversation()
    await world.answered(conversation)
    with pytest.raises(asyncpg.UniqueViolationError, match="messages_in_order"):
        await world.pool.fetch(
            "INSERT INTO messages (id, conversation_id, position, role, content, status, "
            "model_tag) VALUES (gen_random_uuid(), $1, 1, 'assistant', '', 'complete', 'm')",
            conversation,
        )


# --- regenerating ---------------------------------------------------------------------------------


async def test_without_a_question_there_is_nothing_to_answer(world: World) -> None:
    conversation = await world.conversation()
    with pytest.raises(NothingToAnswer):
        await world.begin(conversation, world.draft(None))
    assert await world.messages(conversation) == []


async def test_a_regeneration_stands_at_the_old_answer_s_place(world: World) -> None:
    conversation = await world.conversation()
    await world.answered(conversation, "first")
    old = await world.answered(conversation, "old")
    new = await world.regeneration(conversation)
    assert new.replaces == old.message_id
    assert new.question_id == old.question_id
    assert (await world.messages(conversation))[2:] == [
        (2, "user", "complete", "Why?"),
        (3, "assistant", "complete", "old"),
        (3, "assistant", "generating", ""),
    ]


async def test_a_complete_regeneration_takes_the_place(world: World) -> None:
    conversation = await world.conversation()
    old = await world.answered(conversation, "old")
    new = await world.regeneration(conversation)
    assert await world.end(new, "new") is Outcome.SAVED
    assert await world.messages(conversation) == [
        (0, "user", "complete", "Why?"),
        (1, "assistant", "complete", "new"),
    ]
    assert not await generations.message_stands(world.pool, old.message_id)
    assert await world.end(await world.regeneration(conversation), "newer") is Outcome.SAVED
    assert (await world.messages(conversation))[1] == (1, "assistant", "complete", "newer")


@pytest.mark.parametrize("status", ["stopped", "interrupted", "failed"])
async def test_an_undone_regeneration_goes_and_is_remembered(status: str, world: World) -> None:
    conversation = await world.conversation()
    await world.answered(conversation, "old")
    before = await world.rows("SELECT * FROM messages WHERE conversation_id = $1", conversation)
    new = await world.regeneration(conversation)
    assert await world.end(new, "half", status=status) is Outcome.SAVED
    after = await world.rows("SELECT * FROM messages WHERE conversation_id = $1", conversation)
    assert after == before
    begun = await generations.read_generation(world.pool, new.message_id)
    assert begun is not None
    assert (begun.ended, begun.status) == (True, status)
    assert await world.begin(conversation) != Busy(new.message_id, has_subscribers=True)


async def test_what_failed_can_be_answered_anew(world: World) -> None:
    conversation = await world.conversation()
    failed = await world.lease(conversation)
    await world.end(failed, "", status="failed")
    new = await world.regeneration(conversation)
    assert new.replaces == failed.message_id
    await world.end(new, "at last")
    assert await world.messages(conversation) == [
        (0, "user", "complete", "Why?"),
        (1, "assistant", "complete", "at last"),
    ]


async def test_a_question_left_alone_gets_its_answer_behind_it(world: World) -> None:
    conversation = await world.conversation()
    lease = await world.answered(conversation)
    await world.pool.fetch("DELETE FROM messages WHERE id = $1", lease.message_id)
    new = await world.regeneration(conversation)
    assert new.replaces is None
    assert new.question_id == lease.question_id
    assert (await world.messages(conversation))[1][:3] == (1, "assistant", "generating")


# --- history --------------------------------------------------------------------------------------


async def history(world: World, lease: Lease, *, limit: int = 50, chars: int = 8000) -> list[Turn]:
    async with world.pool.connection() as connection:
        return await generations.read_history(
            connection, lease.conversation_id, lease.question_id, limit=limit, chars=chars
        )


async def test_the_history_ends_with_the_question(world: World) -> None:
    conversation = await world.conversation()
    await world.end(await world.lease(conversation, world.draft("Q1")), "A1")
    await world.end(await world.lease(conversation, world.draft("Q2")), "", status="stopped")
    lease = await world.lease(conversation, world.draft("Q3 ä😀"))
    assert await history(world, lease) == [
        Turn("user", "Q1"),
        Turn("assistant", "A1"),
        Turn("user", "Q2"),
        Turn("user", "Q3 ä😀"),
    ]
    assert await history(world, lease, limit=2) == [Turn("user", "Q2"), Turn("user", "Q3 ä😀")]
    assert await history(world, lease, chars=2) == [
        Turn("user", "Q1"),
        Turn("assistant", "A1"),
        Turn("user", "Q2"),
        Turn("user", "ä😀"),
    ]


async def test_the_history_of_a_regeneration_leaves_the_old_answer_out(world: World) -> None:
    conversation = await world.conversation()
    await world.end(await world.lease(conversation, world.draft("Q1")), "old")
    assert await history(world, await world.regeneration(conversation)) == [Turn("user", "Q1")]


@pytest.mark.case(60)
@pytest.mark.parametrize(
    "blank",
    [
        pytest.param(" \n", id="space"),
        pytest.param("\u3000\t", id="wide space"),
        pytest.param("\u200b\u2060\ufeff", id="zero width"),
        pytest.param("\u2800", id="braille"),
        pytest.param("\U000e0020", id="tag"),
    ],
)
async def test_blank_messages_take_no_place_in_the_history(blank: str, world: World) -> None:
    assert is_blank(blank)
    conversation = await world.conversation()
    late = blank * 300 + "A1"
    await world.end(await world.lease(conversation, world.draft("Q1")), late)
    await world.end(await world.lease(conversation, world.draft("Q2")), blank)
    lease = await world.lease(conversation, world.draft("Q3"))
    assert await history(world, lease, limit=3, chars=2) == [
        Turn("assistant", "A1"),
        Turn("user", "Q2"),
        Turn("user", "Q3"),
    ]


# --- the log --------------------------------------------------------------------------------------


async def test_a_batch_is_written_for_all_of_a_process_s_answers(world: World) -> None:
    one, other = await world.lease(), await world.lease()
    rows = [log_row(one, 0, ["a", "b"]), log_row(other, 0, ["c"])]
    assert await db_event_log.append(world.pool, world.process, rows) == {
        one.message_id: Held(1, stop_requested=False),
        other.message_id: Held(1, stop_requested=False),
    }
    assert await db_event_log.read(world.pool, one.message_id) == rows[:1]
    assert await db_event_log.read(world.pool, other.message_id) == rows[1:]


async def test_a_row_of_what_is_not_held_any_more_costs_the_others_nothing(world: World) -> None:
    held, fenced, deleted, ended, foreign = [await world.lease() for _ in range(5)]
    next_one = await taken(world, fenced, world.process)
    async with world.pool.transaction() as connection:
        await queries.delete_conversation(connection, world.user, deleted.conversation_id)
    await world.end(ended)
    await taken(world, foreign)
    leases = (deleted, fenced, held, ended, foreign)
    found = await db_event_log.append(
        world.pool, world.process, [log_row(lease, 0, ["a"]) for lease in leases]
    )
    assert found == {
        held.message_id: Held(1, stop_requested=False),
        next_one.message_id: Held(2, stop_requested=False),
    }
    assert await log_of(world, held) == [(1, 0, 0)]
    for lease in (deleted, fenced, ended, foreign):
        assert await log_of(world, lease) == []


async def test_nothing_to_write_still_asks(world: World) -> None:
    lease = await world.lease()
    await db_leases.request_stop(world.pool, lease.message_id)
    assert await db_event_log.append(world.pool, world.process, []) == {
        lease.message_id: Held(1, stop_requested=True)
    }


async def test_a_row_written_twice_is_there_once(world: World) -> None:
    lease = await world.lease()
    for _ in range(2):
        await db_event_log.append(world.pool, world.process, [log_row(lease, 0, ["a"])])
    assert await log_of(world, lease) == [(1, 0, 0)]


async def test_the_log_commits_asynchronously_and_nothing_else_does(
    world: World, database_url: str
) -> None:
    lease = await world.lease()
    setting = "SELECT current_setting('synchronous_commit')"
    async with connected(database_url, synchronous_commit="on") as connection:
        on_it: Database = OnConnection(connection)
        async with connection.transaction():
            await db_event_log.append(on_it, world.process, [log_row(lease, 0, ["a"])])
            assert await connection.fetchval(setting) == "off"
        async with connection.transaction():
            await db_leases.request_stop(on_it, lease.message_id)
            assert await connection.fetchval(setting) == "on"
        async with connection.transaction():
            assert (
                await generations.end_in_steps(connection, lease, ending(lease), None)
                is Outcome.SAVED
            )
            assert await connection.fetchval(setting) == "on"


async def test_a_batch_waits_for_no_lock(world: World, database_url: str) -> None:
    """A conversation that somebody is just deleting must not hold up the others' log."""
    locked, free = await world.lease(), await world.lease()
    async with connected(database_url) as other, other.transaction():
        await other.execute(
            "SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", locked.conversation_id
        )
        await other.execute(
            "SELECT 1 FROM generations WHERE message_id = $1 FOR UPDATE", locked.message_id
        )
        async with asyncio.timeout(5):
            await db_event_log.append(
                world.pool,
                world.process,
                [log_row(locked, 0, ["a"]), log_row(free, 0, ["a"])],
            )
    assert await log_of(world, free) == [(1, 0, 0)]


async def test_the_log_s_ends_are_told_by_attempt(world: World) -> None:
    lease, empty = await world.lease(), await world.lease()
    rows = [log_row(lease, 0, ["a"]), log_row(lease, 1, ["b", "c"])]
    await db_event_log.append(world.pool, world.process, rows)
    assert await db_event_log.find_ends(
        world.pool, [(lease.message_id, 1), (empty.message_id, 1)]
    ) == {
        lease.message_id: 2,
        empty.message_id: -1,
    }
    assert await db_event_log.find_ends(world.pool, [(lease.message_id, 2)]) == {
        lease.message_id: -1
    }
    assert await db_event_log.find_ends(world.pool, []) == {}


async def test_a_log_row_that_meets_a_deletion_does_not_stay_for_ever(
    own_world: World, fresh_database_url: str
) -> None:
    world = own_world
    lease = await world.lease()
    async with connected(fresh_database_url) as writer, writer.transaction():
        await db_event_log.append(
            OnConnection(writer), world.process, [log_row(lease, 0, ["private"])]
        )
        async with world.pool.transaction() as connection:
            await queries.delete_conversation(connection, world.user, lease.conversation_id)
    await world.pool.fetch("UPDATE event_log SET written_at = now() - interval '2 days'")
    await housekeeping.sweep_orphans(world.pool)
    assert await log_of(world, lease) == []


# --- what readers ask -----------------------------------------------------------------------------


async def pages(world: World, *places: tuple[str, int, int], **more: Any) -> dict[int, Page]:
    return await db_event_log.read_pages(world.pool, places, **more)


async def test_a_page_holds_what_follows_the_place(world: World) -> None:
    lease, quiet = await world.lease(), await world.lease()
    rows = [log_row(lease, first, ["x"] * 2) for first in (0, 2, 4)]
    await db_event_log.append(world.pool, world.process, rows)
    found = await pages(
        world,
        (lease.message_id, 1, -1),
        (quiet.message_id, 1, -1),
        (lease.message_id, 1, 1),
        (lease.message_id, 1, 2),
        (lease.message_id, 1, 5),
        (lease.message_id, 1, 99),
    )
    assert found == {
        0: Page(gone=False, attempt=1, ended=False, last_event=None, rows=tuple(rows)),
        2: Page(gone=False, attempt=1, ended=False, last_event=None, rows=tuple(rows[1:])),
        # A row that overlaps the place comes whole.
        3: Page(gone=False, attempt=1, ended=False, last_event=None, rows=tuple(rows[1:])),
    }
    assert await pages(world) == {}


async def test_a_page_is_bounded_and_begins_at_the_place(world: World) -> None:
    lease = await world.lease()
    rows = [log_row(lease, number, ["x"]) for number in range(10)]
    await db_event_log.append(world.pool, world.process, rows)
    found = await pages(world, (lease.message_id, 1, 3), rows_each=4)
    assert found[0].rows == tuple(rows[4:8])


async def test_a_new_attempt_comes_from_its_start(world: World) -> None:
    lease = await world.lease()
    await db_event_log.append(world.pool, world.process, [log_row(lease, 0, ["a"] * 5)])
    process = str(uuid4())
    next_one = await taken(world, lease, process)
    # As long as it has logged nothing, it may still go on from the attempt before.
    assert await pages(world, (lease.message_id, 1, 4)) == {}
    assert await pages(world, (lease.message_id, 2, -1)) == {}
    row = log_row(next_one, 0, ["b"])
    await db_event_log.append(world.pool, process, [row])
    assert (await pages(world, (lease.message_id, 1, 4)))[0].rows == (row,)


async def continued(world: World, lease: Lease, last_event: int) -> Lease:
    """The next attempt, which goes on from this one."""
    next_one = await taken(world, lease)
    assert await db_leases.continue_from(world.pool, next_one, last_event)
    return next_one


@pytest.mark.case(65)
async def test_an_attempt_that_goes_on_has_the_log_of_the_one_before(world: World) -> None:
    lease = await world.lease()
    rows = [log_row(lease, 0, ["a"] * 5), log_row(lease, 5, ["b"]), log_row(lease, 7, ["lost"])]
    await db_event_log.append(world.pool, world.process, rows)
    second = await continued(world, lease, 5)
    third = await continued(world, second, 5)
    kept = [row for row in await db_event_log.read(world.pool, lease.message_id) if row.attempt > 1]
    assert [(row.attempt, row.first_event, row.last_event) for row in kept] == [
        (2, 0, 4),
        (2, 5, 5),
        (3, 0, 4),
        (3, 5, 5),
    ]
    for attempt in (1, 2, 3):
        for number, seen in ((-1, [0, 5]), (3, [0, 5]), (4, [5]), (5, [])):
            found = await pages(world, (lease.message_id, attempt, number))
            assert [row.first_event for row in found[0].rows] == seen if seen else found == {}
    ahead = (await pages(world, (lease.message_id, 1, 6)))[0]
    assert (ahead.attempt, ahead.seam, ahead.rows[0].first_event) == (3, 5, 0)
    again = await db_leases.start_over(world.pool, third)
    assert again is not None
    assert again.attempt == 4
    assert await db_leases.start_over(world.pool, third) is None
    assert not await db_leases.continue_from(world.pool, third, 5)
    await db_event_log.append(world.pool, world.process, [log_row(again, 0, ["c"])])
    for attempt in (1, 2, 3):
        page = (await pages(world, (lease.message_id, attempt, 3)))[0]
        assert (page.attempt, page.seam, page.rows[0].events) == (4, None, '{"token":"c"}')
    fifth = await continued(world, again, 0)
    assert fifth.attempt == 5
    assert await pages(world, (lease.message_id, 4, 0)) == {}
    assert (await pages(world, (lease.message_id, 3, 0)))[0].seam is None


async def test_an_ended_answer_and_one_that_is_gone_are_news(world: World) -> None:
    lease = await world.lease()
    await world.end(lease, last_event=1, tail=log_row(lease, 0, ["a", "b"]))
    ended = (await pages(world, (lease.message_id, 1, 1)))[0]
    assert ended == Page(gone=False, attempt=1, ended=True, last_event=1, rows=())
    assert (await pages(world, (lease.message_id, 1, -1)))[0].rows != ()
    nowhere = str(uuid4())
    assert (await pages(world, (nowhere, 1, 3)))[0] == Page(
        gone=True, attempt=0, ended=False, last_event=None, rows=()
    )


async def test_what_can_be_joined_is_what_runs_and_what_the_cursor_names(world: World) -> None:
    conversation = await world.conversation()
    old = await world.answered(conversation)
    nothing = await generations.find_joinable(world.pool, world.user, conversation, None)
    assert nothing == generations.Joinable(None, None)
    running = await world.lease(conversation)
    found = await generations.find_joinable(
        world.pool, world.user, conversation, old.message_id[-12:]
    )
    assert found is not None
    assert found.running is not None
    assert found.named is not None
    assert (found.running.message_id, found.named.message_id) == (
        running.message_id,
        old.message_id,
    )
    assert (found.running.ended, found.running.done) == (False, None)
    assert (found.named.ended, found.named.last_event) == (True, 2)
    same = await generations.find_joinable(
        world.pool, world.user, conversation, running.message_id[-12:]
    )
    assert same is not None
    assert same.running == same.named


# --- leases ---------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_for_its_own_attempt_only(world: World) -> None:
    mine, fenced, ended = [await world.lease() for _ in range(3)]
    await taken(world, fenced)
    await world.end(ended)
    for lease in (mine, fenced, ended):
        await expire(world, lease)
    leases = [(lease.message_id, 1) for lease in (mine, fenced, ended)]
    await db_leases.renew(world.pool, world.process, leases, [], 30)
    await db_leases.renew(world.pool, str(uuid4()), leases, [], 300)
    left = {
        str(row["message_id"]): row["seconds"]
        for row in await world.rows(
            "SELECT message_id, extract(epoch FROM lease_until - now())::float AS seconds "
            "FROM generations WHERE message_id = ANY ($1)",
            [lease.message_id for lease in (mine, fenced, ended)],
        )
    }
    assert 20 < left[mine.message_id] <= 30
    assert left[fenced.message_id] < 0
    assert left[ended.message_id] < 0


async def test_a_locked_answer_does_not_keep_the_others_from_being_renewed(
    world: World, database_url: str
) -> None:
    locked, free = await world.lease(), await world.lease()
    for lease in (locked, free):
        await expire(world, lease)
    async with connected(database_url) as other, other.transaction():
        await other.execute(
            "SELECT 1 FROM generations WHERE message_id = $1 FOR UPDATE", locked.message_id
        )
        async with asyncio.timeout(5):
            await db_leases.renew(
                world.pool,
                world.process,
                [(locked.message_id, 1), (free.message_id, 1)],
                [],
                30,
            )
    assert await world.value(
        "SELECT lease_until > now() FROM generations WHERE message_id = $1", free.message_id
    )


async def test_listening_is_noted_while_an_answer_runs(world: World) -> None:
    running, ended = await world.lease(), await world.lease()
    await world.end(ended)
    process = str(uuid4())
    await db_leases.renew(
        world.pool, process, [], [running.message_id, ended.message_id, str(uuid4())], 30
    )
    await db_leases.renew(world.pool, process, [], [running.message_id], 30)
    noted = await world.rows(
        "SELECT message_id::text AS id FROM subscriptions WHERE process = $1", process
    )
    assert noted == [{"id": running.message_id}]
    await db_leases.unsubscribe(world.pool, process, [running.message_id])
    assert await world.rows("SELECT 1 FROM subscriptions WHERE process = $1", process) == []


async def test_only_what_has_run_out_is_claimed(own_world: World) -> None:
    alive, dead = await own_world.lease(), await own_world.lease()
    await expire(own_world, dead)
    process = str(uuid4())
    (claimed,) = await claim(own_world, process)
    assert claimed == replace(dead, attempt=2, crashes=1)
    assert await claim(own_world) == []
    held = await own_world.generation(dead.message_id)
    assert str(held["owner"]) == process
    assert (await own_world.generation(alive.message_id))["attempt"] == 1


async def test_the_database_s_clock_decides(own_world: World) -> None:
    """Not this process's: a lease of half a second is over when PostgreSQL says so."""
    lease = await own_world.lease(lease_seconds=-0.001)
    assert [one.message_id for one in await claim(own_world)] == [lease.message_id]


async def test_crashes_are_counted_and_hand_overs_are_not(own_world: World) -> None:
    lease = await own_world.lease()
    for crashes in (1, 2, 3):
        await expire(own_world, lease)
        (lease,) = await claim(own_world, own_world.process)
        assert (lease.crashes, lease.attempt) == (crashes, crashes + 1)
    await db_leases.release(own_world.pool, [(lease.message_id, lease.attempt)], own_world.process)
    (lease,) = await claim(own_world, only_released=True)
    assert (lease.crashes, lease.attempt) == (3, 5)


async def test_only_what_was_handed_over_is_claimed_where_so_asked(own_world: World) -> None:
    dead, released = await own_world.lease(), await own_world.lease()
    await expire(own_world, dead)
    await db_leases.release(own_world.pool, [(released.message_id, 1)], own_world.process)
    (claimed,) = await claim(own_world, only_released=True)
    assert (claimed.message_id, claimed.crashes) == (released.message_id, 0)


@pytest.mark.parametrize("process", ["another", "the owner"])
async def test_only_the_owner_of_the_attempt_hands_over(process: str, world: World) -> None:
    lease = await world.lease()
    if process == "another":
        await db_leases.release(world.pool, [(lease.message_id, 1)], str(uuid4()))
    else:
        await db_leases.release(world.pool, [(lease.message_id, 2)], world.process)
    assert str((await world.generation(lease.message_id))["owner"]) == world.process


async def test_what_has_ended_is_neither_claimed_nor_handed_over(own_world: World) -> None:
    lease = await own_world.lease()
    await own_world.end(lease)
    await expire(own_world, lease)
    await db_leases.release(own_world.pool, [(lease.message_id, 1)], own_world.process)
    assert (await own_world.generation(lease.message_id))["owner"] is not None
    assert await claim(own_world) == []
    assert await db_leases.take(own_world.pool, lease.message_id, own_world.process, 8) is None


async def test_two_processes_claim_different_answers(
    own_world: World, fresh_database_url: str
) -> None:
    leases = [await own_world.lease(lease_seconds=-1) for _ in range(6)]
    async with (
        connected(fresh_database_url) as one,
        connected(fresh_database_url) as other,
        one.transaction(),
        other.transaction(),
    ):
        first = await db_leases.claim_abandoned(
            OnConnection(one), str(uuid4()), 60, limit=4, only_released=False
        )
        async with asyncio.timeout(5):  # it does not wait for the first
            second = await db_leases.claim_abandoned(
                OnConnection(other), str(uuid4()), 60, limit=4, only_released=False
            )
    assert (len(first), len(second)) == (4, 2)
    assert {lease.message_id for lease in (*first, *second)} == {
        lease.message_id for lease in leases
    }


async def test_a_claim_says_all_that_is_needed_to_go_on(own_world: World) -> None:
    conversation = await own_world.conversation()
    old = await own_world.answered(conversation)
    new = await own_world.regeneration(conversation)
    await db_leases.request_stop(own_world.pool, new.message_id)
    await expire(own_world, new)
    (claimed,) = await claim(own_world)
    assert claimed == replace(
        new, attempt=2, crashes=1, stop_requested=True, replaces=old.message_id
    )


async def test_a_fence_is_no_crash(world: World) -> None:
    lease = await world.lease()
    assert await taken(world, lease) == replace(lease, attempt=2)


# --- the end --------------------------------------------------------------------------------------


async def test_an_end_saves_text_numbers_tail_and_takes_the_listeners(world: World) -> None:
    conversation = await world.conversation()
    lease = await world.lease(conversation)
    tail = log_row(lease, 0, ["a", "b", "c"])
    assert await world.end(lease, "abc", tail=tail, status="interrupted", error="x") is (
        Outcome.SAVED
    )
    (message,) = await world.rows("SELECT * FROM messages WHERE id = $1", lease.message_id)
    assert (message["content"], message["status"]) == ("abc", "interrupted")
    assert (message["token_count"], message["inference_time_ms"]) == (1, 7)
    begun = await generations.read_generation(world.pool, lease.message_id)
    assert begun is not None
    assert (begun.ended, begun.status, begun.error) == (True, "interrupted", "x")
    assert (begun.last_event, begun.done) == (2, ending(lease, status="interrupted").done)
    assert await db_event_log.read(world.pool, lease.message_id) == [tail]
    subscriptions = "SELECT count(*) FROM subscriptions WHERE message_id = $1"
    assert await world.value(subscriptions, lease.message_id) == 0
    assert isinstance(await world.begin(conversation), Lease)


async def test_an_end_of_unknown_outcome_is_repeated_safely(world: World) -> None:
    lease = await world.lease()
    tail = log_row(lease, 0, ["a", "b", "c"])
    assert await world.end(lease, "abc", tail=tail) is Outcome.SAVED
    before = await world.generation(lease.message_id)
    assert await world.end(lease, "abc", tail=tail) is Outcome.SAVED
    assert await world.generation(lease.message_id) == before


async def test_a_complete_regeneration_s_end_is_repeated_safely(world: World) -> None:
    conversation = await world.conversation()
    await world.answered(conversation, "old")
    new = await world.regeneration(conversation)
    for _ in range(2):
        assert await world.end(new, "new") is Outcome.SAVED
    assert (await world.messages(conversation))[1] == (1, "assistant", "complete", "new")


async def test_an_undone_regeneration_s_end_is_repeated_safely(world: World) -> None:
    conversation = await world.conversation()
    await world.answered(conversation, "old")
    new = await world.regeneration(conversation)
    for _ in range(2):
        assert await world.end(new, "half", status="failed") is Outcome.SAVED
    assert (await world.messages(conversation))[1] == (1, "assistant", "complete", "old")


async def test_another_end_of_the_same_attempt_is_not_ours(world: World) -> None:
    lease = await world.lease()
    await world.end(lease, "abc", last_event=2)
    assert await world.end(lease, "abcd", last_event=3) is Outcome.FENCED
    assert await generations.read_content(world.pool, lease.message_id) == ("abc", "")


@pytest.mark.parametrize("ended", [False, True])
async def test_a_fenced_attempt_ends_nothing(ended: bool, world: World) -> None:
    lease = await world.lease()
    next_one = await taken(world, lease)
    if ended:
        await world.end(next_one, "newer", last_event=2)
    tail = log_row(lease, 0, ["a", "b", "c"])
    assert await world.end(lease, "older", last_event=2, tail=tail) is Outcome.FENCED
    assert await db_event_log.read(world.pool, lease.message_id) == []
    kept = await generations.read_content(world.pool, lease.message_id)
    assert kept == ("newer" if ended else "", "")


async def test_a_deleted_conversation_s_answer_is_gone(world: World) -> None:
    lease = await world.lease()
    async with world.pool.transaction() as connection:
        await queries.delete_conversation(connection, world.user, lease.conversation_id)
    assert await world.end(lease, tail=log_row(lease, 0, ["a"])) is Outcome.GONE
    assert await db_event_log.read(world.pool, lease.message_id) == []
    assert await db_leases.take(world.pool, lease.message_id, world.process, 8) is None


async def test_an_end_that_is_rolled_back_leaves_it_running(world: World) -> None:
    lease = await world.lease()
    async with rolled_back(world) as connection:
        await generations.end_in_steps(connection, lease, ending(lease), log_row(lease, 0, ["a"]))
    assert await log_of(world, lease) == []
    assert (await world.generation(lease.message_id))["ended_at"] is None
    assert await world.end(lease) is Outcome.SAVED


async def test_an_end_and_a_fence_at_once_have_one_winner(own_world: World) -> None:
    for _ in range(10):
        lease = await own_world.lease()
        outcome, fenced = await asyncio.gather(
            own_world.end(lease),
            db_leases.take(own_world.pool, lease.message_id, str(uuid4()), 8),
        )
        assert (outcome is Outcome.SAVED) == (fenced is None)


async def test_an_end_and_a_deletion_at_once_do_not_lock_each_other(own_world: World) -> None:
    async def delete(lease: Lease) -> None:
        async with own_world.pool.transaction() as connection:
            await queries.delete_conversation(connection, own_world.user, lease.conversation_id)

    for _ in range(10):
        lease = await own_world.lease()
        outcome, _ = await asyncio.gather(
            own_world.end(lease, tail=log_row(lease, 0, ["a"])), delete(lease)
        )
        assert outcome in {Outcome.SAVED, Outcome.GONE}
        assert await log_of(own_world, lease) == []


# --- idempotency ----------------------------------------------------------------------------------


async def test_the_same_key_joins_the_first_answer(world: World) -> None:
    conversation = await world.conversation()
    name = str(uuid4())
    lease = await world.lease(conversation, world.draft(key=key(name)))
    repeat = Repeat(lease.message_id)
    # While it runs (before "busy" is looked at), after it, and after others.
    assert await world.begin(conversation, world.draft(key=key(name))) == repeat
    await world.end(lease)
    assert await world.begin(conversation, world.draft(key=key(name))) == repeat
    await world.answered(conversation)
    assert await world.begin(conversation, world.draft(key=key(name))) == repeat
    assert len(await world.messages(conversation)) == 4


async def test_a_key_for_something_else_is_refused(world: World) -> None:
    conversation = await world.conversation()
    name = str(uuid4())
    await world.answered(conversation)
    await world.end(await world.lease(conversation, world.draft(key=key(name))))
    other = await world.conversation()
    for place in (conversation, other):
        with pytest.raises(IdempotencyKeyReused):
            await world.begin(place, world.draft(key=key(name, "something else")))
    assert await world.messages(other) == []


async def test_another_user_s_key_is_another_key(world: World) -> None:
    name = str(uuid4())
    await world.lease(draft=world.draft(key=key(name)))
    theirs = await world.conversation(user=world.stranger)
    begun = await world.begin(
        theirs, world.draft(key=key(name, "something else")), user=world.stranger
    )
    assert isinstance(begun, Lease)


@pytest.mark.parametrize("stands_for", ["this", "something else"])
async def test_a_key_is_free_again_after_a_day(stands_for: str, world: World) -> None:
    conversation = await world.conversation()
    name = str(uuid4())
    first = await world.lease(conversation, world.draft(key=key(name)))
    await world.end(first)
    age = "UPDATE idempotency_keys SET created_at = now() - interval '{}' WHERE key = $1"
    await world.pool.fetch(age.format("23 hours 59 minutes"), name)
    assert await world.begin(conversation, world.draft(key=key(name))) == Repeat(first.message_id)
    await world.pool.fetch(age.format("24 hours 1 second"), name)
    again = await world.lease(conversation, world.draft(key=key(name, stands_for)))
    assert again.message_id != first.message_id
    repeat = await world.begin(conversation, world.draft(key=key(name, stands_for)))
    assert repeat == Repeat(again.message_id)


async def test_a_busy_conversation_does_not_burn_a_key(world: World) -> None:
    conversation = await world.conversation()
    running = await world.lease(conversation)
    name = str(uuid4())
    assert isinstance(await world.begin(conversation, world.draft(key=key(name))), Busy)
    await world.end(running)
    assert isinstance(await world.begin(conversation, world.draft(key=key(name))), Lease)


async def test_one_key_used_at_once_begins_one_answer(fresh_database_url: str) -> None:
    async with opened(fresh_database_url, size=20) as pool:
        world = World(pool)
        conversation = await world.conversation()
        begun = await asyncio.gather(
            *(world.begin(conversation, world.draft(key=key("k"))) for _ in range(20))
        )
        (lease,) = [one for one in begun if isinstance(one, Lease)]
        assert [one for one in begun if one != lease] == [Repeat(lease.message_id)] * 19


async def test_one_key_used_in_two_conversations_at_once_is_one_s(
    world: World, database_url: str
) -> None:
    """The second waits for the first's transaction, and is refused; nothing of it stays."""
    one, other = await world.conversation(), await world.conversation()
    name = str(uuid4())
    async with connected(database_url) as connection, connection.transaction():
        first = await sends.begin_in_steps(
            connection,
            world.user,
            one,
            world.draft(key=key(name, "one")),
            process=world.process,
            lease_seconds=60,
        )
        second = asyncio.create_task(world.begin(other, world.draft(key=key(name, "other"))))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND query LIKE '%samosachaat_begin_answer%' "
            "AND datname = current_database()"
        )
        async with asyncio.timeout(5):
            while await world.value(waiting) == 0:
                assert not second.done()
    with pytest.raises(IdempotencyKeyReused):
        await second
    assert isinstance(first, Lease)
    assert await world.messages(other) == []


# --- housekeeping ---------------------------------------------------------------------------------


async def age(world: World, lease: Lease, interval: str) -> None:
    await world.pool.fetch(
        f"UPDATE generations SET ended_at = now() - interval '{interval}' "  # noqa: S608  # ours
        "WHERE message_id = $1",
        lease.message_id,
    )


async def test_a_sweep_takes_the_log_of_what_ended_a_while_ago(own_world: World) -> None:
    world = own_world
    running = await world.lease()
    await db_event_log.append(world.pool, world.process, [log_row(running, 0, ["a"])])
    ended: dict[str, Lease] = {}
    for interval in ("299 seconds", "301 seconds", "1 hour", "1 hour 5 minutes 1 second"):
        lease = ended[interval] = await world.lease()
        await world.end(lease, tail=log_row(lease, 0, ["a", "b", "c"]))
        await age(world, lease, interval)
    await housekeeping.sweep(world.pool, 300)
    assert await log_of(world, running)
    assert await log_of(world, ended["299 seconds"])
    assert not await log_of(world, ended["301 seconds"])
    assert not await log_of(world, ended["1 hour"])
    late = ended["1 hour 5 minutes 1 second"]
    assert not await log_of(world, late)
    assert await generations.read_generation(world.pool, late.message_id) is not None
    # The answer's row goes a day later.
    await age(world, late, "24 hours 1 second")
    await housekeeping.sweep(world.pool, 300)
    assert await generations.read_generation(world.pool, late.message_id) is None
    assert await generations.message_stands(world.pool, late.message_id)  # the message stays


async def test_a_sweep_takes_old_keys_and_forgotten_listeners(own_world: World) -> None:
    world = own_world
    for name in ("old", "new"):
        await world.lease(draft=world.draft(key=key(name)))
    await world.pool.fetch(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'"
    )
    await world.pool.fetch(
        "UPDATE subscriptions SET until = now() - interval '2 hours' WHERE message_id = "
        "(SELECT message_id FROM idempotency_keys WHERE key = 'old')"
    )
    await housekeeping.sweep(world.pool, 300)
    assert await world.rows("SELECT key FROM idempotency_keys") == [{"key": "new"}]
    assert await world.value("SELECT count(*) FROM subscriptions") == 1


async def test_two_sweeps_at_once_do_not_disturb_each_other(own_world: World) -> None:
    for _ in range(5):
        lease = await own_world.lease()
        await own_world.end(lease, tail=log_row(lease, 0, ["a"]))
        await age(own_world, lease, "25 hours")
    await asyncio.gather(*(housekeeping.sweep(own_world.pool, 300) for _ in range(4)))
    assert await own_world.value("SELECT count(*) FROM generations") == 0


def test_a_log_row_counts_its_events() -> None:
    lease = Lease(str(uuid4()), "", "", 3, 0, "", "", None)
    row = log_row(lease, 4, ["a", "b"])
    assert row == LogRow(lease.message_id, 3, 4, 5, '{"token":"a"}\n{"token":"b"}')
