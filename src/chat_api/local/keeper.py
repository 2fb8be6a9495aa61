"""Runs one program and ends it when told to, or when the process that started this has died.

A script of its own, started with an interpreter that imports nothing but the standard library
(`python -I -S keeper.py '<JSON>'`): its standard input is a pipe whose other end only the starter
holds. End of file means that the starter wants the program to end or is gone, SIGKILL included;
both are handled alike. No other notice of the kernel survives a SIGKILL and works on both Linux and
macOS.

The JSON object: `argv`; `user` (null, or [uid, gid]); `stop`, a list of [signal, seconds]: each
signal goes to the program, which then has so long before the next; after the last one everything
in its process group is killed. SIGTERM to the keeper means the same; a repeated one starts the next
step at once. The keeper's exit code is the program's (128 + n for signal n).
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time

_CANNOT_RUN = 127


def _signalled(wakeup: int) -> set[int]:
    """Return the signals that arrived since the last call."""
    try:
        return set(os.read(wakeup, 4096))
    except BlockingIOError:
        return set()


def _keep(child: "subprocess.Popen[bytes]", stop: list[tuple[int, float]], wakeup: int) -> int:
    """Wait for the child, ending it by the steps in `stop` once standard input has ended."""
    steps = iter(stop)
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(wakeup, selectors.EVENT_READ)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while (code := child.poll()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = {key.fd for key, _ in selector.select(left)}
            advance = bool(_signalled(wakeup) & {signal.SIGTERM, signal.SIGINT})
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                selector.unregister(sys.stdin.fileno())
                advance = advance or deadline is None
            if advance or (deadline is not None and time.monotonic() >= deadline):
                number, seconds = next(steps, (signal.SIGKILL, 60.0))
                deadline = time.monotonic() + seconds
                if number == signal.SIGKILL:
                    _kill_group(child.pid)
                else:
                    child.send_signal(number)
    return code if code >= 0 else 128 - code


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main() -> int:
    spec = json.loads(sys.argv[1])
    wakeup, signalled = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(signalled, False)
    # The pipe must be in place before the child: its SIGCHLD may come at once.
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers, not SIG_IGN: the program would inherit that.
        signal.signal(number, lambda *_: None)
    uid, gid = spec["user"] or (None, None)
    try:
        child = subprocess.Popen(
            spec["argv"],
            stdin=subprocess.DEVNULL,
            process_group=0,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )
    except OSError as error:
        sys.stderr.write(f"{spec['argv'][0]} cannot be run: {error.strerror}\n")
        return _CANNOT_RUN
    try:
        return _keep(child, [(number, seconds) for number, seconds in spec["stop"]], wakeup)
    finally:
        _kill_group(child.pid)  # child processes that the program left running


if __name__ == "__main__":
    sys.exit(main())
