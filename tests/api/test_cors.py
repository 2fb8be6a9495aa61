"""CORS: the frontend may, others may not."""

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.inference import Inference
from tests.support.service import ServiceWith
from tests.support.shapes import NOWHERE, check_problem

FRONTEND = "http://localhost:3000"
ASKED = "authorization,content-type,last-event-id,idempotency-key,x-trace-id"


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    """What a browser asks before the real request."""
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": ASKED,
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_the_frontend_may_use_every_method_and_header(client: Client, method: str) -> None:
    path = f"/api/conversations/{NOWHERE}"
    response = await client.request("OPTIONS", path, headers=preflight(FRONTEND, method))
    assert response.status_code in {200, 204}
    assert response.headers["access-control-allow-origin"] == FRONTEND
    methods = response.headers["access-control-allow-methods"]
    assert method in {name.strip() for name in methods.split(",")}
    headers = response.headers["access-control-allow-headers"].lower()
    assert set(ASKED.split(",")) <= {name.strip() for name in headers.split(",")}


@pytest.mark.case(53)
@pytest.mark.parametrize(
    "asked",
    [
        "baggage,sentry-trace,tracestate,traceparent",
        "cache-control,pragma,if-none-match",
        "X-Datadog-Trace-Id, x-b3-traceid, newrelic",
        ",".join(f"x-header-{number}" for number in range(200)),
        "",
    ],
)
async def test_a_preflight_may_name_any_header(client: Client, asked: str) -> None:
    headers = {**preflight(FRONTEND), "access-control-request-headers": asked}
    response = await client.request("OPTIONS", "/api/conversations", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-headers"] == asked
    assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_for_another_method_is_refused_with_a_problem(client: Client) -> None:
    headers = preflight(FRONTEND, "BREW")
    response = await client.request("OPTIONS", "/api/conversations", headers=headers)
    check_problem(response, 400)
    assert response.headers["access-control-allow-origin"] == FRONTEND


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:3001",
        "https://localhost:3000",
        "http://localhost:3000.evil.example",
        "http://evil.example/http://localhost:3000",
        "null",
    ],
)
async def test_others_may_not(client: Client, alice: Client, origin: str) -> None:
    path = "/api/conversations"
    response = await client.request("OPTIONS", path, headers=preflight(origin))
    assert "access-control-allow-origin" not in response.headers
    actual = await alice.get(path, headers={"origin": origin})
    assert "access-control-allow-origin" not in actual.headers


async def test_the_frontend_may_read_answers_errors_and_streams(
    alice: Client, client: Client
) -> None:
    headers = {"origin": FRONTEND}
    conversation = await alice.create()
    for response in (
        await alice.get("/api/conversations", headers=headers),
        await client.get("/api/conversations", headers=headers),
        await alice.get(f"/api/conversations/{NOWHERE}", headers=headers),
        await alice.get("/api/nothing", headers=headers),
        await alice.post("/api/conversations", content=b"x" * 300_000, headers=headers),
        await alice.ask_raw(conversation["id"], {}, **headers),
    ):
        assert response.headers["access-control-allow-origin"] == FRONTEND
        assert "origin" in response.headers["vary"].lower()
    async with alice.send(conversation["id"], "Hello", headers=headers) as stream:
        await stream.rest()
        assert stream.headers["access-control-allow-origin"] == FRONTEND
        exposed = stream.headers["access-control-expose-headers"].lower()
        assert "x-trace-id" in exposed


async def test_several_origins_can_be_allowed(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(FRONTEND_URL="https://chat.example, https://beta.example/")
    client = clients(service, auth.user())
    for origin in ("https://chat.example", "https://beta.example"):
        response = await client.get("/api/conversations", headers={"origin": origin})
        assert response.headers["access-control-allow-origin"] == origin
    response = await client.get("/api/conversations", headers={"origin": FRONTEND})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.case(53)
async def test_any_origin_can_be_allowed_and_none_gets_credentials(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(FRONTEND_URL="*"), auth.user())
    for headers in ({"origin": "https://any.example"}, {"origin": "null", "cookie": "a=b"}):
        for response in (
            await client.get("/api/conversations", headers=headers),
            await client.get("/api/nothing", headers=headers),
            await client.request("OPTIONS", "/api/models", headers=preflight("null")),
        ):
            assert response.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in response.headers


async def test_an_origin_is_compared_as_browsers_write_it(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(FRONTEND_URL="HTTPS://Chat.Example.ORG:443/")
    origin = "https://chat.example.org"
    response = await clients(service, auth.user()).get(
        "/api/conversations", headers={"origin": origin}
    )
    assert response.headers["access-control-allow-origin"] == origin
