"""Signal handling: the drain runs before the server closes anything; SIGHUP reloads."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def drained_before_exit(drain: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Within the block, SIGTERM and SIGINT first run `drain`, then do what they did before.

    Servers close their listening socket, and wait for open responses, as soon as the signal comes;
    readiness could not fail first, and running generations would get no time. A second SIGINT
    (Ctrl-C again) ends the drain at once. Does nothing outside the main thread, which alone may
    handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    draining: list[asyncio.Task[None]] = []

    def pass_on(number: int) -> None:
        handler = before[number]
        if callable(handler):
            handler(number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def begin(number: int) -> None:
        if not draining:
            task = loop.create_task(drain(), name="drain")
            draining.append(task)
            task.add_done_callback(lambda _: pass_on(number))
        elif number == signal.SIGINT:
            draining[0].cancel()

    def handle(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin, number)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])


@contextmanager
def reloaded_on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGHUP calls `reload` in the event loop, and the process keeps serving.

    Where SIGHUP was ignored from the start, as under nohup, it stays ignored. Does nothing outside
    the main thread.
    """
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(reload)

    signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def ended_with_its_supervisor() -> Iterator[None]:
    """Within the block, a worker whose supervisor has died shuts down in order, as on SIGTERM.

    Otherwise it would never end and would keep the port.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        yield
        return
    loop = asyncio.get_running_loop()
    sentinel = supervisor.sentinel

    def leave() -> None:
        loop.remove_reader(sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sentinel, leave)
    try:
        yield
    finally:
        loop.remove_reader(sentinel)
