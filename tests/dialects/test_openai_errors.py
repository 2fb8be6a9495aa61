"""Every refusal under /v1: OpenAI's shape, and the exception that its client has for it."""

import asyncio
import json
from typing import Any

import openai
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.inference import Inference
from tests.support.service import Service, ServiceWith

POST = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
ASK: dict[str, Any] = {"model": "m", "input": "Hello"}
# The method, the path, what else is sent; the status, the exception, the type and the code.
REFUSALS: dict[str, tuple[str, str, dict[str, Any], int, type[openai.APIStatusError], str, str]] = {
    "no object": (
        "post", "/responses", {"body": []},
        400, openai.BadRequestError, "invalid_request_error", "invalid_value",
    ),
    "a bad value": (
        "post", "/responses", {"body": {**ASK, "temperature": 9}},
        400, openai.BadRequestError, "invalid_request_error", "invalid_value",
    ),
    "no tools": (
        "post", "/responses", {"body": {**ASK, "tools": [{"type": "web_search"}]}},
        400, openai.BadRequestError, "invalid_request_error", "unsupported_parameter",
    ),
    "no such path": (
        "post", "/embeddings", {"body": {}},
        404, openai.NotFoundError, "invalid_request_error", "not_found",
    ),
    "no such model": (
        "get", "/models/none", {},
        404, openai.NotFoundError, "invalid_request_error", "model_not_found",
    ),
    "no such model, though one is called so but for a line end": (
        "get", "/models/d20%0A", {},
        404, openai.NotFoundError, "invalid_request_error", "model_not_found",
    ),
    "another method": (
        "put", "/responses", {"body": ASK},
        405, openai.APIStatusError, "invalid_request_error", "method_not_allowed",
    ),
    "a body too large": (
        "post", "/responses", {"body": {"input": "x" * 5_000_000}},
        413, openai.APIStatusError, "invalid_request_error", "payload_too_large",
    ),
    "another type": (
        "post", "/responses", {"body": ASK, "options": {"headers": {"content-type": "text/plain"}}},
        415, openai.APIStatusError, "invalid_request_error", "unsupported_media_type",
    ),
    "headers too large": (
        "get", "/models", {"options": {"headers": {"x-large": "y" * 40_000}}},
        431, openai.APIStatusError, "invalid_request_error", "headers_too_large",
    ),
    "another's key": (
        "get", "/models", {"options": {"headers": {"authorization": "Bearer unknown"}}},
        401, openai.AuthenticationError, "authentication_error", "invalid_api_key",
    ),
}  # fmt: skip


def client_of(client: Client) -> openai.AsyncOpenAI:
    assert client.account is not None
    return openai.AsyncOpenAI(
        base_url=f"{client.url}/v1", api_key=client.account.token, max_retries=0
    )


def check(error: openai.APIStatusError, status: int, kind: str, code: str) -> None:
    assert (error.status_code, error.type, error.code) == (status, kind, code)
    assert error.response.headers["content-type"] == "application/json"
    assert error.request_id == error.response.headers["x-trace-id"]
    assert set(error.response.json()["error"]) == {"message", "type", "code", "param"}


@pytest.mark.case(78)
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_the_exception_that_the_client_has_for_it(
    alice: Client, name: str
) -> None:
    method, path, sent, status, exception, kind, code = REFUSALS[name]
    async with client_of(alice) as ai:
        with pytest.raises(exception) as refused:
            await getattr(ai, method)(path, cast_to=object, **sent)
    assert type(refused.value) is exception
    check(refused.value, status, kind, code)


@pytest.mark.case(78)
async def test_a_limit_and_an_outage_are_the_client_s_exceptions(
    service_with: ServiceWith, auth: AuthServer, inference: Inference, clients: MakeClient
) -> None:
    limited = clients(service_with(MESSAGES_PER_MINUTE="3"), auth.user())
    async with client_of(limited) as ai:
        for _ in range(3):
            await ai.responses.create(**ASK)
        with pytest.raises(openai.RateLimitError) as many:
            await ai.responses.create(**ASK)
    check(many.value, 429, "rate_limit_error", "rate_limit_exceeded")
    assert int(many.value.response.headers["retry-after"]) <= 60
    with auth.down():
        async with client_of(clients(service_with(), auth.user())) as ai:
            with pytest.raises(openai.InternalServerError) as outage:
                await ai.models.list()
    check(outage.value, 503, "server_error", "auth_unavailable")


@pytest.mark.case(78)
@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (POST + b"host: y\r\n\r\n", 400, "bad_request"),
        (POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}", 400, "bad_request"),
        (POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (POST + b"transfer-encoding: gzip, chunked\r\n\r\n", 501, "unknown_transfer_coding"),
        (POST + b"x: " + b"y" * 70_000, 431, "headers_too_large"),
    ],
)
async def test_what_the_server_itself_refuses_has_their_shape(
    service: Service, request_: bytes, status: int, code: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(request_)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nx-request-id: " in head
    assert b"\r\ncontent-type: application/json\r\n" in head
    error = json.loads(body)["error"]
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert (error["type"], error["code"]) == (kind, code)


@pytest.mark.case(78)
@pytest.mark.parametrize(
    ("origin", "method"), [("http://localhost:3000", "BREW"), ("http://evil.example", "POST")]
)
@pytest.mark.parametrize("path", ["/v1", "/v1/responses", "/v1/nothing"])
async def test_a_refused_preflight_has_their_shape(
    client: Client, path: str, origin: str, method: str
) -> None:
    headers = {"origin": origin, "access-control-request-method": method}
    refused = await client.request("OPTIONS", path, headers=headers)
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/json"
    assert refused.headers["x-request-id"] == refused.headers["x-trace-id"]
    assert refused.json()["error"]["code"] == "bad_request"
    allowed = refused.headers.get("access-control-allow-origin")
    assert allowed == (origin if method == "BREW" else None)
