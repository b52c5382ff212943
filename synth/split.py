"""Split an artifact into two parts: the held-out records, or all others.

    held_out:
      run: synth.split
      inputs: {records: problems}
      config: {held_out: 20000}
    train_problems:
      run: synth.split
      inputs: {records: problems, held_out: held_out}

A hash of the seed and the record's id determines which records are held out, independent of sharding. A larger
number includes the records of a smaller one. The other part is everything that is not in the input `held_out`, so
no record can be in both. The paper holds out 20,000 problems before it writes solutions (section 4.1.2).
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
    """How many records to hold out. Only for the stage that keeps them."""

    held_out: int | None = Field(None, gt=0)


def run(stage: Stage[Config]) -> None:
    """Copy one part.

    Raises:
        UserError: there are fewer records than `held_out`, both or neither of a number and an input `held_out` are
            given, or the input has records that are not in `records`.
    """
    source, number = stage.input("records"), stage.config.held_out
    if ("held_out" in stage.inputs) == (number is not None):
        raise UserError(
            f"stages.{stage.name}: needs either config.held_out, the number of records to hold out, or an input "
            "`held_out`, the stage that keeps them, to keep the others"
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
    """Check that `held_out` comes from the same records. Otherwise all records would stay in the other part."""
    source = stage.input("records")
    unknown = held_out.difference(row["id"] for row in source.rows(["id"]))
    if unknown:
        raise UserError(
            f"stages.{stage.name}.inputs.held_out: {len(unknown):,} of its {len(held_out):,} records, such as "
            f"{min(unknown)}, are not in {source.path}; both stages need the same `records`"
        )


def _process(held_out: frozenset[str], stage: Stage[Config], shard: Shard) -> None:
    wanted = stage.config.held_out is not None
    for row in shard.rows():
        if (row["id"] in held_out) == wanted:
            shard.write(row)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast the number of copied records."""
    rows = rows_in["records"]
    out = max(0, rows - rows_in["held_out"]) if config.held_out is None else min(config.held_out, rows)
    return Forecast(rows_out=out, disk_bytes=500 * out)
