"""Signals that stop the local stack."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Signals:
    """Counts requests to stop: Ctrl-C, SIGTERM, and the end of the terminal.

    The handlers only count, so they interrupt nothing; running code must check the count.
    """

    def __init__(self) -> None:
        self.count = 0

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


@contextlib.contextmanager
def caught() -> Iterator[Signals]:
    """Within the block the signals are counted. Only for the main thread."""
    signals = Signals()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            before[number] = signal.signal(number, signals._note)  # noqa: SLF001
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
