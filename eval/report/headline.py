"""Which student the headline is about: the synthetic test before and after training, and MATH.

Of several trained students it is the one trained on most examples, and of those the later stage; where a student was
graded more than once, the first of its stages. Arms of an ablation are never taken for it: their section compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Benchmark = Mapping[str, Any]  # as in summary.json: `stage`, `role`, `model`, `results`, `skipped`

_NEAR_ZERO = 0.05


@dataclass(frozen=True, slots=True)
class Students:
    """What is known of trained models, by the stage that trained them."""

    examples: Mapping[str, int]  # where the training says how many
    began_with: Mapping[str, Sequence[str]]  # stages that it was made from, and the name of a model from elsewhere
    arms: frozenset[str]  # those that an ablation compares


def student(benchmarks: Sequence[Benchmark], students: Students) -> dict[str, Any] | None:
    """The synthetic test before and after training; None where no student took it but the arms of an ablation."""
    taken = [(stage, name) for stage in benchmarks if (name := _synthetic_test(stage)) is not None]
    names = {stage["stage"]: name for stage, name in taken}
    trained = [stage for stage, _ in taken if stage["role"] == "after"]
    candidates = _beside_arms(trained, students)
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
    """MATH of the trained student (else of any model), with a plain sentence about it."""
    taken = [stage for stage in benchmarks if "math" in stage["results"]]
    trained = [stage for stage in taken if stage["role"] == "after"]
    candidates = _beside_arms(trained, students)
    if trained and not candidates:
        count = len({stage["model"] for stage in trained})
        statement = f"MATH was taken by {count} students, which the ablation compares."
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
    return {"status": "not_asked_for", "statement": "No benchmark stage of this experiment asks for MATH."}


def which(result: Mapping[str, Any]) -> str:
    """The stage of a headline's result, and why it is this one; empty where there was nothing to choose."""
    if result["students"] > 1:
        return f"{result['stage']}; none of the {result['students']} students was trained on more examples"
    return result["stage"] if result["stages"] > 1 else ""


def _synthetic_test(stage: Benchmark) -> str | None:
    return next((name for name, result in stage["results"].items() if result["kind"] == "synthetic_test"), None)


def _beside_arms(stages: Sequence[Benchmark], students: Students) -> list[Benchmark]:
    return [stage for stage in stages if stage["model"] not in students.arms]


def _most_trained(stages: Sequence[Benchmark], students: Students) -> Benchmark:
    """Of the student trained on most examples (ties: the later one), the first stage."""
    models = list(dict.fromkeys(stage["model"] for stage in stages))
    chosen = max(reversed(models), key=lambda model: students.examples.get(model, -1))
    return next(stage for stage in stages if stage["model"] == chosen)


def _origins(model: str, students: Students) -> set[str]:
    """What a training began with, what that began with, and so on."""
    found: set[str] = set()
    left = [model]
    while left:
        new = set(students.began_with.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def _headline(stage: Benchmark, benchmark: str, stages: Sequence[Benchmark], students: Students) -> dict[str, Any]:
    """A result, how many stages of its role have one, and from how many trained students it was chosen."""
    result = stage["results"][benchmark]
    return {
        "stage": stage["stage"],
        "benchmark": benchmark,
        **{key: result[key] for key in ("n", "correct", "accuracy", "low", "high")},
        "stages": len(stages),
        "students": len({each["model"] for each in _beside_arms(stages, students) if each["role"] == "after"}),
    }


def _statement(result: Mapping[str, Any], near_zero: bool) -> str:
    chosen = f" ({which(result)})" if which(result) else ""
    numbers = (
        f"MATH{chosen}: {result['correct']:,} of {result['n']:,} correct, {100 * result['accuracy']:.1f}% "
        f"(95% interval {100 * result['low']:.1f} to {100 * result['high']:.1f})"
    )
    return f"{numbers}. That is near zero: this student does not solve MATH problems." if near_zero else f"{numbers}."
