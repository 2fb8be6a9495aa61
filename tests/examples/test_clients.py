"""The clients that people copy, the page's own among them.

Shown against a replica that is killed while they read.
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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the page's client, which stands alone: it is compiled by itself."""
    compiler = WEB / "node_modules" / "typescript" / "bin" / "tsc"
    folder = tmp_path_factory.mktemp("page")
    (folder / "package.json").write_text('{"type": "module"}')
    options = "--strict --target ES2022 --module ES2022 --lib ES2022,DOM,DOM.AsyncIterable"
    command = ["node", str(compiler), str(WEB / "src" / "stream.ts"), *options.split()]
    subprocess.run([*command, "--outDir", str(folder)], check=True, timeout=120)
    return ["node", str(HERE / "run_page.mjs"), str(folder / "stream.js")]


@pytest.fixture
def python() -> list[str]:
    return [sys.executable, str(HERE / "run.py")]


@pytest.mark.parametrize("language", ["python", "typescript", "page"])
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
    # The first writer gets half of it; whoever writes it again, all.
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
