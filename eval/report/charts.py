"""Charts as inline SVG: colors are CSS classes and widths are percentages.

Horizontal positions are percentages and vertical positions are pixels, so a chart fills the width of a phone or a
desktop without scaling its text. Every mark has a `<title>`, which browsers show on hover and screen readers read.
All text is escaped. The markup itself is in `charts.html`.

    line_chart([Line("loss", points, "accent")], x_title="step", y_title="loss")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_HEIGHT = 220
_LONGEST_LINE = 400  # points; more are indistinguishable at the width of a page


def new_environment() -> jinja2.Environment:
    """Returns an environment for the templates of this package. It escapes what it puts into HTML."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _macros() -> object:
    return new_environment().get_template("charts.html").module


def draw(macro: str, *values: Any) -> Markup:
    """Renders a macro of `charts.html`."""
    return getattr(_macros(), macro)(*values)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to percentages from left to right."""

    low: float
    high: float
    log: bool = False

    def percent(self, value: float) -> float:
        """Returns the position of `value` in percent, clipped to the scale."""
        low, high, position = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return round(100 * min(max((position - low) / (high - low or 1), 0.0), 1.0), 3)

    def ticks(self, count: int = 5) -> list[float]:
        """Returns about `count` round values inside the scale."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        return _round_ticks(self.low, self.high, count)


def _round_ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low or 1) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def percent(value: float) -> str:
    """`0.412` -> `41.2%`."""
    return f"{100 * value:.1f}%"


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A share, or a difference of two shares, with its interval (None if it is unknown)."""

    label: str
    value: float
    low: float | None
    high: float | None
    series: str  # CSS class of the mark: before, after, other or paper
    note: str = ""


def interval_chart(rows: Sequence[IntervalRow], fitted: bool = False) -> Markup:
    """Draws one line per row: label, dot on its interval, number. The scale ends at 1, or if `fitted` at 0.1, 0.25 or 0.5."""
    largest = max((max(row.value, row.high or 0) for row in rows), default=1.0)
    top = next(end for end in (0.1, 0.25, 0.5, 1.0) if end >= min(largest, 1.0)) if fitted else 1.0
    shown = []
    for row in rows:
        value, title, ends = percent(row.value), f"{row.label}: {percent(row.value)}", ""
        if row.low is not None and row.high is not None:
            title += f", 95% interval {percent(row.low)} to {percent(row.high)}"
            ends = f"{100 * row.low:.1f}–{100 * row.high:.1f}"
        shown.append((row, title, value, ends))
    return draw("interval_rows", shown, Scale(0.0, top), [f"{50 * top * tick:g}%" for tick in range(3)], None)


def difference_chart(rows: Sequence[IntervalRow]) -> Markup:
    """Draws one line per row around a dashed zero. Shows the interval with its dot, and the points; the scale fits."""
    if not rows:
        return Markup("")
    limit = max(0.01, *(abs(end) for row in rows for end in (row.low, row.value, row.high) if end is not None))
    shown = []
    for row in rows:
        value, title, ends = f"{100 * row.value:+.1f}", f"{row.label}: {100 * row.value:+.1f} points", "no interval"
        if row.low is not None and row.high is not None:
            ends = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
            title += f", 95% interval {ends}"
        shown.append((row, title, value, ends))
    return draw("interval_rows", shown, Scale(-limit, limit), (f"{-100 * limit:+.0f}", "0", f"{100 * limit:+.0f}"), 0.0)


@dataclass(frozen=True, slots=True)
class BoxRow:
    """Quartiles of a sample. `low` and `high` are its extremes, or None if only the quartiles are known."""

    label: str
    q1: float
    median: float
    q3: float
    series: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """All values, as shown on hover."""
        title = f"{self.label}: Q1 {self.q1:.2f}, median {self.median:.2f}, Q3 {self.q3:.2f}"
        known = self.low is not None and self.high is not None
        return f"{title}, from {self.low:.2f} to {self.high:.2f}" if known else title


@dataclass(frozen=True, slots=True)
class BoxGroup:
    """Boxes under a heading. `mark` is a value to compare them with, drawn as a line through all of them."""

    title: str
    mark: float
    rows: Sequence[BoxRow]
    note: str = ""


def box_chart(groups: Sequence[BoxGroup]) -> Markup:
    """Draws one box per row on a scale from 0 to 1. Boxes show quartiles and median, whiskers the extremes."""
    return draw("box_groups", groups, Scale(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a bar. `series` is its CSS class."""

    label: str
    count: int
    series: str

    @property
    def text(self) -> str:
        return f"{self.label}: {self.count:,}"


def bar(segments: Sequence[Segment], total: int) -> Markup:
    """Draws the parts of a whole from left to right. The full width represents `total`."""
    parts, left = [], 0.0
    for segment in segments:
        if segment.count:
            width = 100 * segment.count / max(total, 1)
            parts.append((segment, left, width))
            left += width
    return draw("bar", parts, ", ".join(f"{segment.label} {segment.count:,}" for segment in segments))


@dataclass(frozen=True, slots=True)
class Line:
    """A curve, or single points if `points_only`. `ends` are the intervals of the points, drawn as a band."""

    label: str
    points: Sequence[tuple[float, float]]
    series: str
    points_only: bool = False
    ends: Sequence[tuple[float, float]] = ()


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    log_x: bool = False,
    y_from_zero: bool = False,
    y_named: bool = True,
    y_shown: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Draws curves over a common pair of axes. Points show their values on hover.

    Without `y_named` the vertical axis has no title, because the title of the panel names the quantity.

    Points that are not finite, such as the loss of a diverged training run, are left out. Returns an empty string if no
    line has a point.
    """
    lines = [_finite(line) for line in lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    xs = [x for x, _ in points]
    ys = [y for _, y in points] + [end for line in lines for ends in line.ends for end in ends]
    x_scale = _x_scale(min(xs), max(xs), log_x)
    y_scale = _y_scale(min(ys), max(ys), y_from_zero)
    return draw(
        "line_chart",
        [_curve(_thinned(line), x_scale, y_scale, x_title, y_shown) for line in lines],
        [(x_scale.percent(tick), _si(tick)) for tick in x_scale.ticks()],
        [(_y(y_scale, tick), y_shown(tick)) for tick in y_scale.ticks()],
        _HEIGHT,
        x_title,
        y_title if y_named else "",
        f"{y_title} by {x_title}: {', '.join(line.label for line in lines)}",
    )


def _x_scale(low: float, high: float, log: bool) -> Scale:
    if log:
        return Scale(10 ** math.floor(math.log10(max(low, 1))), 10 ** math.ceil(math.log10(max(high, 10))), log=True)
    if 0 < low < 0.2 * high:
        low = 0  # include the origin if the curve begins near it
    return Scale(low, high if high > low else low + 1)


def _y_scale(low: float, high: float, from_zero: bool) -> Scale:
    low = min(low, 0.0) if from_zero else low
    margin = 0.06 * (high - low or abs(high) or 1)
    return Scale(low if from_zero else low - margin, high + margin)


def _curve(line: Line, x_scale: Scale, y_scale: Scale, x_title: str, y_shown: Callable[[float], str]) -> dict[str, Any]:
    """Returns what the template draws of a line."""
    positions = [(x_scale.percent(x), _y(y_scale, y)) for x, y in line.points]
    lower = [(x, _y(y_scale, low)) for (x, _), (low, _) in zip(positions, line.ends, strict=False)]
    upper = [(x, _y(y_scale, high)) for (x, _), (_, high) in zip(positions, line.ends, strict=False)]
    intervals = [f" ({y_shown(low)} to {y_shown(high)})" for low, high in line.ends] or [""] * len(positions)
    titles = [
        f"{line.label}, {x_title} {x:,g}: {y_shown(y)}{interval}"
        for (x, y), interval in zip(line.points, intervals, strict=True)
    ]
    return {
        "series": line.series,
        "path": "" if line.points_only or len(positions) < 2 else _path(positions),
        "band": _path(lower + upper[::-1]),
        "few": line.points_only or len(positions) <= 12,
        "points": [(*position, title) for position, title in zip(positions, titles, strict=True)],
    }


def _path(positions: Sequence[tuple[float, float]]) -> str:
    """Returns the coordinates of a drawing 1,000 units wide."""
    return " ".join(f"{10 * x:.1f},{y:.1f}" for x, y in positions)


def _y(scale: Scale, value: float) -> float:
    return round(_HEIGHT * (1 - scale.percent(value) / 100), 2)


def _finite(line: Line) -> Line:
    """Keeps the points whose coordinates and interval are finite."""
    kept = [
        i
        for i, point in enumerate(line.points)
        if all(math.isfinite(value) for value in (*point, *(line.ends[i] if line.ends else ())))
    ]
    ends = [line.ends[i] for i in kept] if line.ends else ()
    return replace(line, points=[line.points[i] for i in kept], ends=ends)


def _thinned(line: Line) -> Line:
    """Keeps every n-th point of a long curve and the last one. Curves with a band are short enough."""
    step = -(-len(line.points) // _LONGEST_LINE)
    if step <= 1 or line.ends:
        return line
    kept = list(line.points[::step])
    if kept[-1] != line.points[-1]:
        kept.append(line.points[-1])
    return Line(line.label, kept, line.series, line.points_only)


def _si(value: float) -> str:
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"
