"""More than one process on one database."""

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import PLAIN_TEXT, Inference, Script, words
from tests.support.service import Service, ServiceWith, StartService
from tests.support.waiting import eventually


@pytest.fixture
def other(service: Service, service_with: ServiceWith) -> Service:
    """A second replica beside `service`, on the same database."""
    return service_with(LOG_LEVEL="DEBUG")


async def test_two_replicas_are_one_service(
    alice: Client, clients: MakeClient, other: Service
) -> None:
    assert alice.account is not None
    elsewhere = clients(other, alice.account)
    conversation = await alice.create(title="Here")
    assert (await elsewhere.conversation(conversation["id"]))["title"] == "Here"
    await elsewhere.ask(conversation["id"], "Hello")
    assert [message["content"] for message in await alice.messages(conversation["id"])] == [
        "Hello",
        PLAIN_TEXT,
    ]
    await elsewhere.delete(f"/api/conversations/{conversation['id']}")
    assert (await alice.get(f"/api/conversations/{conversation['id']}")).status_code == 404


async def test_the_other_replica_shows_a_running_answer_with_its_text_so_far(
    alice: Client, clients: MakeClient, other: Service, inference: Inference
) -> None:
    elsewhere = clients(other, alice.account)
    gate, second_gate = Gate(), Gate()
    inference.once(
        Script().tokens(*words(3)).wait(gate).tokens(*words(3, 3)).wait(second_gate).done()
    )
    conversation = await alice.create()

    async def shown() -> tuple[str, str]:
        message = (await elsewhere.messages(conversation["id"]))[-1]
        return message["content"], message["status"]

    async def shows(count: int, status: str) -> None:
        async def so_far() -> bool:
            return await shown() == ("".join(words(count)), status)

        await eventually(so_far)

    async with alice.send(conversation["id"], "Count") as stream:
        await stream.until_text("<2>")
        await shows(3, "generating")
        gate.open()
        await stream.until_text("<5>")
        await shows(6, "generating")
        second_gate.open()
        await stream.until("done")
        # Saved before done: there at once.
        assert await shown() == ("".join(words(6)), "complete")


async def test_an_answer_read_on_one_replica_refuses_a_message_on_the_other(
    alice: Client, clients: MakeClient, other: Service, inference: Inference
) -> None:
    elsewhere = clients(other, alice.account)
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "One") as stream:
        await stream.until("token")
        async with elsewhere.send(conversation["id"], "Two", expect=409) as refused:
            assert (await refused.problem())["message_id"] == stream.start["message_id"]
        gate.open()
        await stream.rest()
        assert stream.done["status"] == "complete"


async def test_a_message_on_the_other_replica_stops_an_answer_that_nobody_reads(
    alice: Client, clients: MakeClient, other: Service, inference: Inference
) -> None:
    elsewhere = clients(other, alice.account)
    inference.once(Script().tokens(*words(3)).hang())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "One") as stream:
        await stream.until_text("<2>")
    assert (await elsewhere.ask(conversation["id"], "Two"))["status"] == "complete"
    await (await inference.call(0)).gone.wait()
    messages = await alice.messages(conversation["id"])
    assert [(message["content"], message["status"]) for message in messages] == [
        ("One", "complete"),
        ("<0><1><2>", "stopped"),
        ("Two", "complete"),
        (PLAIN_TEXT, "complete"),
    ]


@pytest.mark.case(13)
async def test_deleting_on_the_other_replica_stops_the_answer(
    alice: Client, clients: MakeClient, other: Service, inference: Inference
) -> None:
    elsewhere = clients(other, alice.account)
    inference.once(Script().endless())
    conversation = await alice.create()
    path = f"/api/conversations/{conversation['id']}"
    async with alice.send(conversation["id"], "Go on") as stream:
        await stream.until("token")
        assert (await elsewhere.delete(path)).status_code == 204
        await (await inference.call()).gone.wait()
    assert (await alice.get(path)).status_code == 404


async def test_workers_are_one_service(
    start_service: StartService, auth: AuthServer, inference: Inference
) -> None:
    service = start_service(workers=2)
    assert len(service.processes()) >= 3
    account = auth.user()
    async with Client(service.url, account) as first:
        conversation = await first.create()
    for number in range(6):
        # A connection of its own each time, so that both workers get some.
        async with Client(service.url, account) as client:
            await client.ask(conversation["id"], f"Question {number}")
            messages = await client.messages(conversation["id"])
        assert len(messages) == 2 * (number + 1)
    gate = Gate()
    inference.once(Script().tokens("a").wait(gate).tokens("b").done())
    async with Client(service.url, account) as client:
        async with client.send(conversation["id"], "Last") as stream:
            await stream.until("token")
            for _ in range(6):
                async with Client(service.url, account) as another:

                    async def shown(another: Client = another) -> bool:
                        message = (await another.messages(conversation["id"]))[-1]
                        return (message["content"], message["status"]) == ("a", "generating")

                    await eventually(shown)
            gate.open()
            await stream.rest()
            assert stream.text == "ab"
        metrics = (await client.get("/metrics")).text
        assert metrics
    assert service.stop() == 0
