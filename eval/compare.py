"""Compares models on the same problems.

Finds which is better, on which problems, and whether it could be chance.

    comparison:
      run: eval.compare
      inputs: {before: before, after: after}     # artifacts of eval.benchmark or eval.regrade
      # config: {baseline: before}               # compare only with this run, instead of every pair

For every pair of runs (a, b) and every benchmark, the summary has the difference in accuracy (b - a)
with a paired bootstrap interval, the number of problems that only one of them solves, and the p value
of McNemar's exact test, raw and adjusted by Holm's method. The adjustment covers all pairs; in the
tables by subject and level it covers all groups of all pairs. The records are the problems that the
two runs of a pair do not solve equally well, with both answers.

Runs with different problems, references or grading are refused. With several samples per problem, a
problem's score is its share of correct samples, and McNemar's test does not apply (p is null).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from eval.grading.scores import Problem, read_problems
from eval.regrade import GRADERS
from eval.stats.paired import holm, mcnemar, paired_difference
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig, suggest
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import describe_differences
from personahub.core.forecast import Forecast
from personahub.core.records import DISCORDANT, Row
from personahub.core.shards import shard_name
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ("*",)

Run = Mapping[str, Sequence[Problem]]  # problems by benchmark


class Config(StageConfig):
    """Which runs to compare, and on what."""

    baseline: str | None = Field(default=None, description="Compare all other inputs with this one.")
    benchmarks: tuple[str, ...] | None = Field(
        default=None, description="Compare only these; null: all, which must be the same in each run."
    )
    bootstrap: int = Field(default=10_000, ge=100, description="Bootstrap resamples per interval.")


def run(stage: Stage[Config]) -> None:
    """Compares the runs pair by pair."""
    _check_inputs(stage)
    runs = {name: _read_run(stage, artifact) for name, artifact in stage.inputs.items()}
    pairs = list(_pairs(stage))
    for a, b in pairs:
        refuse_different_grading(stage, a, b)
        refuse_different_problems(stage, runs[a], runs[b], (a, b))
    benchmarks = list(next(iter(runs.values())))
    results = {name: _compare_all(stage.config, name, runs, pairs) for name in benchmarks}
    with stage.writer(shard_name(0), DISCORDANT) as writer:
        texts = {row["id"]: row["problem"] for row in next(iter(stage.inputs.values())).rows(["id", "problem"])}
        for benchmark, (a, b) in itertools.product(benchmarks, pairs):
            for row in _discordant(runs[a][benchmark], runs[b][benchmark]):
                writer.write({**row, "benchmark": benchmark, "a": a, "b": b, "problem": texts[row["id"]]})
    stage.report(comparisons=results)


def _check_inputs(stage: Stage[Config]) -> None:
    where = f"stages.{stage.name}.inputs"
    if len(stage.inputs) < 2:
        raise UserError(f"{where}: name two or more runs to compare, such as {{before: before, after: after}}")
    for name, artifact in stage.inputs.items():
        if artifact.manifest.module not in GRADERS:
            raise UserError(
                f"{where}.{name}: {artifact.path} was made by {artifact.manifest.module};"
                " the input must be an artifact of eval.benchmark or eval.regrade"
            )
    baseline = stage.config.baseline
    if baseline is not None and baseline not in stage.inputs:
        raise UserError(
            f"stages.{stage.name}.config.baseline: no input {baseline!r}. {suggest(baseline, stage.inputs)}"
        )


def _read_run(stage: Stage[Config], artifact: Artifact) -> Run:
    problems = read_problems(artifact.path, artifact.shard_names)
    chosen = stage.config.benchmarks or tuple(problems)
    for name in chosen:
        if name not in problems:
            raise UserError(
                f"stages.{stage.name}.config.benchmarks: {artifact.path} has no {name!r}. {suggest(name, problems)}"
            )
    return {name: problems[name] for name in chosen}


def _pairs(stage: Stage[Config]) -> Iterator[tuple[str, str]]:
    """Yields the two names of each comparison. The run that is earlier in the YAML comes first."""
    baseline = stage.config.baseline
    if baseline is None:
        return itertools.combinations(stage.inputs, 2)
    return ((baseline, name) for name in stage.inputs if name != baseline)


def refuse_different_grading(stage: Stage[Any], a: str, b: str) -> None:
    """Raises a UserError if inputs `a` and `b` differ in answer policy or checker."""
    first, second = (stage.input(name).manifest.summary["grading"] for name in (a, b))
    if differences := describe_differences(first, second):
        raise UserError(
            f"stages.{stage.name}: {a} and {b} are graded differently ({'; '.join(differences)}); grade both with the same"
            " policy and checker by eval.regrade, which asks no model"
        )


def refuse_different_problems(stage: Stage[Any], first: Run, second: Run, names: tuple[str, str]) -> None:
    """Raises a UserError if two runs differ in benchmarks, problems or references."""
    where = f"stages.{stage.name}: {names[0]} and {names[1]} are not runs on the same problems"
    for run, other, name in ((first, second, names[0]), (second, first, names[1])):
        if alone := sorted(set(run) - set(other)):
            raise UserError(
                f"{where}: only {name} has the benchmark {', '.join(alone)}; set `benchmarks:` to those to compare"
            )
    for benchmark in first:
        a, b = ({problem.id: problem.reference for problem in run[benchmark]} for run in (first, second))
        if a.keys() != b.keys():
            raise UserError(
                f"{where}: in {benchmark}, {len(a.keys() - b.keys()):,} are in {names[0]} only and"
                f" {len(b.keys() - a.keys()):,} in {names[1]} only, such as {min(a.keys() ^ b.keys())}"
            )
        if changed := sorted(id_ for id_ in a if a[id_] != b[id_]):
            id_ = changed[0]
            raise UserError(
                f"{where}: in {benchmark}, {len(changed):,} have different references, such as {id_}:"
                f" {a[id_]!r} and {b[id_]!r}"
            )


def _compare_all(
    config: Config, benchmark: str, runs: Mapping[str, Run], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Compares all pairs on one benchmark and adjusts the p values."""
    found = []
    for a, b in pairs:
        first = runs[a][benchmark]
        by_id = {problem.id: problem for problem in runs[b][benchmark]}
        both = [(problem, by_id[problem.id]) for problem in first]
        tables = {f"by_{part}": _by(config, both, part) for part in ("subject", "level")}
        found.append({"a": a, "b": b, **_compare(config, both), **tables})
    _adjust(found)
    for table in ("by_subject", "by_level"):
        _adjust([group for comparison in found for group in comparison[table].values()])
    return found


Both = Sequence[tuple[Problem, Problem]]


def _by(config: Config, both: Both, part: str) -> dict[str, dict[str, Any]]:
    groups = sorted({value for problem, _ in both if (value := getattr(problem, part)) is not None})
    return {group: _compare(config, [pair for pair in both if getattr(pair[0], part) == group]) for group in groups}


def _compare(config: Config, both: Both) -> dict[str, Any]:
    a, b = ([pair[side].score for pair in both] for side in (0, 1))
    difference, interval = paired_difference(a, b, config.seed, config.bootstrap)
    counts = {
        "only_a": sum(x > y for x, y in zip(a, b, strict=True)),
        "only_b": sum(x < y for x, y in zip(a, b, strict=True)),
        "equal": sum(x == y for x, y in zip(a, b, strict=True)),
    }
    single = all(len(problem.samples) == 1 for pair in both for problem in pair)
    return {
        "n": len(both),
        "accuracy_a": round(sum(a) / len(a), 4),
        "accuracy_b": round(sum(b) / len(b), 4),
        "difference": round(difference, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        **counts,
        "p": mcnemar(counts["only_a"], counts["only_b"]) if single else None,
    }


def _adjust(comparisons: Sequence[dict[str, Any]]) -> None:
    """Adds `p_holm` to a family of comparisons."""
    tested = [comparison for comparison in comparisons if comparison["p"] is not None]
    for comparison in comparisons:
        comparison["p_holm"] = None
    for comparison, adjusted in zip(tested, holm([comparison["p"] for comparison in tested]), strict=True):
        comparison["p_holm"] = adjusted


def _discordant(first: Sequence[Problem], second: Sequence[Problem]) -> Iterator[Row]:
    by_id = {problem.id: problem for problem in second}
    for a in first:
        b = by_id[a.id]
        if a.score != b.score:
            shared = {"id": a.id, "reference": a.reference, "subject": a.subject, "level": a.level}
            yield {**shared, "answer_a": a.answer, "answer_b": b.answer, "score_a": a.score, "score_b": b.score}


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Makes no requests; the number of discordant problems is not known in advance."""
    return Forecast(rows_out=max(rows_in.values(), default=0), disk_bytes=1_000_000)
