"""The service under test: a real process, its environment, its log, its signals."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx2
import psutil
from tests.support.fork_server import Forked, bare_environment, fork_server, permits
from tests.support.waiting import eventually_sync

# The command line, as an operator has it (`samosachaat` on the path is the same).
COMMAND = (sys.executable, "-m", "chat_api.cli")

START_SECONDS = 40.0
STOP_SECONDS = 40.0

_numbers = itertools.count(1)


class ServiceDiedError(RuntimeError):
    """The process ended before it was ready; the text has its log.

    Not an AssertionError, which `eventually` would take for "not yet".
    """


class Service:
    """`samosachaat serve` on a free port.

    `env` is what it sees beside PATH and the like; None removes a variable. Everything it writes
    goes to one file.
    """

    def __init__(
        self,
        env: Mapping[str, str | None],
        *,
        folder: Path | None = None,
        workers: int | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = command
        self._claim = socket.socket()
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._claim.bind(("127.0.0.1", 0))
        self.port: int = self._claim.getsockname()[1]
        self.env = {name: value for name, value in env.items() if value is not None}
        self.folder = folder or Path(tempfile.mkdtemp(prefix="samosachaat-service-"))
        self.log = self.folder / f"service-{os.getpid()}-{next(_numbers)}.log"
        self._workers = workers
        self._process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the main process."""
        assert self._process is not None, "the service was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Is the main process there?"""
        return self._process is not None and self._process.poll() is None

    # From start to stop.

    def start(self, *, wait: bool = True) -> "Service":
        """Start it; with `wait`, return when GET /api/ready says 200."""
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(self.port)]
        if self._workers is not None:
            arguments += ["--workers", str(self._workers)]
        is_plain = self._command == COMMAND and self._workers is None
        with self.log.open("ab") as log:
            if is_plain and permits(self.env):
                self._process = fork_server().start(arguments, self.env, self.folder, log)
            else:
                self._process = subprocess.Popen(
                    [*self._command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=bare_environment() | self.env,
                    cwd=self.folder,
                    start_new_session=True,
                )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Wait for GET /api/ready to say 200."""
        self._wait_for("/api/ready", timeout)

    def wait_alive(self, timeout: float = START_SECONDS) -> None:
        """Wait for GET /api/health to say 200: it listens, ready or not."""
        self._wait_for("/api/health", timeout)

    def _wait_for(self, path: str, timeout: float) -> None:
        with httpx2.Client(trust_env=False, verify=False, timeout=5) as http:

            def answers() -> bool:
                if not self.running:
                    raise ServiceDiedError(
                        f"exit code {self.wait(0)} before {path} answered; the log:\n{self.text()}"
                    )
                try:
                    response = http.get(self.url + path)
                except httpx2.TransportError:
                    return False
                last.append(f"{response.status_code} {response.text}")
                return response.status_code == 200

            last: list[str] = ["no answer"]
            deadline = time.monotonic() + timeout
            try:
                eventually_sync(answers, deadline - time.monotonic(), what=f"200 at {path}")
            except AssertionError as error:
                raise AssertionError(f"{error}: {last[-1]}; the log:\n{self.text()}") from None

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Wait until the main process has ended; its exit code (-n: signal n)."""
        assert self._process is not None, "the service was not started"
        return self._process.wait(timeout)

    def terminate(self) -> None:
        """SIGTERM to the main process; returns at once."""
        assert self._process is not None, "the service was not started"
        self._process.terminate()

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM, and wait for the end; its exit code."""
        self.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL every process of it, at once."""
        self._signal_all(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """SIGSTOP every process of it: frozen, as a virtual machine can be."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Whatever state it is in: end it and let go of everything. Idempotent."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._claim.close()

    def processes(self) -> list[psutil.Process]:
        """The main process and all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        return []

    def _signal_all(self, number: int) -> None:
        # The service is a session and process group of its own: no other process is hit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    # What it has written.

    def text(self) -> str:
        """Everything written so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def logs(self) -> list[dict[str, Any]]:
        """The lines that are JSON objects, parsed."""
        return [line for line in map(_parsed, self.text().splitlines()) if line is not None]

    def stray_lines(self) -> list[str]:
        """The lines that are not (there should be none)."""
        return [line for line in self.text().splitlines() if line and _parsed(line) is None]


class StartService(Protocol):
    """Starts a service with these variables on top of the usual ones; None removes one."""

    def __call__(
        self,
        variables: Mapping[str, str | None] | None = None,
        /,
        *,
        workers: int | None = None,
        wait: bool = True,
        **env: str | None,
    ) -> Service: ...


class ServiceWith(Protocol):
    """Gives a service with these variables on top of the usual ones, started once a run."""

    def __call__(self, **env: str) -> Service: ...


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
