"""All engines as one: catalogue, retries, fallback, breaker, going on from a beginning."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.inference import Script as NativeScript
from tests.support.openai_engine import ChatScript, OpenAIEngineServer, plain_chat
from tests.support.waiting import eventually

from chat_api.engines import engines as module
from chat_api.engines import exchange
from chat_api.engines.breaker import Breaker
from chat_api.engines.catalogue import DIALECTS
from chat_api.engines.configuration import Configured, EngineSettings, read_engines
from chat_api.engines.engine import CannotContinue, Event, EventReceiver, Limits, Message, Usage
from chat_api.engines.engines import Engines, Order
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineIncomplete,
    EngineOverloaded,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    ModelNotFound,
    ModelRefused,
)
from chat_api.settings import Settings, SettingsError
from chat_api.telemetry import ENGINE_RETRIES

KEY = "key-that-only-the-services-know-7f3a"
PLAIN_TEXT = "Samosas are triangles."


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF", lambda _state: 0.001)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[OpenAIEngineServer]]:
    with OpenAIEngineServer("k0") as one, OpenAIEngineServer() as two:
        yield [one, two]


@pytest.fixture
def one(servers: list[OpenAIEngineServer]) -> OpenAIEngineServer:
    servers[0].reset()
    return servers[0]


@pytest.fixture
def two(servers: list[OpenAIEngineServer]) -> OpenAIEngineServer:
    servers[1].reset()
    return servers[1]


@dataclass
class Written(EventReceiver):
    """What an order came to; a receiver."""

    text: str = ""
    reasoning: str = ""
    usage: Usage | None = None
    model: str | None = "nobody"
    finish_reason: str | None = None
    failure: type[EngineFailed] | None = None
    packets: int = field(default=0, compare=False)
    begun: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    def written_by(self, model_tag: str | None, *, is_fallback: bool) -> None:
        assert not self.begun.is_set()
        self.model = model_tag
        self.begun.set()

    def take(self, arrived: list[Event]) -> None:
        self.packets += 1
        for event in arrived:
            self.text += event.text
            self.reasoning += event.reasoning
            self.usage = event.usage or self.usage


class Asked:
    """A prompt of one question."""

    def messages_for(self, limits: Limits, context_tokens: int | None, /) -> list[Message]:
        self.seen = (limits, context_tokens)
        return [{"role": "user", "content": "Hello"}]


def configured(server: Any, name: str, **more: Any) -> Configured:
    fields = {"name": name, "url": server.url, **more}
    fields["api"] = "samosachaat" if isinstance(server, Inference) else "openai"
    return Configured(EngineSettings(**fields), SecretStr(server.key or ""))


@asynccontextmanager
async def made(*engines: Configured, **settings: Any) -> AsyncIterator[Engines]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        all_of_them = Engines(
            session, Settings(internal_api_key=SecretStr(KEY), **settings), engines
        )
        yield all_of_them
        all_of_them.close()


def order(
    tag: str = "default", *, seconds: float = 5, beginning: str = "", **options: Any
) -> Order:
    return Order(tag, Asked(), options, "trace", time.monotonic() + seconds, beginning)


async def write(engines: Engines, wanted: Order | None = None) -> Written:
    written = Written()
    try:
        written.finish_reason = await engines.generate(wanted or order(), written)
    except EngineFailed as failure:
        written.failure = type(failure)
    return written


# --- one engine ---------------------------------------------------------------------------------


async def test_an_answer_with_all_that_belongs_to_it(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().reasoning("Hm.").tokens("Hel", "lo").finish("length").usage().done())
    async with made(configured(one, "openai")) as engines:
        wanted = order(temperature=0.5, max_tokens=9, top_k=3, force_web_search=True)
        assert await write(engines, wanted) == Written(
            "Hello", "Hm.", Usage(11, 4), "small", "length"
        )
        assert wanted.prompt is None
    (call,) = one.calls
    assert call.headers["authorization"] == "Bearer k0"
    assert call.headers["x-trace-id"] == "trace"
    assert "x-internal-api-key" not in call.headers
    assert call.body == {
        "model": "small",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
        "top_k": 3,
    }


async def test_a_comment_is_a_sign_of_life(one: OpenAIEngineServer) -> None:
    gate = Gate()
    one.once(ChatScript().raw(b": OPENROUTER PROCESSING\n\n").wait(gate).tokens("a").done())
    async with made(configured(one, "openai")) as engines:
        written = Written()
        task = asyncio.create_task(engines.generate(order(), written))
        await gate.arrived.wait()
        await eventually(lambda: written.packets)
        assert not written.begun.is_set()
        gate.open()
        await task
    assert written.text == "a"


async def test_an_end_without_done_is_not_waited_for_long(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().tokens("a").finish().hang())
    async with made(configured(one, "openai")) as engines:
        async with asyncio.timeout(20):
            assert await write(engines) == Written("a", model="small", finish_reason="stop")
    await one.calls[0].gone.wait()


async def test_a_stream_that_is_cut_after_its_finish_is_whole(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().tokens("a").finish().cut(), ChatScript().tokens("a").cut())
    async with made(configured(one, "openai")) as engines:
        assert (await write(engines)).failure is None
        assert (await write(engines)).failure is EngineIncomplete


@pytest.mark.case(64)
@pytest.mark.parametrize(
    ("parameter", "refusal", "instead"),
    [
        ("top_k", {"message": "Unrecognized request argument supplied: top_k"}, {}),
        ("stream_options", {"message": "x", "param": "stream_options"}, {}),
        (
            "top_k",
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]},
            {},
        ),
        (
            "max_tokens",
            {"message": "x", "code": "unsupported_parameter", "param": "max_tokens"},
            {"max_completion_tokens": 9},
        ),
    ],
)
async def test_a_parameter_that_an_engine_refuses_is_left_out_from_then_on(
    one: OpenAIEngineServer, parameter: str, refusal: dict[str, Any], instead: dict[str, Any]
) -> None:
    one.once(ChatScript().error(400, **refusal))
    async with made(configured(one, "openai")) as engines:
        for _ in range(2):
            written = await write(engines, order(top_k=3, max_tokens=9))
            assert (written.text, written.failure) == (PLAIN_TEXT, None)
    first, *rest = [call.body for call in one.calls]
    expected = {name: value for name, value in first.items() if name != parameter} | instead
    assert rest == [expected, expected]


async def test_what_is_refused_for_another_reason_is_refused(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().error(400, message="top_k is bad", param="messages"))
    async with made(configured(one, "openai")) as engines:
        assert (await write(engines, order(top_k=3))).failure is EngineRefused
    assert len(one.calls) == 1


# --- retries and fallback -----------------------------------------------------------------------


@pytest.mark.case(64)
@pytest.mark.parametrize("status", [429, 502, 503, 529])
async def test_what_may_pass_is_tried_again(one: OpenAIEngineServer, status: int) -> None:
    one.once(*[ChatScript().status(status)] * 3)
    async with made(configured(one, "openai")) as engines:
        written = await write(engines)
    assert (written.text, written.failure, len(one.calls)) == (PLAIN_TEXT, None, 4)


@pytest.mark.case(64)
@pytest.mark.parametrize(
    ("script", "ours"),
    [
        (ChatScript().status(400), EngineRefused),
        (ChatScript().status(401), EngineRefused),
        (ChatScript().error(404, code="model_not_found"), ModelNotFound),
        (ChatScript().error(400, code="context_length_exceeded"), ContextTooLong),
        (ChatScript().error(429, code="insufficient_quota"), EngineRefused),
        (ChatScript().status(500), EngineFailed),
        (ChatScript().status(504), EngineTimeout),
        (ChatScript().cut(), EngineUnavailable),
        (ChatScript().tokens("a").cut(), EngineIncomplete),
    ],
)
async def test_what_would_not_pass_is_not_tried_again(
    one: OpenAIEngineServer, script: ChatScript, ours: type[EngineFailed]
) -> None:
    one.once(script)
    async with made(configured(one, "openai")) as engines:
        assert (await write(engines)).failure is ours
    assert len(one.calls) == 1


async def test_an_error_in_the_stream_before_the_first_event_is_tried_again(
    one: OpenAIEngineServer,
) -> None:
    one.once(
        ChatScript().raw(b': OPENROUTER PROCESSING\n\ndata: {"error":{"code":429}}\n\n'),
        ChatScript().usage().raw(b'data: {"error":{"code":503}}\n\n'),
    )
    async with made(configured(one, "openai")) as engines:
        written = await write(engines)
    assert (written.text, written.failure, len(one.calls)) == (PLAIN_TEXT, None, 3)


async def test_an_empty_answer_has_a_writer_and_a_price(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().finish().usage().done())
    async with made(configured(one, "openai")) as engines:
        assert await write(engines) == Written(
            usage=Usage(11, 4), model="small", finish_reason="stop"
        )


@pytest.mark.case(64)
async def test_usage_that_comes_before_the_text_counts(one: OpenAIEngineServer) -> None:
    """A cache in front of an engine has it from the start, and says it once or in each chunk."""
    one.once(ChatScript().usage().tokens("a").finish().usage().done())
    async with made(configured(one, "openai")) as engines:
        assert (await write(engines)).usage == Usage(11, 4)


async def test_text_after_a_finish_reason_is_waited_for(
    one: OpenAIEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_REST_SECONDS", 0.2)
    one.once(ChatScript().tokens("a").finish().tokens("b").pause(0.5).tokens("c").finish().hang())
    async with made(configured(one, "openai")) as engines:
        async with asyncio.timeout(20):
            assert (await write(engines)).text == "abc"


async def test_a_refused_connection_is_tried_again(
    one: OpenAIEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries = ENGINE_RETRIES.labels("openai")._value.get()
    async with made(configured(one, "openai", models=["small"])) as engines:
        with one.refusing():
            assert (await write(engines)).failure is EngineUnavailable
        assert (await write(engines)).text == PLAIN_TEXT
    monkeypatch.setattr(module, "_BACKOFF", lambda _state: 0.5)
    async with made(configured(one, "openai", models=["small"])) as engines:
        with one.refusing():
            task = asyncio.create_task(write(engines))
            await eventually(lambda: ENGINE_RETRIES.labels("openai")._value.get() > retries + 3)
        assert (await task).text == PLAIN_TEXT


async def test_retry_after_is_heeded_where_there_is_time(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().status(429, retry_after="1"), ChatScript().status(429, retry_after="60"))
    async with made(configured(one, "openai")) as engines:
        began = time.monotonic()
        assert (await write(engines)).failure is EngineOverloaded
        assert time.monotonic() - began >= 1
    assert len(one.calls) == 2


@pytest.mark.case(64)
async def test_after_the_first_event_nothing_is_tried_again(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    one.once(ChatScript().tokens("a").raw(b'data: {"error":{"code":503}}\n\n'))
    members = [configured(one, "a", fallback=["b/small"]), configured(two, "b")]
    async with made(*members) as engines:
        written = await write(engines, order("a/small"))
    assert (written.text, written.model, written.failure) == ("a", "a/small", EngineUnavailable)
    assert (len(one.calls), len(two.calls)) == (1, 0)


@pytest.mark.case(64)
@pytest.mark.parametrize(
    "script",
    [
        ChatScript().status(503),
        ChatScript().status(500),
        ChatScript().status(429, retry_after="30"),
        ChatScript().header(content_type="text/html").raw(b"<html>"),
        ChatScript().error(404, code="model_not_found"),
        ChatScript(),
        ChatScript().usage().cut(),
        ChatScript().usage().raw(b'data: {"error":{"code":429}}\n\n'),
    ],
)
async def test_a_fallback_is_taken_and_recorded(
    one: OpenAIEngineServer, two: OpenAIEngineServer, script: ChatScript
) -> None:
    one.default = script
    two.lists("large")
    members = [configured(one, "a", fallback=["none", "large"]), configured(two, "b")]
    async with made(*members) as engines:
        written = await write(engines, order("a/small"))
    assert (written.text, written.model, written.failure) == (PLAIN_TEXT, "b/large", None)
    assert two.calls[0].body["model"] == "large"


async def test_where_all_fail_the_first_failure_is_told(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    one.default, two.default = ChatScript().status(503), ChatScript().status(500)
    members = [configured(one, "a", fallback=["b/small"]), configured(two, "b")]
    async with made(*members) as engines:
        assert (await write(engines, order("a/small"))).failure is EngineUnavailable


async def test_the_request_s_own_fault_takes_no_fallback(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    one.default = ChatScript().error(400, code="context_length_exceeded")
    members = [configured(one, "a", fallback=["b/small"]), configured(two, "b")]
    async with made(*members) as engines:
        assert (await write(engines, order("a/small"))).failure is ContextTooLong
    assert two.calls == []


async def test_cancelling_closes_the_request(one: OpenAIEngineServer) -> None:
    one.once(ChatScript().tokens("a").hang())
    async with made(configured(one, "openai")) as engines:
        written = Written()
        task = asyncio.create_task(engines.generate(order(), written))
        await written.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await one.calls[0].gone.wait()


@pytest.mark.case(64)
async def test_a_silent_engine_is_not_asked_again_and_again(one: OpenAIEngineServer) -> None:
    one.default = ChatScript().hang()
    async with made(configured(one, "openai", models=["small"])) as engines:
        for number in range(3):
            asking = asyncio.create_task(engines.generate(order(seconds=0), Written()))
            call = await one.call(number)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await call.gone.wait()
        assert (await write(engines)).failure is EngineUnavailable
        assert len(one.calls) == 3


async def test_a_dead_engine_is_asked_once_each_time_and_comes_back_at_once(
    one: OpenAIEngineServer,
) -> None:
    one.default = ChatScript().status(503)
    async with made(configured(one, "openai", models=["small"])) as engines:
        for tries in (4, 8, 12, 13, 14):
            assert (await write(engines)).failure is EngineUnavailable
            assert len(one.calls) == tries
        one.default = plain_chat()
        assert (await write(engines)).text == PLAIN_TEXT
        one.once(ChatScript().status(503))
        assert (await write(engines)).text == PLAIN_TEXT


def test_a_breaker_opens_tries_and_closes() -> None:
    now = 0.0
    told: list[bool] = []
    breaker = Breaker(told.append, lambda: now)
    for _ in range(3):
        assert breaker.admit()
        breaker.failed(by_timeout=True)
    assert told == [True]
    assert not breaker.admit()
    now = 5.1
    assert breaker.admit()
    assert not breaker.admit()  # the trial is under way
    breaker.failed(by_timeout=True)
    now = 5.1 + 9.9
    assert not breaker.admit()
    now = 5.1 + 10.1
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.admit()
    assert breaker.allows_retries
    assert told == [True, False]
    breaker.failed(by_timeout=True)
    breaker.failed(by_timeout=False)
    breaker.failed(by_timeout=True)
    breaker.failed(by_timeout=True)
    assert breaker.admit()
    assert not breaker.allows_retries


# --- the catalogue ------------------------------------------------------------------------------


async def listed(engines: Engines) -> list[tuple[str, bool]]:
    document = json.loads(await engines.list_models("trace"))
    for entry in document["models"]:
        assert set(entry) == {"model_tag", "source", "path", "available", "loaded"}
    return [(entry["model_tag"], entry["available"]) for entry in document["models"]]


async def test_the_models_of_all_engines_are_listed(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    one.lists("small", "large")
    two.lists("small", "/models/Big.Q4.gguf", "x" * 200)
    members = [configured(one, "a"), configured(two, "b"), configured(two, "c", models=["x/y"])]
    async with made(*members) as engines:
        assert await listed(engines) == [
            ("a/small", True),
            ("a/large", True),
            ("b/small", True),
            ("b/Big.Q4", True),
            ("c/x/y", False),
        ]
        for tag, model in {
            "large": "a/large",
            "a/small": "a/small",
            "Big.Q4": "b/Big.Q4",
            "default": "a/small",
            "x/y": "c/x/y",
        }.items():
            assert (await write(engines, order(tag))).model == model
        for tag in ("small", "a/none", "none", "b"):
            assert not await engines.knows(tag, "trace")
            assert (await write(engines, order(tag))).failure is ModelNotFound
    assert two.calls[0].body["model"] == "/models/Big.Q4.gguf"


@pytest.mark.case(64)
async def test_an_engine_that_is_down_hides_no_other(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    two.models_gate = Gate()
    members = [configured(one, "a"), configured(two, "hangs")]
    with Inference(KEY) as dead, dead.refusing():
        async with made(*members, configured(dead, "dead")) as engines:
            assert await listed(engines) == [
                ("a/small", True),
                ("hangs", False),
                ("dead", False),
            ]
            assert (await write(engines, order("small"))).text == PLAIN_TEXT
    two.models_gate.open()


async def test_an_engine_that_goes_down_keeps_its_list(
    one: OpenAIEngineServer, two: OpenAIEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_api.engines.catalogue._SHOWN_SECONDS", 0.0)
    async with made(configured(one, "a"), configured(two, "b")) as engines:
        assert await listed(engines) == [("a/small", True), ("b/small", True)]
        with one.refusing():
            assert await listed(engines) == [("a/small", False), ("b/small", True)]
        one.lists("other")
        assert await listed(engines) == [("a/other", True), ("b/small", True)]


async def test_default_model_is_what_default_means(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    members = [configured(one, "a"), configured(two, "b")]
    async with made(*members, default_model="b/small") as engines:
        assert (await write(engines)).model == "b/small"
        assert json.loads(await engines.list_models("trace"))["current_model"] == "b/small"


async def test_both_dialects_live_side_by_side(one: OpenAIEngineServer) -> None:
    with Inference(KEY) as native:
        native.default = NativeScript().tokens("native").done()
        prompt = Asked()
        async with made(configured(one, "a"), configured(native, "n")) as engines:
            assert await listed(engines) == [("a/small", True), ("n/d20", True)]
            wanted = order("n/d20")
            wanted.prompt = prompt
            written = await write(engines, wanted)
            assert (written.text, written.model) == ("native", "n/d20")
            assert not prompt.seen[0].takes_system
            status, answer = await engines.swap("n/d32", "trace")
            assert (status, json.loads(answer)) == (200, native.swap[1])
            assert native.others[-1].body == {"model_tag": "d32"}
            for tag in ("a/small", "d32"):
                with pytest.raises(ModelRefused):
                    await engines.swap(tag, "trace")


async def test_one_samosachaat_engine_takes_any_tag() -> None:
    with Inference(KEY) as native:
        async with made(configured(native, "samosachaat")) as engines:
            assert await engines.knows("whatever", "trace")
            written = await write(engines, order("whatever"))
            assert (written.text, written.model) == (PLAIN_TEXT, None)
            assert native.others == []
            assert json.loads(await engines.list_models("trace")) == native.models[1]


async def test_an_engine_without_a_list_takes_any_model(one: OpenAIEngineServer) -> None:
    one.models = (404, {"detail": "Not Found"})
    async with made(configured(one, "openai"), default_model="m") as engines:
        assert (await write(engines)).model == "m"
        assert (await write(engines, order("other"))).model == "other"
    assert [call.body["model"] for call in one.calls] == ["m", "other"]


@pytest.mark.parametrize(
    ("fields", "props", "tokens"),
    [
        ({"max_model_len": 4096}, None, 4096),
        ({"context_length": 8192}, None, 8192),
        ({"owned_by": "llamacpp", "meta": {"n_ctx": 512}}, None, 512),
        ({"owned_by": "llamacpp"}, {"default_generation_settings": {"n_ctx": 2048}}, 2048),
        ({}, None, 1000),
    ],
)
async def test_the_size_of_the_context_is_asked_for(
    one: OpenAIEngineServer, fields: dict[str, Any], props: Any, tokens: int
) -> None:
    one.lists("small", **fields)
    if props is not None:
        one.props = (200, props)
    prompt = Asked()
    wanted = order()
    wanted.prompt = prompt
    async with made(configured(one, "openai", context_tokens=1000)) as engines:
        await write(engines, wanted)
        await write(engines)
    assert prompt.seen == (Limits(), tokens)
    assert len(one.others) == 1 + (fields.get("owned_by") == "llamacpp")


async def test_a_new_configuration_is_taken_while_an_answer_is_written(
    one: OpenAIEngineServer, two: OpenAIEngineServer
) -> None:
    gate = Gate()
    one.once(ChatScript().tokens("Half").wait(gate).tokens(" more").finish().done())
    async with made(configured(one, "a")) as engines:
        written = Written()
        task = asyncio.create_task(engines.generate(order(), written))
        await written.begun.wait()
        engines.reload([configured(two, "b")])
        assert (await write(engines)).model == "small"
        gate.open()
        await task
        assert written.text == "Half more"
    assert len(two.calls) == 1


async def test_another_dialect_is_a_module_and_a_line_of_the_table(
    one: OpenAIEngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DIALECTS, "third", DIALECTS["openai"])
    path = tmp_path / "engines.toml"
    path.write_text(f'[[engine]]\nname = "a"\nurl = "{one.url}"\napi = "third"\nkey_env = "K"')
    key = SecretStr(KEY)
    by_file = Settings(internal_api_key=key, engines_file=str(path))
    by_name = Settings(
        internal_api_key=key,
        inference_api="third",
        inference_service_url=one.url,
        inference_api_key=SecretStr("k0"),
    )
    for settings in (by_file, by_name):
        async with made(*read_engines(settings, DIALECTS, {"K": "k0"})) as engines:
            assert (await write(engines)).text == PLAIN_TEXT
    with pytest.raises(SettingsError, match="INFERENCE_API: must be one of openai, samosachaat"):
        read_engines(by_name, {"openai", "samosachaat"})


# --- going on -----------------------------------------------------------------------------------


async def test_going_on_asks_with_the_beginning_as_the_last_message(
    one: OpenAIEngineServer,
) -> None:
    one.lists("small", owned_by="vllm")
    one.once(ChatScript().tokens(" are", " triangles.").finish().done())
    async with made(configured(one, "openai")) as engines:
        wanted = order(beginning="Samosas")
        assert await engines.can_continue(wanted)
        assert (await write(engines, wanted)).text == " are triangles."
    body = one.calls[0].body
    assert body["messages"][-1] == {"role": "assistant", "content": "Samosas"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize(
    ("owner", "template", "can"),
    [
        ("vllm", None, True),
        ("sglang", None, True),
        ("library", None, False),
        ("openai", None, False),
        ("somebody", None, True),
        ("llamacpp", {"prompt": "<|im_start|>assistant\nSamosas"}, True),
        ("llamacpp", {"prompt": "<|im_start|>user\nHello<|im_end|>\n"}, False),
        ("llamacpp", None, False),
    ],
)
async def test_whether_an_engine_goes_on_is_found_out(
    one: OpenAIEngineServer, owner: str, template: Any, can: bool
) -> None:
    one.lists("small", owned_by=owner)
    if template is not None:
        one.template = (200, template)
    async with made(configured(one, "openai")) as engines:
        assert await engines.can_continue(order(beginning="Samosas")) is can
    async with made(configured(one, "openai", continues=not can)) as engines:
        assert await engines.can_continue(order(beginning="Samosas")) is not can


async def test_a_refusal_to_go_on_is_remembered(
    one: OpenAIEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.lists("small", owned_by="vllm")
    one.once(ChatScript().error(400, message="continue_final_message is not supported"))
    async with made(configured(one, "openai")) as engines:
        wanted = order(beginning="Samosas")
        with pytest.raises(CannotContinue):
            await engines.generate(wanted, Written())
        assert not await engines.can_continue(wanted)
        later = time.monotonic() + 601
        monkeypatch.setattr("time.monotonic", lambda: later)
        assert await engines.can_continue(wanted)


async def test_a_refusal_to_go_on_may_come_as_an_event(one: OpenAIEngineServer) -> None:
    one.lists("small", owned_by="vllm")
    one.once(ChatScript().raw(b'data: {"object":"error","message":"no","code":400}\n\n'))
    async with made(configured(one, "openai")) as engines:
        with pytest.raises(CannotContinue):
            await engines.generate(order(beginning="Samosas"), Written())


@pytest.mark.parametrize("owner", ["somebody", "vllm", "llamacpp"])
async def test_an_engine_that_starts_over_is_found_out_before_anything_is_shown(
    one: OpenAIEngineServer, owner: str
) -> None:
    one.lists("small", owned_by=owner)
    one.default = ChatScript().tokens("Samosas", " are triangles with", " a filling.").finish()
    async with made(configured(one, "openai")) as engines:
        written = Written()
        with pytest.raises(CannotContinue):
            await engines.generate(order(beginning="Samosas are triangles with a fil"), written)
        assert written.text == ""
