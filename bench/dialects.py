"""What a token costs in the dialects of other clients, beside one in our own.

    python -m bench.dialects        (about two minutes; --rounds, --seconds, --streams, --rate)

Each dialect has a process of its own, on the same core, in turns: answers of the one before may
still be ending. Each figure is the middle of its rounds. CPU is that of the process tree of the
service. A token in the background is read from the log, as it is on another replica.
"""

import argparse
import statistics
from contextlib import ExitStack

from bench import load
from bench.ground import Ground

MOST = 1.5
_NAMES = {
    "own": "our own stream",
    "responses": "`POST /v1/responses`, streamed",
    "background": "the same in the background",
    "chat": "`POST /api/chat`",
}


def measure(rounds: int, **plan: float) -> dict[str, tuple[float, float]]:
    """CPU per token by dialect, in µs, and its ratio to that of our own."""
    costs: dict[str, list[float]] = {name: [] for name in load.DIALECTS}
    ratios: dict[str, list[float]] = {name: [] for name in load.DIALECTS}
    with Ground() as ground, ExitStack() as stack:
        services = {name: stack.enter_context(ground.service()) for name in load.DIALECTS}
        for number in range(rounds):
            found = {}
            for name in load.DIALECTS:
                result = ground.load(services[name], dialect=name, **plan)
                assert not result.broken_streams, f"{name} lost streams"
                assert result.tokens, "opening the streams took too long: the machine is too busy"
                found[name] = result.cpu["subject"] / result.tokens * 1e6
            for name, cost in found.items():
                costs[name].append(cost)
                ratios[name].append(cost / found["own"])
            shown = ", ".join(f"{name} {cost:.1f}" for name, cost in found.items())
            print(f"round {number + 1}: {shown} µs", flush=True)
    return {
        name: (statistics.median(costs[name]), statistics.median(ratios[name])) for name in costs
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rate", type=float, default=25)
    chosen = parser.parse_args()
    found = measure(chosen.rounds, seconds=chosen.seconds, streams=chosen.streams, rate=chosen.rate)
    print("| Dialect | CPU per token | Against our own | Goal |\n| --- | --- | --- | --- |")
    for name, (cost, ratio) in found.items():
        goal = "" if name == "own" else f"≤ {MOST}×"
        print(f"| {_NAMES[name]} | {cost:.1f} µs | {ratio:.2f}× | {goal} |")


if __name__ == "__main__":
    main()
