"""Tokens of an OpenID provider, verified by its published keys."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs
from tests.support.keys import AUDIENCE, ISSUER, key_for, public_jwk, signed
from tests.support.listening import listening

from chat_api.auth import User
from chat_api.auth.authenticator import TokenRefused
from chat_api.auth.keys import FETCH_AGAIN_SECONDS, MOST_DOCUMENT_BYTES, MOST_KEYS, Keys, read_keys
from chat_api.auth.openid import MOST_TOKEN_CHARS, AdminClaim, OpenId
from chat_api.errors import AuthUnavailable

MOST_AGE = 600


class Publisher:
    """A provider of a few lines: it publishes keys, at one address or by discovery."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.keys: list[Any] = [public_jwk("ES256", "one")]
        self.status = 200
        self.answers: dict[str, bytes] = {}
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        self.arrived.set()
        await self.open.wait()
        body = self.answers.get(path, json.dumps({"keys": self.keys}).encode())
        writer.write(
            b"HTTP/1.1 %d X\r\nlocation: /keys\r\nconnection: close\r\n" % self.status
            + b"content-length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def provider() -> AsyncIterator[Publisher]:
    publisher = Publisher()
    async with listening(publisher.serve) as publisher.url:
        yield publisher


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def verifying(
    provider: Publisher,
    clock: Clock,
    *,
    issuer: str = ISSUER,
    discovered: bool = False,
    timeout_seconds: float = 10,
    admin: str = "",
    user_claim: str = "sub",
    skew_seconds: float = 60,
) -> AsyncIterator[OpenId]:
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        keys = Keys(
            http,
            issuer=issuer,
            jwks_url="" if discovered else f"{provider.url}/keys",
            timeout_seconds=timeout_seconds,
            refresh_seconds=100,
            most_age_seconds=MOST_AGE,
            clock=clock,
        )
        yield OpenId(
            keys,
            issuer=issuer,
            audience=AUDIENCE,
            user_claim=user_claim,
            admin_claim=AdminClaim(admin),
            skew_seconds=skew_seconds,
        )


@pytest.fixture
async def openid(provider: Publisher, clock: Clock) -> AsyncIterator[OpenId]:
    async with verifying(provider, clock) as openid:
        yield openid


# --- what is let in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm",
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"],
)
async def test_a_token_of_each_asymmetric_algorithm_is_let_in(
    algorithm: str, provider: Publisher, openid: OpenId
) -> None:
    provider.keys = [public_jwk(algorithm, "one")]
    verdict = await openid.verify(signed(algorithm))
    assert verdict.user == User("alice", is_admin=False)
    # The provider's clock may be behind by the skew.
    assert verdict.expires == pytest.approx(time.time() + 3660, abs=5)


def now(seconds: int) -> int:
    return int(time.time()) + seconds


@pytest.mark.case(83)
@pytest.mark.parametrize(
    "claims",
    [
        lambda: {"aud": ["another", AUDIENCE]},
        lambda: {"exp": now(-30)},  # within the skew
        lambda: {"nbf": now(30), "iat": now(30)},
        lambda: {"sub": "x" * 255},
        lambda: {"sub": "auth0|å😀"},
        lambda: {"iat": None},
        lambda: {"scope": "anything"},
        lambda: {"exp": 10**400},
    ],
    ids=lambda claims: ",".join(claims()),
)
async def test_what_need_not_be_refused_is_let_in(
    claims: Callable[[], dict[str, Any]], openid: OpenId
) -> None:
    made = claims()  # its times are those of the test, not of the collection
    assert (await openid.verify(signed(**made))).user.id == made.get("sub", "alice")


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt"])
async def test_an_access_token_says_so_or_nothing(kind: str, openid: OpenId) -> None:
    assert (await openid.verify(signed(headers={"typ": kind}))).user.id == "alice"


async def test_another_claim_may_be_the_user_id(provider: Publisher, clock: Clock) -> None:
    async with verifying(provider, clock, user_claim="oid") as openid:
        assert (await openid.verify(signed(oid="7f", sub="pairwise"))).user.id == "7f"
        with pytest.raises(TokenRefused):
            await openid.verify(signed())


@pytest.mark.parametrize(
    ("setting", "claims", "is_admin"),
    [
        ("", {"": True, "admin": True}, False),
        ("admin", {"admin": True}, True),
        ("admin", {"admin": "true"}, False),
        ("admin", {"admin": 1}, False),
        ("admin", {"admin": [True]}, False),
        ("admin", {}, False),
        ("roles=admin", {"roles": "admin"}, True),
        ("roles=admin", {"roles": ["user", "admin"]}, True),
        ("roles=admin", {"roles": "administrator"}, False),
        ("roles=admin", {"roles": {"admin": True}}, False),
        ("roles=admin", {"roles": ["admins"]}, False),
        ("a.b=x", {"a": {"b": ["x"]}}, True),
        ("a.b=x", {"a": ["b"]}, False),
        ("a.b.c=x", {"a": {"b": "x"}}, False),
        ("https://example.org/roles=x", {"https://example.org/roles": ["x"]}, True),
        ("n=1", {"n": 1}, False),
    ],
)
def test_an_administrator_is_who_has_the_claim_exactly(
    setting: str, claims: dict[str, Any], is_admin: bool
) -> None:
    assert AdminClaim(setting).holds(claims) is is_admin


# --- what is refused ------------------------------------------------------------------------------


def by_hand(header: object, claims: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def confused() -> str:
    """Signed with the published key as the secret of HS256."""
    public = key_for("RS256", "rsa").public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = by_hand({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, GOOD).rpartition(".")[0]
    mac = hmac.digest(secret, head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


GOOD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now(3600)}


WRONG = [
    lambda: signed(iss="https://evil.example.org"),
    lambda: signed(iss=f"{ISSUER}/"),
    lambda: signed(iss=None),
    lambda: signed(iss=7),
    lambda: signed(aud="another"),
    lambda: signed(aud=["another"]),
    lambda: signed(aud=[]),
    lambda: signed(aud=None),
    lambda: signed(aud={AUDIENCE: True}),
    lambda: signed(exp=None),
    lambda: signed(exp=now(-61)),
    lambda: signed(exp="9999999999"),
    lambda: signed(exp=True),
    lambda: signed(exp=float("inf")),
    lambda: signed(exp=float("nan")),
    lambda: signed(nbf=now(90)),
    lambda: signed(iat=now(90)),
    lambda: signed(sub=None),
    lambda: signed(sub=""),
    lambda: signed(sub=7),
    lambda: signed(sub="x" * 256),
    lambda: signed(sub="a\0b"),
    lambda: signed(sub="\ud800"),
    lambda: signed(key=key_for("ES256", "another")),
    lambda: signed(key_id=None, key=key_for("ES256", "another")),
    lambda: signed("ES384", "one"),
    lambda: signed("ES512", "one"),
    lambda: signed("RS384", "rsa"),  # published for RS256 alone
    lambda: signed("PS256", "rsa"),
    lambda: signed(headers={"typ": "logout+jwt"}),
    lambda: signed(headers={"typ": "dpop+jwt"}),
    lambda: signed(headers={"crit": ["exp"]}),
    lambda: signed(headers={"kid": "unknown"}),
    lambda: confused(),
    lambda: jwt.encode(GOOD, "x" * 32, "HS256", headers={"kid": "one"}),
    lambda: by_hand({"alg": "none", "kid": "one"}, GOOD),
    lambda: by_hand({"alg": "none"}, GOOD),
    lambda: by_hand({"alg": "None", "kid": "one"}, GOOD),
    lambda: by_hand({"kid": "one"}, GOOD),
    lambda: by_hand({"alg": ["ES256"], "kid": "one"}, GOOD, b"s"),
    lambda: by_hand({"alg": "ES256", "kid": {"a": 1}}, GOOD, b"s"),
    lambda: by_hand({"alg": "ES256", "kid": "one"}, GOOD, b"\0" * 64),
    lambda: by_hand({"alg": "ES256", "kid": "one"}, GOOD, b""),
    lambda: by_hand({"alg": "ES256", "kid": "one", "jwk": public_jwk("ES256", "mine")}, GOOD, b"s"),
    lambda: by_hand({"alg": "ES256", "kid": "one", "jku": "http://127.0.0.1:1/"}, GOOD, b"s"),
    lambda: by_hand([], GOOD),
    lambda: by_hand("ES256", GOOD),
    lambda: by_hand(json.loads("[" * 200 + "]" * 200), GOOD),
    lambda: base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.AAAA",
    lambda: signed()[:-4],
    lambda: signed().rpartition(".")[0],
    lambda: signed().replace(".", ".."),
    lambda: signed(text="x" * MOST_TOKEN_CHARS),
    lambda: "opaque",
    lambda: "a.b.c",
    lambda: "..",
    lambda: "a.b.c.d.e",
]


@pytest.mark.case(83)
@pytest.mark.parametrize("token", WRONG, ids=range(len(WRONG)))
async def test_what_is_not_a_valid_token_is_refused(
    token: Callable[[], str], provider: Publisher, openid: OpenId
) -> None:
    provider.keys = [public_jwk("ES256", "one"), public_jwk("RS256", "rsa")]
    assert (await openid.verify(signed())).user.id == "alice"
    with capture_logs() as lines, pytest.raises(TokenRefused):
        await openid.verify(token())
    assert all(set(line) <= {"event", "log_level", "reason"} for line in lines)


@pytest.mark.case(83)
@pytest.mark.parametrize("skew", [0, 5])
async def test_a_clock_may_differ_by_the_skew(skew: int, provider: Publisher, clock: Clock) -> None:
    async with verifying(provider, clock, skew_seconds=skew) as openid:
        for token in (signed(exp=now(-skew - 1)), signed(nbf=now(skew + 2))):
            with pytest.raises(TokenRefused):
                await openid.verify(token)


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "usable"), [(1024, 0), (2048, 1)])
def test_a_weak_key_is_passed_over(bits: int, usable: int) -> None:
    key = rsa.generate_private_key(65537, bits).public_key()
    published = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(key))
    assert len(read_keys({"keys": [published]})) == usable


@pytest.mark.case(84)
async def test_an_unknown_key_is_fetched_once_for_all_who_ask(
    provider: Publisher, openid: OpenId, clock: Clock
) -> None:
    await openid.verify(signed())
    provider.keys = [public_jwk("ES256", "one"), public_jwk("ES256", "two")]
    clock.now += FETCH_AGAIN_SECONDS
    asking = [openid.verify(signed(key_id="two", sub=f"u{n}")) for n in range(100)]
    assert {(await verdict).user.id for verdict in asyncio.as_completed(asking)} == {
        f"u{n}" for n in range(100)
    }
    assert len(provider.asked) == 2
    assert (await openid.verify(signed())).user.id == "alice"  # still published


@pytest.mark.case(84)
async def test_a_flood_of_unknown_keys_does_not_reach_the_provider(
    provider: Publisher, openid: OpenId, clock: Clock
) -> None:
    await openid.verify(signed())
    for round_ in range(3):
        clock.now += FETCH_AGAIN_SECONDS
        for number in range(200):
            with pytest.raises(TokenRefused) as caught:
                await openid.verify(signed(headers={"kid": f"{round_}-{number}"}))
            # No longer than until the provider may be asked again.
            assert caught.value.seconds <= FETCH_AGAIN_SECONDS
    assert len(provider.asked) == 4
    assert (await openid.verify(signed())).user.id == "alice"


@pytest.mark.case(84)
async def test_a_removed_key_is_good_until_the_next_fetch(
    provider: Publisher, openid: OpenId, clock: Clock
) -> None:
    await openid.verify(signed())
    provider.keys = [public_jwk("ES256", "two")]
    await openid.verify(signed())
    clock.now += FETCH_AGAIN_SECONDS
    await openid.verify(signed(key_id="two"))
    with pytest.raises(TokenRefused):
        await openid.verify(signed())


@pytest.mark.case(84)
@pytest.mark.parametrize("published", [[], [{"kty": "oct", "kid": "one", "k": "AAAA"}]])
async def test_a_set_without_usable_keys_lets_no_user_in(
    published: list[Any], provider: Publisher, openid: OpenId
) -> None:
    provider.keys = published
    with pytest.raises(TokenRefused):
        await openid.verify(signed())


async def test_a_token_without_a_key_id_needs_the_only_key(
    provider: Publisher, openid: OpenId, clock: Clock
) -> None:
    provider.keys = [public_jwk("ES256", None), public_jwk("RS256", "rsa")]
    assert (await openid.verify(signed(key_id=None))).user.id == "alice"
    provider.keys = [public_jwk("ES256", "one"), public_jwk("ES256", "two")]
    clock.now += MOST_AGE
    with pytest.raises(TokenRefused):
        await openid.verify(signed(key_id=None, key=key_for("ES256", "one")))


UNUSABLE: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 7,
    dict,
    lambda: {"kty": "EC", "kid": "one", "crv": "P-256"},
    lambda: {"kty": "EC", "kid": "one", "crv": "P-256", "x": 7, "y": "AAAA"},
    lambda: {"kty": "EC", "kid": "one", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
    lambda: {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"},
    lambda: {"kty": ["EC"], "kid": "one", "crv": {}},
    lambda: public_jwk("ES256", "one", use="enc"),
    lambda: public_jwk("ES256", "one", key_ops=["sign"]),
    lambda: public_jwk("ES256", "one", key_ops=7),
    lambda: public_jwk("ES256", "one", alg="ES384"),
    lambda: public_jwk("ES256", "one", alg="HS256"),
    lambda: public_jwk("ES256", "one", alg=["ES256"]),
    lambda: public_jwk("ES256", "one", kid=7),
]


@pytest.mark.case(84)
@pytest.mark.parametrize("bad", UNUSABLE, ids=range(len(UNUSABLE)))
async def test_an_unusable_key_is_passed_over(
    bad: Callable[[], Any], provider: Publisher, openid: OpenId
) -> None:
    provider.keys = [bad(), public_jwk("ES256", "two")]
    assert (await openid.verify(signed(key_id="two"))).user.id == "alice"
    with pytest.raises(TokenRefused):
        await openid.verify(signed())


@pytest.mark.case(84)
async def test_a_key_that_this_system_s_cryptography_does_not_have_is_passed_over(
    provider: Publisher, openid: OpenId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In FIPS mode, say; it must not end the task that keeps the keys fresh."""
    make = jwt.PyJWK

    def refuse(members: dict[str, Any], algorithm: str) -> jwt.PyJWK:
        if algorithm == "EdDSA":
            raise UnsupportedAlgorithm("not in this build")
        return make(members, algorithm)

    monkeypatch.setattr(jwt, "PyJWK", refuse)
    provider.keys = [public_jwk("EdDSA", "one"), public_jwk("ES256", "two")]
    assert (await openid.verify(signed(key_id="two"))).user.id == "alice"


# --- a provider that fails ------------------------------------------------------------------------

FAILURES: list[tuple[int, bytes]] = [
    (200, b""),
    (200, b"<html>"),
    (200, b"[]"),
    (200, b"{}"),
    (200, b'{"keys": {}}'),
    (200, json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode()),
    (200, b'{"keys": []}' + b" " * MOST_DOCUMENT_BYTES),
    (200, b"[" * 5000),
    (302, b""),
    (404, b"{}"),
    (429, b"{}"),
    (500, b'{"keys": []}'),
]


@pytest.mark.case(84)
@pytest.mark.parametrize(("status", "body"), FAILURES)
async def test_while_the_provider_fails_known_keys_go_on_for_a_time(
    status: int, body: bytes, provider: Publisher, openid: OpenId, clock: Clock
) -> None:
    await openid.verify(signed())
    provider.status, provider.answers = status, {"/keys": body}
    clock.now += MOST_AGE - 1
    with pytest.raises(AuthUnavailable) as caught:
        await openid.verify(signed(key_id="two"))
    assert "Retry-After" in caught.value.headers
    assert (await openid.verify(signed())).user.id == "alice"
    clock.now += 1
    with pytest.raises(AuthUnavailable):
        await openid.verify(signed())
    provider.status, provider.answers = 200, {}
    clock.now += FETCH_AGAIN_SECONDS
    assert (await openid.verify(signed())).user.id == "alice"
    assert len(provider.asked) == 3  # none within five seconds of another


@pytest.mark.case(84)
async def test_a_key_that_is_new_since_the_last_regular_fetch_works_at_once(
    provider: Publisher, clock: Clock
) -> None:
    async with verifying(provider, clock) as openid:
        regular = asyncio.create_task(openid._keys.step())
        await provider.arrived.wait()
        assert (await openid.verify(signed())).user.id == "alice"
        provider.keys = [public_jwk("ES256", "two")]
        assert (await openid.verify(signed(key_id="two"))).user.id == "alice"
        assert len(provider.asked) == 2
        regular.cancel()
        await asyncio.wait({regular})


@pytest.mark.case(84)
async def test_a_provider_that_is_slow_or_away_holds_no_request_for_long(
    provider: Publisher, clock: Clock
) -> None:
    provider.open.clear()
    async with verifying(provider, clock, timeout_seconds=0.05) as openid:
        for _ in range(3):  # the first one waits for the answer, the others do not ask
            with pytest.raises(AuthUnavailable):
                await openid.verify(signed())
    assert len(provider.asked) == 1
    provider.open.set()
    provider.url = "http://127.0.0.1:1"
    async with verifying(provider, clock) as openid:
        with pytest.raises(AuthUnavailable):
            await openid.verify(signed())


@pytest.mark.case(84)
async def test_a_request_that_waits_for_keys_may_leave(provider: Publisher, openid: OpenId) -> None:
    provider.open.clear()
    first = asyncio.create_task(openid.verify(signed()))
    second = asyncio.create_task(openid.verify(signed(sub="bob")))
    await provider.arrived.wait()
    first.cancel()
    await asyncio.wait({first})
    provider.open.set()
    assert (await second).user.id == "bob"
    assert len(provider.asked) == 1


# --- discovery ------------------------------------------------------------------------------------

WELL_KNOWN = "/.well-known/openid-configuration"


def discovery(issuer: str, keys: object) -> dict[str, bytes]:
    return {WELL_KNOWN: json.dumps({"issuer": issuer, "jwks_uri": keys}).encode()}


@pytest.mark.parametrize("end", ["", "/"])
async def test_keys_are_discovered_at_the_issuer(
    end: str, provider: Publisher, clock: Clock
) -> None:
    issuer = provider.url + end
    provider.answers = discovery(issuer, f"{provider.url}/all/keys?of=mine")
    async with verifying(provider, clock, issuer=issuer, discovered=True) as openid:
        assert (await openid.verify(signed(iss=issuer))).user.id == "alice"
        for status in (200, 500, 200):
            provider.status = status
            clock.now += FETCH_AGAIN_SECONDS
            with pytest.raises(AuthUnavailable if status == 500 else TokenRefused):
                await openid.verify(signed(iss=issuer, headers={"kid": "unknown"}))
    keys = "/all/keys?of=mine"
    # For an unknown key the address is looked up again, too.
    assert provider.asked == [WELL_KNOWN, keys] * 2 + [WELL_KNOWN] + [WELL_KNOWN, keys]


@pytest.mark.case(84)
async def test_keys_that_the_provider_publishes_elsewhere_are_found(
    provider: Publisher, clock: Clock
) -> None:
    """The address before goes on answering, with the keys before."""
    before = json.dumps({"keys": [public_jwk("ES256", "one")]}).encode()
    provider.answers = discovery(provider.url, f"{provider.url}/old") | {"/old": before}
    provider.keys = [public_jwk("ES256", "two")]
    async with verifying(provider, clock, issuer=provider.url, discovered=True) as openid:
        await openid.verify(signed(iss=provider.url))
        provider.answers |= discovery(provider.url, f"{provider.url}/new")
        clock.now += FETCH_AGAIN_SECONDS
        token = signed(iss=provider.url, key_id="two", key=key_for("ES256", "two"))
        assert (await openid.verify(token)).user.id == "alice"


@pytest.mark.case(84)
@pytest.mark.parametrize(
    ("issuer", "keys"),
    [
        ("https://evil.example.org", None),
        ("", "file:///etc/passwd"),
        ("", "http://user:pass@127.0.0.1/"),
        ("", ["http://127.0.0.1/"]),
        ("", ""),
    ],
)
async def test_a_discovery_document_that_is_wrong_is_not_followed(
    issuer: str, keys: object, provider: Publisher, clock: Clock
) -> None:
    provider.answers = discovery(issuer or provider.url, keys or f"{provider.url}/keys")
    if keys == "":
        provider.answers = discovery(provider.url, None)
    async with verifying(provider, clock, issuer=provider.url, discovered=True) as openid:
        with pytest.raises(AuthUnavailable):
            await openid.verify(signed(iss=provider.url))
    assert provider.asked == [WELL_KNOWN]
