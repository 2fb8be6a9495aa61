"""Waiting for the database to come back."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from chat_api.errors import DatabaseUnavailable

_T = TypeVar("_T")


async def until_available(
    action: Callable[[], Awaitable[_T]], *, first_pause: float = 0.1, longest_pause: float = 1.0
) -> _T:
    """Return the action's result, trying again while the database is unavailable.

    Pauses are random, up to a bound that doubles with each attempt, so that the processes do not
    all come back at once. Any other error is raised: a defect does not go away by itself.
    """

    try:
        return await action()  # as nearly always; the machinery below costs as much as a statement
    except DatabaseUnavailable as error:
        first: DatabaseUnavailable | None = error

    async def attempt() -> _T:  # tenacity awaits what a coroutine function returns, and only that
        nonlocal first
        if first is not None:
            failure, first = first, None
            raise failure
        return await action()

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        wait=wait_random_exponential(multiplier=first_pause, max=longest_pause, min=0.02),
    )
    return await retrying(attempt)
