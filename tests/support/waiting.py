"""Waiting for something to become true, with a deadline: the only polling that tests do."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_INTERVAL = 0.02
_TIMEOUT = 15.0


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], timeout: float = ..., *, what: str | None = ...
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T], timeout: float = ..., *, what: str | None = ...
) -> T: ...


async def eventually(
    condition: Callable[[], Any], timeout: float = _TIMEOUT, *, what: str | None = None
) -> Any:
    """Ask `condition` (plain or async) again and again; its first true answer is returned.

    An AssertionError in it counts as "not yet"; the last one is shown when the deadline,
    `timeout` seconds from now, passes.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            value = condition()
            answer = await value if inspect.isawaitable(value) else value
            if answer:
                return answer
            last = answer
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(_message(condition, timeout, what, last))
        await asyncio.sleep(_INTERVAL)


def eventually_sync(
    condition: Callable[[], T], timeout: float = _TIMEOUT, *, what: str | None = None
) -> T:
    """`eventually` for tests and fixtures that are not async."""
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = answer
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(_message(condition, timeout, what, last))
        time.sleep(_INTERVAL)


def _message(condition: object, timeout: float, what: str | None, last: object) -> str:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return f"not within {timeout} s: {name}; last seen: {last!r}"
