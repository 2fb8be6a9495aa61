"""HTTP that no client library would send."""

import asyncio
import json

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, raw_exchange
from tests.support.service import Service

GET = b"GET /api/health HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.case(32)
async def test_headers_over_32_kb_are_refused(service: Service, client: Client) -> None:
    for headers in (
        b"x-large: " + b"y" * 40_000 + b"\r\n",
        b"".join(b"x-many-%d: %b\r\n" % (number, b"y" * 90) for number in range(400)),
    ):
        response = await raw_exchange(service.url, GET + headers + b"\r\n")
        assert response.status in {0, 400, 431}
    assert (await client.get("/api/health")).status_code == 200


@pytest.mark.case(32)
async def test_a_target_of_a_megabyte_is_refused(service: Service, client: Client) -> None:
    request = b"GET /api/health?" + b"x" * (1 << 20) + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    response = await raw_exchange(service.url, request)
    assert response.status in {0, 400, 414, 431}
    assert (await client.get("/api/health")).status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /api/health\r\n\r\n",
        b"GET /api/health HTTP/9.9\r\nhost: x\r\n\r\n",
        GET + b"content-length: -5\r\n\r\n",
        GET + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        GET + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        GET + b"bad header: x\r\n\r\n",
        GET + b"x-a: b\0c\r\n\r\n",
    ],
    ids=[
        "no HTTP",
        "TLS",
        "HTTP/0.9",
        "HTTP/9.9",
        "negative length",
        "two lengths",
        "bad chunk",
        "bad name",
        "NUL",
    ],
)
async def test_broken_http_is_refused(service: Service, client: Client, request_: bytes) -> None:
    # A body that never comes may be waited for: ending our side ends the wait.
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(request_)
    writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert (await client.get("/api/health")).status_code == 200


@pytest.mark.case(32)
async def test_who_says_nothing_or_half_is_hung_up_on(service: Service, auth: AuthServer) -> None:
    token = auth.user().token.encode()
    post = b"POST /api/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + token
    # Half a body may be answered (408, say) before the end; what counts is that it ends.
    halves = [
        b"",
        b"GET /api/hea",
        GET + b"x-half: he",
        post + b"\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        post + b"\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    ]

    async def ends(half: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(half)
        async with asyncio.timeout(40):
            await reader.read()
        writer.close()

    await asyncio.gather(*(ends(half) for half in halves))


@pytest.mark.case(8)
async def test_a_header_twice_does_not_smuggle_a_user_in(
    service: Service, auth: AuthServer
) -> None:
    good = auth.user().token.encode()
    for first, second in ((b"nobody", good), (good, b"nobody")):
        response = await raw_exchange(
            service.url,
            b"GET /api/conversations HTTP/1.1\r\nhost: x\r\n"
            b"authorization: Bearer " + first + b"\r\n"
            b"authorization: Bearer " + second + b"\r\nconnection: close\r\n\r\n",
        )
        assert response.status in {400, 401}


@pytest.mark.case(8)
async def test_bytes_that_are_no_text_in_a_token_are_refused(service: Service) -> None:
    for token in (b"", b"\xff\xfe", b"a b", b"caf\xc3\xa9", b"x" * 20_000, b"' OR '1'='1", b"\x01"):
        response = await raw_exchange(
            service.url,
            b"GET /api/conversations HTTP/1.1\r\nhost: x\r\n"
            b"authorization: Bearer " + token + b"\r\nconnection: close\r\n\r\n",
        )
        assert response.status in {400, 401, 431}
        if response.status == 401:
            assert json.loads(response.body)["status"] == 401


async def test_two_requests_on_one_connection_are_both_answered(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(GET + b"\r\n" + GET + b"connection: close\r\n\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert answer.count(b'"service":"chat-api"') == 2
