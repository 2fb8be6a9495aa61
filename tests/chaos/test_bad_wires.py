"""The wires between us and our neighbours: silent, cut at any byte, slow, full of garbage."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from tests.chaos.conftest import Pair
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Database, Databases
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import Follower, Known, counted, follow, length, numbered
from tests.support.proxy import NOTHING, Proxy, Trouble
from tests.support.service import Service
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

GARBAGE = b"\xff\x00\x16\x03\x01HTTP/1.1 200 OK\r\n\r\ndata: {\n\n0\r\n\r\n" * 20


@dataclass
class Wired:
    """A service that reaches each of its neighbours through a proxy."""

    service: Service
    client: Client
    database: Proxy
    auth: Proxy
    inference: Proxy
    db: Database


@pytest.fixture(scope="module")
def own_database_url(databases: Databases) -> str:
    """A database that no other replica looks at, which would take over what is cut off."""
    return databases.migrated()


@pytest.fixture(scope="module")
def proxies(
    own_database_url: str, auth_server: AuthServer, inference_server: Inference
) -> Iterator[tuple[Proxy, Proxy, Proxy]]:
    folder = parse_qs(urlsplit(own_database_url).query)["host"][0]
    port = parse_qs(urlsplit(own_database_url).query)["port"][0]
    with (
        Proxy(Path(folder) / f".s.PGSQL.{port}") as database,
        Proxy(auth_server.port) as auth,
        Proxy(inference_server.port) as inference,
    ):
        yield database, auth, inference


@pytest.fixture(scope="module")
def wired_service(
    proxies: tuple[Proxy, Proxy, Proxy],
    usual_env: dict[str, str],
    own_database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    database, auth, inference = proxies
    parts = urlsplit(own_database_url)
    service = Service(
        {
            **usual_env,
            "DATABASE_URL": f"{parts.scheme}://{parts.username}@127.0.0.1:{database.port}"
            f"{parts.path}",
            "AUTH_SERVICE_URL": auth.url,
            "INFERENCE_SERVICE_URL": inference.url,
            "DATABASE_TIMEOUT_SECONDS": "2",
            "AUTH_TIMEOUT_SECONDS": "1",
            "FIRST_TOKEN_TIMEOUT_SECONDS": "2",
            "TOKEN_TIMEOUT_SECONDS": "1",
            # Where a COMMIT's answer was lost, a repeat waits for the lease of the first request.
            "LEASE_SECONDS": "2",
        },
        folder=tmp_path_factory.mktemp("wired"),
    )
    yield service.start()
    service.close()
    assert "Traceback" not in service.text()
    assert [line for line in service.logs() if line.get("event") == "request_failed"] == []


@pytest.fixture
def wired(
    wired_service: Service,
    proxies: tuple[Proxy, Proxy, Proxy],
    auth: AuthServer,
    inference: Inference,
    clients: MakeClient,
    own_database_url: str,
) -> Wired:
    client = clients(wired_service, auth.user())
    return Wired(wired_service, client, *proxies, Database(own_database_url))


async def works(wired: Wired) -> bool:
    """Whether a message is answered, as if nothing had been."""
    response = await wired.client.post("/api/conversations", json={})
    if response.status_code != 201:
        assert response.status_code == 503, response.text
        return False
    return bool((await wired.client.ask(response.json()["id"], "Hello"))["status"] == "complete")


def retry_later(response: httpx2.Response) -> None:
    check_problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.case(36)
async def test_a_database_whose_line_went_dead_is_503_and_nothing_is_lost(
    wired: Wired, inference: Inference
) -> None:
    """Half-open: no FIN, no RST, no answer. An answer that is being written goes on from memory."""
    inference.once(counted(100, pause=0.03).done())
    conversation = await wired.client.create()
    async with wired.client.send(conversation["id"], "Count") as stream:
        await stream.until("token")
        wired.database.freeze()
        retry_later(await wired.client.post("/api/conversations", json={}))
        assert (await wired.client.get("/api/health")).status_code == 200
        check_problem(await wired.client.get("/api/ready"), 503, "checks")
        wired.database.thaw()
        await stream.rest(40)
        assert (length(stream.text), stream.done["status"]) == (100, "complete")
    [question, answer] = await wired.client.messages(conversation["id"])
    assert (question["content"], answer["content"]) == ("Count", stream.text)
    await eventually(lambda: works(wired))


@pytest.mark.case(36)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_database_line_cut_at_any_byte_keeps_all_or_nothing(
    wired: Wired, inference: Inference, end: Any, request: pytest.FixtureRequest
) -> None:
    """Of each send either question and answer are there, or neither; a repeat joins or begins."""
    rng = random.Random(f"{request.config.getoption('hypothesis_seed')}/{end}")

    async def created() -> str | None:
        response = await wired.client.post("/api/conversations", json={})
        if response.status_code != 201:
            retry_later(response)
            return None
        return str(response.json()["id"])

    for number in range(20):
        conversation_id = await eventually(created)
        assert conversation_id is not None
        key = {"idempotency-key": f"cut-{number}-{conversation_id}"}
        # Whatever is pooled goes, so that the next ones have the trouble.
        wired.database.cut()
        trouble = Trouble(
            after=rng.randrange(1, 6000), end=end, direction=rng.choice(["down", "up"])
        )
        with wired.database.trouble(trouble, times=rng.randint(1, 4)):
            response = await wired.client.ask_raw(conversation_id, {"content": "Hello"}, **key)
            if response.status_code != 200:
                retry_later(response)

        async def repeated(id_: str = conversation_id, key: dict[str, str] = key) -> dict[str, Any]:
            response = await wired.client.ask_raw(id_, {"content": "Hello"}, **key)
            if response.status_code == 503:
                return {}
            assert response.status_code == 200, response.text
            message: dict[str, Any] = response.json()
            return message

        answer = await eventually(repeated)
        assert answer["status"] == "complete"
        messages = await eventually(lambda: wired.client.messages(conversation_id))  # noqa: B023
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert messages[1] == answer


@pytest.mark.case(36)
async def test_garbage_from_the_database_is_an_outage(wired: Wired) -> None:
    wired.database.cut()
    with wired.database.trouble(Trouble(after=400, garbage=GARBAGE, end="silence")):
        for _ in range(3):
            response = await wired.client.post("/api/conversations", json={})
            assert response.status_code in {201, 503}, response.text
    wired.database.cut()
    await eventually(lambda: works(wired))


BAD_LINES = {
    "cut at once": Trouble(after=0),
    "cut in the head": Trouble(after=20),
    "reset in the body": Trouble(after=120, end="reset"),
    "cut before the last byte": Trouble(after=170),
    "silent": Trouble(after=60, end="silence"),
    "garbage": Trouble(after=0, garbage=GARBAGE),
    "garbage in the body": Trouble(after=110, garbage=GARBAGE),
    "request never arrives": Trouble(after=100, end="silence", direction="up"),
    "request cut": Trouble(after=100, end="reset", direction="up"),
}


@pytest.mark.case(3, 39)
@pytest.mark.parametrize("trouble", BAD_LINES.values(), ids=BAD_LINES)
async def test_a_token_is_not_let_in_over_a_bad_line(
    wired: Wired, clients: MakeClient, auth: AuthServer, trouble: Trouble
) -> None:
    client = clients(wired.service, auth.user())
    with wired.auth.trouble(trouble):
        retry_later(await client.get("/api/conversations"))
    assert (await client.get("/api/conversations")).status_code == 200


@pytest.mark.case(39)
@pytest.mark.parametrize("size", [1, 7])
async def test_a_line_of_single_bytes_changes_nothing(
    wired: Wired, clients: MakeClient, auth: AuthServer, inference: Inference, size: int
) -> None:
    inference.once(Known().count(10).done())
    slow = replace(NOTHING, piece=size)
    with wired.auth.trouble(slow), wired.inference.trouble(slow):
        client = clients(wired.service, auth.user())
        conversation = await client.create()
        async with client.send(conversation["id"], "Count") as stream:
            await stream.rest()
            assert (length(stream.text), stream.done["status"]) == (10, "complete")


@pytest.mark.case(21, 39)
async def test_an_inference_line_that_fails_at_any_byte_keeps_what_came(
    wired: Wired, inference: Inference, request: pytest.FixtureRequest
) -> None:
    """Cut, reset, silent or full of garbage: what was whole is kept, and never called complete."""
    rng = random.Random(f"{request.config.getoption('hypothesis_seed')}/inference")
    whole = "".join(f"<abcdef:{number}>" for number in range(20))
    inference.default = counted(20, tag="abcdef").done()
    wired.inference.cut()
    before = wired.inference.passed
    async with httpx2.AsyncClient(headers={"x-internal-api-key": inference.key}) as plain:
        call = {"messages": [{"role": "user", "content": "Count"}]}
        response = await plain.post(f"{wired.inference.url}/generate", json=call)
    assert '"done"' in response.text
    size = wired.inference.passed - before
    # What follows the event `done` may be missing: the end of its chunk, and of the body.
    last = size - len(b"\r\n0\r\n\r\n")
    for number in range(40):
        trouble = Trouble(
            after=last - 1 if number == 1 else rng.randrange(last),
            end="silence" if number == 0 else rng.choice(["close", "reset"]),
            garbage=rng.choice([b"", b"", GARBAGE, b"data: {}\n\n"]),
        )
        conversation = await wired.client.create()
        wired.inference.cut()  # a connection that was kept would have no trouble
        with wired.inference.trouble(trouble):
            async with wired.client.send(conversation["id"], "Count") as stream:
                await stream.rest()
        assert stream.done["status"] in {"interrupted", "failed"}, trouble
        assert stream.events[-2].kind == "error", trouble
        assert whole.startswith(stream.text), trouble
        assert stream.text == "" or stream.done["status"] == "interrupted", trouble
        [_, answer] = await wired.client.messages(conversation["id"])
        assert (answer["content"], answer["status"]) == (stream.text, stream.done["status"])


@pytest.mark.case(40)
async def test_a_hundred_readers_cut_off_at_once_come_back_at_once(
    pair: Pair, inference: Inference, clients: MakeClient
) -> None:
    """A load balancer that restarts cuts everybody. Each gets exactly the rest, on any replica."""
    gate = Gate()
    inference.once(counted(50).wait(gate).count(50).done())
    conversation = await pair.here.create()
    readers = [Follower() for _ in range(100)]
    with Proxy(pair.services[0].port) as one, Proxy(pair.services[1].port) as two:
        doors = [Client(proxy.url, pair.here.account) for proxy in (one, two)]

        async def read(number: int) -> None:
            async with doors[number % 2].join(conversation["id"]) as stream:
                assert await readers[number].read(stream) == "broken"

        async with pair.here.send(conversation["id"], "Count") as sender:
            await sender.until(numbered(49))
            reading = [asyncio.create_task(read(number)) for number in range(100)]
            await eventually(lambda: all(length(reader.text) == 50 for reader in readers), 30)
            one.cut()
            two.cut()
            await asyncio.gather(*reading)
            gate.open()
            await asyncio.gather(*(follow(reader, conversation["id"], doors) for reader in readers))
            await sender.rest()
        for door in doors:
            await door.http.aclose()
    assert {reader.text for reader in readers} == {sender.text}
    assert length(sender.text) == 100
