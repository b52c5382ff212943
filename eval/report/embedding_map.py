"""The page's maps: one dot for each text, texts that are alike close by, to be pointed at, searched and walked by keys.

The dots come from the `map.parquet` of `eval.diversity`. Each carries its text as a `<title>`, so that without
the page's script a browser still shows it on hover.
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

_COLOURS = ("after", "other", "c0", "c2", "c1", "c3", "c5", "before")  # of topics, or of collections
_MARGIN = 3.0  # percent
_LABEL_HEIGHT, _LETTER = 4.5, 1.75  # percent of the map at the width of a phone


def read_maps(artifacts: Sequence[Artifact]) -> dict[str, list[Row]]:
    """Rows of the maps by the stage that made them; a stage without a map is left out."""
    files = {artifact.manifest.stage: artifact.path / MAP_FILE for artifact in made_by(artifacts, "eval.diversity")}
    return {stage: pq.read_table(file).to_pylist() for stage, file in files.items() if file.exists()}


def maps(summary: Mapping[str, Any], places: Mapping[str, Sequence[Row]]) -> Section | None:
    """A panel for each column of each diversity stage that has a map."""
    panels = []
    for stage in summary["diversity"]:
        rows = places.get(stage["stage"], ())
        for column in dict.fromkeys(row["column"] for row in rows):
            panels.append(_panel(column, [row for row in rows if row["column"] == column]))
    if not panels:
        return None
    lead = (
        "Every dot is a text, placed by t-SNE so that those close by are alike; empty space between groups and the size"
        " of a group mean little. Point at a dot or tap it to read it, or walk from dot to dot with the arrow keys."
    )
    return Section("map", "Map", "Map of the texts", lead, panels=panels)


def _panel(column: str, rows: Sequence[Row]) -> Panel:
    several = len({row["collection"] for row in rows}) > 1
    key = "collection" if several else "topic"
    colours = _colours([row[key] for row in rows])
    dots = [_dot(row, colours[row[key]], several) for row in rows]
    label = f"Map of {len(rows):,} texts. Arrow keys go from one to the next."
    cloud = tag("svg", *dots, *_labels(rows), class_="cloud", tabindex="0", role="application", aria_label=label)
    hint = tag("p", "Point at a dot, tap it, or press an arrow key.", class_="hint")
    search = tag(
        "label",
        tag("span", "Find in the map"),
        Markup('<input class="map-query" type="search" autocomplete="off">'),
        tag("small", class_="map-count", aria_live="polite"),
    )
    card = tag("div", hint, class_="map-text", aria_live="polite")
    side = tag("div", search, _legend([row[key] for row in rows], colours), card, class_="map-side")
    title = f"{column.capitalize()}s" if column in ("persona", "problem", "solution") else _plain(column)
    note = f"{len(rows):,} texts, coloured by {key}; topics are clusters, named by their words."
    return Panel(title, note, tag("div", cloud, side, class_="map"), wide=True)


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _at(row: Row) -> tuple[float, float]:
    """Place from the left and from the top, in percent."""
    span = 100 - 2 * _MARGIN
    return _MARGIN + span * row["x"], _MARGIN + span * (1 - row["y"])


def _dot(row: Row, colour: str, several: bool) -> Markup:
    left, top = _at(row)
    about = f"{_plain(row['collection'])} · {row['topic']}" if several else row["topic"]
    title = tag("title", f"{about}\n{row['text']}")
    return tag("circle", title, class_=f"spot {colour}", cx=f"{left:.1f}%", cy=f"{top:.1f}%", r=4)


def _labels(rows: Sequence[Row]) -> list[Markup]:
    """Words of the topics at the median of their dots, where they hide no other label."""
    counts = Counter(row["topic"] for row in rows)
    taken: list[tuple[float, float, float]] = []
    labels = []
    for topic in sorted(counts, key=lambda topic: (-counts[topic], topic)):
        dots = sorted(_at(row) for row in rows if row["topic"] == topic)
        text = ", ".join(topic.split(", ")[:2])
        half = _LETTER * len(text) / 2
        left = min(max(dots[len(dots) // 2][0], half), 100 - half)
        top = sorted(y for _, y in dots)[len(dots) // 2]
        if text and all(abs(top - y) > _LABEL_HEIGHT or abs(left - x) > half + other for x, y, other in taken):
            taken.append((left, top, half))
            labels.append(tag("text", text, class_="spot-label", x=f"{left:.1f}%", y=f"{top:.1f}%", aria_hidden="true"))
    return labels


def _colours(values: Sequence[str]) -> dict[str, str]:
    """Colour class by value, the most frequent first; the last colour is of all that are left."""
    counts = Counter(values)
    order = sorted(counts, key=lambda value: (-counts[value], value))
    return {value: _COLOURS[min(i, len(_COLOURS) - 1)] for i, value in enumerate(order)}


def _legend(values: Sequence[str], colours: Mapping[str, str]) -> Markup:
    """Buttons that show one colour alone."""
    counts = Counter(values)
    named: dict[str, list[str]] = {}
    for value, colour in colours.items():
        named.setdefault(colour, []).append(value)
    buttons = [
        tag(
            "button",
            tag("i", class_=f"swatch {colour}"),
            tag("span", _plain(found[0]) if len(found) == 1 else f"{len(found)} others"),
            tag("small", f"{sum(counts[value] for value in found):,}"),
            type="button",
            data_series=colour,
            aria_pressed="false",
        )
        for colour, found in named.items()
    ]
    return tag("div", *buttons, class_="map-legend", role="group", aria_label="Show one colour alone")
