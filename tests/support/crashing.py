"""The service that kills itself at a named point: `python -m tests.support.crashing serve …`.

`CRASH_AT` names the point, such as `before begin` or `after end`; the process dies there by SIGKILL
the first time that it comes by. Points around a commit:

    begin    the question and the place of its answer
    end      the end of an answer
    log      a batch of the log
    claim    taking up abandoned answers
    release  handing answers over at the drain
    take     fencing the owner of an answer
    stop     asking the owner to stop
    show     the path to a message: of a switch, an edit, or a delete
    hide     a regeneration taking its place
    delete   a message and all below it
    fork     the copy of a path
    import   one conversation of an import

`during begin`, `during end` and so on are inside the transaction, before its COMMIT is sent. Where
beginning and ending are one call each, which has no such moment, the steps are taken instead.
"""

import functools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from chat_api.db import database, event_log, generations, imports, leases, sends, tree

_in_transaction: ContextVar[list[str] | None] = ContextVar("in_transaction", default=None)


def come_by(point: str) -> None:
    """Die here if this is the point."""
    if os.environ.get("CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(module: ModuleType, name: str, work: str, counts: Callable[[Any], bool] = bool) -> None:
    """Crash before and after a single statement."""
    original: Callable[..., Awaitable[Any]] = getattr(module, name)

    @functools.wraps(original)
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        come_by(f"before {work}")
        result = await original(*arguments, **named)
        if counts(result):
            come_by(f"after {work}")
        return result

    setattr(module, name, wrapped)


def _inside(module: ModuleType, name: str, work: str, counts: Callable[[Any], bool]) -> None:
    """Crash before, inside or after the transaction that this is done in."""
    original: Callable[..., Awaitable[Any]] = getattr(module, name)

    @functools.wraps(original)
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        come_by(f"before {work}")
        result = await original(*arguments, **named)
        done = _in_transaction.get()
        if counts(result) and done is not None:
            done.append(work)
        return result

    setattr(module, name, wrapped)


async def _in_steps(*_: object) -> None:
    """Stand for a call that leaves the work to the steps."""


def _is_a_lease(result: object) -> bool:
    return isinstance(result, generations.Lease)


def _is_saved(result: object) -> bool:
    return result is generations.Outcome.SAVED


def install() -> None:
    """Wrap the functions that write."""
    if os.environ.get("CRASH_AT", "").startswith("during "):
        sends._begin_in_one_call = _in_steps  # type: ignore[assignment]
        generations._end_in_one_call = _in_steps  # type: ignore[assignment]
        _inside(sends, "begin_in_steps", "begin", _is_a_lease)
        _inside(generations, "end_in_steps", "end", _is_saved)
    else:
        _around(sends, "begin", "begin", lambda result: isinstance(result, sends.Begun))
        _around(generations, "end", "end", _is_saved)
    _around(event_log, "append", "log")
    _around(leases, "claim_abandoned", "claim")
    _around(leases, "release", "release", lambda _: True)
    _around(leases, "take", "take")
    _around(leases, "request_stop", "stop", lambda _: True)
    _inside(tree, "show", "show", lambda _: True)
    _inside(tree, "take_place", "hide", lambda _: True)
    _inside(tree, "delete", "delete", lambda _: True)
    _inside(tree, "copy_messages", "fork", lambda _: True)
    _inside(imports, "insert", "import", bool)
    original = database.Database.transaction

    @asynccontextmanager
    async def transaction(self: database.Database) -> AsyncIterator[database.Connection]:
        done: list[str] = []
        token = _in_transaction.set(done)
        try:
            async with original(self) as connection:
                yield connection
                for work in done:
                    come_by(f"during {work}")
            for work in done:
                come_by(f"after {work}")
        finally:
            _in_transaction.reset(token)

    database.Database.transaction = transaction  # type: ignore[method-assign]


if __name__ == "__main__":
    from chat_api.cli import main

    install()
    main()
