"""Who may do what: every route of the application × every kind of caller.

The matrix is compared with the application's own table of routes, so that a new endpoint without a
row fails here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from fastapi.routing import iter_route_contexts
from tests.support.auth import Account, AuthServer
from tests.support.client import Client, MakeClient, trace_id
from tests.support.database import Database
from tests.support.inference import Inference
from tests.support.service import Service
from tests.support.shapes import NOWHERE, check_problem

from chat_api.app import create_app
from chat_api.settings import Settings

Caller = Literal["nobody", "bad", "expired", "other", "admin", "owner"]
# The owner last, who may change what the others must not.
CALLERS: tuple[Caller, ...] = ("nobody", "bad", "expired", "other", "admin", "owner")
IN = "/api/conversations/{conversation_id}"
CHAT = "/api/chat/{conversation_id}"
USER = "/api/admin/users/{user_id:any_text}"


@dataclass(frozen=True)
class Row:
    """What each caller is answered, in the order of CALLERS. An admin owns nothing of the owner."""

    statuses: tuple[int, int, int, int, int, int]
    body: dict[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def guarded(self) -> bool:
        return self.statuses[0] == 401

    @property
    def is_owned(self) -> bool:
        return self.statuses[3] == 404


def everybody(status: int = 200) -> Row:
    return Row((status,) * 6)


def any_user(status: int, body: dict[str, Any] | None = None, **query: str) -> Row:
    return Row((401, 401, 401, status, status, status), body, query)


def owner(status: int, body: dict[str, Any] | None = None) -> Row:
    return Row((401, 401, 401, 404, 404, status), body)


def administrator(status: int, body: dict[str, Any] | None = None) -> Row:
    return Row((401, 401, 401, 403, status, 403), body)


MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "/api/health"): everybody(),
    ("GET", "/api/ready"): everybody(),
    ("GET", "/metrics"): everybody(),
    ("GET", "/openapi.json"): everybody(),
    ("GET", "/docs"): everybody(),
    ("GET", "/docs/oauth2-redirect"): everybody(),
    ("GET", "/api/conversations"): any_user(200),
    ("POST", "/api/conversations"): any_user(201, {"title": "Mine"}),
    ("GET", IN): owner(200),
    ("PUT", IN): owner(200, {"title": "Mine now"}),
    ("PATCH", IN): owner(200, {"is_favorited": True}),
    ("DELETE", IN): owner(204),
    ("POST", f"{IN}/messages"): owner(200, {"content": "Hello"}),
    ("POST", f"{IN}/regenerate"): owner(200, {}),
    ("POST", f"{IN}/continue"): owner(409, {}),
    ("GET", f"{IN}/stream"): owner(204),
    ("POST", f"{IN}/stop"): owner(200),
    ("GET", f"{IN}/messages/{{message_id}}/versions"): owner(200),
    ("PUT", f"{IN}/path"): owner(200, {"message_id": "{message_id}"}),
    ("DELETE", f"{IN}/messages/{{message_id}}"): owner(204),
    ("POST", "/api/chat"): any_user(
        200,
        {
            "id": "{message_id}",
            "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        },
    ),
    ("GET", f"{CHAT}/stream"): any_user(204),
    ("GET", f"{CHAT}/messages"): owner(200),
    ("POST", f"{CHAT}/stop"): owner(200),
    ("GET", "/api/tags"): any_user(200),
    ("GET", "/api/search"): any_user(200, q="x"),
    ("GET", "/api/changes"): any_user(200),
    ("GET", f"{IN}/export"): owner(200),
    ("GET", "/api/export"): any_user(200),
    ("POST", "/api/import"): any_user(200, {"id": "no conversation"}),
    ("DELETE", "/api/me"): any_user(204),
    ("GET", "/api/usage"): any_user(200),
    ("GET", "/api/models"): any_user(200),
    ("GET", "/api/admin/usage"): administrator(200),
    ("GET", f"{USER}/limits"): administrator(200),
    ("PUT", f"{USER}/limits"): administrator(200, {"answers_per_day": 5}),
    ("DELETE", f"{USER}/limits"): administrator(204),
    ("DELETE", USER): administrator(204),
    ("GET", "/api/admin/audit"): administrator(200),
    ("POST", "/api/models/swap"): administrator(200, {"model_tag": "d32"}),
}
GUARDED = [route for route, row in MATRIX.items() if row.guarded]
OWNED = [(method, path) for method, path in MATRIX if MATRIX[method, path].is_owned]
MALFORMED = [
    "not-a-uuid",
    f"{NOWHERE}%00",
    f"{NOWHERE}'%20OR%20'1'='1",
    "%0d%0ax-injected:%20yes",
    "{conversation_id}",
    "x" * 4000,
]


def test_every_route_of_the_application_has_a_row() -> None:
    app = create_app(Settings(internal_api_key="a-key"))  # type: ignore[arg-type]
    routes = {
        (method, str(route.path).replace("{chat_id:any_text}", "{conversation_id}"))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        # OpenAI's dialect has errors of another shape: tests/dialects/test_openai_authority.py.
        if method != "HEAD" and not str(route.path).startswith("/v1/")
    }
    assert routes == set(MATRIX)


@pytest.fixture
def accounts(auth: AuthServer) -> dict[Caller, Account | None]:
    """One of each kind."""
    bad = auth.user("bad")
    auth.forget(bad.token)
    return {
        "nobody": None,
        "bad": bad,
        "expired": auth.user("expired", expires_in=-1),
        "other": auth.user("other"),
        "owner": auth.user("owner"),
        "admin": auth.user("admin", is_admin=True),
    }


def with_message(body: dict[str, Any] | None, message_id: str) -> dict[str, Any] | None:
    """The body, with the id of the owner's message where it names one."""
    named = {"{message_id}": message_id}
    if body is None:
        return None
    return {
        name: named.get(value, value) if isinstance(value, str) else value
        for name, value in body.items()
    }


def claims(claimed: Account | None, key: str) -> dict[str, str]:
    """Headers by which a client makes itself out to be somebody else."""
    assert claimed is not None
    return {
        "x-user-id": claimed.id,
        "x-internal-api-key": key,
        "x-is-admin": "true",
        "is_admin": "true",
        "x-forwarded-user": claimed.id,
        "x-forwarded-for": "127.0.0.1",
        "x-original-url": "/api/health",
        "x-http-method-override": "GET",
        "cookie": f"session={claimed.token}; is_admin=true",
    }


@pytest.mark.case(6, 7)
@pytest.mark.parametrize("claiming", [False, True], ids=["plain", "claiming"])
@pytest.mark.parametrize(("method", "path"), MATRIX, ids=" ".join)
async def test_each_caller_gets_what_the_matrix_says(
    service: Service,
    clients: MakeClient,
    accounts: dict[Caller, Account | None],
    db: Database,
    inference: Inference,
    internal_api_key: str,
    method: str,
    path: str,
    claiming: bool,
) -> None:
    """The same with headers, fields and a query that claim to be the owner and an administrator."""
    row = MATRIX[method, path]
    mine = clients(service, accounts["owner"])
    conversation = await mine.create(title="The owner's")
    answer = await mine.ask(conversation["id"], "Hello")
    claimed = accounts["owner"]
    headers, params = {"accept": "application/json"}, dict(row.query)
    body = with_message(row.body, answer["id"])
    if claiming:
        assert claimed is not None
        headers |= claims(claimed, internal_api_key)
        params |= {"user_id": claimed.id, "is_admin": "true", "access_token": claimed.token}
        if method in {"POST", "PUT", "PATCH"}:
            body = {**(body or {}), "user_id": claimed.id, "is_admin": True, "api_base": "http://x"}
    for caller, status in zip(CALLERS, row.statuses, strict=True):
        before = await contents(db, conversation["id"])
        response = await clients(service, accounts[caller]).request(
            # The change feed has no end of its own.
            "HEAD" if path == "/api/changes" and status == 200 else method,
            filled(path, conversation["id"], answer["id"]),
            headers=headers,
            params=params,
            **({} if body is None else {"json": body}),
        )
        assert response.status_code == status, f"{caller}: {response.text}"
        if status >= 400:
            check_problem(response, status)
            # Nothing has happened, here or behind us.
            assert await contents(db, conversation["id"]) == before, caller
            # An answer of an earlier test may still be tried again: its calls have other traces.
            calls = [*inference.calls, *inference.others]
            traces = [call.headers["x-trace-id"] for call in calls]
            assert traces, "the owner's own call is among them"
            assert response.headers["x-trace-id"] not in traces, caller
        if status == 201:
            mine_now = accounts[caller]
            assert mine_now is not None
            assert response.json()["user_id"] == mine_now.id


def filled(path: str, conversation_id: str, message_id: str) -> str:
    """The path with its ids. The user whom an administrator names is none of the callers."""
    return path.replace("{user_id:any_text}", "nobody-else").format(
        conversation_id=conversation_id, message_id=message_id
    )


async def contents(db: Database, conversation_id: str) -> list[Any]:
    """A conversation and all that hangs on it, as the database has it."""
    return [
        await db.fetch(statement, conversation_id)
        for statement in (
            "SELECT * FROM conversations WHERE id = $1",
            "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id",
            "SELECT * FROM generations WHERE conversation_id = $1 ORDER BY message_id",
        )
    ]


@pytest.mark.case(1)
@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
async def test_a_challenge_tells_a_bad_token_from_none(
    service: Service,
    clients: MakeClient,
    accounts: dict[Caller, Account | None],
    method: str,
    path: str,
) -> None:
    """RFC 6750, section 3: no error code without credentials. Before the body is looked at."""
    challenges = {}
    for caller in ("nobody", "bad", "expired"):
        response = await clients(service, accounts[caller]).request(
            method, filled(path, NOWHERE, NOWHERE), content=b"{ no JSON"
        )
        check_problem(response, 401)
        challenges[caller] = response.headers["www-authenticate"]
    assert challenges["nobody"] == "Bearer"
    assert challenges["bad"] == challenges["expired"] == 'Bearer error="invalid_token"'


@pytest.mark.case(6, 8)
@pytest.mark.parametrize("caller", ["other", "admin"])
@pytest.mark.parametrize(("method", "path"), OWNED, ids=" ".join)
async def test_foreign_missing_and_malformed_ids_are_told_by_no_byte(
    service: Service,
    clients: MakeClient,
    accounts: dict[Caller, Account | None],
    method: str,
    path: str,
    caller: Caller,
) -> None:
    """Body and headers are the same, the date aside; the trace id is the caller's own."""
    mine = clients(service, accounts["owner"])
    conversation = await mine.create()
    answer = await mine.ask(conversation["id"], "Hello")
    trace, body = trace_id(), with_message(MATRIX[method, path].body, answer["id"])
    client: Client = clients(service, accounts[caller])
    answers = set()
    for id_ in (conversation["id"], conversation["id"].upper(), NOWHERE, *MALFORMED):
        response = await client.request(
            method,
            path.replace("{message_id}", answer["id"]).replace("{conversation_id}", id_),
            headers={"x-trace-id": trace},
            **({} if body is None else {"json": body}),
        )
        check_problem(response, 404)
        head = {name: value for name, value in response.headers.items() if name != "date"}
        answers.add((response.content, *head.items()))
    assert len(answers) == 1


@pytest.mark.case(81)
@pytest.mark.parametrize(("method", "path"), OWNED, ids=" ".join)
async def test_an_expired_conversation_is_told_from_a_missing_one_by_no_byte(
    service: Service,
    clients: MakeClient,
    accounts: dict[Caller, Account | None],
    db: Database,
    method: str,
    path: str,
) -> None:
    mine = clients(service, accounts["owner"])
    conversation = await mine.create(expires_at="2999-01-01T00:00:00Z")
    answer = await mine.ask(conversation["id"], "Hello")
    statement = "UPDATE conversations SET expires_at = now() WHERE id = $1"
    await db.execute(statement, conversation["id"])
    trace, body = trace_id(), with_message(MATRIX[method, path].body, answer["id"])
    told = []
    for id_ in (conversation["id"], NOWHERE):
        response = await mine.request(
            method,
            filled(path, id_, answer["id"]),
            headers={"x-trace-id": trace},
            **({} if body is None else {"json": body}),
        )
        check_problem(response, 404)
        told.append(response.content)
    assert told[0] == told[1]


async def test_a_cursor_of_somebody_else_s_answer_gives_nothing_of_it(
    alice: Client, bob: Client
) -> None:
    """Cursors, idempotency keys and pages are no keys to what is not one's own."""
    foreign, mine = await bob.create(), await alice.create()
    key = {"idempotency-key": trace_id()}
    async with bob.send(foreign["id"], "Hello", headers=key) as stream:
        await stream.rest()
        cursor = stream.cursor
        secret = stream.start["message_id"]
    async with alice.join(mine["id"], cursor, expect=204):
        pass
    async with alice.join(foreign["id"], cursor, expect=404):
        pass
    response = await alice.ask_raw(foreign["id"], {"content": "Hello"}, **key)
    check_problem(response, 404)
    check_problem(await alice.get(f"/api/conversations/{mine['id']}?before={secret}"), 404)
    assert await alice.messages(mine["id"]) == []
