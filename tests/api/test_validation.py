"""What is refused at the door: wrong values, wrong types, broken bytes."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.inference import Inference, Script
from tests.support.service import Service
from tests.support.shapes import EMPTY, check_invalid, check_problem

from chat_api.conversations.titles import given_title
from chat_api.text import is_blank

OPTIONS_IN_BOUNDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.7},
    {"temperature": 1},
    {"temperature": 2},
    {"temperature": 2.0},
    {"max_tokens": 1},
    {"max_tokens": 4096},
    {"top_k": 0},
    {"top_k": 200},
    {"top_k": 40.0, "max_tokens": 512.0},
    {"thinking_mode": True},
    {"thinking_mode": False},
    {"force_web_search": True},
    {"force_web_search": False},
    {"temperature": 0.5, "max_tokens": 100, "top_k": 50, "force_web_search": True},
]
OPTIONS_OUT_OF_BOUNDS: list[tuple[str, Any]] = [
    ("temperature", -0.01),
    ("temperature", 2.01),
    ("temperature", "1"),
    ("temperature", True),
    ("temperature", [1]),
    ("max_tokens", 0),
    ("max_tokens", 4097),
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("max_tokens", "10"),
    ("max_tokens", True),
    ("max_tokens", 10**300),
    ("top_k", -1),
    ("top_k", 201),
    ("top_k", 0.5),
    ("top_k", "5"),
    ("thinking_mode", "yes"),
    ("thinking_mode", 1),
    ("force_web_search", "true"),
    ("force_web_search", 0),
]
INVISIBLE = [
    "\u200b",
    "\ufeff",
    "\u2060",
    "\u3164",
    "\u2800",
    " \u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\ufe0f\uffa0\n",
    "\u200d\u200e\u202e\u2066\u2069\u2028\x85\x1f",
    "\U000e0001\U000e0020\U0001d173\U0001d159",
]
BAD_CONTENTS: list[Any] = ["", " ", "\n\t \u3000\u2003", "x" * 8001, "😀" * 8001, 5, True, [], {}]


async def send_bytes(
    client: Client, conversation_id: str, body: bytes, **headers: str
) -> httpx2.Response:
    """Send a message whose body is these bytes."""
    return await client.post(
        f"/api/conversations/{conversation_id}/messages",
        content=body,
        headers={"content-type": "application/json", "accept": "application/json", **headers},
    )


@pytest.fixture
async def conversation(alice: Client) -> dict[str, Any]:
    """A conversation that must be as it was in the end, unless the test says otherwise."""
    made = await alice.create()
    return {**made, **EMPTY}


@pytest.mark.case(33)
@pytest.mark.parametrize("content", ["x", "x" * 7999, "x" * 8000, "😀" * 8000, " x "])
async def test_contents_in_bounds_are_answered(
    alice: Client, inference: Inference, conversation: dict[str, Any], content: str
) -> None:
    await alice.ask(conversation["id"], content)
    assert (await alice.messages(conversation["id"]))[0]["content"] == content
    assert (await inference.call()).contents == [content]


@pytest.mark.case(33, 60)
@pytest.mark.parametrize(
    "content", [*BAD_CONTENTS, *INVISIBLE], ids=lambda content: ascii(content)[:14]
)
async def test_contents_out_of_bounds_are_refused(
    alice: Client, inference: Inference, conversation: dict[str, Any], content: Any
) -> None:
    response = await alice.ask_raw(conversation["id"], {"content": content})
    check_invalid(response, "content")
    assert await alice.conversation(conversation["id"]) == conversation
    assert inference.calls == []


@pytest.mark.parametrize("body", [{}, {"content": None}, {"text": "Hello"}], ids=repr)
async def test_a_message_wants_content(
    alice: Client, conversation: dict[str, Any], body: dict[str, Any]
) -> None:
    check_invalid(await alice.ask_raw(conversation["id"], body), "content")


async def test_a_message_wants_a_body(alice: Client, conversation: dict[str, Any]) -> None:
    response = await alice.post(f"/api/conversations/{conversation['id']}/messages")
    assert response.status_code in {400, 422}
    assert await alice.conversation(conversation["id"]) == conversation


@pytest.mark.case(33)
@pytest.mark.parametrize("options", OPTIONS_IN_BOUNDS, ids=repr)
async def test_options_in_bounds_are_passed_on(
    alice: Client, inference: Inference, conversation: dict[str, Any], options: dict[str, Any]
) -> None:
    await alice.ask(conversation["id"], "Hello", **options)
    expected = {name: value for name, value in options.items() if name != "thinking_mode"}
    if not expected.get("force_web_search", True):
        del expected["force_web_search"]
    body = (await inference.call()).body
    assert {name: body.get(name) for name in expected} == expected
    assert "thinking_mode" not in body


@pytest.mark.case(33)
@pytest.mark.parametrize(
    ("name", "value"), OPTIONS_OUT_OF_BOUNDS, ids=lambda value: repr(value)[:16]
)
async def test_options_out_of_bounds_are_refused(
    alice: Client, inference: Inference, conversation: dict[str, Any], name: str, value: Any
) -> None:
    response = await alice.ask_raw(conversation["id"], {"content": "Hello", name: value})
    check_invalid(response, name)
    assert await alice.conversation(conversation["id"]) == conversation
    regenerate = await alice.post(
        f"/api/conversations/{conversation['id']}/regenerate", json={name: value}
    )
    check_invalid(regenerate, name)
    assert inference.calls == []


async def test_null_options_are_as_if_absent(
    alice: Client, inference: Inference, conversation: dict[str, Any]
) -> None:
    names = ("temperature", "max_tokens", "top_k", "thinking_mode", "force_web_search")
    await alice.ask(conversation["id"], "Hello", **dict.fromkeys(names))
    await alice.ask(conversation["id"], "Hello")
    first = dict((await inference.call(0)).body)
    second = dict((await inference.call(1)).body)
    del first["messages"], second["messages"]
    assert first == second


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "body",
    [
        b'{"content": "Hello", "temperature": NaN}',
        b'{"content": "Hello", "temperature": Infinity}',
        b'{"content": "Hello", "temperature": -Infinity}',
        b'{"content": "Hello", "temperature": 1e999}',
        b'{"content": "Hello", "max_tokens": 1e999}',
        b'{"content": "Hello", "top_k": -1e999}',
        b'{"content": "Hello", "response_format": {"type": "json_schema", "x": [NaN]}}',
        b'{"content": "Hello", "response_format": {"type": "json_schema", "x": 1e999}}',
        b'{"content": "Hello", "response_format": {"type": "json_schema", "\\u0000": 1}}',
        b'{"content": "a \\ud800 b"}',
        b'{"content": "a \\udfff"}',
        b'{"content": "\\ude00\\ud83d"}',
        b'{"content": "a \\u0000 b"}',
        b'{"content": "\\u0000"}',
    ],
    ids=lambda body: body.decode()[-24:],
)
async def test_values_that_no_database_takes_are_refused(
    alice: Client, conversation: dict[str, Any], body: bytes
) -> None:
    check_invalid(await send_bytes(alice, conversation["id"], body))
    assert await alice.conversation(conversation["id"]) == conversation


@pytest.mark.case(30)
@pytest.mark.parametrize("escape", ["\\ud800", "\\u0000"])
async def test_titles_that_no_database_takes_are_refused(
    alice: Client, conversation: dict[str, Any], escape: str
) -> None:
    path = f"/api/conversations/{conversation['id']}"
    for method, where in (("POST", "/api/conversations"), ("PUT", path), ("PATCH", path)):
        for name in ("title", "model_tag"):
            if (method, name) == ("PUT", "model_tag"):
                continue
            response = await alice.request(
                method,
                where,
                content=f'{{"{name}": "a{escape}b"}}'.encode(),
                headers={"content-type": "application/json"},
            )
            check_invalid(response, name)
    assert await alice.conversation(conversation["id"]) == conversation


async def test_an_escaped_pair_of_surrogates_is_one_character(
    alice: Client, conversation: dict[str, Any]
) -> None:
    response = await send_bytes(alice, conversation["id"], b'{"content": "\\ud83d\\ude00"}')
    assert response.status_code == 200
    assert (await alice.messages(conversation["id"]))[0]["content"] == "😀"


BROKEN = {
    "half": b'{"content": "Hel',
    "no JSON": b"Hello",
    "trailing": b'{"content": "Hello"} {}',
    "trailing comma": b'{"content": "Hello",}',
    "single quotes": b"{'content': 'Hello'}",
    "control character": b'{"content": "a\nb"}',
    "brackets": b"[" * 100_000,
    "brackets inside": b'{"content": "Hello", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "braces": b'{"x":' * 40_000,
    "long number": b'{"content": "Hello", "max_tokens": ' + b"1" * 5000 + b"}",
    "long number in an unknown field": b'{"content": "Hello", "x": ' + b"1" * 5000 + b"}",
    "bad UTF-8": b'{"content": "a\xff\xfeb"}',
    "cut UTF-8": b'{"content": "\xf0\x9f\x98"}',
    "overlong UTF-8": b'{"content": "\xc0\xaf"}',
    "raw surrogate": b'{"content": "\xed\xa0\x80"}',
    "UTF-16": '{"content": "Hello"}'.encode("utf-16"),
    "NUL": b"\0",
}


@pytest.mark.case(30)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_broken_json_is_a_bad_request(
    alice: Client, inference: Inference, conversation: dict[str, Any], body: bytes
) -> None:
    check_problem(await send_bytes(alice, conversation["id"], body), 400)
    assert await alice.conversation(conversation["id"]) == conversation
    assert inference.calls == []


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "body",
    [b"{", b"[" * 100_000, b'"\xff"', b"\f"],
    ids=["half", "deep", "bytes", "no space of JSON"],
)
async def test_broken_json_is_a_bad_request_everywhere(
    alice: Client, admin: Client, body: bytes
) -> None:
    path = f"/api/conversations/{(await alice.create())['id']}"
    for client, method, where in (
        (alice, "POST", "/api/conversations"),
        (alice, "PUT", path),
        (alice, "PATCH", path),
        (alice, "POST", f"{path}/regenerate"),
        (admin, "POST", "/api/models/swap"),
    ):
        response = await client.request(
            method, where, content=body, headers={"content-type": "application/json"}
        )
        check_problem(response, 400)


@pytest.mark.case(31)
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json-x", "x"],
)
async def test_json_under_another_name_is_an_unsupported_type(
    alice: Client, conversation: dict[str, Any], content_type: str
) -> None:
    body = b'{"content": "Hello"}'
    response = await send_bytes(alice, conversation["id"], body, **{"content-type": content_type})
    check_problem(response, 415)
    assert await alice.conversation(conversation["id"]) == conversation


@pytest.mark.case(31)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_an_unsupported_type(
    alice: Client, conversation: dict[str, Any], encoding: str
) -> None:
    body = b'{"content": "Hello"}'
    response = await send_bytes(alice, conversation["id"], body, **{"content-encoding": encoding})
    check_problem(response, 415)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", None]
)
async def test_json_by_its_name_or_by_none_is_taken(
    alice: Client, conversation: dict[str, Any], content_type: str | None
) -> None:
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/messages",
        content=b'{"content": "Hello"}',
        headers={"accept": "application/json"}
        | ({"content-type": content_type} if content_type else {}),
    )
    assert response.status_code == 200


def padded(size: int) -> bytes:
    """A message whose body has exactly so many bytes."""
    body = json.dumps({"content": "Hello", "x": ""}).encode()
    return body[:-2] + b"y" * (size - len(body)) + body[-2:]


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """The same bytes without a Content-Length."""
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


LIMIT = 262_144


@pytest.mark.case(31)
async def test_a_body_up_to_the_limit_is_taken(alice: Client, conversation: dict[str, Any]) -> None:
    response = await send_bytes(alice, conversation["id"], padded(LIMIT))
    assert response.status_code == 200
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/messages",
        content=pieces(padded(LIMIT)),
        headers={"content-type": "application/json", "accept": "application/json"},
    )
    assert response.status_code == 200


@pytest.mark.case(31)
async def test_a_body_over_the_limit_is_too_large(
    alice: Client, conversation: dict[str, Any]
) -> None:
    check_problem(await send_bytes(alice, conversation["id"], padded(LIMIT + 1)), 413)
    response = await alice.post(
        f"/api/conversations/{conversation['id']}/messages",
        content=pieces(padded(LIMIT + 1)),
        headers={"content-type": "application/json", "accept": "application/json"},
    )
    check_problem(response, 413)
    assert await alice.conversation(conversation["id"]) == conversation


@pytest.mark.case(31)
@pytest.mark.parametrize("path", ["/api/conversations", "/api/models/swap"])
async def test_a_body_over_the_limit_is_too_large_everywhere(admin: Client, path: str) -> None:
    for content in (b"x" * (LIMIT + 1), pieces(b"x" * (LIMIT + 1))):
        response = await admin.post(
            path, content=content, headers={"content-type": "application/json"}
        )
        check_problem(response, 413)


async def test_what_is_wrong_is_said_without_repeating_it(
    alice: Client, conversation: dict[str, Any]
) -> None:
    secret = "what-the-user-wrote-5b1c"
    for body in (
        {"content": secret * 400},
        {"content": "Hello", "temperature": secret},
        {"content": [secret]},
    ):
        response = await alice.ask_raw(conversation["id"], body)
        check_invalid(response)
        assert secret not in response.text


# Whatever a fuzzer makes of it: never a 5xx.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = (
    "content",
    "temperature",
    "max_tokens",
    "top_k",
    "thinking_mode",
    "force_web_search",
    "title",
    "model_tag",
    "is_favorited",
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5) | JSON


@pytest.fixture
def plain_http(service: Service, auth: AuthServer) -> Iterator[httpx2.Client]:
    """A blocking client, since Hypothesis calls its tests many times in one event loop's life."""
    headers = auth.user("fuzzer").headers | {"accept": "application/json"}
    with httpx2.Client(
        base_url=service.url, headers=headers, verify=False, trust_env=False, timeout=20
    ) as http:
        yield http


@pytest.mark.case(34)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES)
def test_no_body_is_answered_by_a_crash(plain_http: httpx2.Client, body: Any) -> None:
    conversation_id = plain_http.post("/api/conversations").json()["id"]
    path = f"/api/conversations/{conversation_id}"
    for method, where in (
        ("POST", "/api/conversations"),
        ("PUT", path),
        ("PATCH", path),
        ("POST", f"{path}/messages"),
        ("POST", f"{path}/regenerate"),
    ):
        response = plain_http.request(
            method,
            where,
            content=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        assert response.status_code in {200, 201, 400, 409, 422}, response.text
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300
).filter(lambda text: not is_blank(text) and given_title(text))


@pytest.mark.case(33)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=TEXTS)
def test_any_text_comes_back_as_it_was(
    plain_http: httpx2.Client, inference: Inference, text: str
) -> None:
    inference.default = Script().tokens(text).done()
    conversation = plain_http.post("/api/conversations", json={"title": text}).json()
    assert conversation["title"] == text
    path = f"/api/conversations/{conversation['id']}"
    answer = plain_http.post(f"{path}/messages", json={"content": text})
    assert answer.status_code == 200
    saved = plain_http.get(path).json()
    assert [message["content"] for message in saved["messages"]] == [text, text]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"title": "x" * 501}, "title", "String should have at most 500 characters"),
        ({"tags": ["x" * 51]}, "tags.0", "String should have at most 50 characters"),
        ({"metadata": {"": "x"}}, "metadata..[key]", "String should have at least 1 character"),
        (
            {"tags": ["x"] * 21},
            "tags",
            "List should have at most 20 items after validation, not 21",
        ),
        ({"options": []}, "options", "Input should be an object"),
        ([], "body", "Input should be an object"),
    ],
)
async def test_a_reason_speaks_of_json_and_counts_characters(
    alice: Client, body: Any, field: str, reason: str
) -> None:
    response = await alice.post("/api/conversations", json=body)
    assert response.json()["errors"] == [{"field": field, "reason": reason}]
    too_long = await alice.get("/api/search", params={"q": "x" * 201})
    assert too_long.json()["errors"][0]["reason"] == "String should have at most 200 characters"
