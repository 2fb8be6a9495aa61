"""The OpenAI dialect's decoder: every quirk that an engine was seen to have, in any cutting."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.engines.engine import Event, Usage
from chat_api.engines.http import retry_after_of
from chat_api.engines.openai_decoder import OpenAIDecoder
from chat_api.errors import (
    ContextTooLong,
    EngineFailed,
    EngineIncomplete,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    ModelNotFound,
)

SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
SENTINEL = "sentinel-words-of-the-engine"


def sse(*documents: Any) -> bytes:
    """Events as engines write them; bytes are data as they are."""
    lines = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in documents]
    return b"".join(b"data: %b\n\n" % line for line in lines)


def chunk(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    delta = {"content": content, **more.pop("delta", {})}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def reasoned(piece: str, name: str = "reasoning_content", content: Any = None) -> dict[str, Any]:
    return chunk(content, delta={name: piece})


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DONE = b"[DONE]"


@dataclass
class Outcome:
    """What a response came to."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    failure: type[EngineFailed] | None = None
    order: list[str] = field(default_factory=list, compare=False)
    error: EngineFailed | None = field(default=None, compare=False)


def fed(decoder: OpenAIDecoder, piece: bytes, arrived: list[Event]) -> bool:
    """Give the decoder a piece as `Exchange` does."""
    token = decoder.token(piece)
    if token is None:
        return decoder.feed(piece, arrived)
    arrived.append(Event(*token))
    return False


def decoded(
    pieces: list[bytes],
    *,
    status: int = 200,
    headers: dict[str, str] = SSE,
    **options: Any,
) -> Outcome:
    decoder = OpenAIDecoder(100_000, **options)
    arrived: list[Event] = []
    outcome = Outcome()
    try:
        decoder.begin(status, headers)
        if not any(fed(decoder, piece, arrived) for piece in pieces):
            decoder.end(arrived)
    except EngineFailed as failure:
        outcome.failure, outcome.error = type(failure), failure
    if outcome.error is not None:
        assert SENTINEL not in outcome.error.detail
    for event in arrived:
        assert not (event.text and event.reasoning)
        if event.data:
            shown = json.loads(event.data)
            name = "token" if event.text else "reasoning"
            assert shown == {name: event.text or event.reasoning}
            assert b"\n" not in event.data
            outcome.order.append(name)
        outcome.text += event.text
        outcome.reasoning += event.reasoning
        outcome.usage = event.usage or outcome.usage
    outcome.finish_reason = decoder.finish_reason
    return outcome


def cuttings(body: bytes) -> Iterator[list[bytes]]:
    """The same bytes in one packet, event by event, and byte by byte."""
    yield [body]
    yield [part + b"\n\n" for part in body.split(b"\n\n")[:-1]] + [body.split(b"\n\n")[-1]]
    yield [body[at : at + 1] for at in range(len(body))]


HELLO = [chunk("Hel"), chunk("lo")]
STOP = chunk(None, "stop")

STREAMS: dict[str, tuple[bytes, Outcome]] = {
    "as OpenAI sends it": (
        sse(chunk("", delta={"role": "assistant"}), *HELLO, STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "role-only and empty deltas": (
        sse(
            {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": None}]},
            *HELLO,
            {"choices": [{"index": 0, "delta": None}]},
            {"choices": [{"index": 0}]},
            STOP,
            DONE,
        ),
        Outcome("Hello", finish_reason="stop"),
    ),
    "no choices first, as Azure's filter": (
        sse({"choices": [], "prompt_filter_results": [{"x": 1}]}, *HELLO, STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "no choices last, with usage": (
        sse(*HELLO, STOP, {"choices": [], "usage": USAGE}, DONE),
        Outcome("Hello", finish_reason="stop", usage=Usage(7, 3)),
    ),
    "choices: null": (
        sse({"choices": None}, *HELLO, STOP, {"choices": None, "usage": USAGE}, DONE),
        Outcome("Hello", finish_reason="stop", usage=Usage(7, 3)),
    ),
    "content: null": (
        sse(chunk(None, delta={"role": "assistant"}), *HELLO, chunk(None), STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "usage on the finish chunk": (
        sse(*HELLO, chunk(None, "stop", usage=USAGE), DONE),
        Outcome("Hello", finish_reason="stop", usage=Usage(7, 3)),
    ),
    "usage on every chunk": (
        sse(
            chunk("Hel", usage={"prompt_tokens": 7, "completion_tokens": 1}),
            chunk("lo", usage={"prompt_tokens": 7, "completion_tokens": 2}),
            chunk(None, "stop", usage=USAGE),
            DONE,
        ),
        Outcome("Hello", finish_reason="stop", usage=Usage(7, 3)),
    ),
    "usage: null until the end": (
        sse(*[{**c, "usage": None} for c in [*HELLO, STOP]], {"choices": [], "usage": USAGE}, DONE),
        Outcome("Hello", finish_reason="stop", usage=Usage(7, 3)),
    ),
    "usage that is none": (
        sse(*HELLO, chunk(None, "stop", usage={"prompt_tokens": "many"}), DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    'finish_reason: ""': (
        sse(chunk("Hel", ""), chunk("lo", ""), STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "finish_reason on a content chunk": (
        sse(chunk("Hel"), chunk("lo", "stop"), DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "finish_reason never sent": (sse(*HELLO, DONE), Outcome("Hello")),
    "no [DONE]": (sse(*HELLO, STOP), Outcome("Hello", finish_reason="stop")),
    "neither finish_reason nor [DONE]": (
        sse(*HELLO),
        Outcome("Hello", failure=EngineIncomplete),
    ),
    "nothing at all": (b"", Outcome(failure=EngineIncomplete)),
    "[DONE] without an end of line": (sse(*HELLO) + b"data: [DONE]", Outcome("Hello")),
    "the last chunk without a blank line": (
        sse(*HELLO, chunk("!", "stop"))[:-1],
        Outcome("Hello!", finish_reason="stop"),
    ),
    "a last chunk that is cut off": (
        sse(*HELLO, chunk("!", "stop"))[:-3],
        Outcome("Hello", failure=EngineIncomplete),
    ),
    "finish_reason: null as a word": (
        sse(chunk("Hel", "null"), chunk("lo", "None")),
        Outcome("Hello", failure=EngineIncomplete),
    ),
    "text after a finish_reason": (
        sse(chunk("Hel", "stop"), chunk("lo")),
        Outcome("Hello", finish_reason="stop", failure=EngineIncomplete),
    ),
    "finish_reason on every chunk": (
        sse(chunk("Hel", "stop"), chunk("lo", "stop")),
        Outcome("Hello", finish_reason="stop"),
    ),
    "the whole message once more, at the end": (
        sse(
            *HELLO,
            {"choices": [{"delta": {}, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
            DONE,
        ),
        Outcome("Hello", finish_reason="stop"),
    ),
    "a whole message in one event": (
        sse({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "an index that is none": (
        sse({"choices": [{"index": [0], "delta": {"content": "x"}}]}, *HELLO, STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "what follows [DONE] does not count": (
        sse(*HELLO, DONE, chunk("!")),
        Outcome("Hello"),
    ),
    "cut by length": (sse(*HELLO, chunk(None, "length"), DONE), Outcome("Hello", "", "length")),
    "cut by the content filter": (
        sse(*HELLO, chunk(None, "content_filter"), DONE),
        Outcome("Hello", "", "content_filter"),
    ),
    "other words for the end": (
        sse(*HELLO, chunk(None, "MAX_TOKENS"), DONE),
        Outcome("Hello", "", "length"),
    ),
    "an end of an unknown kind": (sse(*HELLO, chunk(None, "vibes"), DONE), Outcome("Hello")),
    "finish_reason: error": (
        sse(*HELLO, chunk(None, "error"), DONE),
        Outcome("Hello", failure=EngineFailed),
    ),
    "finish_reason: abort": (
        sse(*HELLO, chunk(None, "abort"), DONE),
        Outcome("Hello", failure=EngineIncomplete),
    ),
    "data: without a space": (
        sse(*HELLO, STOP, DONE).replace(b"data: ", b"data:"),
        Outcome("Hello", finish_reason="stop"),
    ),
    "CRLF": (
        sse(*HELLO, STOP, DONE).replace(b"\n", b"\r\n"),
        Outcome("Hello", finish_reason="stop"),
    ),
    "comments": (
        b": OPENROUTER PROCESSING\n\n" * 3 + sse(*HELLO) + b": still\n\n" + sse(STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "event: and id: lines": (
        b"".join(
            b"event: message\nid: %d\n%b" % (n, part)
            for n, part in enumerate([sse(c) for c in [*HELLO, STOP, DONE]])
        ),
        Outcome("Hello", finish_reason="stop"),
    ),
    "a byte order mark": (
        b"\xef\xbb\xbf" + sse(*HELLO, STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "blank lines first, empty data": (
        b"\n\r\n" + sse(b"", *HELLO, b"", STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "content in parts": (
        sse(
            chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
            chunk([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]),
            STOP,
            DONE,
        ),
        Outcome("Hello", "Hm.", "stop"),
    ),
    "a refusal": (
        sse(chunk(None, delta={"refusal": "I will not."}), STOP, DONE),
        Outcome("I will not.", "", "stop"),
    ),
    "a second choice": (
        sse(
            {
                "choices": [
                    {"index": 1, "delta": {"content": "x"}},
                    {"index": 0, "delta": {"content": "Hello"}},
                ]
            },
            {"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]},
            STOP,
            DONE,
        ),
        Outcome("Hello", "", "stop"),
    ),
    **{
        f"reasoning as {name}": (
            sse(reasoned("H", name), reasoned("m.", name), *HELLO, STOP, DONE),
            Outcome("Hello", "Hm.", "stop"),
        )
        for name in ("reasoning_content", "reasoning", "reasoning_text")
    },
    "reasoning twice in a delta": (
        sse(chunk(None, delta={"reasoning": "Hm.", "reasoning_content": "Hm."}), STOP, DONE),
        Outcome("", "Hm.", "stop"),
    ),
    "reasoning and text in a delta": (
        sse(reasoned("Hm.", content="Hello"), STOP, DONE),
        Outcome("Hello", "Hm.", "stop"),
    ),
    "reasoning: null and empty": (
        sse(chunk("Hello", delta={"reasoning": None, "reasoning_content": ""}), STOP, DONE),
        Outcome("Hello", "", "stop"),
    ),
    "<think> in the text": (
        sse(chunk("<think>\nHm."), chunk("\n</think>\n\nHel"), chunk("lo"), STOP, DONE),
        Outcome("Hello", "Hm.\n", "stop"),
    ),
    "<think> with nothing in it": (
        sse(chunk("<think>\n"), chunk("\n</think>\n\nHel"), chunk("lo"), STOP, DONE),
        Outcome("Hello", "", "stop"),
    ),
    "<think> that never ends": (
        sse(chunk("<think>Hm.</thi"), chunk(None, "length"), DONE),
        Outcome("", "Hm.</thi", "length"),
    ),
    "<think> later in the text is text": (
        sse(chunk("See <think>x</think>"), STOP, DONE),
        Outcome("See <think>x</think>", "", "stop"),
    ),
    "the beginning of a mark that is none": (
        sse(chunk("<thi"), STOP, DONE),
        Outcome("<thi", "", "stop"),
    ),
    "NUL and lone surrogates": (
        sse(b'{"choices":[{"delta":{"content":"a\\u0000b\\ud800"}}]}', STOP, DONE),
        Outcome("a\ufffdb\ufffd", "", "stop"),
    ),
    "U+2028 and what looks like an event": (
        sse('{"choices":[{"delta":{"content":"\u2028 \\n\\ndata: [DONE]"}}]}'.encode(), STOP, DONE),
        Outcome("\u2028 \n\ndata: [DONE]", "", "stop"),
    ),
    "OpenAI's error in the stream": (
        sse(*HELLO, {"error": {"message": SENTINEL, "type": "server_error", "code": None}}),
        Outcome("Hello", failure=EngineFailed),
    ),
    "OpenRouter's numeric code": (
        sse(*HELLO, {"error": {"code": 429, "message": SENTINEL}, "choices": []}),
        Outcome("Hello", failure=EngineOverloaded),
    ),
    "OpenRouter's 502 with a finish": (
        sse({"error": {"code": "502", "message": SENTINEL}, **chunk("", "error")}),
        Outcome(failure=EngineUnavailable),
    ),
    'vLLM\'s object: "error"': (
        sse({"object": "error", "message": SENTINEL, "type": "BadRequestError", "code": 400}),
        Outcome(failure=EngineRefused),
    ),
    "an error by its event's name, without choices": (
        b"event: error\n" + sse({"message": SENTINEL, "code": 503}),
        Outcome(failure=EngineUnavailable),
    ),
    "FastAPI's detail": (sse({"detail": SENTINEL}), Outcome(failure=EngineFailed)),
    "type: error": (
        sse({"type": "error", "code": "overloaded_error"}),
        Outcome(failure=EngineOverloaded),
    ),
    "an event of another kind": (
        sse({"type": "ping"}, *HELLO, {"object": "x.y", "choices": []}, STOP, DONE),
        Outcome("Hello", finish_reason="stop"),
    ),
    "an error that is a string": (
        sse({"error": SENTINEL}),
        Outcome(failure=EngineFailed),
    ),
    "context exceeded in the stream": (
        sse({"error": {"message": "the request exceeds the available context size"}}),
        Outcome(failure=ContextTooLong),
    ),
    "not JSON": (sse(chunk("Hello"), b"nonsense"), Outcome("Hello", failure=EngineProtocol)),
    "not an object": (sse(chunk("Hello"), b"[1]"), Outcome("Hello", failure=EngineProtocol)),
    "content of another type": (sse(chunk(7)), Outcome(failure=EngineProtocol)),
    "choices of another type": (sse({"choices": {}}), Outcome(failure=EngineProtocol)),
}


@pytest.mark.case(64)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_comes_to_the_same_in_any_cutting(name: str) -> None:
    body, expected = STREAMS[name]
    for pieces in cuttings(body):
        assert decoded(pieces) == expected


WHOLE = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
WHOLES: dict[str, tuple[bytes, dict[str, str], Outcome]] = {
    "a whole body": (json.dumps(WHOLE).encode(), JSON, Outcome("Hello", "", "stop", Usage(7, 3))),
    "a whole body called a stream": (
        json.dumps(WHOLE, indent=1).encode(),
        SSE,
        Outcome("Hello", "", "stop", Usage(7, 3)),
    ),
    "a whole body with reasoning": (
        json.dumps(
            {"choices": [{"message": {"content": "<think>b</think>Hi", "reasoning": "a"}}]}
        ).encode(),
        JSON,
        Outcome("Hi", "ab"),
    ),
    "a whole body with what JSON cannot say": (
        b'{"choices":[{"message":{"content":"a\\ud800b"},"logprobs":NaN}]}',
        JSON,
        Outcome("a\ufffdb"),
    ),
    "a stream called JSON": (sse(*HELLO, STOP, DONE), JSON, Outcome("Hello", "", "stop")),
    "a stream without a type": (sse(*HELLO, STOP, DONE), {}, Outcome("Hello", "", "stop")),
    "an error with status 200": (
        json.dumps({"error": {"message": SENTINEL, "code": "rate_limit_exceeded"}}).encode(),
        JSON,
        Outcome(failure=EngineOverloaded),
    ),
    "half a body": (json.dumps(WHOLE).encode()[:-9], JSON, Outcome(failure=EngineProtocol)),
    "a body without an answer": (b'{"choices":[]}', JSON, Outcome(failure=EngineProtocol)),
    "a login page": (b"<html>", {"content-type": "text/html"}, Outcome(failure=EngineProtocol)),
    "a login page called a stream": (b"\n<!DOCTYPE html>", SSE, Outcome(failure=EngineProtocol)),
    "a compressed stream": (
        sse(*HELLO),
        SSE | {"content-encoding": "gzip"},
        Outcome(failure=EngineProtocol),
    ),
}


@pytest.mark.case(64)
@pytest.mark.parametrize("name", WHOLES)
def test_what_is_no_stream_is_told_by_its_first_byte(name: str) -> None:
    body, headers, expected = WHOLES[name]
    for pieces in cuttings(body):
        assert decoded(pieces, headers=headers) == expected


REFUSALS: list[tuple[int, Any, type[EngineFailed]]] = [
    (400, {"error": {"message": "no"}}, EngineRefused),
    (400, {"error": {"code": "context_length_exceeded"}}, ContextTooLong),
    (400, {"error": {"type": "exceed_context_size_error", "code": 400}}, ContextTooLong),
    (400, {"object": "error", "message": "maximum context length is 10"}, ContextTooLong),
    (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}, ContextTooLong),
    (400, {"error": {"code": "content_filter", "message": SENTINEL}}, EngineRefused),
    (400, {"error": {"code": 400, "message": "x/y is not a valid model ID"}}, ModelNotFound),
    (401, {"error": {"message": SENTINEL, "code": "invalid_api_key"}}, EngineRefused),
    (402, {"error": {"code": 402, "message": "credits"}}, EngineRefused),
    (403, None, EngineRefused),
    (404, {"error": {"message": "model 'x' not found, try pulling it first"}}, ModelNotFound),
    (404, {"object": "error", "message": "The model `x` does not exist."}, ModelNotFound),
    (404, {"error": {"code": "model_not_found"}}, ModelNotFound),
    (404, {"detail": "Not Found"}, EngineRefused),
    (404, None, EngineRefused),
    (413, None, ContextTooLong),
    (422, [{"error": {"message": SENTINEL}}], EngineRefused),
    (429, {"error": {"code": "insufficient_quota"}}, EngineRefused),
    (429, {"error": {"message": SENTINEL}}, EngineOverloaded),
    (500, {"error": SENTINEL}, EngineFailed),
    (502, None, EngineUnavailable),
    (503, {"error": {"message": "Loading model", "type": "unavailable_error"}}, EngineUnavailable),
    (504, None, EngineTimeout),
    (529, {"error": {"type": "overloaded_error"}}, EngineOverloaded),
    (302, None, EngineProtocol),
    (204, None, EngineProtocol),
]


@pytest.mark.case(64)
@pytest.mark.parametrize(("status", "document", "ours"), REFUSALS)
def test_a_refusal_has_a_name_of_ours_and_its_words_go_nowhere(
    status: int, document: Any, ours: type[EngineFailed]
) -> None:
    body = b"<html>" + SENTINEL.encode() if document is None else json.dumps(document).encode()
    outcome = decoded([body], status=status, headers=JSON | {"retry-after": "7"})
    assert outcome.failure is ours
    assert outcome.error is not None
    assert outcome.error.retry_after == 7
    filtered = "content_filter" in body.decode()
    assert outcome.error.finish_reason == ("content_filter" if filtered else None)


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        ({"code": 429}, True),
        ({"code": "503"}, True),
        ({"code": 400}, False),
        ({"code": 500}, False),
    ],
)
def test_an_error_in_the_stream_may_pass_as_one_before_it(
    error: dict[str, Any], is_transient: bool
) -> None:
    outcome = decoded([sse({"error": error})])
    assert outcome.error is not None
    assert outcome.error.transient is is_transient


def test_an_error_body_without_an_end_is_not_waited_for() -> None:
    outcome = decoded([b"x" * 20_000] * 100, status=500)
    assert outcome.failure is EngineFailed


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers) == seconds


def test_reasoning_comes_before_text() -> None:
    outcome = decoded([sse(reasoned("Hm.", content="Hello"), reasoned("!", content="."), DONE)])
    assert outcome.order == ["reasoning", "token", "reasoning", "token"]


@pytest.mark.case(64)
@pytest.mark.parametrize("at", range(len("<think>plan</think>Hello") + 1))
def test_think_marks_may_be_split_anywhere(at: int) -> None:
    text = "<think>plan</think>Hello"
    outcome = decoded([sse(chunk(text[:at]), chunk(text[at:]), STOP, DONE)])
    assert (outcome.text, outcome.reasoning) == ("Hello", "plan")


def test_no_more_is_held_back_than_a_mark() -> None:
    decoder = OpenAIDecoder(100_000)
    text = "<think>" + "a" * 20 + "</think> b"
    seen = 0
    for count, letter in enumerate(text, 1):
        arrived: list[Event] = []
        decoder.feed(sse(chunk(letter)), arrived)
        seen += sum(len(e.text) + len(e.reasoning) for e in arrived)
        marks = len("<think>") if count > 7 else 0
        marks += len("</think> ") if count >= text.index(" ") else 0
        assert count - marks - seen <= len("</think>")


# --- chunks of one form -------------------------------------------------------------------------


def raw(content: bytes, created: int = 1) -> bytes:
    return (
        b'{"id":"c","created":%d,"choices":[{"index":0,"delta":{"content":%b},'
        b'"finish_reason":null}],"model":"m"}' % (created, content)
    )


TEXTS = st.text(st.characters(exclude_categories=[]), max_size=6)


@pytest.mark.case(64)
@given(
    st.lists(
        st.tuples(TEXTS, st.booleans(), st.integers(1, 2), st.sampled_from(["", "x", "<think>"])),
        max_size=12,
    )
)
def test_a_chunk_of_the_form_learnt_is_read_as_any_other(
    chunks: list[tuple[str, bool, int, str]],
) -> None:
    documents = [
        raw(json.dumps(before + text, ensure_ascii=escaped).encode("utf-8", "surrogatepass"), at)
        for text, escaped, at, before in chunks
    ]
    at_once = decoded([sse(raw(b'"a"'), *documents, DONE)])
    # A field more before every chunk, and no form is ever learnt.
    each = [b'{"n%d":0,' % n + d[1:] for n, d in enumerate([raw(b'"a"'), *documents])]
    assert at_once == decoded([sse(*each, DONE)])


@pytest.mark.parametrize(
    "strange",
    [
        raw(b'"b","x":"c"'),
        raw(b'null,"reasoning":"b"'),
        raw(b'"b"').replace(b"null}", b'"stop"}'),
        raw(b'"b"').replace(b'"m"', b'"m","usage":{"prompt_tokens":1,"completion_tokens":2}'),
        b'{"id":"c","created":1,"choices":[{"index":0,"delta":{"content":"',
        raw(b'"\xff"'),
        raw(b'"b\nc"'),
    ],
)
def test_a_chunk_that_only_looks_alike_is_read_for_itself(strange: bytes) -> None:
    alike = decoded([sse(raw(b'"a"'), strange, DONE)])
    first = b'{"first":0,' + raw(b'"a"')[1:]
    assert alike == decoded([sse(first, strange, DONE)])


def test_a_learnt_form_spares_the_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = OpenAIDecoder(100_000)
    arrived: list[Event] = []
    decoder.feed(sse(raw(b'"a"')), arrived)
    monkeypatch.setattr(decoder, "_take", None)
    decoder.feed(sse(raw('"b\u00e4"'.encode()), raw(b'""'), raw(b'"\\n"')), arrived)
    assert decoder.token(sse(raw(b'"c"'))) == (b'{"token":"c"}', "c")
    assert decoder.token(sse(raw(b'""'))) is None
    assert decoder.token(sse(raw(b'"c"'), raw(b'"c"'))) is None
    assert [event.text for event in arrived] == ["a", "b\u00e4", "\n"]
    assert [orjson.loads(event.data)["token"] for event in arrived] == ["a", "b\u00e4", "\n"]


# --- going on -----------------------------------------------------------------------------------


def test_a_continued_answer_has_no_think_at_its_beginning() -> None:
    outcome = decoded([sse(chunk("<think> is a mark."), DONE)], beginning="The word ")
    assert (outcome.text, outcome.reasoning) == ("<think> is a mark.", "")


def test_a_whole_body_repeats_the_beginning() -> None:
    outcome = decoded([json.dumps(WHOLE).encode()], headers=JSON, beginning="Hel")
    assert outcome == Outcome("lo", "", "stop", Usage(7, 3))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_answer_that_begins_again_is_found_out(size: int) -> None:
    text = "The capital of France is Paris, of course."
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    again = decoded(
        [sse(*map(chunk, pieces), DONE)], beginning="The capital of France is Pa", verify_seam=True
    )
    assert again == Outcome(failure=EngineRefused)
    going_on = decoded(
        [sse(*map(chunk, pieces), DONE)], beginning="Then she said: ", verify_seam=True
    )
    assert going_on == Outcome(text)
