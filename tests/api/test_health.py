"""Health, readiness and metrics: for machines, without credentials."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service
from tests.support.shapes import NOWHERE
from tests.support.waiting import eventually


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
    response = await client.get(path, headers={"authorization": "Bearer unknown"})
    assert response.status_code == 200
    assert auth.requests == []


async def test_health_and_metrics_do_not_ask_the_neighbours(
    client: Client, auth: AuthServer
) -> None:
    with auth.refusing():
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.case(53)
async def test_every_get_route_answers_head_as_it_answers_get(
    service: Service, alice: Client, client: Client
) -> None:
    """The same status and headers, no body; of a stream only its beginning."""
    conversation = await alice.create()
    answer = await alice.ask(conversation["id"], "Hello")
    described = (await client.get("/openapi.json")).json()["paths"]
    paths = [path for path, operations in described.items() if "get" in operations]
    assert "/api/conversations/{conversation_id}/stream" in paths
    varying = {"date", "x-trace-id", "content-length", "connection", "transfer-encoding"}
    for path in [*paths, "/openapi.json", "/api/nothing"]:
        for caller in (alice, client):
            target = path.format(
                conversation_id=conversation["id"],
                message_id=answer["id"],
                chat_id=conversation["id"],
                user_id="someone",
            )
            got = await caller.get(target, headers={"last-event-id": "x", "connection": "close"})
            asked = await caller.request(
                "HEAD", target, headers={"last-event-id": "x", "connection": "close"}
            )
            assert (asked.status_code, asked.content) == (got.status_code, b""), path
            assert {k: v for k, v in asked.headers.items() if k not in varying} == {
                k: v for k, v in got.headers.items() if k not in varying
            }
            if path != "/metrics":
                assert asked.headers.get("content-length") == got.headers.get("content-length")
    assert (await client.request("HEAD", "/api/models/swap")).status_code == 405


@pytest.mark.case(53)
async def test_head_of_a_running_stream_ends_and_leaves_nothing_open(
    service: Service, alice: Client, inference: Inference
) -> None:
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    path = f"/api/conversations/{conversation['id']}/stream"
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.until("token")
        head = await alice.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")

        async def one_is_open() -> bool:
            text = (await alice.get("/metrics")).text
            return "\nchat_api_open_streams 1.0" in text

        await eventually(one_is_open)
        gate.open()
        await stream.rest()
        assert stream.text == "ab"


async def test_no_cache_may_keep_an_answer(alice: Client, client: Client) -> None:
    """RFC 9111, section 5.2.2.5. Streams are `no-cache`, files of the page say their own."""
    conversation = await alice.create()
    path = f"/api/conversations/{conversation['id']}"
    for response in (
        await alice.get("/api/conversations"),
        await alice.get(path),
        await alice.get("/api/models"),
        await alice.post("/api/conversations"),
        await alice.ask_raw(conversation["id"], {"content": "Hello"}, accept="application/json"),
        await alice.get(f"/api/conversations/{NOWHERE}"),
        await alice.post("/api/conversations", content=b"["),
        await client.get("/api/conversations"),
        await client.get("/api/health"),
        await client.get("/api/ready"),
        await client.get("/metrics"),
        await alice.request("DELETE", path),
    ):
        assert response.headers["cache-control"] == "no-store", response.request.url
