"""Draws maps of texts with search and keyboard navigation.

Each dot is a text, and similar texts are close. The dots come from the `map.parquet` of `eval.diversity`. Each dot
has its text as a `<title>`, so that a browser shows it on hover even without the page's script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from eval.diversity import MAP_FILE
from eval.report.blocks import Panel, Section
from eval.report.charts import draw
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
    buttons = _buttons([row[key] for row in rows], colors)
    label = f"Map of {len(rows):,} texts. Use the arrow keys to move from one text to the next."
    chart = draw("text_map", dots, _labels(rows), buttons, label)
    title = f"{column.capitalize()}s" if column in ("persona", "problem", "solution") else _readable(column)
    note = f"{len(rows):,} texts, colored by {key}. Topics are clusters, named by their words."
    return Panel(title, note, chart, wide=True)


def _readable(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _position(row: Row) -> tuple[float, float]:
    """Returns the distance from the left and from the top, in percent."""
    span = 100 - 2 * _MARGIN
    return _MARGIN + span * row["x"], _MARGIN + span * (1 - row["y"])


def _dot(row: Row, color: str, several: bool) -> dict[str, Any]:
    left, top = _position(row)
    heading = f"{_readable(row['collection'])} · {row['topic']}" if several else row["topic"]
    return {"left": left, "top": top, "color": color, "title": f"{heading}\n{row['text']}"}


def _labels(rows: Sequence[Row]) -> list[tuple[str, float, float]]:
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
            labels.append((text, left, top))
    return labels


def _assign_colors(values: Sequence[str]) -> dict[str, str]:
    """Maps values to color classes, the most frequent first. All remaining values share the last color."""
    counts = Counter(values)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    return {value: _COLORS[min(i, len(_COLORS) - 1)] for i, value in enumerate(order)}


def _buttons(values: Sequence[str], colors: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Returns the color, text and number of dots of each button."""
    counts = Counter(values)
    named: dict[str, list[str]] = {}
    for value, color in colors.items():
        named.setdefault(color, []).append(value)
    return [
        (color, _readable(found[0]) if len(found) == 1 else f"{len(found)} others", sum(counts[v] for v in found))
        for color, found in named.items()
    ]
