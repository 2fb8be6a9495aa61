"""What administrators read and do, and the log of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Database
from tests.support.inference import Inference, Script
from tests.support.service import Service
from tests.support.shapes import check_invalid, check_problem

Document = dict[str, Any]


async def got(client: Client, path: str, **params: str | int) -> Document:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    body: Document = response.json()
    return body


def limits_of(client: Client) -> str:
    return f"/api/admin/users/{client.user_id}/limits"


async def acts(admin: Client) -> list[tuple[str, str | None, Document]]:
    """What this administrator did, oldest first, from all pages of the log."""
    found, cursor = [], None
    while True:
        page = await got(
            admin, "/api/admin/audit", limit=2, **({"cursor": cursor} if cursor else {})
        )
        found += [
            (item["act"], item["user_id"], item["details"])
            for item in page["items"]
            if item["administrator_id"] == admin.user_id
        ]
        cursor = page["next_cursor"]
        if cursor is None:
            return found[::-1]


@pytest.mark.case(79)
async def test_usage_is_told_by_user_day_and_model(
    admin: Client, alice: Client, bob: Client, inference: Inference
) -> None:
    inference.default = Script().tokens("a", "b").done()
    for client, count in ((alice, 2), (bob, 1)):
        for _ in range(count):
            await client.ask((await client.create())["id"], "Hello")
    mine: Document = {"answers": 2, "input_tokens": 0, "output_tokens": 4, "estimated": 2}
    mine["by_status"] = {"complete": 2}
    today = datetime.now(UTC).date().isoformat()
    usage = "/api/admin/usage"
    assert await got(admin, usage, user_id=alice.user_id) == {
        "items": [{"user_id": alice.user_id, **mine}],
        "next_offset": None,
    }
    (day,) = (await got(admin, usage, user_id=alice.user_id, by="day"))["items"]
    assert day == {"day": today, **mine}
    (model,) = (await got(admin, usage, user_id=alice.user_id, by="model"))["items"]
    assert model == {"model_tag": "default", **mine}
    everybody = (await got(admin, usage, by="day", **{"from": today}))["items"][0]
    assert everybody["answers"] >= 3
    pages: list[Document] = []
    offset: int | None = 0
    while offset is not None:
        page = await got(admin, usage, limit=1, offset=offset)
        pages += page["items"]
        offset = page["next_offset"]
    order = [item["user_id"] for item in pages]
    assert order.index(alice.user_id) < order.index(bob.user_id)
    assert len(set(order)) == len(order)
    assert (await got(admin, usage, **{"from": "2001-01-01", "to": "2001-01-02"}))["items"] == []
    params = {"from": "2026-02-01", "to": "2026-01-01"}
    check_invalid(await admin.get(usage, params=params), "from")
    # What tells nothing of single users is not recorded.
    read = [act for act in await acts(admin) if act[1] == alice.user_id]
    assert [details["by"] for _, _, details in read] == ["user", "day", "model"]
    assert {act for act, _, _ in await acts(admin)} == {"read_usage"}


@pytest.mark.case(79)
async def test_a_user_s_own_limits_hold_at_once_on_all_replicas(
    service_with: Any, auth: AuthServer, inference: Inference
) -> None:
    limited = service_with(ANSWERS_PER_DAY="1", TOKENS_PER_DAY="1000")
    other = service_with(ANSWERS_PER_DAY="1", TOKENS_PER_DAY="1000", HEARTBEAT_SECONDS="14")
    account, boss = auth.user("limited"), auth.user("boss", is_admin=True)
    inference.default = Script().tokens("a", "b").done()
    async with (
        Client(limited.url, account) as here,
        Client(other.url, account) as there,
        Client(other.url, boss) as admin,
    ):
        conversation = (await here.create())["id"]

        async def asked(client: Client) -> int:
            calls = len(inference.calls)
            response = await client.ask_raw(conversation, {"content": "Hello"})
            if response.status_code == 429:
                assert 0 < int(response.headers["retry-after"]) <= 86_400
                assert len(inference.calls) == calls
            return response.status_code

        assert [await asked(here), await asked(there)] == [200, 429]
        response = await admin.put(limits_of(here), json={"answers_per_day": 2})
        assert response.status_code == 200
        told = response.json()
        assert (told["user_id"], told["answers_per_day"], told["tokens_per_day"]) == (
            here.user_id,
            2,
            None,
        )
        assert told["limits"]["answers_per_day"] == {"limit": 2, "used": 1, "left": 1}
        assert told["limits"]["tokens_per_day"]["limit"] == 1000
        assert (await got(here, "/api/usage"))["limits"] == told["limits"]
        assert await got(admin, limits_of(here)) == told
        assert [await asked(there), await asked(here)] == [200, 429]
        # 0 takes a limit away, and a limit on tokens holds for `continue`, too.
        body = {"answers_per_day": 0, "tokens_per_day": 5}
        assert (await admin.put(limits_of(here), json=body)).status_code == 200
        inference.once(Script().tokens("a").cut())
        assert [await asked(here), await asked(there)] == [200, 429]
        url = f"/api/conversations/{conversation}/continue"
        assert (await here.post(url, json={})).status_code in {409, 429}
        assert (await got(here, "/api/usage"))["limits"]["answers_per_day"] is None
        for _ in range(2):
            assert (await admin.delete(limits_of(here))).status_code == 204
        assert (await got(here, "/api/usage"))["limits"]["answers_per_day"]["limit"] == 1
        assert await asked(there) == 429


@pytest.mark.case(79)
@pytest.mark.parametrize(
    "body", [{"answers_per_day": -1}, {"tokens_per_day": "5"}, {"tokens_per_day": 2**70}, [], 5]
)
async def test_what_is_no_limit_is_refused_and_changes_nothing(
    admin: Client, alice: Client, body: Any
) -> None:
    await admin.put(limits_of(alice), json={"answers_per_day": 7})
    check_invalid(await admin.put(limits_of(alice), json=body))
    assert (await got(admin, limits_of(alice)))["answers_per_day"] == 7
    assert [act for act, _, _ in await acts(admin)] == ["set_limits", "read_limits"]


@pytest.mark.case(79)
@pytest.mark.parametrize(
    "user_id", ["a/b", "a b", "ü?", "a%0Ab%0A", "x" * 255, "%00", "x" * 256, ""]
)
async def test_a_user_has_any_id_that_an_auth_service_gives(admin: Client, user_id: str) -> None:
    quoted = user_id.replace("?", "%3F").replace(" ", "%20").replace("/", "%2F")
    is_one = user_id not in {"%00", "x" * 256, ""}
    response = await admin.put(f"/api/admin/users/{quoted}/limits", json={"tokens_per_day": 5})
    deleted = await admin.delete(f"/api/admin/users/{quoted}")
    if is_one:
        assert response.json()["user_id"] == user_id.replace("%0A", "\n")
        assert deleted.status_code == 204
        assert [act for act, _, _ in await acts(admin)] == ["set_limits", "delete_user"]
    else:
        check_problem(response, 404)
        check_problem(deleted, 404)
        assert await acts(admin) == []


@pytest.mark.case(98)
async def test_an_id_may_end_as_the_path_of_another_route(
    admin: Client, alice: Client, auth: AuthServer, clients: MakeClient, service: Service
) -> None:
    """An encoded slash belongs to the id, any other one to the path."""
    path = f"/api/admin/users/{alice.user_id}"
    users = {"": alice} | {
        ending: clients(service, auth.user(user_id=f"{alice.user_id}{ending}"))
        for ending in ("/limits", "/v")
    }
    for user in users.values():
        await user.create()

    async def left() -> list[str]:
        listed = {name: await got(user, "/api/conversations") for name, user in users.items()}
        return [name for name in users if listed[name]["items"]]

    for ending, answers in (("", 1), ("%2Flimits", 2), ("/limits", 3), ("%2fv", 4)):
        await admin.put(f"{path}{ending}/limits", json={"answers_per_day": answers})
    told = [(await got(user, "/api/usage"))["limits"]["answers_per_day"] for user in users.values()]
    assert [of_user["limit"] for of_user in told] == [1, 3, 4]
    check_problem(await admin.put(f"{path}%2Flimits", json={"answers_per_day": 1}), 405)
    assert (await admin.delete(f"{path}/limit%73")).status_code == 204
    assert (await got(alice, "/api/usage"))["limits"]["answers_per_day"] is None
    assert await left() == ["", "/limits", "/v"]
    assert (await admin.delete(f"{path}%2Flimits")).status_code == 204
    assert await left() == ["", "/v"]
    assert (await admin.delete(f"{path}/v")).status_code == 204
    assert await left() == [""]


@pytest.mark.case(79)
@pytest.mark.parametrize("ending", ["%0A", "%0D", "%0Ab", "%20", "%2Flimits", "%2Flimits%0A"])
async def test_an_id_that_only_resembles_another_one_is_not_taken_for_it(
    admin: Client, alice: Client, ending: str
) -> None:
    conversation = (await alice.create())["id"]
    await admin.put(limits_of(alice), json={"tokens_per_day": 5})
    resembling = f"/api/admin/users/{alice.user_id}{ending}"
    await admin.put(f"{resembling}/limits", json={"tokens_per_day": 7})
    await admin.delete(f"{resembling}/limits")
    await admin.delete(resembling)
    assert (await got(admin, limits_of(alice)))["tokens_per_day"] == 5
    assert (await alice.get(f"/api/conversations/{conversation}")).status_code == 200


@pytest.mark.case(80)
async def test_each_act_is_in_the_log_and_outlives_the_user(
    admin: Client, alice: Client, bob: Client, db: Database
) -> None:
    kept = await bob.create()
    await alice.create()
    limits = {"answers_per_day": 7, "tokens_per_day": None}
    await admin.put(limits_of(alice), json=limits)
    await admin.get(limits_of(alice))
    await admin.delete(limits_of(alice))
    await admin.post("/api/models/swap", json={"model_tag": "d32"})
    await admin.put(limits_of(alice), json=limits)
    await admin.put(limits_of(bob), json=limits)
    expected: list[tuple[str, Document]] = [
        ("set_limits", limits),
        ("read_limits", {}),
        ("remove_limits", {}),
        ("swap_model", {"model_tag": "d32"}),
        ("set_limits", limits),
        ("set_limits", limits),
    ]
    whom = [alice.user_id] * 3 + [None, alice.user_id, bob.user_id]
    assert await acts(admin) == [
        (act, user, details) for (act, details), user in zip(expected, whom, strict=True)
    ]
    of_alice = await got(admin, "/api/admin/audit", user_id=alice.user_id)
    assert len(of_alice["items"]) == 4
    response = await admin.delete(
        f"/api/admin/users/{alice.user_id}", headers={"x-trace-id": "ab" * 16}
    )
    assert response.status_code == 204
    assert (await got(alice, "/api/conversations"))["items"] == []
    assert (await got(bob, f"/api/conversations/{kept['id']}"))["id"] == kept["id"]
    assert await acts(admin) == [
        *((act, None, details) for act, details in expected[:-1]),
        ("set_limits", bob.user_id, limits),
        ("delete_user", None, {}),
    ]
    newest = (await got(admin, "/api/admin/audit", limit=1))["items"][0]
    assert (newest["act"], newest["trace_id"]) == ("delete_user", "ab" * 16)
    # An administrator who erases herself does not erase what she did.
    assert (await admin.delete("/api/me")).status_code == 204
    statement = "SELECT count(*) FROM audit_log WHERE administrator_id = $1"
    assert await db.value(statement, admin.user_id) == 7
    check_invalid(await admin.get("/api/admin/audit", params={"cursor": "x"}), "cursor")
