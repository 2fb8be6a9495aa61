"""Line charts as SVG, drawn by hand: no library, the same bytes for the same numbers.

chart = Chart("Memory", [Line("replica 1", [(0, 71.2), (5, 71.9)])], x="minutes", y="MB")
draw("docs/pictures/soak.svg", [chart], title="Half an hour of 300 users")

Axes are linear from zero, or logarithmic where asked for; ticks are 1, 2 and 5 times a power of
ten. Several charts stand side by side, `columns` in a row. Colours are those of Okabe and Ito,
which people with any kind of colour vision can tell apart, and lines differ in their dashes too.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "", "7 3", "2 3")

_INK, _PALE, _GRID, _PAPER = "#24292f", "#656d76", "#e7eaee", "#ffffff"
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_MARGIN = 24
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 58, 46
_LETTER = 6.6
"""Width of a letter of the legend, about, in pixels."""


@dataclass(frozen=True)
class Line:
    """One line: its name in the legend, and its points, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    """Mark each point: for few measurements, not for samples."""


@dataclass(frozen=True)
class Chart:
    """One pair of axes; `x` and `y` say what they count, with the unit."""

    title: str
    lines: Sequence[Line]
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    y_max: float | None = None
    """Where the y axis ends at least, so that noise on a flat line looks like what it is."""
    width: int = 520
    height: int = 320


def draw(
    path: Path | str,
    charts: Sequence[Chart],
    *,
    title: str = "",
    subtitle: str = "",
    columns: int = 1,
) -> None:
    """Write the charts as one picture. Folders are made. Raises ValueError for lines of nothing."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(picture(charts, title=title, subtitle=subtitle, columns=columns), "utf-8")


def picture(
    charts: Sequence[Chart], *, title: str = "", subtitle: str = "", columns: int = 1
) -> str:
    """Return the charts as the text of an SVG document."""
    if not charts:
        raise ValueError("a picture needs a chart")
    rows = [charts[at : at + columns] for at in range(0, len(charts), columns)]
    width = max(sum(chart.width for chart in row) for row in rows) + 2 * _MARGIN
    head = (30 if title else 0) + (22 if subtitle else 0)
    parts = []
    top: float = _MARGIN
    if title:
        parts.append(_text(_MARGIN, top + 18, title, size=20, weight=650))
    if subtitle:
        parts.append(_text(_MARGIN, top + head - 8, subtitle, size=13, fill=_PALE))
    top += head
    for row in rows:
        left = _MARGIN
        for chart in row:
            parts.append(f'<g transform="translate({left} {top:g})">\n{_chart(chart)}\n</g>')
            left += chart.width
        top += max(chart.height for chart in row)
    height = top + _MARGIN / 2
    described = escape(title or charts[0].title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" '
        f'viewBox="0 0 {width} {height:g}" role="img" font-family="{_FONT}">\n'
        f"<title>{described}</title>\n"
        f'<rect width="100%" height="100%" rx="10" fill="{_PAPER}" stroke="{_GRID}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


@dataclass(frozen=True)
class _Axis:
    """Numbers to pixels, one way."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        if self.log:
            value, low, high = (math.log10(v) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return list(_log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high))


def _axis(
    values: Sequence[float], start: float, end: float, *, log: bool, least: float | None = None
) -> _Axis:
    if not values:
        raise ValueError("a chart needs points")
    low, high = min(values), max([*values, *([least] if least is not None else [])])
    if log:
        if low <= 0:
            raise ValueError("a logarithmic axis has no place for zero")
        low, high = _decade_part(low, up=False), _decade_part(high, up=True)
        return _Axis(low, high if high > low else low * 10, start, end, log)
    low = min(low, 0)
    step = _step(high - low or 1)
    # One that ends just over a tick gets the next one; 1e-9 of a step is rounding, not height.
    return _Axis(
        math.floor(low / step) * step,
        max(math.ceil(high / step - 1e-9), 1) * step,
        start,
        end,
        log,
    )


def _x_axis(values: Sequence[float], start: float, end: float, *, log: bool) -> _Axis:
    """Return an axis that ends with its numbers, not at the next round number."""
    axis = _axis(values, start, end, log=log)
    if log:
        return axis
    return _Axis(min(*values, 0), max(values) or 1, start, end, log)


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, for four to eight ticks over this span."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= 7.5)


def _ticks(low: float, high: float) -> Iterable[float]:
    step = _step(high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return (step * number for number in range(first, last + 1))


def _decade_part(value: float, *, up: bool) -> float:
    """Return the next 1, 2 or 5 times a power of ten, upwards or downwards."""
    power = 10.0 ** math.floor(math.log10(value))
    marks = [power * times for times in (1, 2, 5, 10)]
    if up:
        return next(mark for mark in marks if mark >= value * (1 - 1e-9))
    return next(mark for mark in reversed(marks) if mark <= value * (1 + 1e-9))


def _log_ticks(low: float, high: float) -> Iterable[float]:
    decades = math.log10(high / low)
    times = (1, 2, 5) if decades <= 2.5 else (1,)
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for factor in times:
            mark = factor * 10.0**power
            if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9):
                yield mark


def _label(value: float) -> str:
    """Return a tick's number: 1,500 and 0.02, and k, M, G from ten thousand on."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.10g}{letter}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.6g}" if abs(value) >= 1e-4 else f"{value:.0e}"


def _chart(chart: Chart) -> str:
    points = [point for line in chart.lines for point in line.points]
    right, bottom = chart.width - _RIGHT, chart.height - _BOTTOM
    x = _x_axis([a for a, _ in points], _LEFT, right, log=chart.log_x)
    y = _axis([b for _, b in points], bottom, _TOP, log=chart.log_y, least=chart.y_max)
    parts = [_text(8, 20, chart.title, size=15, weight=600)]
    for mark in y.ticks():
        at = y.place(mark)
        parts.append(_rule(_LEFT, at, right, at, _GRID))
        parts.append(_text(_LEFT - 8, at + 4, _label(mark), fill=_PALE, anchor="end"))
    for mark in x.ticks():
        at = x.place(mark)
        parts.append(_rule(at, bottom, at, bottom + 5, _PALE))
        parts.append(_text(at, bottom + 18, _label(mark), fill=_PALE, anchor="middle"))
    parts.append(_rule(_LEFT, bottom, right, bottom, _PALE))
    parts.append(_text((_LEFT + right) / 2, bottom + 37, chart.x, fill=_PALE, anchor="middle"))
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<g transform="rotate(-90 14 {middle:.1f})">'
        f"{_text(14, middle, chart.y, fill=_PALE, anchor='middle')}</g>"
    )
    styles = list(zip(COLOURS, DASHES, strict=True))
    left = float(_LEFT)
    for number, line in enumerate(chart.lines):
        colour, dash = styles[number % len(styles)]
        parts.append(_polyline(line, x, y, colour, dash))
        parts.append(_rule(left, 38, left + 20, 38, colour, dash=dash, width=2.5))
        parts.append(_text(left + 26, 42, line.name))
        left += 26 + _LETTER * len(line.name) + 18
    return "\n".join(parts)


def _polyline(line: Line, x: _Axis, y: _Axis, colour: str, dash: str) -> str:
    if any(later[0] < earlier[0] for earlier, later in pairwise(line.points)):
        raise ValueError(f"the points of {line.name!r} are not in the order of x")
    places = [(x.place(a), y.place(b)) for a, b in line.points]
    drawn = (
        f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}" fill="none" '
        f'stroke="{colour}" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"'
        f"{_dashed(dash)}/>"
    )
    if line.dots:
        drawn += "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" fill="{colour}"/>' for a, b in places
        )
    return drawn


def _rule(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = "", width: float = 1
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{_dashed(dash)}/>'
    )


def _dashed(dash: str) -> str:
    return f' stroke-dasharray="{dash}"' if dash else ""


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: int = 400,
    fill: str = _INK,
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
