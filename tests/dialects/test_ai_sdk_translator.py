"""The translator of the AI SDK's dialect: recorded events in, the chunks of its examples out."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from chat_api.dialects.ai_sdk.translator import UiMessageStream
from chat_api.dialects.translated import CannotGoOn

RECORDED = Path(__file__).parent / "recorded"
Event = dict[str, Any]
START: Event = {"start": {"conversation_id": "c", "message_id": "m", "attempt": 1}}
ZERO: Event = {"token": "0 ", "gpu": 0}
ONE: Event = {"token": "1 "}
NOTHING: Event = {"token": "", "web": "searching"}


def done(status: str, finish_reason: str | None = None) -> Event:
    usage = {"input_tokens": 7, "output_tokens": 2} if status == "complete" else None
    return {"done": True, "status": status, "finish_reason": finish_reason, "usage": usage}


def thoughts(count: int) -> list[Event]:
    return [{"reasoning": f"think{number} "} for number in range(count)]


def snapshot(content: str, **more: str) -> Event:
    return {"snapshot": {"content": content, **more}}


ERROR: Event = {
    "error": "inference_unavailable",
    "detail": "The model is not available at the moment.",
}
RESET: Event = {"reset": {"attempt": 2}}
PLAIN = [START, ZERO, ONE, done("complete", "stop")]


def chunks(stream: bytes) -> list[Any]:
    """Return what a stream says; its messages are `data` lines of JSON, or the end."""
    assert stream == b"" or stream.endswith(b"\n\n")
    said = []
    for line in stream.decode().split("\n\n")[:-1]:
        assert line.startswith("data: "), line
        said.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))
    return said


def translated(
    events: list[Event], message_id: str = "m-1", model_tag: str = "bench", **place: Any
) -> list[Any]:
    translator = UiMessageStream()
    translator.begin(message_id, model_tag, **place)
    out = b"".join(
        translator.translate(1, number, json.dumps(event).encode())
        for number, event in enumerate(events)
    )
    assert translator.has_ended == (chunks(out)[-1:] == ["[DONE]"])
    return chunks(out)


def recorded(name: str) -> list[Any]:
    return chunks((RECORDED / f"ui-{name}.sse").read_bytes())


CASES: dict[str, list[Event]] = {
    "plain": [START, NOTHING, ZERO, NOTHING, ONE, done("complete", "stop")],
    "reasoning": [START, *thoughts(5), ZERO, ONE, done("complete", "stop")],
    "stopped": [START, ZERO, ONE, done("stopped")],
    "failed": [START, ZERO, ONE, ERROR, done("failed")],
    "length": [START, ZERO, ONE, done("complete", "length")],
}


@pytest.mark.parametrize("name", CASES)
def test_events_become_the_chunks_of_the_example(name: str) -> None:
    expected = recorded(name)
    hexadecimal = expected[0]["messageId"].removeprefix("msg_")
    assert translated(CASES[name], message_id=hexadecimal) == expected


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([START, ZERO, START, ONE, PLAIN[-1]], id="continued by its engine"),
        pytest.param([START, ZERO, snapshot("0 1 "), PLAIN[-1]], id="cut back, and further"),
        pytest.param([START, ZERO, RESET, START, snapshot("0 "), ONE, PLAIN[-1]], id="kept"),
        pytest.param([RESET, *PLAIN], id="run again before its text"),
        pytest.param([START, RESET, *PLAIN], id="run again after its start"),
        pytest.param([*PLAIN, START, *PLAIN], id="nothing follows the end"),
    ],
)
def test_what_is_sent_in_pieces_adds_up_to_the_example(events: list[Event]) -> None:
    assert translated(events, recorded("plain")[0]["messageId"][4:]) == recorded("plain")


@pytest.mark.parametrize(
    ("events", "text", "reasoning"),
    [
        ([snapshot("0 1 "), PLAIN[-1]], "0 1 ", ""),
        ([START, snapshot("0 ", reasoning="think"), ONE, PLAIN[-1]], "0 1 ", "think"),
        ([START, *thoughts(1), snapshot("0 1 ", reasoning="think0 more"), PLAIN[-1]], "0 1 ",
         "think0 more"),
        ([START, done("complete")], "", ""),
    ],
)  # fmt: skip
def test_a_text_that_was_saved_is_sent_whole(
    events: list[Event], text: str, reasoning: str
) -> None:
    said = translated(events)
    assert [chunk["type"] for chunk in said[:2]] == ["start", "start-step"]
    for kind, whole in (("text", text), ("reasoning", reasoning)):
        assert "".join(c["delta"] for c in said[:-1] if c["type"] == f"{kind}-delta") == whole
        assert any(c["type"] == f"{kind}-start" for c in said[:-1]) == bool(whole)
    assert said[-2]["type"] == "finish"


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_an_answer_that_was_cut_off_ends_with_an_error(status: str) -> None:
    said = translated([START, ZERO, done(status)])
    assert [chunk["type"] for chunk in said[-4:-1]] == ["message-metadata", "error", "finish"]
    assert said[-2]["messageMetadata"] == {"status": status, "usage": None}
    assert "finishReason" not in said[-2]


@pytest.mark.parametrize(
    ("finish_reason", "told"),
    [("length", "length"), ("content_filter", "content-filter"), ("stop", None), (None, None)],
)
def test_only_finish_reasons_are_told_that_every_client_knows(
    finish_reason: str | None, told: str | None
) -> None:
    finish = translated([START, ZERO, done("complete", finish_reason)])[-2]
    assert finish.get("finishReason") == told


@pytest.mark.parametrize(
    "events",
    [
        [START, ZERO, RESET, START, ZERO],
        [START, *thoughts(1), RESET, START, ZERO],
        [START, ZERO, RESET, START, done("failed")],
        [START, ZERO, ONE, snapshot("0 ")],
        [START, ZERO, RESET, START, snapshot("2 ")],
    ],
)
def test_what_was_shown_is_never_contradicted(events: list[Event]) -> None:
    with pytest.raises(CannotGoOn):
        translated(events)


@pytest.mark.parametrize("count", range(10))
def test_chunks_that_the_client_has_are_left_out(count: int) -> None:
    whole = translated(PLAIN)
    assert translated(PLAIN, skip=count) == [*whole[:-1][count:], "[DONE]"]


@pytest.mark.parametrize(
    ("skip", "shared", "is_lost"),
    [
        (4, 1, False),
        (5, 1, True),
        (5, 2, False),
        (0, -1, False),
        (3, -1, True),
        (9, math.inf, False),
    ],
)
def test_a_place_in_a_lost_attempt_ends_the_stream_with_an_error(
    skip: int, shared: float, is_lost: bool
) -> None:
    said = translated(PLAIN, skip=skip, shared=shared)
    assert ([chunk["type"] for chunk in said[:-1]] == ["error", "finish"]) == is_lost


@pytest.mark.parametrize(("skip", "is_lost"), [(0, False), (2, False), (3, True)])
def test_a_place_in_a_text_that_is_only_saved_is_lost(skip: int, is_lost: bool) -> None:
    said = translated([snapshot("0 1 "), PLAIN[-1]], skip=skip)
    assert ([chunk["type"] for chunk in said[:-1]] == ["error", "finish"]) == is_lost
