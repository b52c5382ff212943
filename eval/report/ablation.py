"""Page section about an ablation: its conclusions and the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.blocks import Fold, Legend, Listing, Panel, Section, Table
from eval.report.charts import (
    IntervalRow,
    Line,
    difference_chart,
    interval_chart,
    line_chart,
    percent,
)
from eval.report.diversity import MEASURE_TITLES, shown_value

_SIMULATED = (
    "The teacher was simulated. This run shows that the pipeline works. It does not show whether personas help a real"
    " model."
)
_BASELINE = "after"  # the accent color
_ARMS = ("other", "paper", "c2", "c0", "c3", "c5", "c4", "before")
_CURVES = ("vendi", "nearest_cosine", "topics_covered", "distinct_2")
_ARM_FACTS = {
    "problems": "problems generated",
    "problem_tokens": "tokens of these problems",
    "training_problems": "training problems",
    "model_steps": "training steps",
    "model_tokens": "training tokens",
}


def ablation(summary: Mapping[str, Any]) -> list[Section]:
    """Returns one section per ablation stage."""
    return [_section(stage, summary["simulated_teacher"]["used"]) for stage in summary["ablations"]]


def _section(stage: Mapping[str, Any], simulated: bool) -> Section:
    conclusions = stage["conclusions"]
    remarks = [_SIMULATED] if simulated else []
    series = arm_series(stage)
    headings = (("Shown", "shown"), ("Not shown", "not_shown"), ("Limits", "limits"))
    listings = [Listing(title, conclusions[key]) for title, key in headings if conclusions[key]]
    panels = [Panel("What the data show and do not show", listings=listings, wide=True)]
    panels += [
        panel for name, result in stage["benchmarks"].items() for panel in _accuracy(name, result, stage, series)
    ]
    if stage["diversity"]:
        panels.append(_measures(stage))
        panels += _curves(stage["diversity"], series)
    seeds = len(stage["seeds"])
    lead = (
        f"{len(stage['arms'])} arms with {seeds} seed{'s' * (seeds > 1)} each. All have the same persona ids, request seeds,"
        " number of problems, teacher, verification, training and test. Every arm is compared with"
        f" {arm_name(stage['baseline'])} on the same seeds and problems."
    )
    legend = [Legend(color, arm_name(arm)) for arm, color in series.items()]
    section_id = "ablation" if stage["stage"] == "ablation" else f"ablation-{stage['stage']}"
    return Section(section_id, "Ablation", "Ablation", lead, remarks, legend, panels)


def arm_name(arm: str) -> str:
    """`no_persona` -> `no persona`."""
    return arm.replace("_", " ")


def arm_series(stage: Mapping[str, Any]) -> dict[str, str]:
    """Maps each arm to its color class. The baseline comes first and has the accent color."""
    others = [arm for arm in stage["arms"] if arm != stage["baseline"]]
    return {stage["baseline"]: _BASELINE} | {arm: _ARMS[i % len(_ARMS)] for i, arm in enumerate(others)}


def _accuracy(name: str, result: Mapping[str, Any], stage: Mapping[str, Any], series: Mapping[str, str]) -> list[Panel]:
    title = name.replace("_", " ")
    rows = []
    for arm, color in series.items():
        found = result["accuracy"][arm]
        low, high = max(found["low"], 0.0), min(found["high"], 1.0)
        rows.append(IntervalRow(arm_name(arm), found["mean"], low, high, color))
    note = f"{result['n']:,} problems, mean over {result['seeds']} seeds. 95% intervals over problems and seeds."
    if flat := [arm_name(arm) for arm, found in result["accuracy"].items() if found["interval"] == "wilson"]:
        note += f" All scores within {' and within '.join(flat)} are equal, so the interval is Wilson's, over problems alone."
    chart = interval_chart(rows, fitted=True)
    accuracy = Panel(f"Accuracy on the {title}", note, chart, folds=_folds(name, result, stage, series))
    differences = [
        IntervalRow(
            arm_name(arm), found["mean"], found["low"], found["high"], series[arm], f"p {_format_p(found['p_holm'])}"
        )
        for arm, found in result["differences"].items()
    ]
    baseline = arm_name(stage["baseline"])
    note = "Percentage points of accuracy, paired by seed and problem. p values are Holm-corrected over all arms."
    header = ("arm", "difference", "95% interval", "p (Holm)", "better", "worse", "equal")
    table = Table(
        header,
        [
            (
                arm_name(arm),
                f"{100 * found['mean']:+.1f}",
                "none" if found["low"] is None else f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}",
                _format_p(found["p_holm"]),
                *(f"{found[key]:,}" for key in ("better", "worse", "equal")),
            )
            for arm, found in result["differences"].items()
        ],
    )
    fold = Fold("Problems solved by more, fewer or as many seeds", table)
    return [accuracy, Panel(f"Difference from {baseline}", note, difference_chart(differences), folds=[fold])]


def _folds(name: str, result: Mapping[str, Any], stage: Mapping[str, Any], series: Mapping[str, str]) -> list[Fold]:
    seeds = [f"seed {seed}" for seed in stage["seeds"]]
    by_seed = Table(
        ("arm", *seeds),
        [(arm_name(arm), *map(percent, result["accuracy"][arm]["by_seed"])) for arm in series],
    )
    folds = [Fold("Seed by seed", by_seed)]
    if origins := stage["by_origin"].get(name):
        columns = list(next(iter(origins.values())))
        table = Table(
            ("trained on", *(f"problems from {arm_name(origin)}" for origin in columns)),
            [(arm_name(arm), *(percent(origins[arm][origin]) for origin in columns)) for arm in series],
        )
        folds.append(Fold("By the arm whose prompt made the test problem", table))
    facts = [key for key in _ARM_FACTS if any(key in numbers for numbers in stage["arms"].values())]
    if facts:
        rows = [(arm_name(arm), *(f"{stage['arms'][arm].get(key, 0):,.0f}" for key in facts)) for arm in series]
        folds.append(Fold("Size of every arm", Table(("arm", *(_ARM_FACTS[key] for key in facts)), rows)))
    return folds


def _measures(stage: Mapping[str, Any]) -> Panel:
    found = stage["diversity"]
    header = ("arm", *(MEASURE_TITLES[measure] for measure in found["measures"]))
    rows = [
        (
            arm_name(arm),
            *(_with_difference(measure, by_arm[arm], stage["alpha"]) for measure, by_arm in found["measures"].items()),
        )
        for arm in arm_series(stage)
    ]
    note = (
        f"{found['texts']:,} problems of each arm and seed; mean over seeds. The difference from"
        f" {arm_name(stage['baseline'])} is in parentheses. A star marks p below {stage['alpha']:g} in a paired t test over"
        " seeds, Holm-corrected over all arms."
    )
    return Panel(
        "Diversity of the problems", note, table=Table(header, rows, (arm_name(stage["baseline"]),)), wide=True
    )


def _with_difference(measure: str, entry: Mapping[str, Any], alpha: float) -> str:
    value = shown_value(measure, entry["mean"])
    if "difference" not in entry:
        return value
    sign = "+" if entry["difference"] >= 0 else "−"
    star = "*" if entry["p_holm"] < alpha else ""
    return f"{value} ({sign}{shown_value(measure, abs(entry['difference']))}{star})"


def _curves(found: Mapping[str, Any], series: Mapping[str, str]) -> list[Panel]:
    panels = []
    for measure in _CURVES:
        lines = [
            Line(
                arm_name(arm),
                [(point[0], point[1]) for point in found["curves"][measure][arm]],
                color,
                ends=[(point[2], point[3]) for point in found["curves"][measure][arm]],
            )
            for arm, color in series.items()
        ]
        title = MEASURE_TITLES[measure]
        shown = f"{title[:1].upper()}{title[1:]} by number of problems"
        note = "Mean over seeds. The band spans the lowest to the highest seed."
        chart = line_chart(
            lines, "problems", title, y_named=False, y_shown=lambda value, m=measure: shown_value(m, value)
        )
        panels.append(Panel(shown, note, chart))
    return panels


def _format_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def card(stages: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Headline card: how many comparisons show a difference in accuracy."""
    if not stages:
        return None
    stage = stages[0]
    compared = [entry for result in stage["benchmarks"].values() for entry in result["differences"].values()]
    found = sum(entry["p_holm"] < stage["alpha"] for entry in compared)
    return {
        "title": "Arms that differ",
        "value": f"{found} of {len(compared)}",
        "text": f"from {arm_name(stage['baseline'])} in accuracy ({len(stage['seeds'])} seeds)",
    }
