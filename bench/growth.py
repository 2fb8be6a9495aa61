"""The pages, an answer and a token, with more and more of others in the database.

    make bench-growth       (or: python -m bench.growth --conversations 100000)

A database and a service for each size, up to a million conversations and ten million messages of
others, measured in turns, so that what else the machine does falls on all of them. Takes ten
minutes and several gigabytes of disk. Results go to bench/growth.json, docs/performance.md and
docs/pictures/.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import report, seed
from bench.ground import Ground, Subject

RESULTS = Path(__file__).parent / "growth.json"
MESSAGES_EACH = 10
ROUNDS = 3
# The answers of a load end so long after it, which is not to be counted for the next service.
_ENDS_SECONDS = 4.0


def measure(sizes: list[int], seconds: float) -> dict[int, dict[str, float]]:
    """By number of others' conversations: CPU in ms a page or answer, in µs a token.

    Each is the median of all rounds, ours and PostgreSQL's.
    """
    with Ground() as ground, ExitStack() as running:
        with ground.service() as service:
            seed.fill(ground)
            cursor = seed.cursor_of_page_200(ground, service)
        services = {}
        for size in sizes:
            began = time.monotonic()
            database = ground.copy_database(f"others_{size}")
            if size:
                seed.add_others(ground, size, size * MESSAGES_EACH, database=database)
            print(f"bench: {size:,} conversations of others, {time.monotonic() - began:.0f} s")
            services[size] = running.enter_context(ground.service(database))
        found: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
        for _ in range(ROUNDS):
            for figures_of_all in zip(
                *(_figures(ground, services[size], cursor, seconds) for size in sizes), strict=True
            ):
                for size, figures in zip(sizes, figures_of_all, strict=True):
                    for name, value in figures.items():
                        found[size].setdefault(name, []).append(value)
    return {
        size: {name: statistics.median(values) for name, values in figures.items()}
        for size, figures in found.items()
    }


def _figures(
    ground: Ground, service: Subject, cursor: str, seconds: float
) -> Iterator[dict[str, float]]:
    """Yield the figures of one page after the other, of an answer and of a token."""

    def both(name: str, cpu: dict[str, float], count: float, unit: float) -> dict[str, float]:
        return {
            name: cpu["subject"] / count * unit,
            f"{name}, PostgreSQL": cpu["postgres"] / count * unit,
        }

    for page, path in seed.PAGES.items():
        whole = path + cursor if path.endswith("cursor=") else path
        result = ground.pages(service, path=whole, user=seed.USER, seconds=seconds)
        yield both(page, result.cpu, result.requests, 1e3)
    answered = ground.answers(
        service, clients=8, tokens=10, rate=100, seconds=2 * seconds, fresh=True
    )
    yield both("answer of 10 tokens", answered.cpu, answered.answers, 1e3)
    load = ground.load(service, streams=100, rate=25, seconds=2 * seconds)
    time.sleep(_ENDS_SECONDS)
    yield both("token", load.cpu, load.tokens, 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1_000_000)
    chosen = parser.parse_args()
    sizes = [0, chosen.conversations // 100, chosen.conversations // 10, chosen.conversations]
    found = measure(sizes, seconds=2.0)
    print(report.growth_table(found))
    if chosen.conversations == parser.get_default("conversations"):
        RESULTS.write_text(
            json.dumps({"conditions": report.conditions(), "figures": found}, indent=1) + "\n"
        )
        report.write_growth(found)


if __name__ == "__main__":
    main()
