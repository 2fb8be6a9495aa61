"""Temporary conversations, and days after which conversations are not kept."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, StartService
from tests.support.shapes import check_conversation, check_invalid, moment
from tests.support.waiting import eventually

IN_A_WEEK = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)


@pytest.mark.case(81)
async def test_a_conversation_may_be_temporary_and_others_look_as_before(
    alice: Client, bob: Client
) -> None:
    plain = await alice.create()
    check_conversation(plain)
    written = IN_A_WEEK.astimezone(UTC).isoformat().replace("+00:00", "Z")
    temporary = await alice.create(expires_at=written)
    assert moment(temporary["expires_at"]) == IN_A_WEEK
    url = f"/api/conversations/{temporary['id']}"
    renamed = (await alice.put(url, json={"title": "Mine"})).json()
    assert moment(renamed["expires_at"]) == IN_A_WEEK
    listed = (await alice.get("/api/conversations")).json()["items"]
    assert ["expires_at" in item for item in listed] == [True, False]
    # A copy of a temporary one is temporary; one that says otherwise is kept.
    answer = await alice.ask(temporary["id"], "Hello")
    fork = {"conversation_id": temporary["id"], "message_id": answer["id"]}
    assert moment((await alice.create(fork=fork))["expires_at"]) == IN_A_WEEK
    check_conversation(await alice.create(fork=fork, expires_at=None))
    # An export keeps it.
    line = (await alice.get(f"{url}/export")).content
    await bob.post("/api/import", content=line)
    (copy,) = (await bob.get("/api/conversations")).json()["items"]
    assert moment(copy["expires_at"]) == IN_A_WEEK
    past = json.dumps(json.loads(line) | {"id": "x", "expires_at": "2020-01-01T00:00:00Z"})
    report = (await bob.post("/api/import", content=past)).json()
    assert (report["imported"], [f["line"] for f in report["failed"]]) == (0, [1])
    kept = await alice.patch(url, json={"expires_at": None})
    check_conversation(kept.json())


@pytest.mark.case(81)
@pytest.mark.parametrize(
    "value",
    [
        *("2020-01-01T00:00:00Z", "2099-01-01", "2099-01-01T00:00:00", "soon", "", 4102444800),
        *("4102444800", "2099-02-30T00:00:00Z", "9999-12-31T23:59:59-14:00", [], True),
    ],
)
async def test_what_is_no_time_to_come_is_refused(alice: Client, value: Any) -> None:
    conversation = await alice.create()
    url = f"/api/conversations/{conversation['id']}"
    check_invalid(await alice.patch(url, json={"expires_at": value}), "expires_at")
    check_invalid(await alice.post("/api/conversations", json={"expires_at": value}), "expires_at")
    assert (await alice.get("/api/conversations")).json()["items"] == [conversation]


@pytest.mark.case(81)
async def test_a_search_does_not_find_what_has_expired(alice: Client, db: Database) -> None:
    temporary = await alice.create(title="Marzipan", expires_at=IN_A_WEEK.isoformat())
    await alice.ask(temporary["id"], "Marzipan?")
    found = await alice.get("/api/search", params={"q": "marzipan"})
    assert len(found.json()["items"]) == 2
    await db.execute("UPDATE conversations SET expires_at = now() WHERE id = $1", temporary["id"])
    found = await alice.get("/api/search", params={"q": "marzipan"})
    assert found.json()["items"] == []


@pytest.mark.case(81)
async def test_a_service_deletes_what_has_expired_and_what_is_old(
    start_service: StartService,
    auth: AuthServer,
    inference: Inference,
    fresh_database_url: str,
) -> None:
    db = Database(fresh_database_url)

    def start() -> Service:
        return start_service(
            DATABASE_URL=fresh_database_url,
            LOG_RETENTION_SECONDS="1",
            RETENTION_DAYS="3",
            AUDIT_DAYS="3",
        )

    account = auth.user("alice")
    service = start()
    async with Client(service.url, account) as alice:
        temporary = await alice.create(expires_at=IN_A_WEEK.isoformat())
        gate = Gate()
        inference.once(Script().tokens("a").wait(gate).tokens("b").done())
        spent = "UPDATE conversations SET expires_at = now() WHERE id = $1"
        is_there = "SELECT count(*) FROM conversations WHERE id = $1"
        feed = alice.stream("GET", "/api/changes")
        async with alice.send(temporary["id"], "Go") as stream, feed as changes:
            await stream.until("token")
            await changes.next()
            other = await alice.create(expires_at=IN_A_WEEK.isoformat())
            await db.execute(spent, temporary["id"])
            await db.execute(spent, other["id"])
            while (await changes.next()).data != {"deleted": other["id"]}:
                pass
            # A round of the sweep has passed over the one in which an answer is written.
            assert await db.value(is_there, temporary["id"]) == 1
            gate.open()
            await stream.rest()
            assert stream.done["status"] == "complete"
            while (await changes.next()).data != {"deleted": temporary["id"]}:
                pass
        line = {"id": "old", "messages": [], "updated_at": "2020-01-01T00:00:00Z"}
        report = (await alice.post("/api/import", content=json.dumps(line))).json()
        assert report["failed"] == [{"line": 1, "detail": "Its last message is older than 3 days."}]
        old, new = await alice.create(), await alice.create()
        for conversation, days in ((old, 4), (new, 2)):
            await db.execute(
                "UPDATE conversations SET updated_at = now() - make_interval(days => $2) "
                "WHERE id = $1",
                conversation["id"],
                days,
            )
            await db.execute(
                "INSERT INTO audit_log (at, administrator_id, act, details, trace_id) "
                "VALUES (now() - make_interval(days => $1), 'root', 'swap_model', '{}', '')",
                days,
            )
    start()  # it sweeps at its start
    await eventually(lambda: db.value("SELECT count(*) = 1 FROM audit_log"))
    await eventually(lambda: db.value("SELECT count(*) = 1 FROM conversations"))
    assert await db.value(is_there, new["id"]) == 1
