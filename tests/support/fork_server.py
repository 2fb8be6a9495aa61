"""Processes of the command line that begin with its modules imported.

An import of the service takes most of a second of CPU, and the tests start hundreds of services.
The fork server is a process without threads that imports once; each service is a fork of it: a
process, session and environment of its own, which runs the command from its beginning.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_IMPORTED = ("chat_api.cli", "chat_api.server", "chat_api.app", "uvloop")
# What modules, libraries or the interpreter itself read while they start.
_READ_EARLY = ("PYTHON", "SSL_", "OTEL_", "PROMETHEUS_", "LD_", "MALLOC_", "TZ")
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")


def bare_environment() -> dict[str, str]:
    """Return what any process needs, and nothing that sets the service up."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def permits(environment: Mapping[str, str]) -> bool:
    """Return whether a fork with these variables is like a process that begins with them."""
    return not any(name.startswith(_READ_EARLY) for name in environment)


class Forked:
    """A running fork, with those methods of `subprocess.Popen` that the tests use."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status  # a pipe that delivers how it ended

    def poll(self) -> int | None:
        """Return its exit code (-n: signal n), None while it runs."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended. Raise TimeoutExpired after `timeout` seconds."""
        code = self._ended_within(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, signal.SIGTERM)

    def _ended_within(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if poll.poll(None if timeout is None else max(0, timeout) * 1000):
                status = os.read(self._status, _STATUS.size)
                os.close(self._status)
                if not status:
                    raise RuntimeError("the fork server has ended")
                self.returncode = os.waitstatus_to_exitcode(*_STATUS.unpack(status))
        return self.returncode


class ForkServer:
    """The fork server of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: modules beside this file are not found by their bare names.
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=bare_environment(),
                start_new_session=True,
            )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: IO[bytes]
    ) -> Forked:
        """Run the command in a session of its own; its output goes to `log`."""
        ended, end = os.pipe()
        variables = bare_environment() | dict(environment)
        request = json.dumps([list(arguments), variables, str(folder)]).encode()
        with self._lock:
            socket.send_fds(self._connection, [_LENGTH.pack(len(request))], [log.fileno(), end])
            self._connection.sendall(request)
            os.close(end)
            (pid,) = _LENGTH.unpack(_exactly(self._connection, _LENGTH.size))
        return Forked(pid, ended)


@functools.cache
def fork_server() -> ForkServer:
    """Return the fork server of this process, which ends with it."""
    return ForkServer()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


# The fork server's own side.


def _serve(connection: socket.socket) -> list[str]:
    """Fork for each request; in the fork, return the arguments of the command."""
    wake, waker = socket.socketpair()
    for end in (wake, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    statuses: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([connection, wake], [], [])
        if wake in readable:
            wake.recv(4096)
            _reap(statuses)
        if connection not in readable:
            continue
        try:
            length, (log, status), _, _ = socket.recv_fds(connection, _LENGTH.size, 2)
            request = json.loads(_exactly(connection, *_LENGTH.unpack(length)))
        except (EOFError, ValueError):
            os._exit(0)  # the tests have ended
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (wake, waker, connection):
                end.close()
            for descriptor in (status, *statuses.values()):
                os.close(descriptor)
            return _become(request, log)
        os.close(log)
        statuses[pid] = status
        connection.sendall(_LENGTH.pack(pid))


def _reap(statuses: dict[int, int]) -> None:
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        descriptor = statuses.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nothing reads it
            os.write(descriptor, _STATUS.pack(status))
        os.close(descriptor)


def _become(request: tuple[list[str], dict[str, str], str], log: int) -> list[str]:
    arguments, environment, folder = request
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    return arguments


def _main() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections in the forks leave the shared pages alone
    arguments = _serve(socket.socket(fileno=int(sys.argv[1])))
    gc.unfreeze()
    from chat_api.cli import main

    main(arguments, prog_name="samosachaat")


if __name__ == "__main__":
    _main()
