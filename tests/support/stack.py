"""The local stack: `samosachaat up` in a folder of its own, on free ports."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import eventually_sync

START_SECONDS = 90.0


@dataclass
class Stack:
    process: subprocess.Popen[str]
    folder: Path
    output: Path
    ports: list[int]

    @property
    def said(self) -> str:
        return self.output.read_text()

    def lines(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.said, re.MULTILINE)

    def paste(self) -> str:
        """Run the lines that it has printed for that; what they print."""
        pasted = "\n".join(self.lines(r"^(?:TOKEN=|ID=|curl ).*$"))
        return subprocess.run(
            ["sh", "-c", pasted], capture_output=True, text=True, timeout=60, check=True
        ).stdout


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[Stack]:
    """`command up` in a folder, until it has printed what to paste; ended afterwards."""
    output = folder / "output"
    ports = free_ports(4)
    names = ("LOCAL_INFERENCE_PORT", "LOCAL_AUTH_PORT", "LOCAL_API_PORT", "LOCAL_PAGE_PORT")
    with output.open("w") as out:
        process = subprocess.Popen(
            [*command, "up"],
            cwd=folder,
            env=os.environ | dict(zip(names, map(str, ports), strict=True)),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    running = Stack(process, folder, output, ports)
    try:
        eventually_sync(
            lambda: running.lines(r"^curl ") or process.poll() is not None, timeout=START_SECONDS
        )
        assert process.poll() is None, running.said
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
