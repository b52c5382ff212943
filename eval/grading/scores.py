"""What graded samples amount to: accuracy with intervals, verdicts, tables by subject and level, pass@k, maj@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from eval.grading.grade import judged
from eval.grading.pass_at_k import ks, majority_at_k, pass_at_k
from eval.grading.questions import SYNTHETIC_TEST
from eval.stats.measures import bootstrap_mean, bootstrap_means, wilson_interval
from personahub.core.answers import LABELS
from personahub.core.answers.judge import summarise
from personahub.core.artifact import read_rows
from personahub.core.records import Row
from personahub.core.stage import Stage

_COLUMNS = (
    *("id", "sample", "benchmark", "subject", "level", "reference"),
    *("predicted", "verdict", "rule", "cluster", "judged", "finish_reason", "completion_tokens"),
)


@dataclass(frozen=True)
class Problem:
    """A problem with its samples, GRADED rows of which only `_COLUMNS` are there."""

    id: str
    subject: str | None
    level: str | None
    reference: str
    samples: Sequence[Row]

    @property
    def correct(self) -> int:
        """How many samples are correct."""
        return sum(row["verdict"] == "correct" for row in self.samples)

    @property
    def score(self) -> float:
        """Share of correct samples."""
        return self.correct / len(self.samples)

    @property
    def answer(self) -> str | None:
        """The predicted answer; of several samples, the one that most agree on (the first such)."""
        votes = Counter(row["cluster"] for row in self.samples if row["predicted"] is not None)
        if not votes:
            return None
        winner = votes.most_common(1)[0][0]
        return next(row["predicted"] for row in self.samples if row["cluster"] == winner)


def read_problems(folder: Path, shards: Iterable[str]) -> dict[str, list[Problem]]:
    """Graded problems by benchmark, in their order."""
    found: dict[str, list[Problem]] = {}
    for shard in shards:
        rows = read_rows(folder / f"{shard}.parquet", _COLUMNS)
        for (benchmark, id_), group in groupby(rows, key=lambda row: (row["benchmark"], row["id"])):
            samples = list(group)
            first = samples[0]
            problem = Problem(id_, first["subject"], first["level"], first["reference"], samples)
            found.setdefault(benchmark, []).append(problem)
    return found


def summarize(stage: Stage[Any], shards: Iterable[str]) -> dict[str, Any]:
    """Results by benchmark, of a stage whose config is a `GradingConfig`.

    `n` counts problems, `verdicts` samples. `accuracy` is the share of samples that the rules call
    correct, that is pass@1; what it would be by a judge's word stands under `judge`.
    """
    problems = read_problems(stage.path, shards)
    results = {name: _result(name, rows, stage.config.seed) for name, rows in problems.items()}
    if stage.config.judge is not None:
        for name, rows in problems.items():
            results[name]["judge"] = _judge_result(stage, rows)
    return results


def _judge_result(stage: Stage[Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """How far the judge and the rules differ, and the accuracy with the judge's word where it gave one."""
    judge = stage.config.judge
    outcomes = [[judged(row) for row in problem.samples] for problem in problems]
    asked = (outcome for samples in outcomes for outcome in samples)
    model = stage.engines[judge.engine].model
    counts = summarise(asked, when=judge.when, model=model, template=judge.template)
    solved = [sum(outcome.correct for outcome in samples) for samples in outcomes]
    return {**counts.as_dict(), **_score(solved, len(problems[0].samples), stage.config.seed)}


def _result(name: str, problems: Sequence[Problem], seed: int) -> dict[str, Any]:
    samples = [row for problem in problems for row in problem.samples]
    verdicts = Counter(row["verdict"] for row in samples)
    truncated = sum(row["finish_reason"] == "length" for row in samples)

    def score(part: Sequence[Problem]) -> dict[str, Any]:
        return _score([problem.correct for problem in part], len(problems[0].samples), seed)

    return {
        "kind": SYNTHETIC_TEST if name == SYNTHETIC_TEST else "benchmark",
        **score(problems),
        "samples_per_problem": len(problems[0].samples),
        "verdicts": {label: verdicts[label] for label in LABELS},
        "truncated": truncated,
        "truncation_rate": round(truncated / len(samples), 4),
        "no_answer_rate": round(verdicts["no_answer"] / len(samples), 4),
        "mean_completion_tokens": round(sum(row["completion_tokens"] or 0 for row in samples) / len(samples), 1),
        **_at_k(problems, seed),
        "by_subject": by(problems, "subject", score),
        "by_level": by(problems, "level", score),
        "by_subject_and_level": by(problems, "subject", lambda part: by(part, "level", score)),
    }


def by(
    problems: Sequence[Problem], column: str, value: Callable[[Sequence[Problem]], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """`value` of the problems of every subject or level, in the order of their names."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        name = getattr(problem, column)
        if name is not None:
            groups.setdefault(name, []).append(problem)
    return {name: value(groups[name]) for name in sorted(groups)}


def _score(solved: Sequence[int], samples: int, seed: int) -> dict[str, Any]:
    """Accuracy with a Wilson interval; with several samples a bootstrap over problems, as samples are not independent.

    Args:
        solved: correct samples of each problem, of `samples`.
    """
    n, total = len(solved), sum(solved)
    if samples == 1:
        interval = wilson_interval(total, n)
    else:
        interval = bootstrap_mean([count / samples for count in solved], seed)
    return {
        "n": n,
        "correct": total if samples == 1 else round(total / samples, 1),  # problems solved, on average over samples
        "accuracy": round(total / (n * samples), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def _at_k(problems: Sequence[Problem], seed: int) -> dict[str, Any]:
    """pass@k and maj@k by k, with intervals from a bootstrap over problems; nothing for single samples."""
    n = len(problems[0].samples)
    if n == 1:
        return {}
    counts = [problem.correct for problem in problems]
    columns = [pass_at_k(counts, n, k) for k in ks(n)]
    columns += [np.array([_majority(problem, k, seed) for problem in problems]) for k in ks(n)]
    intervals = bootstrap_means(np.stack(columns, axis=1), seed)
    values = [
        {"value": round(float(column.mean()), 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}
        for column, interval in zip(columns, intervals, strict=True)
    ]
    names = [str(k) for k in ks(n)]
    return {
        "pass_at_k": dict(zip(names, values[: len(names)], strict=True)),
        "maj_at_k": dict(zip(names, values[len(names) :], strict=True)),
    }


def _majority(problem: Problem, k: int, seed: int) -> float:
    clusters = [row["cluster"] for row in problem.samples]
    return majority_at_k(clusters, [row["verdict"] == "correct" for row in problem.samples], k, seed)
