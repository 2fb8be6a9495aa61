"""The example page, as people copy it, in a document without a browser."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.support.client import Client
from tests.support.inference import Inference, Script

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "examples" / "use-chat.tsx"


async def shown(client: Client, release: str, chat: str, *texts: str) -> list[Any]:
    assert client.account is not None
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "page.mjs"),
        str(PAGE),
        str(ROOT / "web" / "package.json"),
        release,
        client.url,
        client.account.token,
        chat,
        *texts,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    paragraphs: list[Any] = json.loads(out)
    return paragraphs


@pytest.mark.parametrize("release", ["2", "3", "4"])
async def test_the_example_page_shows_a_conversation_also_after_a_reload(
    alice: Client, inference: Inference, release: str
) -> None:
    assert len(PAGE.read_text().splitlines()) <= 45
    inference.default = Script().tokens("An ", "answer.").done()
    chat = uuid.uuid4().hex
    said = [["user", "One"], ["assistant", "An answer."], ["user", "Two"]]
    said.append(["assistant", "An answer."])
    assert await shown(alice, release, chat, "One", "Two") == said
    assert await shown(alice, release, chat) == said
