"""Waiting for the database to come back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chat_api.errors import DatabaseUnavailable, EngineFailed
from chat_api.retrying import until_available


def failing(*errors: Exception) -> tuple[list[int], Callable[[], Awaitable[str]]]:
    calls: list[int] = []

    async def action() -> str:
        calls.append(len(calls))
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return calls, action


async def test_it_goes_on_until_the_database_is_there() -> None:
    calls, action = failing(*[DatabaseUnavailable()] * 5)
    async with asyncio.timeout(5):
        assert await until_available(action, first_pause=0.001, longest_pause=0.002) == "done"
        assert await until_available(lambda: action()) == "done"  # no coroutine function
    assert len(calls) == 7


@pytest.mark.parametrize("error", [KeyError("a defect"), EngineFailed()])
async def test_nothing_else_is_tried_again(error: Exception) -> None:
    calls, action = failing(DatabaseUnavailable(), error)
    with pytest.raises(type(error)) as raised:
        await until_available(action, first_pause=0.001)
    assert raised.value is error
    assert len(calls) == 2
