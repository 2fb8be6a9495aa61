"""Users of bearer tokens, as decided by a verifier and cached for a time."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import TLRUCache

from chat_api.errors import NotAuthenticated
from chat_api.telemetry import AUTH_VALIDATIONS

TRUSTED_FOR_SECONDS = 300.0
REFUSED_FOR_SECONDS = 10.0
# RFC 6750, section 2.1: b64token. The server's limit on headers (MAX_HEADER_BYTES) bounds it.
_CREDENTIALS = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")

Digest = bytes


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user."""

    id: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """A valid token's user and when the token expires: Unix time, infinity without `exp`."""

    user: User
    expires: float


class TokenRefused(Exception):
    """The token is not valid. The verdict is remembered for `seconds`."""

    def __init__(self, seconds: float = REFUSED_FOR_SECONDS) -> None:
        super().__init__()
        self.seconds = seconds


class Verifier(Protocol):
    """Decides whether tokens are valid."""

    async def verify(self, token: str) -> Verdict:
        """Return the verdict on a token. Raise TokenRefused or AuthUnavailable."""


def is_user_id(value: object) -> bool:
    """Return whether a user may have this id: text of 1 to 255 characters that can be stored."""
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


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
    `trusted_seconds` and never past the token's own end, a refusal for ten seconds at most. The two
    caches are bounded and separate, so that a flood of random tokens displaces no user. Requests
    that bring one new token at once share one call, which none of them can cancel.

    Durations are measured by `clock`; only `exp` is compared with `wall_clock`, at each request,
    so that neither a change of the system's time nor a suspended machine extends a token.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        cache_size: int,
        trusted_seconds: float = TRUSTED_FOR_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._clock = clock
        self._wall_clock = wall_clock
        self._trusted_seconds = trusted_seconds
        self._trusted: TLRUCache[Digest, Validation] = TLRUCache(
            cache_size, ttu=lambda _digest, validation, _now: validation.until, timer=clock
        )
        self._refused: TLRUCache[Digest, float] = TLRUCache(
            cache_size, ttu=lambda _digest, seconds, now: now + seconds, timer=clock
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
        """Return the verifier's verdict, without the cache. Raise as `user` does."""
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
            verdict = await self._verifier.verify(token)
        except TokenRefused as refused:
            raise self._refuse(digest, refused.seconds) from None
        left = min(self._trusted_seconds, verdict.expires - self._wall_clock())
        if left <= 0:
            raise self._refuse(digest)
        AUTH_VALIDATIONS.labels("valid").inc()
        validation = Validation(verdict.user, self._clock() + left, verdict.expires)
        self._trusted[digest] = validation
        return validation

    def _refuse(self, digest: Digest, seconds: float = REFUSED_FOR_SECONDS) -> NotAuthenticated:
        """Remember that a token is refused, and return the error that says so."""
        AUTH_VALIDATIONS.labels("refused").inc()
        self._trusted.pop(digest, None)
        self._refused[digest] = seconds
        return _refusal()

    def trusted_for(self, validation: Validation) -> float:
        """Return for how many seconds more the validation is trusted; it may be none."""
        return min(validation.until - self._clock(), self.expires_in(validation.expires))

    def expires_in(self, expires: float) -> float:
        """Return in how many seconds a token expires that ends at `expires`."""
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
