"""Accuracy by number of training problems, next to figure 9 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report import paper
from eval.report.blocks import Fold, Panel, Table
from eval.report.charts import Line, line_chart, percent

_NAMES = {"math": "MATH", "math500": "MATH-500", "gsm8k": "GSM8K"}


def scaling_series(
    benchmarks: Sequence[Mapping[str, Any]], trainings: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Collects benchmark results by the number of training problems of the student.

    Args:
        benchmarks: benchmarks of the report's summary. Only those of trained students count.
        trainings: training runs of the report's summary, with their number of `examples`.
    """
    examples = {training["stage"]: training["examples"] for training in trainings if training.get("examples")}
    found: dict[str, list[dict[str, Any]]] = {}
    for benchmark in benchmarks:
        if benchmark["role"] != "after" or benchmark["model"] not in examples:
            continue
        for name, result in benchmark["results"].items():
            kept = {key: result[key] for key in ("n", "correct", "accuracy", "low", "high")}
            point = {"examples": examples[benchmark["model"]], "stage": benchmark["stage"], **kept}
            found.setdefault(name, []).append(point)
    return [
        {"benchmark": name, "points": sorted(points, key=lambda point: point["examples"])}
        for name, points in found.items()
    ]


def scaling_panels(summary: Mapping[str, Any]) -> list[Panel]:
    """Returns panels for MATH, as in the paper. Also for other benchmarks that several students took."""
    return [
        _panel(series["benchmark"], series["points"])
        for series in summary["scaling"]
        if series["benchmark"] == "math" or len({point["examples"] for point in series["points"]}) > 1
    ]


def _panel(benchmark: str, points: Sequence[Mapping[str, Any]]) -> Panel:
    measured = [(float(point["examples"]), float(point["accuracy"])) for point in points]
    name = _NAMES.get(benchmark, benchmark.replace("_", " ").capitalize())
    chart = line_chart(
        [
            Line("paper, Qwen2-7B on MATH", paper.SCALING, "paper"),
            Line(f"this run on {name}", measured, "after", points_only=len(measured) == 1),
        ],
        x_title="training problems",
        y_title="accuracy",
        log_x=True,
        y_from_zero=True,
        y_shown=lambda value: f"{100 * value:.0f}%",
    )
    rows = [
        (
            f"{point['examples']:,}",
            point["stage"],
            f"{point['correct']:,} of {point['n']:,}",
            f"{percent(point['accuracy'])} ({100 * point['low']:.1f}–{100 * point['high']:.1f})",
        )
        for point in points
    ]
    table = Table(("training problems", "stage", "correct", "accuracy"), rows)
    note = "The paper's curve is from figure 9: MATH, with another student and another teacher."
    return Panel(f"{name} by number of training problems", note, chart, folds=[Fold("Numbers", table)], wide=True)
