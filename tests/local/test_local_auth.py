"""The local auth service, on a live server, and the tokens that it accepts."""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from tests.local.helpers import INTERNAL_KEY, service

from chat_api.local.errors import LocalError
from chat_api.local.state import State
from chat_api.local.tokens import mint_token

PAGE = "http://localhost:3000"
KEY = {"X-Internal-API-Key": INTERNAL_KEY}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def auth(state: Path) -> Iterator[httpx2.Client]:
    env = {"LOCAL_DATA_DIR": str(state), "FRONTEND_URL": f"{PAGE}, http://localhost:5173/"}
    with service("chat_api.local.auth", env) as client:
        yield client


def validate(client: httpx2.Client, token: str) -> httpx2.Response:
    return client.post("/auth/validate", json={"token": token}, headers=KEY)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_a_token_is_valid_and_says_whose_it_is(auth: httpx2.Client, state: Path) -> None:
    before = int(time.time())
    response = validate(auth, mint_token(state, "Samosa Ünal", True, 3600))
    assert response.status_code == 200
    body = response.json()
    assert body["valid"] is True
    assert body["user"] == {
        "id": body["claims"]["sub"],
        "email": "samosa-nal@localhost",
        "name": "Samosa Ünal",
        "is_admin": True,
    }
    assert str(uuid.UUID(body["user"]["id"])) == body["user"]["id"]
    assert before + 3600 <= body["claims"]["exp"] <= int(time.time()) + 3600


def test_the_same_name_is_the_same_user(auth: httpx2.Client, state: Path) -> None:
    names = ["peas", " peas ", "potatoes"]
    users = [validate(auth, mint_token(state, name, False, 60)).json()["user"] for name in names]
    assert users[0] == users[1]
    assert users[0]["id"] != users[2]["id"]
    assert not users[0]["is_admin"]


@pytest.mark.parametrize(
    "headers", [{}, {"X-Internal-API-Key": "wrong"}, {"X-Internal-API-Key": ""}]
)
def test_without_the_internal_key_nothing_is_said(
    auth: httpx2.Client, state: Path, headers: dict[str, str]
) -> None:
    token = mint_token(state, "samosa", False, 60)
    response = auth.post("/auth/validate", json={"token": token}, headers=headers)
    assert response.status_code == 403
    assert "samosa" not in response.text


def test_while_a_key_replaces_another_both_are_taken(state: Path) -> None:
    """For the inference service too: the two share the check."""
    token = mint_token(state, "samosa", False, 60)
    env = {"LOCAL_DATA_DIR": str(state), "INTERNAL_API_KEY": "the-old-key, the-new-key"}
    with service("chat_api.local.auth", env) as client:
        statuses = {
            key: client.post(
                "/auth/validate", json={"token": token}, headers={"X-Internal-API-Key": key}
            ).status_code
            for key in ("the-old-key", "the-new-key", "the-old-key, the-new-key", "", ",")
        }
    assert list(statuses.values()) == [200, 200, 403, 403, 403]


def test_bad_tokens_are_refused_with_a_reason(auth: httpx2.Client, state: Path) -> None:
    good = mint_token(state, "samosa", True, 60)
    claims = claims_of(good)
    key = State(state).secret("auth")
    header, payload, signature = good.split(".")
    unsigned = jwt.encode(claims, "", algorithm="none")
    bad = {
        "expired": jwt.encode({**claims, "exp": int(time.time()) - 1}, key, algorithm="HS256"),
        "another key": jwt.encode(claims, "another-key" * 8, algorithm="HS256"),
        "another algorithm": jwt.encode(claims, key, algorithm="HS512"),
        "no algorithm": unsigned,
        "no algorithm, but a signature": unsigned + signature,
        "another's signature": f"{header}.{payload}.{good[::-1].split('.')[0]}",
        "no end": jwt.encode(
            {name: value for name, value in claims.items() if name != "exp"}, key, algorithm="HS256"
        ),
        "no user": jwt.encode(
            {name: value for name, value in claims.items() if name != "sub"}, key, algorithm="HS256"
        ),
        "another issuer": jwt.encode({**claims, "iss": "other"}, key, algorithm="HS256"),
        "cut": good[:-5],
        "garbled": "not a token",
        "empty": "",
        "not ASCII": "tökén.é.ü",
        "long": "a." * 100_000,
    }
    for what, token in bad.items():
        response = validate(auth, token)
        assert response.status_code == 401, what
        assert response.json()["valid"] is False, what
        assert response.json()["reason"], what
    assert "expired" in validate(auth, bad["expired"]).json()["reason"]
    assert validate(auth, good).status_code == 200


def test_a_token_that_no_encoding_can_carry_is_refused(auth: httpx2.Client) -> None:
    response = auth.post("/auth/validate", content=rb'{"token": "\ud800.\ud800.a"}', headers=KEY)
    assert response.status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"token": 7}', b'{"token": null}', b"\xff", b"[" * 100_000]
)
def test_bad_bodies_are_refused(auth: httpx2.Client, body: bytes) -> None:
    assert auth.post("/auth/validate", content=body, headers=KEY).status_code == 400


def test_a_huge_body_is_refused(auth: httpx2.Client) -> None:
    assert validate(auth, "a" * 2_000_000).status_code == 400


@pytest.mark.parametrize("name", ["", "  ", "a" * 81, "two\nlines"])
def test_a_user_needs_a_name(state: Path, name: str) -> None:
    with pytest.raises(LocalError, match="printable"):
        mint_token(state, name, False, 60)


def sign_in(client: httpx2.Client, body: object, origin: str | None = PAGE) -> httpx2.Response:
    headers = {"origin": origin} if origin is not None else {}
    return client.post("/auth/sign-in", json=body, headers=headers)


def test_signing_in_gives_a_token_that_is_valid(auth: httpx2.Client) -> None:
    response = sign_in(auth, {"name": "  Samosa Ünal ", "admin": True})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert set(body) == {"token", "user", "expires_at"}
    validated = validate(auth, body["token"]).json()
    assert validated["user"] == body["user"]
    assert (body["user"]["name"], body["user"]["is_admin"]) == ("Samosa Ünal", True)
    expires = datetime.fromisoformat(body["expires_at"])
    assert expires.utcoffset() == timedelta(0)
    assert expires.timestamp() == validated["claims"]["exp"] > time.time() + 3600


def test_the_same_name_is_the_same_user_as_on_the_command_line(
    auth: httpx2.Client, state: Path
) -> None:
    signed_in = sign_in(auth, {"name": "peas"}).json()["user"]
    assert signed_in == validate(auth, mint_token(state, "peas", False, 60)).json()["user"]
    assert signed_in["is_admin"] is False


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": None},
        {"name": 7},
        {"name": ""},
        {"name": " \t "},
        {"name": "a" * 81},
        {"name": "two\nlines"},
        {"name": "samosa", "admin": "yes"},
        {"name": "samosa", "admin": None},
        [],
        "samosa",
    ],
)
def test_signing_in_needs_a_name(auth: httpx2.Client, body: object) -> None:
    response = sign_in(auth, body)
    assert response.status_code == 400
    assert response.json()["detail"]
    assert response.headers["access-control-allow-origin"] == PAGE


def test_a_name_may_have_eighty_characters(auth: httpx2.Client) -> None:
    assert sign_in(auth, {"name": f" {'ü' * 80} "}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "http://localhost:3001", "http://localhost:3000.evil"],
)
def test_other_pages_sign_nobody_in(auth: httpx2.Client, origin: str | None) -> None:
    response = sign_in(auth, {"name": "samosa", "admin": True}, origin)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers
    assert "token" not in response.text


def test_a_page_whose_name_was_led_here_signs_nobody_in(auth: httpx2.Client) -> None:
    headers = {"origin": "http://evil.example:8001", "host": "evil.example:8001"}
    response = auth.post("/auth/sign-in", json={"name": "samosa"}, headers=headers)
    assert response.status_code == 403


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_form_can_send_signs_nobody_in(auth: httpx2.Client, kind: str | None) -> None:
    headers = {"origin": PAGE} | ({"content-type": kind} if kind else {})
    response = auth.post("/auth/sign-in", content=b'{"name": "samosa"}', headers=headers)
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(PAGE, True), ("http://localhost:5173", True), ("http://evil.example", False)],
)
def test_the_browser_is_told_who_may_sign_in(
    auth: httpx2.Client, origin: str, allowed: bool
) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    response = auth.options("/auth/sign-in", headers={"origin": origin, **asked})
    assert (response.headers.get("access-control-allow-origin") == origin) is allowed


def test_only_signing_in_is_open_to_the_page(auth: httpx2.Client, state: Path) -> None:
    token = mint_token(state, "samosa", False, 60)
    response = auth.post("/auth/validate", json={"token": token}, headers={"origin": PAGE})
    assert response.status_code == 403
