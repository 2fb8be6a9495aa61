"""The OpenAI Agents SDK and LangChain against the service, unchanged."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support.client import Client
from tests.support.inference import PLAIN_TEXT, Inference

HERE = Path(__file__).parent
# They cannot share the service's packages; `make test` fills it.
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"


async def run(script: str, client: Client) -> Any:
    assert PYTHON.exists(), "run `make test` once, which installs the clients"
    assert client.account is not None
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        str(HERE / "clients" / script),
        client.url,
        client.account.token,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@pytest.mark.case(76)
async def test_the_agents_sdk_runs_streams_and_remembers(
    alice: Client, inference: Inference
) -> None:
    said = await run("agents_sdk.py", alice)
    for name in ("run", "history", "chained", "settings", "streamed", "popped"):
        assert said[name] == PLAIN_TEXT, name
    assert "".join(said["deltas"]) == PLAIN_TEXT
    assert said["conversation"] == ["Six", PLAIN_TEXT, "Seven", PLAIN_TEXT]
    assert said["session"] == ["Eight", PLAIN_TEXT, "Nine", PLAIN_TEXT, "Ten", PLAIN_TEXT]
    assert said["rest"] == 5
    assert [call.contents for call in inference.calls] == [
        ["Be brief.\n\nOne"],
        ["Be brief.\n\nOne", PLAIN_TEXT, "Two"],
        ["Be brief.\n\nOne", PLAIN_TEXT, "Three"],
        ["Four"],
        ["Be brief.\n\nFive"],
        ["Be brief.\n\nSix"],
        ["Be brief.\n\nSix", PLAIN_TEXT, "Seven"],
        ["Be brief.\n\nEight"],
        ["Be brief.\n\nEight", PLAIN_TEXT, "Nine"],
        ["Be brief.\n\nEight", PLAIN_TEXT, "Nine", PLAIN_TEXT, "Ten"],
    ]
    messages = await alice.messages(str(UUID(said["session_id"].removeprefix("conv_"))))
    assert {message["versions"] for message in messages} == {1}
    cleared = str(UUID(said["cleared_id"].removeprefix("conv_")))
    assert (await alice.get(f"/api/conversations/{cleared}")).status_code == 404


async def test_langchain_invokes_streams_and_remembers(alice: Client, inference: Inference) -> None:
    said = await run("langchain_openai_chat.py", alice)
    for name in ("invoke", "history", "other_history", "chained", "after_stream", "remembered"):
        assert said[name] == PLAIN_TEXT, name
    assert "".join(said["stream"]) == PLAIN_TEXT
    assert said["usage"]["output_tokens"] == 4
    assert [block["text"] for block in said["v1"]] == [PLAIN_TEXT]
    thinking = "Think step by step before you answer.\n\nSix"
    assert [call.contents for call in inference.calls] == [
        ["Be brief.\n\nOne"],
        ["One", PLAIN_TEXT, "Two"],
        ["One", PLAIN_TEXT, "Two"],
        ["One", PLAIN_TEXT, "Three"],
        ["Four"],
        ["Four", PLAIN_TEXT, "Five"],
        [thinking],
        [thinking, PLAIN_TEXT, "Seven"],
        ["Eight"],
    ]
