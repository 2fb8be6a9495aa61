"""The clients that people copy, shown against a replica that is killed while they read.

The TypeScript client is the page's own.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.auth import AuthServer
from tests.support.balancer import Balancer
from tests.support.client import MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script, words
from tests.support.service import StartService

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"


@pytest.fixture(scope="module")
def typescript() -> list[str]:
    """The command that runs the TypeScript example, type-checked and compiled."""
    compiler = WEB / "node_modules" / "typescript" / "bin" / "tsc"
    assert compiler.exists(), "run `make setup`, which installs the TypeScript compiler"
    subprocess.run(["node", str(compiler), "-p", str(WEB)], check=True, timeout=120)
    compiled = WEB / "node_modules" / ".examples" / "client.js"
    return ["node", str(HERE / "run.mjs"), str(compiled)]


@pytest.fixture
def python() -> list[str]:
    return [sys.executable, str(HERE / "run.py")]


def test_the_typescript_client_is_the_one_of_the_page() -> None:
    copied = HERE.parents[1] / "examples" / "client.ts"
    assert copied.read_bytes() == (WEB / "src" / "stream.ts").read_bytes(), (
        "examples/client.ts is a copy of web/src/stream.ts: copy it again"
    )


@pytest.mark.parametrize("language", ["python", "typescript"])
@pytest.mark.slow
async def test_a_client_shows_every_token_once_though_its_replica_dies(
    language: str,
    request: pytest.FixtureRequest,
    start_service: StartService,
    fresh_database_url: str,
    auth: AuthServer,
    inference: Inference,
    clients: MakeClient,
) -> None:
    command: list[str] = request.getfixturevalue(language)
    killed = Gate("the replica has been killed")
    # The first attempt gets half of it; the second gets all.
    inference.once(Script().tokens(*words(10)).wait(killed).hang())
    inference.default = Script().tokens(*words(20)).done()
    env = {"DATABASE_URL": fresh_database_url, "LEASE_SECONDS": "2"}
    first, second = start_service(env), start_service(env)
    account = auth.user()
    conversation = await clients(second, account).create()
    shown: list[str] = []
    async with Balancer([first.port, second.port]) as balancer:
        process = await asyncio.create_subprocess_exec(
            *command,
            balancer.url,
            account.token,
            conversation["id"],
            "Count",
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            async for line in process.stdout:
                text = json.loads(line).get("text")
                if text is not None:
                    shown.append(text)
                if text == "".join(words(10)) and not killed.is_open:
                    first.kill()
                    killed.open()
            assert await process.wait() == 0
    whole = "".join(words(20))
    assert shown[-1] == whole
    assert all(whole.startswith(text) for text in shown), "a token was shown twice or missed"
    assert shown.count("") == 1, "the text begins again exactly once"
    messages = await clients(second, account).messages(conversation["id"])
    assert [(m["content"], m["status"]) for m in messages] == [
        ("Count", "complete"),
        (whole, "complete"),
    ]
