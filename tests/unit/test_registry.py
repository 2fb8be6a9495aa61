"""What a process works on: running generations, claims, tasks."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from chat_api.db.generations import Lease
from chat_api.errors import DatabaseUnavailable
from chat_api.generation.registry import Registry
from chat_api.generation.running import StopReason

FIRST = Lease("019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1", "c", "q", 1, 0, "{}", "t", None)
SECOND = replace(FIRST, attempt=2)


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_later_attempt_takes_the_place_of_an_earlier_one_and_keeps_it() -> None:
    registry = Registry()
    first = registry.add(FIRST)
    first.pump = asyncio.create_task(never())
    assert registry.is_outdated(FIRST)
    assert not registry.is_outdated(SECOND)
    second = registry.add(SECOND)
    assert first.stop_reason is StopReason.NOT_OURS
    registry.remove(first)
    assert first.closed
    assert registry.running == {FIRST.message_id: second}
    assert not second.closed
    registry.remove(second)
    assert registry.running == {}
    await asyncio.wait({first.pump})


async def test_it_is_busy_while_something_runs() -> None:
    registry = Registry()
    waiting = asyncio.create_task(registry.until_busy())
    await asyncio.sleep(0)
    assert not waiting.done()
    generation = registry.add(FIRST)
    await asyncio.wait_for(waiting, 5)
    registry.remove(generation)
    waiting = asyncio.create_task(registry.until_busy())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


def test_what_runs_and_what_is_claimed_is_held() -> None:
    registry = Registry()
    other = replace(FIRST, message_id="019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a2", attempt=3)
    registry.add(FIRST)
    with registry.claim(other):
        assert registry.held() == [(FIRST.message_id, 1), (other.message_id, 3)]
        assert registry.claimed() == [(other.message_id, 3)]
        with registry.claim(later := replace(other, attempt=4)):
            pass
        assert registry.claimed() == []  # the later one took its place
        with registry.claim(other), registry.claim(later):
            pass
    assert registry.held() == [(FIRST.message_id, 1)]


async def test_a_send_is_waited_for_until_it_is_accepted() -> None:
    registry = Registry()
    gate = asyncio.Event()
    accepted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def carry_out() -> None:
        await gate.wait()
        accepted.set_result("generation")
        await never()

    registry.own_send(carry_out(), accepted, "generation")
    assert registry.has_sends
    asyncio.get_running_loop().call_soon(gate.set)
    await registry.until_sends_run(5)
    assert accepted.done()
    assert not registry._sends
    await registry.cancel_tasks(5)


@pytest.mark.parametrize(("error", "logged"), [(DatabaseUnavailable(), 0), (KeyError("x"), 1)])
async def test_a_task_that_fails_of_a_defect_is_logged(error: Exception, logged: int) -> None:
    async def fail() -> None:
        raise error

    registry = Registry()
    with capture_logs() as logs:
        await asyncio.wait({registry.own(fail(), "failing")})
        await asyncio.sleep(0)
    assert [line["task"] for line in logs if line["event"] == "task_failed"] == ["failing"] * logged


async def test_cancelled_tasks_have_ended() -> None:
    registry = Registry()
    task = registry.own(never(), "never")
    await registry.cancel_tasks(5)
    assert task.cancelled()
    await registry.cancel_tasks(5)  # nothing is left
