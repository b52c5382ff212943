"""Page sections about diversity: figure 10, and every measure by number of texts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.blocks import Fold, Legend, Panel, Section, Table
from eval.report.charts import BoxGroup, BoxRow, Line, box_chart, line_chart, percent

MEASURE_TITLES = {
    "mean_cosine": "mean cosine",
    "nearest_cosine": "cosine to the nearest",
    "duplicate_rate": "duplicates",
    "vendi": "Vendi score",
    "distinct_2": "distinct-2",
    "compression_ratio": "compression ratio",
    "topics_covered": "topics covered",
    "effective_topics": "effective topics",
}
_LOWER_IS_MORE_DIVERSE = ("mean_cosine", "nearest_cosine", "duplicate_rate", "compression_ratio")
_SHARES = ("duplicate_rate", "topics_covered")
_SERIES = ("after", "other", "c2", "c0", "c3", "c5", "c4", "before")
_TOPICS_SHOWN = 15
_FEW_PAIRS = 20  # the median of fewer pairs means little


def shown_value(measure: str, value: float) -> str:
    """Formats the value of a measure."""
    if measure in _SHARES:
        return percent(value)
    if measure in ("vendi", "effective_topics"):
        return f"{value:.1f}"
    return f"{value:.2f}" if measure == "compression_ratio" else f"{value:.3f}"


def similarity(summary: Mapping[str, Any]) -> Section | None:
    """Draws figure 10, problem similarity by persona similarity. Includes the paper's quartiles."""
    panels, legend = [], []
    for stage in summary["similarity"]:
        colors = {series["name"]: _SERIES[i % len(_SERIES)] for i, series in enumerate(stage["series"])}
        chart = box_chart([_level(level, stage, colors) for level in stage["levels"]])
        note = ". ".join(_search_notes(stage["search"])) + "."
        fold = Fold("Quartiles", _quartile_table(stage))
        panels.append(Panel(f"{stage['stage']}: cosine of two problems", note, chart, folds=[fold], wide=True))
        note = f"Judged by the medians of levels with at least {_FEW_PAIRS} pairs."
        panels.append(Panel("Do the paper's claims hold here?", note, table=_claims(stage), wide=True))
        legend += [
            Legend(color, _series_name(series)) for series, color in zip(stage["series"], colors.values(), strict=True)
        ]
    if not panels:
        return None
    lead = (
        "Pairs of personas at a given cosine similarity, and the similarity of the problems made with them. The paper "
        "finds that problems become more similar as their personas do, that they stay less similar than the personas "
        "(left of the dashed line), and that a fixed focus makes them more similar. The paper used "
        "text-embedding-3-small. Other embedding models have other levels of similarity, so compare the trend."
    )
    legend += [Legend("paper", "figure 10 of the paper"), Legend("dashed", "cosine of the personas")]
    title = "Problem similarity by persona similarity"
    return Section("similarity", "Similarity", title, lead, legend=legend, panels=panels)


def _series_name(series: Mapping[str, Any]) -> str:
    focus = f"focus on {series['focus']}" if series["focus"] else "no focus"
    greedy = {True: "greedy", False: "sampled", None: ""}[series["greedy"]]
    details = ", ".join(part for part in (focus, series["model"], greedy) if part)
    return f"{series['name'].replace('_', ' ')} ({details})"


def _level(level: Mapping[str, Any], stage: Mapping[str, Any], colors: Mapping[str, str]) -> BoxGroup:
    rows = []
    for series in stage["series"]:
        found = next(each for each in series["levels"] if each["level"] == level["level"])
        if found["pairs"]:
            values = (found["q1"], found["median"], found["q3"])
            note = f"{found['pairs']:,} pairs"
            color = colors[series["name"]]
            rows.append(BoxRow(series["name"].replace("_", " "), *values, color, found["low"], found["high"], note))
    rows += [
        BoxRow("paper", row["q1"], row["median"], row["q3"], "paper", note=row["prompt"]) for row in level["paper"]
    ]
    note = "" if level["found"] else "no such pair in this collection"
    return BoxGroup(f"Personas at {level['level']:g}", level["level"], rows, note)


def _search_notes(search: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Embedded by {search['embedder']}. {search['personas']:,} personas, pairs within {search['tolerance']:g} of each level"
    ]
    short = [entry for entry in search["levels"] if entry["found"] < search["pairs_per_level"]]
    if short:
        listed = ", ".join(f"{entry['found']:,} at {entry['level']:g}" for entry in short)
        why = (
            f"all {search['possible_pairs']:,} pairs were compared, so there are no more"
            if search["exhaustive"]
            else f"the search reached its limit after {search['compared_pairs']:,} of {search['possible_pairs']:,} pairs"
        )
        notes.append(f"Fewer than {search['pairs_per_level']:,} pairs: {listed}; {why}")
    return notes


def _claims(stage: Mapping[str, Any]) -> Table:
    """Checks three claims about the medians.

    They rise with the cosine, stay below it, and rise with a focus. Levels with few pairs are left out.
    """
    header = ("series", "levels", "rises with persona similarity", "stays below it", "higher than without focus")
    return Table(header, [_claim(series, stage["series"]) for series in stage["series"]])


def _claim(series: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    medians = _medians(series)
    rises = [a[0] < b[0] for a, b in itertools.pairwise(medians.values())]
    below = [level for level, (median, _) in medians.items() if median >= level]
    plain = next((_medians(each) for each in others if not each["focus"] and each["model"] == series["model"]), {})
    common = [level for level in medians if level in plain]
    raised = [level for level in common if medians[level][0] <= plain[level][0]]
    return (
        series["name"].replace("_", " "),
        ", ".join(f"{level:g}" for level in medians) or "none",
        "" if not rises else "yes" if all(rises) else "no",
        "" if not medians else "yes" if not below else f"not at {', '.join(f'{level:g}' for level in below)}",
        "" if not series["focus"] or not common else "yes" if not raised else "no",
    )


def _medians(series: Mapping[str, Any]) -> dict[float, tuple[float, int]]:
    """Returns the median and number of pairs by level, for the levels with enough pairs."""
    levels = sorted(series["levels"], key=lambda level: level["level"])
    return {level["level"]: (level["median"], level["pairs"]) for level in levels if level["pairs"] >= _FEW_PAIRS}


def _quartile_table(stage: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{series['name'].replace('_', ' ')} at {level['level']:g}",
            f"{level['pairs']:,}",
            *(f"{level[key]:.2f}" if level["pairs"] else "" for key in ("q1", "median", "q3", "mean")),
            _range(level["mean_interval"]) if level["pairs"] else "",
        )
        for series in stage["series"]
        for level in series["levels"]
    ]
    return Table(("personas", "pairs", "Q1", "median", "Q3", "mean", "95% interval of the mean"), rows)


def diversity(summary: Mapping[str, Any]) -> Section | None:
    """Shows every measure by number of texts. Has a line per collection and a table of the whole samples."""
    panels: list[Panel] = []
    legend: list[Legend] = []
    for stage in summary["diversity"]:
        colors = {name: _SERIES[i % len(_SERIES)] for i, name in enumerate(stage["collections"])}
        legend = [Legend(color, _collection_name(name)) for name, color in colors.items()]
        panels.append(Panel(f"{stage['stage']}: in numbers", _note(stage), table=_table(stage), wide=True))
        for measure, title in MEASURE_TITLES.items():
            lines = [
                Line(
                    _collection_name(name),
                    [(point[0], point[1]) for point in found["curves"][measure]],
                    colors[name],
                    ends=[(point[2], point[3]) for point in found["curves"][measure]],
                )
                for name, found in stage["collections"].items()
            ]
            shown = f"{title} (cosine ≥ {stage['duplicate_threshold']:g})" if measure == "duplicate_rate" else title
            chart = line_chart(
                lines, "texts", shown, log_x=True, y_named=False, y_shown=lambda value, m=measure: shown_value(m, value)
            )
            better = "lower" if measure in _LOWER_IS_MORE_DIVERSE else "higher"
            panels.append(Panel(f"{shown[:1].upper()}{shown[1:]}", f"{better} is more diverse", chart))
        panels.append(_thresholds(stage, colors))
        panels.append(_topics(stage))
    if not panels:
        return None
    lead = (
        "Each measure by number of texts. A flat curve is saturated: more texts of the same kind add little. All measures "
        "depend on the number and the length of the texts, so compare collections of the same kind at equal numbers. Bands "
        "are 95% intervals for other samples of the same size from the collection."
    )
    return Section("diversity", "Diversity", "Diversity", lead, legend=legend, panels=panels)


def _collection_name(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _note(stage: Mapping[str, Any]) -> str:
    return (
        f"Embedded by {stage['embedder']}. A sample of each collection, with 95% intervals by subsampling. Curves show the"
        f" mean over {stage['draws']} random subsets of the sample."
    )


def _table(stage: Mapping[str, Any]) -> Table:
    header = ("", *(_collection_name(name) for name in stage["collections"]))
    found = list(stage["collections"].values())
    rows = [("texts measured", *(f"{each['texts']:,} of {each['total']:,}" for each in found))]
    for measure, title in MEASURE_TITLES.items():
        ends = [[shown_value(measure, value) for value in each["curves"][measure][-1][1:]] for each in found]
        rows.append((title, *(f"{value} ({low.removesuffix('%')}–{high})" for value, low, high in ends)))
    rows += [(f"distinct-{n}", *(f"{each['distinct'][n]:.3f}" for each in found)) for n in ("1", "3", "4")]
    return Table(header, rows)


def _thresholds(stage: Mapping[str, Any], colors: Mapping[str, str]) -> Panel:
    lines = [
        Line(
            _collection_name(name),
            [(each["threshold"], each["rate"]) for each in found["duplicate_rates"]],
            colors[name],
        )
        for name, found in stage["collections"].items()
    ]
    chart = line_chart(lines, "cosine threshold", "texts with a duplicate", y_from_zero=True, y_shown=percent)
    return Panel(
        "Duplicates by threshold", "Share of texts whose nearest other text is at or above the threshold.", chart
    )


def _topics(stage: Mapping[str, Any]) -> Panel:
    folds = []
    for column, topics in stage["topics"].items():
        names = list(topics[0]["texts"])
        rows = [(topic["words"], *(f"{topic['texts'][name]:,}" for name in names)) for topic in topics[:_TOPICS_SHOWN]]
        title = f"Topics by {column}: the {min(_TOPICS_SHOWN, len(topics))} largest of {len(topics)}"
        folds.append(Fold(title, Table(("words", *map(_collection_name, names)), rows)))
    return Panel("Topics", "Clusters of all texts of one kind, named by the words that set them apart.", folds=folds)


def _range(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f}–{ends[1]:.3f}"
