"""Writes a benchmark as an artifact: MATH, GSM8K, or any file of problems.

    math:
      run: eval.datasets
      config: {name: math}                 # from the hub, at a pinned commit
      # config: {name: math, path: math/test.jsonl}   # a local copy
      # config: {name: exam, path: exam.jsonl, problem_field: task}
      # config: {name: my_benchmarks/exam.yaml}       # described in a file, see docs/evaluation.md

`synth.decontaminate` searches such artifacts and `eval.benchmark` grades against them. An experiment
therefore names each benchmark once, and the problems searched for leaks are the ones evaluated.

With `on_missing: skip`, a benchmark that cannot be loaded (no network, no local copy) gives an artifact
without rows. Its summary says why, and so do the stages that depend on it. Later runs find this artifact
cached; `run --redo NAME` tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from eval.grading.problem_sets import ProblemSetConfig, expected_rows, load_problems
from personahub.core.config import StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import content_id
from personahub.core.records import REFERENCE
from personahub.core.shards import shard_name
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ()


class Config(ProblemSetConfig, StageConfig):
    """Says where the problems are and what to do if they cannot be loaded."""

    on_missing: Literal["error", "skip"] = "error"
    limit: int | None = Field(
        default=None, gt=0, description="Take only this many problems, the first by content hash."
    )
    rows_per_shard: int = Field(default=1000, gt=0)


def run(stage: Stage[Config]) -> None:
    """Writes the problems in their original order."""
    config = stage.config
    try:
        problems = load_problems(config)
    except UserError as error:
        if config.on_missing == "error":
            raise
        stage.report(benchmark=config.name, skipped=str(error))
        print(f"{stage.name}: skipped: {error}", flush=True)
        problems = []
    rows = [
        {
            "id": content_id("reference", config.name, problem.problem, problem.answer, problem.id),
            "benchmark": config.name,
            "item": problem.id,
            "problem": problem.problem,
            "answer": problem.answer,
            "subject": problem.subject,
            "level": problem.level,
        }
        for problem in problems
    ]
    if config.limit is not None:
        chosen = {row["id"] for row in sorted(rows, key=lambda row: row["id"])[: config.limit]}
        rows = [row for row in rows if row["id"] in chosen]
    for index, start in enumerate(range(0, max(len(rows), 1), config.rows_per_shard)):
        with stage.writer(shard_name(index), REFERENCE) as writer:
            for row in rows[start : start + config.rows_per_shard]:
                writer.write(row)
    stage.report(benchmark=config.name, problems=len(rows))


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Estimates the number of problems. It is known for known benchmarks."""
    rows = expected_rows(config) or 0
    return Forecast(rows_out=min(rows, config.limit or rows), disk_bytes=rows * 500)
