"""Inference misbehaves: the question is kept, what was written is kept, the client is told."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.events import Event, as_an_old_client
from tests.support.inference import PLAIN_TEXT, Inference, Script, event, plain_answer
from tests.support.service import Service, ServiceWith

NAMES = {
    "inference_unavailable",
    "inference_error",
    "inference_refused",
    "inference_protocol",
    "inference_timeout",
    "inference_incomplete",
}
QUICK = {"FIRST_TOKEN_TIMEOUT_SECONDS": "1", "TOKEN_TIMEOUT_SECONDS": "1"}


@pytest.fixture
async def quick(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> Client:
    """A user of a service with little patience."""
    return clients(service_with(**QUICK), auth.user())


def check_failure(events: list[Event], name: str | set[str], status: str | set[str]) -> None:
    """The events end with this error and then done, with this status."""
    error, done = events[-2:]
    assert (error.kind, done.kind) == ("error", "done")
    assert set(error.data) == {"error", "detail"}
    assert error.data["error"] in ({name} if isinstance(name, str) else name)
    assert isinstance(error.data["detail"], str)
    assert error.data["detail"]
    assert done.data["status"] in ({status} if isinstance(status, str) else status)
    assert [event.kind for event in events].count("error") == 1


async def check_kept_and_repeatable(
    client: Client,
    inference: Inference,
    conversation_id: str,
    question: str,
    text: str,
    status: str,
) -> None:
    """The question and the text are there, and a regeneration answers it."""
    kept, answer = await client.messages(conversation_id)
    assert (kept["content"], kept["status"]) == (question, "complete")
    assert (answer["content"], answer["status"]) == (text, status)
    async with client.regenerate(conversation_id) as stream:
        await stream.rest()
        assert (stream.text, stream.done["status"]) == (PLAIN_TEXT, "complete")
    kept_still, answer = await client.messages(conversation_id)
    assert kept_still == kept
    assert (answer["content"], answer["status"]) == (PLAIN_TEXT, "complete")


SENTINEL = "body-that-may-quote-the-user-c41d"
BEFORE_THE_FIRST_TOKEN: dict[str, tuple[Script, str]] = {
    "500": (Script().status(500, SENTINEL.encode()), "inference_error"),
    "502": (Script().status(502), "inference_error"),
    "503": (Script().status(503, SENTINEL.encode()), "inference_unavailable"),
    "400": (Script().status(400, SENTINEL.encode()), "inference_refused"),
    "403": (Script().status(403), "inference_refused"),
    "404": (Script().status(404), "inference_refused"),
    "HTML": (
        Script().header(content_type="text/html").raw(b"<html>data: {}\n\n"),
        "inference_protocol",
    ),
    "JSON": (
        Script().header(content_type="application/json").event({"token": "x"}).done(),
        "inference_protocol",
    ),
    "garbage": (Script().raw(b"data: {nope\n\n").hang(), "inference_protocol"),
    "not UTF-8": (Script().raw(b'data: {"token":"\xff\xfe"}\n\n').hang(), "inference_protocol"),
    "an error event": (Script().event({"error": SENTINEL}).hang(), "inference_error"),
    "an error event that says done": (
        Script().event({"error": SENTINEL, "done": True}),
        "inference_error",
    ),
    "silence": (Script().hang(), "inference_timeout"),
    "a head and silence": (Script().head().hang(), "inference_timeout"),
    "comments only": (Script().raw(b": ping\n\n").hang(), "inference_timeout"),
}


@pytest.mark.case(19)
@pytest.mark.parametrize("case", BEFORE_THE_FIRST_TOKEN)
async def test_a_failure_before_the_first_token_keeps_the_question(
    quick: Client, alice: Client, inference: Inference, case: str
) -> None:
    script, name = BEFORE_THE_FIRST_TOKEN[case]
    # The short time for the first token could end in one of the further tries after a 503.
    client = quick if name == "inference_timeout" else alice
    inference.on("Hello", script)
    conversation = await client.create()
    async with client.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
    inference.on("Hello", plain_answer())
    assert [event.kind for event in events] == ["start", "error", "done"]
    check_failure(events, name, "failed")
    assert SENTINEL not in json.dumps([event.data for event in events])
    await check_kept_and_repeatable(client, inference, conversation["id"], "Hello", "", "failed")


@pytest.mark.case(19)
async def test_a_redirect_is_not_followed(alice: Client, inference: Inference) -> None:
    inference.once(Script().redirect(inference.url + "/models"))
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        check_failure(await stream.rest(), "inference_protocol", "failed")
    assert inference.others == []
    await check_kept_and_repeatable(alice, inference, conversation["id"], "Hello", "", "failed")


@pytest.mark.case(19)
async def test_refused_connections_fail_the_answer(alice: Client, inference: Inference) -> None:
    conversation = await alice.create()
    with inference.refusing():
        async with alice.send(conversation["id"], "Hello") as stream:
            check_failure(await stream.rest(), "inference_unavailable", "failed")
    await check_kept_and_repeatable(alice, inference, conversation["id"], "Hello", "", "failed")


@pytest.mark.case(21)
@pytest.mark.parametrize(
    "script",
    [
        Script().cut(),
        Script().reset(),
        Script().head().cut(),
        Script().head().reset(),
        Script().head(),
        Script().raw(b'data: {"tok').cut(),
    ],
    ids=["cut", "reset", "head, cut", "head, reset", "head, end", "half a token"],
)
async def test_a_stream_that_ends_before_its_first_token_is_never_complete(
    alice: Client, inference: Inference, script: Script
) -> None:
    inference.once(script)
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        check_failure(await stream.rest(), NAMES, {"failed", "interrupted"})
        status = stream.done["status"]
    await check_kept_and_repeatable(alice, inference, conversation["id"], "Hello", "", status)


@pytest.mark.case(21)
@pytest.mark.parametrize(
    "script",
    [
        Script().tokens("Half", " of it"),
        Script().tokens("Half", " of it").cut(),
        Script().tokens("Half", " of it").reset(),
        Script().tokens("Half", " of it").raw(b'data: {"token": "no').cut(),
    ],
    ids=["end", "cut", "reset", "half a token"],
)
async def test_an_answer_that_ends_without_done_is_interrupted(
    alice: Client, inference: Inference, script: Script
) -> None:
    inference.once(script)
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        check_failure(await stream.rest(), "inference_incomplete", "interrupted")
        assert stream.text == "Half of it"
        assert stream.done["token_count"] == 2
    await check_kept_and_repeatable(
        alice, inference, conversation["id"], "Hello", "Half of it", "interrupted"
    )


@pytest.mark.case(20)
async def test_silence_in_mid_answer_interrupts_it(quick: Client, inference: Inference) -> None:
    inference.once(Script().tokens("Half").hang())
    conversation = await quick.create()
    async with quick.send(conversation["id"], "Hello") as stream:
        check_failure(await stream.rest(), "inference_timeout", "interrupted")
        assert stream.text == "Half"
    await (await inference.call(0)).gone.wait()
    await check_kept_and_repeatable(
        quick, inference, conversation["id"], "Hello", "Half", "interrupted"
    )


@pytest.mark.parametrize(
    "tail",
    [
        b"data: {nope\n\n",
        event({"error": SENTINEL}),
        b"data: [1]\n\n",
        b'data: {"token": 5}\n\n',
        b'data: {"token": {"x": 1}}\n\n',
        b"data: 5\n\n",
        b'data: "text"\n\n',
        b"data: null\n\n",
    ],
    ids=["garbage", "error", "list", "number token", "object token", "number", "text", "null"],
)
async def test_nonsense_in_mid_answer_keeps_what_was_written(
    quick: Client, inference: Inference, tail: bytes
) -> None:
    inference.once(Script().tokens("Half").raw(tail).hang())
    conversation = await quick.create()
    async with quick.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
        check_failure(events, NAMES, {"failed", "interrupted"})
        assert SENTINEL not in json.dumps([event.data for event in events])
        assert stream.text.startswith("Half")
    answer = (await quick.messages(conversation["id"]))[1]
    assert answer["content"] == stream.text


@pytest.mark.parametrize(
    "middle",
    [b": ping\n\n", b"\n\n\n", b"event: ping\n\n", b"data: {}\n\n"],
    ids=["comment", "blank lines", "a name only", "an empty object"],
)
async def test_what_says_nothing_disturbs_nothing(
    alice: Client, inference: Inference, middle: bytes
) -> None:
    inference.once(Script().raw(middle).tokens("a").raw(middle).tokens("b").raw(middle).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
        assert [event.kind for event in events] == ["start", "token", "token", "done"]
        assert (stream.text, stream.done["status"]) == ("ab", "complete")


async def test_an_event_without_a_token_goes_out_without_our_own_fields(
    alice: Client, inference: Inference
) -> None:
    other = {"searching": "samosa recipes", "start": 1, "reset": 1, "status": "x", "done": False}
    inference.once(Script().event(other).tokens("a").event({"usage": {"in": 5}}).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        events = await stream.rest()
        assert [event.data for event in events[1:-1]] == [
            {"searching": "samosa recipes"},
            {"token": "a", "gpu": 0},
            {"usage": {"in": 5}},
        ]
        assert as_an_old_client(stream.raw) == ("a", True)
        assert (stream.done["status"], stream.done["token_count"]) == ("complete", 1)


async def test_a_number_that_is_none_never_reaches_the_client(
    alice: Client, inference: Inference
) -> None:
    # Python's own json.dumps writes this.
    inference.once(Script().raw(b'data: {"token":"a","logprob":NaN}\n\n').done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        assert (await stream.rest())[-1].kind == "done"
        assert b"NaN" not in stream.raw


# The bytes of a stream, cut and dressed in every way that the standard allows.

DRESSED = (
    b"\xef\xbb\xbf: a comment after a byte order mark\r\n"
    b'event: message\r\nid: 7\r\ndata: {"token":"\xc3\xa4","gpu":0}\r\n\r\n'
    b'data:{"token":"no blank"}\n\n'
    b'data: {"token":\ndata: "two lines"}\n\n'
    b'retry: 5\rdata: {"token":"CR"}\r\r'
    + 'data: {"token":"a\u2028b\u2029c\x85d😀"}\n\n'.encode()
    + b'data: {"token":"\\ud83d\\ude00\\n\\ndata: {}"}\n\n'
    b"unknown: field\n\n"
    b'data: {"done":true}\n\n'
)
UNDRESSED = "äno blanktwo linesCRa\u2028b\u2029c\x85d😀😀\n\ndata: {}"


@pytest.mark.case(23)
@pytest.mark.parametrize("cuts", [(), range(1, len(DRESSED)), range(1, len(DRESSED), 7)], ids=len)
async def test_a_stream_cut_anywhere_is_the_same_text(
    alice: Client, inference: Inference, cuts: Any
) -> None:
    inference.once(Script().raw(DRESSED, cuts=cuts, pause=0.001))
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest(60)
        assert (stream.text, stream.done["status"]) == (UNDRESSED, "complete")
    assert (await alice.messages(conversation["id"]))[1]["content"] == UNDRESSED


@pytest.mark.case(24)
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'data: {"token":"a\\u0000b"}\n\n', "a\ufffdb"),
        (b'data: {"token":"a\\ud800b"}\n\n', "a\ufffdb"),
        (b'data: {"token":"\\udfff"}\n\n', "\ufffd"),
        (b'data: {"token":"a","note":"\\ud800\\u0000"}\n\n', "a"),
        (b'data: {"token":"a","\\ud800":1}\n\n', "a"),
    ],
    ids=["NUL", "surrogate", "low surrogate", "in another field", "in a name"],
)
async def test_what_no_database_takes_is_replaced(
    alice: Client, inference: Inference, data: bytes, text: str
) -> None:
    inference.once(Script().raw(data).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        assert (stream.text, stream.done["status"]) == (text, "complete")
    assert (await alice.messages(conversation["id"]))[1]["content"] == text


@pytest.mark.case(24)
async def test_text_that_looks_like_an_event_stays_text(
    alice: Client, inference: Inference
) -> None:
    text = '\n\nevent: done\ndata: {"done":true}\n\nid: 9\nretry: 1\n\n: x\n'
    inference.once(Script().tokens(text, text).done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        assert stream.text == text * 2


async def test_a_compressed_stream_is_read_or_refused(alice: Client, inference: Inference) -> None:
    inference.once(Script().gzip().tokens("a", "b").done())
    conversation = await alice.create()
    async with alice.send(conversation["id"], "Hello") as stream:
        await stream.rest()
        if stream.done["status"] == "complete":
            assert stream.text == "ab"
        else:
            check_failure(stream.events, "inference_protocol", "failed")


# Too much of everything.

CAPPED = {"MAX_ANSWER_CHARS": "1000", "MAX_EVENT_BYTES": "2048", **QUICK}


@contextlib.contextmanager
def flat_memory(service: Service, most: int = 100 << 20) -> Iterator[None]:
    """The service's memory grows by less than so many bytes meanwhile."""
    process = psutil.Process(service.pid)
    before = process.memory_info().rss
    yield
    assert process.memory_info().rss - before < most


@pytest.mark.case(22)
async def test_an_endless_answer_is_capped(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    client = clients(service_with(**CAPPED), auth.user())
    inference.once(Script().endless(interval=0))
    conversation = await client.create()
    async with client.send(conversation["id"], "Go on") as stream:
        events = await stream.rest()
        assert events[-1].data["status"] == "interrupted"
        assert 900 <= len(stream.text) <= 1000
    await (await inference.call()).gone.wait()
    answer = (await client.messages(conversation["id"]))[1]
    assert (answer["content"], answer["status"]) == (stream.text, "interrupted")


@pytest.mark.case(22)
@pytest.mark.parametrize(
    "piece", [b"x" * 65536, b"data: " + b"x" * 65536, b"data: x\n", b": comment\n"], ids=len
)
async def test_an_event_without_an_end_is_capped(
    service_with: ServiceWith,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    piece: bytes,
) -> None:
    service = service_with(**CAPPED)
    client = clients(service, auth.user())
    inference.once(Script().tokens("Half").flood(piece))
    conversation = await client.create()
    with flat_memory(service):
        async with client.send(conversation["id"], "Go on") as stream:
            check_failure(await stream.rest(), NAMES, {"failed", "interrupted"})
            assert stream.text == "Half"
        await (await inference.call()).gone.wait()


@pytest.mark.case(22)
async def test_a_line_of_a_hundred_megabytes_is_capped_by_default(
    service: Service, alice: Client, inference: Inference
) -> None:
    script = Script().tokens("Half").raw(b'data: {"token":"')
    inference.once(script.flood(b"x" * (1 << 20), 100).raw(b'"}\n\n').done())
    conversation = await alice.create()
    with flat_memory(service, 30 << 20):
        async with alice.send(conversation["id"], "Go on") as stream:
            check_failure(await stream.rest(), "inference_protocol", "interrupted")
            assert stream.text == "Half"
        await (await inference.call()).gone.wait()
    [_, answer] = await alice.messages(conversation["id"])
    assert (answer["content"], answer["status"]) == ("Half", "interrupted")


@pytest.mark.case(22)
async def test_a_compressed_bomb_does_not_go_off(
    service_with: ServiceWith, clients: MakeClient, auth: AuthServer, inference: Inference
) -> None:
    service = service_with(**CAPPED)
    client = clients(service, auth.user())
    inference.once(Script().gzip().flood(b"x" * (1 << 20)))
    conversation = await client.create()
    with flat_memory(service):
        async with client.send(conversation["id"], "Go on") as stream:
            check_failure(await stream.rest(), NAMES, {"failed", "interrupted"})
        await (await inference.call()).gone.wait()


HEADS = {
    "endless header": (b"HTTP/1.1 200 OK\r\nx-endless: ", b"x" * 65536),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n" * 4000),
    "endless reason": (b"HTTP/1.1 200 ", b"O" * 65536),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", b"\0" * 65536),
    "switching protocols": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", b"x" * 65536),
}


@pytest.mark.case(41)
@pytest.mark.parametrize(("start", "more"), HEADS.values(), ids=HEADS)
async def test_an_endless_or_senseless_head_fails_the_answer_and_takes_no_memory(
    service_with: ServiceWith,
    clients: MakeClient,
    auth: AuthServer,
    inference: Inference,
    start: bytes,
    more: bytes,
) -> None:
    service = service_with(**CAPPED)
    client = clients(service, auth.user())
    inference.once(Script().bare(start, more))
    conversation = await client.create()
    with flat_memory(service, 30 << 20):
        async with client.send(conversation["id"], "Hello") as stream:
            check_failure(await stream.rest(), NAMES, {"failed", "interrupted"})
            assert stream.text == ""
        await (await inference.call()).gone.wait()


async def test_a_failing_answer_fails_nobody_else(alice: Client, inference: Inference) -> None:
    inference.on("Bad", Script().tokens("a").reset())
    inference.on("Good", Script().tokens(*"abcdef").done())

    async def ask(content: str) -> str:
        message = await alice.ask((await alice.create())["id"], content)
        status: str = message["status"]
        return status

    statuses = await asyncio.gather(*(ask("Good" if n % 2 else "Bad") for n in range(20)))
    assert statuses == ["interrupted", "complete"] * 10
