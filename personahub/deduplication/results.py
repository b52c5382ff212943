"""What the dedup stage writes: decisions, output shards and summaries of methods."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.duplicates.result import Deduplication
from personahub.core.errors import Rejected
from personahub.core.stage import Shard, Stage
from personahub.deduplication.config import Config
from personahub.deduplication.method import Comparison, Method

DECISIONS = "decisions"  # folder with the decisions on each shard's rows, until all output shards are written


def summarize(
    stage: Stage[Config],
    method: Method,
    comparison: Comparison,
    rows: int,
    dropped: int,
    result: Callable[[], Deduplication],
    examples: list[dict[str, Any]],
) -> dict[str, Any]:
    """Logs and returns what the summary says about one method.

    Args:
        stage: the running stage.
        method: the method.
        comparison: the rows it compared.
        rows: their number.
        dropped: how many of them it dropped.
        result: returns its decisions.
        examples: its least similar drops.
    """
    config = stage.config
    counts = {"rows": rows, "kept": rows - dropped, "dropped": dropped, "duplicate_ratio": dropped / max(rows, 1)}
    stage.log({f"{method.name}/{name}": count for name, count in counts.items()})
    sample = _sample(config, rows)
    swept = comparison.sweep(sample, [threshold for threshold in config.sweep if method.accepts(threshold)])
    return {
        "method": method.method,
        "threshold": method.threshold,
        **counts,
        **comparison.summary(result, config.seed),
        "sweep": {
            "rows": len(sample),
            "kept": [
                {"threshold": one.threshold, "kept": len(one.kept), "duplicate_ratio": one.duplicate_ratio}
                for one in swept
            ],
        },
        "most_doubtful": examples,
    }


def _sample(config: Config, rows: int) -> np.ndarray:
    """Ascending positions of the rows that the sweep reads."""
    if rows <= config.sweep_rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(config.seed).choice(rows, config.sweep_rows, replace=False))


def write_shards(stage: Stage[Config], source: Artifact) -> None:
    """Writes the output shards from the decisions."""
    schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
    stage.map_shards(_write_shard, source, schema)
    shutil.rmtree(stage.path / DECISIONS)


def _write_shard(stage: Stage[Config], shard: Shard) -> None:
    """Copies the rows of one shard that stay and rejects the others."""
    decided = pq.read_table(stage.path / DECISIONS / f"{shard.name}.parquet")
    columns = (decided[name].to_pylist() for name in ("method", "survivor", "similarity"))
    for record, number, survivor, similarity in zip(shard.rows(), *columns, strict=True):
        if number < 0:
            shard.write(record)
        else:
            detail = f"similarity {similarity:.4f} to {survivor}"
            if stage.config.collapse_chains:
                detail = f"similarity {similarity:.4f} to one of a chain whose first is {survivor}"
            shard.reject(record, Rejected(f"near_duplicate_{stage.config.methods[number].name}", detail))
