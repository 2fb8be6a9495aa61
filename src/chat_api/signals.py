"""Signals before and after the application handles them.

Imports nothing of the service, so that the handlers are there before the imports that take time.
"""

import signal


def handle_early() -> None:
    """Handle signals that come before uvicorn and the application have handlers.

    uvicorn also raises a signal again after its shutdown; an orderly end is a success.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _stay)


def ignore() -> None:
    """Ignore the signal: a further one must not change the exit code of a drained process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _leave(_number: int, _frame: object) -> None:
    ignore()
    raise SystemExit(0)


def _stay(_number: int, _frame: object) -> None:
    pass  # nothing has been read yet that could be read again
