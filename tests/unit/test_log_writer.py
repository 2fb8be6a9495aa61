"""Writing the log of all running answers, and writing it again after a loss."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.waiting import eventually
from tests.unit.world import World, connected

from chat_api.db import event_log as db_event_log
from chat_api.db import leases as db_leases
from chat_api.db import queries
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.errors import DatabaseUnavailable
from chat_api.generation import events
from chat_api.generation.log_writer import LogWriter
from chat_api.generation.registry import Registry
from chat_api.generation.running import RunningGeneration, StopReason


class Counting(Database):
    """Counts the statements that go through it."""

    statements = 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        self.statements += 1
        return await super().fetch(statement, *arguments)


class Desk:
    """A process with running answers and the writer of their log, on one connection."""

    def __init__(self, world: World, pool: Counting) -> None:
        self.world = world
        self.pool = pool
        self.registry = Registry(process=world.process)
        self.log = LogWriter(pool, self.registry, every_seconds=0.001)
        self.tasks: list[asyncio.Task[None]] = []

    async def answer(self, text: str = "") -> RunningGeneration:
        answer = self.registry.add(await self.world.lease())
        answer.pump = asyncio.create_task(_for_ever())
        self.tasks.append(answer.pump)
        write(answer, text)
        return answer

    async def logged(self, answer: RunningGeneration) -> str:
        """The text that a reader of another process would have by now."""
        rows = await db_event_log.read(self.world.pool, answer.message_id)
        return events.written(row for row in rows if row.attempt == answer.attempt).text

    def is_doubtful(self) -> bool:
        return self.log.doubtful

    async def backend(self) -> int:
        """The process of PostgreSQL that serves the writer's one connection."""
        return int((await self.pool.fetch("SELECT pg_backend_pid()"))[0][0])

    @asynccontextmanager
    async def held_up(self, url: str) -> AsyncIterator[Any]:
        """Nothing can be written to the log inside; gives a connection from outside."""
        async with connected(url) as other, other.transaction():
            await other.execute("LOCK TABLE event_log IN SHARE MODE")
            yield other

    async def waiting(self, other: Any, backend: int) -> None:
        """Once the writer's statement waits for the lock."""

        async def is_waiting() -> bool:
            return bool(
                await other.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", backend
                )
            )

        await eventually(is_waiting, 5)


async def _for_ever() -> None:
    await asyncio.Event().wait()


def write(answer: RunningGeneration, text: str) -> None:
    for letter in text:
        answer.add(events.token(letter), letter)
        answer.show()


@pytest.fixture
async def desk(own_world: World, fresh_database_url: str) -> AsyncIterator[Desk]:
    pool = Counting(fresh_database_url, size=1, timeout_seconds=10)
    await pool.open()
    desk = Desk(own_world, pool)
    yield desk
    for task in desk.tasks:
        task.cancel()
    await asyncio.gather(*desk.tasks, return_exceptions=True)
    await pool.close()


async def test_all_answers_are_written_in_one_statement(desk: Desk) -> None:
    texts = ["one", "two", "three"]
    running = [await desk.answer(text) for text in texts]
    await desk.log.flush()
    assert desk.pool.statements == 1
    assert [await desk.logged(answer) for answer in running] == texts
    assert [answer.logged for answer in running] == [answer.last_event for answer in running]
    await desk.log.flush()
    assert desk.pool.statements == 2  # nothing to write, but it hears of stops and fences
    for answer in running:
        write(answer, "!")
    await desk.log.flush()
    assert [await desk.logged(answer) for answer in running] == ["one!", "two!", "three!"]
    rows = await db_event_log.read(desk.world.pool, running[0].message_id)
    assert [(row.first_event, row.last_event) for row in rows] == [(0, 3), (4, 4)]


async def test_nothing_runs_nothing_is_asked(desk: Desk) -> None:
    await desk.log.flush()
    ended = await desk.answer("abc")
    ended.ending = True  # its end writes the rest
    await desk.log.flush()
    assert desk.pool.statements == 0
    assert await desk.logged(ended) == ""


async def test_a_step_waits_for_the_first_answer(desk: Desk) -> None:
    step = asyncio.create_task(desk.log.step())
    await asyncio.sleep(0)
    assert not step.done()
    answer = await desk.answer("abc")
    async with asyncio.timeout(5):
        await step
    assert await desk.logged(answer) == "abc"


async def test_a_stop_asked_for_elsewhere_is_heard_here(desk: Desk) -> None:
    stopped, other = await desk.answer("abc"), await desk.answer("abc")
    await db_leases.request_stop(desk.world.pool, stopped.message_id)
    await desk.log.flush()
    assert (stopped.stop_reason, other.stop_reason) == (StopReason.STOPPED, None)
    assert await desk.logged(stopped) == "abc"


async def test_what_is_held_by_another_or_deleted_is_let_go(desk: Desk) -> None:
    taken, deleted, released, mine = [await desk.answer("abc") for _ in range(4)]
    world = desk.world
    await db_leases.take(world.pool, taken.message_id, world.process, 8)
    await db_leases.release(world.pool, [(released.message_id, 1)], world.process)
    async with world.pool.transaction() as connection:
        await queries.delete_conversation(connection, world.user, deleted.lease.conversation_id)
    await desk.log.flush()
    assert [a.stop_reason for a in (taken, deleted, released)] == [StopReason.NOT_OURS] * 3
    assert [a.logged for a in (taken, deleted, released)] == [-1] * 3
    assert (mine.stop_reason, mine.logged) == (None, 3)
    assert await desk.logged(mine) == "abc"


async def test_what_comes_while_a_batch_is_written_is_the_next_batch_s(
    desk: Desk, fresh_database_url: str
) -> None:
    answer = await desk.answer("abc")
    backend = await desk.backend()
    async with desk.held_up(fresh_database_url) as other:
        flush = asyncio.create_task(desk.log.flush())
        await desk.waiting(other, backend)
        write(answer, "de")
        late = await desk.answer("xyz")
    await flush
    assert (answer.logged, late.logged) == (3, -1)
    assert late.stop_reason is None  # it is held, though it was not in the batch
    await desk.log.flush()
    assert await desk.logged(answer) == "abcde"
    assert await desk.logged(late) == "xyz"


async def test_an_answer_that_began_after_the_statement_is_not_lost(
    desk: Desk, fresh_database_url: str
) -> None:
    """The statement's view is older than the answer: the writer must not take it for fenced."""
    first = await desk.answer("abc")
    backend = await desk.backend()
    async with desk.held_up(fresh_database_url) as other:
        flush = asyncio.create_task(desk.log.flush())
        await desk.waiting(other, backend)
        second = await desk.answer("abc")
    await flush
    assert (first.stop_reason, second.stop_reason) == (None, None)


async def lose(desk: Desk, answer: RunningGeneration, after: int) -> None:
    """What an asynchronous commit may do when a backend dies: the last rows are not there."""
    await desk.world.pool.fetch(
        "DELETE FROM event_log WHERE message_id = $1 AND last_event > $2",
        answer.message_id,
        after,
    )


async def test_a_connection_lost_while_writing_forgets_nothing(
    desk: Desk, fresh_database_url: str
) -> None:
    one, other_one = await desk.answer("abc"), await desk.answer("abc")
    await desk.log.flush()
    for answer in (one, other_one):
        write(answer, "def")
    await desk.log.flush()
    for answer in (one, other_one):
        write(answer, "ghi")
    backend = await desk.backend()
    async with desk.held_up(fresh_database_url) as other:
        flush = asyncio.create_task(desk.log.flush())
        await desk.waiting(other, backend)
        await other.execute("SELECT pg_terminate_backend($1, 5000)", backend)
        with pytest.raises(DatabaseUnavailable):
            await flush
    assert desk.is_doubtful()
    await lose(desk, one, after=3)
    await lose(desk, other_one, after=-1)
    write(one, "!")
    await desk.log.flush()
    assert not desk.is_doubtful()
    assert await desk.logged(one) == "abcdefghi!"
    assert await desk.logged(other_one) == "abcdefghi"
    assert one.logged == one.last_event


async def test_a_log_that_is_complete_after_all_is_not_written_twice(desk: Desk) -> None:
    answer = await desk.answer("abc")
    await desk.log.flush()
    desk.log._failed = True
    write(answer, "d")
    await desk.log.flush()
    rows = await db_event_log.read(desk.world.pool, answer.message_id)
    assert [(row.first_event, row.last_event) for row in rows] == [(0, 3), (4, 4)]


async def test_a_batch_of_unknown_outcome_may_be_there_twice_and_is_read_once(
    desk: Desk,
) -> None:
    """The statement was committed, its answer was lost: the rows are there already."""
    answer = await desk.answer("abc")
    row = answer.unlogged()
    assert row is not None
    await db_event_log.append(desk.world.pool, desk.world.process, [row])
    desk.log._failed = True
    await desk.log.flush()
    write(answer, "d")
    await desk.log.flush()
    assert await desk.logged(answer) == "abcd"
    assert answer.logged == answer.last_event


async def test_a_connection_lost_between_two_batches_leaves_no_hole(
    desk: Desk, fresh_database_url: str
) -> None:
    """A crash and a recovery faster than the next batch: nothing fails, and yet rows are lost."""
    answer = await desk.answer("abc")
    await desk.log.flush()
    write(answer, "def")
    await desk.log.flush()
    backend = await desk.backend()
    async with connected(fresh_database_url) as other:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", backend)

    async def is_replaced() -> bool:
        return await desk.backend() != backend

    await eventually(is_replaced, 5)
    await lose(desk, answer, after=3)
    write(answer, "ghi")
    for _ in range(3):
        await desk.log.flush()
    assert await desk.logged(answer) == "abcdefghi"


async def test_a_compared_answer_goes_back_no_further_than_the_log(desk: Desk) -> None:
    answer = await desk.answer("abcdef")
    await desk.log.flush()
    await desk.log.compare([answer])
    assert answer.logged == answer.last_event
    await lose(desk, answer, after=-1)
    await desk.log.compare([answer])
    assert answer.logged == -1


def test_an_attempt_has_a_log_of_its_own() -> None:
    lease = Lease("019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1", "c", "q", 3, 0, "{}", "t", None)
    row = RunningGeneration(lease).unlogged()
    assert row is not None
    assert (row.attempt, row.first_event, row.last_event) == (3, 0, 0)
