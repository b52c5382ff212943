"""One of two parts of an artifact: records held out, or all the others.

    held_out:
      run: synth.split
      inputs: {records: problems}
      config: {held_out: 20000, part: held_out}
    train_problems:
      run: synth.split
      inputs: {records: problems}
      config: {held_out: 20000, part: rest}

Which records are held out is decided by a hash of the seed and the record's id: the same ones however
the artifact is sharded, nested when the number grows. Two stages with the same seed and number are
complements. The paper holds 20,000 problems out before it writes solutions (section 4.1.2).
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Mapping
from typing import Literal

import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import digest
from personahub.core.stage import Shard, Stage

VERSION = "1"
INPUTS = ("records",)


class Config(StageConfig):
    """How many records are held out, and which part this stage keeps."""

    held_out: int = Field(gt=0)
    part: Literal["held_out", "rest"]


def run(stage: Stage[Config]) -> None:
    """Copy one part.

    Raises:
        UserError: fewer records come in than are to be held out.
    """
    source = stage.input("records")
    if source.num_rows < stage.config.held_out:
        raise UserError(
            f"stages.{stage.name}.config.held_out: {stage.config.held_out:,}, but {source.path} has {source.num_rows:,} records"
        )
    last = _last_held_out(stage.config, source)
    schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
    stage.map_shards(functools.partial(_process, last), source, schema)


def _last_held_out(config: Config, source: Artifact) -> str:
    """The rank of the last record held out. Memory: some 100 bytes for each of them."""
    ranks = (_rank(config, row["id"]) for row in source.rows(["id"]))
    return heapq.nsmallest(config.held_out, ranks)[-1]


def _rank(config: Config, record_id: str) -> str:
    return digest("split", config.seed, record_id)


def _process(last: str, stage: Stage[Config], shard: Shard) -> None:
    wanted = stage.config.part == "held_out"
    for row in shard.rows():
        if (_rank(stage.config, row["id"]) <= last) == wanted:
            shard.write(row)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Copies records; asks no engine."""
    rows = rows_in["records"]
    held_out = min(config.held_out, rows)
    out = held_out if config.part == "held_out" else rows - held_out
    return Forecast(rows_out=out, disk_bytes=500 * out)
