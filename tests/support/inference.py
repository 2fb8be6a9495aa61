"""A scripted inference service: it does what the test says, also what no sane engine would.

    inference.default = Script().tokens("Hel", "lo").done()
    inference.once(Script().tokens(*words(3)).wait(gate).tokens("end").done())
    inference.on("weather", Script().status(500))      # for messages that contain "weather"
    call = await inference.call(0)
    await call.gone.wait()                             # the service closed the connection

A script is chosen when a request arrives: the first `on` whose text is in the newest message,
else the next `once`, else `default`.
"""

import asyncio
import itertools
import json
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.gates import Gate
from tests.support.waiting import eventually
from tests.support.wire import Wire, WireRequest, WireServer

MESSAGE_CHARS = 8_000
REQUEST_CHARS = 32_000


def words(count: int, start: int = 0) -> list[str]:
    """Tokens whose text shows every gap, repeat and swap: `"<0>" "<1>" …`."""
    return [f"<{number}>" for number in range(start, start + count)]


def event(data: Mapping[str, Any]) -> bytes:
    """One event as the inference service writes it."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


# The statuses after which the service asks again.
_TRIED_AGAIN = frozenset({429, 502, 503, 529})


@dataclass
class Call:
    """One request to the scripted service and what became of it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    gone: Gate
    """Opens when the caller has closed the connection."""
    ended: Gate = field(default_factory=lambda: Gate("the end of a script"))
    """Opens when the script is over, for whatever reason."""
    completed: bool = False
    """Did the script run to its end?"""
    refused: str | None = None
    """Why the request was refused, if it was."""
    sent: list[str] = field(default_factory=list)
    """The texts of the tokens sent so far."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of a `/generate` call."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def contents(self) -> list[str]:
        """Their texts."""
        return [message["content"] for message in self.messages]

    @property
    def text(self) -> str:
        """Everything sent so far, in one piece."""
        return "".join(self.sent)


class _Performance:
    """One run of a script on one connection."""

    def __init__(self, script: "Script", call: Call, wire: Wire) -> None:
        self.script = script
        self.call = call
        self.wire = wire
        self._deflate = (
            zlib.compressobj(wbits=31) if script.headers.get("content-encoding") == "gzip" else None
        )

    async def head(self) -> None:
        if not self.wire.begun:
            await self.wire.head(self.script.code, self.script.headers)

    async def data(self, data: bytes) -> None:
        await self.head()
        if self._deflate is not None:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.wire.body(data)

    async def token(self, text: str, extra: Mapping[str, Any]) -> None:
        await self.data(event({"token": text, "gpu": 0, **extra}))
        self.call.sent.append(text)

    async def end(self) -> None:
        await self.head()
        if self._deflate is not None:
            await self.wire.body(self._deflate.flush())
        await self.wire.end()


_Step = Callable[[_Performance], Awaitable[None]]


class Script:
    """What to answer to one `/generate` call, step by step; each method adds a step.

    After the last step the HTTP response is ended properly, whether `done` was sent or not.
    """

    def __init__(self) -> None:
        self.code = 200
        self.headers: dict[str, str] = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
        }
        self._steps: list[_Step] = []

    async def perform(self, call: Call, wire: Wire) -> None:
        """Run it."""
        performance = _Performance(self, call, wire)
        for step in self._steps:
            await step(performance)
            if not wire.keep_alive:
                return
        await performance.end()

    def _then(self, step: _Step) -> Self:
        self._steps.append(step)
        return self

    # What the head says.

    def status(self, code: int, body: bytes = b"", **headers: str) -> Self:
        """Answer with this status; `content_type=…` and the like set headers."""
        self.code = code
        self.header(**headers)
        return self.raw(body) if body else self

    def header(self, **headers: str) -> Self:
        """Set headers of the response: `content_type="text/html"`."""
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self

    def redirect(self, location: str, code: int = 307) -> Self:
        """Answer with a redirect."""
        return self.status(code, location=location)

    def gzip(self) -> Self:
        """Compress the body, flushing after every piece."""
        return self.header(content_encoding="gzip")

    # What the body says.

    def head(self) -> Self:
        """Send the head now, before anything of the body."""
        return self._then(lambda performance: performance.head())

    def tokens(self, *texts: str, **extra: Any) -> Self:
        """Send a token event for each text, with `extra` in each of them."""

        async def step(performance: _Performance) -> None:
            for text in texts:
                await performance.token(text, extra)

        return self._then(step)

    def event(self, data: Mapping[str, Any]) -> Self:
        """Send an event of any content."""
        return self.raw(event(data))

    def raw(self, data: bytes, *, cuts: Iterable[int] = (), pause: float = 0.002) -> Self:
        """Send bytes, cut at these positions into pieces sent one after the other.

        `pause` keeps the pieces from melting together in the socket's buffer.
        """
        bounds = [0, *sorted(cuts), len(data)]

        async def step(performance: _Performance) -> None:
            for start, end in itertools.pairwise(bounds):
                if start:
                    await asyncio.sleep(pause)
                await performance.data(data[start:end])

        return self._then(step)

    def endless(self, text: str = "x", interval: float = 0.01) -> Self:
        """Send tokens until the other side goes: `text` followed by a number."""

        async def step(performance: _Performance) -> None:
            number = 0
            while True:
                await performance.token(f"{text}{number} ", {})
                number += 1
                await asyncio.sleep(interval)

        return self._then(step)

    def flood(self, data: bytes, times: int | None = None) -> Self:
        """Send the same bytes again and again, as fast as they are taken."""

        async def step(performance: _Performance) -> None:
            for _ in itertools.count() if times is None else range(times):
                await performance.data(data)

        return self._then(step)

    def bare(self, start: bytes, more: bytes) -> Self:
        """Send bytes instead of HTTP: `start`, and then `more` until the other side goes."""

        async def step(performance: _Performance) -> None:
            performance.wire.begun = True
            await performance.wire.write(start)
            while True:
                await performance.wire.write(more)
                # A write that fits into the socket's buffer gives no other task a turn.
                await asyncio.sleep(0)

        return self._then(step)

    def done(self, **extra: Any) -> Self:
        """Send the event that ends an answer."""
        return self.event({"done": True, **extra})

    # What happens in between and at the end.

    def wait(self, gate: Gate, timeout: float = 60) -> Self:
        """Go on when the test opens the gate (`gate.arrived` opens when the script is there)."""
        return self._then(lambda _: gate.wait(timeout))

    def pause(self, seconds: float) -> Self:
        """Be silent for a while."""
        return self._then(lambda _: asyncio.sleep(seconds))

    def hang(self) -> Self:
        """Be silent until the other side goes; as the first step: never answer."""
        return self._then(lambda performance: performance.wire.gone.wait(None))

    def cut(self) -> Self:
        """Close the connection without ending the response."""

        async def step(performance: _Performance) -> None:
            performance.wire.cut()

        return self._then(step)

    def reset(self) -> Self:
        """Reset the connection."""

        async def step(performance: _Performance) -> None:
            performance.wire.reset()

        return self._then(step)


def plain_answer() -> Script:
    """What an inference service without a script answers."""
    return Script().tokens(*PLAIN).done()


PLAIN = ("Samosas", " are", " triangles", ".")
PLAIN_TEXT = "".join(PLAIN)


class Inference(WireServer):
    """The scripted inference service."""

    name = "inference"

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.default: Script
        self.models: tuple[int, bytes | dict[str, Any] | list[Any]]
        self.swap: tuple[int, bytes | dict[str, Any] | list[Any]]
        self.calls: list[Call] = []
        """The `/generate` calls that were taken on, oldest first."""
        self.refusals: list[Call] = []
        """Those that were refused: with the wrong key, or against the contract."""
        self.others: list[Call] = []
        """The calls of `/models`, `/models/swap` and everything else."""
        self._tried_again: set[str] = set()
        self._left_over: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Forget calls and scripts: as at the start.

        What the service still tries again for an earlier test must not take a script of the next
        one: it is refused for good.
        """
        self._left_over |= self._tried_again
        self._tried_again.clear()
        self.default = plain_answer()
        self._once: deque[Script] = deque()
        self._on: dict[str, deque[Script]] = {}
        self.calls.clear()
        self.refusals.clear()
        self.others.clear()
        self.models = (
            200,
            {
                "current_model": "d20",
                "models": [
                    {
                        "model_tag": "d20",
                        "source": "local",
                        "path": "/models/d20",
                        "available": True,
                        "loaded": True,
                    }
                ],
            },
        )
        self.swap = (200, {"status": "ok", "current_model": "d32"})
        self.models_gate: Gate | None = None
        """Where set, `/models` and `/models/swap` answer once it is open."""

    def once(self, *scripts: Script) -> None:
        """Play these for the next calls, one each."""
        self._once.extend(scripts)

    def on(self, text: str, *scripts: Script) -> None:
        """Play these for the calls whose newest message contains `text`, the last one for the rest.

        Unlike `once`, no call of another conversation takes one of them.
        """
        self._on[text] = deque(scripts)

    async def call(self, index: int = -1, timeout: float = 15) -> Call:
        """The call with this number, as soon as it is there; -1 is the newest of at least one."""
        needed = index + 1 if index >= 0 else -index
        await eventually(
            lambda: len(self.calls) >= needed, timeout, what=f"{needed} calls of inference"
        )
        return self.calls[index]

    def about(self, text: str) -> list[Call]:
        """The calls whose newest message contains `text`."""
        return [call for call in list(self.calls) if text in call.contents[-1]]

    async def answer(self, request: WireRequest, wire: Wire) -> None:
        """Answer one request (runs in the server's thread)."""
        call = Call(request.method, request.path, request.headers, None, wire.gone)
        try:
            await self._answer(request, call, wire)
            call.completed = True
        finally:
            call.ended.open()

    async def _answer(self, request: WireRequest, call: Call, wire: Wire) -> None:
        if request.method == "GET" and request.path == "/health":
            await wire.respond(200, {"status": "ok"})
            return
        try:
            call.body = request.json() if request.body else None
        except ValueError as error:
            call.refused = f"not JSON: {error}"
        if request.headers.get("x-internal-api-key") != self.key:
            self.refusals.append(call)
            call.refused = "wrong key"
            await wire.respond(403, {"detail": "wrong key"})
        elif (request.method, request.path) == ("GET", "/models"):
            self.others.append(call)
            await self._models(self.models, wire)
        elif (request.method, request.path) == ("POST", "/models/swap"):
            self.others.append(call)
            await self._models(self.swap, wire)
        elif (request.method, request.path) == ("POST", "/generate"):
            call.refused = call.refused or _fault(call.body)
            if call.refused:
                self.refusals.append(call)
                await wire.respond(400, {"detail": call.refused})
                return
            trace_id = request.headers.get("x-trace-id", "")
            if trace_id in self._left_over:
                await wire.respond(500, {"detail": "of an earlier test"})
                return
            script = self._script_for(call)
            if script.code in _TRIED_AGAIN:
                self._tried_again.add(trace_id)
            self.calls.append(call)
            await script.perform(call, wire)
        else:
            self.others.append(call)
            await wire.respond(404, {"detail": "no such path"})

    async def _models(
        self, answer: tuple[int, bytes | dict[str, Any] | list[Any]], wire: Wire
    ) -> None:
        if self.models_gate is not None:
            await self.models_gate.wait(60)
        status, body = answer
        await wire.respond(status, body)

    def _script_for(self, call: Call) -> Script:
        newest = call.contents[-1]
        for text, scripts in self._on.items():
            if text in newest:
                return scripts.popleft() if len(scripts) > 1 else scripts[0]
        return self._once.popleft() if self._once else self.default


def _fault(body: Any) -> str | None:
    """What the contract has against this body."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return "messages are missing"
    if not body["messages"]:
        return "no messages"
    total = 0
    for message in body["messages"]:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return "a message has role and content"
        if message["role"] not in {"user", "assistant"}:
            return "a role other than user or assistant"
        content = message["content"]
        if not isinstance(content, str) or not content.strip():
            return "an empty message"
        if len(content) > MESSAGE_CHARS:
            return "a message over 8,000 characters"
        total += len(content)
    if total > REQUEST_CHARS:
        return "a request over 32,000 characters"
    for name, kinds, low, high in (
        ("temperature", (int, float), 0, 2),
        ("max_tokens", (int,), 1, 4096),
        ("top_k", (int,), 0, 200),
    ):
        value: Any = body.get(name, low)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            return f"{name} is out of bounds"
    if not isinstance(body.get("force_web_search", False), bool):
        return "force_web_search is not a bool"
    unknown = set(body) - {"messages", "temperature", "max_tokens", "top_k", "force_web_search"}
    return f"unknown fields {sorted(unknown)}" if unknown else None
