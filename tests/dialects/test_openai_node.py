"""OpenAI's own client for Node against the service, unchanged."""

import asyncio
import json
from pathlib import Path

from tests.support.client import Client
from tests.support.inference import PLAIN_TEXT, Inference

HERE = Path(__file__).parent


async def test_the_client_for_node_streams_and_resumes(alice: Client, inference: Inference) -> None:
    assert alice.account is not None
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "openai.mjs"),
        alice.url,
        alice.account.token,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    said = json.loads(out)
    assert said["rest"] == said["whole"][5:]
    assert [event["sequence_number"] for event in said["whole"]] == list(range(len(said["whole"])))
    assert said["whole"][-1]["response"]["output"][0]["content"][0]["text"] == PLAIN_TEXT
    assert (said["final"], said["missing"]) == (PLAIN_TEXT, "not_found")
