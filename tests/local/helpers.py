"""Processes, ports and services of the local stack, for its tests."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.support.ports import free_ports
from tests.support.waiting import eventually_sync

from chat_api.local.process import KeptProcess

INTERNAL_KEY = "internal-key-of-the-local-tests"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root")


def running_in(folder: Path) -> list[psutil.Process]:
    """The living processes that work inside the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def script(text: str, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """A Python process running `text`, with its standard output to read; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def service(
    module: str, env: Mapping[str, str], health: str = "/health"
) -> Iterator[httpx2.Client]:
    """A client of the service of that module, once it is healthy."""
    [port] = free_ports(1)
    process = KeptProcess(
        [sys.executable, "-m", module, "--port", str(port)],
        env={**os.environ, "INTERNAL_API_KEY": INTERNAL_KEY, **env},
        errors=None,
        stop_steps=((signal.SIGTERM, 10.0),),
    )
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        def is_healthy() -> bool:
            assert process.poll() is None, "the service has ended"
            try:
                return client.get(health).status_code == 200
            except httpx2.TransportError:
                return False

        try:
            eventually_sync(is_healthy, 60, what="a healthy service")
            yield client
        finally:
            process.stop()
