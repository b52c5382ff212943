"""Verified problems of several origins as one collection, equally many from each.

    exam:
      run: synth.pool
      inputs: {made: exam_verified}          # of every arm of an ablation
      config: {per_input: 60}

For a test that favours none of the ways in which its problems were made. The problems taken from an
input come first in an order shuffled by the seed, whatever the sharding; ids stay as they are, and a
problem that two inputs hold is taken once.
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
    """How much is taken."""

    per_input: int = Field(gt=0, description="Problems of each input; an input that has fewer is refused.")


def run(stage: Stage[Config]) -> None:
    """Take from every input in the order of their names in the YAML.

    Raises:
        UserError: there is no input, or one holds too few problems.
    """
    if not stage.inputs:
        raise UserError(f"stages.{stage.name}.inputs: name the artifacts of synth.verify to take problems from")
    seen: set[str] = set()
    with stage.writer(shard_name(0), VERIFIED) as writer:
        for name, artifact in stage.inputs.items():
            rows = _chosen(stage.config, artifact, seen)
            if len(rows) < stage.config.per_input:
                raise UserError(
                    f"stages.{stage.name}.config.per_input: {stage.config.per_input:,}, but the input {name} has"
                    f" {len(rows):,} that no other has ({artifact.path})"
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
    """Copies records; asks no engine."""
    return Forecast(rows_out=config.per_input * len(rows_in), disk_bytes=3000 * config.per_input * len(rows_in))
