"""Clients that have short answers written, one after the other, and what each answer costs.

    python -m bench.answers '{"port": 8002, "clients": 8, "tokens": 10, …}'

Takes a plan as JSON (the fields of `Plan`), prints a `Result` as JSON. Answers are counted by their
tokens, so that those under way at the window's edges count in part. CPU of the watched process
trees comes from the operating system.
"""

import asyncio
import dataclasses
import json
import sys
import time
from dataclasses import dataclass, field

import uvloop

from bench.load import Tree, percentiles, post

# Conversations of one kept-alive client, so that none grows long inside a window.
_CONVERSATIONS = 40


@dataclass
class Plan:
    """Each client has an answer written as soon as its last one is there.

    With `sends_a_second`, a client sends at a time of its own instead, whatever the others do.
    """

    port: int
    clients: int
    tokens: int
    rate: float
    """Tokens a second of each answer."""
    seconds: float
    chat: bool = True
    """Whether messages are sent; else the stream is asked for directly."""
    fresh: bool = False
    """Whether each answer is a new user's, in a new conversation, over a new connection."""
    sends_a_second: float = 0.0
    warm: float = 1.0
    watch: dict[str, int] = field(default_factory=dict)


@dataclass
class Result:
    """CPU in seconds by name; times in seconds."""

    answers: float
    seconds: float
    cpu: dict[str, float]
    first_token_p50: float
    first_token_p99: float


class Client:
    """One user over one connection."""

    def __init__(self, clients: "Clients", name: str) -> None:
        self._clients = clients
        self._name = name
        self._conversations: list[str] = []
        self._sent = 0

    async def connect(self, conversations: int) -> None:
        plan = self._clients.plan
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", plan.port)
        for _ in range(conversations if plan.chat else 0):
            self._writer.write(post("/api/conversations", self._name, "{}", close=False))
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r", 1)[0])
            document = json.loads(await self._reader.readexactly(length))
            self._conversations.append(document["id"])

    async def answer(self) -> None:
        """Have one answer written, and read it to its end."""
        plan = self._clients.plan
        order = f"rate={plan.rate} tokens={plan.tokens}"
        if plan.chat:
            self._sent += 1
            conversation = self._conversations[self._sent % len(self._conversations)]
            path, body = f"/api/conversations/{conversation}/messages", {"content": order}
        else:
            path, body = "/generate", {"messages": [{"role": "user", "content": order}]}  # type: ignore[dict-item]
        began = time.monotonic()
        self._writer.write(post(path, self._name, json.dumps(body)))
        rest, is_first = b"", True
        while rest[-5:] != b"0\r\n\r\n":
            data = await self._reader.read(65_536)
            assert data, "the connection ended inside an answer"
            events = data.count(b'"token"')
            if events and is_first:
                self._clients.firsts.append(time.monotonic() - began)
                is_first = False
            self._clients.tokens += events
            rest = (rest + data)[-5:]

    def close(self) -> None:
        self._writer.close()


class Clients:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tokens = 0
        self.firsts: list[float] = []
        self._names = 0

    async def _client(self, conversations: int) -> Client:
        self._names += 1
        client = Client(self, f"answers-{time.monotonic_ns()}-{self._names}")
        await client.connect(conversations)
        return client

    async def run(self) -> Result:
        plan = self.plan
        kept = (
            [] if plan.fresh else [await self._client(_CONVERSATIONS) for _ in range(plan.clients)]
        )
        tasks = [
            asyncio.create_task(self._go_on(kept[n] if kept else None, n))
            for n in range(plan.clients)
        ]
        await asyncio.sleep(plan.warm + plan.tokens / plan.rate)
        trees = {name: Tree(pid) for name, pid in plan.watch.items()}
        self.tokens, self.firsts = 0, []
        began = time.monotonic()
        before = {name: tree.cpu() for name, tree in trees.items()}
        await asyncio.sleep(plan.seconds)
        cpu = {name: tree.cpu() - before[name] for name, tree in trees.items()}
        seconds, answers = time.monotonic() - began, self.tokens / plan.tokens
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        return Result(answers, seconds, cpu, *percentiles(self.firsts))

    async def _go_on(self, kept: Client | None, number: int) -> None:
        plan = self.plan
        every = plan.clients / plan.sends_a_second if plan.sends_a_second else 0.0
        # Clients keep no step with each other.
        due = time.monotonic() + number / plan.clients * (every or plan.tokens / plan.rate)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += every
            client = kept or await self._client(1)
            await client.answer()
            if kept is None:
                client.close()


if __name__ == "__main__":
    result = uvloop.run(Clients(Plan(**json.loads(sys.argv[1]))).run())
    print(json.dumps(dataclasses.asdict(result)))
