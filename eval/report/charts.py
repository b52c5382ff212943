"""Charts as inline SVG: colors are CSS classes and widths are percentages.

Horizontal positions are percentages and vertical positions are pixels, so a chart fills the width of a phone or a
desktop without scaling its text. Every mark has a `<title>`, which browsers show on hover and screen readers read.
All text is escaped.

    line_chart([Line("loss", points, "accent")], x_title="step", y_title="loss")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup, escape

_HEIGHT = 220
_LONGEST_LINE = 400  # points; more are indistinguishable at the width of a page


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Returns an element. `class_` and `stroke_width` become `class` and `stroke-width`; text is escaped."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{''.join(escape(child) for child in children)}</{name}>")  # noqa: S704


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


SHARE = Scale(0.0, 1.0)
_ROW_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)  # for charts with one row per value, whose tracks can be narrow


def percent(value: float) -> str:
    """`0.412` -> `41.2%`."""
    return f"{100 * value:.1f}%"


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A share with its interval (None for a published share without an interval)."""

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
    scale = Scale(0.0, top)
    axis = _row_axis(lambda tick: f"{100 * top * tick:g}%")
    return tag("div", *(_interval_row(row, scale) for row in rows), axis, class_="rows")


def _interval_row(row: IntervalRow, scale: Scale) -> Markup:
    center = scale.percent(row.value)
    marks = []
    title = f"{row.label}: {percent(row.value)}"
    value = tag("b", percent(row.value))
    if row.low is not None and row.high is not None:
        title += f", 95% interval {percent(row.low)} to {percent(row.high)}"
        left, right = scale.percent(row.low), scale.percent(row.high)
        marks.append(
            tag("rect", class_="range", x=f"{left}%", y=7, width=f"{max(right - left, 0.3):.3f}%", height=8, rx=4)
        )
        value += tag("span", f"{100 * row.low:.1f}–{100 * row.high:.1f}", class_="range-text")
    marks.append(tag("circle", class_="dot", cx=f"{center}%", cy=11, r=5))
    return _row(row.label, row.note, marks, value, title, row.series)


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference of two shares with its interval (None if the error is unknown)."""

    label: str
    value: float
    low: float | None
    high: float | None
    series: str
    note: str = ""


def difference_chart(rows: Sequence[DifferenceRow]) -> Markup:
    """Draws one line per row around a dashed zero. Shows the interval with its dot, and the points; the scale fits."""
    if not rows:
        return Markup("")
    limit = max(0.01, *(abs(end) for row in rows for end in (row.low, row.value, row.high) if end is not None))
    scale = Scale(-limit, limit)
    return tag(
        "div",
        *(_difference_row(row, scale) for row in rows),
        _row_axis(lambda tick: f"{100 * limit * (2 * tick - 1):+.0f}" if tick != 0.5 else "0"),
        class_="rows",
    )


def _difference_row(row: DifferenceRow, scale: Scale) -> Markup:
    marks = [tag("line", class_="reference", x1="50%", x2="50%", y1=-6, y2=28)]
    title = f"{row.label}: {100 * row.value:+.1f} points"
    interval = "no interval"
    if row.low is not None and row.high is not None:
        left, right = scale.percent(row.low), scale.percent(row.high)
        marks.append(
            tag("rect", class_="range", x=f"{left}%", y=7, width=f"{max(right - left, 0.3):.3f}%", height=8, rx=4)
        )
        interval = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        title += f", 95% interval {interval}"
    marks.append(tag("circle", class_="dot", cx=f"{scale.percent(row.value)}%", cy=11, r=5))
    value = tag("b", f"{100 * row.value:+.1f}") + tag("span", interval, class_="range-text")
    return _row(row.label, row.note, marks, value, title, row.series)


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


@dataclass(frozen=True, slots=True)
class BoxGroup:
    """Boxes under a heading. `mark` is a value to compare them with, drawn as a line through all of them."""

    title: str
    mark: float
    rows: Sequence[BoxRow]
    note: str = ""


def box_chart(groups: Sequence[BoxGroup]) -> Markup:
    """Draws one box per row on a scale from 0 to 1. Boxes show quartiles and median, whiskers the extremes."""
    parts = []
    for group in groups:
        parts.append(tag("div", group.title, tag("small", group.note) if group.note else "", class_="group"))
        parts += [_box_row(row, group.mark) for row in group.rows]
    return tag("div", *parts, _row_axis("{:g}".format), class_="rows")


def _box_row(row: BoxRow, mark: float) -> Markup:
    left, middle, right = (SHARE.percent(value) for value in (row.q1, row.median, row.q3))
    marks = [tag("line", class_="reference", x1=f"{SHARE.percent(mark)}%", x2=f"{SHARE.percent(mark)}%", y1=-6, y2=28)]
    title = f"{row.label}: Q1 {row.q1:.2f}, median {row.median:.2f}, Q3 {row.q3:.2f}"
    if row.low is not None and row.high is not None:
        title += f", from {row.low:.2f} to {row.high:.2f}"
        ends = SHARE.percent(row.low), SHARE.percent(row.high)
        marks.append(tag("line", class_="whisker", x1=f"{ends[0]}%", x2=f"{ends[1]}%", y1=11, y2=11))
        marks += [tag("line", class_="whisker", x1=f"{end}%", x2=f"{end}%", y1=7, y2=15) for end in ends]
    marks.append(tag("rect", class_="box", x=f"{left}%", y=3, width=f"{max(right - left, 0.4):.3f}%", height=16, rx=3))
    marks.append(tag("line", class_="median", x1=f"{middle}%", x2=f"{middle}%", y1=3, y2=19))
    value = tag("b", f"{row.median:.2f}") + tag("span", f"{row.q1:.2f}–{row.q3:.2f}", class_="range-text")
    return _row(row.label, row.note, marks, value, title, row.series)


def _row(label: str, note: str, marks: Sequence[Markup], value: Markup, title: str, series: str) -> Markup:
    # taller than the row, so that the lines of adjacent rows meet
    grid = [tag("line", class_="grid", x1=f"{100 * x}%", x2=f"{100 * x}%", y1=-13, y2=35) for x in _ROW_TICKS]
    title = f"{title} ({note})" if note else title
    svg = tag("svg", tag("title", title), *grid, *marks, class_="track", width="100%", height=22, role="img")
    return tag(
        "div",
        tag("div", label, tag("small", note) if note else "", class_="row-label"),
        svg,
        tag("div", value, class_="row-value"),
        class_=f"row {series}",
    )


def _row_axis(shown: Callable[[float], str]) -> Markup:
    anchors = {0.0: "start", 1.0: "end"}
    labels = [
        tag("text", shown(tick), x=f"{100 * tick}%", y=12, text_anchor=anchors.get(tick, "middle"))
        for tick in _ROW_TICKS[::2]
    ]
    axis = tag("svg", *labels, class_="axis", width="100%", height=16, aria_hidden="true")
    return tag("div", tag("div"), axis, tag("div"), class_="row axis-row")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a bar. `series` is its CSS class."""

    label: str
    count: int
    series: str


def bar(segments: Sequence[Segment], total: int) -> Markup:
    """Draws the parts of a whole from left to right. The full width represents `total`."""
    marks, left = [], 0.0
    for segment in segments:
        if segment.count:
            width = 100 * segment.count / max(total, 1)
            title = f"{segment.label}: {segment.count:,}"
            # wide enough to see and to hover over
            shown = max(width, 0.5)
            marks.append(
                tag(
                    "rect",
                    tag("title", title),
                    class_=segment.series,
                    x=f"{left:.3f}%",
                    width=f"{shown:.3f}%",
                    height=16,
                )
            )
            left += width
    label = ", ".join(f"{segment.label} {segment.count:,}" for segment in segments)
    return tag("svg", *marks, class_="bar", width="100%", height=16, role="img", aria_label=label)


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
    parts = [*_axes(x_scale, y_scale, y_shown)]
    for line in lines:
        parts += _line(_thinned(line), x_scale, y_scale, x_title, y_shown)
    parts.append(tag("text", x_title, class_="axis-title", x="50%", y=_HEIGHT + 34, text_anchor="middle"))
    label = f"{y_title} by {x_title}: {', '.join(line.label for line in lines)}"
    svg = tag("svg", *parts, width="100%", height=_HEIGHT, role="img", aria_label=label)
    named = tag("div", y_title, class_="axis-title") if y_named else ""
    return tag("div", named, tag("div", svg, class_="plot"), class_="line-chart")


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


def _axes(x_scale: Scale, y_scale: Scale, y_shown: Callable[[float], str]) -> list[Markup]:
    parts = []
    for tick in y_scale.ticks():
        y = _y(y_scale, tick)
        parts.append(tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y))
        parts.append(tag("text", y_shown(tick), class_="tick", x=0, dx=-8, y=y + 4, text_anchor="end"))
    for tick in x_scale.ticks():
        x = x_scale.percent(tick)
        parts.append(tag("line", class_="tick-mark", x1=f"{x}%", x2=f"{x}%", y1=_HEIGHT, y2=_HEIGHT + 5))
        parts.append(tag("text", _si(tick), class_="tick", x=f"{x}%", y=_HEIGHT + 18, text_anchor="middle"))
    return parts


def _line(line: Line, x_scale: Scale, y_scale: Scale, x_title: str, y_shown: Callable[[float], str]) -> list[Markup]:
    positions = [(x_scale.percent(x), _y(y_scale, y)) for x, y in line.points]
    parts = []
    if not line.points_only and len(positions) > 1:
        drawn = [tag("polyline", points=_path(positions), class_=f"curve {line.series}")]
        if line.ends:
            lower = [(x, _y(y_scale, low)) for (x, _), (low, _) in zip(positions, line.ends, strict=True)]
            upper = [(x, _y(y_scale, high)) for (x, _), (_, high) in zip(positions, line.ends, strict=True)]
            drawn.insert(0, tag("polygon", points=_path(lower + upper[::-1]), class_=f"band {line.series}"))
        # a separate drawing that is stretched to the width of the chart; the stroke keeps its width
        parts.append(
            tag("svg", *drawn, width="100%", height=_HEIGHT, viewBox=f"0 0 1000 {_HEIGHT}", preserveAspectRatio="none")
        )
    radius = 5 if line.points_only or len(positions) <= 12 else 3
    kind = "point" if radius == 5 else "point hidden-point"
    for number, ((x, y), (left, top)) in enumerate(zip(line.points, positions, strict=True)):
        interval = f" ({y_shown(line.ends[number][0])} to {y_shown(line.ends[number][1])})" if line.ends else ""
        title = tag("title", f"{line.label}, {x_title} {x:,g}: {y_shown(y)}{interval}")
        parts.append(tag("circle", title, class_=f"{kind} {line.series}", cx=f"{left}%", cy=top, r=radius))
    return parts


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
