"""Errors: one shape everywhere, and the same words for a foreign, a missing and a malformed id."""

import json
from typing import Any

import pytest
from tests.support.client import Client, trace_id
from tests.support.shapes import NOWHERE, check_problem

WITH_ID: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "", {"title": "Mine now"}),
    ("PATCH", "", {"is_favorited": True}),
    ("DELETE", "", None),
    ("POST", "/messages", {"content": "Hello"}),
    ("POST", "/regenerate", {}),
]
MALFORMED = [
    "not-a-uuid",
    "1",
    "00000000-0000-0000-0000-00000000000",
    "00000000-0000-0000-0000-000000000000'",
    "%27%20OR%201%3D1%20--",
    "%00",
    "%0d%0aset-cookie:%20a=b",
    "%F0%9F%98%80",
    "%ff%fe",
    "x" * 4000,
    "null",
    "-1",
]


@pytest.mark.case(6, 8)
@pytest.mark.parametrize(("method", "tail", "body"), WITH_ID, ids=lambda value: str(value)[:20])
async def test_foreign_missing_and_malformed_ids_are_the_same_404(
    alice: Client, bob: Client, method: str, tail: str, body: Any
) -> None:
    foreign = await bob.create(title="Bob's")
    await bob.ask(foreign["id"], "Hello")
    before = await bob.conversation(foreign["id"])
    trace = trace_id()
    answers = set()
    for id_ in (foreign["id"], NOWHERE, foreign["id"][::-1], *MALFORMED):
        options = {"json": body} if body is not None else {}
        response = await alice.request(
            method,
            f"/api/conversations/{id_}{tail}",
            headers={"x-trace-id": trace, "accept": "application/json"},
            **options,
        )
        check_problem(response, 404)
        assert "set-cookie" not in response.headers
        answers.add(response.content)
    assert len(answers) == 1
    assert await bob.conversation(foreign["id"]) == before


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/", "/api/nothing", "/api/conversations/a/b/c", "/favicon.ico"]
)
async def test_an_unknown_path_is_a_problem_too(alice: Client, path: str) -> None:
    check_problem(await alice.get(path), 404)


async def test_a_slash_at_the_end_is_another_path(alice: Client) -> None:
    conversation = await alice.create()
    for path in ("/api/conversations/", f"/api/conversations/{conversation['id']}/"):
        check_problem(await alice.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/conversations", {"GET", "POST"}),
        ("POST", f"/api/conversations/{NOWHERE}", {"GET", "PUT", "PATCH", "DELETE"}),
        ("GET", f"/api/conversations/{NOWHERE}/messages", {"POST"}),
        ("GET", f"/api/conversations/{NOWHERE}/regenerate", {"POST"}),
        ("POST", "/api/models", {"GET"}),
        ("GET", "/api/models/swap", {"POST"}),
        ("POST", "/api/health", {"GET"}),
    ],
)
async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(
    alice: Client, method: str, path: str, allowed: set[str]
) -> None:
    response = await alice.request(method, path)
    check_problem(response, 405)
    named = {name.strip() for name in response.headers["allow"].split(",")}
    assert allowed <= named
    assert method not in named


async def test_an_unusual_method_is_no_crash(alice: Client) -> None:
    for method in ("TRACE", "CONNECT", "PURGE"):
        response = await alice.request(method, "/api/conversations")
        assert response.status_code in {400, 404, 405, 501}


async def test_a_problem_of_validation_names_field_and_reason(alice: Client) -> None:
    conversation = await alice.create()
    response = await alice.ask_raw(conversation["id"], {"temperature": 9, "top_k": -1})
    problem = check_problem(response, 422, "errors")
    errors = {error["field"]: error["reason"] for error in problem["errors"]}
    assert set(errors) == {"content", "temperature", "top_k"}
    assert all(isinstance(reason, str) and reason for reason in errors.values())


async def test_problems_are_not_to_be_cached_or_sniffed_as_pages(alice: Client) -> None:
    response = await alice.get("/api/nothing<script>alert(1)</script>")
    assert "<script>" not in response.text
    json.loads(response.text)
