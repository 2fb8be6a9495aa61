"""A generation of clients that cannot be told to forget: its events go on after a crash."""

import orjson
import pytest
from tests.unit.test_generations_db import taken
from tests.unit.world import World

from chat_api.db import event_log as db_event_log
from chat_api.db.event_log import LogRow
from chat_api.db.generations import Lease
from chat_api.dialects.openai.objects import Echo
from chat_api.dialects.openai.translator import Translator
from chat_api.generation import events
from chat_api.generation.continuing import kept
from chat_api.generation.events import Written, collected, unpack
from chat_api.generation.running import Beginning, RunningGeneration


def row(lease: Lease, *events: bytes) -> LogRow:
    text = b"\n".join(events).decode()
    return LogRow(lease.message_id, lease.attempt, 0, len(events) - 1, text, is_snapshot=False)


@pytest.mark.case(65)
async def test_what_was_logged_is_kept_though_the_attempt_between_logged_nothing(
    world: World,
) -> None:
    lease = await world.lease()
    lines = [events.start("c", "m", "q", 1), events.token("a"), events.token("b")]
    await db_event_log.append(world.pool, world.process, [row(lease, *lines)])
    second = await taken(world, lease)
    third = await taken(world, second)
    assert await kept(world.pool, third) == Beginning(Written("ab", 2), 2)
    rows = await db_event_log.read(world.pool, lease.message_id)
    assert [(r.attempt, r.first_event, r.last_event) for r in rows] == [(1, 0, 2), (3, 0, 2)]
    assert await kept(world.pool, second) is None, "it does not hold the generation any more"
    seams = await world.value(
        "SELECT seams FROM generations WHERE message_id = $1", lease.message_id
    )
    assert seams == [2, 2]


@pytest.mark.case(65)
async def test_nothing_logged_is_nothing_kept(world: World) -> None:
    lease = await world.lease()
    assert await kept(world.pool, await taken(world, lease)) is None


@pytest.mark.case(65)
async def test_reasoning_that_was_shown_is_closed_and_the_numbers_go_on() -> None:
    lease = Lease("0" * 8 + "-0000-7000-8000-" + "0" * 12, "c" * 32, "q", 2, 1, "{}", "t", None)
    again = RunningGeneration(lease, Beginning(Written("", 0), 1, begins_again=True))
    assert again.last_event == 2
    begun = [again.has_begun]
    again.add(events.token("Hi"), "Hi")
    assert [*begun, again.has_begun] == [False, True]
    tail = again.unlogged()
    assert tail is not None
    before = row(lease, b'{"start":{}}', events.reasoning("hm"))
    assert collected((before, tail)).written == Written("Hi", 1)
    translator = Translator(lease.message_id, lease.conversation_id, Echo(created_at=1))
    stream = b"".join(
        translator.translate(2, event.number, event.data) for event in unpack((before, tail), -1)
    )
    items = [
        orjson.loads(data.partition(b"data: ")[2])["item"]
        for data in stream.split(b"\n\n")
        if data.startswith(b"event: response.output_item.")
    ]
    assert [(item["type"], item["status"]) for item in items] == [
        ("reasoning", "in_progress"),
        ("reasoning", "incomplete"),
        ("message", "in_progress"),
    ]
