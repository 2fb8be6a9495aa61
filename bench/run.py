"""What a token, a page and an open stream cost, beside nginx and the textbook way.

    make bench          about ten minutes
    make bench-quick    about one: fewer shapes, shorter windows, nothing written

All subjects run at once on one core, of which only the one being measured has work. Every figure
is the middle of its rounds, and every goal is a ratio of two figures of one run. Results go to
bench/results.json, docs/performance.md and docs/pictures/; `bench.report` draws them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import report, seed
from bench.ground import Ground, Subject

# Tokens a second; with more it falls behind, and its cost says nothing.
TEXTBOOK_CARRIES = 5_000
# Tokens of an answer, and how many clients have such answers written at once.
ANSWERS = {10: 8, 100: 24, 300: 32, 500: 40}
RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Effort:
    """How long and how often everything is measured."""

    rounds: int
    answer_rounds: int
    """Answers differ more from run to run than all else."""
    seconds: float
    shapes: Sequence[tuple[int, int]]
    """Streams, and tokens a second of each. The first two are compared."""
    many: int
    idle: int
    probes: int


FULL = Effort(
    3, 5, 3.0, ((100, 25), (200, 50), (25, 25), (50, 25), (200, 25), (400, 25)), 2000, 4000, 150
)
QUICK = Effort(1, 1, 2.0, ((100, 25), (200, 50)), 500, 0, 60)


class Run:
    def __init__(self, ground: Ground, effort: Effort, subjects: dict[str, Subject]) -> None:
        self._ground = ground
        self._effort = effort
        self._subjects = subjects
        self.figures: dict[str, float] = {}

    def say(self, name: str, value: float) -> None:
        self.figures[name] = value
        print(f"  {name:58} {value:12.3f}", flush=True)

    def tokens(self) -> None:
        """CPU per token, in µs, of each subject at each shape; PostgreSQL's for ours."""
        effort = self._effort
        for place, (streams, rate) in enumerate(effort.shapes):
            shape = f"{streams}x{rate}"
            found: dict[str, list[float]] = {}
            lags: dict[str, list[float]] = {}
            for _ in range(effort.rounds if place < 2 else 1):
                for name, subject in self._subjects.items():
                    if name == "textbook" and streams * rate > TEXTBOOK_CARRIES:
                        continue
                    result = self._ground.load(
                        subject,
                        streams=streams,
                        rate=rate,
                        seconds=effort.seconds,
                        chat=name != "nginx",
                    )
                    assert not result.broken_streams, f"{name} lost streams"
                    cost = 1e6 / result.tokens
                    found.setdefault(name, []).append(result.cpu["subject"] * cost)
                    lags.setdefault(name, []).append(result.lag_p99 * 1000)
                    if name == "service":
                        found.setdefault("postgres", []).append(result.cpu["postgres"] * cost)
            for name, values in found.items():
                self.say(f"token_us/{name}/{shape}", statistics.median(values))
            for name, values in lags.items():
                self.say(f"lag_p99_ms/{name}/{shape}", statistics.median(values))

    def first_token(self) -> None:
        """Milliseconds from a request's first byte to its first token, while 100 streams run."""
        for name in ("nginx", "service"):
            if name in self._subjects:
                result = self._ground.load(
                    self._subjects[name],
                    streams=100,
                    rate=25,
                    seconds=self._effort.probes * 0.04,
                    probes=self._effort.probes,
                    chat=name != "nginx",
                )
                self.say(f"first_token_p50_ms/{name}", result.first_token_p50 * 1000)
                self.say(f"first_token_p99_ms/{name}", result.first_token_p99 * 1000)

    def answers(self) -> None:
        """Measure answers of several lengths in ms, their fixed part, and most sends a second."""
        kinds = {"kept": {"fresh": False}, "new": {"fresh": True}}
        for fresh in (False, True):  # a new connection to PostgreSQL has no catalog and no plans
            self._ground.answers(
                self._subjects["service"], clients=8, tokens=10, rate=100, seconds=2.0, fresh=fresh
            )
        found: dict[str, dict[int, list[float]]] = {}
        for _ in range(self._effort.answer_rounds):
            for tokens, clients in ANSWERS.items():
                for name, kind in (*(("service", k) for k in kinds), ("nginx", "kept")):
                    if name not in self._subjects:
                        continue
                    result = self._ground.answers(
                        self._subjects[name],
                        clients=clients,
                        tokens=tokens,
                        rate=100,
                        seconds=self._effort.seconds,
                        chat=name != "nginx",
                        **kinds[kind],
                    )
                    for process, used in result.cpu.items():
                        if name == "service" or process == "subject":
                            whose = process if process == "postgres" else name
                            costs = found.setdefault(f"{whose}/{kind}", {}).setdefault(tokens, [])
                            costs.append(used / result.answers * 1000)
        for name, by_length in found.items():
            medians = {tokens: statistics.median(costs) for tokens, costs in by_length.items()}
            for tokens, cost in medians.items():
                self.say(f"answer_ms/{name}/{tokens}", cost)
            fixed, each = line_through(medians)
            self.say(f"answer_fixed_ms/{name}", fixed)
            self.say(f"answer_token_us/{name}", each * 1000)

    def sends(self) -> None:
        """Most sends a second, and the first token at 100 of them."""
        subject = self._subjects["service"]
        seconds = self._effort.seconds
        result = self._ground.answers(subject, clients=16, tokens=1, rate=1000, seconds=seconds)
        self.say("most_sends_a_second/service", result.answers / result.seconds)
        for name in ("nginx", "service"):
            if name in self._subjects:
                result = self._ground.answers(
                    self._subjects[name],
                    clients=200,
                    tokens=30,
                    rate=25,
                    seconds=2 * seconds,
                    sends_a_second=100,
                    warm=3,
                    chat=name != "nginx",
                )
                self.say(f"first_token_p50_ms/{name}/100 sends", result.first_token_p50 * 1000)
                self.say(f"first_token_p99_ms/{name}/100 sends", result.first_token_p99 * 1000)

    def most(self) -> None:
        """Tokens a second before the median lag passes 50 ms."""
        for name, streams in (("textbook", 40), ("service", 160)):
            with self._fresh(name) as subject:
                result = self._ground.load(subject, streams=streams, rate=50, seconds=0, grow=0.12)
            self.say(f"most_tokens_a_second/{name}", result.most_tokens_a_second)

    def memory(self) -> None:
        """KiB per running answer with one reader, at its 500th token: 300 more of them."""
        held = {}
        for streams in (50, 350):
            with self._fresh("service") as subject:
                result = self._ground.load(
                    subject, streams=streams, rate=25, seconds=0, memory_at_token=500, warm=0
                )
            held[streams] = result.memory_after["subject"] - result.memory_before["subject"]
        self.say("memory_kib/answer", (held[350] - held[50]) / 1024 / 300)

    def pages(self) -> None:
        """CPU per request, in ms, of what is read most."""
        cursor = seed.cursor_of_page_200(self._ground, self._subjects["service"])
        for page, path in seed.PAGES.items():
            for name in ("service", "textbook"):
                if page in seed.TEXTBOOK_PAGES or name == "service":
                    result = self._ground.pages(
                        self._subjects[name],
                        path=path + cursor if path.endswith("cursor=") else path,
                        user=seed.USER,
                        seconds=self._effort.seconds,
                    )
                    cpu = 1000 / result.requests
                    self.say(f"page_ms/{name}/{page}", result.cpu["subject"] * cpu)
                    if name == "service":
                        self.say(f"page_postgres_ms/{page}", result.cpu["postgres"] * cpu)

        health = self._ground.pages(
            self._subjects["service"],
            path="/api/health",
            user=seed.USER,
            seconds=self._effort.seconds,
        )
        self.say("health_us/service", health.cpu["subject"] / health.requests * 1e6)

    def many(self) -> None:
        """Open streams that go on: a token every two seconds, then a heartbeat's silence."""
        for name, streams, rate in (
            ("open", self._effort.many, 0.5),
            ("idle", self._effort.idle, 0.02),
        ):
            if streams:
                with self._fresh("service") as subject:
                    result = self._ground.load(
                        subject,
                        streams=streams,
                        rate=rate,
                        seconds=4,
                        opened_a_second=150,
                    )
                self.say(f"streams_asked/{name}", streams)
                self.say(f"streams_held/{name}", result.open_streams)

    def start(self) -> None:
        """Seconds from `samosachaat serve` to ready."""
        taken = []
        for _ in range(3):
            with self._ground.service() as subject:
                taken.append(subject.started_seconds)
        self.say("start_seconds", statistics.median(taken))

    def _fresh(self, name: str) -> AbstractContextManager[Subject]:
        """Return a subject of its own, for what would leave the shared one in another state."""
        return self._ground.service() if name == "service" else self._ground.textbook()


def line_through(costs: Mapping[int, float]) -> tuple[float, float]:
    """Return intercept and slope of the line that has the least relative errors."""
    weights = {x: 1 / y**2 for x, y in costs.items()}
    total = sum(weights.values())
    mean_x = sum(weights[x] * x for x in costs) / total
    mean_y = sum(weights[x] * y for x, y in costs.items()) / total
    slope = sum(weights[x] * (x - mean_x) * (y - mean_y) for x, y in costs.items()) / sum(
        weights[x] * (x - mean_x) ** 2 for x in costs
    )
    return mean_y - slope * mean_x, slope


def measure(effort: Effort, *, parts: Sequence[str]) -> dict[str, float]:
    with ExitStack() as stack:
        ground = stack.enter_context(Ground())
        subjects = {}
        try:
            subjects["nginx"] = stack.enter_context(ground.nginx())
        except FileNotFoundError:
            print("bench: nginx was not found (Debian: apt install nginx-light); measuring without")
        subjects["service"] = stack.enter_context(ground.service())
        subjects["openai"] = stack.enter_context(
            ground.service(
                INFERENCE_API="openai",
                INFERENCE_SERVICE_URL=f"http://127.0.0.1:{ground.upstream}/v1",
            )
        )
        subjects["textbook"] = stack.enter_context(ground.textbook())
        seed.fill(ground)
        run = Run(ground, effort, subjects)
        steps: dict[str, Callable[[], None]] = {
            "tokens": run.tokens,
            "first-token": run.first_token,
            "answers": run.answers,
            "sends": run.sends,
            "pages": run.pages,
            "memory": run.memory,
            "most": run.most,
            "many": run.many,
            "start": run.start,
        }
        for name in parts or steps:
            print(f"bench: {name}", flush=True)
            steps[name]()
        return run.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute; writes nothing")
    parser.add_argument("--only", nargs="*", default=[], help="parts to measure; writes nothing")
    chosen = parser.parse_args()
    began = time.monotonic()
    figures = measure(QUICK if chosen.quick else FULL, parts=chosen.only)
    print()
    print(report.table(figures))
    print(f"\n{report.conditions()}; {time.monotonic() - began:.0f} s")
    if not chosen.quick and not chosen.only:
        RESULTS.write_text(
            json.dumps({"conditions": report.conditions(), "figures": figures}, indent=1) + "\n"
        )
        report.write(figures)


if __name__ == "__main__":
    main()
