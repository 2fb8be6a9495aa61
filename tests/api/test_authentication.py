"""Who is asking: tokens, the auth service, and what is remembered of its answers."""

import asyncio
import json
from typing import Any

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, trace_id
from tests.support.inference import Inference
from tests.support.service import Service, ServiceWith, StartService
from tests.support.shapes import NOWHERE, check_problem
from tests.support.waiting import eventually

ENDPOINTS = [
    ("GET", "/api/conversations"),
    ("POST", "/api/conversations"),
    ("GET", f"/api/conversations/{NOWHERE}"),
    ("PUT", f"/api/conversations/{NOWHERE}"),
    ("PATCH", f"/api/conversations/{NOWHERE}"),
    ("DELETE", f"/api/conversations/{NOWHERE}"),
    ("POST", f"/api/conversations/{NOWHERE}/messages"),
    ("POST", f"/api/conversations/{NOWHERE}/regenerate"),
    ("GET", "/api/models"),
    ("POST", "/api/models/swap"),
]


@pytest.mark.case(1)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_without_credentials_one_is_asked_for_them(
    client: Client, auth: AuthServer, method: str, path: str
) -> None:
    response = await client.request(method, path)
    check_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert auth.requests == []


@pytest.mark.case(1)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_an_unknown_token_is_an_invalid_token(client: Client, method: str, path: str) -> None:
    token = "unknown-" + trace_id()
    response = await client.request(method, path, headers={"authorization": f"Bearer {token}"})
    check_problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert token not in response.text


@pytest.mark.case(1)
async def test_an_expired_token_is_an_invalid_token(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    response = await clients(service, auth.user(expires_in=-10)).get("/api/conversations")
    check_problem(response, 401)
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize("header", ["Basic YWxpY2U6c2VjcmV0", "Bearer", "token", ""])
async def test_what_is_no_bearer_token_is_no_credential(
    client: Client, auth: AuthServer, header: str
) -> None:
    response = await client.get("/api/conversations", headers={"authorization": header})
    check_problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert auth.requests == []


async def test_the_scheme_is_read_in_any_case(client: Client, auth: AuthServer) -> None:
    token = auth.user().token
    for scheme in ("bearer", "BEARER", "BeArEr"):
        headers = {"authorization": f"{scheme} {token}"}
        response = await client.get("/api/conversations", headers=headers)
        assert response.status_code == 200


@pytest.mark.case(7)
@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "api_key"])
async def test_a_token_in_the_query_string_is_ignored(
    client: Client, auth: AuthServer, name: str
) -> None:
    response = await client.get("/api/conversations", params={name: auth.user().token})
    check_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert auth.requests == []


@pytest.mark.case(7)
async def test_headers_that_claim_an_identity_are_ignored(
    alice: Client, bob: Client, client: Client, internal_api_key: str
) -> None:
    conversation = await alice.create()
    claims = {
        "x-internal-api-key": internal_api_key,
        "x-user-id": alice.user_id,
        "x-forwarded-user": alice.user_id,
        "is_admin": "true",
        "x-is-admin": "true",
    }
    path = f"/api/conversations/{conversation['id']}"
    check_problem(await client.get(path, headers=claims), 401)
    check_problem(await bob.get(path, headers=claims), 404)
    swap = await bob.post("/api/models/swap", json={"model_tag": "x"}, headers=claims)
    check_problem(swap, 403)


@pytest.mark.case(7)
async def test_the_auth_service_is_asked_with_the_key_and_the_trace(
    client: Client, auth: AuthServer, internal_api_key: str
) -> None:
    token, trace = auth.user().token, trace_id()
    headers = {
        "authorization": f"Bearer {token}",
        "x-trace-id": trace,
        "x-internal-api-key": "the-clients-own",
        "cookie": "session=secret",
    }
    assert (await client.get("/api/conversations", headers=headers)).status_code == 200
    (request,) = auth.requests
    assert (request.method, request.target) == ("POST", "/auth/validate")
    assert request.headers["x-internal-api-key"] == internal_api_key
    assert request.headers["x-trace-id"] == trace
    assert not {"authorization", "cookie"} & set(request.headers)
    assert json.loads(request.body) == {"token": token}


async def test_a_validation_is_remembered(alice: Client, auth: AuthServer) -> None:
    for _ in range(10):
        assert (await alice.get("/api/conversations")).status_code == 200
    assert alice.account is not None
    assert auth.validations(alice.account.token) == 1


@pytest.mark.case(2)
async def test_a_token_is_not_trusted_past_its_own_end(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    account = auth.user(expires_in=3)
    client = clients(service, account)
    for _ in range(3):
        assert (await client.get("/api/conversations")).status_code == 200
    assert auth.validations(account.token) == 1

    async def refused() -> bool:
        return (await client.get("/api/conversations")).status_code == 401

    await eventually(refused)


@pytest.mark.case(2)
async def test_a_token_is_not_trusted_past_its_end_while_auth_is_down(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    account = auth.user(expires_in=3)
    client = clients(service, account)
    assert (await client.get("/api/conversations")).status_code == 200
    with auth.refusing():

        async def refused() -> bool:
            return (await client.get("/api/conversations")).status_code in {401, 503}

        await eventually(refused)


@pytest.mark.case(1)
async def test_a_refusal_is_remembered_only_for_moments(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    account = auth.user()
    auth.forget(account.token)
    client = clients(service, account)
    for _ in range(5):
        assert (await client.get("/api/conversations")).status_code == 401
    assert auth.validations(account.token) <= 5
    auth.user(account.name, token=account.token, user_id=account.id)

    async def accepted() -> bool:
        return (await client.get("/api/conversations")).status_code == 200

    await eventually(accepted, 20)


@pytest.mark.case(4)
async def test_five_hundred_requests_with_one_new_token_are_one_validation(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    account = auth.user()
    client = clients(service, account)
    with auth.held() as gate:
        requests = [asyncio.create_task(client.get("/api/conversations")) for _ in range(500)]
        await gate.arrived.wait()
        # The first caller going away fails none of the others.
        requests[0].cancel()
        gate.open()
    answers = await asyncio.gather(*requests[1:])
    assert {answer.status_code for answer in answers} == {200}
    assert auth.validations(account.token) == 1


@pytest.mark.case(5)
async def test_a_flood_of_random_tokens_takes_no_memory_and_pushes_no_user_out(
    start_service: StartService, clients: MakeClient, auth: AuthServer
) -> None:
    """On a live server, with room for a hundred verdicts; nothing of them is in the log."""
    service = start_service(
        AUTH_CACHE_SIZE="100", LOG_LEVEL="DEBUG", UNAUTHENTICATED_PER_MINUTE="0"
    )
    process, stranger = psutil.Process(service.pid), clients(service)
    account = auth.user()
    alice = clients(service, account)
    before = 0

    async def knock(number: int) -> None:
        headers = {"authorization": f"Bearer flood-{number}-{trace_id()}"}
        assert (await stranger.get("/api/conversations", headers=headers)).status_code == 401

    for batch in range(40):
        if batch == 20:
            before = process.memory_info().rss
        await asyncio.gather(*(knock(number) for number in range(50)))
        assert (await alice.get("/api/conversations")).status_code == 200
    # What waits for the garbage collector is in it.
    assert process.memory_info().rss - before < 6_000_000
    assert auth.validations(account.token) == 1
    assert "flood-" not in service.text()


async def test_two_tokens_of_one_user_are_one_user(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    phone = auth.user("alice")
    laptop = auth.user("alice", user_id=phone.id)
    conversation = await clients(service, phone).create()
    same = await clients(service, laptop).conversation(conversation["id"])
    assert same["user_id"] == phone.id


@pytest.mark.parametrize(
    "user_id",
    [
        "auth0|5f7c8ec7",
        "42",
        "用户",
        "a b",
        "../etc",
        "' OR 1=1 --",
        "x" * 255,
        "😀" * 255,
        "UPPER",
    ],
    ids=lambda user_id: user_id[:12],
)
async def test_a_users_id_may_be_any_text(
    service: Service, clients: MakeClient, auth: AuthServer, bob: Client, user_id: str
) -> None:
    client = clients(service, auth.user(user_id=user_id))
    conversation = await client.create()
    assert conversation["user_id"] == user_id
    await client.ask(conversation["id"], "Hello")
    ids = [item["id"] for item in (await client.get("/api/conversations")).json()["items"]]
    assert conversation["id"] in ids
    check_problem(await bob.get(f"/api/conversations/{conversation['id']}"), 404)


async def test_ids_that_differ_in_case_are_different_users(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    name = trace_id()
    conversation = await clients(service, auth.user(user_id=f"u-{name}")).create()
    other = clients(service, auth.user(user_id=f"U-{name}"))
    check_problem(await other.get(f"/api/conversations/{conversation['id']}"), 404)


# When the auth service does not do its part: 503, never 401, never in.


async def unavailable(client: Client) -> None:
    """The answer is 503, with a hint when to come again."""
    response = await client.get("/api/conversations")
    check_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert "www-authenticate" not in response.headers


@pytest.mark.case(3)
@pytest.mark.parametrize(
    "mode",
    [
        "down",
        "nonsense",
        "huge",
        ("status", 500),
        ("status", 403),
        ("status", 404),
        ("status", 400),
        ("status", 204),
        ("status", 429),
        ("redirect",),
    ],
    ids=str,
)
async def test_a_new_token_waits_for_an_auth_service_that_fails(
    service: Service, clients: MakeClient, auth: AuthServer, mode: Any
) -> None:
    account = auth.user()
    client = clients(service, account)
    if mode == "down":
        fault = auth.down()
    elif mode == "nonsense":
        fault = auth.nonsense()
    elif mode == "huge":
        fault = auth.huge()
    elif mode == ("redirect",):
        fault = auth.redirecting(auth.url + "/auth/validate?again")
    else:
        fault = auth.failing(mode[1], b"")
    with fault:
        await unavailable(client)
        assert not any("again" in request.target for request in auth.requests)
    # Failures are not remembered: the token works as soon as auth does.
    assert (await client.get("/api/conversations")).status_code == 200


@pytest.mark.case(3)
async def test_a_new_token_waits_for_an_auth_service_that_is_away(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    client = clients(service, auth.user())
    with auth.refusing():
        await unavailable(client)
    assert (await client.get("/api/conversations")).status_code == 200


@pytest.mark.case(3)
async def test_a_new_token_waits_for_an_auth_service_that_is_silent(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(AUTH_TIMEOUT_SECONDS="0.5"), auth.user())
    with auth.silent():
        await unavailable(client)


@pytest.mark.case(3)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"valid": True},
        {"valid": True, "user": None},
        {"valid": True, "user": {}},
        {"valid": True, "user": {"id": ""}, "claims": {}},
        {"valid": True, "user": {"id": None}, "claims": {}},
        {"valid": True, "user": {"id": "x" * 256}, "claims": {}},
        {"valid": True, "user": {"id": "a\0b"}, "claims": {}},
        {"valid": True, "user": {"id": ["x"]}, "claims": {}},
        {"valid": "true", "user": {"id": "x"}},
        {"valid": None, "user": {"id": "x"}},
        {"user": {"id": "x"}},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
async def test_an_answer_of_auth_without_a_user_lets_no_one_in(
    service: Service, clients: MakeClient, auth: AuthServer, body: dict[str, Any]
) -> None:
    client = clients(service, auth.user())
    with auth.failing(200, body):
        check_problem(await client.get("/api/conversations"), 503)


async def test_not_valid_is_not_in_whatever_the_status(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    client = clients(service, auth.user())
    with auth.failing(200, {"valid": False, "user": {"id": "x"}, "claims": {}}):
        assert (await client.get("/api/conversations")).status_code in {401, 503}


@pytest.mark.case(3)
async def test_those_who_were_let_in_go_on_while_auth_is_away(
    alice: Client, auth: AuthServer
) -> None:
    conversation = await alice.create()
    with auth.refusing():
        assert (await alice.ask(conversation["id"], "Hello"))["status"] == "complete"
    with auth.failing(500):
        assert (await alice.ask(conversation["id"], "Hello"))["status"] == "complete"


@pytest.mark.case(3)
async def test_a_refused_key_is_said_aloud_in_the_log(
    service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    client, trace = clients(service, auth.user()), trace_id()
    with auth.failing(403, {"detail": "wrong key"}):
        response = await client.get("/api/conversations", headers={"x-trace-id": trace})
        check_problem(response, 503)

    def logged() -> bool:
        lines = [line for line in service.logs() if line.get("trace_id") == trace]
        return any(line.get("level") in {"error", "critical", "ERROR"} for line in lines)

    await eventually(logged)
