"""Health, readiness and metrics: for machines, without credentials."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.auth import AuthServer
from tests.support.client import Client


async def test_health_says_that_the_process_lives(client: Client) -> None:
    response = await client.get("/api/health")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"status": "ok", "ready": True, "service": "chat-api"}


async def test_readiness_says_that_work_is_welcome(client: Client) -> None:
    response = await client.get("/api/ready")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


async def test_metrics_are_prometheus_text(client: Client, alice: Client) -> None:
    await alice.ask((await alice.create())["id"], "Count me")
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(response.text))
    assert any(family.samples for family in families)


@pytest.mark.parametrize("path", ["/api/health", "/api/ready", "/metrics"])
async def test_a_bad_token_does_not_matter_to_machines(
    client: Client, auth: AuthServer, path: str
) -> None:
    response = await client.get(path, headers={"authorization": "Bearer nobody"})
    assert response.status_code == 200
    assert auth.requests == []


async def test_health_and_metrics_do_not_ask_the_neighbours(
    client: Client, auth: AuthServer
) -> None:
    with auth.refusing():
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
