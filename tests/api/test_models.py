"""The models of the inference service, passed through."""

import asyncio
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, trace_id
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.service import Service
from tests.support.shapes import check_invalid, check_problem


async def test_models_are_shown_as_inference_has_them(alice: Client, inference: Inference) -> None:
    inference.models = (
        200,
        {"current_model": "d20", "models": [{"model_tag": "d20", "new": [1, None]}], "more": "é"},
    )
    response = await alice.get("/api/models")
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.json() == inference.models[1]


async def test_inference_is_asked_with_the_key_and_the_trace(
    admin: Client, inference: Inference, internal_api_key: str
) -> None:
    trace = trace_id()
    headers = {"x-trace-id": trace, "x-internal-api-key": "the-clients-own"}
    assert (await admin.get("/api/models", headers=headers)).status_code == 200
    swap = await admin.post("/api/models/swap", json={"model_tag": "d32"}, headers=headers)
    assert swap.status_code == 200
    assert [call.path for call in inference.others] == ["/models", "/models/swap"]
    for call in inference.others:
        assert call.headers["x-internal-api-key"] == internal_api_key
        assert call.headers["x-trace-id"] == trace
        assert "authorization" not in call.headers


async def test_an_admin_swaps_the_model(admin: Client, inference: Inference) -> None:
    inference.swap = (200, {"status": "ok", "current_model": "d32", "seconds": 3})
    response = await admin.post("/api/models/swap", json={"model_tag": "d32", "path": "/etc"})
    assert response.status_code == 200
    assert response.json() == inference.swap[1]
    (call,) = inference.others
    assert call.body == {"model_tag": "d32"}


@pytest.mark.case(7)
@pytest.mark.parametrize("is_admin", [None, False, "true", 1, "yes", {}, [True]], ids=repr)
async def test_others_do_not(
    service: Service, clients: MakeClient, auth: AuthServer, inference: Inference, is_admin: Any
) -> None:
    account = auth.user() if is_admin is None else auth.user(is_admin=is_admin)
    response = await clients(service, account).post(
        "/api/models/swap", json={"model_tag": "d32", "is_admin": True}
    )
    check_problem(response, 403)
    assert inference.others == []


@pytest.mark.parametrize(
    "body",
    [{}, {"model_tag": ""}, {"model_tag": "x" * 101}, {"model_tag": 5}, {"model_tag": None}],
    ids=lambda body: repr(body)[:24],
)
async def test_a_model_tag_out_of_bounds_is_refused(
    admin: Client, inference: Inference, body: dict[str, Any]
) -> None:
    check_invalid(await admin.post("/api/models/swap", json=body), "model_tag")
    assert inference.others == []


@pytest.mark.parametrize("length", [1, 100])
async def test_a_model_tag_in_bounds_is_passed_on(
    admin: Client, inference: Inference, length: int
) -> None:
    response = await admin.post("/api/models/swap", json={"model_tag": "x" * length})
    assert response.status_code == 200
    assert inference.others[0].body == {"model_tag": "x" * length}


SENTINEL = "what-inference-says-93d0"


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        ((500, SENTINEL.encode()), {502}),
        ((503, SENTINEL.encode()), {503}),
        ((404, {"detail": SENTINEL}), {400, 404, 422, 502}),
        ((400, {"detail": SENTINEL}), {400, 422, 502}),
        ((200, b"<html>" + SENTINEL.encode()), {502}),
        ((200, b"x" * (64 << 20)), {502}),
    ],
    ids=["500", "503", "404", "400", "HTML", "64 MB"],
)
async def test_failures_of_inference_are_ours_to_tell(
    admin: Client, inference: Inference, answer: tuple[int, Any], statuses: set[int]
) -> None:
    inference.models = inference.swap = answer
    for response in (
        await admin.get("/api/models"),
        await admin.post("/api/models/swap", json={"model_tag": "d32"}),
    ):
        assert response.status_code in statuses, response.text[:500]
        check_problem(response, response.status_code)
        assert SENTINEL not in response.text


async def test_inference_away_is_a_503(admin: Client, inference: Inference) -> None:
    with inference.refusing():
        check_problem(await admin.get("/api/models"), 503)
        check_problem(await admin.post("/api/models/swap", json={"model_tag": "d32"}), 503)
    assert (await admin.get("/api/models")).status_code == 200


async def test_a_slow_swap_is_waited_for_and_holds_nobody(
    admin: Client, alice: Client, inference: Inference
) -> None:
    gate = inference.models_gate = Gate()
    swap = asyncio.create_task(admin.post("/api/models/swap", json={"model_tag": "d32"}))
    await gate.arrived.wait()
    assert (await alice.ask((await alice.create())["id"], "Hello"))["status"] == "complete"
    assert not swap.done()
    gate.open()
    assert (await swap).status_code == 200
