"""Combine verified problems of several inputs, with the same number from each.

    exam:
      run: synth.pool
      inputs: {made: exam_verified}          # from every arm of an ablation
      config: {per_input: 60}

Use it for a test that does not favor one of the ways in which its problems were made. The problems of an input
are chosen by a hash of the seed and their id, independent of sharding. Ids do not change, and a problem that is in
two inputs is used once.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from pydantic import Field

from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import digest
from personahub.core.records import VERIFIED, Row
from personahub.core.shards import shard_name
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ("*",)


class Config(StageConfig):
    """How many problems to use."""

    per_input: int = Field(gt=0, description="Problems of each input; having fewer is an error.")


def run(stage: Stage[Config]) -> None:
    """Copy problems of every input, in the order of the inputs in the YAML.

    Raises:
        UserError: there is no input, or an input has too few problems.
    """
    if not stage.inputs:
        raise UserError(f"stages.{stage.name}.inputs: name the artifacts of synth.verify to take problems from")
    seen: set[str] = set()
    with stage.writer(shard_name(0), VERIFIED) as writer:
        for name, artifact in stage.inputs.items():
            rows = _chosen(stage.config, artifact, seen)
            if len(rows) < stage.config.per_input:
                raise UserError(
                    f"stages.{stage.name}.config.per_input: {stage.config.per_input:,}, but the input {name} has only"
                    f" {len(rows):,} problems that are in no other input ({artifact.path})"
                )
            seen.update(row["id"] for row in rows)
            writer.rows_in += artifact.num_rows
            for row in rows:
                writer.write(row)
    stage.report(inputs=list(stage.inputs), per_input=stage.config.per_input)


def _chosen(config: Config, artifact: Artifact, seen: set[str]) -> list[Row]:
    fresh = (row for row in artifact.rows() if row["id"] not in seen and row["answer"] is not None)
    return heapq.nsmallest(config.per_input, fresh, key=lambda row: digest("pool", config.seed, row["id"]))


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast the number of copied records."""
    return Forecast(rows_out=config.per_input * len(rows_in), disk_bytes=3000 * config.per_input * len(rows_in))
