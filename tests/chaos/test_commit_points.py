"""SIGKILL before, inside and after each commit: what was accepted is kept, and nothing else."""

import asyncio
import contextlib
import functools
import uuid

import httpx2
import pytest
from tests.chaos.conftest import Pair, StartPair
from tests.support.client import Client, Stream, StreamEndedError
from tests.support.inference import Inference
from tests.support.known import Follower, counted, follow, length, numbered
from tests.support.waiting import eventually


def new_key() -> dict[str, str]:
    return {"idempotency-key": str(uuid.uuid4())}


async def died(pair: Pair) -> None:
    """Wait until the first replica has killed itself, and start it again as a healthy one."""
    await eventually(lambda: not pair.services[0].running, 20)
    assert pair.services[0].wait() == -9
    del pair.services[0].env["CRASH_AT"]
    pair.services[0].start(wait=False)


async def send_to_the_dying(
    pair: Pair, conversation_id: str, key: dict[str, str], reader: Follower | None = None
) -> None:
    """Send to the replica that will die; whatever it still says is taken."""
    with contextlib.suppress(httpx2.TransportError):
        async with pair.here.send(conversation_id, "Count", headers=key) as stream:
            await (reader or Follower()).read(stream)


async def questions(pair: Pair, conversation_id: str) -> list[str]:
    """The questions that are kept."""
    messages = await pair.there.messages(conversation_id)
    return [message["content"] for message in messages if message["role"] == "user"]


@pytest.mark.case(10)
@pytest.mark.parametrize("point", ["before begin", "during begin"])
async def test_case_10_killed_before_the_commit_nothing_is_there_and_a_retry_makes_one(
    start_pair: StartPair, inference: Inference, point: str
) -> None:
    """Case 10: killed before COMMIT."""
    pair = await start_pair(crash_at=point)
    inference.default = counted(5).done()
    conversation, key = await pair.here.create(), new_key()
    await send_to_the_dying(pair, conversation["id"], key)
    await died(pair)
    assert await pair.there.messages(conversation["id"]) == []
    assert inference.calls == []
    async with pair.there.send(conversation["id"], "Count", headers=key) as stream:
        await stream.rest()
        assert (length(stream.text), stream.done["status"]) == (5, "complete")
    assert await questions(pair, conversation["id"]) == ["Count"]


@pytest.mark.case(10)
async def test_case_10_killed_after_the_commit_a_retry_joins_the_original(
    start_pair: StartPair, inference: Inference
) -> None:
    """Case 10: killed after COMMIT, before the response."""
    pair = await start_pair(crash_at="after begin")
    inference.default = counted(5).done()
    conversation, key = await pair.here.create(), new_key()
    await send_to_the_dying(pair, conversation["id"], key)
    await died(pair)
    [question, answer] = await pair.there.messages(conversation["id"])
    assert (question["content"], answer["status"]) == ("Count", "generating")
    response = await pair.there.ask_raw(conversation["id"], {"content": "Count"}, **key)
    assert response.status_code == 200
    assert response.json()["id"] == answer["id"]
    assert length(response.json()["content"]) == 5
    assert await questions(pair, conversation["id"]) == ["Count"]
    assert len(inference.calls) == 1


@pytest.mark.parametrize("point", ["before begin", "during begin", "after begin"])
async def test_killed_while_a_regeneration_is_begun_the_old_answer_stays(
    start_pair: StartPair, inference: Inference, point: str
) -> None:
    pair = await start_pair(crash_at=point)
    conversation, key = await pair.there.create(), new_key()
    old = await pair.there.ask(conversation["id"], "Count")
    inference.default = counted(5).done()
    with contextlib.suppress(httpx2.TransportError):
        async with pair.here.regenerate(conversation["id"], headers=key) as stream:
            await stream.rest()
    await died(pair)
    assert (await pair.there.messages(conversation["id"]))[1]["content"] == old["content"]

    async def answered() -> bool:
        # While the lease of the dead one lasts, its answer is waited for.
        response = await pair.there.post(
            f"/api/conversations/{conversation['id']}/regenerate",
            headers={"accept": "application/json", **key},
        )
        return response.status_code == 200 and length(response.json()["content"]) == 5

    await eventually(answered)
    [_, answer] = await pair.there.messages(conversation["id"])
    assert length(answer["content"]) == 5
    assert len(inference.calls) == 2


@pytest.mark.parametrize(
    ("point", "old"),
    [
        ("before log", False),
        ("after log", False),
        ("before end", False),
        ("during end", False),
        ("during end", True),
    ],
)
async def test_killed_before_the_end_is_saved_the_answer_is_written_again(
    start_pair: StartPair, inference: Inference, point: str, old: bool
) -> None:
    """No client has received `done`; the second attempt is the answer, of a regeneration too."""
    pair = await start_pair(crash_at=point)
    conversation = await pair.there.create()
    if old:
        await pair.there.ask(conversation["id"], "Count")
    before = len(inference.calls)
    # Long enough for a batch of the log.
    inference.default = counted(5).count(40, pause=0.02).done()
    reader = Follower()
    with contextlib.suppress(httpx2.TransportError):
        async with (
            pair.here.regenerate(conversation["id"])
            if old
            else pair.here.send(conversation["id"], "Count")
        ) as stream:
            await reader.read(stream)
    assert "done" not in reader.kinds
    await died(pair)
    await follow(reader, conversation["id"], [pair.there])
    assert reader.done is not None
    assert (length(reader.text), reader.done["status"]) == (45, "complete")
    [_, answer] = await pair.there.messages(conversation["id"])
    assert (answer["content"], answer["status"]) == (reader.text, "complete")
    assert answer["id"] == reader.message_id
    assert len(inference.calls) == before + 2


@pytest.mark.parametrize("old", [False, True])
async def test_killed_after_the_end_was_saved_the_answer_stands(
    start_pair: StartPair, inference: Inference, old: bool
) -> None:
    """`done` was not sent by the dead one; it is there for clients that come back."""
    pair = await start_pair(crash_at="after end")
    conversation, key = await pair.there.create(), new_key()
    if old:
        await pair.there.ask(conversation["id"], "Count")
    before = len(inference.calls)
    inference.default = counted(5).count(10, pause=0.02).done()
    reader = Follower()
    with contextlib.suppress(httpx2.TransportError):
        async with (
            pair.here.regenerate(conversation["id"], headers=key)
            if old
            else pair.here.send(conversation["id"], "Count", headers=key)
        ) as stream:
            await reader.read(stream)
    assert "done" not in reader.kinds
    await died(pair)
    await follow(reader, conversation["id"], [pair.there])
    assert length(reader.text) == 15
    assert "reset" not in reader.kinds
    assert "snapshot" not in reader.kinds
    [_, answer] = await pair.there.messages(conversation["id"])
    assert (answer["id"], answer["content"], answer["status"]) == (
        reader.message_id,
        reader.text,
        "complete",
    )
    assert len(inference.calls) == before + 1


async def test_killed_while_taking_an_answer_up_the_next_one_takes_it(
    start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair(crash_at="after claim")
    inference.once(counted(4).hang(), counted(6).done())
    conversation = await pair.there.create()
    reader = Follower()
    async with pair.there.send(conversation["id"], "Count") as stream:
        while len(reader.kinds) < 5:
            await reader.read(stream, most=1)
        pair.services[1].kill()
    await died(pair)
    pair.services[0].wait_ready()
    await follow(reader, conversation["id"], [pair.here])
    assert reader.done is not None
    assert (length(reader.text), reader.done["status"]) == (6, "complete")
    assert len(inference.calls) == 2


@pytest.mark.parametrize("point", ["before release", "after release"])
async def test_killed_while_handing_over_the_other_replica_goes_on(
    start_pair: StartPair, inference: Inference, point: str
) -> None:
    pair = await start_pair(crash_at=point)
    inference.once(counted(4).hang(), counted(6).done())
    conversation = await pair.here.create()
    reader = Follower()
    async with pair.here.send(conversation["id"], "Count") as stream:
        while len(reader.kinds) < 5:
            await reader.read(stream, most=1)
        pair.services[0].terminate()
        await reader.read(stream)
    await died(pair)
    await follow(reader, conversation["id"], [pair.there])
    assert reader.done is not None
    assert (length(reader.text), reader.done["status"]) == (6, "complete")


@pytest.mark.parametrize("point", ["before stop", "after stop", "before take", "after take"])
async def test_killed_while_stopping_a_repeated_stop_stops(
    start_pair: StartPair, inference: Inference, point: str
) -> None:
    """The owner is frozen, so that the stop comes by every point."""
    pair = await start_pair(crash_at=point, LEASE_SECONDS="30")
    inference.once(counted(4).hang())
    conversation = await pair.there.create()
    path = f"/api/conversations/{conversation['id']}/stop"
    async with pair.there.send(conversation["id"], "Count") as stream:
        await stream.until(numbered(3))
        await logged(pair, stream)
        pair.services[1].pause()
        try:
            with contextlib.suppress(httpx2.TransportError):
                await pair.here.post(path)
            await died(pair)
            pair.services[0].wait_ready()
            stopped = await pair.here.post(path)
        finally:
            pair.services[1].resume()
        assert stopped.status_code == 200
        assert (length(stopped.json()["content"]), stopped.json()["status"]) == (4, "stopped")
        with contextlib.suppress(StreamEndedError):
            await stream.rest()
    assert (await pair.there.messages(conversation["id"]))[-1] == stopped.json()


async def logged(pair: Pair, stream: Stream) -> None:
    """Wait until the log has what the stream has."""
    last = int(stream.cursor.rpartition(".")[2])

    async def there() -> bool:
        return bool(
            await pair.db.value("SELECT coalesce(max(last_event), -1) >= $1 FROM event_log", last)
        )

    await eventually(there)


async def tree_of(pair: Pair) -> list[dict[str, object]]:
    """Every message, and what is shown."""
    return await pair.db.fetch(
        "SELECT conversation_id, content, replaces IS NULL AS is_shown FROM messages "
        "ORDER BY conversation_id, position, id"
    )


ACTS = {"switch": "show", "delete": "delete", "edit": "show", "fork": "fork", "regenerate": "hide"}


@pytest.mark.case(65)
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("act", ACTS)
async def test_killed_while_the_tree_changes_it_is_as_before_or_as_after(
    start_pair: StartPair, inference: Inference, act: str, when: str
) -> None:
    """One transaction each. What is repeated afterwards ends as if nothing had happened."""
    pair = await start_pair(crash_at=f"{when} {ACTS[act]}")
    conversation, key = (await pair.there.create())["id"], new_key()
    first = await pair.there.ask(conversation, "One")
    await pair.there.ask(conversation, "Two")
    if act in {"switch", "delete"}:
        await pair.there.ask(conversation, "Two!", parent_id=first["id"])
    path = await pair.there.messages(conversation)
    before = await tree_of(pair)
    inference.default = counted(5).done()
    url = f"/api/conversations/{conversation}"

    async def do(client: Client) -> int:
        if act == "switch":
            versions = (await client.get(f"{url}/messages/{path[2]['id']}/versions")).json()
            body = {"message_id": versions["items"][0]["id"]}
            return (await client.request("PUT", f"{url}/path", json=body)).status_code
        if act == "delete":
            return (await client.delete(f"{url}/messages/{path[2]['id']}")).status_code
        if act == "fork":
            fork = {"conversation_id": conversation, "message_id": first["id"]}
            return (await client.post("/api/conversations", json={"fork": fork})).status_code
        if act == "edit":
            body = {"content": "Two!", "parent_id": first["id"]}
            return (await client.ask_raw(conversation, body, **key)).status_code
        return (
            await client.post(
                f"{url}/regenerate",
                json={"message_id": first["id"]},
                headers={"accept": "application/json", **key},
            )
        ).status_code

    with contextlib.suppress(httpx2.TransportError):
        await do(pair.here)
    await died(pair)
    if when != "after" and act != "regenerate":
        assert await tree_of(pair) == before
    elif act != "regenerate":
        assert await tree_of(pair) != before

    async def done() -> bool:
        # 404: what was deleted by the first try; 409: while the lease of the dead one lasts.
        return await do(pair.there) in {200, 201, 204, 404}

    await eventually(done, 30)
    shown = [message["content"] for message in await pair.there.messages(conversation)]
    expected = {"switch": 4, "delete": 4, "edit": 4, "fork": 4, "regenerate": 2}
    assert len(shown) == expected[act]
    if act == "regenerate":
        assert (shown[0], length(shown[1])) == ("One", 5)
        [old, new] = (await pair.there.get(f"{url}/messages/{first['id']}/versions")).json()[
            "items"
        ]
        assert (old["id"], old["shown"], new["shown"]) == (first["id"], False, True)
    else:
        assert shown[2] == ("Two!" if act == "edit" else "Two")


@pytest.mark.case(27)
async def test_a_database_backend_killed_at_any_moment_loses_nothing(
    start_pair: StartPair, inference: Inference
) -> None:
    """Connections cut by the server again and again: the unknown outcomes are found out."""
    pair = await start_pair(LEASE_SECONDS="30")
    inference.default = counted(60, pause=0.01).done()
    stopped = asyncio.Event()

    async def cut() -> None:
        while not stopped.is_set():
            await pair.db.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'samosachaat-chat-api' AND datname = current_database()"
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), 0.05)

    async def converse(client: Client) -> None:
        conversation = str(await eventually(functools.partial(created, client)))
        for _ in range(2):
            key = new_key()
            reader = Follower()

            async def sent(reader: Follower = reader, key: dict[str, str] = key) -> bool:
                async with client.send(conversation, "Count", headers=key, expect=None) as stream:
                    assert stream.status in {200, 503}, await stream.problem()
                    if stream.status == 200:
                        await reader.read(stream)
                    return stream.status == 200

            await eventually(sent)
            await follow(reader, conversation, pair.clients)
            assert length(reader.text) == 60

    cutting = asyncio.create_task(cut())
    try:
        await asyncio.gather(*(converse(client) for client in pair.clients * 5))
    finally:
        stopped.set()
        await cutting
    rows = await pair.db.fetch("SELECT attempt, status FROM generations")
    assert [(row["attempt"], row["status"]) for row in rows] == [(1, "complete")] * 20
    contents = await pair.db.fetch("SELECT content FROM messages WHERE role = 'assistant'")
    assert all(length(row["content"]) == 60 for row in contents)


async def created(client: Client) -> str | None:
    """A new conversation's id; None while the service says to try again."""
    response = await client.post("/api/conversations", json={})
    assert response.status_code in {201, 503}, response.text
    return str(response.json()["id"]) if response.status_code == 201 else None


@pytest.mark.case(65)
@pytest.mark.parametrize(("point", "kept"), [("before", 0), ("during", 0), ("after", 1)])
async def test_killed_in_an_import_each_conversation_is_whole_or_not_there(
    start_pair: StartPair, point: str, kept: int
) -> None:
    """One transaction for each conversation; a repeat imports what is missing."""
    pair = await start_pair(crash_at=f"{point} import")
    message = '{"id":"m","role":"user","content":"Hi"}'
    content = "".join(f'{{"id":"{n}","messages":[{message}]}}\n' for n in range(3)).encode()
    with contextlib.suppress(httpx2.TransportError):
        await pair.here.post("/api/import", content=content)
    await died(pair)
    assert len(await tree_of(pair)) == kept
    listed = (await pair.there.get("/api/conversations")).json()["items"]
    assert len(listed) == kept
    report = (await pair.there.post("/api/import", content=content)).json()
    assert report == {"imported": 3 - kept, "unchanged": kept, "failed": []}
    assert len(await tree_of(pair)) == 3
