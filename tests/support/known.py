"""An upstream whose text is a known sequence, and the reader that puts an answer together.

Every token says which call of the inference service it belongs to and its number in it:
`<3fa9c1:0><3fa9c1:1>…`. Whatever is lost, repeated, swapped or mixed from two attempts shows.
"""

import asyncio
import contextlib
import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tests.support.client import Client, Stream, StreamEndedError
from tests.support.events import Event
from tests.support.inference import Call, Script, event

_TOKEN = re.compile(r"<([0-9a-f]{6}):([0-9]+)>")
_PLAN = re.compile(r"count=([0-9]+) pause=([0-9.]+) end=([a-z]+)")


def counted(count: int, *, pause: float = 0.0, tag: str | None = None) -> "Known":
    """A script of `count` known tokens, `pause` seconds apart; `.done()` is yours to add."""
    return Known(tag).count(count, pause=pause)


class Known(Script):
    """A script of known tokens. Each call has a tag of its own unless one is given."""

    def __init__(self, tag: str | None = None) -> None:
        super().__init__()
        self._tag = tag

    def count(self, count: int, *, pause: float = 0.0, size: int = 0) -> "Known":
        """Go on by `count` tokens, each `size` characters longer than it would be."""

        async def step(performance: Any) -> None:
            call: Call = performance.call
            tag = self._tag or _tag_of(call)
            start = len(call.sent)
            for number in range(start, start + count):
                if pause and number > start:
                    await asyncio.sleep(pause)
                await performance.token(f"<{tag}:{number:0{max(1, size)}d}>", {})

        self._then(step)
        return self


def _tag_of(call: Call) -> str:
    if call.sent:
        found = _TOKEN.fullmatch(call.sent[0])
        assert found is not None
        return found[1]
    return uuid.uuid4().hex[:6]


def planned() -> Script:
    """A script that does what the newest message asks for (see `plan`)."""

    async def step(performance: Any) -> None:
        call: Call = performance.call
        # The last one: a question whose answer is blank is joined with the next.
        found = _PLAN.findall(call.contents[-1])
        count, pause, end = found[-1] if found else ("5", "0", "done")
        tag = uuid.uuid4().hex[:6]
        for number in range(int(count)):
            if float(pause):
                await asyncio.sleep(float(pause))
            await performance.token(f"<{tag}:{number}>", {})
        if end == "done":
            await performance.data(event({"done": True}))
        elif end == "cut":
            performance.wire.cut()
        elif end == "hang":
            await performance.wire.gone.wait(None)
        # else: the response ends without `done`

    return Script()._then(step)


def plan(count: int, *, pause: float = 0.0, end: str = "done") -> str:
    """A question that `planned` answers with so many tokens, ended so: done, cut, bare, hang."""
    return f"{uuid.uuid4().hex[:8]} count={count} pause={pause} end={end}"


def asked_for(question: str) -> tuple[int, str]:
    """How many tokens a planned question asks for, and which end."""
    found = _PLAN.search(question)
    assert found is not None, question
    return int(found[1]), found[3]


def _number(digits: str) -> int:
    return int(digits.lstrip("0") or "0")


def length(text: str) -> int:
    """How many known tokens a text is made of; it must be those of one call, from 0, in order."""
    tags = set()
    end = count = 0
    for match in _TOKEN.finditer(text):
        assert match.start() == end, f"a hole at {end}: {text[max(0, end - 60) : end + 60]!r}"
        assert _number(match[2]) == count, (
            f"number {match[2]} where {count} was due: {text[:200]!r}"
        )
        tags.add(match[1])
        end, count = match.end(), count + 1
    assert end == len(text), f"trailing {text[end : end + 80]!r}"
    assert len(tags) <= 1, f"a mixture of {tags}"
    return count


def numbered(number: int) -> Callable[[Event], bool]:
    """Holds for the token with this number."""
    return lambda event: str(event.data.get("token", "")).endswith(f":{number}>")


@dataclass
class Follower:
    """What a careful client puts together over any number of connections.

    It obeys `reset` and `snapshot`, and fails where a token comes twice, is missing or is out of
    order.
    """

    text: str = ""
    cursor: str | None = None
    done: dict[str, Any] | None = None
    message_id: str | None = None
    kinds: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    _shown: set[str] = field(default_factory=set)
    _tag: str | None = None
    _next: int = 0

    def take(self, event: Event) -> None:
        """The next event, of whichever connection."""
        assert self.done is None, f"{event.data} after done"
        kind = event.kind
        self.kinds.append(kind)
        if kind == "start":
            start = event.data["start"]
            assert self.message_id in (None, start["message_id"]), "another answer's start"
            assert not self.text, "a start in mid-answer"
            self.message_id = start["message_id"]
        elif kind == "token":
            assert event.id not in self._shown, f"{event.id} twice"
            self._shown.add(event.id)
            self._append(event.data["token"])
        elif kind == "reset":
            assert event.id not in self._shown, f"{event.id} twice"
            self._shown.add(event.id)
            self.text, self._tag, self._next = "", None, 0
        elif kind == "snapshot":
            self.text, self._tag, self._next = event.data["snapshot"]["content"], None, 0
            self._next = length(self.text)
            if found := _TOKEN.match(self.text):
                self._tag = found[1]
        elif kind == "reasoning":
            pass
        elif kind == "error":
            self.errors.append(event.data)
        else:
            self.done = event.data
        self.cursor = event.id

    def _append(self, piece: str) -> None:
        if _TOKEN.fullmatch(piece) is None:
            # A replay of an answer whose events are gone: the text in one token.
            assert not self.text, f"a large token in mid-answer: {piece[:80]!r}"
        for match in _TOKEN.finditer(piece):
            assert self._tag in (None, match[1]), f"{match[0]} after {self.text[-60:]!r}"
            assert _number(match[2]) == self._next, f"{match[0]} after {self.text[-60:]!r}"
            self._tag, self._next = match[1], self._next + 1
        self.text += piece

    async def read(
        self, stream: Stream, *, most: int | None = None, patience: float | None = None
    ) -> str:
        """Take the stream's events; why it ended: "done", "end", "broken", "most" or "silent".

        "silent" is after `patience` seconds without an event; without patience that is an error.
        """
        taken = 0
        while most is None or taken < most:
            try:
                async with asyncio.timeout(patience):
                    event = await stream.next(60 if patience else 30)
            except TimeoutError:
                return "silent"
            except StreamEndedError:
                if isinstance(stream.error, AssertionError):
                    raise
                return "broken" if stream.error is not None else "end"
            self.take(event)
            taken += 1
            if self.done is not None:
                return "done"
        return "most"


async def follow(
    follower: Follower,
    conversation_id: str,
    clients: Sequence[Client],
    *,
    timeout: float = 30,
    patience: float | None = None,
    most: int | None = None,
    choose: Callable[[Sequence[Client]], Client] = random.choice,
) -> None:
    """Join again and again with the last id, on any of the replicas, until `done`.

    Refused connections and 503 are tried again; anything else that is no stream is an error. With
    `patience` a replica that is silent for so long is left, with `most` a stream is cut after so
    many events.
    """
    async with asyncio.timeout(timeout):
        while follower.done is None:
            client = choose(clients)
            try:
                async with contextlib.AsyncExitStack() as stack:
                    joining = client.join(conversation_id, follower.cursor, expect=None)
                    async with asyncio.timeout(patience):
                        stream = await stack.enter_async_context(joining)
                    if stream.status == 200:
                        await follower.read(stream, most=most, patience=patience)
                        continue
                    assert stream.status == 503, (
                        f"{stream.status} at {follower.cursor}: {await stream.problem()}"
                        if stream.status != 204
                        else f"204 at {follower.cursor}, {follower.kinds[-3:]}"
                    )
                    assert "retry-after" in stream.headers
            except (httpx2.TransportError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


async def until_first(stream: Stream, follower: Follower, tokens: int) -> None:
    """Read until so many tokens are there."""
    while follower.kinds.count("token") < tokens:
        assert await follower.read(stream, most=1) == "most", follower.kinds
