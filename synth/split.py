"""One of two parts of an artifact: records held out, or all the others.

    held_out:
      run: synth.split
      inputs: {records: problems}
      config: {held_out: 20000}
    train_problems:
      run: synth.split
      inputs: {records: problems, held_out: held_out}

Which records are held out is decided by a hash of the seed and the record's id: the same ones however
the artifact is sharded, nested when the number grows. The others are told by what the input `held_out`
holds, so no record can be in both. The paper holds 20,000 problems out before it writes solutions
(section 4.1.2).
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Mapping

import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.config import StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import digest
from personahub.core.stage import Shard, Stage

VERSION = "2"
INPUTS = ("records", "held_out?")


class Config(StageConfig):
    """How many records are held out; for the stage that keeps them."""

    held_out: int | None = Field(None, gt=0)


def run(stage: Stage[Config]) -> None:
    """Copy one part.

    Raises:
        UserError: fewer records come in than are to be held out, or both or neither of a number and an
            input `held_out` are given, or that input holds what `records` does not.
    """
    source, number = stage.input("records"), stage.config.held_out
    if ("held_out" in stage.inputs) == (number is not None):
        raise UserError(
            f"stages.{stage.name}: needs either config.held_out, how many records to hold out, or an input `held_out`, "
            "the stage that holds them, to keep the others"
        )
    if number is None:
        held_out = frozenset(row["id"] for row in stage.input("held_out").rows(["id"]))
        _check_part(stage, held_out)
    elif source.num_rows < number:
        raise UserError(
            f"stages.{stage.name}.config.held_out: {number:,}, but {source.path} has {source.num_rows:,} records"
        )
    else:
        ranked = ((digest("split", stage.config.seed, row["id"]), row["id"]) for row in source.rows(["id"]))
        held_out = frozenset(record_id for _, record_id in heapq.nsmallest(number, ranked))
    schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
    stage.map_shards(functools.partial(_process, held_out), source, schema)


def _check_part(stage: Stage[Config], held_out: frozenset[str]) -> None:
    """A stage that held out something else would leave all records to train on."""
    source = stage.input("records")
    strange = held_out.difference(row["id"] for row in source.rows(["id"]))
    if strange:
        raise UserError(
            f"stages.{stage.name}.inputs.held_out: {len(strange):,} of its {len(held_out):,} records, {min(strange)} for "
            f"one, are not in {source.path}; both stages have to take the same `records`"
        )


def _process(held_out: frozenset[str], stage: Stage[Config], shard: Shard) -> None:
    wanted = stage.config.held_out is not None
    for row in shard.rows():
        if (row["id"] in held_out) == wanted:
            shard.write(row)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Copies records; asks no engine."""
    rows = rows_in["records"]
    out = max(0, rows - rows_in["held_out"]) if config.held_out is None else min(config.held_out, rows)
    return Forecast(rows_out=out, disk_bytes=500 * out)
