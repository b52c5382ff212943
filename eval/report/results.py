"""Page sections about accuracy, next to the paper's numbers.

A section with nothing to show is None and is left out of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.report import paper
from eval.report.blocks import Fold, Legend, Panel, Section, Table
from eval.report.charts import IntervalRow, interval_chart, percent
from eval.report.scaling import scaling_panels

_PAPER_TABLES = {"synthetic_test": ("table 1", paper.SYNTHETIC_TEST), "math": ("table 2", paper.MATH)}
_PAPER_SHOWN = (paper.STUDENT, "Qwen2-7B-Instruct", "Qwen2-72B-Instruct", "gpt-4o-2024-05-13")
_ROLES = {"before": "before training", "after": "after training", "other": "other models"}
_VERDICTS = ("correct", "wrong", "no_answer", "timeout", "error")


def accuracy(summary: Mapping[str, Any]) -> Section | None:
    """Shows the accuracy of every model on every benchmark. Includes intervals and the paper's numbers."""
    names = list(dict.fromkeys(name for stage in summary["benchmarks"] for name in stage["results"]))
    panels = [_benchmark_panel(name, summary["benchmarks"]) for name in names]
    panels += _comparison_panels(summary)
    panels += scaling_panels(summary)
    remarks = _remarks(summary["benchmarks"])
    if not panels and not remarks:
        return None
    lead = "The bar behind each dot is its 95% interval: Wilson's, or a bootstrap over problems if there are several samples. "
    if summary["math"]["status"] == "measured":
        lead += summary["math"]["statement"]
    roles = dict.fromkeys(stage["role"] for stage in summary["benchmarks"])
    legend = [Legend(role, _ROLES[role]) for role in roles]
    legend.append(Legend("paper", "published in the paper"))
    return Section("accuracy", "Accuracy", "Accuracy", lead, remarks, legend, panels)


def _benchmark_panel(name: str, stages: Sequence[Mapping[str, Any]]) -> Panel:
    taken = [(stage, stage["results"][name]) for stage in stages if name in stage["results"]]
    rows = [
        IntervalRow(stage["stage"], result["accuracy"], result["low"], result["high"], stage["role"], _count(result))
        for stage, result in taken
    ]
    kind = taken[0][1]["kind"]
    number, printed = _PAPER_TABLES.get(kind if kind == "synthetic_test" else name, ("", {}))
    rows += [IntervalRow(model, printed[model], None, None, "paper") for model in _PAPER_SHOWN if model in printed]
    folds = [Fold("Verdicts", _verdict_table(name, taken)), *_sampling_folds(taken), *_judge_folds(taken)]
    if printed:
        folds.append(Fold(f"All of the paper's {number}", _printed_table(printed)))
    note = "The paper's numbers are for its own synthetic test." if kind == "synthetic_test" else ""
    return Panel(_title(name), note, interval_chart(rows), folds=folds)


def _title(name: str) -> str:
    return {"math": "MATH", "math500": "MATH-500", "gsm8k": "GSM8K"}.get(name, name.replace("_", " ").capitalize())


def _count(result: Mapping[str, Any]) -> str:
    return f"{result['correct']:,} of {result['n']:,}"


def _verdict_table(name: str, taken: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Table:
    header = (
        "stage",
        *(verdict.replace("_", " ") for verdict in _VERDICTS),
        "accuracy as stated",
        "truncated",
        "references that match themselves",
    )
    rows = []
    for stage, result in taken:
        checked = stage["reference_self_check"].get(name)
        passed = f"{checked['correct']:,} of {checked['checked']:,}" if checked else ""
        verdicts = [f"{result['verdicts'][verdict]:,}" for verdict in _VERDICTS]
        stated = percent(result["as_stated"]["accuracy"]) if "as_stated" in result else ""
        rows.append((stage["stage"], *verdicts, stated, f"{result['truncated']:,}", passed))
    return Table(header, rows)


def _sampling_folds(taken: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Fold]:
    """pass@k and maj@k of the stages with several samples per problem."""
    folds = []
    for stage, result in taken:
        if "pass_at_k" in result:
            rows = [
                (k, *(_with_interval(result[measure][k]) for measure in ("pass_at_k", "maj_at_k")))
                for k in result["pass_at_k"]
            ]
            folds.append(Fold(f"{stage['stage']}: pass@k and maj@k", Table(("k", "pass@k", "maj@k"), rows)))
    return folds


def _with_interval(value: Mapping[str, float]) -> str:
    return f"{percent(value['value'])} ({100 * value['low']:.1f}–{100 * value['high']:.1f})"


def _judge_folds(taken: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Fold]:
    """Returns verdicts of an LLM judge after the rules, if there was one."""
    header = ("stage", "model", "judged", "accepted against rules", "rejected against rules", "accuracy with judge")
    rows = [
        (
            stage["stage"],
            judge["model"],
            f"{judge['asked']:,}",
            f"{judge['judge_accepts']:,}",
            f"{judge['judge_rejects']:,}",
            percent(judge["accuracy"]),
        )
        for stage, result in taken
        if (judge := result.get("judge"))
    ]
    return [Fold("LLM judge", Table(header, rows))] if rows else []


def _comparison_panels(summary: Mapping[str, Any]) -> list[Panel]:
    """Paired comparisons of runs on the same problems."""
    header = (
        "benchmark",
        "runs",
        "difference",
        "95% interval",
        "solved only by first",
        "solved only by second",
        "p (Holm)",
    )
    panels = []
    for stage in summary["comparisons"]:
        rows = [
            (
                _title(name),
                f"{pair['a']} → {pair['b']}",
                f"{100 * pair['difference']:+.1f}",
                f"{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}",
                f"{pair['only_a']:,}",
                f"{pair['only_b']:,}",
                "" if pair["p_holm"] is None else f"{pair['p_holm']:.2g}",
            )
            for name, pairs in stage["benchmarks"].items()
            for pair in pairs
        ]
        if rows:
            note = "Percentage points of accuracy with a paired bootstrap over problems, and McNemar's exact test, Holm-corrected."
            panels.append(
                Panel(f"{stage['stage']}: paired comparison of runs", note, table=Table(header, rows), wide=True)
            )
    return panels


def _printed_table(printed: Mapping[str, float]) -> Table:
    return Table(("model", "accuracy"), [(model, percent(value)) for model, value in printed.items()], (paper.STUDENT,))


def _remarks(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was skipped, and what a reader might not expect."""
    skipped = {name: reason for stage in stages for name, reason in stage["skipped"].items()}
    remarks = [f"{_title(name)} was skipped: {reason}" for name, reason in skipped.items()]
    for stage in stages:
        for name, checked in stage["reference_self_check"].items():
            failed = checked["checked"] - checked["correct"]
            if failed:
                remarks.append(
                    f"{stage['stage']}: {failed:,} of {checked['checked']:,} reference answers of {_title(name)} are not "
                    "graded as correct when compared with themselves, so correct answers to them may count as wrong"
                )
        for name, result in stage["results"].items():
            failed = {verdict: result["verdicts"][verdict] for verdict in ("error", "timeout")}
            if any(failed.values()):
                remarks.append(
                    f"{stage['stage']}: of {result['n']:,} problems of {_title(name)}, {failed['error']:,} could not be answered or "
                    f"checked and {failed['timeout']:,} timed out during checking. They count as not solved"
                )
        if stage["asked_as_trained"] is False:
            remarks.append(f"{stage['stage']} uses a different prompt than the training data")
    return remarks


def breakdown(summary: Mapping[str, Any]) -> Section | None:
    """Shows accuracy by subject and level, for trained and other models.

    Benchmarks without any solved problem are left out here, but `summary.json` has their tables.
    """
    stages = summary["benchmarks"]
    shown = [stage for stage in stages if stage["role"] != "before"] or stages
    panels = []
    for stage in shown:
        for name, result in stage["results"].items():
            for part in ("subject", "level"):
                groups = result[f"by_{part}"]
                if groups and result["correct"]:
                    rows = [
                        IntervalRow(
                            _group(part, key),
                            group["accuracy"],
                            group["low"],
                            group["high"],
                            stage["role"],
                            _count(group),
                        )
                        for key, group in groups.items()
                    ]
                    panels.append(Panel(f"{_title(name)} by {part}", stage["stage"], interval_chart(rows)))
    if not panels:
        return None
    return Section("subjects", "Subjects", "Accuracy by subject and level", "With 95% Wilson intervals.", panels=panels)


def _group(part: str, key: str) -> str:
    return f"Level {key}" if part == "level" else key
