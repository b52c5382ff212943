"""Dedup in one process: all rows of a method are compared at once."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.duplicates.result import Deduplication
from personahub.core.stage import Stage
from personahub.deduplication.columns import read_table, visiting_order
from personahub.deduplication.config import Config
from personahub.deduplication.method import Comparison, Method
from personahub.deduplication.results import DECISIONS, summarize, write_shards

_VECTORS = "vectors"  # folder of what methods saved so far, until the stage is finished


def run_whole(stage: Stage[Config]) -> None:
    """Decides on all shards in this process, then writes each one."""
    source, config = stage.input("personas"), stage.config
    table = read_table(source, config.field, config.score_field)
    against = read_table(stage.inputs["against"], config.field) if "against" in stage.inputs else table.slice(0, 0)
    rows = visiting_order(table, config.keep)
    decisions = Decisions(len(table))
    reports = []
    for number, method in enumerate(config.methods):
        new, old = (part.select(["id", "text"]) for part in (table.take(rows), against))
        folder = stage.path / _VECTORS / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with stage.progress(len(new) + len(old), f"texts prepared for {method.name}") as progress:
            comparison = method.prepare(new["text"], old["text"], folder, progress.update)
        result = comparison.deduplicate()
        decisions.record(number, rows, result)
        reports.append(_summarize(stage, method, comparison, pa.concat_tables([new, old]), result))
        rows = rows[result.kept]
    stage.report(methods=reports, duplicate_ratio=(len(table) - len(rows)) / max(len(table), 1))
    _write(stage, source, pa.concat_tables([table.select(["id"]), against.select(["id"])])["id"], decisions)
    shutil.rmtree(stage.path / _VECTORS, ignore_errors=True)


class Decisions:
    """Each input row's method (-1 if kept), survivor's row and similarity.

    Rows of `against` are numbered after those of the input.
    """

    def __init__(self, rows: int) -> None:
        self.method = np.full(rows, -1, np.int8)
        self.survivor = np.full(rows, -1, np.int64)
        self.similarity = np.zeros(rows)

    def record(self, method: int, rows: np.ndarray, result: Deduplication) -> None:
        """Adds a result whose indices are positions in `rows`."""
        dropped = rows[result.dropped]
        self.method[dropped] = method
        old = result.survivors >= len(rows)
        self.survivor[dropped[~old]] = rows[result.survivors[~old]]
        self.survivor[dropped[old]] = len(self.method) + result.survivors[old] - len(rows)
        self.similarity[dropped] = result.similarities


def _summarize(
    stage: Stage[Config], method: Method, comparison: Comparison, table: pa.Table, result: Deduplication
) -> dict[str, Any]:
    """Summarizes one method. `table` holds the rows it read, in visiting order, and then those of `against`."""
    ids, texts = table["id"], table["text"]
    examples = [
        {
            "similarity": round(similarity, 4),
            "id": ids[row].as_py(),
            "dropped": texts[row].as_py(),
            "survivor": texts[survivor].as_py(),
        }
        for row, survivor, similarity in result.borderline(stage.config.examples)
    ]
    return summarize(stage, method, comparison, result.rows, len(result.dropped), lambda: result, examples)


def _write(stage: Stage[Config], source: Artifact, ids: pa.ChunkedArray, decisions: Decisions) -> None:
    """Writes one output shard for each input shard, by any executor. Shards that exist are left alone."""
    if not source.shard_names:
        return
    folder = stage.path / DECISIONS
    folder.mkdir(exist_ok=True)
    first = 0
    for name in source.shard_names:
        rows = slice(first, first := first + source.manifest.shards[name])
        method, survivor = decisions.method[rows], decisions.survivor[rows]
        survivors = ids.take(pa.array(survivor, mask=survivor < 0))
        columns = {"method": method, "survivor": survivors, "similarity": decisions.similarity[rows]}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    write_shards(stage, source)
