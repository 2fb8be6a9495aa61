"""`useChat` of three releases of the AI SDK, unchanged, with its default transport."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.balancer import Balancer
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.service import StartService

HERE = Path(__file__).parent
RELEASES = ["2", "3", "4"]  # of @ai-sdk/react; of ai: 5, 6, 7
pytestmark = pytest.mark.parametrize("release", RELEASES)


class Page:
    """A page with `useChat`, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.shown: list[str] = []

    async def until_shown(self, text: str) -> None:
        while text not in self.shown:
            line = await self._next()
            assert line is not None, self.shown
            assert "shows" in line, line

    async def states(self) -> list[dict[str, Any]]:
        """Return what the page had at the end of each step."""
        states = []
        while (line := await self._next()) is not None:
            if "shows" not in line:
                states.append(line)
        assert await self._process.wait() == 0
        return states

    async def _next(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        # Two processes, each answer with its own round trips, on a machine that others use as well.
        async with asyncio.timeout(120):
            line = await self._process.stdout.readline()
        if not line:
            return None
        document: dict[str, Any] = json.loads(line)
        if "shows" in document:
            self.shown.append(document["shows"])
        return document


@asynccontextmanager
async def page(
    release: str, url: str, token: str, chat: str, *steps: dict[str, Any]
) -> AsyncIterator[Page]:
    assert (HERE / "node_modules").exists(), "run `make test` once, which installs the clients"
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "use_chat.mjs"),
        release,
        url,
        token,
        chat,
        json.dumps(steps),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Page(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(release: str, client: Client, chat: str, *steps: dict[str, Any]) -> list[Any]:
    assert client.account is not None
    async with page(release, client.url, client.account.token, chat, *steps) as opened:
        return await opened.states()


def contents(state: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["text"]) for message in state["messages"]]


@pytest.fixture
def chat() -> str:
    return f"{uuid.uuid4().hex}.1"


async def test_a_conversation_is_written_edited_and_written_again(
    release: str, alice: Client, inference: Inference, chat: str
) -> None:
    a, b, c, d = (f"{letter} {chat}" for letter in "ABCD")
    inference.on(a, Script().event({"reasoning": "Hm."}).tokens("One").done())
    inference.on(b, Script().tokens("Two").done(), Script().tokens("Two!").done())
    inference.on(c, Script().tokens("Edited").done(), Script().tokens("Again").done())
    states = await run(
        release,
        alice,
        chat,
        {"send": a},
        {"send": b},
        {"regenerate": None},
        {"edit": [0, c]},
        {"regenerate": 0},
    )
    assert [(state["status"], state["error"]) for state in states] == [("ready", None)] * 5
    assert contents(states[1]) == [
        ("user", a), ("assistant", "One"), ("user", b), ("assistant", "Two"),
    ]  # fmt: skip
    assert states[0]["messages"][1]["metadata"]["status"] == "complete"
    assert contents(states[2])[-1] == ("assistant", "Two!")
    assert contents(states[3]) == [("user", c), ("assistant", "Edited")]
    assert contents(states[4]) == [("user", c), ("assistant", "Again")]
    (reloaded,) = await run(release, alice, chat, {"send": d})
    assert contents(reloaded) == [
        ("user", c), ("assistant", "Again"), ("user", d), ("assistant", PLAIN_TEXT),
    ]  # fmt: skip
    assert len(inference.about(chat)) == 6


async def test_a_second_tab_reads_a_running_answer_and_stops_it(
    release: str, alice: Client, inference: Inference, chat: str
) -> None:
    gate = Gate("stopped")
    inference.once(Script().tokens(*words(5)).wait(gate).done())
    assert alice.account is not None
    so_far = "".join(words(5))
    who = (release, alice.url, alice.account.token, chat)
    async with page(*who, {"send": "A"}) as first:
        await first.until_shown(so_far)
        async with page(*who, {"resume": None}) as second:
            await second.until_shown(so_far)
            await alice.request("POST", f"/api/chat/{chat}/stop")
            states = [(await first.states())[0], (await second.states())[0]]
    for state in states:
        assert contents(state) == [("user", "A"), ("assistant", so_far)]
        assert state["messages"][1]["metadata"]["status"] == "stopped"
        assert state["error"] is None
    assert states[0]["messages"][1]["id"] == states[1]["messages"][1]["id"]


async def test_a_failure_is_shown_and_the_message_is_answered_again(
    release: str, alice: Client, inference: Inference, chat: str
) -> None:
    inference.once(Script().tokens("Half").cut())
    failed, answered = await run(release, alice, chat, {"send": "A"}, {"again": None})
    assert failed["status"] == "error"
    assert "answer" in failed["error"]
    assert contents(failed) == [("user", "A"), ("assistant", "Half")]
    assert answered["status"] in {"ready", "error"}
    assert answered["messages"][0]["text"] == "A"


@pytest.mark.slow
async def test_a_crash_is_an_error_and_never_a_shorter_answer(
    release: str,
    start_service: StartService,
    fresh_database_url: str,
    auth: AuthServer,
    inference: Inference,
    chat: str,
) -> None:
    killed = Gate("the replica has been killed")
    inference.once(Script().tokens(*words(5)).wait(killed).hang())
    inference.default = Script().tokens(*words(8)).done()
    env = {"DATABASE_URL": fresh_database_url, "LEASE_SECONDS": "2"}
    first, second = start_service(env), start_service(env)
    token = auth.user().token
    async with Balancer([first.port, second.port]) as balancer:
        async with page(release, balancer.url, token, chat, {"send": "A"}) as broken:
            await broken.until_shown("".join(words(5)))
            first.kill()
            killed.open()
            (state,) = await broken.states()
        assert state["status"] == "error"
        # A page that joins before that would see the first attempt's text, and an error again.
        await inference.call(1)
        async with page(release, second.url, token, chat, {"resume": None}) as reloaded:
            (state,) = await reloaded.states()
    assert contents(state) == [("user", "A"), ("assistant", "".join(words(8)))]
    assert state["error"] is None
