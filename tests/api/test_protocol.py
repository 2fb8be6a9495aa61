"""HTTP from hostile clients: each is refused, and other clients are unaffected."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, ServiceWith
from tests.support.waiting import eventually

GET = b"GET /api/health HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /api/conversations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture
def hasty(service_with: ServiceWith, auth: AuthServer, inference: Inference) -> Service:
    """A service that waits for no request longer than a second."""
    return service_with(REQUEST_SECONDS="1", KEEP_ALIVE_SECONDS="2")


@contextlib.asynccontextmanager
async def connected(
    service: Service,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(service: Service, *pieces: bytes, timeout: float = 20) -> bytes:
    """Everything that comes back until the other side closes."""
    async with connected(service) as (reader, writer):
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                writer.write(piece)
                await writer.drain()
        answer = b""
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    answer += data
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def problem(answer: bytes) -> dict[str, object]:
    """The problem document of the only response."""
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    document: dict[str, object] = json.loads(body)
    assert document["trace_id"] == headers["x-trace-id"]
    assert [document["status"]] == statuses(answer)
    return document


BROKEN = {
    "no HTTP": b"nonsense\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"BREW /api/health HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET /api/health HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: y\r\n\r\n",
    "a bad host": b"GET /api/health HTTP/1.1\r\nhost: a b/c\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "length and chunks": POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before a colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a bad chunk": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "bare line feeds": b"GET /api/health HTTP/1.1\nhost: x\n\n",
    "a folded header": GET + b"x-a: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("request_", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_http_is_refused_with_a_problem(service: Service, request_: bytes) -> None:
    assert problem(await exchange(service, request_))["status"] == 400


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"identity", b"xchunked"])
async def test_a_transfer_coding_that_nobody_knows_is_501(service: Service, coding: bytes) -> None:
    request = POST + b"transfer-encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
    assert problem(await exchange(service, request))["status"] == 501


async def test_headers_over_the_limit_are_431(service: Service) -> None:
    for headers in (b"x: " + b"y" * 40_000, b"\r\n".join(b"x%d: y" % n for n in range(4000))):
        assert problem(await exchange(service, GET + headers + b"\r\n\r\n"))["status"] == 431
    # Without an end, too.
    assert problem(await exchange(service, GET + b"x: " + b"y" * 70_000))["status"] == 431


async def test_what_surrounds_a_body_is_bounded_as_headers_are(
    service: Service, auth: AuthServer
) -> None:
    """Chunk extensions and trailers may be of any length, and hold no byte of the body."""
    start = POST + b"authorization: Bearer " + auth.user().token.encode()
    start += b"\r\ntransfer-encoding: chunked\r\n\r\n"
    assert 201 in statuses(
        await exchange(
            service,
            start
            + b'2;a=b;c="d"\r\n{}\r\n0\r\nx-trailer: y\r\n\r\n'
            + GET
            + b"connection: close\r\n\r\n",
        )
    )
    surrounds = (b"2;" + b"x" * 1_000_000, b"2\r\n{}\r\n0\r\nx-trailer: " + b"y" * 1_000_000)
    for endless in surrounds:
        assert problem(await exchange(service, start + endless))["status"] == 431


async def test_a_body_in_single_bytes_is_a_body(service: Service, auth: AuthServer) -> None:
    body = b'{"title": "' + b"x" * 400 + b'"}' + b" " * 40_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    request = POST + b"authorization: Bearer " + auth.user().token.encode()
    request += (
        b"\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n" + chunks + b"0\r\n\r\n"
    )
    assert statuses(await exchange(service, request)) == [201]


async def test_a_trailer_is_no_header(service: Service, auth: AuthServer) -> None:
    token = auth.user().token.encode()
    trailer = b"0\r\nauthorization: Bearer " + token + b"\r\n\r\n"
    request = POST + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + trailer
    assert statuses(await exchange(service, request)) == [401]
    assert auth.validations(auth.user().token) == 0


OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "websocket": b"upgrade: websocket\r\nconnection: keep-alive, upgrade\r\n",
    "two lines": b"connection: x\r\nconnection: UPGRADE\r\nupgrade: a/1, b\r\nupgrade: TLS/1.3\r\n",
    "and a wish to wait": b"connection: upgrade\r\nupgrade: h2c\r\nexpect: 100-continue\r\n",
    "only a wish to wait": b"expect: 100-continue\r\n",
    "an unknown wish": b"expect: 200-maybe\r\n",
}


@pytest.mark.case(53)
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("cut", [None, 40, 1], ids=["whole", "in pieces", "in bytes"])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(
    service: Service, auth: AuthServer, offer: bytes, chunked: bool, cut: int | None
) -> None:
    """Also what follows on the connection, which is not another protocol."""
    head = POST + b"authorization: Bearer " + auth.user().token.encode() + b"\r\n" + offer
    body = b'{"title": "Written by Java"}'
    if chunked:
        framed = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framed = b"content-length: %d\r\n\r\n%b" % (len(body), body)
    request = head + framed
    request += GET + offer + b"\r\n" + GET + b"connection: close\r\n\r\n"
    pieces = [
        request[at : at + (cut or len(request))]
        for at in range(0, len(request), cut or len(request))
    ]
    answer = await exchange(service, *pieces)
    assert [status for status in statuses(answer) if status != 100] == [201, 200, 200]
    assert b'"Written by Java"' in answer


@pytest.mark.case(53)
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        (
            "POST",
            "/api/conversations/{id}/messages",
            b'{"content": "Hello", "temperature": 9}',
            422,
        ),
        ("POST", "/api/conversations/{id}/regenerate", b'{"temperature": 9}', 422),
        ("PUT", "/api/conversations/{id}", b'{"title": "Put"}', 200),
        ("PATCH", "/api/conversations/{id}", b'{"title": "Patched"}', 200),
        ("PATCH", "/api/conversations/{id}", b"x" * 262_145, 413),
    ],
)
async def test_every_endpoint_reads_the_body_of_a_request_that_offers_an_upgrade(
    service: Service,
    clients: MakeClient,
    auth: AuthServer,
    method: str,
    path: str,
    body: bytes,
    status: int,
) -> None:
    account = auth.user()
    conversation = await clients(service, account).create()
    request = (
        f"{method} {path.format(id=conversation['id'])} HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {account.token}\r\ncontent-type: application/json\r\n"
        f"connection: upgrade, close\r\nupgrade: h2c\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    assert statuses(await exchange(service, request + body)) == [status]


async def test_a_client_of_http_1_0_is_not_told_to_continue(service: Service) -> None:
    request = (
        b"POST /api/conversations HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert statuses(await exchange(service, request)) == [401]


async def test_http_1_0_and_absolute_targets_are_understood(service: Service) -> None:
    assert statuses(await exchange(service, b"GET /api/health HTTP/1.0\r\n\r\n")) == [200]
    absolute = b"GET http://x/api/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert statuses(await exchange(service, absolute)) == [200]


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "CONNECT", "LINK"])
async def test_other_methods_are_405(service: Service, method: str) -> None:
    request = f"{method} /api/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await exchange(service, request.encode())
    assert statuses(answer) == [405]
    assert b"\r\nallow: GET" in answer


async def test_what_follows_a_request_does_not_take_its_answer(service: Service) -> None:
    answer = await exchange(service, GET + b"\r\n" + GET + b"\r\n" + b"\0 nonsense\r\n\r\n")
    assert statuses(answer) == [200, 200]
    assert answer.count(b'"service":"chat-api"') == 2


@pytest.mark.case(32)
async def test_what_follows_a_stream_does_not_break_it(
    hasty: Service, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    """Neither nonsense nor half a request, whose time runs out."""
    account = auth.user()
    alice = clients(hasty, account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    async with alice.send(conversation["id"], "Hi") as stream:
        await stream.until("token")
        join = (
            f"GET /api/conversations/{conversation['id']}/stream HTTP/1.1\r\nhost: x\r\n"
            f"authorization: Bearer {account.token}\r\n\r\n"
        ).encode()
        # A token makes it wait for its body, where it gets its turn.
        post = POST + f"authorization: Bearer {account.token}\r\n".encode()

        async def followed_by(rest: bytes) -> bytes:
            async with connected(hasty) as (reader, writer):
                writer.write(join + rest)
                head = await reader.readuntil(b'"a"')
                joined.append(None)
                return head + await reader.read()

        joined: list[None] = []
        async with asyncio.timeout(20):
            following = [
                asyncio.create_task(followed_by(rest))
                for rest in (
                    b"\0nonsense\r\n\r\n",
                    b"GET /api/hea",
                    GET + b"x: " + b"y" * 70_000,
                    post + b"content-length: 9\r\n\r\n{",
                    post + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
                )
            ]
            await eventually(lambda: len(joined) == 5)
            await refusals(hasty, "request_timeout", 2)  # the half ones have had their time
            gate.open()
            answers = await asyncio.gather(*following)
    for answer in answers:
        assert statuses(answer) == [200]
        assert b'"done":true' in answer
        assert answer.endswith(b"0\r\n\r\n")


async def test_a_stream_with_a_request_behind_it_stays_well_formed(
    service: Service, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    account = auth.user()
    alice = clients(service, account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b", "c").done())
    body = b'{"content": "One"}'
    send = (
        f"POST /api/conversations/{conversation['id']}/messages HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {account.token}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    async with connected(service) as (reader, writer), asyncio.timeout(20):
        writer.write(send + body + GET + b"connection: close\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert statuses(head) == [200]
        events = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunk = await reader.readexactly(size + 2)
            events += chunk[:-2]
            assert chunk.endswith(b"\r\n")
            if b'"a"' in chunk:
                gate.open()
        assert b'"c"' in events
        assert b'"done":true' in events
        assert await reader.readexactly(2) == b"\r\n"
        assert statuses(await reader.read()) == [200]


async def test_a_stream_with_a_request_behind_it_hears_that_its_client_has_gone(
    service: Service, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    account = auth.user()
    alice = clients(service, account)
    conversation = await alice.create()
    inference.once(Script().tokens("a").hang())
    body = b'{"content": "One"}'
    send = (
        f"POST /api/conversations/{conversation['id']}/messages HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {account.token}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    async with connected(service) as (reader, writer):
        writer.write(send + body + GET + b"\r\n")
        await reader.readuntil(b'"a"')
    # No client is subscribed any more, so the next message takes over.
    await alice.ask(conversation["id"], "Two")


async def refusals(service: Service, code: str, least: int = 1) -> float:
    """How often this was refused; waits until it was, at least so often."""
    async with Client(service.url) as client:

        async def counted() -> float:
            text = (await client.get("/metrics")).text
            found = re.search(rf'chat_api_refusals_total{{code="{code}"}} (\S+)', text)
            count = float(found[1]) if found else 0.0
            return count if count >= least else 0.0

        return await eventually(counted)


async def test_half_a_request_is_408_and_none_at_all_is_closed(
    hasty: Service, auth: AuthServer
) -> None:
    halves = [
        b"GET /api/hea",
        GET + b"x-half: he",
        POST
        + b"authorization: Bearer "
        + auth.user().token.encode()
        + b"\r\ncontent-length: 9\r\n\r\n{",
    ]
    for half in halves:
        assert problem(await exchange(hasty, half))["status"] == 408
    assert await exchange(hasty, b"") == b""
    # Answered already: nothing is to be said any more.
    assert statuses(await exchange(hasty, POST + b"content-length: 9\r\n\r\n{")) == [401]
    # Behind a response.
    assert statuses(await exchange(hasty, GET + b"\r\n" + b"GET /api/hea")) in ([200], [200, 408])


@pytest.mark.case(46)
async def test_an_idle_connection_is_closed_after_a_while(hasty: Service) -> None:
    assert statuses(await exchange(hasty, GET + b"\r\n")) == [200]


@pytest.mark.case(46)
@pytest.mark.parametrize(
    ("request_", "after"),
    [
        # RFC 9112, section 2.2: empty lines may come before a request, and are none.
        pytest.param(GET + b"\r\n", b"\r\n", id="an empty line"),
        # There is no token, so the response does not wait for the body.
        pytest.param(POST + b"content-length: 2\r\n\r\n", b"{}", id="a body"),
    ],
)
async def test_what_comes_after_a_response_does_not_keep_the_connection_open(
    hasty: Service, request_: bytes, after: bytes
) -> None:
    async with connected(hasty) as (reader, writer), asyncio.timeout(20):
        writer.write(request_)
        await reader.readuntil(b"}")
        writer.write(after)
        await reader.read()


async def test_a_trickle_does_not_prolong_a_request_s_time(hasty: Service) -> None:
    async def trickle(first: bytes) -> bytes:
        async with connected(hasty) as (reader, writer):
            writer.write(first)
            reading = asyncio.create_task(reader.read())
            async with asyncio.timeout(20):
                while not reading.done():
                    with contextlib.suppress(ConnectionError):
                        writer.write(b"x")
                        await writer.drain()
                    await asyncio.wait({reading}, timeout=0.2)
                with contextlib.suppress(ConnectionError):
                    return reading.result()
        return b""

    firsts = [b"GET /", GET + b"x-slow: ", GET + b"\r\nGET /"]
    assert all(
        set(statuses(answer)) <= {200, 408}
        for answer in await asyncio.gather(*map(trickle, firsts))
    )


@pytest.mark.case(46)
async def test_connections_over_the_limit_get_503_and_probes_their_answer(
    service_with: ServiceWith, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(MAX_CONNECTIONS="20")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            reader, writer = await stack.enter_async_context(connected(service))
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"}")
        for path in (b"/api/conversations", b"/api/ready"):
            request = b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"
            answer = await exchange(service, request)
            document = problem(answer)
            assert (document["status"], str(document["type"]).rpartition(":")[2]) == (
                503,
                "too_many_connections",
            )
            assert b"retry-after: " in answer.lower()
        for path in (b"/api/health", b"/metrics"):
            request = b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"
            assert statuses(await exchange(service, request)) == [200]
        # Those that are in are served.
        writer.write(GET + b"\r\n")
        assert b" 200 " in await reader.readuntil(b"}")
        # One that says nothing does not stay.
        assert await exchange(service, b"", timeout=5) == b""

    async def has_room() -> bool:
        async with Client(service.url) as client:
            return (await client.get("/api/ready")).status_code == 200

    await eventually(has_room)


@pytest.mark.case(46)
async def test_a_thousand_idle_connections_leave_nothing_behind(hasty: Service) -> None:
    process = psutil.Process(hasty.pid)
    await exchange(hasty, GET + b"connection: close\r\n\r\n")
    before = process.num_fds()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(connected(hasty))
        assert statuses(await exchange(hasty, GET + b"connection: close\r\n\r\n")) == [200]
        # Gone though their clients did not go.
        await eventually(lambda: process.num_fds() <= before + 10)


@pytest.mark.case(53)
async def test_errors_of_the_server_itself_can_be_read_by_the_frontend(
    service_with: ServiceWith, auth: AuthServer, inference: Inference
) -> None:
    """A browser shows a script only what carries CORS headers; without, the network has failed."""
    ours, other = b"https://chat.example", b"https://evil.example"
    service = service_with(
        MAX_CONNECTIONS="3", REQUEST_SECONDS="1", FRONTEND_URL=f"https://a.example,{ours.decode()}"
    )

    def allowed(answer: bytes) -> bytes | None:
        found = re.search(rb"\r\naccess-control-allow-origin: (\S+)\r\n", answer.lower())
        if found is None:
            return None
        assert b"\r\naccess-control-expose-headers: location, " in answer.lower()
        return found[1]

    async def check(status: int, request: bytes) -> None:
        for origin, expected in ((ours, ours), (other, None)):
            answer = await exchange(
                service, request.replace(b"host: x\r\n", b"origin: " + origin + b"\r\nhost: x\r\n")
            )
            assert statuses(answer) == [status]
            assert allowed(answer) == expected
            assert b"\r\nvary: origin" in answer.lower()
            assert b"\r\ncache-control: no-store" in answer.lower()

    token = b"authorization: Bearer " + auth.user().token.encode() + b"\r\n"
    await check(431, GET + b"x: " + b"y" * 40_000 + b"\r\n\r\n")
    await check(431, GET + b"x: " + b"y" * 70_000)
    await check(408, POST + token + b"content-length: 9\r\n\r\n{")
    await check(408, GET + b"x-half: he")
    await check(400, GET + b"host: y\r\n\r\n")
    await check(400, GET + b"a blank : x\r\n\r\n")
    await check(501, POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    await check(413, POST + token + b"connection: close\r\ncontent-length: 999999\r\n\r\n")
    # The origin may come after the header that is too large; the document is no secret.
    late = GET + b"x: " + b"y" * 70_000 + b"\r\norigin: " + ours + b"\r\n\r\n"
    assert allowed(await exchange(service, late)) == b"*"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            reader, writer = await stack.enter_async_context(connected(service))
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"}")
        await check(503, GET.replace(b"health", b"ready") + b"\r\n")
        head = b"HEAD /api/ready HTTP/1.1\r\nhost: x\r\norigin: " + ours + b"\r\n\r\n"
        answer = await exchange(service, head)
        assert (statuses(answer), answer.partition(b"\r\n\r\n")[2]) == ([503], b"")
        preflight = (
            b"OPTIONS /api/conversations HTTP/1.1\r\nhost: x\r\norigin: " + ours + b"\r\n"
            b"access-control-request-method: POST\r\n"
            b"access-control-request-headers: authorization,baggage\r\n\r\n"
        )
        answer = await exchange(service, preflight)
        assert (statuses(answer), allowed_in_preflight(answer)) == ([200], ours)


def allowed_in_preflight(answer: bytes) -> bytes | None:
    found = re.search(rb"\r\naccess-control-allow-origin: (\S+)\r\n", answer.lower())
    return found and found[1]


async def test_the_process_may_open_as_many_files_as_it_may_ask_for(service: Service) -> None:
    soft, hard = psutil.Process(service.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard
