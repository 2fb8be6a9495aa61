"""What answers cost: the ledger, and the limits of a day."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.shapes import check_problem
from tests.support.waiting import eventually


async def usage(client: Client, **params: str) -> dict[str, Any]:
    response = await client.get("/api/usage", params=params)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.case(72)
async def test_every_outcome_is_counted_once(
    alice: Client, bob: Client, inference: Inference, db: Database
) -> None:
    conversation = (await alice.create())["id"]
    inference.once(Script().tokens("a", "b").done())
    await alice.ask(conversation, "complete")
    inference.once(Script().tokens("a").cut())
    await alice.ask_raw(conversation, {"content": "interrupted"})
    inference.once(Script().status(500))
    await alice.ask_raw(conversation, {"content": "failed"})
    gate = Gate()
    inference.once(Script().tokens("a", "b", "c").wait(gate).done())
    async with alice.send(conversation, "stopped") as stream:
        await stream.until_text("abc")
        for _ in range(2):
            await alice.post(f"/api/conversations/{conversation}/stop")
        await stream.rest()
    inference.once(Script().tokens("a").cut())
    async with alice.regenerate(conversation) as stream:  # undone
        await stream.rest()
    other = (await alice.create())["id"]
    inference.once(Script().tokens("a").wait(gate).done())
    async with alice.send(other, "deleted") as stream:
        await stream.until("token")
        logged = "SELECT count(*) > 0 FROM event_log WHERE message_id = $1 AND last_event > 0"
        await eventually(lambda: db.value(logged, stream.start["message_id"]))
        assert (await alice.delete(f"/api/conversations/{other}")).status_code == 204
    gate.open()
    today = datetime.now(UTC).date().isoformat()
    (day,) = (await usage(alice))["items"]
    assert day == {
        "day": today,
        "answers": 6,
        "input_tokens": 0,
        "output_tokens": 8,
        "estimated": 5,
        "by_status": {"complete": 1, "failed": 1, "interrupted": 2, "stopped": 2},
    }
    models = (await usage(alice, by="model"))["items"]
    assert sum(model["answers"] for model in models) == 6
    assert all("day" not in model and model["model_tag"] for model in models)
    assert (await usage(bob))["items"] == []
    assert (await usage(alice, **{"from": "2001-01-01", "to": "2001-02-01"}))["items"] == []
    params = {"from": "2026-02-01", "to": "2026-01-01"}
    check_problem(await alice.get("/api/usage", params=params), 422, "errors")
    check_problem(await alice.get("/api/usage", params={"to": "x"}), 422, "errors")
    await alice.delete("/api/me")
    assert (await usage(alice))["items"] == []
    anonymous = "SELECT sum(answers) FROM usage_ledger WHERE user_id = ''"
    assert await db.value(anonymous) >= 6


@pytest.mark.case(72)
@pytest.mark.parametrize(
    ("setting", "code"),
    [("ANSWERS_PER_DAY", "too_many_answers_today"), ("TOKENS_PER_DAY", "too_many_tokens_today")],
)
async def test_a_day_is_limited_on_all_replicas_before_an_engine_is_asked(
    service_with: Any, auth: AuthServer, inference: Inference, db: Database, setting: str, code: str
) -> None:
    service = service_with(**{setting: "4"})
    inference.default = Script().tokens("a", "b").done()
    async with Client(service.url, auth.user("limited")) as limited:
        conversations = [(await limited.create())["id"] for _ in range(8)]
        if setting == "TOKENS_PER_DAY":
            for conversation in conversations[:2]:
                await limited.ask(conversation, "Hello")
        responses = await asyncio.gather(
            *(limited.ask_raw(one, {"content": "Hello"}) for one in conversations[2:])
        )
        assert sum(one.status_code == 200 for one in responses) == 4 * (setting[0] == "A")
        refused = next(one for one in responses if one.status_code == 429)
        check_problem(refused, 429)
        assert refused.json()["type"].endswith(code)
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        assert len(inference.calls) == (4 if setting[0] == "A" else 2)
        limits = (await usage(limited))["limits"]
        assert limits[setting.lower()] == {"limit": 4, "used": 4, "left": 0}
        assert limits["resets_at"].endswith("T00:00:00Z")
        await db.execute(
            "UPDATE usage_ledger SET day = day - 1 WHERE user_id = $1", limited.user_id
        )
        await limited.ask(conversations[0], "The next day")
