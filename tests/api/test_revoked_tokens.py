"""A stream goes on for no longer than its token is good for."""

import asyncio
import time

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, ServiceWith
from tests.support.shapes import check_problem
from tests.support.waiting import eventually


def short(service_with: ServiceWith) -> Service:
    """A service that trusts what the auth service said for a second."""
    return service_with(AUTH_CACHE_SECONDS="1")


async def last_status(client: Client, conversation_id: str) -> str:
    status: str = (await client.messages(conversation_id))[-1]["status"]
    return status


@pytest.mark.case(47)
async def test_a_revoked_token_s_stream_closes_and_its_answer_goes_on(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = short(service_with)
    account = auth.user("alice")
    alice = clients(service, account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    async with alice.send(conversation["id"], "One") as sent, alice.join(conversation["id"]) as two:
        await sent.until("token")
        await two.until("token")
        auth.forget(account.token)
        for stream in (sent, two):
            assert await stream.rest() == []  # closed, and no `done`
    async with alice.join(conversation["id"], expect=401) as stream:
        assert 'error="invalid_token"' in stream.headers["www-authenticate"]
    again = clients(service, auth.user("alice", user_id=account.id))
    assert await last_status(again, conversation["id"]) == "generating"
    gate.open()

    async def complete() -> bool:
        return await last_status(again, conversation["id"]) == "complete"

    await eventually(complete)


@pytest.mark.case(47)
async def test_a_token_that_stands_is_asked_about_once_for_all_its_streams(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    account = auth.user("alice")
    alice = clients(short(service_with), account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    async with alice.send(conversation["id"], "One") as sent, alice.join(conversation["id"]) as two:
        await sent.until("token")
        await two.until("token")
        asked = auth.validations(account.token)
        began = time.monotonic()
        await eventually(lambda: auth.validations(account.token) >= asked + 3)
        passed = time.monotonic() - began
        # One call a second, not one a second and stream.
        assert auth.validations(account.token) - asked <= passed + 2
        gate.open()
        for stream in (sent, two):
            await stream.rest()
            assert stream.done["status"] == "complete"


@pytest.mark.case(47)
async def test_while_auth_cannot_answer_a_stream_goes_on_until_its_token_ends(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = short(service_with)
    lasting, ending = auth.user("alice"), auth.user("bob", expires_in=8)
    alice, bob = clients(service, lasting), clients(service, ending)
    mine, his = await alice.create(), await bob.create()
    gate = Gate()
    inference.on("Mine", Script().tokens("a").wait(gate).tokens("b").done())
    inference.on("His", Script().tokens("a").hang())
    async with alice.send(mine["id"], "Mine") as one, bob.send(his["id"], "His") as two:
        await one.until("token")
        await two.until("token")
        with auth.failing():
            await eventually(lambda: auth.validations(ending.token) >= 2)
            check_problem(await bob.get("/api/conversations"), 503)
            assert await two.rest() == []  # not before its own end
            assert time.time() >= int(ending.exp)
        gate.open()
        await one.rest()
        assert one.done["status"] == "complete"
    await bob.http.aclose()
    again = clients(service, auth.user("bob", user_id=ending.id))
    await again.post(f"/api/conversations/{his['id']}/stop")


@pytest.mark.case(47)
async def test_a_waiting_client_of_a_revoked_token_is_told_so(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    account = auth.user("alice")
    service = short(service_with)
    alice = clients(service, account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    with_answer = alice.ask_raw(conversation["id"], {"content": "One"})

    async def revoke() -> None:
        await inference.call(0)
        auth.forget(account.token)

    response, _ = await asyncio.gather(with_answer, revoke())
    check_problem(response, 401)
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    gate.open()


@pytest.mark.case(47)
async def test_a_token_that_becomes_somebody_else_s_opens_nothing(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    account = auth.user("alice")
    alice = clients(short(service_with), account)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    async with alice.send(conversation["id"], "One") as sent:
        await sent.until("token")
        auth.user("mallory", token=account.token)
        assert await sent.rest() == []
    gate.open()
