"""Limits: what a user or an address may use, and what is said to who wants more."""

import httpx2
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, raw_exchange
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, ServiceWith
from tests.support.shapes import check_invalid, check_problem
from tests.support.waiting import eventually

FRONTEND = "http://localhost:3000"


def check_refusal(response: httpx2.Response, policy: str, rule: str) -> int:
    """A 429 of this policy; the seconds after which to come back."""
    check_problem(response, 429)
    assert response.headers["ratelimit-policy"] == f'"{policy}";{rule}'
    seconds = int(response.headers["retry-after"])
    left = f'"{policy}";r=0' + (f";t={seconds}" if ";w=" in rule else "")
    assert response.headers["ratelimit"] == left
    assert 1 <= seconds <= 60
    if ";w=" in rule:
        assert f" Try again in {seconds} second" in response.json()["detail"]
    return seconds


async def counted(service: Service, code: str) -> float:
    """How often this was refused, by the service's own metrics."""
    async with Client(service.url) as client:
        text = (await client.get("/metrics")).text
    found = [line for line in text.splitlines() if f'code="{code}"' in line]
    return float(found[0].split()[-1]) if found else 0.0


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.case(44)
async def test_more_messages_than_a_minute_allows_are_refused(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(MESSAGES_PER_MINUTE="3")
    alice = clients(service, auth.user("alice"))
    conversation = await alice.create()
    for number in range(3):
        await alice.ask(conversation["id"], f"Question {number}")
    refused_before = await counted(service, "too_many_messages")
    for headers in ({}, {"accept": "text/event-stream"}):
        response = await alice.post(
            f"/api/conversations/{conversation['id']}/messages",
            json={"content": "One more"},
            headers=headers,
        )
        check_refusal(response, "messages", "q=3;w=60")
    response = await alice.post(f"/api/conversations/{conversation['id']}/regenerate")
    check_refusal(response, "messages", "q=3;w=60")
    assert await counted(service, "too_many_messages") == refused_before + 3
    assert len(await alice.messages(conversation["id"])) == 6
    assert len(inference.calls) == 3
    # Others, and other things, are not touched.
    bob = clients(service, auth.user("bob"))
    await bob.ask((await bob.create())["id"], "Hello")


@pytest.mark.case(44)
async def test_a_repeated_message_is_looked_at_before_the_limit(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MESSAGES_PER_MINUTE="3"), auth.user("alice"))
    conversation = await alice.create()
    key = {"idempotency-key": "the-one"}
    first = await alice.ask_raw(conversation["id"], {"content": "Hello"}, **key)
    for number in range(2):
        await alice.ask(conversation["id"], f"Question {number}")
    again = await alice.ask_raw(conversation["id"], {"content": "Hello"}, **key)
    assert (again.status_code, again.json()) == (200, first.json())
    refused = await alice.ask_raw(
        conversation["id"], {"content": "Bye"}, **{"idempotency-key": "b"}
    )
    check_refusal(refused, "messages", "q=3;w=60")
    other = await alice.ask_raw(conversation["id"], {"content": "Bye"}, **key)
    check_invalid(other, "Idempotency-Key")


async def test_an_administrator_has_the_same_limits(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    admin = clients(service_with(MESSAGES_PER_MINUTE="3"), auth.user("admin", is_admin=True))
    conversation = await admin.create()
    for number in range(3):
        await admin.ask(conversation["id"], f"Question {number}")
    check_refusal(
        await admin.ask_raw(conversation["id"], {"content": "Hi"}), "messages", "q=3;w=60"
    )


async def test_the_page_may_read_when_to_come_back(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MESSAGES_PER_MINUTE="3"), auth.user("alice"))
    conversation = await alice.create()
    for number in range(3):
        await alice.ask(conversation["id"], f"Question {number}")
    response = await alice.ask_raw(conversation["id"], {"content": "Hi"}, origin=FRONTEND)
    check_refusal(response, "messages", "q=3;w=60")
    exposed = response.headers["access-control-expose-headers"].lower().split(", ")
    assert {"retry-after", "ratelimit", "ratelimit-policy"} <= set(exposed)


# --- running answers ------------------------------------------------------------------------------


@pytest.mark.case(44)
async def test_more_answers_at_once_than_allowed_are_refused_until_one_ends(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MAX_RUNNING_ANSWERS="2"), auth.user("alice"))
    first, second, third = [await alice.create() for _ in range(3)]
    gate = Gate()
    inference.on("One", Script().tokens("a").wait(gate).done())
    inference.on("Two", Script().tokens("b").hang())
    async with alice.send(first["id"], "One") as one, alice.send(second["id"], "Two") as two:
        await one.until("token")
        await two.until("token")
        response = await alice.ask_raw(third["id"], {"content": "Three"})
        check_refusal(response, "running-answers", 'q=2;qu="concurrent-requests"')
        assert await alice.messages(third["id"]) == []
        gate.open()
        await one.rest()
        await alice.ask(third["id"], "Three")


async def test_a_message_still_takes_over_from_an_answer_that_nobody_reads(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MAX_RUNNING_ANSWERS="1"), auth.user("alice"))
    conversation = await alice.create()
    inference.once(Script().tokens("a").hang())
    async with alice.send(conversation["id"], "One") as one:
        await one.until("token")
    await alice.ask(conversation["id"], "Two")
    statuses = [message["status"] for message in await alice.messages(conversation["id"])]
    assert statuses == ["complete", "stopped", "complete", "complete"]


@pytest.mark.case(44)
async def test_a_message_that_is_refused_stops_no_answer(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MESSAGES_PER_MINUTE="3"), auth.user("alice"))
    conversation = await alice.create()
    for number in range(2):
        await alice.ask(conversation["id"], f"Question {number}")
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    async with alice.send(conversation["id"], "Three") as three:
        await three.until("token")
    response = await alice.ask_raw(conversation["id"], {"content": "Four"})
    check_refusal(response, "messages", "q=3;w=60")
    gate.open()

    async def complete() -> bool:
        last = (await alice.messages(conversation["id"]))[-1]
        return bool(last["status"] == "complete")

    await eventually(complete)
    assert (await alice.messages(conversation["id"]))[-1]["content"] == "ab"


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.case(44)
async def test_more_streams_than_allowed_are_refused_until_one_closes(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(MAX_OPEN_STREAMS="2")
    alice = clients(service, auth.user("alice"))
    conversation, another = await alice.create(), await alice.create()
    inference.once(Script().tokens("a").hang())
    path = f"/api/conversations/{conversation['id']}/stream"
    async with alice.send(conversation["id"], "One") as one:
        await one.until("token")
        async with alice.join(conversation["id"]) as joined:
            await joined.until("token")
            for response in (
                await alice.get(path),
                await alice.ask_raw(another["id"], {"content": "Two"}),
            ):
                check_refusal(response, "streams", 'q=2;qu="concurrent-requests"')
            assert await alice.messages(another["id"]) == []
            # Others have their own.
            bob = clients(service, auth.user("bob"))
            await bob.ask((await bob.create())["id"], "Hello")

        async def joins_again() -> bool:
            async with alice.join(conversation["id"], expect=None) as stream:
                return stream.status == 200

        await eventually(joins_again)


async def test_a_stream_that_never_was_takes_no_place(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    alice = clients(service_with(MAX_OPEN_STREAMS="2"), auth.user("alice"))
    conversation = await alice.create()
    path = f"/api/conversations/{conversation['id']}"
    for _ in range(4):
        assert (await alice.get(f"{path}/stream")).status_code == 204
        check_problem(await alice.get(f"{path}/stream", params={"after": "x"}), 400)
        check_invalid(await alice.ask_raw(conversation["id"], {"content": ""}), "content")
        check_problem(await alice.post(f"{path}/regenerate"), 400)
    await alice.ask(conversation["id"], "Hello")


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.case(45)
async def test_an_address_that_guesses_tokens_is_refused_and_known_users_are_not(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer
) -> None:
    service = service_with(UNAUTHENTICATED_PER_MINUTE="5", LOG_LEVEL="INFO")
    alice = clients(service, auth.user("alice"))
    stranger = clients(service)
    assert (await alice.get("/api/conversations")).status_code == 200
    for number in range(5):
        headers = {"authorization": f"Bearer guess-{number}"}
        check_problem(await stranger.get("/api/conversations", headers=headers), 401)
    asked = len(auth.requests)
    for headers in ({}, {"authorization": "Bearer guess-6"}, {"authorization": "Basic Og=="}):
        response = await stranger.get("/api/conversations", headers=headers)
        check_refusal(response, "unauthenticated", "q=5;w=60")
    # Also one who would be let in has to wait, unless his token is known.
    response = await clients(service, auth.user("bob")).get("/api/conversations")
    check_refusal(response, "unauthenticated", "q=5;w=60")
    assert len(auth.requests) == asked
    assert (await alice.get("/api/conversations")).status_code == 200
    for path in ("/api/health", "/api/ready", "/metrics", "/openapi.json"):
        assert (await stranger.get(path)).status_code == 200
    assert await counted(service, "too_many_failures") >= 4


@pytest.mark.case(45)
async def test_an_outage_of_auth_is_not_the_fault_of_an_address(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer
) -> None:
    service = service_with(UNAUTHENTICATED_PER_MINUTE="4", LOG_LEVEL="INFO")
    with auth.failing():
        for _ in range(10):
            response = await clients(service, auth.user()).get("/api/conversations")
            check_problem(response, 503)
    assert (await clients(service, auth.user()).get("/api/conversations")).status_code == 200


def forwarded(*lines: str) -> bytes:
    headers = "".join(f"x-forwarded-for: {line}\r\n" for line in lines)
    return (
        f"GET /api/conversations HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n".encode()
    )


@pytest.mark.case(45)
async def test_who_says_to_be_somebody_else_is_not_believed(service_with: ServiceWith) -> None:
    service = service_with(UNAUTHENTICATED_PER_MINUTE="3", LOG_LEVEL="INFO")
    statuses = [
        (await raw_exchange(service.url, forwarded(f"192.0.2.{number}"))).status
        for number in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]


@pytest.mark.case(45)
async def test_a_trusted_proxy_is_believed_for_the_address_that_it_saw(
    service_with: ServiceWith,
) -> None:
    service = service_with(
        UNAUTHENTICATED_PER_MINUTE="3", TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8"
    )

    async def status(*lines: str) -> int:
        response = await raw_exchange(service.url, forwarded(*lines))
        return response.status

    # What the client itself wrote stands on the left, and changes nothing.
    assert [await status(f"203.0.113.{n}, 192.0.2.1") for n in range(5)] == [401] * 3 + [429] * 2
    assert await status("192.0.2.1, 10.1.2.3") == 429
    assert await status("203.0.113.9", "192.0.2.1") == 429
    assert await status("192.0.2.2") == 401
    # Of IPv6, a subscriber has a /64.
    assert [await status(f"2001:db8::{n}") for n in range(4)] == [401] * 3 + [429]
    assert await status("2001:db8:0:1::1") == 401
