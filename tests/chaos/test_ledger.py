"""Every way in which an answer ends is in the ledger exactly once."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.chaos.test_continuing import known, logged
from tests.support.gates import Gate
from tests.support.known import Follower, follow
from tests.support.openai_engine import ChatScript, OpenAIEngineServer

Row = tuple[str, str, int, int, int, int]
"""Model, status, answers, tokens read and written, answers whose tokens are estimated."""
TOLD = {"prompt_tokens": 10, "completion_tokens": 4}


class Engines:
    """The first engine, and the one that answers where that one fails."""

    def __init__(self) -> None:
        self.first = OpenAIEngineServer()
        self.second = OpenAIEngineServer()

    def reset(self) -> None:
        """Forget scripts that no call has played."""
        for server in (self.first, self.second):
            server.reset()
            server.lists("m", "n", owned_by="vllm")

    def write(self, path: Path) -> str:
        path.write_text(
            f'[[engine]]\nname = "first"\nurl = "{self.first.url}"\nmodels = ["m"]\n'
            f'fallback = ["second/n"]\n'
            f'[[engine]]\nname = "second"\nurl = "{self.second.url}"\nmodels = ["n"]\n'
        )
        return str(path)


@pytest.fixture
def engines() -> Iterator[Engines]:
    made = Engines()
    with made.first, made.second:
        yield made


def tokens(count: int) -> ChatScript:
    return ChatScript().tokens(*(f"<{number}>" for number in range(count)))


async def asked(pair: Pair, engines: Engines, *scripts: ChatScript) -> str:
    """Send a message whose answer ends by itself; return its conversation."""
    engines.first.once(*scripts)
    conversation = (await pair.here.create())["id"]
    await pair.here.ask_raw(conversation, {"content": "Go", "model_tag": "first/m"})
    return str(conversation)


async def complete(pair: Pair, engines: Engines) -> None:
    await asked(pair, engines, tokens(3).finish().usage(TOLD).done())


async def without_usage(pair: Pair, engines: Engines) -> None:
    await asked(pair, engines, tokens(3).finish().done())


async def interrupted(pair: Pair, engines: Engines) -> None:
    await asked(pair, engines, tokens(2).cut())


async def failed(pair: Pair, engines: Engines) -> None:
    engines.second.once(ChatScript().error(400))
    await asked(pair, engines, ChatScript().error(400))


async def by_a_fallback(pair: Pair, engines: Engines) -> None:
    engines.second.once(tokens(3).finish().usage(TOLD).done())
    await asked(pair, engines, ChatScript().error(500), ChatScript().error(500))


async def regenerated(pair: Pair, engines: Engines) -> None:
    conversation = await asked(pair, engines, tokens(3).finish().usage(TOLD).done())
    engines.first.once(tokens(2).finish().usage(TOLD).done())
    async with pair.there.regenerate(conversation, model_tag="first/m") as stream:
        await stream.rest()


async def stopped_and_continued(pair: Pair, engines: Engines) -> None:
    engines.first.once(tokens(2).hang())
    conversation = (await pair.here.create())["id"]
    async with pair.here.send(conversation, "Go", model_tag="first/m") as stream:
        await stream.until_text("<1>")
        for client in pair.clients:
            await client.post(f"/api/conversations/{conversation}/stop")
        await stream.rest()
    engines.first.once(tokens(4).finish().done())
    url = f"/api/conversations/{conversation}/continue"
    response = await pair.there.post(url, json={}, headers={"accept": "application/json"})
    assert response.status_code == 200, response.text


async def deleted_in_the_middle(pair: Pair, engines: Engines) -> None:
    engines.first.once(tokens(5).hang())
    conversation = (await pair.here.create())["id"]
    async with pair.here.send(conversation, "Go", model_tag="first/m") as stream:
        await stream.until_text("<4>")
        await logged(pair, "<4>")
        assert (await pair.there.delete(f"/api/conversations/{conversation}")).status_code == 204


async def crashed(pair: Pair, engines: Engines) -> None:
    gate = Gate()
    engines.first.once(
        ChatScript().tokens(*known(0, 1)).hang(),
        ChatScript().tokens(*known(2, 3)).wait(gate).finish().done(),
    )
    conversation = (await pair.here.create())["id"]
    reader = Follower()
    async with pair.here.send(conversation, "Go", model_tag="first/m") as stream:
        await stream.until_text(known(1)[0])
        for event in stream.events:
            reader.take(event)
        await logged(pair, known(1)[0])
        pair.services[0].kill()
    gate.open()
    await follow(reader, conversation, [pair.there])


OUTCOMES: dict[str, tuple[Callable[[Pair, Engines], Awaitable[None]], list[Row]]] = {
    "complete": (complete, [("first/m", "complete", 1, 10, 4, 0)]),
    "complete, the engine tells no usage": (without_usage, [("first/m", "complete", 1, 0, 3, 1)]),
    "interrupted": (interrupted, [("first/m", "interrupted", 1, 0, 2, 1)]),
    "failed": (failed, [("first/m", "failed", 1, 0, 0, 0)]),
    "by a fallback": (by_a_fallback, [("second/n", "complete", 1, 10, 4, 0)]),
    "regenerated": (regenerated, [("first/m", "complete", 2, 20, 8, 0)]),
    "stopped twice, continued": (
        stopped_and_continued,
        [("first/m", "complete", 1, 0, 4, 1), ("first/m", "stopped", 1, 0, 2, 1)],
    ),
    "deleted on another replica": (deleted_in_the_middle, [("first/m", "stopped", 1, 0, 5, 1)]),
    "taken over after a crash": (crashed, [("first/m", "complete", 1, 0, 4, 1)]),
}


@pytest.mark.case(72)
async def test_each_outcome_is_in_the_ledger_once(
    start_pair: StartPair, engines: Engines, tmp_path: Path
) -> None:
    """The outcomes one after another on one pair of replicas; the crash comes last."""
    pair = await start_pair(ENGINES_FILE=engines.write(tmp_path / "engines.toml"))
    found: dict[str, list[Row]] = {}
    for name, (happen, _) in OUTCOMES.items():
        engines.reset()
        await happen(pair, engines)
        rows: list[Any] = await pair.db.fetch(
            "DELETE FROM usage_ledger RETURNING model_tag, status, answers, input_tokens, "
            "output_tokens, estimated"
        )
        found[name] = sorted(tuple(row.values()) for row in rows)
    assert found == {name: expected for name, (_, expected) in OUTCOMES.items()}
    assert await pair.db.value("SELECT count(*) FROM generations WHERE ended_at IS NULL") == 0
