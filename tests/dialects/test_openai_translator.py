"""The translator of OpenAI's dialect, by recorded lists of events and golden streams.

What runs while a new release is deployed is translated by both: these streams must not change.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chat_api.dialects.openai.objects import Echo
from chat_api.dialects.openai.translator import Translator
from chat_api.dialects.translated import CannotGoOn

Event = dict[str, Any]

STREAMS = Path(__file__).parent / "streams"
MESSAGE = "01234567-89ab-7def-8123-456789abcdef"
CONVERSATION = "01234567-89ab-7def-8123-456789abcde0"
START: Event = {"start": {"conversation_id": CONVERSATION, "message_id": MESSAGE, "attempt": 1}}
TEXT: list[Event] = [{"token": "0 ", "gpu": 0}, {"token": "1 "}]
THOUGHTS: list[Event] = [{"reasoning": f"think{number} "} for number in range(5)]
ERROR: Event = {
    "error": "inference_unavailable",
    "detail": "The model is not available at the moment.",
}
USAGE = {"input_tokens": 7, "output_tokens": 2}


def done(status: str = "complete", **fields: Any) -> Event:
    return {
        "done": True,
        "message_id": MESSAGE,
        "status": status,
        "token_count": 2,
        "inference_time_ms": 312,
        "model_tag": "m",
        "finish_reason": None,
        "usage": USAGE,
        **fields,
    }


RECORDED: dict[str, list[Event]] = {
    "plain": [START, *TEXT, done()],
    "reasoning": [START, *THOUGHTS, *TEXT, done()],
    "length": [START, *TEXT, done(finish_reason="length")],
    "stopped": [START, done("stopped", token_count=0, usage=None)],
    "failed": [START, *TEXT, ERROR, done("failed", usage=None)],
}


def translator(created_at: int = 1_795_617_784, **options: Any) -> Translator:
    return Translator(MESSAGE, CONVERSATION, Echo(created_at=created_at, model="m"), **options)


def translated(events: list[Event], made: Translator | None = None) -> bytes:
    made = made or translator()
    stream = b"".join(
        made.translate(1, number, json.dumps(event).encode()) for number, event in enumerate(events)
    )
    assert made.has_ended == (events[-1].get("done") is True)
    return stream


def chunks(stream: bytes) -> list[Event]:
    """The data of each event, whose name is its type."""
    found = []
    for event in stream.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def kinds(stream: bytes) -> list[str]:
    return [chunk["type"].removeprefix("response.") for chunk in chunks(stream)]


@pytest.mark.parametrize("case", RECORDED)
def test_a_recorded_stream_is_the_golden_one_to_the_byte(case: str) -> None:
    golden = (STREAMS / f"responses-{case}.sse").read_text().rstrip("\n") + "\n\n"
    (created,) = {int(at) for at in re.findall(r'"created_at": (\d+)', golden)}
    golden = re.sub(r"(resp|msg|rs)_[0-9a-f]{32}", rf"\1_{MESSAGE.replace('-', '')}", golden)
    golden = re.sub(r"conv_[0-9a-f]{32}", f"conv_{CONVERSATION.replace('-', '')}", golden)
    assert translated(RECORDED[case], translator(created)).decode() == golden


@pytest.mark.parametrize("case", RECORDED)
def test_a_cursor_drops_what_the_client_has(case: str) -> None:
    whole = chunks(translated(RECORDED[case]))
    assert [chunk["sequence_number"] for chunk in whole] == list(range(len(whole)))
    for after in range(-1, len(whole) + 1):
        assert chunks(translated(RECORDED[case], translator(after=after))) == whole[after + 1 :]


def test_an_empty_answer_has_one_empty_message() -> None:
    last = chunks(translated([START, {"token": ""}, done()]))[-1]["response"]
    assert last["status"] == "completed"
    assert [part["text"] for part in last["output"][0]["content"]] == [""]


@pytest.mark.parametrize(
    ("ending", "final", "status", "details"),
    [
        (done("interrupted"), "incomplete", "incomplete", {"reason": "interrupted"}),
        (
            done(finish_reason="content_filter"),
            "incomplete",
            "incomplete",
            {"reason": "content_filter"},
        ),
        (done("stopped"), "incomplete", "cancelled", None),
    ],
)
def test_what_is_open_is_closed_before_the_final_event(
    ending: Event, final: str, status: str, details: Event | None
) -> None:
    stream = translated([START, *TEXT, {"reasoning": "hm"}, ending])
    assert kinds(stream)[-7:] == [
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        final,
    ]
    response = chunks(stream)[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["error"] is None
    assert [item["status"] for item in response["output"]] == ["incomplete", "incomplete"]


def test_later_reasoning_is_an_item_of_its_own_beside_the_open_message() -> None:
    stream = translated([START, *THOUGHTS[:1], *TEXT[:1], *THOUGHTS[1:2], *TEXT[1:], done()])
    assert kinds(stream).count("content_part.added") == 1
    first, message, later = chunks(stream)[-1]["response"]["output"]
    assert [item["type"] for item in (first, message, later)] == [
        "reasoning",
        "message",
        "reasoning",
    ]
    assert message["content"][0]["text"] == "0 1 "
    assert later["id"] != first["id"]
    deltas = [chunk for chunk in chunks(stream) if chunk["type"].endswith("delta")]
    assert [delta["output_index"] for delta in deltas] == [0, 1, 2, 1]


def test_reasoning_of_an_attempt_that_died_is_closed_as_incomplete() -> None:
    stream = translated(
        [START, *THOUGHTS[:1], {"reset": {"attempt": 2}}, *THOUGHTS[:1], *TEXT, done()]
    )
    output = chunks(stream)[-1]["response"]["output"]
    assert [item["status"] for item in output] == ["incomplete", "completed", "completed"]
    assert len({item["id"] for item in output}) == 3


@pytest.mark.parametrize(
    "event", [{"reset": {"attempt": 2}}, {"snapshot": {"content": "0 2"}}], ids=["reset", "another"]
)
def test_a_text_that_was_shown_is_not_taken_back(event: Event) -> None:
    with pytest.raises(CannotGoOn):
        translated([START, *TEXT, event])


def test_what_means_nothing_here_translates_to_nothing() -> None:
    plain = translated(RECORDED["plain"])
    noisy = [START, {"token": ""}, *TEXT, {"gpu": 1}, {"snapshot": {"content": "0 1 "}}, done()]
    assert translated(noisy) == plain
    made = translator()
    assert translated(RECORDED["plain"], made) == plain
    assert made.translate(1, 9, b'{"token":"late"}') == b""


def test_without_the_log_a_cursor_gets_only_the_final_event() -> None:
    whole = chunks(translated(RECORDED["plain"]))
    saved = [START, {"snapshot": {"content": "0 1 "}}, done()]
    assert chunks(translated(saved, translator(after=3, last_number=9))) == whole[9:]
    assert translated(saved, translator(after=9, last_number=9)) == b""
    fresh = chunks(translated(saved, translator(last_number=9)))
    assert [chunk["sequence_number"] for chunk in fresh] == [*range(8), 9]
    assert [chunk["delta"] for chunk in fresh if "delta" in chunk] == ["0 1 "]
    assert fresh[-1] == whole[-1]
