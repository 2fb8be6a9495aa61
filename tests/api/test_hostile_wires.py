"""Clients that attack by the form of their HTTP, and clients that vanish."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, raw_exchange
from tests.support.events import StrictReader, as_an_old_client, text_of
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference
from tests.support.known import counted, length
from tests.support.lazy import lazily
from tests.support.service import Service
from tests.support.waiting import eventually
from tests.support.wire import vanish

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def flat_memory(service: Service, most: int) -> Iterator[None]:
    """The service's memory grows by less than `most` bytes, at its highest."""
    process = psutil.Process(service.pid)
    Path(f"/proc/{service.pid}/clear_refs").write_text("5")  # forget the peak so far
    before = process.memory_info().rss
    yield
    peak = int(Path(f"/proc/{service.pid}/status").read_text().split("VmHWM:")[1].split()[0])
    assert peak * 1024 - before < most


async def pour(service: Service, head: bytes, piece: bytes, most: int = 64 << 20) -> int:
    """Send a head, then the same bytes until the service hangs up; how many it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    sent = 0
    try:
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                writer.write(head)
                while sent < most and not reader.at_eof():
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return sent


def chunked(auth: AuthServer) -> bytes:
    """The head of a POST whose body comes in chunks."""
    return (
        b"POST /api/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + auth.user().token.encode()
        + b"\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )


@pytest.mark.case(37)
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"2\r\n{}\r\n0\r\n", b"x-trailer: %b\r\n" % (b"y" * 16_000)),
        (b"2\r\n{}\r\n0\r\n", b"".join(b"x-%d: y\r\n" % n for n in range(5000))),
        (b"2;", b"extension=" + b"y" * 16_000 + b";"),
        (b"2\r\n{}\r\n0\r\nx-trailer: ", b"y" * 16_000),
        (b"2;a=", b"y" * 16_000),
    ],
    ids=["trailers", "small trailers", "extensions", "one trailer", "one extension"],
)
async def test_what_surrounds_a_chunked_body_is_bounded(
    service: Service, auth: AuthServer, client: Client, start: bytes, piece: bytes
) -> None:
    """Trailers and chunk extensions are neither headers nor body, and are limited as well."""
    with flat_memory(service, 20_000_000):
        # What the sockets' buffers hold, it may still take.
        assert await pour(service, chunked(auth) + start, piece) < 16 << 20
    assert (await client.get("/api/health")).status_code == 200


@pytest.mark.case(37)
async def test_trailers_are_no_headers(service: Service, auth: AuthServer) -> None:
    """A trailer comes after the request was let in, or not."""
    token = auth.user().token.encode()
    body = b"2\r\n{}\r\n0\r\nauthorization: Bearer " + token + b"\r\nx-trace-id: no\r\n\r\n"
    head = b"POST /api/conversations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    response = await raw_exchange(service.url, head + b"connection: close\r\n\r\n" + body)
    assert response.status == 401


@pytest.mark.case(37)
async def test_a_body_in_chunks_of_one_byte_is_a_body(service: Service, auth: AuthServer) -> None:
    title = "x" * 500
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"title":"%b"}' % title.encode())
    pad = b"".join(b"1\r\n \r\n" for _ in range(20_000))
    response = await raw_exchange(service.url, chunked(auth) + chunks + pad + b"0\r\n\r\n")
    assert response.status == 201
    assert response.json()["title"] == title


@pytest.mark.case(37)
async def test_requests_behind_an_open_stream_wait_and_are_bounded(
    service: Service, alice: Client, inference: Inference
) -> None:
    """A flood pipelined behind a stream fills no memory and disturbs no stream."""
    gate = Gate()
    inference.once(counted(2).wait(gate).count(2).done())
    conversation = await alice.create()
    assert alice.account is not None
    body = b'{"content":"Count"}'
    request = (
        f"POST /api/conversations/{conversation['id']}/messages HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {alice.account.token}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    with flat_memory(service, 30_000_000):
        writer.write(request)
        await reader.readuntil(b":1>")
        for _ in range(16):
            # The sockets' buffers fill, and the rest waits on our side.
            writer.write(b"GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n" * 50_000)
            assert (await alice.get("/api/health")).status_code == 200
        gate.open()
        answer = await reader.readuntil(b'"done":true')
    assert b":3>" in answer
    assert b"HTTP/1.1" not in answer
    writer.transport.abort()


SMUGGLED = b"GET /api/models HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.case(38)
@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"content-length: 0\r\ncontent-length: 5\r\n\r\n",
        b"content-length: 0, 5\r\n\r\n",
        b"content-length: +0\r\n\r\n",
        b"content-length: 0x0\r\n\r\n",
        b"x-folded: a\r\n content-length: 5\r\n\r\n",
    ],
    ids=lambda framing: framing[:44].decode("latin-1"),
)
async def test_a_request_whose_end_is_in_doubt_hides_no_second_one(
    service: Service, framing: bytes
) -> None:
    """RFC 9112, section 6.3. At most the first is answered, and the connection ends with it."""
    request = b"POST /api/health HTTP/1.1\r\nhost: x\r\n" + framing + SMUGGLED
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    # 405 is the first one's answer, 401 would be the hidden one's.
    assert b"HTTP/1.1 401" not in answer
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.case(38)
@pytest.mark.parametrize(
    "extra",
    [
        b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n",
        b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\n",
        b"expect: 100-continue\r\n",
        b"expect: 200-maybe\r\n",
    ],
    ids=["websocket", "h2c", "continue", "unknown expectation"],
)
async def test_what_http_offers_beyond_requests_changes_nothing(
    service: Service, extra: bytes
) -> None:
    request = b"GET /api/health HTTP/1.1\r\nhost: x\r\n" + extra + b"\r\n"
    response = await raw_exchange(service.url, request)
    assert response.status == 200
    assert response.json()["status"] == "ok"


@pytest.mark.case(38)
async def test_a_client_of_1996_gets_its_answer_and_its_stream(
    service: Service, alice: Client
) -> None:
    """HTTP/1.0 has no chunks: the body ends with the connection."""
    conversation = await alice.create()
    assert alice.account is not None
    body = b'{"content":"Hello"}'
    response = await raw_exchange(
        service.url,
        (
            f"POST /api/conversations/{conversation['id']}/messages HTTP/1.0\r\n"
            f"authorization: Bearer {alice.account.token}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        + body,
    )
    assert response.status == 200
    assert {"transfer-encoding", "content-length"}.isdisjoint(response.headers)
    # Strict about lines: a chunk's size between the events would be malformed.
    assert text_of(StrictReader().feed(response.body)) == PLAIN_TEXT
    assert as_an_old_client(response.body) == (PLAIN_TEXT, True)


# Clients that vanish: nothing they do tells that they are gone.


@pytest.fixture
def impatient(
    usual_env: dict[str, str], auth: AuthServer, inference: Inference, tmp_path: Path
) -> Iterator[Service]:
    """A service that gives vanished clients up after a second."""
    service = Service(
        {**usual_env, "HEARTBEAT_SECONDS": "1", "PYTHONPATH": str(ROOT)},
        folder=tmp_path,
        command=(sys.executable, "-m", "tests.support.impatient"),
    )
    yield service.start()
    service.close()


@pytest.mark.case(17)
@pytest.mark.skipif(sys.platform != "linux", reason="socket filters and TCP_USER_TIMEOUT are Linux")
async def test_a_client_that_vanished_without_a_word_is_given_up_and_its_answer_goes_on(
    impatient: Service, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    """Half-open: its machine lost power. The kernel notices that what we send is not taken."""
    gate = Gate()
    inference.once(counted(2).wait(gate).count(2).done())
    client = clients(impatient, auth.user())
    conversation = await client.create()
    path = f"/api/conversations/{conversation['id']}/messages"

    async def open_streams() -> float:
        text = (await client.get("/metrics")).text
        return float(text.split("\nchat_api_open_streams ")[1].split()[0])

    async with lazily(client, "POST", path, {"content": "Count"}) as stream:
        assert await stream.head() == 200
        assert await open_streams() == 1
        vanish(stream.raw)

        async def given_up() -> bool:
            return await open_streams() == 0

        await eventually(given_up, 30)
    gate.open()

    async def complete() -> bool:
        [_, answer] = await client.messages(conversation["id"])
        return answer["status"] == "complete" and length(answer["content"]) == 4

    await eventually(complete)
