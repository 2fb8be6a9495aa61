"""The keys that an OpenID provider publishes: a JSON Web Key Set (RFC 7517)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from chat_api.addresses import http_address
from chat_api.auth.authenticator import TokenRefused
from chat_api.auth.reading import read_at_most
from chat_api.errors import AuthUnavailable
from chat_api.telemetry import AUTH_KEY_FETCHES, AUTH_VALIDATIONS, log

MOST_DOCUMENT_BYTES = 262_144
MOST_KEYS = 100
# The shortest time between two fetches that tokens with unknown keys cause.
FETCH_AGAIN_SECONDS = 5.0
_RSA_BITS = range(2048, 8193)
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")
# The algorithms that a key may verify, by its type and curve (RFC 7518, section 3.1; RFC 8037).
# None is symmetric: a public key must never serve as a secret.
_ALGORITHMS: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS = frozenset(name for names in _ALGORITHMS.values() for name in names)

# What PyJWT and cryptography raise for a key; the last one if their library lacks the algorithm.
_UNUSABLE: tuple[type[Exception], ...] = (
    *(jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError),
    UnsupportedAlgorithm,
)

PublicKey = Any  # one of cryptography's classes


class _NonsenseError(ValueError):
    """The provider's document breaks the standard; the text says how."""


@dataclass(frozen=True, slots=True)
class Key:
    """A published key and the algorithms that it may verify."""

    id: str | None
    algorithms: frozenset[str]
    public: PublicKey


class Keys:
    """The provider's keys as last fetched.

    `step` fetches them again every `refresh_seconds`; a token that names an unknown key fetches
    them at once, at most every five seconds and in one request for all such tokens. While the
    provider is away the known keys stay good for `most_age_seconds`.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        issuer: str,
        jwks_url: str,
        timeout_seconds: float,
        refresh_seconds: float,
        most_age_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jwks_url` may be empty: then the issuer's discovery document names it."""
        self._http = http
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._timeout = timeout_seconds
        self._refresh_seconds = refresh_seconds
        self._most_age = most_age_seconds
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._good_until = clock()
        self._next_forced = clock()
        self._discovered: str | None = None
        self._failed = True
        self._fetching: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Fetch the keys, and return when it is time for the next fetch."""
        await self._fetch_once()
        await asyncio.sleep(FETCH_AGAIN_SECONDS if self._failed else self._refresh_seconds)

    async def find(self, key_id: str | None, algorithm: str) -> PublicKey:
        """Return the key that a token's header names.

        Raise TokenRefused where the provider has no such key, or AuthUnavailable where that cannot
        be found out now.
        """
        key = self._known(key_id, algorithm)
        if key is None and self._fetching is not None:
            await asyncio.shield(self._fetching)
            key = self._known(key_id, algorithm)
        if key is None and self._may_force():
            await asyncio.shield(self._fetch_once())
            key = self._known(key_id, algorithm)
        if key is not None:
            return key.public
        if self._failed:
            AUTH_VALIDATIONS.labels("unavailable").inc()
            raise AuthUnavailable
        raise TokenRefused(max(0.0, self._next_forced - self._clock()))

    def _may_force(self) -> bool:
        """Return whether the keys may be fetched before their time; the caller must then do it."""
        if self._fetching is not None:
            return True  # a fetch that has begun in the meantime
        if self._clock() < self._next_forced:
            return False
        self._next_forced = self._clock() + FETCH_AGAIN_SECONDS
        self._discovered = None  # the provider may publish its keys elsewhere by now
        return True

    def _known(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the one key that fits; a token without a key id needs no other to fit too."""
        if self._clock() >= self._good_until:
            return None
        fitting = [
            key
            for key in self._keys
            if algorithm in key.algorithms and (key_id is None or key.id == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _fetch_once(self) -> asyncio.Task[None]:
        """Return the fetch that is under way, or begin one."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="fetch-keys")
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # retrieved, even where every caller has gone away

    async def _fetch(self) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout):
                if not self._jwks_url and self._discovered is None:
                    self._discovered = await self._discover()
                url = self._discovered or self._jwks_url
                keys = read_keys(await self._document(url))
        except _NonsenseError as error:
            self._failed, self._discovered = True, None
            AUTH_KEY_FETCHES.labels("nonsense").inc()
            log.error("provider_keys_unreadable", reason=str(error))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed, self._discovered = True, None
            AUTH_KEY_FETCHES.labels("unavailable").inc()
            log.error("provider_keys_unavailable", error=type(error).__name__)
        else:
            self._failed = False
            self._keys = keys
            self._good_until = began + self._most_age
            AUTH_KEY_FETCHES.labels("ok").inc()
            if not keys:
                log.error("provider_has_no_usable_key")

    async def _discover(self) -> str:
        """Return the address of the keys (OpenID Connect Discovery 1.0, section 4)."""
        base = self._issuer.rstrip("/")
        document = await self._document(f"{base}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise _NonsenseError("the discovery document names another issuer than AUTH_ISSUER")
        url = document.get("jwks_uri")
        try:
            address = http_address(url, with_query=True) if isinstance(url, str) else ""
        except ValueError:
            address = ""
        if not address or (base.startswith("https:") and not address.startswith("https:")):
            raise _NonsenseError("the discovery document has no usable jwks_uri")
        return address

    async def _document(self, url: str) -> dict[str, object]:
        async with self._http.get(
            url,
            # The body is read as it is sent.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            allow_redirects=False,
        ) as response:
            if response.status >= 500 or response.status == 429:
                raise aiohttp.ClientError
            if response.status != 200:
                raise _NonsenseError(f"status {response.status}")
            body = await read_at_most(response, MOST_DOCUMENT_BYTES)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise _NonsenseError("not a JSON object, or too long")
        return document


def read_keys(document: dict[str, object]) -> tuple[Key, ...]:
    """Return the usable keys of a JWK Set; others are passed over (RFC 7517, section 5)."""
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MOST_KEYS:
        raise _NonsenseError("not a JWK Set, or one of too many keys")
    return tuple(key for entry in entries if (key := _key(entry)) is not None)


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict):
        return None
    key_id, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(key_id, str | None) or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kind, curve, algorithm = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    possible = _ALGORITHMS.get((kind, curve), ())
    algorithms = [name for name in possible if algorithm in (None, name)]
    if not algorithms:
        return None
    members = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    try:
        public = jwt.PyJWK(members, algorithms[0]).key
    except _UNUSABLE:
        return None
    if isinstance(public, RSAPublicKey) and public.key_size not in _RSA_BITS:
        return None
    return Key(key_id, frozenset(algorithms), public)
