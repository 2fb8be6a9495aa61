"""GET /api/changes: what changed in the user's conversations, as it is committed."""

import contextlib
from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient, Stream
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, ServiceWith, StartService
from tests.support.shapes import check_problem
from tests.support.waiting import eventually


def changes(
    client: Client, cursor: str | None = None, *, expect: int = 200, after: str | None = None
) -> contextlib.AbstractAsyncContextManager[Stream]:
    """The client's change feed."""
    headers = None if cursor is None else {"last-event-id": cursor}
    return client.stream(
        "GET",
        "/api/changes",
        params={} if after is None else {"after": after},
        headers=headers,
        expect=expect,
    )


async def next_of(stream: Stream, count: int) -> list[dict[str, Any]]:
    return [(await stream.next()).data for _ in range(count)]


@pytest.mark.case(69)
async def test_it_tells_what_changes_in_the_user_s_conversations_and_no_text(
    alice: Client, bob: Client, inference: Inference
) -> None:
    old = await alice.create(title="Old")
    gate = Gate()
    inference.once(Script().tokens("secret").wait(gate).done())
    async with changes(alice) as feed, changes(bob) as other:
        assert feed.headers["cache-control"] == "no-cache, no-transform"
        assert await next_of(feed, 1) == await next_of(other, 1) == [{"cursor": True}]
        made = await alice.create(title="Made")
        assert await next_of(feed, 1) == [{"conversation": made}]
        async with alice.send(made["id"], "whisper") as answer:
            await answer.until("token")
            message_id = answer.start["message_id"]
            moved, begun = await next_of(feed, 2)
            listed = (await alice.get("/api/conversations")).json()["items"][0]
            assert moved == {"conversation": listed}
            told = {"conversation_id": made["id"], "message_id": message_id}
            assert begun == {"answer": {**told, "status": "generating"}}
            gate.open()
            await answer.rest()
        assert await next_of(feed, 1) == [{"answer": {**told, "status": "complete"}}]
        change = await alice.patch(f"/api/conversations/{old['id']}", json={"is_favorited": True})
        assert await next_of(feed, 1) == [{"conversation": change.json()}]
        await alice.delete(f"/api/conversations/{made['id']}")
        assert await next_of(feed, 1) == [{"deleted": made["id"]}]
        assert b"secret" not in feed.raw
        assert b"whisper" not in feed.raw.replace(b'"title" : "whisper"', b"")
        # The other user's feed has gone on, and has told nothing of it.
        his = await bob.create()
        assert await next_of(other, 1) == [{"conversation": his}]


@pytest.mark.case(69)
async def test_it_goes_on_after_any_cursor_and_the_header_beats_the_query(alice: Client) -> None:
    async with changes(alice) as feed:
        await feed.next()
        made = [(await alice.create(title=str(n)))["id"] for n in range(4)]
        await next_of(feed, 4)
    for index, event in enumerate(feed.events[:-1]):
        for header, after in ((event.id, "1"), (None, event.id)):
            async with changes(alice, header, after=after) as again:
                found = await next_of(again, 4 - index)
                assert [told["conversation"]["id"] for told in found] == made[index:]
                assert [event.id for event in again.events] == [
                    event.id for event in feed.events[index + 1 :]
                ]


@pytest.mark.case(69)
@pytest.mark.parametrize("cursor", ["1", "999999999999999999"])
async def test_an_unknown_cursor_is_told_to_load_the_list_again(alice: Client, cursor: str) -> None:
    await alice.create()
    async with changes(alice, cursor) as feed:
        assert await next_of(feed, 1) == [{"resync": True}]
        made = await alice.create()
        assert await next_of(feed, 1) == [{"conversation": made}]
    async with changes(alice, feed.events[0].id) as again:
        assert await next_of(again, 1) == [{"conversation": made}]


@pytest.mark.case(69)
@pytest.mark.parametrize("cursor", ["x", "0a3a3e1fb0a1.1.0", "-1", "1e3"])
async def test_a_malformed_cursor_is_400(alice: Client, cursor: str) -> None:
    for options in ({"headers": {"last-event-id": cursor}}, {"params": {"after": cursor}}):
        check_problem(await alice.get("/api/changes", **options), 400)


@pytest.mark.case(69)
async def test_it_beats_counts_as_an_open_stream_and_ends_with_its_token(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer
) -> None:
    service = service_with(AUTH_CACHE_SECONDS="1", HEARTBEAT_SECONDS="0.3", MAX_OPEN_STREAMS="1")
    account = auth.user("alice")
    alice = clients(service, account)
    async with changes(alice) as feed:
        await feed.next()
        async with changes(alice, expect=429):
            pass
        await eventually(lambda: bool(feed.reader.comments))
        auth.forget(account.token)
        assert await feed.rest() == []


@pytest.mark.case(69)
async def test_a_drain_ends_it_at_once_and_nothing_is_lost(
    start_service: StartService, service: Service, clients: MakeClient, auth: AuthServer
) -> None:
    going = start_service(DRAIN_SECONDS="10")
    account = auth.user("alice")
    alice, there = clients(going, account), clients(service, account)
    async with changes(alice) as feed:
        await feed.next()
        going.terminate()
        assert await feed.rest() == []
    made = await there.create()
    async with changes(there, feed.cursor) as again:
        assert await next_of(again, 1) == [{"conversation": made}]
    assert going.wait() == 0
