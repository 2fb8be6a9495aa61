"""From figures to what people read: the table of goals, its conditions, the pictures."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.picture import Chart, Line, draw

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/performance.md"
PICTURES = ROOT / "docs/pictures"
_NAMES = {"nginx": "nginx, passing through", "service": "samosaChaat", "textbook": "textbook"}


@dataclass(frozen=True)
class Goal:
    """One row: a figure, by itself or against another one, and what it should be at most."""

    what: str
    figure: str
    against: str | None
    must: str
    unit: str = ""
    difference: bool = False


GOALS = (
    *(
        Goal(f"CPU per token, {streams} streams × {rate}/s, against {_NAMES[other]}",
             f"token_us/service/{streams}x{rate}", f"token_us/{other}/{streams}x{rate}", must, "µs")
        for other, must in (("nginx", "≤ 3.5×"), ("textbook", "≤ 0.35×"))
        for streams, rate in ((100, 25), (200, 50))
    ),
    Goal("PostgreSQL's CPU per token, 100 × 25/s, against ours", "token_us/postgres/100x25",
         "token_us/service/100x25", "≤ 0.5×", "µs"),
    Goal("tokens/s of one process on one core, against the textbook's",
         "most_tokens_a_second/service", "most_tokens_a_second/textbook", "≥ 4×"),
    Goal("time to the first token beside 100 streams, p50, against nginx",
         "first_token_p50_ms/service", "first_token_p50_ms/nginx", "≤ +8 ms", "ms", True),
    Goal("the same, p99", "first_token_p99_ms/service", "first_token_p99_ms/nginx", "≤ +40 ms",
         "ms", True),
    *(
        Goal(f"fixed CPU of an answer, {title}, {whose}", f"answer_fixed_ms/{process}/{kind}", None,
             must, "ms")
        for process, whose, kind, title, must in (
            ("service", "ours", "kept", "kept-alive clients", "≤ 1.4 ms"),
            ("service", "ours", "new", "everything new", "≤ 2.4 ms"),
            ("postgres", "PostgreSQL's", "kept", "kept-alive clients", "≤ 0.8 ms"),
            ("postgres", "PostgreSQL's", "new", "everything new", "≤ 1 ms"),
        )
    ),
    Goal("CPU of an answer of 300 tokens, kept-alive clients, against nginx",
         "answer_ms/service/kept/300", "answer_ms/nginx/kept/300", "≤ 2.2×", "ms"),
    Goal("sends a second of one process on one core, answers of one token",
         "most_sends_a_second/service", None, "≥ 250"),
    Goal("time to the first token at 100 sends a second, p50, against nginx",
         "first_token_p50_ms/service/100 sends", "first_token_p50_ms/nginx/100 sends", "≤ +3 ms",
         "ms", True),
    Goal("the same, p99", "first_token_p99_ms/service/100 sends",
         "first_token_p99_ms/nginx/100 sends", "≤ +15 ms", "ms", True),
    Goal("CPU of a request that does nothing", "health_us/service", None, "≤ 80 µs", "µs"),
    Goal("memory per running answer with a reader, at its 500th token", "memory_kib/answer", None,
         "≤ 32 KiB", "KiB"),
    Goal("CPU of a page of 50 conversations, against the textbook's", "page_ms/service/list",
         "page_ms/textbook/list", "≤ 0.25×", "ms"),
    Goal("the same, by itself", "page_ms/service/list", None, "≤ 0.4 ms", "ms"),
    *(
        Goal(f"CPU of a conversation of {size} messages, against the textbook's",
             f"page_ms/service/conversation of {size}", f"page_ms/textbook/conversation of {size}",
             "≤ 0.2×", "ms")
        for size in (100, 2000)
    ),
    Goal("PostgreSQL's CPU of a conversation of 2000 messages",
         "page_postgres_ms/conversation of 2000", None, "≤ 8 ms", "ms"),
    Goal("page 200 of 10,000 conversations, by cursor, against page 1",
         "page_ms/service/list, page 200", "page_ms/service/list", "≤ 1.3×", "ms"),
    Goal("open streams held by one process", "streams_held/open", None, "2,000"),
    Goal("idle open streams held by one process", "streams_held/idle", None, "4,000"),
    Goal("start to ready", "start_seconds", None, "≤ 1.5 s", "s"),
)  # fmt: skip


def table(figures: Mapping[str, float]) -> str:
    """Return the goals that were measured, as Markdown."""
    lines = ["| What | Measured | Against | Result | Goal |", "| --- | --- | --- | --- | --- |"]
    for goal in GOALS:
        value = figures.get(goal.figure)
        other = figures.get(goal.against) if goal.against else None
        if value is None or (goal.against and other is None):
            continue
        if other is None:
            result = _shown(value, goal.unit)
        elif goal.difference:
            sign = "+" if value >= other else "−"
            result = f"{sign}{_shown(abs(value - other), goal.unit)}"
        else:
            result = f"{value / other:.2f}×"
        against = "" if other is None else _shown(other, goal.unit)
        lines.append(
            f"| {goal.what} | {_shown(value, goal.unit)} | {against} | {result} | {goal.must} |"
        )
    return "\n".join(lines)


def _shown(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{number} {unit}".strip()


@cache  # the commit is that before the results are written
def conditions() -> str:
    """Return the machine, the versions, the commit and the day."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "asyncpg"))
    return (
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total >> 30} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, {packages}; commit {commit or 'unknown'}, "
        f"{date.today().isoformat()}"  # noqa: DTZ011  # the day where the machine stands
    )


def write(figures: Mapping[str, float]) -> None:
    """Into the page on performance, and the pictures."""
    replace_section("table", f"{table(figures)}\n\n{conditions()}.")
    draw_tokens(figures)
    draw_answers(figures)


def replace_section(name: str, text: str) -> None:
    """Between the comments `<!-- bench:name -->` and `<!-- /bench:name -->` of the page."""
    opening, closing = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    page = PAGE.read_text()
    before, _, rest = page.partition(opening)
    _, _, after = rest.partition(closing)
    PAGE.write_text(f"{before}{opening}\n{text}\n{closing}{after}")


def draw_tokens(figures: Mapping[str, float]) -> None:
    """Cost per token against the number of streams."""
    lines = []
    for name, title in _NAMES.items():
        points = [
            (float(streams), figures[f"token_us/{name}/{streams}x25"])
            for streams in (25, 50, 100, 200, 400)
            if f"token_us/{name}/{streams}x25" in figures
        ]
        if points:
            lines.append(Line(title, points, dots=True))
    chart = Chart(
        "CPU per token, 25 tokens/s a stream", lines, x="open streams", y="µs", log_x=True
    )
    draw(PICTURES / "tokens.svg", [chart], title="What a streamed token costs")


def draw_answers(figures: Mapping[str, float]) -> None:
    """Draw the whole price of an answer against its length."""
    names = {
        "service/new": "samosaChaat, everything new",
        "service/kept": "samosaChaat, kept-alive clients",
        "nginx/kept": "nginx, passing through",
    }
    lines = []
    for name, title in names.items():
        points = [
            (float(tokens), figures[f"answer_ms/{name}/{tokens}"])
            for tokens in (10, 100, 300, 500)
            if f"answer_ms/{name}/{tokens}" in figures
        ]
        if points:
            lines.append(Line(title, points, dots=True))
    if lines:
        chart = Chart("CPU per answer", lines, x="tokens", y="ms")
        draw(PICTURES / "answers.svg", [chart], title="What an answer costs")


def growth_table(found: Mapping[int, Mapping[str, float]]) -> str:
    """Return each figure at no and at most rows of others, as Markdown."""
    empty, full = min(found), max(found)
    lines = [
        f"| CPU of | empty database | {full:,} conversations of others | Ratio |",
        "| --- | --- | --- | --- |",
    ]
    for name, before in found[empty].items():
        after = found[full][name]
        unit = "µs" if name.startswith("token") else "ms"
        lines.append(
            f"| {name} | {_shown(before, unit)} | {_shown(after, unit)} | {after / before:.2f}× |"
        )
    return "\n".join(lines)


def write_growth(found: Mapping[int, Mapping[str, float]]) -> None:
    """Into the page on performance, and the picture."""
    replace_section("growth", f"{growth_table(found)}\n\n{conditions()}.")
    pages = ("list", "list, page 200", "conversation of 100")
    lines = [
        Line(
            page,
            [
                (max(1, size), figures[page] + figures[f"{page}, PostgreSQL"])
                for size, figures in sorted(found.items())
            ],
            dots=True,
        )
        for page in pages
    ]
    chart = Chart(
        "CPU of a page, service and PostgreSQL", lines, x="conversations of others", y="ms",
        log_x=True,
    )  # fmt: skip
    draw(PICTURES / "pages.svg", [chart], title="What a page costs as the database grows")
