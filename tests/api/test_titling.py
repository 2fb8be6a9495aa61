"""TITLE_MODEL: a model writes the titles that users do not give."""

from typing import Any

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.gates import Gate
from tests.support.inference import Call, Inference, Script
from tests.support.service import ServiceWith, StartService
from tests.support.waiting import eventually

from chat_api.titling import as_title

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ASKS = "Write a title for the conversation below"


@pytest.fixture
def titled(service_with: ServiceWith, auth: AuthServer, clients: MakeClient) -> Client:
    return clients(service_with(TITLE_MODEL="default"), auth.user("alice"))


async def asked(inference: Inference, count: int = 1) -> Call:
    """The last of so many requests for a title."""
    await eventually(lambda: len(inference.about(ASKS)) == count)
    return inference.about(ASKS)[-1]


async def title_of(client: Client, conversation: dict[str, Any]) -> str:
    return str((await client.conversation(conversation["id"]))["title"])


async def eventually_titled(client: Client, conversation: dict[str, Any], title: str) -> None:
    async def is_titled() -> bool:
        return await title_of(client, conversation) == title

    await eventually(is_titled, what=f"the title {title!r}")


async def test_the_first_complete_answer_gets_a_title_and_a_later_one_none(
    titled: Client, inference: Inference
) -> None:
    inference.on(ASKS, Script().tokens('Title: "Rain', ' in Spain"\nMore').done())
    conversation = await titled.create()
    inference.once(Script().tokens("half").cut())
    await titled.ask_raw(conversation["id"], {"content": "Where does\nit rain?"})
    assert await title_of(titled, conversation) == "Where does"
    inference.once(Script().tokens("In Spain.").done())
    await titled.ask(conversation["id"], "Again, please")
    await eventually_titled(titled, conversation, "Rain in Spain")
    (prompt,) = (await asked(inference)).contents
    assert "Where does\nit rain?" in prompt
    assert "In Spain." in prompt
    place = (await titled.conversation(conversation["id"]))["updated_at"]
    await titled.ask(conversation["id"], "And then?")
    other = await titled.create()
    await titled.ask(other["id"], "Something else")
    await eventually_titled(titled, other, "Rain in Spain")  # so that the one before had its turn
    assert len(inference.about(ASKS)) == 2
    assert place < (await titled.conversation(conversation["id"]))["updated_at"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_title_that_the_user_gave_stays(
    titled: Client, inference: Inference, when: str
) -> None:
    gate = Gate()
    inference.on(ASKS, Script().wait(gate).tokens("Theirs").done())
    conversation = await titled.create()
    if when == "before":
        await titled.patch(f"/api/conversations/{conversation['id']}", json={"title": "Mine"})
    await titled.ask(conversation["id"], "Mine")
    if when == "meanwhile":
        await asked(inference)
        # The very words of the first message: it is nevertheless the user's.
        await titled.patch(f"/api/conversations/{conversation['id']}", json={"title": "Mine"})
    gate.open()
    other = await titled.create()
    await titled.ask(other["id"], "Something else")
    await eventually_titled(titled, other, "Theirs")
    assert await title_of(titled, conversation) == "Mine"


async def test_a_failure_leaves_the_first_line_and_the_next_title_is_asked_for(
    titled: Client, inference: Inference
) -> None:
    inference.on(ASKS, Script().status(500))
    conversation = await titled.create()
    await titled.ask(conversation["id"], "First line")
    await (await asked(inference)).ended.wait()
    other = await titled.create()
    await titled.ask(other["id"], "Something else")
    await asked(inference, 2)
    assert await title_of(titled, conversation) == "First line"


async def test_a_title_that_is_being_written_does_not_hold_up_a_drain(
    start_service: StartService, auth: AuthServer, clients: MakeClient, inference: Inference
) -> None:
    """The drain could wait for a minute; the test's own deadline is shorter."""
    service = start_service(TITLE_MODEL="default", DRAIN_SECONDS="60")
    alice = clients(service, auth.user("alice"))
    inference.on(ASKS, Script().tokens("Never").hang())
    conversation = await alice.create()
    await alice.ask(conversation["id"], "First line")
    call = await asked(inference)
    assert service.stop(timeout=30) == 0
    await call.gone.wait()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Paris", "Paris"),
        ('\n\n  "Paris"  \nIt is', "Paris"),
        ("**Title:** Paris", "Paris"),
        ("# Titel: Paris", "Paris"),
        ("<think>hm\n</think>\nParis", "Paris"),
        ("<think>hm, without an end", ""),
        ("  \n\u200b", ""),
        ("शीर्षक: समोसा", "समोसा"),
        (FAMILY * 90, FAMILY * 80),
    ],
)
def test_a_model_s_words_become_one_line_of_at_most_80_characters(text: str, title: str) -> None:
    assert as_title(text) == title
