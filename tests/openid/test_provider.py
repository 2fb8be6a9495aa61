"""The service with AUTH_MODE=jwks and a real OpenID provider."""

import time

import pytest
from tests.openid.conftest import AUDIENCE, NewKey, Provider
from tests.support.auth import Account
from tests.support.client import MakeClient
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.keys import signed
from tests.support.service import Service, StartService
from tests.support.shapes import check_problem
from tests.support.waiting import eventually


def started(
    start_service: StartService, provider: Provider, *, wait: bool = True, **env: str
) -> Service:
    return start_service(
        {
            "AUTH_MODE": "jwks",
            "AUTH_ISSUER": provider.issuer,
            "AUTH_AUDIENCE": AUDIENCE,
            "AUTH_ADMIN_CLAIM": "realm_access.roles=admin",
            "AUTH_SERVICE_URL": "http://127.0.0.1:1",
            **env,
        },
        wait=wait,
    )


def account(token: str, name: str = "alice", lifetime: float = 3600) -> Account:
    return Account(token, id=name, name=name, exp=time.time() + lifetime, user={})


async def status(clients: MakeClient, service: Service, token: str) -> int:
    return (await clients(service, account(token)).get("/api/conversations")).status_code


@pytest.mark.case(83)
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
async def test_users_of_a_provider_are_let_in_and_no_others(
    algorithm: str,
    start_service: StartService,
    clients: MakeClient,
    provider: Provider,
    new_key: NewKey,
) -> None:
    provider.start(new_key(algorithm))
    service = started(start_service, provider)
    token = provider.token("alice")
    alice, bob = clients(service, account(token)), clients(service, account(provider.token("bob")))
    conversation = await alice.create()
    assert conversation["user_id"] == "alice"
    assert (await alice.ask(conversation["id"], "Hello"))["status"] == "complete"
    check_problem(await bob.get(f"/api/conversations/{conversation['id']}"), 404)
    assert (await alice.get("/v1/models")).status_code == 200
    root = clients(service, account(provider.token("root")))
    for user, expected in ((alice, 403), (root, 200)):
        swapped = await user.post("/api/models/swap", json={"model_tag": "d12"})
        assert swapped.status_code == expected
    for wrong in (
        provider.token("alice", "https://other.example.org"),
        signed(iss=provider.issuer, aud=AUDIENCE),  # by a key that the provider has not
        "opaque",
    ):
        check_problem(await clients(service, account(wrong)).get("/api/conversations"), 401)
    assert token not in service.text()


@pytest.mark.case(84)
async def test_keys_that_a_provider_rotates(
    start_service: StartService, clients: MakeClient, provider: Provider, new_key: NewKey
) -> None:
    old, new = new_key("ES256"), new_key("ES256")
    provider.start(old)
    service = started(start_service, provider, AUTH_CACHE_SECONDS="2")
    before = provider.token("alice")
    assert await status(clients, service, before) == 200
    provider.start(new, old)
    after = provider.token("alice")

    async def is_let_in() -> bool:
        return await status(clients, service, after) == 200

    await eventually(is_let_in)
    assert await status(clients, service, before) == 200  # its key is still published
    provider.start(new)

    async def is_refused() -> bool:
        return await status(clients, service, before) == 401

    await eventually(is_refused)
    assert await status(clients, service, after) == 200


@pytest.mark.case(84)
async def test_a_provider_that_goes_away(
    start_service: StartService, clients: MakeClient, provider: Provider, new_key: NewKey
) -> None:
    """At the start no user can be let in; later, those whose key is known still are."""
    key, unknown = new_key("ES256"), new_key("ES256")
    service = started(start_service, provider, AUTH_CACHE_SECONDS="1")
    stranger = clients(service, account(signed(iss=provider.issuer, aud=AUDIENCE)))
    refusal = await stranger.get("/api/conversations")
    check_problem(refusal, 503)
    assert int(refusal.headers["retry-after"]) > 0
    provider.start(unknown)
    later = provider.token("alice")
    provider.start(key)
    alice, bob = provider.token("alice"), provider.token("bob")

    async def is_let_in() -> bool:
        return await status(clients, service, alice) == 200

    await eventually(is_let_in, 30)
    provider.stop()
    assert await status(clients, service, bob) == 200

    async def is_unavailable() -> bool:
        return await status(clients, service, later) == 503

    await eventually(is_unavailable, 30)
    assert await status(clients, service, alice) == 200


@pytest.mark.case(47)
async def test_a_stream_ends_with_its_token(
    start_service: StartService,
    clients: MakeClient,
    provider: Provider,
    new_key: NewKey,
    inference: Inference,
    fresh_database_url: str,
) -> None:
    provider.start(new_key("ES256"), lifetime=4)
    service = started(
        start_service,
        provider,
        AUTH_CLOCK_SKEW_SECONDS="0",
        DATABASE_URL=fresh_database_url,
    )
    ending = account(provider.token("alice"))
    alice = clients(service, ending)
    conversation = await alice.create()
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    async with alice.send(conversation["id"], "One") as sent:
        await sent.until("token")
        assert await sent.rest() == []  # closed, and no `done`
    assert await status(clients, service, ending.token) == 401
    gate.open()
    again = clients(service, account(provider.token("alice")))

    async def is_complete() -> bool:
        return bool((await again.messages(conversation["id"]))[-1]["status"] == "complete")

    await eventually(is_complete)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"AUTH_ISSUER": ""}, "AUTH_MODE=jwks needs AUTH_ISSUER"),
        ({"AUTH_AUDIENCE": ""}, "AUTH_MODE=jwks needs AUTH_AUDIENCE"),
        ({"AUTH_ISSUER": "accounts.example.org"}, "set AUTH_JWKS_URL"),
        ({"AUTH_JWKS_URL": "file:///etc/keys"}, "AUTH_JWKS_URL: "),
        ({"AUTH_MODE": "none"}, "AUTH_MODE: "),
        ({"AUTH_ADMIN_CLAIM": "roles="}, "AUTH_ADMIN_CLAIM: "),
        ({"AUTH_CLOCK_SKEW_SECONDS": "-1"}, "AUTH_CLOCK_SKEW_SECONDS: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_configuration_stops_the_start(
    env: dict[str, str], reason: str, start_service: StartService, provider: Provider
) -> None:
    service = started(start_service, provider, wait=False, **env)
    assert service.wait() != 0
    assert reason in service.text()
