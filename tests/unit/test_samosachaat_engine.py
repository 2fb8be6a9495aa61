"""The engine's client: what it makes of events, errors and odd responses."""

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.support.receiving import Collected

from chat_api.engines import http as module
from chat_api.engines.engine import Event, EventReceiver, Request
from chat_api.engines.http import EngineHttp, translate
from chat_api.engines.samosachaat import (
    RESERVED,
    SamosachaatDecoder,
    SamosachaatEngine,
    decode_event,
)
from chat_api.errors import (
    EngineFailed,
    EngineIncomplete,
    EngineOverloaded,
    EngineProtocol,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
)

# --- events ---------------------------------------------------------------------------------------


def of(document: object) -> Event | None:
    return decode_event(json.dumps(document).encode())


def passed_on(data: bytes) -> Any:
    event = decode_event(data)
    assert event is not None
    assert b"\n" not in event.data
    return json.loads(event.data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"token":"Hel","gpu":0}',
        b'{ "token" : "Hel" , "x" : [1, 2.5, null, {"y": true}] }',
        b'{"token":""}',
        b'{"token":null}',
        b'{"usage":{"tokens":7}}',
        '{"token":"ä\u2028\u2029\u0085😀"}'.encode(),
        b'{"token":"\\n\\ndata: {\\"done\\":true}"}',
        b'{"gpu":18446744073709551615}',
        b'{"nested":{"done":true,"status":"x"}}',
    ],
)
def test_what_needs_no_change_is_passed_on_byte_by_byte(data: bytes) -> None:
    event = decode_event(data)
    assert event is not None
    assert event.data == data
    assert event.text == (json.loads(data).get("token") or "")


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("value", [True, 1, "x", {"content": "x"}, None, False])
def test_our_own_fields_are_dropped_from_a_token(name: str, value: object) -> None:
    event = of({"token": "Hel", "gpu": 0, name: value})
    assert event is not None
    assert (json.loads(event.data), event.text) == ({"token": "Hel", "gpu": 0}, "Hel")


@pytest.mark.parametrize("name", ["status", "reset", "done"])
def test_our_own_fields_are_dropped_however_they_are_spelt(name: str) -> None:
    spelt = "".join(f"\\u{ord(letter):04x}" for letter in name)
    assert passed_on(b'{"token":"a","%b":1}' % spelt.encode()) == {"token": "a"}


def test_the_contract_s_reserved_fields_are_those() -> None:
    assert {"start", "reset", "snapshot", "error", "done", "message_id", "status"} == RESERVED


def test_the_final_event_ends_the_answer() -> None:
    assert of({"done": True}) is None
    assert of({"done": True, "usage": {"tokens": 7}}) is None
    assert of({"done": True, "token": None}) is None


@pytest.mark.parametrize("value", [False, None, 1, "true", [], {}])
def test_only_true_is_the_end(value: object) -> None:
    event = of({"done": value})
    assert event is not None
    assert event.data == b"{}"


def test_a_token_beside_done_is_a_token() -> None:
    event = of({"token": "a", "done": True})
    assert event is not None
    assert event.text == "a"


@pytest.mark.parametrize("value", ["out of memory", {"code": 7}, True, 1])
def test_an_error_event_fails_the_answer(value: object) -> None:
    with pytest.raises(EngineFailed) as caught:
        of({"error": value, "done": True})
    assert type(caught.value) is EngineFailed
    assert "memory" not in caught.value.detail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"[DONE]",
        b"[]",
        b"[{}]",
        b"null",
        b"true",
        b"7",
        b'"token"',
        b"{",
        b'{"token":"a"}}',
        b"{'token':'a'}",
        b'{"token":"\x01"}',
        b'{"token":"\xff"}',
        b'{"token":7}',
        b'{"token":true}',
        b'{"token":["a"]}',
        b'{"token":{"text":"a"}}',
        b'{"token":false}',
        b'{"token":"\\ud8"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"token":"a","n":%b}' % (b"9" * 5000),
    ],
)
def test_what_is_no_event_breaks_the_protocol(data: bytes) -> None:
    with pytest.raises(EngineProtocol):
        decode_event(data)


@pytest.mark.case(24)
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b'"a\\u0000b"', "a\ufffdb"),
        (b'"\\ud800"', "\ufffd"),
        (b'"\\udc00\\ud800"', "\ufffd\ufffd"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"x\\ud83d"', "x\ufffd"),
        (b'"\\u00e4"', "ä"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\xed\xa0\x80"', "\ufffd"),
    ],
)
def test_what_postgresql_cannot_store_is_replaced(sent: bytes, text: str) -> None:
    event = decode_event(b'{"token":%b,"more":[%b],"and":{%b:1}}' % (sent, sent, sent))
    assert event is not None
    assert event.text == text
    assert json.loads(event.data) == {"token": text, "more": [text], "and": {text: 1}}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_what_is_no_number_becomes_null(number: bytes) -> None:
    assert passed_on(b'{"token":"a","gpu":%b}' % number) == {"token": "a", "gpu": None}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**30, -(10**300)])
def test_a_big_integer_is_a_number(number: int) -> None:
    assert passed_on(b'{"token":"a","gpu":%d}' % number)["gpu"] == pytest.approx(number)
    assert passed_on(b'{"token":"\\ud800","gpu":%d}' % number)["gpu"] == pytest.approx(number)


@pytest.mark.parametrize("digits", [310, 4000])
def test_an_integer_beyond_all_floats_is_no_crash(digits: int) -> None:
    with suppress(EngineProtocol):  # so may it be
        assert passed_on(b'{"token":"a","gpu":%b}' % (b"9" * digits))["token"] == "a"


@pytest.mark.parametrize("depth", [10, 200, 253, 300, 1023, 1024, 2000])
@pytest.mark.parametrize("before", [b"", b'"escaped":"\\u00e4",', b'"lone":"\\ud800",'])
def test_deep_nesting_is_no_crash(depth: int, before: bytes) -> None:
    data = b'{%b"token":"a","x":%b%b}' % (before, b"[" * depth, b"]" * depth)
    try:
        event = decode_event(data)
    except EngineProtocol:
        assert depth > 200
    else:
        assert event is not None
        assert event.text == "a"


@pytest.mark.parametrize("more", [b'"status":1', b'"x":"\\u00e4"', b'"x":NaN'])
def test_an_event_without_a_token_has_no_text(more: bytes) -> None:
    event = decode_event(b'{"token":null,%b}' % more)
    assert event is not None
    assert event.text == ""


def test_several_lines_become_one() -> None:
    assert passed_on(b'{"token":\n"a"\n}') == {"token": "a"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=[]), max_size=6), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    document=st.dictionaries(
        st.sampled_from(["token", "gpu", *sorted(RESERVED)]) | st.text(max_size=4), JSON, max_size=5
    ),
    ensure_ascii=st.booleans(),
)
def test_whatever_comes_what_goes_on_is_storable_and_ours(
    document: dict[str, Any], ensure_ascii: bool
) -> None:
    data = json.dumps(document, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    try:
        event = decode_event(data)
    except EngineFailed:
        return
    if event is None:
        assert document["done"] is True
        return
    text = event.data.decode()  # strictly UTF-8
    assert "\n" not in text
    assert "\0" not in text
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert RESERVED.isdisjoint(read)
    assert "\0" not in json.dumps(read, ensure_ascii=False)
    assert (read.get("token") or "") == (event.text or "")
    json.dumps(read, ensure_ascii=False).encode()  # no lone surrogate in it


# --- errors ---------------------------------------------------------------------------------------


def kinds_below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from kinds_below(child)


AIOHTTP_ERRORS = sorted(
    {kind for kind in kinds_below(aiohttp.ClientError) if kind.__module__.startswith("aiohttp")},
    key=lambda kind: kind.__name__,
)


# We follow no redirect and check addresses at start; an upload that is cut off says so otherwise.
LAST_RESORT = {
    "NonHttpUrlClientError",
    "NonHttpUrlRedirectClientError",
    "RedirectClientError",
    "UploadAbortedError",
}


@pytest.mark.parametrize("kind", AIOHTTP_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_has_a_name_of_ours(kind: type[BaseException]) -> None:
    """Its family's: the last resort is for what cannot happen, and what aiohttp adds later."""
    fitting = [ours for theirs, ours in module.TRANSLATION if issubclass(kind, theirs)]
    assert fitting
    assert (fitting[0] is EngineFailed) == (kind.__name__ in LAST_RESORT)
    assert isinstance(translate(kind.__new__(kind)), fitting[0])


def test_nothing_else_that_aiohttp_exports_is_raised_by_its_client() -> None:
    strangers = {
        name
        for name, value in vars(aiohttp).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and not issubclass(value, aiohttp.ClientError | OSError)
    }
    # Of multipart readers, websockets and servers.
    assert strangers <= {
        "BadContentDispositionHeader",
        "BadContentDispositionParam",
        "EofStream",
        "WSMessageTypeError",
        "WebSocketError",
    }


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (aiohttp.ConnectionTimeoutError(), EngineUnavailable),
        (aiohttp.SocketTimeoutError(), EngineTimeout),
        (aiohttp.ServerTimeoutError(), EngineTimeout),
        (TimeoutError(), EngineTimeout),
        (aiohttp.ServerDisconnectedError(), EngineUnavailable),
        (aiohttp.ClientConnectionResetError(), EngineUnavailable),
        (aiohttp.ClientPayloadError(), EngineProtocol),
        (aiohttp.InvalidURL("http://"), EngineUnavailable),
        (aiohttp.ClientError(), EngineFailed),
        (ConnectionResetError(), EngineUnavailable),
        (OSError(), EngineUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_kind_of_failure_keeps_its_meaning(
    error: BaseException, ours: type[EngineFailed]
) -> None:
    assert type(translate(error)) is ours


def test_what_the_http_client_does_not_raise_is_not_translated() -> None:
    for stranger in (ValueError("sentinel"), asyncio.CancelledError(), KeyError()):
        with pytest.raises(TypeError) as caught:
            translate(stranger)
        assert "sentinel" not in str(caught.value)


# --- streams --------------------------------------------------------------------------------------


class Engine:
    """An inference service whose next response a test writes by hand."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers = {"content-type": "text/event-stream"}
        self.pieces: list[bytes] = []
        self.abort = False
        self.seen: list[tuple[str, Any]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.path, json.loads(body) if body else None))
        self.request_headers = request.headers
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
        if self.abort:
            assert request.transport is not None
            request.transport.abort()
        return response


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    engine.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield engine
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling(
    engine: Engine, *, max_event_bytes: int = 2000
) -> AsyncIterator[SamosachaatEngine]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        client = SamosachaatEngine(
            EngineHttp(
                http,
                name="test",
                url=engine.url,
                headers=[("X-Internal-API-Key", "the-key")],
                connect_timeout_seconds=5,
                max_event_bytes=max_event_bytes,
            ),
            name="test",
            swap_timeout_seconds=5,
        )
        yield client
        client.close()


async def generated(engine: Engine) -> tuple[str, EngineFailed | None]:
    """The text that comes out, and what ended it early."""
    received = Collected()
    failure: EngineFailed | None = None
    async with calling(engine) as client:
        try:
            request = Request("", [{"role": "user", "content": "Hi"}], "trace")
            await client.generate(request, received)
        except EngineFailed as error:
            failure = error
    return received.text, failure


TOKEN = b'data: {"token":"a"}\n\n'
DONE = b'data: {"done":true}\n\n'


async def test_an_answer_is_read_to_its_done(engine: Engine) -> None:
    engine.pieces = [TOKEN, b": comment\n\n", TOKEN + TOKEN, DONE, TOKEN]
    assert await generated(engine) == ("aaa", None)
    assert engine.seen == [("/generate", {"messages": [{"role": "user", "content": "Hi"}]})]
    assert engine.request_headers["x-internal-api-key"] == "the-key"
    assert engine.request_headers["x-trace-id"] == "trace"
    assert engine.request_headers["accept-encoding"] == "identity"


class Text(str):
    """A string that can be watched."""

    __slots__ = ("__weakref__",)


@pytest.mark.case(96)
async def test_the_prompt_is_let_go_of_once_the_answer_has_begun(engine: Engine) -> None:
    engine.pieces = [TOKEN, DONE]
    prompt = Text("What is a samosa?")
    watched = weakref.ref(prompt)
    request = Request("", [{"role": "user", "content": prompt}], "trace")
    del prompt
    kept: list[Text | None] = []

    class Watching(EventReceiver):
        def take(self, _arrived: list[Event], /) -> None:
            request.messages.clear()  # as `Engines` does
            kept.append(watched())

    async with calling(engine) as client:
        await client.generate(request, Watching())
    assert kept
    assert set(kept) == {None}


# What `token` takes and what it leaves to `feed`.
ALONE = [
    TOKEN,
    b'data: {"token":" \xc3\xa4\\n","gpu":0}\n\n',
    b'data: {"gpu":[], "token":"b"} \n\n',
]
NOT_ALONE = [
    b'data: {"token":""}\n\n',
    b'data: {"token":1}\n\n',
    b'data: {"token":"\\u0000"}\n\n',
    b'data: {"token":"a","status":1}\n\n',
    b'data: {"token":\r"a"}\n\n',
    b'data: {"token":\ndata: "a"}\n\n',
    b'data: {"token":"a"}\n',
    b'data:{"token":"a"}\n\n',
    b'data: ["token"]\n\n',
    b"data: token\n\n",
    b'data: {"token":"\xff"}\n\n',
    b'data: {"token":"' + b"a" * 1000 + b'"}\n\n',
    b'id: {"token":"a"}\n\n',
    b": comment\n\n",
    TOKEN + TOKEN,
    DONE,
]


def decoder_after(before: bytes) -> SamosachaatDecoder:
    decoder = SamosachaatDecoder(1000)
    decoder.feed(before, [])
    return decoder


@pytest.mark.parametrize("body", ALONE)
def test_a_token_that_arrives_alone_takes_the_short_way(body: bytes) -> None:
    token = decoder_after(TOKEN).token(body)
    assert token is not None
    arrived: list[Event] = []
    assert not decoder_after(TOKEN).feed(body, arrived)
    assert arrived == [Event(*token)]
    for unfinished in (b"d", b"data: 1\n", b"data: 1\r"):
        assert decoder_after(TOKEN + unfinished).token(body) is None


@pytest.mark.parametrize("body", NOT_ALONE)
def test_anything_else_does_not(body: bytes) -> None:
    assert decoder_after(TOKEN).token(body) is None


@pytest.mark.case(21)
@pytest.mark.parametrize("pieces", [[], [TOKEN], [TOKEN, b'data: {"done":true}'], [DONE[:-1]]])
async def test_a_stream_without_its_done_is_incomplete(pieces: list[bytes], engine: Engine) -> None:
    engine.pieces = pieces
    text, error = await generated(engine)
    assert text == "a" * pieces.count(TOKEN)
    assert type(error) is EngineIncomplete


async def test_a_reset_in_mid_answer_keeps_what_came(engine: Engine) -> None:
    engine.pieces, engine.abort = [TOKEN, TOKEN], True
    text, error = await generated(engine)
    assert (text, type(error)) in [("aa", EngineIncomplete), ("", EngineUnavailable)]


@pytest.mark.parametrize(
    "bad", [b"data: nonsense\n\n", b"data: []\n\n", b"data: " + b"x" * 3000, b"data:\n" * 1000]
)
async def test_nonsense_in_mid_answer_keeps_what_came(bad: bytes, engine: Engine) -> None:
    engine.pieces = [TOKEN + TOKEN + bad, DONE]
    text, error = await generated(engine)
    assert (text, type(error)) == ("aa", EngineProtocol)


@pytest.mark.case(19)
@pytest.mark.parametrize(
    ("status", "ours"),
    [
        (201, EngineProtocol),
        (204, EngineProtocol),
        (301, EngineProtocol),
        (307, EngineProtocol),
        (400, EngineRefused),
        (401, EngineRefused),
        (403, EngineRefused),
        (404, EngineRefused),
        (422, EngineRefused),
        (429, EngineOverloaded),
        (500, EngineFailed),
        (502, EngineFailed),
        (503, EngineUnavailable),
        (504, EngineTimeout),
        (599, EngineFailed),
    ],
)
async def test_a_status_has_a_name_of_ours_and_its_body_goes_nowhere(
    status: int, ours: type[EngineFailed], engine: Engine
) -> None:
    engine.status = status
    if status != 204:
        engine.pieces = [b"sentinel"]
    if status in {301, 307}:
        engine.headers["location"] = "/elsewhere"
    text, error = await generated(engine)
    assert (text, type(error)) == ("", ours)
    assert error is not None
    assert str(status) in error.detail
    assert "sentinel" not in error.detail
    assert len(engine.seen) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "text/html"},
        {"content-type": "text/event-streams"},
        {},
        {"content-type": "text/event-stream", "content-encoding": "gzip"},
        {"content-type": "text/event-stream", "content-encoding": "br"},
    ],
)
async def test_what_is_no_event_stream_breaks_the_protocol(
    headers: dict[str, str], engine: Engine
) -> None:
    engine.headers, engine.pieces = headers, [TOKEN, DONE]
    text, error = await generated(engine)
    assert (text, type(error)) == ("", EngineProtocol)


@pytest.mark.parametrize(
    "content_type", ["text/event-stream; charset=utf-8", "Text/Event-Stream", "text/event-stream;"]
)
async def test_an_event_stream_may_have_parameters(content_type: str, engine: Engine) -> None:
    engine.headers, engine.pieces = {"content-type": content_type}, [TOKEN, DONE]
    assert await generated(engine) == ("a", None)


async def test_nobody_there_is_unavailable(engine: Engine) -> None:
    engine.url = "http://127.0.0.1:1"
    text, error = await generated(engine)
    assert (text, type(error)) == ("", EngineUnavailable)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://nowhere.invalid"])
async def test_an_address_that_leads_nowhere_is_unavailable(url: str, engine: Engine) -> None:
    engine.url = url
    text, error = await generated(engine)
    assert (text, type(error)) == ("", EngineUnavailable)


# --- plain requests -------------------------------------------------------------------------------


async def test_models_are_passed_on_as_they_are(engine: Engine) -> None:
    engine.headers = {"content-type": "application/json"}
    engine.pieces = [b'{"current_model" : "a", ', b'"models":[]}']
    async with calling(engine) as client:
        listing = await client.list_models("trace")
        assert listing.raw == b'{"current_model" : "a", "models":[]}'
        assert (await client.swap("b", "trace")).status == 200
    assert engine.seen == [("/models", None), ("/models/swap", {"model_tag": "b"})]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"[" * 2_000_000])
async def test_models_that_are_no_json_break_the_protocol(body: bytes, engine: Engine) -> None:
    engine.pieces = [body]
    async with calling(engine) as client:
        with pytest.raises(EngineProtocol):
            await client.list_models("trace")


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        (302, EngineProtocol),
        (403, EngineRefused),
        (429, EngineOverloaded),
        (500, EngineFailed),
        (503, EngineUnavailable),
        (504, EngineTimeout),
    ],
)
async def test_a_failed_swap_has_a_name_of_ours(
    status: int, ours: type[EngineFailed], engine: Engine
) -> None:
    engine.status, engine.pieces = status, [b'{"detail":"sentinel"}']
    async with calling(engine) as client:
        with pytest.raises(ours) as caught:
            await client.swap("b", "trace")
    assert type(caught.value) is ours
    assert "sentinel" not in caught.value.detail


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refused_swap_is_a_reply(status: int, engine: Engine) -> None:
    engine.status, engine.pieces = status, [b'{"detail":"no such model"}']
    async with calling(engine) as client:
        assert (await client.swap("b", "trace")).status == status
