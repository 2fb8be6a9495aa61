"""The commands of docs/clients.md, run by curl as they stand there."""

import asyncio
import os
import re
import shutil
from pathlib import Path

from tests.support.client import Client
from tests.support.inference import PLAIN_TEXT, Inference

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


async def test_the_commands_of_the_document_do_what_it_says(
    alice: Client, inference: Inference, tmp_path: Path
) -> None:
    assert shutil.which("curl"), "apt-get install curl"
    assert alice.account is not None
    blocks = BLOCK.findall(DOCUMENT.read_text())
    # As if the connection had been lost after the first token: `retry`, `start`, `token`.
    blocks[1] = "sed 8q answer.txt > cut.txt; mv cut.txt answer.txt\n" + blocks[1]
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-eu",
        "-c",
        "\necho ---\n".join(blocks),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "URL": alice.url, "TOKEN": alice.account.token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    native, rest, response, background, chat = out.decode().split("---\n")
    assert native.count('"token":') == 4
    assert native.endswith(rest.removeprefix("retry: 1000\n\n"))
    assert rest.count('"token":') == 3
    assert response.count("event: response.output_text.delta") == 4
    assert "event: response.completed" in response
    first, _, cancelled = background.partition("event: response.completed")
    assert '"sequence_number": 4,' in first
    assert '"sequence_number": 3,' not in first
    assert PLAIN_TEXT in cancelled
    assert chat.endswith("data: [DONE]\n\n")
    assert [call.contents for call in inference.calls] == [
        ["Tell me about samosas."],
        ["Tell me about samosas."],
        ["Tell me about samosas.", PLAIN_TEXT, "And chutney?"],
        ["Count to a thousand."],
        ["Tell me about samosas."],
    ]
