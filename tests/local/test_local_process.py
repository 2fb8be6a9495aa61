"""A kept process: it ends when told, as told, and never outlives who started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.local.helpers import is_alive, script
from tests.support.waiting import eventually_sync

from chat_api.local.process import KeptProcess

_DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
here = pathlib.Path(sys.argv[1])
here.with_suffix(".new").write_text(f"{child.pid}")
here.with_suffix(".new").rename(here)
time.sleep(600)
"""

_PARENT = """
import signal, sys, time
from chat_api.local.process import KeptProcess
kept = KeptProcess(
    [sys.executable, "-c", sys.argv[1], sys.argv[2]], env={}, stop_steps=((signal.SIGTERM, 0.1),)
)
print(kept._keeper.pid, flush=True)
time.sleep(600)
"""


def kept(text: str, *arguments: str, steps: tuple[tuple[int, float], ...] = ()) -> KeptProcess:
    return KeptProcess(
        [sys.executable, "-c", text, *arguments],
        env=os.environ,
        stop_steps=steps,
    )


def written(path: Path) -> int:
    eventually_sync(path.exists, 20, what=f"{path.name}")
    return int(path.read_text())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import sys; sys.exit(0)", 0),
        ("import sys; sys.exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_its_exit_code_is_the_programs(text: str, code: int) -> None:
    process = kept(text)
    assert process.wait(20) == code
    assert process.poll() == code
    assert process.stop() == code


def test_a_program_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = KeptProcess(["/no/such/program"], env={}, output=log)
    assert process.wait(20) == 127
    assert "/no/such/program cannot be run: No such file" in (tmp_path / "log").read_text()


def test_stopping_it_sends_the_signal_that_was_agreed_on() -> None:
    process = kept("import time; time.sleep(600)", steps=((signal.SIGUSR1, 60.0),))
    assert process.poll() is None
    assert process.stop() == 128 + signal.SIGUSR1


def test_a_program_that_does_not_listen_is_killed_with_its_children(tmp_path: Path) -> None:
    process = kept(_DEAF, str(tmp_path / "pid"), steps=((signal.SIGTERM, 0.1),))
    child = written(tmp_path / "pid")
    assert process.stop() == 128 + signal.SIGKILL
    eventually_sync(lambda: not is_alive(child), 20, what="the end of the child")


def test_hurrying_skips_the_rest_of_a_step(tmp_path: Path) -> None:
    process = kept(_DEAF, str(tmp_path / "pid"), steps=((signal.SIGTERM, 3600.0),))
    written(tmp_path / "pid")
    process.begin_stop()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)

    def has_ended() -> bool:
        process.hurry()
        return process.poll() is not None

    eventually_sync(has_ended, 20, what="the end of the program")


def test_it_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    with script(_PARENT, _DEAF, tmp_path / "pid") as parent:
        assert parent.stdout is not None
        keeper = int(parent.stdout.readline())
        child = written(tmp_path / "pid")
        assert is_alive(child)
        parent.kill()
        eventually_sync(lambda: not is_alive(child), 20, what="the end of the program")
        eventually_sync(lambda: not is_alive(keeper), 20, what="the end of its keeper")


def test_no_signal_of_the_terminal_reaches_it() -> None:
    process = kept("import time; time.sleep(600)", steps=((signal.SIGTERM, 5.0),))
    assert os.getsid(process._keeper.pid) != os.getsid(0)
    assert process.stop() == 128 + signal.SIGTERM
