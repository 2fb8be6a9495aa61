"""The script with OpenAI's client, whose server is killed while it reads."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script, words
from tests.support.service import StartService

EXAMPLE = Path(__file__).parents[2] / "examples" / "openai_background.py"


@pytest.mark.slow
async def test_the_script_shows_every_token_once_though_its_server_dies(
    start_service: StartService,
    fresh_database_url: str,
    auth: AuthServer,
    inference: Inference,
) -> None:
    gate = Gate()
    inference.once(Script().tokens(*words(10)).hang())
    inference.default = Script().wait(gate).tokens("never").done()
    service = start_service({"DATABASE_URL": fresh_database_url, "LEASE_SECONDS": "2"})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        service.url,
        auth.user().token,
        "Count",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    shown = b""
    async with asyncio.timeout(90):
        while shown != "".join(words(10)).encode():
            piece = await process.stdout.read(1000)
            assert piece, "it has ended"
            shown += piece
        service.kill()
        service.start()
        # The engine cannot go on: the answer ends as incomplete, and no text comes again.
        assert await process.stdout.read() == b"\n"
        assert await process.wait() == 0
    assert len(inference.calls) == 1
