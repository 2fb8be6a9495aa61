"""An answer whose replica dies goes on where it was, if its engine can."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.gates import Gate
from tests.support.known import Follower, follow
from tests.support.openai_engine import ChatScript, OpenAIEngineServer
from tests.support.waiting import eventually


def known(*numbers: int) -> list[str]:
    """Tokens that show what is missing, doubled or out of order (tests.support.known)."""
    return [f"<aaaaaa:{number}>" for number in numbers]


FIRST = known(*range(6))
REST = known(*range(6, 11))
WHOLE = "".join((*FIRST, *REST))


@pytest.fixture
def engine() -> Iterator[OpenAIEngineServer]:
    with OpenAIEngineServer() as server:
        server.lists("small", owned_by="vllm")
        yield server


def settings(engine: OpenAIEngineServer) -> dict[str, str]:
    return {"INFERENCE_API": "openai", "INFERENCE_SERVICE_URL": engine.url}


async def logged(pair: Pair, text: str) -> None:
    """Wait until the log has this text."""

    async def there() -> bool:
        return bool(
            await pair.db.value("SELECT bool_or(events LIKE '%' || $1 || '%') FROM event_log", text)
        )

    await eventually(there)


@pytest.mark.case(25, 65)
async def test_a_killed_replica_s_answer_goes_on_without_a_reset(
    start_pair: StartPair, engine: OpenAIEngineServer
) -> None:
    pair = await start_pair(**settings(engine))
    gate = Gate()
    engine.once(
        ChatScript().tokens(*FIRST).hang(),
        ChatScript().tokens(*REST).wait(gate).finish().usage().done(),
    )
    conversation = await pair.here.create()
    broken = Follower()
    async with (
        pair.here.send(conversation["id"], "Tell", max_tokens=100) as sender,
        pair.there.join(conversation["id"]) as reader,
    ):
        await sender.until_text(FIRST[-1])
        await reader.until_text(FIRST[-1])
        for event in sender.events:
            broken.take(event)
        await logged(pair, FIRST[-2])
        pair.services[0].kill()
        await reader.until_text(REST[-1])
        async with pair.there.join(conversation["id"]) as late:
            await late.until_text(REST[-1])
            assert [event.kind for event in late.events] == ["start", *["token"] * 11]
        gate.open()
        await reader.rest()
        assert [event.kind for event in reader.events] == ["start", *["token"] * 11, "done"]
        assert reader.text == WHOLE
        assert reader.done["usage"] == {"input_tokens": 5, "output_tokens": 10}
    await follow(broken, conversation["id"], [pair.there])
    assert broken.text == WHOLE
    assert "reset" not in broken.kinds
    body = (await engine.call(1)).body
    assert body["messages"][-1] == {"role": "assistant", "content": "".join(FIRST)}
    assert body["max_tokens"] == 94
    [_, message] = await pair.there.messages(conversation["id"])
    assert (message["content"], message["status"], message["token_count"]) == (
        WHOLE,
        "complete",
        11,
    )


@pytest.mark.case(25, 65)
async def test_two_crashes_in_one_answer_are_two_seams(
    start_pair: StartPair, engine: OpenAIEngineServer
) -> None:
    pair = await start_pair(**settings(engine))
    engine.once(
        ChatScript().tokens(*known(0, 1)).hang(),
        ChatScript().tokens(*known(2, 3)).hang(),
        ChatScript().tokens(*known(4)).finish().done(),
    )
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Tell") as sender:
        await sender.until_text(known(1)[0])
        for event in sender.events:
            reader.take(event)
        await logged(pair, known(1)[0])
        pair.services[0].kill()
    async with pair.there.join(conversation["id"]) as other:
        await other.until_text(known(3)[0], timeout=30)
        await logged(pair, known(3)[0])
        pair.services[0].start()
        pair.services[1].kill()
    await follow(reader, conversation["id"], [pair.here])
    assert (reader.text, "reset" in reader.kinds) == ("".join(known(*range(5))), False)


@pytest.mark.case(65)
async def test_a_crash_in_what_its_user_had_continued_leaves_the_limit_as_it_was(
    start_pair: StartPair, engine: OpenAIEngineServer
) -> None:
    pair = await start_pair(**settings(engine))
    engine.once(
        ChatScript().tokens(*known(0, 1)).finish("length").done(),
        ChatScript().tokens(*known(2, 3, 4)).hang(),
        ChatScript().tokens(*known(5)).finish().done(),
    )
    conversation = await pair.here.create()
    async with pair.here.send(conversation["id"], "Tell") as stream:
        await stream.rest()
    path = f"/api/conversations/{conversation['id']}/continue"
    async with pair.here.stream("POST", path, json={"max_tokens": 7}, expect=200) as stream:
        await stream.until_text(known(4)[0])
        await logged(pair, known(4)[0])
        pair.services[0].kill()
    reader = Follower()
    await follow(reader, conversation["id"], [pair.there])
    assert (reader.text, "reset" in reader.kinds) == ("".join(known(*range(6))), False)
    assert [call.body.get("max_tokens") for call in engine.calls] == [None, 7, 4]


@pytest.mark.case(25)
async def test_a_cursor_ahead_of_the_log_gets_a_snapshot(
    start_pair: StartPair, engine: OpenAIEngineServer
) -> None:
    pair = await start_pair(**settings(engine), LOG_FLUSH_SECONDS="5")
    engine.once(ChatScript().tokens(*known(0, 1)).pause(7).tokens(*known(2, 3)).hang())
    engine.default = ChatScript().tokens(*known(2)).finish().done()
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Tell") as sender:
        await sender.until_text(known(3)[0], timeout=30)
        for event in sender.events:
            reader.take(event)
        pair.services[0].kill()
    await follow(reader, conversation["id"], [pair.there])
    assert reader.text == "".join(known(0, 1, 2))
    assert "snapshot" in reader.kinds
    assert "reset" not in reader.kinds


@pytest.mark.case(25)
@pytest.mark.parametrize("how", ["refuses", "cannot", "reasoning", "blank", "half a character"])
async def test_what_cannot_be_continued_is_written_again(
    start_pair: StartPair, engine: OpenAIEngineServer, how: str
) -> None:
    if how == "cannot":
        engine.lists("small", owned_by="library")
    pair = await start_pair(**settings(engine))
    first = {
        "reasoning": ChatScript().reasoning("Hm.").tokens(*known(0)),
        "blank": ChatScript().tokens(" " * 9),
        "half a character": ChatScript().tokens("<aaaaaa:0>\ufffd"),
    }.get(how, ChatScript().tokens(*known(0)))
    engine.once(first.hang())
    if how == "refuses":
        engine.once(ChatScript().error(400, message="continue_final_message?"))
    engine.default = ChatScript().tokens("<bbbbbb:0>").finish().done()
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Tell") as sender:
        await sender.until("token")
        for event in sender.events:
            reader.take(event)
        await logged(pair, "token")
        pair.services[0].kill()
    await follow(reader, conversation["id"], [pair.there])
    assert reader.text == "<bbbbbb:0>"
    assert "reset" in reader.kinds
    assert [call.body["messages"][-1]["role"] for call in engine.calls] == (
        ["user", "assistant", "user"] if how == "refuses" else ["user", "user"]
    )


@pytest.mark.case(29)
async def test_an_answer_handed_over_at_a_deploy_goes_on(
    start_pair: StartPair, engine: OpenAIEngineServer
) -> None:
    pair = await start_pair(**settings(engine), DRAIN_SECONDS="4")
    engine.once(
        ChatScript().tokens(*known(0, 1)).hang(), ChatScript().tokens(*known(2)).finish().done()
    )
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Tell") as sender:
        await sender.until_text(known(1)[0])
        for event in sender.events:
            reader.take(event)
        assert await asyncio.to_thread(pair.services[0].stop) == 0
    await follow(reader, conversation["id"], [pair.there])
    assert (reader.text, "reset" in reader.kinds) == ("".join(known(0, 1, 2)), False)


@pytest.mark.case(65)
async def test_a_fallback_s_answer_goes_on_with_the_fallback(
    start_pair: StartPair, engine: OpenAIEngineServer, tmp_path: Path
) -> None:
    with OpenAIEngineServer() as first:
        first.default = ChatScript().status(500)
        path = tmp_path / "engines.toml"
        path.write_text(
            f'[[engine]]\nname = "first"\nurl = "{first.url}"\nfallback = ["second/small"]\n'
            f'[[engine]]\nname = "second"\nurl = "{engine.url}"\n'
        )
        pair = await start_pair(ENGINES_FILE=str(path))
        engine.once(
            ChatScript().tokens(*known(0, 1)).hang(), ChatScript().tokens(*known(2)).finish().done()
        )
        conversation = await pair.here.create()
        reader = Follower()
        async with pair.here.send(conversation["id"], "Tell", model_tag="first/small") as sender:
            await sender.until_text(known(1)[0])
            for event in sender.events:
                reader.take(event)
            await logged(pair, known(1)[0])
            first.default = ChatScript().tokens("<bbbbbb:2>").finish().done()
            pair.services[0].kill()
        await follow(reader, conversation["id"], [pair.there])
    assert (reader.text, "reset" in reader.kinds) == ("".join(known(0, 1, 2)), False)
    assert reader.done is not None
    assert reader.done["model_tag"] == "second/small"
