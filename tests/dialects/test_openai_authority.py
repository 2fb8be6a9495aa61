"""Who may do what under /v1: every route × no user, another user, the user."""

from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from tests.support.client import Client, MakeClient
from tests.support.service import Service

from chat_api.app import create_app
from chat_api.settings import Settings

ASK = {"model": "m", "input": "Hello"}
MESSAGE = {"type": "message", "role": "user", "content": "Hello"}
CONVERSATION = "/v1/conversations/{conversation_id}"
RESPONSE = "/v1/responses/{response_id}"
# The body, and the status for another user.
MATRIX: dict[tuple[str, str], tuple[dict[str, Any] | None, int]] = {
    ("GET", "/v1/models"): (None, 200),
    ("GET", "/v1/models/{model:any_text}"): (None, 200),
    ("POST", "/v1/responses"): (ASK, 200),
    ("GET", RESPONSE): (None, 404),
    ("GET", f"{RESPONSE}/input_items"): (None, 404),
    ("POST", f"{RESPONSE}/cancel"): (None, 404),
    ("POST", "/v1/conversations"): ({}, 200),
    ("GET", CONVERSATION): (None, 404),
    ("POST", CONVERSATION): ({"metadata": {"a": "b"}}, 404),
    ("GET", f"{CONVERSATION}/items"): (None, 404),
    ("POST", f"{CONVERSATION}/items"): ({"items": [MESSAGE]}, 404),
    ("GET", f"{CONVERSATION}/items/{{item_id}}"): (None, 404),
    ("DELETE", f"{CONVERSATION}/items/{{item_id}}"): (None, 404),
    ("DELETE", RESPONSE): (None, 404),
    ("DELETE", CONVERSATION): (None, 404),
}


def test_every_route_of_the_dialect_has_a_row() -> None:
    app = create_app(Settings(internal_api_key="a-key"))  # type: ignore[arg-type]
    routes = {
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD" and str(route.path).startswith("/v1/")
    }
    assert routes == set(MATRIX)


@pytest.mark.case(1, 6, 7)
@pytest.mark.parametrize(("method", "path"), MATRIX, ids=" ".join)
async def test_each_caller_gets_what_the_matrix_says(
    service: Service, clients: MakeClient, alice: Client, bob: Client, method: str, path: str
) -> None:
    made = (await alice.post("/v1/responses", json=ASK)).json()
    items = await alice.get(f"/v1/responses/{made['id']}/input_items")
    filled = path.replace("{model:any_text}", "d20").format(
        response_id=made["id"],
        conversation_id=made["conversation"]["id"],
        item_id=items.json()["data"][0]["id"],
    )
    body, for_others = MATRIX[method, path]
    options: dict[str, Any] = {} if body is None else {"json": body}
    for client, status in ((clients(service), 401), (bob, for_others), (alice, 200)):
        response = await client.request(method, filled, **options)
        assert response.status_code == status, response.text
        if status >= 400:
            assert set(response.json()) == {"error"}
            assert set(response.json()["error"]) == {"message", "type", "code", "param"}
