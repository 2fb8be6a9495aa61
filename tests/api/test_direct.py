"""What is answered past the framework is answered as the framework would."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from tests.support.client import Client

from chat_api.api import cursors
from chat_api.api.direct import ROUTES

JSON = {"content-type": "application/json"}
MESSAGES = "/api/conversations/{id}/messages"
UNSEEN = UUID("5d1b7c0e-3f52-4c8e-9a64-0b7f2f6a1c11")
NEXT = cursors.written(1_764_000_000_000_000, UNSEEN)
# Requests by what is unusual about them; `{id}` is a conversation of the user's.
REQUESTS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "health": ("GET", "/api/health", {}),
    "list": ("GET", "/api/conversations", {}),
    "list, no token": ("GET", "/api/conversations", {"headers": {"authorization": ""}}),
    "list, bad token": ("GET", "/api/conversations", {"headers": {"authorization": "Bearer no"}}),
    "list, next page": ("GET", f"/api/conversations?cursor={NEXT}", {}),
    "list, no cursor": ("GET", "/api/conversations?limit=3&cursor=x", {}),
    "create, bad token": (
        "POST",
        "/api/conversations",
        {"json": {"title": "Tea"}, "headers": {"authorization": "Bearer no"}},
    ),
    "create, no JSON": ("POST", "/api/conversations", {"content": "{", "headers": JSON}),
    "create, no title": ("POST", "/api/conversations", {"json": {"title": 1}}),
    "create, nothing to fork": (
        "POST",
        "/api/conversations",
        {"json": {"fork": {"conversation_id": str(UNSEEN), "message_id": str(UNSEEN)}}},
    ),
    "open": ("GET", "/api/conversations/{id}", {}),
    "open, upper case": ("GET", "/api/conversations/{ID}", {}),
    "open, unknown": ("GET", f"/api/conversations/{UNSEEN}", {}),
    "open, no id": ("GET", "/api/conversations/x", {}),
    "open, bad token": (
        "GET",
        "/api/conversations/x",
        {"headers": {"authorization": "Bearer no"}},
    ),
    "send, bad token": (
        "POST",
        MESSAGES,
        {"json": {"content": "Why?"}, "headers": {"authorization": "Bearer no"}},
    ),
    "send, unknown": (
        "POST",
        f"/api/conversations/{UNSEEN}/messages",
        {"json": {"content": "Why?"}},
    ),
    "send, no id": ("POST", "/api/conversations/x/messages", {"content": "{"}),
    "send, blank": ("POST", MESSAGES, {"json": {"content": " "}}),
    "send, no content": ("POST", MESSAGES, {"json": {}}),
    "send, no body": ("POST", MESSAGES, {}),
    "send, no JSON": ("POST", MESSAGES, {"content": "{", "headers": JSON}),
    "send, not said to be JSON": (
        "POST",
        MESSAGES,
        {"content": "{}", "headers": {"content-type": "text/plain"}},
    ),
    "send, too large": ("POST", MESSAGES, {"json": {"content": "x" * 2_000_000}}),
    "send, bad key": (
        "POST",
        MESSAGES,
        {"json": {"content": "Why?"}, "headers": {"idempotency-key": '"'}},
    ),
    "send, unknown parent": (
        "POST",
        MESSAGES,
        {"json": {"content": "Why?", "parent_id": str(UNSEEN)}},
    ),
}


def comparable(text: str) -> Any:
    """Return the body without what is another one in each response."""
    found = json.loads(text)
    if isinstance(found, dict):
        found.pop("trace_id", None)
    return found


@pytest.mark.case(86)
@pytest.mark.parametrize("name", list(REQUESTS))
async def test_both_ways_answer_alike(name: str, alice: Client) -> None:
    """An unknown parameter, which has no effect, leads a request to the framework."""
    conversation = (await alice.create(title="Tea"))["id"]
    method, path, options = REQUESTS[name]
    path = path.format(id=conversation, ID=conversation.upper())
    one = await alice.request(method, path, **options)
    separator = "&" if "?" in path else "?"
    other = await alice.request(method, f"{path}{separator}unknown=1", **options)
    assert one.status_code == other.status_code
    assert comparable(one.text) == comparable(other.text)
    headers = [
        {name: value for name, value in r.headers.items() if name not in {"x-trace-id", "date"}}
        for r in (one, other)
    ]
    assert headers[0] == headers[1]


@pytest.mark.case(86)
@pytest.mark.parametrize("body", [None, {}, {"title": "Tea", "tags": ["a"]}])
async def test_a_conversation_is_made_alike_both_ways(body: object, alice: Client) -> None:
    made = []
    for path in ("/api/conversations", "/api/conversations?unknown=1"):
        response = await alice.post(path, **({} if body is None else {"json": body}))
        assert response.status_code == 201
        document = response.json()
        assert response.headers["location"] == f"/api/conversations/{document.pop('id')}"
        made.append({name: document[name] for name in document if not name.endswith("_at")})
    assert made[0] == made[1]


@pytest.mark.case(86)
async def test_a_message_is_answered_alike_both_ways(alice: Client) -> None:
    conversation = (await alice.create())["id"]
    path = f"/api/conversations/{conversation}/messages"
    kinds = []
    for sent_to in (path, f"{path}?unknown=1"):
        async with alice.stream("POST", sent_to, json={"content": "Count"}) as stream:
            events = await stream.rest()
            kinds.append([sorted(event.data) for event in events])
            assert stream.done["status"] == "complete"
    assert kinds[0] == kinds[1]
    assert len(await alice.messages(conversation)) == 4


@pytest.mark.parametrize(
    ("query", "is_usual"),
    [
        (b"", True),
        (b"limit=1", True),
        (b"limit=200", True),
        (b"limit=20&cursor=" + NEXT.encode(), True),
        (b"cursor=" + b"x" * 201, False),
        (b"limit=0", False),
        (b"limit=201", False),
        (b"limit=01", False),
        (b"limit=+5", False),
        (b"limit=5&offset=1", False),
        (b"tz=Asia/Kolkata", False),
        (b"cursor=%30", False),
    ],
)
def test_what_the_framework_checks_goes_there(query: bytes, is_usual: bool) -> None:
    [listing] = [r for r in ROUTES if (r.path, r.method) == ("/api/conversations", "GET")]
    assert bool(listing.is_usual(query)) is is_usual


async def test_the_framework_has_every_route(client: Client) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]
    for route in ROUTES:
        assert route.method.lower() in described[route.path]
        assert route.matches(re.sub(r"\{\w+\}", str(UNSEEN), route.path))
