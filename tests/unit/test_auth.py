"""Tokens become users: what is remembered, for how long, and what is asked of the auth service."""

import asyncio
import gc
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import psutil
import pytest
from structlog.testing import capture_logs
from tests.support.listening import listening

from chat_api.auth import Authenticator, User
from chat_api.auth.authenticator import REFUSED_FOR_SECONDS, TRUSTED_FOR_SECONDS
from chat_api.auth.service import MOST_ANSWER_BYTES, AuthService
from chat_api.errors import ApiError, AuthUnavailable, NotAuthenticated

START = 1_800_000_000.0
USER = {"id": "user-1", "email": "u@example.org", "name": "U"}
UNKNOWN = (401, json.dumps({"valid": False, "reason": "unknown"}).encode())
NEVER = 2**53


def valid(exp: object = NEVER, **user: object) -> tuple[int, bytes]:
    document = {"valid": True, "user": {**USER, **user}, "claims": {"sub": "user-1", "exp": exp}}
    return 200, json.dumps(document).encode()


class Auth:
    """An auth service of a few lines. It forgets what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.calls = 0
        self.head = b""
        self.body_keys: set[str] = set()
        self.answer: Callable[[str], tuple[int, bytes]] = lambda _: valid()
        self.headers = b"content-type: application/json\r\n"
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        length = int(self.head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        document = json.loads(await reader.readexactly(length))
        self.body_keys = set(document)
        self.calls += 1
        self.arrived.set()
        await self.open.wait()
        status, body = self.answer(document.pop("token"))
        writer.write(
            b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n"
            % (status, self.headers, len(body))
        )
        writer.write(body)


class Clock:
    """Both clocks of the authenticator; `wall` is by how much the wall clock has jumped."""

    def __init__(self) -> None:
        self.now = START
        self.wall = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def auth() -> AsyncIterator[Auth]:
    service = Auth()
    async with listening(service.serve) as service.url:
        yield service


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def asking(
    auth: Auth, clock: Clock, *, cache_size: int = 100, timeout_seconds: float = 10
) -> AsyncIterator[Authenticator]:
    yield Authenticator(
        AuthService(url=auth.url, internal_api_key="the-key", timeout_seconds=timeout_seconds),
        cache_size=cache_size,
        clock=lambda: clock.now - START + 5,
        wall_clock=lambda: clock.now + clock.wall,
    )


@pytest.fixture
async def authenticator(auth: Auth, clock: Clock) -> AsyncIterator[Authenticator]:
    async with asking(auth, clock) as authenticator:
        yield authenticator


async def refusal(authenticator: Authenticator, header: str | None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await authenticator.user(header)
    return caught.value


# --- what is asked --------------------------------------------------------------------------------


async def test_the_auth_service_is_asked_with_the_key(
    auth: Auth, authenticator: Authenticator
) -> None:
    assert await authenticator.user("Bearer abc") == User("user-1", is_admin=False)
    assert auth.head.startswith(b"POST /auth/validate HTTP/1.1\r\n")
    assert b"\r\nX-Internal-API-Key: the-key\r\n" in auth.head
    assert b"abc" not in auth.head
    assert auth.body_keys == {"token"}


@pytest.mark.parametrize(
    "header", ["bearer abc", "BEARER abc", "Bearer   abc", "Bearer a-b._~+/9=="]
)
async def test_a_scheme_is_read_in_any_case(header: str, authenticator: Authenticator) -> None:
    assert (await authenticator.user(header)).id == "user-1"


@pytest.mark.case(1)
@pytest.mark.parametrize("header", [None, "", "Basic dXNlcg==", "abc", "Bearer", "Bearerabc"])
async def test_no_credentials_get_a_challenge_without_an_error(
    header: str | None, auth: Auth, authenticator: Authenticator
) -> None:
    error = await refusal(authenticator, header)
    assert isinstance(error, NotAuthenticated)
    assert error.headers == {"WWW-Authenticate": "Bearer"}
    assert auth.calls == 0


@pytest.mark.parametrize(
    "header",
    [
        "Bearer ",
        "Bearer a b",
        "Bearer a\r\nX-Internal-API-Key: mine",
        "Bearer a\n",
        "Bearer a,b",
        "Bearer ä",
        "Bearer a\0",
        "Bearer '; DROP TABLE users",
        "Bearer =",
        "Bearer a=b",
    ],
)
async def test_what_is_no_token_is_refused_without_a_call(
    header: str, auth: Auth, authenticator: Authenticator
) -> None:
    error = await refusal(authenticator, header)
    assert isinstance(error, NotAuthenticated)
    assert error.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    assert auth.calls == 0


@pytest.mark.case(53)
async def test_a_token_may_be_as_long_as_headers_may_be(
    auth: Auth, authenticator: Authenticator
) -> None:
    assert (await authenticator.user("Bearer " + "a" * 1_000_000)).id == "user-1"
    assert auth.calls == 1


@pytest.mark.parametrize(
    ("told", "is_admin"),
    [(True, True), (False, False), (None, False), ("true", False), (1, False), ([1], False)],
)
async def test_an_admin_is_who_is_called_so_exactly(
    told: object, is_admin: bool, auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda _: valid(is_admin=told)
    assert (await authenticator.user("Bearer abc")).is_admin is is_admin


# --- what is remembered ---------------------------------------------------------------------------


async def test_a_validation_is_trusted_for_five_minutes(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    assert TRUSTED_FOR_SECONDS == 300
    await authenticator.user("Bearer abc")
    clock.now = START + 299.999
    await authenticator.user("Bearer abc")
    assert auth.calls == 1
    clock.now = START + 300
    await authenticator.user("Bearer abc")
    assert auth.calls == 2


async def test_a_validation_is_not_prolonged_by_use(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    for second in range(0, 301, 50):
        clock.now = START + second
        await authenticator.user("Bearer abc")
    assert auth.calls == 2


@pytest.mark.case(2)
@pytest.mark.parametrize("left", [20, 20.5])
async def test_a_token_is_never_trusted_past_its_own_end(
    left: float, auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: valid(START + left)
    await authenticator.user("Bearer abc")
    clock.now = START + left - 0.001
    await authenticator.user("Bearer abc")
    assert auth.calls == 1
    clock.now = START + left
    # Even where the auth service still takes it (its clock is another one).
    assert isinstance(await refusal(authenticator, "Bearer abc"), NotAuthenticated)


async def test_a_token_that_ends_later_is_trusted_no_longer_for_it(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: valid(START + 86_400)
    await authenticator.user("Bearer abc")
    clock.now = START + 300
    auth.answer = lambda _: UNKNOWN
    assert isinstance(await refusal(authenticator, "Bearer abc"), NotAuthenticated)


@pytest.mark.case(1)
async def test_a_refusal_is_remembered_for_ten_seconds(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    assert REFUSED_FOR_SECONDS == 10
    auth.answer = lambda _: UNKNOWN
    for _ in range(3):
        error = await refusal(authenticator, "Bearer abc")
        assert isinstance(error, NotAuthenticated)
        assert error.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    assert auth.calls == 1
    auth.answer = lambda _: valid()
    clock.now = START + 9.999
    await refusal(authenticator, "Bearer abc")
    clock.now = START + 10
    assert (await authenticator.user("Bearer abc")).id == "user-1"
    assert auth.calls == 2


@pytest.mark.case(56)
@pytest.mark.parametrize("jump", [-86_400 * 365, 86_400 * 365])
async def test_a_wall_clock_that_jumps_changes_no_duration(
    jump: float, auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda token: UNKNOWN if token == "wrong" else (200, document(claims={}))
    await authenticator.user("Bearer abc")
    await refusal(authenticator, "Bearer wrong")
    clock.wall = jump
    clock.now = START + 9
    await refusal(authenticator, "Bearer wrong")
    assert auth.calls == 2
    clock.now = START + 10
    await refusal(authenticator, "Bearer wrong")
    assert auth.calls == 3
    clock.now = START + 299
    await authenticator.user("Bearer abc")
    assert auth.calls == 3
    clock.now = START + 300
    await authenticator.user("Bearer abc")
    assert auth.calls == 4


@pytest.mark.case(2, 56)
async def test_a_wall_clock_that_jumps_ahead_ends_a_token_at_its_own_end(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: valid(START + 3600)
    validation = await authenticator.validate("Bearer abc")
    assert authenticator.trusted_for(validation) == 300
    clock.wall = 3590
    assert authenticator.trusted_for(validation) == 10
    await authenticator.user("Bearer abc")
    assert auth.calls == 1
    clock.wall = 3600
    assert isinstance(await refusal(authenticator, "Bearer abc"), NotAuthenticated)


@pytest.mark.case(2, 56)
async def test_a_wall_clock_that_jumps_back_prolongs_no_trust(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: valid(START + 20)
    await authenticator.user("Bearer abc")
    clock.wall = -3600
    clock.now = START + 20
    await authenticator.user("Bearer abc")
    assert auth.calls == 2  # asked again, which only the auth service's own clock decides


@pytest.mark.case(1)
async def test_a_token_that_is_refused_later_is_refused_everywhere_at_once(
    auth: Auth, authenticator: Authenticator
) -> None:
    await authenticator.user("Bearer abc")
    auth.answer = lambda _: UNKNOWN
    with pytest.raises(NotAuthenticated):
        await authenticator.validate("Bearer abc")  # as an open stream does
    assert isinstance(await refusal(authenticator, "Bearer abc"), NotAuthenticated)
    assert auth.calls == 2


async def test_an_outage_is_not_remembered(auth: Auth, authenticator: Authenticator) -> None:
    auth.answer = lambda _: (500, b"{}")
    assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)
    auth.answer = lambda _: valid()
    assert (await authenticator.user("Bearer abc")).id == "user-1"


async def test_who_is_known_stays_in_while_the_auth_service_is_away(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    await authenticator.user("Bearer abc")
    auth.answer = lambda _: (503, b"")
    clock.now = START + 299
    assert (await authenticator.user("Bearer abc")).id == "user-1"
    assert isinstance(await refusal(authenticator, "Bearer other"), AuthUnavailable)
    clock.now = START + 300
    assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)


async def test_tokens_do_not_stand_for_one_another(
    auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda token: valid(id=f"user-{token}")
    for token in ("a", "b", "a", "A"):
        assert (await authenticator.user(f"Bearer {token}")).id == f"user-{token}"
    assert auth.calls == 3


@pytest.mark.case(5)
async def test_a_flood_of_wrong_tokens_pushes_no_user_out(auth: Auth, clock: Clock) -> None:
    async with asking(auth, clock, cache_size=10) as authenticator:
        auth.answer = lambda token: UNKNOWN if token.startswith("wrong") else valid()
        await authenticator.user("Bearer right")
        for number in range(100):
            await refusal(authenticator, f"Bearer wrong{number}")
        assert len(authenticator._refused) == 10
        assert authenticator._under_way == {}
        calls = auth.calls
        await authenticator.user("Bearer right")
        assert auth.calls == calls


class Refuser(AuthService):
    """An auth service without a network, for floods: every token is unknown."""

    async def _answer(self, token: str) -> tuple[int, bytes]:  # asked by AuthService
        return UNKNOWN


@pytest.mark.case(5)
@pytest.mark.slow
async def test_random_tokens_without_end_leave_nothing_behind() -> None:
    """The first tenth fills whatever is bounded; the rest must find no room to grow.

    FLOOD_TOKENS=1000000 makes it a million, in half a minute.
    """
    tokens = int(os.environ.get("FLOOD_TOKENS", "200000"))
    authenticator = Authenticator(
        Refuser(url="http://auth", internal_api_key="the-key", timeout_seconds=5),
        cache_size=10_000,
    )
    process = psutil.Process()
    before = 0
    for number in range(tokens):
        if number == tokens // 10:
            before = process.memory_info().rss
        try:
            await authenticator.user(f"Bearer {number:x}.{number * 2654435761 % 2**64:x}")
        except NotAuthenticated:
            continue
        raise AssertionError("let in")
    assert process.memory_info().rss - before < 5_000_000
    assert len(authenticator._refused) == 10_000
    assert not authenticator._under_way
    assert not authenticator._trusted


async def test_the_least_used_user_is_forgotten_first(auth: Auth, clock: Clock) -> None:
    async with asking(auth, clock, cache_size=2) as authenticator:
        for token in ("a", "b", "a", "c"):  # `b` has to go
            await authenticator.user(f"Bearer {token}")
        assert len(authenticator._trusted) == 2
        assert auth.calls == 3
        await authenticator.user("Bearer a")
        assert auth.calls == 3
        await authenticator.user("Bearer b")
        assert auth.calls == 4


# --- at once --------------------------------------------------------------------------------------


@pytest.mark.case(4)
async def test_five_hundred_callers_share_one_call(
    auth: Auth, authenticator: Authenticator
) -> None:
    auth.open.clear()
    callers = [asyncio.create_task(authenticator.user("Bearer abc")) for _ in range(500)]
    await auth.arrived.wait()
    auth.open.set()
    assert {user.id for user in await asyncio.gather(*callers)} == {"user-1"}
    assert auth.calls == 1
    assert authenticator._under_way == {}


async def test_callers_share_a_refusal(auth: Auth, authenticator: Authenticator) -> None:
    auth.answer = lambda _: UNKNOWN
    found = await asyncio.gather(
        *(authenticator.user("Bearer abc") for _ in range(20)), return_exceptions=True
    )
    assert {type(error) for error in found} == {NotAuthenticated}
    assert auth.calls == 1


@pytest.mark.case(4)
async def test_the_first_caller_s_going_away_fails_none_of_the_others(
    auth: Auth, authenticator: Authenticator
) -> None:
    auth.open.clear()
    first, *others = [asyncio.create_task(authenticator.user("Bearer abc")) for _ in range(5)]
    await auth.arrived.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    auth.open.set()
    assert {user.id for user in await asyncio.gather(*others)} == {"user-1"}
    assert auth.calls == 1


async def test_a_call_that_everybody_left_is_finished_quietly(
    auth: Auth, authenticator: Authenticator
) -> None:
    """No caller takes its error: no warning about an exception that was never retrieved."""
    auth.open.clear()
    auth.answer = lambda _: (500, b"")
    only = asyncio.create_task(authenticator.user("Bearer abc"))
    await auth.arrived.wait()
    only.cancel()
    (call,) = authenticator._under_way.values()
    auth.open.set()
    await asyncio.wait({call})
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    del call, only
    gc.collect()
    assert complaints == []


# --- secrets --------------------------------------------------------------------------------------


def parts(holder: object) -> list[object]:
    """What an object consists of: entries of containers, attributes of the service's own objects.

    The garbage collector would tell more, but asking it about objects of the interpreter ends
    Python 3.12.1. Objects are told apart by `type`, which calls no code of theirs.
    """
    kind = type(holder)
    if kind in {list, tuple, set, frozenset, deque}:
        return [*cast("Iterable[object]", holder)]
    if dict in kind.__mro__:
        entries = cast("dict[object, object]", holder)
        return [*entries.keys(), *entries.values()]
    if kind.__module__.partition(".")[0] not in {"chat_api", "cachetools"}:
        return []
    slots = [name for base in kind.__mro__ for name in vars(base).get("__slots__", ())]
    names = [*getattr(holder, "__dict__", ()), *slots]
    return [getattr(holder, name, None) for name in names]


def holders_of(backwards: str, roots: list[object]) -> list[str]:
    """What refers to this text, of all that consists of the roots."""
    text = backwards[::-1]
    found: list[str] = []
    seen: set[int] = set()
    to_visit = [*roots]
    while to_visit:
        holder = to_visit.pop()
        for held in parts(holder):
            if type(held) in {str, bytes, bytearray}:
                as_text = held if type(held) is str else cast("bytes", held).decode("latin-1")
                if text in as_text:
                    found.append(type(holder).__name__)
            elif id(held) not in seen:
                seen.add(id(held))
                to_visit.append(held)
    return found


def roots(authenticator: Authenticator) -> list[object]:
    """What outlives a request: the authenticator and the modules."""
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("chat_api")]
    return [authenticator, *modules]


async def test_a_token_that_is_kept_would_be_found(authenticator: Authenticator) -> None:
    kept = {"deep": [("lenitnes-peed"[::-1],)]}
    authenticator._under_way[b""] = cast("Any", kept)
    assert holders_of("lenitnes-peed", roots(authenticator)) == ["tuple"]


@pytest.mark.case(5)
@pytest.mark.parametrize("outcome", ["valid", "refused", "nonsense"])
async def test_no_token_is_kept_in_the_clear(
    outcome: str, auth: Auth, authenticator: Authenticator
) -> None:
    answers = {"valid": valid(), "refused": UNKNOWN, "nonsense": (200, b"[]")}
    auth.answer = lambda _: answers[outcome]
    # Turned round, so that neither the test nor its source holds it.
    backwards = f"{outcome}-lenitnes"[::-1]

    async def ask() -> None:
        with suppress(ApiError):
            await authenticator.user(f"Bearer {backwards[::-1]}")

    await asyncio.create_task(ask())
    assert holders_of(backwards, roots(authenticator)) == []


async def test_errors_tell_nothing_of_the_token(auth: Auth, authenticator: Authenticator) -> None:
    for answer in (UNKNOWN, (500, b""), (403, b"")):
        auth.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        error = await refusal(authenticator, f"Bearer sentinel{answer[0]}")
        assert "sentinel" not in f"{error.detail}{error.fields}{error.headers}{error!r}"


# --- nonsense -------------------------------------------------------------------------------------


def document(**changes: object) -> bytes:
    return json.dumps(
        {"valid": True, "user": USER, "claims": {"sub": "user-1", "exp": NEVER}, **changes}
    ).encode()


@pytest.mark.case(3)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>It works!</html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b'"valid"'),
        (200, b"\xff"),
        (200, b"[" * 1000),
        (200, b"{}"),
        (200, document(valid="true")),
        (200, document(valid=1)),
        (200, document(valid=None)),
        (200, document(user=None)),
        (200, document(user="user-1")),
        (200, document(user={})),
        (200, document(user={"id": None})),
        (200, document(user={"id": 7})),
        (200, document(user={"id": True})),
        (200, document(user={"id": ["a"]})),
        (200, document(user={"id": ""})),
        (200, document(user={"id": "x" * 256})),
        (200, document(user={"id": "a\0b"})),
        (200, b'{"valid":true,"user":{"id":"\\ud800"},"claims":{"exp":9999999999}}'),
        (200, document(claims={"exp": "9999999999"})),
        (200, document(claims="exp")),
        (200, document(claims=[])),
        (200, document(claims=7)),
        (200, document(claims={"exp": ""})),
        (200, document(claims={"exp": {}})),
        (200, document(claims={"exp": True})),
        (200, document(claims={"exp": [1]})),
        (200, b'{"valid":true,"user":{"id":"a"},"claims":{"exp":NaN}}'),
        (200, b'{"valid":true,"user":{"id":"a"},"claims":{"exp":1e999}}'),
        (201, document()),
        (204, b""),
        (400, document(valid=False)),
        (401, b"no"),
        (401, b""),
        (401, document()),
        (404, b"{}"),
        (429, b"{}"),
        (500, document()),
        (502, document(valid=False)),
        (503, b""),
    ],
)
async def test_nonsense_is_an_outage_never_a_verdict(
    status: int, body: bytes, auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda _: (status, body)
    error = await refusal(authenticator, "Bearer abc")
    assert isinstance(error, AuthUnavailable)
    assert error.status == 503
    assert "Retry-After" in error.headers
    assert not authenticator._trusted
    assert not authenticator._refused


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"valid":false,"reason":"expired"}'),
        (401, b'{"detail":"expired"}'),
        (200, b'{"valid":false}'),
        (200, document(claims={"exp": START})),
        (200, document(claims={"exp": START - 1})),
        (200, document(claims={"exp": -1})),
        (200, document(claims={"exp": 0.5})),
    ],
)
async def test_a_verdict_against_the_token_is_a_refusal(
    status: int, body: bytes, auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda _: (status, body)
    error = await refusal(authenticator, "Bearer abc")
    assert isinstance(error, NotAuthenticated)
    assert len(authenticator._refused) == 1


@pytest.mark.parametrize("user_id", ["x", "x" * 255, "😀", "ä\n' OR 1=1", "\u202e"])
async def test_any_string_up_to_255_characters_is_a_user(
    user_id: str, auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda _: valid(id=user_id)
    assert (await authenticator.user("Bearer abc")).id == user_id


async def test_an_end_beyond_all_clocks_is_trusted_for_five_minutes(
    auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: (200, b'{"valid":true,"user":{"id":"a"},"claims":{"exp":%d}}' % 10**40)
    await authenticator.user("Bearer abc")
    clock.now = START + 300
    await authenticator.user("Bearer abc")
    assert auth.calls == 2


@pytest.mark.case(3)
@pytest.mark.parametrize("claims", [None, {}, {"exp": None}, {"sub": 7, "exp": 2**63}])
async def test_a_token_without_an_end_is_trusted_for_five_minutes(
    claims: object, auth: Auth, authenticator: Authenticator, clock: Clock
) -> None:
    auth.answer = lambda _: (200, document(claims=claims))
    await authenticator.user("Bearer abc")
    clock.now = START + 299
    await authenticator.user("Bearer abc")
    assert auth.calls == 1
    clock.now = START + 300
    await authenticator.user("Bearer abc")
    assert auth.calls == 2


async def test_a_redirect_is_not_followed(auth: Auth, authenticator: Authenticator) -> None:
    auth.headers = b"location: /auth/validate\r\n"
    auth.answer = lambda _: (307, b"")
    assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)
    assert auth.calls == 1


@pytest.mark.case(3)
@pytest.mark.parametrize(("size", "trusted"), [(MOST_ANSWER_BYTES, True), (1 << 24, False)])
async def test_a_huge_answer_is_not_read(
    size: int, trusted: bool, auth: Auth, authenticator: Authenticator
) -> None:
    body = document()
    auth.answer = lambda _: (200, body + b" " * (size - len(body)))
    if trusted:
        assert (await authenticator.user("Bearer abc")).id == "user-1"
    else:
        assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)


@pytest.mark.case(3)
async def test_a_refused_key_is_an_outage_and_loud(
    auth: Auth, authenticator: Authenticator
) -> None:
    auth.answer = lambda _: (403, b'{"valid":false}')
    with capture_logs() as lines:
        assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)
    assert not authenticator._refused
    assert [line["log_level"] for line in lines] == ["critical"]
    assert "the-key" not in str(lines)


async def test_a_service_that_is_not_there_is_an_outage(auth: Auth, clock: Clock) -> None:
    auth.url = "http://127.0.0.1:1"
    async with asking(auth, clock) as authenticator:
        assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)


async def test_a_silent_service_is_an_outage(auth: Auth, clock: Clock) -> None:
    auth.open.clear()
    async with asking(auth, clock, timeout_seconds=0.05) as authenticator:
        assert isinstance(await refusal(authenticator, "Bearer abc"), AuthUnavailable)
    auth.open.set()
