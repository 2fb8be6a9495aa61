"""SIGTERM, SIGINT and SIGHUP, with and without workers, once and twice."""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import COMMAND, Service, StartService
from tests.support.waiting import eventually, eventually_sync

ONE_OR_TWO = pytest.mark.parametrize("workers", [None, 2], ids=["one process", "two workers"])


def logged(service: Service, event: str) -> int:
    """How many log lines have this event."""
    return sum(line["event"] == event for line in service.logs())


@pytest.mark.case(58)
@ONE_OR_TWO
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGTERM, signal.SIGTERM],
        [signal.SIGINT, signal.SIGINT],
        [signal.SIGHUP, signal.SIGTERM, signal.SIGINT],
    ],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_a_signal_ends_it_in_order_also_when_it_comes_twice(
    start_service: StartService, numbers: list[signal.Signals], workers: int | None
) -> None:
    service = start_service(workers=workers)
    for number in numbers:
        os.kill(service.pid, number)
    assert service.wait() == 0
    assert service.stray_lines() == []


@pytest.mark.case(58)
async def test_signals_during_the_whole_end_leave_it_orderly(start_service: StartService) -> None:
    """Also those that come while the interpreter itself shuts down."""
    service = start_service()
    while service.running:
        service.terminate()
        await asyncio.sleep(0.005)
    assert service.wait() == 0
    assert service.stray_lines() == []


@pytest.mark.case(58)
async def test_a_hang_up_of_one_process_disturbs_no_stream(
    start_service: StartService, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = start_service()
    client = clients(service, auth.user())
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    conversation = await client.create()
    async with client.send(conversation["id"], "Hello") as stream:
        await stream.until("token")
        os.kill(service.pid, signal.SIGHUP)
        await eventually(lambda: logged(service, "reloaded") == 1)
        os.kill(service.pid, signal.SIGHUP)
        await eventually(lambda: logged(service, "reloaded") == 2)
        gate.open()
        await stream.rest()
        assert (stream.text, stream.done["status"]) == ("ab", "complete")
    assert await asyncio.to_thread(service.stop) == 0
    assert service.stray_lines() == []


@pytest.mark.case(58)
def test_a_hang_up_replaces_workers_one_by_one(start_service: StartService) -> None:
    """Also where every process gets it, as from a terminal that closes."""
    service = start_service(workers=2)

    def workers() -> list[int]:
        started = [re.search(r"Started server process \[(\d+)\]", line) for line in lines()]
        return [int(found[1]) for found in started if found is not None]

    def lines() -> list[str]:
        return [str(line["event"]) for line in service.logs()]

    eventually_sync(lambda: logged(service, "started") == 2)
    first = workers()
    os.killpg(service.pid, signal.SIGHUP)
    eventually_sync(lambda: logged(service, "started") == 4, 40)
    eventually_sync(lambda: not any(map(psutil.pid_exists, first)), 40)
    service.wait_ready()
    assert logged(service, "reloaded") == 2
    assert [line for line in lines() if "died" in line] == []
    assert service.stop() == 0
    assert service.stray_lines() == []


@pytest.mark.case(58)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_imports_is_handled(number: signal.Signals, tmp_path: Path) -> None:
    """A module that signals when it is imported stands in for the first of the slow ones."""
    (tmp_path / "uvicorn.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    started = subprocess.run(
        [*COMMAND, "serve"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    # After SIGHUP it goes on, and finds that this uvicorn is none.
    assert (started.returncode, b"Error" in started.stderr) == (
        (1, True) if number is signal.SIGHUP else (0, False)
    )
