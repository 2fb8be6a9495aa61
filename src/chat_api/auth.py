"""Authentication: the auth service turns a bearer token into a User; its verdicts are cached."""

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import orjson
from cachetools import TLRUCache

from chat_api.errors import AuthUnavailable, NotAuthenticated
from chat_api.telemetry import AUTH_VALIDATIONS, log, trace_id_var

TRUSTED_FOR_SECONDS = 300.0
REFUSED_FOR_SECONDS = 10.0
MOST_ANSWER_BYTES = 65_536
# RFC 6750, section 2.1: b64token. The server's limit on headers (MAX_HEADER_BYTES) bounds it.
_CREDENTIALS = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")

Digest = bytes


@dataclass(frozen=True, slots=True)
class User:
    id: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """A token's user, how long the verdict is trusted, and when the token itself expires.

    `until` is a time of the authenticator's clock, which is monotonic; `expires` is Unix time,
    infinity for a token without `exp`.
    """

    user: User
    until: float
    expires: float


class Authenticator:
    """Validates bearer tokens.

    A verdict is remembered under a digest of the token, never under the token: a user for
    `trusted_seconds` and never past the token's own `exp`, a refusal for ten seconds. The two
    caches are bounded and separate, so that a flood of random tokens displaces no user. Requests
    that bring one new token at once share one call, which none of them can cancel.

    Durations are measured by `clock`; only `exp` is compared with `wall_clock`, at each request,
    so that neither a change of the system's time nor a suspended machine prolongs a token.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        internal_api_key: str,
        timeout_seconds: float,
        cache_size: int,
        trusted_seconds: float = TRUSTED_FOR_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._url = f"{url}/auth/validate"
        self._key = internal_api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._clock = clock
        self._wall_clock = wall_clock
        self._trusted_seconds = trusted_seconds
        self._trusted: TLRUCache[Digest, Validation] = TLRUCache(
            cache_size, ttu=lambda _digest, validation, _now: validation.until, timer=clock
        )
        self._refused: TLRUCache[Digest, bool] = TLRUCache(
            cache_size, ttu=lambda _digest, _refused, now: now + REFUSED_FOR_SECONDS, timer=clock
        )
        self._under_way: dict[Digest, asyncio.Task[Validation]] = {}

    async def user(self, authorization: str | None) -> User:
        """Return the user of an Authorization header.

        Raise NotAuthenticated, or AuthUnavailable where the token cannot be checked.
        """
        validation = self.remembered(authorization)
        if validation is None:
            validation = await self.validate(authorization)
        return validation.user

    def remembered(self, authorization: str | None) -> Validation | None:
        """Return the cached verdict on an Authorization header, None where there is none.

        Raise NotAuthenticated where the header or a cached verdict says so.
        """
        digest = _digest(_token(authorization))
        known = self._trusted.get(digest)
        if known is not None and self._wall_clock() < known.expires:
            return known
        if digest in self._refused:
            raise _refusal()
        return None

    async def validate(self, authorization: str | None) -> Validation:
        """Ask the auth service, whatever is cached. Raise as `user` does."""
        token = _token(authorization)
        digest = _digest(token)
        task = self._under_way.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(token, digest), name="validate-token")
            self._under_way[digest] = task
            task.add_done_callback(lambda done: self._validated(digest, done))
        return await asyncio.shield(task)

    def _validated(self, digest: Digest, task: asyncio.Task[Validation]) -> None:
        del self._under_way[digest]
        if not task.cancelled():
            task.exception()  # retrieved, even where every caller has gone away

    async def _ask(self, token: str, digest: Digest) -> Validation:
        try:
            async with self._http.post(
                self._url,
                json={"token": token},
                headers={"X-Internal-API-Key": self._key, "x-trace-id": trace_id_var.get()},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                status = response.status
                body = await _read_at_most(response, MOST_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            AUTH_VALIDATIONS.labels("unavailable").inc()
            log.error("auth_unavailable", error=type(error).__name__)
            raise AuthUnavailable from None
        if status == 403:
            AUTH_VALIDATIONS.labels("key_refused").inc()
            log.critical("auth_refused_our_key", hint="INTERNAL_API_KEY differs between services")
            raise AuthUnavailable
        document = _object(body)
        if document is not None and (
            (status == 401 and document.get("valid") is not True)
            or (status == 200 and document.get("valid") is False)
        ):
            AUTH_VALIDATIONS.labels("refused").inc()
            self._refuse(digest)
            raise _refusal()
        verdict = _verdict(document) if status == 200 and document is not None else None
        if verdict is None:
            AUTH_VALIDATIONS.labels("nonsense").inc()
            log.error("auth_answered_nonsense", status=status, size=len(body))
            raise AuthUnavailable
        user, expires = verdict
        left = min(self._trusted_seconds, expires - self._wall_clock())
        if left <= 0:
            AUTH_VALIDATIONS.labels("refused").inc()
            self._refuse(digest)
            raise _refusal()
        AUTH_VALIDATIONS.labels("valid").inc()
        validation = Validation(user, self._clock() + left, expires)
        self._trusted[digest] = validation
        return validation

    def _refuse(self, digest: Digest) -> None:
        self._trusted.pop(digest, None)
        self._refused[digest] = True

    def trusted_for(self, validation: Validation) -> float:
        """Return for how many seconds more the validation is trusted; it may be none."""
        return min(validation.until - self._clock(), self.expires_in(validation.expires))

    def expires_in(self, expires: float) -> float:
        """Return in how many seconds a token expires whose `exp` is `expires`."""
        return expires - self._wall_clock()


def _token(authorization: str | None) -> str:
    """Return the token of an Authorization header, or raise NotAuthenticated."""
    if authorization is None:
        raise NotAuthenticated
    credentials = _CREDENTIALS.fullmatch(authorization)
    if credentials is None:
        if authorization[:7].lower() != "bearer ":
            raise NotAuthenticated
        raise NotAuthenticated("This is not an access token.", invalid_token=True)
    return credentials[1]


def _digest(token: str) -> Digest:
    return hashlib.sha256(token.encode()).digest()


def _refusal() -> NotAuthenticated:
    return NotAuthenticated("The access token is invalid or has expired.", invalid_token=True)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body, cut (and so no longer JSON) where it is longer than `limit` bytes."""
    body = bytearray()
    while len(body) <= limit and (chunk := await response.content.read(limit)):
        body += chunk
    return bytes(body) if len(body) <= limit else b""


def _object(body: bytes) -> dict[str, object] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _verdict(document: dict[str, object]) -> tuple[User, float] | None:
    """Return the user and when the token expires (Unix time), None for an answer without sense.

    Claims and `exp` may be absent or null: such a token does not expire by itself.
    """
    user, claims = document.get("user"), document.get("claims")
    if document.get("valid") is not True or not isinstance(user, dict):
        return None
    user_id = user.get("id")
    if not isinstance(user_id, str) or not 1 <= len(user_id) <= 255 or "\0" in user_id:
        return None
    if claims is not None and not isinstance(claims, dict):
        return None
    expires = None if claims is None else claims.get("exp")
    if expires is None:
        expires = math.inf
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    return User(user_id, user.get("is_admin") is True), float(expires)
