"""`@ai-sdk/openai`, the AI SDK's provider, against the service, unchanged."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.support.client import Client
from tests.support.inference import Inference, Script

HERE = Path(__file__).parent


@pytest.mark.parametrize("release", ["2", "3", "4"])
async def test_the_provider_asks_streams_and_remembers(
    alice: Client, inference: Inference, release: str
) -> None:
    answered = Script().tokens("Hi", ".").done()
    thinking = Script().event({"reasoning": "Hm."}).tokens("On", "e").done()
    cut, failing = Script().tokens("Half").cut(), Script().status(500)
    inference.once(answered, answered, answered, answered, thinking, answered, cut, failing)
    assert alice.account is not None
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "ai_openai.mjs"),
        release,
        alice.url,
        alice.account.token,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    said = json.loads(out)
    assert said["said"] == ["Hi."] * 5
    assert (said["thoughts"], said["deltas"]) == (["Hm."], ["On", "e"])
    assert (said["finish"], said["usage"]) == ("stop", 2)
    # Release 2 does not know `response.failed`.
    assert said["ended"] == {"cut": False, "text": "Half", "failed": release != "2"}
    assert [call.contents for call in inference.calls[:6]] == [
        ["Be brief.\n\nOne"],
        ["One", "Hi.", "Two"],
        ["One", "Hi.", "Three"],
        ["Be kind.\n\nFour"],
        ["Five"],
        ["Five", "One", "Six"],
    ]
