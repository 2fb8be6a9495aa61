"""Erased means erased: no table keeps a word, an id or a key of what was deleted.

The tables are those of the catalogue, all columns as text: a new one is covered by itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tests.support.client import Client, MakeClient
from tests.support.database import Database
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, ServiceWith
from tests.support.waiting import eventually
from tests.unit.world import World, opened

from chat_api.db import erasure
from chat_api.generation.deletion import Deletions
from chat_api.generation.registry import Registry


async def rows_with(db: Database, words: Sequence[str]) -> dict[str, int]:
    """How many rows of each table have one of the words in any column."""
    tables = await db.fetch(
        "SELECT quote_ident(relname) AS name FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'p')"
    )
    found = {}
    for table in tables:
        count = await db.value(
            f"SELECT count(*) FROM {table['name']} t WHERE EXISTS ("  # noqa: S608
            "SELECT 1 FROM unnest($1::text[]) AS w (word) "
            "WHERE position(lower(word) IN lower(t::text)) > 0 "
            "OR position(encode(convert_to(word, 'UTF8'), 'hex') IN t::text) > 0)",
            list(words),
        )
        if count:
            found[table["name"]] = count
    return found


async def ids_of(db: Database, user_id: str) -> list[str]:
    """Every id that a row of the user's has."""
    rows = await db.fetch(
        "SELECT unnest(ARRAY[m.id, m.conversation_id])::text AS id FROM messages m "
        "JOIN conversations c ON c.id = m.conversation_id WHERE c.user_id = $1 "
        "UNION SELECT id::text FROM conversations WHERE user_id = $1 "
        "UNION SELECT unnest(ARRAY[message_id, question_id])::text FROM generations "
        "WHERE user_id = $1",
        user_id,
    )
    return [row["id"] for row in rows]


WORDS = [
    *("Swordfish", "Marmalade", "Secret plan", "a-key-of-alice", "Purple", "Tangerine", "Quince"),
    *("Rhubarb", "her-own-chat", "Elderberry", "Nutmeg", "a-stop-word"),
]


async def lived_in(client: Client, inference: Inference) -> str:
    """A conversation with something in every table and field, and others beside it."""
    conversation = await client.create(
        title="Secret plan", instructions="Purple", tags=["Rhubarb"], metadata={"Quince": "Nutmeg"}
    )
    id_: str = conversation["id"]
    inference.default = Script().tokens("Marma", "lade").done()
    body = {"content": "Swordfish?", "stop": ["a-stop-word"]}
    await client.ask_raw(id_, body, **{"idempotency-key": "a-key-of-alice"})
    (question, answer) = await client.messages(id_)
    await client.ask(id_, "Swordfish again", parent_id=answer["id"])
    async with client.regenerate(id_) as stream:
        await stream.rest()
    await client.ask(id_, "Swordfish edited", parent_id=question["parent_id"])
    inference.once(Script().tokens("Marmalade").cut())
    await client.ask_raw(id_, {"content": "Swordfish cut"})
    return id_


async def elsewhere_too(client: Client) -> None:
    """What other dialects and an import keep."""
    response = await client.post(
        "/v1/responses",
        json={
            "model": "m",
            "input": "Swordfish",
            "instructions": "Elderberry",
            "metadata": {"Quince": "Nutmeg"},
        },
    )
    assert response.status_code == 200
    part = {"type": "text", "text": "Swordfish"}
    message = {"id": "her-own-message", "role": "user", "parts": [part]}
    await client.post("/api/chat", json={"id": "her-own-chat", "messages": [message]})
    line = (
        b'{"id":"x","title":"Secret plan","messages":[{"id":"m","role":"user","content":"Quince"}]}'
    )
    assert (await client.post("/api/import", content=line)).json()["imported"] == 1


Erase = Callable[[Client, Client], Awaitable[Any]]
ERASERS: dict[str, Erase] = {
    "herself": lambda alice, _admin: alice.delete("/api/me"),
    "an administrator": lambda alice, admin: admin.delete(f"/api/admin/users/{alice.user_id}"),
}


@pytest.fixture
def other(service: Service, service_with: ServiceWith) -> Service:
    """A second replica on the same database."""
    return service_with(LOG_LEVEL="DEBUG")


@pytest.mark.case(71, 82)
@pytest.mark.parametrize("by", ERASERS)
async def test_an_erased_user_is_in_no_table_while_an_answer_runs_elsewhere(
    alice: Client,
    bob: Client,
    admin: Client,
    clients: MakeClient,
    other: Service,
    db: Database,
    inference: Inference,
    by: str,
) -> None:
    kept = await bob.create()
    await bob.ask(kept["id"], "Hello")
    await lived_in(alice, inference)
    await elsewhere_too(alice)
    await admin.put(f"/api/admin/users/{alice.user_id}/limits", json={"answers_per_day": 100})
    await admin.get("/api/admin/usage", params={"user_id": alice.user_id})
    running = await alice.create(expires_at="2999-01-01T00:00:00Z")
    gate = Gate()
    inference.once(Script().tokens("Tangerine").wait(gate).tokens("Tangerine").done())
    async with clients(other, alice.account).send(running["id"], "Quince?") as stream:
        await stream.until("token")
        tangerine = "SELECT count(*) FROM event_log WHERE events LIKE '%Tangerine%'"
        await eventually(lambda: db.value(tangerine))
        words = [*WORDS, alice.user_id, *await ids_of(db, alice.user_id)]
        before = await rows_with(db, words)
        assert set(before) >= {
            *("conversations", "messages", "generations", "event_log", "changes", "responses"),
            *("message_quotas", "idempotency_keys", "change_counters", "usage_ledger"),
            *("user_limits", "audit_log", "subscriptions"),
        }
        assert (await ERASERS[by](alice, admin)).status_code == 204
        assert await rows_with(db, words) == {}
        await (await inference.call(len(inference.calls) - 1)).gone.wait()
        gate.open()
        await stream.rest()
    assert await rows_with(db, words) == {}
    assert (await ERASERS[by](alice, admin)).status_code == 204
    assert await rows_with(db, words) == {}
    assert [m["role"] for m in await bob.messages(kept["id"])] == ["user", "assistant"]
    assert (await alice.get("/api/export")).content == b""


@pytest.mark.case(71)
async def test_a_user_with_many_conversations_is_erased(alice: Client, db: Database) -> None:
    content = b"".join(b'{"id":"%d","messages":[]}\n' % number for number in range(130))
    report = (await alice.post("/api/import", content=content)).json()
    assert report["imported"] == 130
    assert (await alice.delete("/api/me")).status_code == 204
    assert await rows_with(db, [alice.user_id]) == {}


REMOVALS: dict[str, Callable[[Client, Database, str], Awaitable[Any]]] = {
    "deleted": lambda alice, _db, id_: alice.delete(f"/api/conversations/{id_}"),
    "deleted by OpenAI's dialect": lambda alice, _db, id_: alice.delete(
        f"/v1/conversations/conv_{id_.replace('-', '')}"
    ),
    "expired": lambda _alice, db, id_: db.execute(
        "UPDATE conversations SET expires_at = now() WHERE id = $1", id_
    ),
}


@pytest.mark.case(82)
@pytest.mark.parametrize("how", REMOVALS)
async def test_a_conversation_that_is_gone_leaves_its_id_in_the_change_feed_only(
    service_with: ServiceWith,
    clients: MakeClient,
    alice: Client,
    db: Database,
    inference: Inference,
    how: str,
) -> None:
    """For a day, so that a client that was away is told."""
    client = clients(service_with(LOG_RETENTION_SECONDS="2"), alice.account)
    conversation = await lived_in(client, inference)
    words = [*WORDS, *await ids_of(db, alice.user_id)]
    assert len(await rows_with(db, words)) > 4
    await REMOVALS[how](client, db, conversation)

    async def is_gone() -> bool:
        return set(await rows_with(db, words)) == {"changes"}

    await eventually(is_gone, 30)
    assert await rows_with(db, WORDS) == {}
    # What was deleted was paid for.
    assert await db.value("SELECT sum(answers) FROM usage_ledger WHERE user_id = $1", alice.user_id)


@pytest.mark.case(82)
async def test_a_deleted_message_leaves_no_word(
    alice: Client, db: Database, inference: Inference
) -> None:
    conversation = await alice.create(title="Plain", instructions=None)
    inference.default = Script().tokens("Marma", "lade").done()
    await alice.ask(conversation["id"], "Swordfish?")
    inference.once(Script().tokens("Marmalade").cut())
    await alice.ask_raw(conversation["id"], {"content": "Swordfish again"})
    first = (await alice.messages(conversation["id"]))[0]
    url = f"/api/conversations/{conversation['id']}/messages/{first['id']}"
    assert (await alice.delete(url)).status_code == 204
    assert await rows_with(db, WORDS) == {}


@pytest.mark.case(82)
async def test_what_is_logged_while_a_conversation_is_deleted_is_erased_too(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's statement may have begun before the deletion, and end after it."""
    db = Database(fresh_database_url)
    async with opened(fresh_database_url) as pool:
        world = World(pool)
        lease = await world.lease()
        late = erasure.erase_late

        async def logged(connection: Any, message_ids: Sequence[str]) -> None:
            await db.execute(
                "INSERT INTO event_log (message_id, attempt, first_event, last_event, events) "
                "VALUES ($1, 1, 0, 0, 'Marmalade')",
                lease.message_id,
            )
            await late(connection, message_ids)

        monkeypatch.setattr(erasure, "erase_late", logged)
        deletions = Deletions(pool, Registry())
        await deletions.delete_conversation(world.user, lease.conversation_id)
    assert await rows_with(db, ["Marmalade"]) == {}
    assert set(await rows_with(db, [lease.message_id])) == {"changes"}
