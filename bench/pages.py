"""Clients that ask for one page again and again.

    python -m bench.pages '{"port": 8002, "path": "/api/conversations", "user": "u", …}'

Takes a plan as JSON, prints a `Result` as JSON. CPU of the watched process trees comes from the
operating system, so that the client's own price does not count.
"""

import asyncio
import dataclasses
import json
import re
import sys
import time
from dataclasses import dataclass, field

import uvloop

from bench.load import cpu_by_name, percentiles

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


@dataclass
class Plan:
    """`connections` clients ask for `path` as `user`, each as soon as it has its answer."""

    port: int
    path: str
    user: str
    seconds: float
    connections: int = 2
    watch: dict[str, int] = field(default_factory=dict)


@dataclass
class Result:
    """CPU in seconds by name, times in seconds."""

    requests: int
    response_bytes: int
    cpu: dict[str, float]
    took_p50: float
    took_p99: float


async def ask(plan: Plan, until: float, took: list[float]) -> int:
    """Ask until then; the bytes of the last answer's body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
    request = (
        f"GET {plan.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {plan.user}\r\n\r\n"
    ).encode()
    length = 0
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        assert b" 200 " in head.split(b"\r\n", 1)[0], head
        assert found is not None
        length = int(found[1])
        await reader.readexactly(length)
        took.append(time.monotonic() - began)
    writer.close()
    return length


async def measure(plan: Plan) -> Result:
    await asyncio.gather(*(ask(plan, time.monotonic() + 0.7, []) for _ in range(plan.connections)))
    took: list[float] = []
    before = cpu_by_name(plan.watch)
    until = time.monotonic() + plan.seconds
    lengths = await asyncio.gather(*(ask(plan, until, took) for _ in range(plan.connections)))
    after = cpu_by_name(plan.watch)
    p50, p99 = percentiles(took)
    cpu = {name: after[name] - before[name] for name in after}
    return Result(len(took), lengths[0], cpu, p50, p99)


if __name__ == "__main__":
    result = uvloop.run(measure(Plan(**json.loads(sys.argv[1]))))
    print(json.dumps(dataclasses.asdict(result)))
