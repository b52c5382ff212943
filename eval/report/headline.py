"""Chooses the student of the headline.

It shows the synthetic test before and after training, and MATH. Of several trained students it is the one trained on
the most examples, and among equals the later stage. If a student was graded more than once, its first stage counts.
Arms of an ablation are never chosen: their own section compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Benchmark = Mapping[str, Any]  # as in summary.json: `stage`, `role`, `model`, `results`, `skipped`

_NEAR_ZERO = 0.05


@dataclass(frozen=True, slots=True)
class Students:
    """What is known about trained models, by the stage that trained them."""

    examples: Mapping[str, int]  # only stages that report the number
    started_from: Mapping[str, Sequence[str]]  # upstream stages, and the name of an external model
    arms: frozenset[str]  # models that an ablation compares


def student(benchmarks: Sequence[Benchmark], students: Students) -> dict[str, Any] | None:
    """Returns results on the synthetic test before and after training.

    None if no student took it, or only the arms of an ablation.
    """
    taken = [(stage, name) for stage in benchmarks if (name := _synthetic_test(stage)) is not None]
    names = {stage["stage"]: name for stage, name in taken}
    trained = [stage for stage, _ in taken if stage["role"] == "after"]
    candidates = _outside_ablations(trained, students)
    if trained and not candidates:
        return None
    before = [stage for stage, _ in taken if stage["role"] == "before"]
    after = _most_trained(candidates, students) if candidates else None
    if after is not None:
        origins = _origins(after["model"], students)
        before = [stage for stage in before if stage["model"] in origins]
    if after is None and not before:
        return None
    return {
        "before": _headline(before[0], names[before[0]["stage"]], before, students) if before else None,
        "after": _headline(after, names[after["stage"]], trained, students) if after is not None else None,
    }


def math(benchmarks: Sequence[Benchmark], students: Students) -> dict[str, Any]:
    """Returns a result on MATH with a sentence about it. Prefers the trained student to other models."""
    taken = [stage for stage in benchmarks if "math" in stage["results"]]
    trained = [stage for stage in taken if stage["role"] == "after"]
    candidates = _outside_ablations(trained, students)
    if trained and not candidates:
        count = len({stage["model"] for stage in trained})
        statement = f"{count} students took MATH. The ablation compares them."
        return {"status": "in_ablation", "statement": statement}
    if taken:
        chosen = _most_trained(candidates, students) if candidates else taken[0]
        result = _headline(chosen, "math", trained or taken, students)
        near_zero = result["high"] < _NEAR_ZERO
        return {"status": "measured", **result, "near_zero": near_zero, "statement": _statement(result, near_zero)}
    for stage in sorted(benchmarks, key=lambda stage: stage["role"] != "after"):
        if "math" in stage["skipped"]:
            reason = stage["skipped"]["math"]
            return {"status": "skipped", "reason": reason, "statement": f"MATH was skipped: {reason}"}
    return {"status": "not_asked_for", "statement": "No benchmark stage of this experiment includes MATH."}


def describe_choice(result: Mapping[str, Any]) -> str:
    """Names the stage of a headline result and why it was chosen. Empty if there was no choice."""
    if result["students"] > 1:
        return f"{result['stage']}, trained on the most examples of {result['students']} students"
    return result["stage"] if result["stages"] > 1 else ""


def _synthetic_test(stage: Benchmark) -> str | None:
    return next((name for name, result in stage["results"].items() if result["kind"] == "synthetic_test"), None)


def _outside_ablations(stages: Sequence[Benchmark], students: Students) -> list[Benchmark]:
    return [stage for stage in stages if stage["model"] not in students.arms]


def _most_trained(stages: Sequence[Benchmark], students: Students) -> Benchmark:
    """Returns the first stage of the student trained on the most examples. The later student wins a tie."""
    models = list(dict.fromkeys(stage["model"] for stage in stages))
    chosen = max(reversed(models), key=lambda model: students.examples.get(model, -1))
    return next(stage for stage in stages if stage["model"] == chosen)


def _origins(model: str, students: Students) -> set[str]:
    """Returns the models that a training run started from, directly or through others."""
    found: set[str] = set()
    left = [model]
    while left:
        new = set(students.started_from.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def _headline(stage: Benchmark, benchmark: str, stages: Sequence[Benchmark], students: Students) -> dict[str, Any]:
    """Returns a headline result. Also counts the stages of its role with a result, and the trained students."""
    result = stage["results"][benchmark]
    return {
        "stage": stage["stage"],
        "benchmark": benchmark,
        **{key: result[key] for key in ("n", "correct", "accuracy", "low", "high")},
        "stages": len(stages),
        "students": len({each["model"] for each in _outside_ablations(stages, students) if each["role"] == "after"}),
    }


def _statement(result: Mapping[str, Any], near_zero: bool) -> str:
    chosen = f" ({describe_choice(result)})" if describe_choice(result) else ""
    numbers = (
        f"MATH{chosen}: {result['correct']:,} of {result['n']:,} correct, {100 * result['accuracy']:.1f}% "
        f"(95% interval {100 * result['low']:.1f} to {100 * result['high']:.1f})"
    )
    return f"{numbers}. This is near zero: the student does not solve MATH problems." if near_zero else f"{numbers}."
