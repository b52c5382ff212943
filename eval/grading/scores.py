"""Summarizes graded samples: accuracy, verdicts, tables by subject, pass@k, maj@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from eval.grading.grade import judged
from eval.grading.pass_at_k import majority_at_k, pass_at_k, reported_ks
from eval.grading.questions import SYNTHETIC_TEST
from eval.stats.measures import bootstrap_mean, bootstrap_means, wilson_interval
from personahub.core.answers import LABELS
from personahub.core.answers.judge import summarise
from personahub.core.answers.verdict import FALLBACK
from personahub.core.artifact import read_rows
from personahub.core.records import Row
from personahub.core.stage import Stage

_COLUMNS = (
    *("id", "sample", "benchmark", "subject", "level", "reference"),
    *("predicted", "verdict", "rule", "cluster", "judged", "finish_reason", "completion_tokens"),
)


@dataclass(frozen=True)
class Problem:
    """A problem with its samples: GRADED rows with only `_COLUMNS`."""

    id: str
    subject: str | None
    level: str | None
    reference: str
    samples: Sequence[Row]

    @property
    def correct(self) -> int:
        """The number of correct samples."""
        return sum(row["verdict"] == "correct" for row in self.samples)

    @property
    def correct_as_stated(self) -> int:
        """The number of correct samples that state their answer. See `Extracted.is_fallback`."""
        return sum(row["verdict"] == "correct" and not (row["rule"] or "").startswith(FALLBACK) for row in self.samples)

    @property
    def score(self) -> float:
        """The share of correct samples."""
        return self.correct / len(self.samples)

    @property
    def answer(self) -> str | None:
        """The predicted answer. With several samples, the most frequent one; among ties, the first."""
        votes = Counter(row["cluster"] for row in self.samples if row["predicted"] is not None)
        if not votes:
            return None
        winner = votes.most_common(1)[0][0]
        return next(row["predicted"] for row in self.samples if row["cluster"] == winner)


def read_problems(folder: Path, shards: Iterable[str]) -> dict[str, list[Problem]]:
    """Reads graded problems by benchmark, in their original order."""
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
    """Computes results by benchmark, for a stage whose config is a `GradingConfig`.

    `n` counts problems and `verdicts` counts samples. `accuracy` is the share of samples that the rules
    call correct, that is pass@1; `as_stated` counts only answers that the completion states (in a box, after "the
    answer is", ...), not its last number. `judge` has the accuracy according to the judge.
    """
    problems = read_problems(stage.path, shards)
    results = {name: _result(name, rows, stage.config.seed) for name, rows in problems.items()}
    if stage.config.judge is not None:
        for name, rows in problems.items():
            results[name]["judge"] = _judge_result(stage, rows)
    return results


def _judge_result(stage: Stage[Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """Compares judge and rules. Where the judge gave an opinion, the accuracy with it is computed as well."""
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
        "as_stated": _score([problem.correct_as_stated for problem in problems], len(problems[0].samples), seed),
        "no_answer_rate": round(verdicts["no_answer"] / len(samples), 4),
        "mean_completion_tokens": round(sum(row["completion_tokens"] or 0 for row in samples) / len(samples), 1),
        **_at_k(problems, seed),
        "by_subject": group_by(problems, "subject", score),
        "by_level": group_by(problems, "level", score),
        "by_subject_and_level": group_by(problems, "subject", lambda part: group_by(part, "level", score)),
    }


def group_by(
    problems: Sequence[Problem], column: str, value: Callable[[Sequence[Problem]], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Applies `value` to the problems of each subject or level, sorted by name."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        name = getattr(problem, column)
        if name is not None:
            groups.setdefault(name, []).append(problem)
    return {name: value(groups[name]) for name in sorted(groups)}


def _score(solved: Sequence[int], samples: int, seed: int) -> dict[str, Any]:
    """Computes accuracy with a Wilson interval.

    With several samples, the interval is a bootstrap over problems, because samples of a problem are not independent.

    Args:
        solved: number of correct samples for each problem.
        samples: number of samples per problem.
        seed: for the bootstrap.
    """
    n, total = len(solved), sum(solved)
    if samples == 1:
        interval = wilson_interval(total, n)
    else:
        interval = bootstrap_mean([count / samples for count in solved], seed)
    return {
        "n": n,
        "correct": total if samples == 1 else round(total / samples, 1),  # problems solved, averaged over samples
        "accuracy": round(total / (n * samples), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def _at_k(problems: Sequence[Problem], seed: int) -> dict[str, Any]:
    """Computes pass@k and maj@k with bootstrap intervals over problems. Empty with one sample per problem."""
    n = len(problems[0].samples)
    if n == 1:
        return {}
    ks = reported_ks(n)
    counts = [problem.correct for problem in problems]
    columns = [pass_at_k(counts, n, k) for k in ks]
    columns += [np.array([_majority(problem, k, seed) for problem in problems]) for k in ks]
    intervals = bootstrap_means(np.stack(columns, axis=1), seed)
    values = [
        {"value": round(float(column.mean()), 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}
        for column, interval in zip(columns, intervals, strict=True)
    ]
    names = [str(k) for k in ks]
    return {
        "pass_at_k": dict(zip(names, values[: len(names)], strict=True)),
        "maj_at_k": dict(zip(names, values[len(names) :], strict=True)),
    }


def _majority(problem: Problem, k: int, seed: int) -> float:
    clusters = [row["cluster"] for row in problem.samples]
    return majority_at_k(clusters, [row["verdict"] == "correct" for row in problem.samples], k, seed)
