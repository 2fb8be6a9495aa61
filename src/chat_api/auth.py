"""Who is asking: a bearer token becomes a User, by the auth service and a cache before it."""

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import orjson
from cachetools import LRUCache

from chat_api.errors import AuthUnavailable, NotAuthenticated
from chat_api.telemetry import AUTH_VALIDATIONS, log, trace_id_var

TRUSTED_FOR_SECONDS = 300.0
REFUSED_FOR_SECONDS = 10.0
MOST_ANSWER_BYTES = 65_536
# RFC 6750, section 2.1: b64token. The length is ours: headers are bounded anyway.
_CREDENTIALS = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]{1,8192}=*)")

Digest = bytes


@dataclass(frozen=True, slots=True)
class User:
    id: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """Whose token it is, until when that is taken for granted, and when the token itself ends.

    Both in Unix time; a token without `exp` ends never (infinity).
    """

    user: User
    until: float
    expires: float


class Authenticator:
    """Validates bearer tokens.

    A verdict is remembered under a digest of the token, never under the token: a user for
    `trusted_seconds` and never past the token's own `exp`, a refusal for ten seconds. Both memories
    are bounded and separate, so that a flood of random tokens pushes no user out. Requests that
    come with one new token at once share one call, which none of them can cancel.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._url = f"{url}/auth/validate"
        self._key = internal_api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._clock = clock
        self._trusted_seconds = trusted_seconds
        self._trusted: LRUCache[Digest, Validation] = LRUCache(cache_size)
        self._refused: LRUCache[Digest, float] = LRUCache(cache_size)
        self._under_way: dict[Digest, asyncio.Task[Validation]] = {}

    async def user(self, authorization: str | None) -> User:
        """The user of an Authorization header.

        Raises NotAuthenticated, and AuthUnavailable where the token cannot be checked.
        """
        validation = self.remembered(authorization)
        if validation is None:
            validation = await self.validate(authorization)
        return validation.user

    def remembered(self, authorization: str | None) -> Validation | None:
        """What an Authorization header is known to stand for; None where it has to be validated.

        Raises NotAuthenticated where nobody has to be asked for that.
        """
        token = _token(authorization)
        digest = _digest(token)
        now = self._clock()
        if (known := self._trusted.get(digest)) is not None:
            if now < known.until:
                return known
            del self._trusted[digest]
        if (refused_until := self._refused.get(digest)) is not None:
            if now < refused_until:
                raise _refusal()
            del self._refused[digest]
        return None

    async def validate(self, authorization: str | None) -> Validation:
        """Ask the auth service, whatever is remembered. Raises as `user` does."""
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
            task.exception()  # seen, even where every caller has gone away

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
            self._refused[digest] = self._clock() + REFUSED_FOR_SECONDS
            raise _refusal()
        verdict = _verdict(document) if status == 200 and document is not None else None
        if verdict is None:
            AUTH_VALIDATIONS.labels("nonsense").inc()
            log.error("auth_answered_nonsense", status=status, size=len(body))
            raise AuthUnavailable
        user, expires = verdict
        now = self._clock()
        until = min(now + self._trusted_seconds, expires)
        if until <= now:
            AUTH_VALIDATIONS.labels("refused").inc()
            self._refused[digest] = now + REFUSED_FOR_SECONDS
            raise _refusal()
        AUTH_VALIDATIONS.labels("valid").inc()
        validation = Validation(user, until, expires)
        self._trusted[digest] = validation
        return validation

    @property
    def now(self) -> float:
        """The time by which validations count."""
        return self._clock()


def _token(authorization: str | None) -> str:
    """The token of an Authorization header. Raises NotAuthenticated."""
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
    return NotAuthenticated("The access token is not valid, or no longer.", invalid_token=True)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; cut, and so no longer JSON, where it is longer than `limit` bytes."""
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
    """The user and when the token expires (Unix time); None where the answer makes no sense."""
    user, claims = document.get("user"), document.get("claims", {})
    if document.get("valid") is not True or not isinstance(user, dict):
        return None
    user_id = user.get("id")
    if not isinstance(user_id, str) or not 1 <= len(user_id) <= 255 or "\0" in user_id:
        return None
    expires = claims.get("exp", math.inf) if isinstance(claims, dict) else math.inf
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    return User(user_id, user.get("is_admin") is True), float(expires)
