"""A scripted auth service: knows the users that a test registers, counts, and can fail.

token = auth.user("alice").token
auth.validations(token)                # how often it was asked about this one
with auth.failing(500): …              # everything answers 500
with auth.held() as gate: …            # answers wait until the gate opens
with auth.refusing(): …                # connections are refused
"""

import contextlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.gates import Gate
from tests.support.wire import Wire, WireRequest, WireServer


@dataclass(frozen=True)
class Account:
    """A registered user and the token that stands for it."""

    token: str
    id: str
    name: str
    exp: float
    user: dict[str, Any] = field(repr=False)

    @property
    def expires_at(self) -> str:
        """When the token expires, as ISO 8601."""
        return datetime.fromtimestamp(self.exp, UTC).isoformat()

    @property
    def headers(self) -> dict[str, str]:
        """What to send with a request."""
        return {"authorization": f"Bearer {self.token}"}


Fault = Callable[[WireRequest, Wire], Awaitable[None]]


class AuthServer(WireServer):
    """The scripted auth service."""

    name = "auth"

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.requests: list[WireRequest] = []
        self._accounts: dict[str, Account] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._gate: Gate | None = None

    def reset(self) -> None:
        """Forget calls and faults; the users stay (their tokens are never given out twice)."""
        with self._lock:
            self.requests.clear()
            self._counts.clear()
            self._fault = None
            gate, self._gate = self._gate, None
        if gate is not None:
            gate.open()

    def user(
        self,
        name: str = "user",
        *,
        user_id: str | None = None,
        token: str | None = None,
        expires_in: float = 3600,
        **fields: Any,
    ) -> Account:
        """Register a user; `fields` (such as `is_admin=True`) go into the user object.

        The same `user_id` may be given to several tokens.
        """
        user_id = str(uuid.uuid4()) if user_id is None else user_id
        account = Account(
            token=token or f"{name}.{uuid.uuid4().hex}.{uuid.uuid4().hex}",
            id=user_id,
            name=name,
            exp=time.time() + expires_in,
            user={"id": user_id, "email": f"{name}@example.org", "name": name, **fields},
        )
        self._accounts[account.token] = account
        return account

    def forget(self, token: str) -> None:
        """From now on this token is unknown."""
        self._accounts.pop(token, None)

    def validations(self, token: str) -> int:
        """How often this token was asked about since the last reset."""
        return self._counts[token]

    # Modes. Each holds until the `with` ends.

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Answer everything this way."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    def failing(self, status: int = 500, body: bytes | dict[str, Any] = b"broken") -> Any:
        """Answer everything with this status and body."""

        async def fault(_: WireRequest, wire: Wire) -> None:
            await wire.respond(status, body)

        return self.fault(fault)

    def down(self) -> Any:
        """Close every connection without an answer (`refusing()`: do not even listen)."""

        async def fault(_: WireRequest, wire: Wire) -> None:
            wire.cut()

        return self.fault(fault)

    def nonsense(self) -> Any:
        """Answer 200 with something that is not JSON."""
        return self.failing(200, b"<html>It works!</html>")

    def huge(self, size: int = 64 << 20) -> Any:
        """Answer 200 with a body of so many bytes."""

        async def fault(_: WireRequest, wire: Wire) -> None:
            await wire.head(200, {"content-type": "application/json"}, length=size)
            for _piece in range(size // 65536):
                await wire.write(b"[" * 65536)

        return self.fault(fault)

    def redirecting(self, location: str) -> Any:
        """Answer with a redirect."""

        async def fault(_: WireRequest, wire: Wire) -> None:
            await wire.respond(307, b"", {"location": location})

        return self.fault(fault)

    def silent(self) -> Any:
        """Never answer."""

        async def fault(_: WireRequest, wire: Wire) -> None:
            await wire.gone.wait(None)

        return self.fault(fault)

    @contextlib.contextmanager
    def held(self) -> Iterator[Gate]:
        """Answer when the gate is opened (`gate.arrived` opens when a request waits at it)."""
        gate = self._gate = Gate("auth")
        try:
            yield gate
        finally:
            self._gate = None
            gate.open()

    async def answer(self, request: WireRequest, wire: Wire) -> None:
        """Answer one request (runs in the server's thread)."""
        token = _token(request)
        with self._lock:
            self.requests.append(request)
            if token is not None:
                self._counts[token] += 1
        if self._gate is not None:
            await self._gate.wait(60)
        if self._fault is not None:
            await self._fault(request, wire)
        elif request.path == "/auth/sign-in":
            await self._sign_in(request, wire)
        elif (request.method, request.path) != ("POST", "/auth/validate"):
            await wire.respond(404, {"detail": "no such path"})
        elif request.headers.get("x-internal-api-key") != self.key:
            await wire.respond(403, {"detail": "wrong key"})
        elif token is None:
            await wire.respond(422, {"detail": "token is missing"})
        elif (account := self._accounts.get(token)) is None:
            await wire.respond(401, {"valid": False, "reason": "unknown token"})
        elif account.exp <= time.time():
            await wire.respond(401, {"valid": False, "reason": "expired"})
        else:
            claims = {"sub": account.id, "exp": int(account.exp), "iat": int(time.time())}
            await wire.respond(200, {"valid": True, "user": account.user, "claims": claims})

    async def _sign_in(self, request: WireRequest, wire: Wire) -> None:
        """What the local stack has for its page: a name for a token. Any page may."""
        allowed = {
            "access-control-allow-origin": request.headers.get("origin", "null"),
            "access-control-allow-headers": "content-type",
        }
        if request.method == "OPTIONS":
            await wire.respond(200, b"", allowed)
            return
        body = request.json()
        user_id = str(uuid.uuid5(uuid.NAMESPACE_URL, body["name"]))
        account = self.user(
            body["name"], user_id=user_id, token=uuid.uuid4().hex, is_admin=body["admin"]
        )
        answer = {"token": account.token, "user": account.user, "expires_at": account.expires_at}
        await wire.respond(200, answer, allowed)


def _token(request: WireRequest) -> str | None:
    try:
        body = request.json()
    except ValueError:
        return None
    token = body.get("token") if isinstance(body, dict) else None
    return token if isinstance(token, str) else None
