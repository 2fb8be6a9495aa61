"""The log of a service whose stdout takes nothing."""

import asyncio
import os
from pathlib import Path

import httpx2
import pytest
from tests.support.service import COMMAND, Service

# As `sh -c` reads them: "$0" is a named pipe, "$@" the command.
STDOUTS = {
    "a pipe without a reader": 'exec 3<>"$0"; exec "$@" >"$0"',
    "a pipe whose reader has gone": 'exec 3<>"$0"; exec "$@" >"$0" 3<&-',
    "a full disk": 'exec "$@" >/dev/full',
    "closed": 'exec "$@" <&- >&-',
}


@pytest.mark.case(68)
@pytest.mark.parametrize("stdout", STDOUTS.values(), ids=STDOUTS)
async def test_a_stdout_that_takes_nothing_holds_up_no_request(
    usual_env: dict[str, str], tmp_path: Path, stdout: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    service = Service(usual_env, folder=tmp_path, command=("sh", "-c", stdout, str(pipe), *COMMAND))
    try:
        await asyncio.to_thread(service.start)
        async with httpx2.AsyncClient(base_url=service.url, trust_env=False) as client:
            for _ in range(500):  # a pipe holds 64 KB
                assert (await client.get("/nothing")).status_code == 404
            metrics = (await client.get("/metrics")).text
        assert (" 0.0" in _lost(metrics)) == (stdout == STDOUTS["closed"])
        assert await asyncio.to_thread(service.stop) == 0
        assert service.text() == ""
    finally:
        service.close()


def _lost(metrics: str) -> str:
    name = "chat_api_lost_log_lines_total "
    return next(line for line in metrics.splitlines() if line.startswith(name))
