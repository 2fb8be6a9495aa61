"""What is said in confidence is in no log line, no error and no metric."""

import contextlib
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, raw_exchange
from tests.support.inference import Inference, Script
from tests.support.service import StartService

KEY = "sentinel-key-d2a9"
TOKEN = "sentinel-token-77c1"
BAD_TOKEN = "sentinel-bad-token-0b44"
TEXT = "sentinel-text-e5f8"
ANSWER = "sentinel-answer-1c3b"
TITLE = "sentinel-title-aa07"
PASSWORD = "sentinel-password-6d1e"
IDEMPOTENCY = "sentinel-idempotency-9f20"
CURSOR = "sentinel-cursor-4e7b"
TAG = "sentinel-tag-83ac"
EMAIL = "sentinel-mail-e0d5@example.org"
SENTINELS = (
    KEY,
    TOKEN,
    BAD_TOKEN,
    TEXT,
    ANSWER,
    TITLE,
    PASSWORD,
    IDEMPOTENCY,
    CURSOR,
    TAG,
    EMAIL,
)

Note = Callable[[httpx2.Response], None]


@pytest.fixture
async def secret_auth() -> AsyncIterator[AuthServer]:
    with AuthServer(KEY) as server:
        yield server


@pytest.fixture
async def secret_inference() -> AsyncIterator[Inference]:
    with Inference(KEY) as server:
        yield server


@pytest.mark.case(35)
@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_secrets_are_in_no_log_no_error_and_no_metric(
    start_service: StartService,
    clients: MakeClient,
    secret_auth: AuthServer,
    secret_inference: Inference,
    database_url: str,
    level: str,
) -> None:
    service = start_service(
        INTERNAL_API_KEY=KEY,
        AUTH_SERVICE_URL=secret_auth.url,
        INFERENCE_SERVICE_URL=secret_inference.url,
        # Trusted connections: the password is not looked at, and must not be shown.
        DATABASE_URL=database_url.replace("postgres@", f"postgres:{PASSWORD}@"),
        LOG_LEVEL=level,
        FIRST_TOKEN_TIMEOUT_SECONDS="1",
        TOKEN_TIMEOUT_SECONDS="1",
    )
    account = secret_auth.user("alice", token=TOKEN, is_admin=True, email=EMAIL)
    client, stranger = clients(service, account), clients(service)
    errors: list[str] = []

    def note(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            errors.append(response.text + repr(response.headers))

    conversation = await client.create(title=TITLE, model_tag=TAG)
    await meet_failing_engines(client, conversation["id"], secret_inference, note)
    await send_what_is_refused(client, f"/api/conversations/{conversation['id']}", note)
    secret_inference.swap = (500, TEXT.encode())
    note(await client.post("/api/models/swap", json={"model_tag": TAG}))
    note(await client.post("/api/models/swap", json={"model_tag": TAG * 20}))
    await be_refused(stranger, secret_auth, note)
    await raw_exchange(service.url, f"GET /{TOKEN} HTTP/1.1\r\n{TEXT}\r\n\r\n".encode())

    metrics = (await stranger.get("/metrics")).text
    assert len(errors) >= 30
    service.terminate()
    service.wait()
    log = service.text()
    assert log
    for sentinel in SENTINELS:
        assert not [line for line in log.splitlines() if sentinel in line]
        assert not [line for line in metrics.splitlines() if sentinel in line]
        if sentinel != KEY:
            assert not [error for error in errors if sentinel in error]
    assert not [error for error in errors if KEY in error]


async def meet_failing_engines(
    client: Client, conversation_id: str, secret_inference: Inference, note: Note
) -> None:
    """Messages whose answers fail in every way, each with a secret in what the engine says."""
    secret_inference.once(
        Script().tokens(ANSWER, ANSWER).done(),
        Script().status(500, f"{TEXT} {ANSWER}".encode()),
        Script().status(400, f"{TEXT} {KEY}".encode()),
        Script().header(content_type="text/html").raw(TEXT.encode()),
        Script().redirect(f"http://127.0.0.1:9/{TEXT}"),
        Script().tokens(ANSWER).raw(f"data: {{{TEXT}\n\n".encode()),
        Script().event({"error": TEXT}),
        Script().tokens(ANSWER).reset(),
        Script().tokens(ANSWER).hang(),
        Script().hang(),
    )
    for _ in range(10):
        note(await client.ask_raw(conversation_id, {"content": TEXT}))
    with secret_inference.refusing():
        note(await client.ask_raw(conversation_id, {"content": TEXT}))
        note(await client.get("/api/models"))
    async with client.regenerate(conversation_id) as stream:
        await stream.until("start")


async def send_what_is_refused(client: Client, path: str, note: Note) -> None:
    """Repeated, malformed and oversized requests to the conversation at `path`."""
    key = {"idempotency-key": IDEMPOTENCY}
    for content in (TEXT, TEXT, TEXT + TEXT):  # kept, replayed, refused
        note(await client.post(f"{path}/messages", json={"content": content}, headers=key))
    bad_key = {"idempotency-key": IDEMPOTENCY * 20}
    note(await client.post(f"{path}/messages", json={"content": TEXT}, headers=bad_key))
    note(await client.get(f"{path}/stream", headers={"last-event-id": CURSOR}))
    note(await client.get(f"{path}/stream", params={"after": CURSOR}))
    for body in (
        {"content": TEXT * 1000},
        {"content": TEXT, "temperature": TEXT},
        {"content": [TEXT]},
        {"content": "a", TEXT: {"nested": TEXT}, "top_k": TEXT},
    ):
        note(await client.post(f"{path}/messages", json=body))
    json_type = {"content-type": "application/json"}
    for raw in (
        f'{{"content": "{TEXT}'.encode(),
        f'{{"content": "{TEXT}\\u0000"}}'.encode(),
        f'{{"content": "{TEXT}\\ud800"}}'.encode(),
        TEXT.encode() + b"\xff",
        TEXT.encode() * 40_000,
    ):
        note(await client.post(f"{path}/messages", content=raw, headers=json_type))
    note(await client.post(f"{path}/messages", content=TEXT, headers={"content-type": TEXT}))
    note(await client.patch(path, json={"title": [TITLE]}))
    note(await client.put(path, json={"title": TITLE * 100}))
    note(await client.get("/api/conversations", params={"cursor": TEXT, "limit": TEXT, "tz": TEXT}))
    note(await client.get(f"/api/conversations/{TEXT}"))
    note(await client.get(path, params={"before": TEXT}))
    note(await client.get("/api/conversations", headers={"x-trace-id": f"<{TEXT}>"}))


async def be_refused(stranger: Client, secret_auth: AuthServer, note: Note) -> None:
    """Requests with other credentials than a token, and with tokens that do not count."""
    note(await stranger.get("/api/conversations", headers={"x-internal-api-key": KEY}))
    note(await stranger.get("/api/conversations", params={"token": TOKEN}))
    for number in range(3):
        bad = {"authorization": f"Bearer {BAD_TOKEN}{number}"}
        with contextlib.ExitStack() as faults:
            if number == 1:
                faults.enter_context(secret_auth.failing(403, f"{BAD_TOKEN} {KEY}".encode()))
            if number == 2:
                faults.enter_context(secret_auth.refusing())
            note(await stranger.get("/api/conversations", headers=bad))


async def test_metrics_do_not_grow_with_what_clients_make_up(client: Client, alice: Client) -> None:
    for number in range(20):
        await client.get(f"/made-up-{number}")
        await alice.get(f"/api/conversations/made-up-{number}")
        await client.request(f"MADEUP{number}", "/api/health")
    metrics = (await client.get("/metrics")).text
    assert "made-up-" not in metrics
    assert "MADEUP" not in metrics
