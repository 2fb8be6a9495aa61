"""The local auth service, on a live server, and the tokens that it accepts."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from tests.local.helpers import INTERNAL_KEY, service

from chat_api.local.errors import LocalError
from chat_api.local.state import State
from chat_api.local.tokens import mint_token

KEY = {"X-Internal-API-Key": INTERNAL_KEY}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def auth(state: Path) -> Iterator[httpx2.Client]:
    with service("chat_api.local.auth", {"LOCAL_DATA_DIR": str(state)}) as client:
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
    unsigned = jwt.encode(claims, None, algorithm="none")
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


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "two\nlines"])
def test_a_user_needs_a_name(state: Path, name: str) -> None:
    with pytest.raises(LocalError, match="printable"):
        mint_token(state, name, False, 60)
