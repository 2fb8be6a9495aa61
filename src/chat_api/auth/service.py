"""An auth service as the verifier of tokens: `POST /auth/validate`."""

import math
from urllib.parse import urlsplit

import orjson

from chat_api.auth.authenticator import TokenRefused, User, Verdict, is_user_id
from chat_api.auth.exchange import ExchangeFailed, exchange
from chat_api.errors import AuthUnavailable
from chat_api.telemetry import AUTH_VALIDATIONS, log, trace_id_var
from chat_api.tracing import outgoing_headers

MOST_ANSWER_BYTES = 65_536


class AuthService:
    """Asks the auth service about each token."""

    def __init__(
        self,
        *,
        url: str,
        internal_api_key: str,
        timeout_seconds: float,
    ) -> None:
        self._address = urlsplit(f"{url}/auth/validate")
        self._headers = (
            ("Host", self._address.netloc),
            ("X-Internal-API-Key", internal_api_key),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        )
        self._timeout_seconds = timeout_seconds

    async def verify(self, token: str) -> Verdict:
        """Return the service's verdict.

        Raise TokenRefused, or AuthUnavailable where the service gives none.
        """
        status, body = await self._answer(token)
        if status == 403:
            AUTH_VALIDATIONS.labels("key_refused").inc()
            log.critical("auth_refused_our_key", hint="INTERNAL_API_KEY differs between services")
            raise AuthUnavailable
        document = _object(body)
        if document is not None and (
            (status == 401 and document.get("valid") is not True)
            or (status == 200 and document.get("valid") is False)
        ):
            raise TokenRefused
        verdict = _verdict(document) if status == 200 and document is not None else None
        if verdict is None:
            AUTH_VALIDATIONS.labels("nonsense").inc()
            log.error("auth_answered_nonsense", status=status, size=len(body))
            raise AuthUnavailable
        return verdict

    async def _answer(self, token: str) -> tuple[int, bytes]:
        try:
            return await exchange(
                self._address,
                self._request(token),
                most_bytes=MOST_ANSWER_BYTES,
                timeout_seconds=self._timeout_seconds,
            )
        except (ExchangeFailed, TimeoutError, OSError) as error:
            AUTH_VALIDATIONS.labels("unavailable").inc()
            reason = str(error) if isinstance(error, ExchangeFailed) else type(error).__name__
            log.error("auth_unavailable", error=reason)
            raise AuthUnavailable from None

    def _request(self, token: str) -> bytes:
        body = orjson.dumps({"token": token})
        headers = [
            *self._headers,
            ("X-Trace-Id", trace_id_var.get()),
            *outgoing_headers(),
            ("Content-Length", str(len(body))),
        ]
        head = [
            f"POST {self._address.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers),
        ]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _object(body: bytes) -> dict[str, object] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _verdict(document: dict[str, object]) -> Verdict | None:
    """Return the user and when the token expires; None for an invalid response.

    Claims and `exp` may be absent or null: such a token does not expire by itself.
    """
    user, claims = document.get("user"), document.get("claims")
    if document.get("valid") is not True or not isinstance(user, dict):
        return None
    user_id = user.get("id")
    if not isinstance(user_id, str) or not is_user_id(user_id):
        return None
    if claims is not None and not isinstance(claims, dict):
        return None
    expires = None if claims is None else claims.get("exp")
    if expires is None:
        expires = math.inf
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    return Verdict(User(user_id, user.get("is_admin") is True), float(expires))
