"""Draws maps of texts with search and keyboard navigation.

Each dot is a text, and similar texts are close. The dots come from the `map.parquet` of `eval.diversity`. Each dot
has its text as a `<title>`, so that a browser shows it on hover even without the page's script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
from markupsafe import Markup

from eval.diversity import MAP_FILE
from eval.report.blocks import Panel, Section
from eval.report.charts import tag
from eval.report.summary import made_by
from personahub.core.artifact import Artifact
from personahub.core.records import Row

_COLORS = ("after", "other", "c0", "c2", "c1", "c3", "c5", "before")  # for topics or collections
_MARGIN = 3.0  # percent
_LABEL_HEIGHT, _LETTER = 4.5, 1.75  # percent of the map on a phone


def read_maps(artifacts: Sequence[Artifact]) -> dict[str, list[Row]]:
    """Reads the rows of the maps by stage. Stages without a map are left out."""
    files = {artifact.manifest.stage: artifact.path / MAP_FILE for artifact in made_by(artifacts, "eval.diversity")}
    return {stage: pq.read_table(file).to_pylist() for stage, file in files.items() if file.exists()}


def maps(summary: Mapping[str, Any], map_rows: Mapping[str, Sequence[Row]]) -> Section | None:
    """Returns one panel for each column of each diversity stage with a map."""
    panels = []
    for stage in summary["diversity"]:
        rows = map_rows.get(stage["stage"], ())
        for column in dict.fromkeys(row["column"] for row in rows):
            panels.append(_panel(column, [row for row in rows if row["column"] == column]))
    if not panels:
        return None
    lead = (
        "Every dot is a text. t-SNE places similar texts close together; the distances between groups and their sizes"
        " mean little. Point at a dot or tap it to read its text, or use the arrow keys to move from dot to dot."
    )
    return Section("map", "Map", "Map of the texts", lead, panels=panels)


def _panel(column: str, rows: Sequence[Row]) -> Panel:
    several = len({row["collection"] for row in rows}) > 1
    key = "collection" if several else "topic"
    colors = _assign_colors([row[key] for row in rows])
    dots = [_dot(row, colors[row[key]], several) for row in rows]
    label = f"Map of {len(rows):,} texts. Use the arrow keys to move from one text to the next."
    cloud = tag("svg", *dots, *_labels(rows), class_="cloud", tabindex="0", role="application", aria_label=label)
    hint = tag("p", "Point at a dot, tap it, or press an arrow key.", class_="hint")
    search = tag(
        "label",
        tag("span", "Find in the map"),
        Markup('<input class="map-query" type="search" autocomplete="off">'),
        tag("small", class_="map-count", aria_live="polite"),
    )
    card = tag("div", hint, class_="map-text", aria_live="polite")
    side = tag("div", search, _legend([row[key] for row in rows], colors), card, class_="map-side")
    title = f"{column.capitalize()}s" if column in ("persona", "problem", "solution") else _readable(column)
    note = f"{len(rows):,} texts, colored by {key}. Topics are clusters, named by their words."
    return Panel(title, note, tag("div", cloud, side, class_="map"), wide=True)


def _readable(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _position(row: Row) -> tuple[float, float]:
    """Returns the distance from the left and from the top, in percent."""
    span = 100 - 2 * _MARGIN
    return _MARGIN + span * row["x"], _MARGIN + span * (1 - row["y"])


def _dot(row: Row, color: str, several: bool) -> Markup:
    left, top = _position(row)
    heading = f"{_readable(row['collection'])} · {row['topic']}" if several else row["topic"]
    title = tag("title", f"{heading}\n{row['text']}")
    return tag("circle", title, class_=f"spot {color}", cx=f"{left:.1f}%", cy=f"{top:.1f}%", r=4)


def _labels(rows: Sequence[Row]) -> list[Markup]:
    """Labels topics at the median of their dots, unless the labels would overlap."""
    counts = Counter(row["topic"] for row in rows)
    taken: list[tuple[float, float, float]] = []
    labels = []
    for topic in sorted(counts, key=lambda topic: (-counts[topic], topic)):
        dots = sorted(_position(row) for row in rows if row["topic"] == topic)
        text = ", ".join(topic.split(", ")[:2])
        half = _LETTER * len(text) / 2
        left = min(max(dots[len(dots) // 2][0], half), 100 - half)
        top = sorted(y for _, y in dots)[len(dots) // 2]
        if text and all(abs(top - y) > _LABEL_HEIGHT or abs(left - x) > half + other for x, y, other in taken):
            taken.append((left, top, half))
            labels.append(tag("text", text, class_="spot-label", x=f"{left:.1f}%", y=f"{top:.1f}%", aria_hidden="true"))
    return labels


def _assign_colors(values: Sequence[str]) -> dict[str, str]:
    """Maps values to color classes, the most frequent first. All remaining values share the last color."""
    counts = Counter(values)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    return {value: _COLORS[min(i, len(_COLORS) - 1)] for i, value in enumerate(order)}


def _legend(values: Sequence[str], colors: Mapping[str, str]) -> Markup:
    """Returns buttons that each show a single color."""
    counts = Counter(values)
    named: dict[str, list[str]] = {}
    for value, color in colors.items():
        named.setdefault(color, []).append(value)
    buttons = [
        tag(
            "button",
            tag("i", class_=f"swatch {color}"),
            tag("span", _readable(found[0]) if len(found) == 1 else f"{len(found)} others"),
            tag("small", f"{sum(counts[value] for value in found):,}"),
            type="button",
            data_series=color,
            aria_pressed="false",
        )
        for color, found in named.items()
    ]
    return tag("div", *buttons, class_="map-legend", role="group", aria_label="Show a single color")
