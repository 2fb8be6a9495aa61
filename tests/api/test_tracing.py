"""The trace id: taken over or made, on every response, in the log."""

import asyncio
import re
import uuid
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, raw_exchange, trace_id
from tests.support.inference import Inference, Script
from tests.support.service import Service
from tests.support.shapes import NOWHERE
from tests.support.waiting import eventually

SANE = re.compile(r"[A-Za-z0-9._-]{8,128}")


@pytest.mark.parametrize(
    "path",
    [
        "/api/health",
        "/api/ready",
        "/metrics",
        "/api/conversations",
        f"/api/conversations/{NOWHERE}",
        "/api/nothing",
        "/openapi.json",
        "/api/models",
    ],
)
async def test_every_response_has_a_trace_id(alice: Client, path: str) -> None:
    trace = trace_id()
    response = await alice.get(path, headers={"x-trace-id": trace})
    assert response.headers["x-trace-id"] == trace
    made = [(await alice.get(path)).headers["x-trace-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(SANE.fullmatch(one) for one in made)


async def test_streams_and_errors_have_it_too(
    alice: Client, client: Client, inference: Inference
) -> None:
    trace = trace_id()
    headers = {"x-trace-id": trace}
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello", headers=headers) as stream:
        await stream.rest()
        assert stream.headers["x-trace-id"] == trace
    for response in (
        await client.get("/api/conversations", headers=headers),
        await alice.ask_raw(conversation["id"], {}, **headers),
        await alice.post("/api/conversations", content=b"{", headers=headers),
        await alice.post("/api/conversations", content=b"x" * 300_000, headers=headers),
        await alice.delete("/api/conversations", headers=headers),
    ):
        assert response.status_code >= 400
        assert response.headers["x-trace-id"] == trace
        assert response.json()["trace_id"] == trace
    inference.once(Script().status(500))
    failed = await alice.ask_raw(conversation["id"], {"content": "Hello"}, **headers)
    assert failed.headers["x-trace-id"] == failed.json()["trace_id"] == trace


async def test_a_traceparent_gives_its_trace_id(
    service: Service, auth: AuthServer, inference: Inference
) -> None:
    trace = trace_id()
    account = auth.user()
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "accept": "application/json"}
    async with Client(service.url, account) as client:
        conversation = await client.create()
        response = await client.ask_raw(conversation["id"], {"content": "Hello"}, **headers)
    assert response.headers["x-trace-id"] == trace
    assert (await inference.call()).headers["x-trace-id"] == trace


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a b",
        "x" * 10_000,
        "<script>",
        '"quoted"',
        "semi;colon",
        "new\tline",
        "%0d%0aset-cookie: a=b",
        "${jndi:ldap://x}",
        "{}",
    ],
    ids=lambda bad: repr(bad)[:16],
)
async def test_a_malformed_trace_id_is_replaced(alice: Client, bad: str) -> None:
    response = await alice.get("/api/conversations", headers={"x-trace-id": bad})
    assert response.status_code == 200
    assert response.headers["x-trace-id"] != bad
    assert SANE.fullmatch(response.headers["x-trace-id"])


async def test_bytes_as_a_trace_id_are_replaced(service: Service) -> None:
    response = await raw_exchange(
        service.url,
        b"GET /api/health HTTP/1.1\r\nhost: x\r\nx-trace-id: \xff\xfe\xe2\x80\xa8abcdefgh\r\n\r\n",
    )
    assert response.status in {200, 400}
    if response.status == 200:
        assert SANE.fullmatch(response.headers["x-trace-id"])


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{'g' * 32}-00f067aa0ba902b7-01",
        f"ff-{uuid.UUID(int=5).hex}-00f067aa0ba902b7-01",
        f"00-{uuid.UUID(int=5).hex}-{'0' * 16}-01",
        f"00-{uuid.UUID(int=5).hex}",
        f"00-{uuid.UUID(int=5).hex[:-1]}-00f067aa0ba902b7-01",
    ],
)
async def test_a_malformed_traceparent_is_replaced(alice: Client, bad: str) -> None:
    response = await alice.get("/api/conversations", headers={"traceparent": bad})
    assert response.status_code == 200
    made = response.headers["x-trace-id"]
    assert SANE.fullmatch(made)
    assert made not in bad


async def test_the_log_can_be_searched_by_it(
    alice: Client, service: Service, inference: Inference
) -> None:
    trace = trace_id()
    conversation = await alice.create()
    await alice.ask_raw(conversation["id"], {"content": "Hello"}, **{"x-trace-id": trace})
    assert (await inference.call()).headers["x-trace-id"] == trace
    await eventually(
        lambda: [line for line in service.logs() if line.get("trace_id") == trace],
        what="a log line with the trace id",
    )


async def test_every_line_of_the_log_is_json(alice: Client, service: Service) -> None:
    await alice.ask((await alice.create())["id"], "Hello")
    assert service.stray_lines() == []
    assert service.logs()
    for line in service.logs():
        assert {"level", "event"} <= set(line), line


async def test_a_pipelined_request_is_not_logged_as_the_user_of_the_one_before(
    service: Service, alice: Client
) -> None:
    """The second request has no token, and is handled in the context that the first one left."""
    traces = [trace_id(), trace_id()]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    request = "GET /api/conversations HTTP/1.1\r\nHost: a\r\nx-trace-id: {}\r\n{}\r\n"
    authorization = f"Authorization: {alice.http.headers['authorization']}\r\n"
    writer.write(
        (request.format(traces[0], authorization) + request.format(traces[1], "")).encode()
    )
    async with asyncio.timeout(10):
        await reader.readuntil(b" 401 ")
    writer.close()
    await writer.wait_closed()

    def logged() -> list[dict[str, Any]]:
        return [
            line
            for trace in traces
            for line in service.logs()
            if line.get("trace_id") == trace and line["event"] == "request"
        ]

    await eventually(lambda: len(logged()) == 2)
    first, second = logged()
    assert first["user_id"] == alice.user_id
    assert "user_id" not in second
