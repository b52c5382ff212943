"""Grades a benchmark's completions again, with another policy or checker.

Uses no model.

    strict:
      run: eval.regrade
      inputs: {completions: after}         # an eval.benchmark artifact, or a regraded one
      config: {answers: {rounding_digits: null, units_optional: false}}
      # config: {judge: {engine: judge, when: unreadable}}     # asks only the judge

Records and summary have the same form as those of `eval.benchmark`. `changed` counts the changes of verdict
per benchmark ("wrong -> correct"). After an update of the checker itself, use `run --redo strict`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from eval.grading.grade import GradingConfig, grade, grading_summary
from eval.grading.questions import check_references
from eval.grading.scores import summarize
from personahub.core.answers import CheckerPool
from personahub.core.artifact import Artifact, read_rows
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.records import GRADED, Row
from personahub.core.stage import Stage

VERSION = "3"
INPUTS = ("completions",)
GRADERS = ("eval.benchmark", "eval.regrade")

_KEPT = ("id", "sample", "benchmark", "problem", "subject", "level", "reference")
_COMPLETION = ("completion", "finish_reason", "completion_tokens", "rule")


class Config(GradingConfig):
    """How to grade the answers this time."""

    seed: int = Field(
        default=0, ge=0, description="Seed of the bootstrap intervals, which several samples per problem need."
    )


def run(stage: Stage[Config]) -> None:
    """Grades shard by shard and summarizes."""
    source = stage.input("completions")
    if source.manifest.module not in GRADERS:
        raise UserError(
            f"stages.{stage.name}.inputs.completions: {source.path} was made by {source.manifest.module};"
            " the input must be an artifact of eval.benchmark"
        )
    with stage.config.open_pool() as pool:
        references = _check_references(stage, source, pool)
        map_completions(stage, functools.partial(_regrade_shard, pool), source, GRADED)
    before = source.manifest.summary
    stage.report(
        benchmarks=summarize(stage, source.shard_names),
        skipped=before["skipped"],
        reference_self_check=references,
        asked_as_trained=before["asked_as_trained"],
        grading=grading_summary(stage),
        changed=_changed(stage, source),
    )


async def _regrade_shard(pool: CheckerPool, stage: Stage[Config], shard: CompletionShard) -> None:
    samples = [{key: row[key] for key in (*_KEPT, *_COMPLETION)} for row in shard.rows()]
    for row in await grade(stage.config, pool, shard, samples):
        shard.write(row)


def _check_references(stage: Stage[Config], source: Artifact, pool: CheckerPool) -> dict[str, Any]:
    found: dict[str, dict[str, Row]] = {}
    for row in source.rows(["id", "benchmark", "reference"]):
        found.setdefault(row["benchmark"], {})[row["id"]] = {"id": row["id"], "answer": row["reference"]}
    return {name: check_references(stage, list(rows.values()), pool) for name, rows in found.items()}


def _changed(stage: Stage[Config], source: Artifact) -> dict[str, dict[str, int]]:
    changes: dict[str, Counter[str]] = {}
    columns = ["benchmark", "verdict"]
    for name in source.shard_names:
        old_rows, new_rows = source.read_shard(name, columns), read_rows(stage.path / f"{name}.parquet", columns)
        for old, new in zip(old_rows, new_rows, strict=True):
            count = changes.setdefault(new["benchmark"], Counter())
            if old["verdict"] != new["verdict"]:
                count[f"{old['verdict']} -> {new['verdict']}"] += 1
    return {name: dict(sorted(count.items())) for name, count in changes.items()}


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Estimates one row per completion and no requests."""
    rows = rows_in["completions"]
    return Forecast(rows_out=rows, disk_bytes=rows * 2000)
