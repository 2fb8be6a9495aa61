"""Clients that read many streams at once, and watch what it costs the processes between.

    python -m bench.load '{"port": 8002, "streams": 100, …}'

Takes a plan as JSON (the fields of `Plan`), prints a `Result` as JSON. One process, plain asyncio
protocols: about 8 µs a token. CPU and memory of the watched process trees come from the operating
system.
"""

import asyncio
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

_SENT = re.compile(rb'sent(?:": ?|=)([0-9.]+)')
# How long streams whose memory is measured stay open, and those before them last.
_HOLD_SECONDS = 120
_WARM_UP_SECONDS = 1.0
_ID = re.compile(rb'"id" ?: ?"([0-9a-f-]+)"')


@dataclass(frozen=True)
class Dialect:
    """How a stream is asked for, and what is in the bytes of a token and of the end."""

    path: str
    body: str
    token: re.Pattern[bytes]
    end: bytes


# `{order}` is what asks for tokens, `{conversation}` one that is new.
DIALECTS = {
    "own": Dialect(
        "/api/conversations/{conversation}/messages",
        '{{"content": "{order}"}}',
        _SENT,
        b'"done"',
    ),
    "responses": Dialect(
        "/v1/responses",
        '{{"input": "{order}", "conversation": "conv_{digits}", "stream": true}}',
        re.compile(rb"^event: (response.output_text.delta)", re.MULTILINE),
        b"event: response.completed",
    ),
    "background": Dialect(
        "/v1/responses",
        '{{"input": "{order}", "conversation": "conv_{digits}", "stream": true,'
        ' "background": true}}',
        re.compile(rb"^event: (response.output_text.delta)", re.MULTILINE),
        b"event: response.completed",
    ),
    "chat": Dialect(
        "/api/chat",
        '{{"id": "{conversation}", "message": {{"role": "user",'
        ' "parts": [{{"type": "text", "text": "{order}"}}]}}}}',
        re.compile(rb'"type":"(text-delta)"'),
        b"[DONE]",
    ),
}


@dataclass
class Plan:
    """What to do. `watch` has process ids by name; each stands for its whole tree."""

    port: int
    streams: int
    rate: float
    seconds: float
    """The length of the window in which CPU, tokens and lag are counted."""
    chat: bool = True
    """Whether conversations are made and messages sent; else the stream is asked for directly."""
    dialect: str = "own"
    """One of `DIALECTS`. Only our own tells when a token was sent, so only it has a lag."""
    warm: float = 1.0
    """Seconds between the last stream's start and the window's."""
    opened_a_second: float = 200
    grow: float = 0.0
    """Instead of a window: add this share of streams a second until the lag is too long."""
    most_lag: float = 0.05
    probes: int = 0
    """Further streams, one after the other inside the window, timed to their first token."""
    memory_at_token: int = 0
    """Measure memory before the first stream, and when every stream is at this token.

    Their engine pauses there: how fast the streams could be opened makes no difference.
    """
    watch: dict[str, int] = field(default_factory=dict)


@dataclass
class Result:
    """CPU in seconds by name, memory in bytes; times in seconds."""

    tokens: int = 0
    seconds: float = 0.0
    open_streams: int = 0
    broken_streams: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    lag_p50: float = 0.0
    lag_p99: float = 0.0
    first_token_p50: float = 0.0
    first_token_p99: float = 0.0
    memory_before: dict[str, int] = field(default_factory=dict)
    memory_after: dict[str, int] = field(default_factory=dict)
    most_tokens_a_second: float = 0.0


class Tree:
    """The CPU and memory of a process and those below it, as the operating system counts them."""

    def __init__(self, pid: int) -> None:
        root = psutil.Process(pid)
        self._processes = [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Return the seconds of user and system time."""
        return sum(_cpu_of(process) for process in self._processes)

    def memory(self) -> int:
        """Bytes that belong to the tree alone."""
        return sum(process.memory_full_info().uss for process in self._processes)


def _cpu_of(process: psutil.Process) -> float:
    """Return a process's seconds of CPU: on Linux in nanoseconds, elsewhere in hundredths."""
    try:
        tasks = [*Path(f"/proc/{process.pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        pass
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def cpu_by_name(watch: dict[str, int]) -> dict[str, float]:
    return {name: Tree(pid).cpu() for name, pid in watch.items()}


def memory_by_name(watch: dict[str, int]) -> dict[str, int]:
    return {name: Tree(pid).memory() for name, pid in watch.items()}


class Stream(asyncio.Protocol):
    """A POST whose response is read as it comes."""

    def __init__(self, load: "Load", request: bytes) -> None:
        self._load = load
        self._request = request
        self._dialect = DIALECTS[load.plan.dialect]
        self._rest = b""
        self.tokens = 0
        self.first_token = asyncio.get_running_loop().create_future()
        self.ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.began = time.monotonic()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._rest:
            data = self._rest + data
        # A time that the packet's end cuts in two is read with the next packet.
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        sent = self._dialect.token.findall(data, 0, end)
        if self._dialect.end in data:
            self.ended = True
        if not sent:
            return
        self.tokens += len(sent)
        if not self.first_token.done():
            self.first_token.set_result(now - self.began)
        self._load.arrived(now, sent)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.first_token.done():
            self.first_token.cancel()
        if not self.ended and not self._load.over:
            self._load.broken += 1


class Load:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.over = False
        self.broken = 0
        self._tokens = 0
        self._lags: list[float] = []
        self._counting = False
        self._loop = asyncio.get_running_loop()
        self._streams: list[Stream] = []
        self._users = 0

    def arrived(self, now: float, sent: list[bytes]) -> None:
        if self._counting:
            self._tokens += len(sent)
            if self.plan.dialect == "own":
                self._lags.extend(now - float(at) for at in sent)

    async def run(self) -> Result:
        plan = self.plan
        result = Result()
        if plan.memory_at_token:
            # What the first streams make the process load is not the price of a stream.
            await self._open_and_finish(20)
            result.memory_before = memory_by_name(plan.watch)
        if plan.grow:
            result.most_tokens_a_second = await self._grow()
        else:
            # Every stream lasts until the window's end, or the token, and longer: opening them may
            # take three times what it should.
            opening = plan.streams / plan.opened_a_second
            reading = plan.memory_at_token / plan.rate or plan.seconds
            began = time.monotonic()
            ends = began + 3 * opening + plan.warm + reading + 2
            for number in range(plan.streams):
                await self._open(ends - time.monotonic())
                due = began + opening * (number + 1) / plan.streams
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.sleep(plan.warm)
            if plan.memory_at_token:
                result.memory_after = await self._memory()
            else:
                await self._window(result)
        result.open_streams = sum(
            not stream.ended and not stream.transport.is_closing() for stream in self._streams
        )
        result.broken_streams = self.broken
        self.over = True
        for stream in self._streams:
            stream.transport.close()
        return result

    async def _memory(self) -> dict[str, int]:
        """When all streams have come so far, and the log has their events."""
        deadline = time.monotonic() + _HOLD_SECONDS
        while min(stream.tokens for stream in self._streams) < self.plan.memory_at_token:
            assert time.monotonic() < deadline, "the streams never came so far"
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        assert not any(stream.ended for stream in self._streams), (
            "the streams were opened too slowly"
        )
        return memory_by_name(self.plan.watch)

    async def _window(self, result: Result) -> None:
        plan = self.plan
        trees = {name: Tree(pid) for name, pid in plan.watch.items()}
        self._counting = True
        began = time.monotonic()
        before = {name: tree.cpu() for name, tree in trees.items()}
        firsts = [await self._probe() for _ in range(plan.probes)]
        await asyncio.sleep(max(0.0, began + plan.seconds - time.monotonic()))
        result.cpu = {name: tree.cpu() - before[name] for name, tree in trees.items()}
        result.seconds = time.monotonic() - began
        self._counting = False
        result.tokens = self._tokens
        result.lag_p50, result.lag_p99 = percentiles(self._lags)
        if firsts:
            result.first_token_p50, result.first_token_p99 = percentiles(firsts)

    async def _grow(self) -> float:
        """Tokens a second in the last half second in which the median lag was short enough."""
        plan = self.plan
        best = 0.0
        late = 0
        deadline = time.monotonic() + 40
        while late < 2 and time.monotonic() < deadline:
            wanted = plan.streams if not self._streams else len(self._streams) * (1 + plan.grow)
            while len(self._streams) < wanted and time.monotonic() < deadline:
                await self._open(60)
            await asyncio.sleep(0.3)  # the new ones' beginning is not counted
            self._tokens, self._lags, self._counting = 0, [], True
            began = time.monotonic()
            await asyncio.sleep(0.7)
            self._counting = False
            rate = self._tokens / (time.monotonic() - began)
            if self._lags and statistics.median(self._lags) <= plan.most_lag:
                best, late = max(best, rate), 0
            else:
                late += 1
        return best

    async def _open_and_finish(self, count: int) -> None:
        streams = [await self._open(_WARM_UP_SECONDS) for _ in range(count)]
        deadline = time.monotonic() + 30
        while not all(stream.ended for stream in streams):  # bounded
            assert time.monotonic() < deadline, "streams did not end"
            await asyncio.sleep(0.05)
        self._streams.clear()

    async def _probe(self) -> float:
        stream = await self._open(2 / self.plan.rate)
        try:
            return float(await stream.first_token)
        finally:
            self._streams.remove(stream)

    async def _open(self, lasts: float) -> Stream:
        plan = self.plan
        self._users += 1
        order = f"rate={plan.rate} tokens={max(2, round(lasts * plan.rate))}"
        if plan.memory_at_token and lasts > _WARM_UP_SECONDS:
            order = f"rate={plan.rate} tokens={plan.memory_at_token} hold={_HOLD_SECONDS}"
        user = f"user-{self._users}"
        if plan.chat:
            conversation = await self._new_conversation(user)
            dialect = DIALECTS[plan.dialect]
            path = dialect.path.format(conversation=conversation)
            body = dialect.body.format(
                order=order, conversation=conversation, digits=conversation.replace("-", "")
            )
        else:
            path = "/generate"
            body = json.dumps({"messages": [{"role": "user", "content": order}]})
        request = post(path, user, body)
        _, stream = await self._loop.create_connection(
            lambda: Stream(self, request), "127.0.0.1", plan.port
        )
        self._streams.append(stream)
        return stream

    async def _new_conversation(self, user: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.plan.port)
        writer.write(post("/api/conversations", user, "{}", close=True))
        found = _ID.search(await reader.read())
        writer.close()
        assert found is not None, "no conversation was made"
        return found[1].decode()


def post(path: str, user: str, body: str, *, close: bool = False) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {user}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{'connection: close' if close else 'accept: text/event-stream'}\r\n\r\n{body}"
    ).encode()


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(values) or [0.0]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


async def main(plan: Plan, show: Callable[[str], None]) -> None:
    show(json.dumps(dataclasses.asdict(await Load(plan).run())))


if __name__ == "__main__":
    uvloop.run(main(Plan(**json.loads(sys.argv[1])), print))
