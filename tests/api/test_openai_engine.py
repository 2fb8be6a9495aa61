"""The service with engines that speak OpenAI's Chat Completions."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.events import as_an_old_client
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference
from tests.support.inference import Script as NativeScript
from tests.support.openai_engine import ChatScript, OpenAIEngineServer
from tests.support.service import Service, ServiceDiedError, ServiceWith, StartService
from tests.support.shapes import check_invalid, check_problem
from tests.support.waiting import eventually

KEY = "sk-sentinel-key-of-the-engine-77aa"
SENTINEL = "words-of-the-engine-5b1d"


@pytest.fixture(scope="module")
def engine_server() -> Iterator[OpenAIEngineServer]:
    with OpenAIEngineServer(KEY) as server:
        yield server


@pytest.fixture
def engine(engine_server: OpenAIEngineServer) -> Iterator[OpenAIEngineServer]:
    engine_server.reset()
    yield engine_server
    engine_server.drop_unfinished()
    engine_server.reset()


@pytest.fixture
def service(
    service_with: ServiceWith, auth: AuthServer, inference: Inference, engine: OpenAIEngineServer
) -> Service:
    return service_with(
        INFERENCE_API="openai",
        INFERENCE_SERVICE_URL=engine.url,
        INFERENCE_API_KEY=KEY,
        SYSTEM_PROMPT="Be brief.",
    )


@pytest.mark.case(64)
async def test_an_answer_has_everything_that_the_engine_told(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    engine.once(
        ChatScript()
        .raw(b": OPENROUTER PROCESSING\n\n")
        .reasoning("Let me", " see.")
        .tokens("Hel", "lo")
        .finish("length")
        .usage()
        .done()
    )
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hi") as stream:
        events = await stream.rest()
    assert [event.kind for event in events] == [
        "start",
        "reasoning",
        "reasoning",
        "token",
        "token",
        "done",
    ]
    assert as_an_old_client(stream.raw) == ("Hello", True)
    facts = {
        "model_tag": "small",
        "finish_reason": "length",
        "usage": {"input_tokens": 11, "output_tokens": 4},
        "status": "complete",
        "token_count": 2,
    }
    assert stream.done.items() >= facts.items()
    [question, answer] = await alice.messages(conversation["id"])
    assert answer.items() >= facts.items()
    assert (answer["content"], answer["reasoning"], answer["error"]) == (
        "Hello",
        "Let me see.",
        None,
    )
    assert (question["reasoning"], question["usage"]) == (None, None)


async def test_the_prompt_is_a_system_message_and_reasoning_is_not_sent_back(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    engine.once(ChatScript().reasoning("Secret.").tokens("One.").finish().usage().done())
    conversation = await alice.create()
    for text in ("First", "Second"):
        async with alice.send(conversation["id"], text, top_p=0.5, stop="END", top_k=5) as stream:
            await stream.rest()
    body = (await engine.call(1)).body
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second"},
    ]
    assert (body["top_p"], body["stop"], body["top_k"]) == (0.5, ["END"], 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_p", 0),
        ("top_p", 1.5),
        ("stop", []),
        ("stop", [""]),
        ("stop", ["a"] * 5),
        ("stop", "x" * 101),
        ("stop", "\0"),
        ("response_format", {}),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema", "x": "\0"}),
        ("response_format", {"type": "json_schema", "x": 2**70}),
        ("model_tag", ""),
        ("model_tag", "no-such-model"),
    ],
)
async def test_options_that_are_none_are_refused(
    alice: Client, engine: OpenAIEngineServer, field: str, value: Any
) -> None:
    conversation = await alice.create()
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/messages", json={"content": "Hi", field: value}
    )
    check_invalid(response, field)
    assert await alice.messages(conversation["id"]) == []


async def test_a_schema_may_speak_of_characters_that_cannot_be_stored(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    schema = {"type": "string", "pattern": r"^[^\u0000]*$", "x": "\\\\u0000"}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    conversation = await alice.create()
    await alice.ask(conversation["id"], "Hello", response_format=wanted)
    assert (await engine.call()).body["response_format"] == wanted


@pytest.mark.case(64)
@pytest.mark.parametrize(
    ("script", "name", "text"),
    [
        (ChatScript().error(401, message=SENTINEL), "inference_refused", ""),
        (ChatScript().error(400, message=SENTINEL), "inference_refused", ""),
        (ChatScript().error(404, code="model_not_found"), "model_not_found", ""),
        (ChatScript().error(400, code="context_length_exceeded"), "context_too_long", ""),
        (ChatScript().error(429, message=SENTINEL), "inference_overloaded", ""),
        (ChatScript().status(503, SENTINEL.encode()), "inference_unavailable", ""),
        (
            ChatScript().header(content_type="text/html").raw(b"<html>" + SENTINEL.encode()),
            "inference_protocol",
            "",
        ),
        (
            ChatScript()
            .tokens("Half")
            .raw(b'data: {"error":{"message":"%b"}}\n\n' % SENTINEL.encode()),
            "inference_error",
            "Half",
        ),
        (ChatScript().tokens("Half"), "inference_incomplete", "Half"),
        (ChatScript().reasoning("Hm").cut(), "inference_incomplete", ""),
    ],
)
async def test_a_failure_has_our_name_in_stream_and_message_and_its_words_nowhere(
    alice: Client,
    service: Service,
    engine: OpenAIEngineServer,
    script: ChatScript,
    name: str,
    text: str,
) -> None:
    engine.default = script
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hi") as stream:
        events = await stream.rest()
    assert events[-2].data["error"] == name
    answer = (await alice.messages(conversation["id"]))[1]
    assert (answer["content"], answer["error"]) == (text, name)
    assert answer["status"] == (
        "failed" if not text and name != "inference_incomplete" else "interrupted"
    )
    for secret in (SENTINEL, KEY):
        assert secret not in json.dumps([event.data for event in events])
        assert secret not in service.text()


async def test_a_content_filter_is_a_finish_reason(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    engine.once(
        ChatScript().tokens("Half").finish("content_filter").done(),
        ChatScript().error(400, code="content_filter"),
    )
    conversation = await alice.create()
    for status in ("complete", "failed"):
        async with alice.send(conversation["id"], "Hi") as stream:
            await stream.rest()
        assert (stream.done["status"], stream.done["finish_reason"]) == (status, "content_filter")


@pytest.mark.case(64)
async def test_a_comment_keeps_an_answer_alive(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, engine: OpenAIEngineServer
) -> None:
    service = service_with(
        INFERENCE_API="openai",
        INFERENCE_SERVICE_URL=engine.url,
        INFERENCE_API_KEY=KEY,
        FIRST_TOKEN_TIMEOUT_SECONDS="2",
        TOKEN_TIMEOUT_SECONDS="2",
    )
    client = clients(service, auth.user())
    script = ChatScript()
    # Together longer than the limit and the quarter of a second in which it is looked at; each far
    # shorter.
    for _ in range(5):
        script.raw(b": OPENROUTER PROCESSING\n\n").pause(0.5)
    script.reasoning("Hm.")
    for _ in range(5):
        script.raw(b": still\n\n").pause(0.5)
    engine.once(script.tokens("Hello").finish().done())
    conversation = await client.create()
    async with client.send(conversation["id"], "Hi") as stream:
        await stream.rest()
    assert (stream.text, stream.done["status"]) == ("Hello", "complete")


async def test_reasoning_is_there_for_those_who_join_and_those_who_stop(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    gate = Gate()
    engine.once(ChatScript().reasoning("Hm.").tokens("Half").wait(gate).hang())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hi") as stream:
        await stream.until("token")
        running = (await alice.messages(conversation["id"]))[1]
        assert (running["content"], running["reasoning"]) == ("Half", "Hm.")
        async with alice.join(conversation["id"]) as joined:
            await joined.until("token")
            assert [event.kind for event in joined.events] == ["start", "reasoning", "token"]
        stopped = (await alice.post(f"/api/conversations/{conversation['id']}/stop")).json()
        assert (stopped["content"], stopped["reasoning"]) == ("Half", "Hm.")


async def test_models_are_listed_in_the_shape_of_before(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    engine.lists("small", "large")

    async def listed() -> Any:
        document = (await alice.get("/api/models")).json()
        return document if len(document["models"]) == 2 else None

    # The list of a test before may be a few seconds old.
    assert await eventually(listed) == {
        "current_model": "small",
        "models": [
            {
                "model_tag": tag,
                "source": "openai",
                "path": "",
                "available": True,
                "loaded": True,
            }
            for tag in ("small", "large")
        ],
    }


async def test_a_model_of_openai_s_kind_is_not_swapped(
    admin: Client, engine: OpenAIEngineServer
) -> None:
    response = await admin.post("/api/models/swap", json={"model_tag": "small"})
    assert response.status_code == 409


# --- several engines ----------------------------------------------------------------------------


@pytest.fixture
def second() -> Iterator[OpenAIEngineServer]:
    with OpenAIEngineServer() as server:
        yield server


def engines_file(
    folder: Path, one: OpenAIEngineServer, two: OpenAIEngineServer, more: str = ""
) -> str:
    path = folder / "engines.toml"
    path.write_text(
        f"""
        [[engine]]
        name = "one"
        url = "{one.url}"
        key_env = "KEY_OF_ONE"
        fallback = ["two/other"]

        [[engine]]
        name = "two"
        url = "{two.url}"
        models = ["other"]
        context_tokens = 4096
        {more}
        """
    )
    return str(path)


async def test_a_model_tag_picks_per_conversation_send_and_regenerate(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    engine: OpenAIEngineServer,
    second: OpenAIEngineServer,
    tmp_path: Path,
) -> None:
    service = start_service(
        ENGINES_FILE=engines_file(tmp_path, engine, second),
        KEY_OF_ONE=KEY,
        DEFAULT_MODEL="two/other",
    )
    client = clients(service, auth.user())
    listed = (await client.get("/api/models")).json()
    assert listed["current_model"] == "two/other"
    assert [(m["model_tag"], m["available"]) for m in listed["models"]] == [
        ("one/small", True),
        ("two/other", False),
    ]
    second.lists("other")
    conversation = await client.create()
    other = await client.create(model_tag="small")

    async def written_by(call: Any) -> str:
        async with call as stream:
            await stream.rest()
        assert stream.text == PLAIN_TEXT
        return str(stream.done["model_tag"])

    assert await written_by(client.send(conversation["id"], "Hi")) == "two/other"
    assert await written_by(client.send(other["id"], "Hi")) == "one/small"
    assert await written_by(client.send(other["id"], "Hi", model_tag="other")) == "two/other"
    assert await written_by(client.regenerate(other["id"], model_tag="one/small")) == "one/small"
    engine.once(*[ChatScript().status(503)] * 4)
    assert await written_by(client.send(other["id"], "Hi")) == "two/other"
    tags = [m["model_tag"] for m in await client.messages(other["id"]) if m["role"] == "assistant"]
    assert tags == ["one/small", "one/small", "two/other"]


async def test_the_file_is_read_again_on_sighup(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    engine: OpenAIEngineServer,
    second: OpenAIEngineServer,
    tmp_path: Path,
) -> None:
    path = tmp_path / "engines.toml"
    one = f'[[engine]]\nname = "one"\nurl = "{engine.url}"\nkey_env = "KEY_OF_ONE"\n'
    path.write_text(one)
    service = start_service(ENGINES_FILE=str(path), KEY_OF_ONE=KEY)
    client = clients(service, auth.user())

    async def tags() -> list[str]:
        models = (await client.get("/api/models")).json()["models"]
        return [model["model_tag"] for model in models]

    assert await tags() == ["small"]
    gate = Gate()
    engine.once(ChatScript().tokens("Half").wait(gate).tokens(" more").finish().done())
    conversation = await client.create()
    async with client.send(conversation["id"], "Hi") as stream:
        await stream.until_text("Half")
        path.write_text(f'{one}[[engine]]\nname = "two"\nurl = "{second.url}"\n')
        os.kill(service.pid, signal.SIGHUP)

        async def is_read() -> bool:
            return await tags() == ["one/small", "two/small"]

        await eventually(is_read)
        gate.open()
        await stream.rest()
        assert stream.text == "Half more"
    path.write_text(one + "colour = 1\n")
    os.kill(service.pid, signal.SIGHUP)
    await eventually(
        lambda: any(
            "line 5: colour" in str(line.get("reason"))
            for line in service.logs()
            if line["event"] == "engines_not_reloaded"
        )
    )
    assert await is_read()


@pytest.mark.case(64)
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[engine]\nname = 1", "line 1: "),
        ('[[engine]]\nname = "a"\nurl = "http://x"\nurl = "http://y"', "line 4: "),
        ("", "line 1: there is no [[engine]] table"),
        ('name = "a"', "line 1: name is not known here"),
        ('[[engine]]\nname = "a"\n', "line 1: url: Field required"),
        ('[[engine]]\nname = "a"\n\n# x\nurl = "ftp://x"', "line 5: url: "),
        ('[[engine]]\nname = "a/b"\nurl = "http://x"', "line 2: name: "),
        ('[[engine]]\nname = "a"\nurl = "http://x"\ncolour = 1', "line 4: colour: "),
        ('[[engine]]\nname = "a"\nurl = "http://x"\napi = "soap"', "line 4: api: "),
        ('[[engine]]\nname = "a"\nurl = "http://x"\nmodels = []', "line 4: models: "),
        ('[[engine]]\nname = "a"\nurl = "http://x"\ncontext_tokens = "9"', "line 4: context"),
        ('[[engine]]\nname = "a"\nurl = "http://x"\nkey_env = "NO_SUCH"', "line 4: NO_SUCH is"),
        (
            '[[engine]]\nname = "a"\nurl = "http://x"\n[[engine]]\nname = "a"\nurl = "http://y"',
            "line 5: the name a is taken",
        ),
        (
            '[[engine]]\nname = "a"\nurl = "http://x"\nmodels = ["m"]\nfallback = ["a/n"]',
            "line 5: fallback 'a/n' is no model",
        ),
        ("\xff", "is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_file_stops_the_start_with_the_line_and_the_reason(
    start_service: StartService, tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "engines.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ServiceDiedError, match="exit code 2"):
        start_service(ENGINES_FILE=str(path))
    (log,) = tmp_path.glob("service-*.log")
    written = log.read_text()
    assert f"ENGINES_FILE: {path}" in written
    assert complaint in written
    assert "Traceback" not in written


# --- going on at the user's wish ----------------------------------------------------------------


def going_on(client: Client, conversation_id: str, **fields: Any) -> Any:
    """POST …/continue, as a stream."""
    headers = fields.pop("headers", None)
    return client.stream(
        "POST",
        f"/api/conversations/{conversation_id}/continue",
        json=fields,
        headers=headers,
        expect=200,
    )


async def cut(client: Client, engine: OpenAIEngineServer, how: str) -> dict[str, Any]:
    """A conversation whose last answer is "Half", ended in this way."""
    engine.lists("small", owned_by="vllm")
    script = ChatScript().tokens("Ha", "lf")
    if how == "length":
        script.finish("length").usage().done()
    engine.once(script.hang() if how == "stopped" else script)
    conversation = await client.create()
    async with client.send(conversation["id"], "Hi") as stream:
        await stream.until_text("Half")
        if how == "stopped":
            await client.post(f"/api/conversations/{conversation['id']}/stop")
        await stream.rest()
    return conversation


@pytest.mark.parametrize("how", ["length", "interrupted", "stopped"])
async def test_an_answer_that_was_cut_goes_on_in_the_same_message(
    alice: Client, engine: OpenAIEngineServer, how: str
) -> None:
    conversation = await cut(alice, engine, how)
    before = (await alice.messages(conversation["id"]))[1]
    gate = Gate()
    engine.once(ChatScript().tokens(" and").wait(gate).tokens(" more.").finish().usage().done())
    async with going_on(alice, conversation["id"], max_tokens=7) as stream:
        await stream.until_text(" and")
        running = (await alice.messages(conversation["id"]))[1]
        assert (running["content"], running["status"]) == ("Half and", "generating")
        async with alice.join(conversation["id"]) as joined:
            await joined.until_text("Half and")
            gate.open()
            await joined.rest()
            assert [e.kind for e in joined.events] == [
                "start",
                "snapshot",
                "token",
                "token",
                "done",
            ]
            assert joined.text == "Half and more."
        await stream.rest()
        assert [event.kind for event in stream.events] == ["start", "token", "token", "done"]
        assert stream.text == " and more."
        assert stream.start["message_id"] == before["id"]
        first = stream.events[0].id
    body = engine.calls[1].body
    assert (body["messages"][-1], body["max_tokens"]) == (
        {"role": "assistant", "content": "Half"},
        7,
    )
    messages = await alice.messages(conversation["id"])
    assert len(messages) == 2
    after = messages[1]
    assert (after["id"], after["content"]) == (before["id"], "Half and more.")
    assert (after["status"], after["finish_reason"], after["error"]) == ("complete", "stop", None)
    assert after["token_count"] == 4
    spent = 11 * (2 if how == "length" else 1)
    assert after["usage"]["input_tokens"] == spent
    # What was lost of the response is there for who comes back.
    async with alice.join(conversation["id"], first) as again:
        await again.rest()
        assert again.text == "Half and more."


async def test_an_answer_goes_on_more_than_once_and_after_its_log_is_gone(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, engine: OpenAIEngineServer
) -> None:
    service = service_with(
        INFERENCE_API="openai",
        INFERENCE_SERVICE_URL=engine.url,
        INFERENCE_API_KEY=KEY,
        LOG_RETENTION_SECONDS="1",
    )
    client = clients(service, auth.user())
    conversation = await cut(client, engine, "length")
    for number in range(3):
        engine.once(ChatScript().tokens(f" {number}").finish("length").usage().done())
        async with going_on(client, conversation["id"]) as stream:
            await stream.rest()
            assert stream.text == f" {number}"
    assert (await client.messages(conversation["id"]))[1]["content"] == "Half 0 1 2"


async def test_an_engine_that_fails_takes_nothing_from_the_answer(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    conversation = await cut(alice, engine, "stopped")
    engine.default = ChatScript().status(500)
    async with going_on(alice, conversation["id"]) as stream:
        await stream.rest()
        assert stream.done["status"] == "interrupted"
    answer = (await alice.messages(conversation["id"]))[1]
    assert (answer["content"], answer["error"]) == ("Half", "inference_error")
    engine.default = ChatScript().tokens("!").finish().done()
    async with going_on(alice, conversation["id"]) as stream:
        await stream.rest()
    assert (await alice.messages(conversation["id"]))[1]["content"] == "Half!"


async def test_continuing_twice_with_one_key_is_continuing_once(
    alice: Client, engine: OpenAIEngineServer
) -> None:
    conversation = await cut(alice, engine, "length")
    engine.once(ChatScript().tokens(" more").finish("length").done())
    texts = []
    for _ in range(2):
        async with going_on(
            alice, conversation["id"], headers={"idempotency-key": "once"}
        ) as stream:
            await stream.rest()
            texts.append((stream.events[0].kind, stream.text, stream.done["status"]))
    assert texts == [("start", " more", "complete")] * 2
    assert len(engine.calls) == 2


@pytest.mark.case(101)
async def test_a_repeated_send_joins_the_answer_while_it_is_continued(
    service: Service, alice: Client, engine: OpenAIEngineServer, start_service: StartService
) -> None:
    engine.lists("small", owned_by="vllm")
    gate = Gate()
    engine.once(
        ChatScript().tokens("Half", " of").hang(),
        ChatScript().tokens(" it,").wait(gate).tokens(" and more.").finish().done(),
    )
    conversation = await alice.create()
    key = {"idempotency-key": "once"}
    async with alice.send(conversation["id"], "Hi", headers=key) as first:
        await first.until_text("Half of")
        await alice.post(f"/api/conversations/{conversation['id']}/stop")
        await first.rest()
    other = start_service(service.env)
    async with (
        going_on(alice, conversation["id"]) as continued,
        Client(other.url, alice.account) as elsewhere,
    ):
        await continued.until_text(" it,")
        for client in (alice, elsewhere):
            async with client.send(conversation["id"], "Hi", headers=key) as again:
                await again.until_text("Half of it,")
                assert [event.kind for event in again.events] == ["start", "token", "token"]
        async with alice.send(conversation["id"], "Hi", headers=key) as again:
            await again.until_text("Half of it,")
            gate.open()
            await again.rest()
            assert (again.text, again.done["status"]) == ("Half of it, and more.", "complete")
            assert as_an_old_client(again.raw) == ("Half of it, and more.", True)


@pytest.mark.case(93)
@pytest.mark.parametrize("if_busy", [None, "reject", "stop"])
async def test_continuing_stops_a_running_answer_only_where_it_is_told_to(
    alice: Client, engine: OpenAIEngineServer, if_busy: str | None
) -> None:
    engine.lists("small", owned_by="vllm")
    gate = Gate()
    engine.once(ChatScript().tokens("Half").wait(gate).tokens(" more").finish().done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hi") as stream:
        await stream.until_text("Half")
    # It has no reader any more.
    if if_busy == "stop":
        engine.once(ChatScript().tokens(" again").finish().done())
        async with going_on(alice, conversation["id"], if_busy=if_busy) as stream:
            await stream.rest()
        expected = "Half again"
    else:
        path = f"/api/conversations/{conversation['id']}/continue"
        response = await alice.post(path, json={} if if_busy is None else {"if_busy": if_busy})
        assert check_problem(response, 409, "message_id")["type"].endswith(":conversation_busy")
        async with alice.join(conversation["id"]) as joined:
            gate.open()
            await joined.rest()
        expected = "Half more"
    assert (await alice.messages(conversation["id"]))[1]["content"] == expected


async def test_what_cannot_be_continued_is_said(alice: Client, engine: OpenAIEngineServer) -> None:
    empty = await alice.create()
    path = "/api/conversations/{}/continue"
    check_problem(await alice.post(path.format(empty["id"])), 409)
    async with alice.send(empty["id"], "Hi") as stream:
        await stream.rest()
    response = await alice.post(path.format(empty["id"]))
    assert check_problem(response, 409)["type"].endswith(":nothing_to_continue")
    missing = await alice.post(path.format("00000000-0000-4000-8000-000000000000"))
    check_problem(missing, 404)


async def test_an_answer_of_samosachaat_s_engine_is_not_continued(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(), auth.user())
    inference.once(NativeScript().tokens("Half"))
    conversation = await client.create()
    async with client.send(conversation["id"], "Hi") as stream:
        await stream.rest()
    response = await client.post(f"/api/conversations/{conversation['id']}/continue")
    assert check_problem(response, 409)["type"].endswith(":engine_cannot_continue")
