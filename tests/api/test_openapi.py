"""The API describes itself."""

from typing import Any

import pytest
from tests.support.client import Client

OPERATIONS = {
    ("get", "/api/health"),
    ("get", "/api/ready"),
    ("get", "/api/conversations"),
    ("post", "/api/conversations"),
    ("get", "/api/conversations/{}"),
    ("put", "/api/conversations/{}"),
    ("patch", "/api/conversations/{}"),
    ("delete", "/api/conversations/{}"),
    ("post", "/api/conversations/{}/messages"),
    ("post", "/api/conversations/{}/regenerate"),
    ("get", "/api/changes"),
    ("get", "/api/models"),
    ("post", "/api/models/swap"),
    ("get", "/metrics"),
}
WITH_BODY = {
    ("post", "/api/conversations"),
    ("put", "/api/conversations/{}"),
    ("patch", "/api/conversations/{}"),
    ("post", "/api/conversations/{}/messages"),
    ("post", "/api/conversations/{}/regenerate"),
    ("post", "/api/models/swap"),
}


@pytest.fixture
async def description(client: Client) -> dict[str, Any]:
    """The OpenAPI description."""
    response = await client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def operations(description: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation by method and path; parameters of the path are `{}`."""
    found = {}
    for path, methods in description["paths"].items():
        name = "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
        for method, operation in methods.items():
            if method in {"get", "post", "put", "patch", "delete"}:
                found[(method, name)] = operation
    return found


def has_example(description: dict[str, Any], node: Any, depth: int = 0) -> bool:
    """Is there an example in it, or in what it refers to?"""
    if depth > 12:
        return False
    if isinstance(node, list):
        return any(has_example(description, item, depth + 1) for item in node)
    if not isinstance(node, dict):
        return False
    if node.get("example") or node.get("examples"):
        return True
    if "$ref" in node:
        target: Any = description
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return has_example(description, target, depth + 1)
    return any(has_example(description, value, depth + 1) for value in node.values())


async def test_every_endpoint_is_described(description: dict[str, Any]) -> None:
    found = operations(description)
    assert set(found) >= OPERATIONS
    for name, operation in found.items():
        assert operation.get("summary") or operation.get("description"), name
        assert operation.get("responses"), name


async def test_every_body_and_every_answer_has_an_example(description: dict[str, Any]) -> None:
    found = operations(description)
    for name in WITH_BODY:
        assert has_example(description, found[name]["requestBody"]), name
    for name in OPERATIONS - {("get", "/metrics"), ("delete", "/api/conversations/{}")}:
        answers = found[name]["responses"]
        good = next(answers[code] for code in ("200", "201") if code in answers)
        assert has_example(description, good.get("content")), name


async def test_the_errors_of_an_endpoint_are_described(description: dict[str, Any]) -> None:
    found = operations(description)
    for name in OPERATIONS:
        codes = set(found[name]["responses"])
        if name[1] in {"/api/health", "/metrics"}:
            continue
        if name[1] == "/api/ready":
            assert "503" in codes
            continue
        assert {"401", "503"} <= codes, name
        if "{}" in name[1]:
            assert "404" in codes, name
        if name in WITH_BODY:
            assert {"400", "413", "415", "422"} <= codes, name
    for name in (
        ("post", "/api/conversations/{}/messages"),
        ("post", "/api/conversations/{}/regenerate"),
    ):
        assert {"409", "502", "504"} <= set(found[name]["responses"])
        assert "text/event-stream" in found[name]["responses"]["200"]["content"]
        assert "application/json" in found[name]["responses"]["200"]["content"]
    assert "403" in found[("post", "/api/models/swap")]["responses"]


async def test_each_stream_is_described_by_its_events(description: dict[str, Any]) -> None:
    """`itemSchema` of OpenAPI 3.2: by `schema`, a client would read a text for each event."""
    streams = [
        content["text/event-stream"]
        for operation in operations(description).values()
        for response in operation["responses"].values()
        if "text/event-stream" in (content := response.get("content", {}))
    ]
    assert len(streams) >= 6
    for stream in streams:
        assert stream["itemSchema"]["properties"]["data"]["type"] == "string"
        assert "schema" not in stream


@pytest.mark.parametrize("last", ["messages", "regenerate", "continue"])
async def test_a_text_to_stop_at_may_come_without_a_list(
    description: dict[str, Any], last: str
) -> None:
    body = operations(description)["post", f"/api/conversations/{{}}/{last}"]["requestBody"]
    stop = body["content"]["application/json"]["schema"]["properties"]["stop"]
    assert [option["type"] for option in stop["anyOf"]] == ["string", "array", "null"]


async def test_the_description_says_how_to_authenticate(description: dict[str, Any]) -> None:
    schemes = description["components"]["securitySchemes"].values()
    assert any(
        scheme["type"] == "http" and scheme["scheme"].lower() == "bearer" for scheme in schemes
    )
    found = operations(description)
    for name in OPERATIONS:
        secured = bool(found[name].get("security", description.get("security")))
        assert secured == (name[1] not in {"/api/health", "/api/ready", "/metrics"}), name


async def test_the_documentation_is_a_page(client: Client) -> None:
    response = await client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
