"""Answers that the database refuses: they fail, and nothing else does."""

import contextlib

import pytest
from tests.chaos.conftest import StartPair
from tests.support.gates import Gate
from tests.support.inference import Inference
from tests.support.known import counted

# Stands for any text that PostgreSQL refuses: an encoding without the character, a limit.
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW)::text LIKE '%poison%' THEN
        RAISE EXCEPTION 'no such character' USING ERRCODE = '22P05';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.case(55)
@pytest.mark.parametrize("moment", ["while it runs", "at its end", "alone"])
async def test_an_answer_that_the_database_refuses_ends_and_no_other_does(
    moment: str, start_pair: StartPair, inference: Inference
) -> None:
    pair = await start_pair()
    await pair.db.execute(REFUSE)
    gate = Gate()
    poison = counted(3).tokens("poison")
    inference.on(
        "Poison", poison.wait(gate, 100).done() if moment == "while it runs" else poison.done()
    )
    inference.on("Fine", counted(2).wait(gate, 100).count(3).done())
    conversations = [await pair.here.create() for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(pair.here.send(conversation["id"], "Fine"))
            for conversation in ([] if moment == "alone" else conversations[1:])
        ]
        for stream in streams:
            await stream.until("token")
        refused = await stack.enter_async_context(pair.here.send(conversations[0]["id"], "Poison"))
        await refused.rest(15)
        assert refused.done["status"] in {"interrupted", "failed"}
        assert [event.data["error"] for event in refused.events if event.kind == "error"] == [
            "internal_error"
        ]
        gate.open()
        for stream in streams:
            await stream.rest(15)
            assert stream.done["status"] == "complete"
    for client in pair.clients:
        answer = (await client.messages(conversations[0]["id"]))[-1]
        assert answer["status"] == refused.done["status"]
        assert "poison" not in answer["content"]
        assert (await client.get("/api/ready")).status_code == 200
    assert all(service.running for service in pair.services)
    crashes = await pair.db.fetch("SELECT crashes, attempt FROM generations")
    assert all(row == {"crashes": 0, "attempt": 1} for row in crashes)
