"""Tokens of an OpenID provider, verified here: JSON Web Tokens (RFC 7519, RFC 8725)."""

import jwt

from chat_api.auth.authenticator import TokenRefused, User, Verdict, is_user_id
from chat_api.auth.keys import ALGORITHMS, Keys
from chat_api.telemetry import log

MOST_TOKEN_CHARS = 16_384
# RFC 9068, section 2.1; most providers say `JWT`, or nothing. Other kinds, such as logout tokens,
# are signed with the same keys, but do not authenticate a user.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})

_LATEST = 2**53  # what a float still holds

Claims = dict[str, object]


class AdminClaim:
    """What makes a user an administrator: `claim` (which must be true) or `claim=value`.

    A claim inside another is written with dots: `realm_access.roles=admin`. A list that contains
    the value counts, too.
    """

    def __init__(self, text: str) -> None:
        """Take the claim of AUTH_ADMIN_CLAIM; the empty text makes no user an administrator."""
        self._name, equals, value = text.partition("=")
        self._value: object = value if equals else True

    def holds(self, claims: Claims) -> bool:
        """Return whether these claims make their user an administrator."""
        if not self._name:
            return False
        found = claims.get(self._name)
        if self._name not in claims:
            found = claims
            for part in self._name.split("."):
                found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, list) and self._value is not True:
            return self._value in found
        return type(found) is type(self._value) and found == self._value


class OpenId:
    """Verifies tokens by the provider's keys."""

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        user_claim: str,
        admin_claim: AdminClaim,
        skew_seconds: float,
    ) -> None:
        """`skew_seconds` is by how much the provider's clock may differ from this one's."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        self._admin_claim = admin_claim
        self._skew = skew_seconds

    async def verify(self, token: str) -> Verdict:
        """Return the verdict. It ends `skew_seconds` after the token's `exp`.

        Raise TokenRefused, or AuthUnavailable where the token's key cannot be fetched.
        """
        key_id, algorithm = _header(token)
        public = await self._keys.find(key_id, algorithm)
        try:
            claims = jwt.decode(
                token,
                public,
                [algorithm],  # of the allow list, and of the key's type
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._skew,
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _refused(type(error).__name__) from None
        user_id, expires = claims.get(self._user_claim), claims.get("exp")
        if not isinstance(user_id, str) or not is_user_id(user_id):
            raise _refused("user_claim")
        # PyJWT requires `iss` and `aud` where it is given them, but not `exp`.
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            raise _refused("exp")
        until = min(expires, _LATEST) + self._skew
        return Verdict(User(user_id, self._admin_claim.holds(claims)), until)


def _header(token: str) -> tuple[str | None, str]:
    """Return the key id and the algorithm of a token's header. Raise TokenRefused."""
    if len(token) > MOST_TOKEN_CHARS:
        raise _refused("too_long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _refused("no_jwt") from None
    key_id, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused("algorithm")
    if not isinstance(key_id, str | None):
        raise _refused("kid")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise _refused("typ")
    return key_id, algorithm


def _refused(reason: str) -> TokenRefused:
    """Return the refusal, and log the reason: a name of this code, nothing of the token."""
    log.info("token_refused", reason=reason)
    return TokenRefused()
