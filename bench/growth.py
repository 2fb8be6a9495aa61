"""The pages, and a token, with more and more of others in the database.

    make bench-growth       (or: python -m bench.growth --conversations 100000)

Up to a million conversations and ten million messages of others; a quarter of an hour and six
gigabytes of disk. Results go to bench/growth.json, docs/performance.md and docs/pictures/.
"""

import argparse
import json
import time
from pathlib import Path

from bench import report, seed
from bench.ground import Ground

RESULTS = Path(__file__).parent / "growth.json"
MESSAGES_EACH = 10


def measure(sizes: list[int], seconds: float) -> dict[int, dict[str, float]]:
    """By number of others' conversations: CPU in ms a page (ours and PostgreSQL's), µs a token."""
    found: dict[int, dict[str, float]] = {}
    with Ground() as ground:
        with ground.service() as service:
            seed.fill(ground)
            cursor = seed.cursor_of_page_200(ground, service)
        there = 0
        for size in sizes:
            began = time.monotonic()
            if size > there:
                seed.add_others(ground, size - there, (size - there) * MESSAGES_EACH)
                there = size
            print(f"bench: {size:,} conversations of others, {time.monotonic() - began:.0f} s")
            figures = found[size] = {}
            with ground.service() as service:
                for page, path in seed.PAGES.items():
                    result = ground.pages(
                        service,
                        path=path + cursor if path.endswith("cursor=") else path,
                        user=seed.USER,
                        seconds=seconds,
                    )
                    cost = 1000 / result.requests
                    figures[page] = result.cpu["subject"] * cost
                    figures[f"{page}, PostgreSQL"] = result.cpu["postgres"] * cost
                load = ground.load(service, streams=100, rate=25, seconds=2 * seconds)
                figures["token"] = load.cpu["subject"] / load.tokens * 1e6
                figures["token, PostgreSQL"] = load.cpu["postgres"] / load.tokens * 1e6
            for name, value in figures.items():
                print(f"  {name:40} {value:10.3f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1_000_000)
    chosen = parser.parse_args()
    sizes = [0, chosen.conversations // 100, chosen.conversations // 10, chosen.conversations]
    found = measure(sizes, seconds=3.0)
    print(report.growth_table(found))
    if chosen.conversations == parser.get_default("conversations"):
        RESULTS.write_text(
            json.dumps({"conditions": report.conditions(), "figures": found}, indent=1) + "\n"
        )
        report.write_growth(found)


if __name__ == "__main__":
    main()
