"""Traces by OpenTelemetry, as a collector receives them."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.auth import AuthServer
from tests.support.client import MakeClient, trace_id
from tests.support.collector import Collector
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, StartService
from tests.support.waiting import eventually

from chat_api import tracing
from chat_api.settings import Settings, SettingsError

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
SERVER, CLIENT = 2, 3


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def started(start_service: StartService, collector: Collector, **env: str) -> Service:
    return start_service(
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            **env,
        }
    )


def sent(headers: object) -> tuple[str, str, str]:
    """Trace, span and flags of the `traceparent` among these headers."""
    assert isinstance(headers, dict)
    found = TRACEPARENT.fullmatch(headers["traceparent"])
    assert found is not None
    return found[1], found[2], found[3]


@pytest.mark.case(85)
async def test_a_message_is_one_trace_from_its_caller_to_the_engine(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    collector: Collector,
) -> None:
    service = started(start_service, collector)
    account = auth.user("alice")
    alice = clients(service, account)
    inference.once(Script().tokens("the-secret-", "answer").done())
    caller = trace_id()
    headers = {"traceparent": f"00-{caller}-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
    conversation = await alice.create(title="the-secret-title")
    message = await alice.ask_raw(
        conversation["id"], {"content": "the-secret-question", "temperature": 0.5}, **headers
    )
    call = await inference.call()
    assert service.stop() == 0  # what is left is sent at the end
    [request] = collector.named("POST /api/conversations/{conversation_id}/messages")
    assert (request.kind, request.trace_id, request.parent_id) == (
        SERVER,
        caller,
        "00f067aa0ba902b7",
    )
    assert request.attributes["http.route"] == "/api/conversations/{conversation_id}/messages"
    assert request.attributes["http.response.status_code"] == 200
    [generation] = collector.named("chat default")
    assert (generation.kind, generation.trace_id, generation.parent_id) == (
        CLIENT,
        caller,
        request.span_id,
    )
    assert generation.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "samosachaat",
        "gen_ai.request.model": "default",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.conversation.id": conversation["id"],
        "gen_ai.response.id": message.json()["id"],
        "gen_ai.response.model": message.json()["model_tag"],
        "samosachaat.attempt": 1,
        "samosachaat.trace_id": caller,
        "samosachaat.status": "complete",
    }
    assert sent(call.headers) == (caller, generation.span_id, "01")
    assert call.headers["tracestate"] == "vendor=1"
    # The token was validated for the request before, which had no caller.
    [create] = collector.named("POST /api/conversations")
    assert sent(auth.requests[0].headers)[:2] == (create.trace_id, create.span_id)
    assert create.parent_id == ""
    assert create.attributes["samosachaat.trace_id"] == create.trace_id
    assert collector.resources[0]["service.name"] == "samosachaat-chat-api"
    for secret in ("the-secret", account.token, "key-that-only", account.id):
        assert secret.encode() not in collector.raw


async def test_the_usage_that_an_engine_tells_is_in_the_span_and_so_is_a_failure(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    collector: Collector,
) -> None:
    service = started(
        start_service, collector, OTEL_SERVICE_NAME="chat", OTEL_RESOURCE_ATTRIBUTES="zone=a"
    )
    alice = clients(service, auth.user("alice"))
    conversation = await alice.create()
    inference.once(Script().status(500))
    assert (await alice.ask_raw(conversation["id"], {"content": "One"})).status_code == 502
    await eventually(lambda: collector.named("chat default"))
    [failed] = collector.named("chat default")
    assert failed.is_error
    assert failed.attributes["error.type"] == "inference_error"
    assert failed.attributes["samosachaat.status"] == "failed"
    sent_to = "POST /api/conversations/{conversation_id}/messages"
    await eventually(lambda: collector.named(sent_to))
    [request] = collector.named(sent_to)
    assert (request.is_error, request.attributes["error.type"]) == (True, "502")
    assert collector.resources[0]["service.name"] == "chat"
    assert collector.resources[0]["zone"] == "a"


@pytest.mark.case(85)
async def test_a_generation_that_is_taken_over_goes_on_in_its_trace(
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    collector: Collector,
    fresh_database_url: str,
) -> None:
    env = {"DATABASE_URL": fresh_database_url, "LEASE_SECONDS": "1"}
    first = started(start_service, collector, **env)
    account = auth.user("alice")
    alice = clients(first, account)
    conversation = await alice.create()
    trace = trace_id()
    inference.once(Script().tokens("a").hang(), Script().tokens("b").done())
    async with alice.send(conversation["id"], "One", headers={"x-trace-id": trace}) as stream:
        await stream.until("token")
        second = started(start_service, collector, **env)
        first.kill()
    before = sent((await inference.call(0)).headers)
    after = sent((await inference.call(1)).headers)
    again = clients(second, account)

    async def is_complete() -> bool:
        return bool((await again.messages(conversation["id"]))[-1]["status"] == "complete")

    await eventually(is_complete)
    await eventually(lambda: collector.named("chat default"))
    [generation] = collector.named("chat default")
    assert before[0] == after[0] == generation.trace_id == trace
    assert after[1] == generation.span_id != before[1]
    assert generation.links == [before[:2]]
    assert generation.attributes["samosachaat.attempt"] == 2


@pytest.mark.parametrize(
    ("sampler", "flags", "is_exported"),
    [
        ("parentbased_traceidratio", "01", True),
        ("parentbased_traceidratio", "00", False),
        ("traceidratio", "01", False),
    ],
)
async def test_the_standard_variables_say_what_is_sampled(
    sampler: str,
    flags: str,
    is_exported: bool,
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    collector: Collector,
) -> None:
    service = started(
        start_service, collector, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0"
    )
    alice = clients(service, auth.user("alice"))
    conversation = await alice.create()
    headers = {"traceparent": f"00-{trace_id()}-00f067aa0ba902b7-{flags}"}
    await alice.ask_raw(conversation["id"], {"content": "One"}, **headers)
    assert sent((await inference.call()).headers)[2] == ("01" if is_exported else "00")
    assert service.stop() == 0
    assert bool(collector.spans) is is_exported


@pytest.mark.case(85)
@pytest.mark.parametrize("fault", ["refuses", "is silent", "is away"])
async def test_a_collector_that_fails_holds_nothing_up(
    fault: str,
    start_service: StartService,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    collector: Collector,
) -> None:
    gate = Gate()
    collector.status = 400 if fault == "refuses" else 200
    collector.gate = gate if fault == "is silent" else None
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} if fault == "is away" else {}
    service = started(start_service, collector, **away)
    alice = clients(service, auth.user("alice"))
    conversation = await alice.create()
    assert (await alice.ask(conversation["id"], "Hello"))["status"] == "complete"
    await alice.http.aclose()
    assert service.stop(15) == 0
    gate.open()
    assert service.stray_lines() == []
    assert [line for line in service.logs() if line["event"] == "traces_not_exported"]


def test_without_traces_no_sdk_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, chat_api.app, chat_api.settings;"
        "chat_api.app.create_app(chat_api.settings.Settings(internal_api_key='a-key'));"
        # FastAPI imports the interfaces, `opentelemetry-api`.
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'chat_api.tracing.otel'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_packages_that_are_missing_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(internal_api_key="a-key", otel_traces_exporter="otlp")  # type: ignore[arg-type]
    tracing.check(settings)
    for found in (lambda _: None, _missing):
        monkeypatch.setattr(tracing, "find_spec", found)
        with pytest.raises(SettingsError, match=r"samosachaat-chat-api\[otel\]"):
            tracing.check(settings)


def _missing(name: str) -> None:
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_*: max_queue_size"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER: "),
    ],
)
def test_variables_with_which_nothing_would_arrive_stop_the_start(
    env: dict[str, str], reason: str, start_service: StartService
) -> None:
    service = start_service({"OTEL_TRACES_EXPORTER": "otlp", **env}, wait=False)
    assert service.wait() == 2
    assert reason in service.text()
