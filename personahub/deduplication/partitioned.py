"""Dedup by partitions, for rows that exceed memory.

The result is that of one process.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}
      config: {partitions: 256}
      execution: {executor: ray, workers: 64}

Without `partitions` the stage works in its own process, as long as half of the memory is enough. With
`partitions` (or with too little memory) no process holds more than a few blocks, and all work is done by tasks
of the executor: they sort by id, hash, join, embed, and write down the decisions for each shard. Tasks exchange
files in `partitions-N/` in the stage's folder, which is deleted when all shards are written. A run that was
killed continues with the first unfinished task, unless `partitions` has changed.

One process still holds one byte per row (16 more to collapse chains) and the pairs of one block. Methods whose
`can_partition` is false, such as `minhash`, cannot be partitioned.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.duplicates.partitioned.blocks import Blocks, cut, shard_and_row
from personahub.core.duplicates.partitioned.decide import Decided
from personahub.core.duplicates.partitioned.spill import Spill, column
from personahub.core.duplicates.result import Deduplication
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.stage import Stage
from personahub.deduplication.columns import check_columns, read_columns, with_best
from personahub.deduplication.config import Config
from personahub.deduplication.method import Method
from personahub.deduplication.results import DECISIONS, summarize, write_shards

_BYTES_PER_ROW, _BYTES_PER_TEXT_BYTE = 300, 5  # memory of one process
_BYTES_PER_PARTITION = 1 << 30
_TEXT_BYTES = 100  # of a persona, before anything is read
# Per row, measured for `surface` by `python -m benchmarks.dedup_executors --rows 10000000 --executors serial`.
# Memory is that of a task per row of its own, and that of the deciding task per row of the stage.
_SCRATCH_BYTES = 640
_EMPTY_TASK_BYTES, _TASK_BYTES, _DECIDING_BYTES = 150_000_000, 1_700, 1


def choose_partitions(stage: Stage[Config]) -> int | None:
    """Chooses the number of partitions, or None if one process is enough.

    Raises:
        UserError: the config asks for partitions and has a method that cannot be partitioned.
    """
    config, execution = stage.config, stage.spec.execution
    if config.partitions is not None:
        for method in config.methods:
            if not method.can_partition:
                raise UserError(
                    f"stages.{stage.name}.config.partitions: {method.name} works in one process only; remove "
                    "`partitions`, or use surface or embedding"
                )
        return config.partitions
    needed = sum(_memory_of(source, config.field) for source in stage.inputs.values())
    if not _can_partition(config) or (_fits(needed) and not config.collapse_chains):
        return None
    return max(-(-needed // _BYTES_PER_PARTITION), 1 if _fits(needed) else 2 * execution.workers)


def _can_partition(config: Config) -> bool:
    return all(method.can_partition for method in config.methods)


def _fits(needed: int) -> bool:
    return needed <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _memory_of(source: Artifact, field: str) -> int:
    size = 0
    for name in source.shard_names:
        metadata = pq.read_metadata(source.path / f"{name}.parquet")
        for group in range(metadata.num_row_groups):
            columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
            size += sum(c.total_uncompressed_size for c in columns if c.path_in_schema == field)
    return _BYTES_PER_TEXT_BYTE * size + _BYTES_PER_ROW * source.num_rows


def forecast_partitions(config: Config, rows: int) -> int | None:
    """Returns the expected number of partitions, or None if one process is enough."""
    needed = rows * (_BYTES_PER_ROW + _BYTES_PER_TEXT_BYTE * _TEXT_BYTES)
    if config.partitions is None and (_fits(needed) or not _can_partition(config)):
        return None
    return config.partitions or -(-needed // _BYTES_PER_PARTITION)


def forecast_partitioned(rows: int, partitions: int, work: Work, methods: list[Forecast]) -> Forecast:
    """Forecasts dedup by partitions. `work` is that of writing shards, `methods` what each method adds."""
    scratch = rows * _SCRATCH_BYTES + sum(method.disk_bytes for method in methods)
    tasks = rows * _TASK_BYTES // partitions + rows * _DECIDING_BYTES
    return Forecast(
        rows_out=rows,
        cpu_seconds=rows * work.cpu_seconds,
        disk_bytes=round(rows * work.disk_bytes) + scratch,
        memory_bytes=_EMPTY_TASK_BYTES + max(tasks, *(method.memory_bytes for method in methods)),
        notes=(f"by {partitions:,} partitions: {scratch / 1e9:,.1f} GB of the disk are scratch",),
    )


@dataclass(frozen=True)
class Shards:
    """An artifact as the partitioned joins read it."""

    artifact: Artifact
    field: str
    keep: str = "first"
    score_field: str | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """Number of rows in each shard."""
        return tuple(self.artifact.manifest.shards.values())

    def read(self, shard: int) -> pa.Table:
        """Columns `id`, `text` and, if it determines the order, `best`."""
        table = read_columns(self.artifact, [self.artifact.shard_names[shard]], self.field, self.score_field)
        return with_best(table, self.keep)


@dataclass(frozen=True)
class ComparedRows:
    """The rows that one method compared, numbered from 0."""

    blocks: Blocks
    before: Path | None  # file of one bool per rank: whether earlier methods kept the row

    def mask(self) -> np.ndarray:
        """For each row without references, whether the method compared it."""
        blocks = self.blocks
        if self.before is None:
            return np.ones(blocks.rows - blocks.references, np.bool_)
        return np.load(self.before)[blocks.references :]

    def take(self, indices: Any) -> pa.ChunkedArray:
        """Returns the texts of some rows."""
        ranks = self.blocks.references + np.flatnonzero(self.mask())[np.asarray(indices)]
        return read_ranks(self.blocks, ranks)["text"]

    def result(self, decided: Decided, threshold: float) -> Deduplication:
        """Which rows are kept and which dropped. Survivors are left out."""
        kept = np.load(decided.alive)[self.blocks.references :][self.mask()]
        return Deduplication(threshold, np.flatnonzero(kept), np.flatnonzero(~kept), np.empty(0, np.int64), np.empty(0))


def run_partitioned(stage: Stage[Config], count: int) -> None:
    """Decides by partitions, then writes each shard."""
    config, execution, personas = stage.config, stage.spec.execution, stage.input("personas")
    folder = stage.path.resolve() / f"partitions-{count}"  # tasks may run in another directory
    for other in folder.parent.glob("partitions-*"):
        if other != folder:
            shutil.rmtree(other)
    spill = Spill(folder, count, execution.executor, execution.workers, stage.name)
    source = Shards(personas, config.field, config.keep, config.score_field)
    old = Shards(stage.inputs["against"], config.field) if "against" in stage.inputs else None
    check_columns(personas, [config.field, *([config.score_field] if config.score_field else [])])
    if old is not None:
        check_columns(old.artifact, [config.field])
    blocks = cut(spill, source, old, given=config.keep == "first")
    decided: list[Decided] = []
    reports = []
    for number, method in enumerate(config.methods):
        rows = ComparedRows(blocks, decided[-1].alive if decided else None)
        decided.append(
            method.deduplicate_partitions(spill.subfolder(str(number)), blocks, rows.before, config.collapse_chains)
        )
        reports.append(_summarize(stage, method, decided[-1], rows))
    dropped = sum(one.dropped for one in decided)
    stage.report(methods=reports, duplicate_ratio=dropped / max(personas.num_rows, 1))
    if personas.shard_names:
        spill.run("named", add_survivor_ids, range(len(blocks)), blocks, decided)
        spill.run("placed", deal_to_shards, range(len(blocks)), blocks, len(personas.shard_names))
        spill.run("decisions", write_decisions, range(len(personas.shard_names)), personas, folder.parent / DECISIONS)
        write_shards(stage, personas)
    shutil.rmtree(folder)


def _summarize(stage: Stage[Config], method: Method, decided: Decided, rows: ComparedRows) -> dict[str, Any]:
    """Summarizes one method in the same way as a run in one process."""
    comparison = method.compare_partitions(decided, rows)
    examples = []
    for similarity, rank, survivor in _most_doubtful(decided, stage.config.examples):
        pair = read_ranks(decided.blocks, np.array([rank, survivor]))
        (name, _), (dropped, kept) = pair["id"].to_pylist(), pair["text"].to_pylist()
        examples.append({"similarity": round(similarity, 4), "id": name, "dropped": dropped, "survivor": kept})

    def result() -> Deduplication:
        return rows.result(decided, method.threshold)

    return summarize(stage, method, comparison, decided.rows, decided.dropped, result, examples)


def _most_doubtful(decided: Decided, count: int) -> list[tuple[float, int, int]]:
    """Returns the similarity, rank and survivor's rank of the least similar drops."""
    found: list[tuple[float, int, int]] = []
    for block in range(len(decided.blocks)):
        rank, survivor, similarity = decided.by_survivor(block)
        order = np.lexsort((rank, similarity))[:count]
        found += zip(similarity[order].tolist(), rank[order].tolist(), survivor[order].tolist(), strict=True)
    return sorted(found)[:count]


def read_ranks(blocks: Blocks, ranks: np.ndarray) -> pa.Table:
    """Reads ids and texts of some rows, in the order of `ranks`."""
    block_of = blocks.block_of(ranks)
    order = np.argsort(block_of, kind="stable")
    parts = [blocks.read(0).slice(0, 0)]
    for block in np.unique(block_of).tolist():
        parts.append(blocks.read(block).take(pa.array(ranks[order][block_of[order] == block] - blocks.first[block])))
    return pa.concat_tables(parts).take(pa.array(np.argsort(order)))


def add_survivor_ids(spill: Spill, block: int, blocks: Blocks, decided: list[Decided]) -> None:
    """Looks up survivors' ids in a block. Deals them to the blocks of the rows they cover."""
    ids = blocks.read(block)["id"]
    parts = [one.by_survivor(block) for one in decided]
    rank, survivor, similarity = (np.concatenate([part[i] for part in parts]) for i in range(3))
    method = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]).astype(np.int8)
    names = ids.take(pa.array(survivor - blocks.first[block]))
    columns = {"rank": rank, "method": method, "survivor": names, "similarity": similarity}
    spill.write("named", block, columns, blocks.block_of(rank), len(blocks))


def deal_to_shards(spill: Spill, block: int, blocks: Blocks, shards: int) -> None:
    """Deals the dropped rows of one block to the shards that they came from."""
    rows = spill.read("named", block)
    places = column(blocks.read(block), "place")[column(rows, "rank") - blocks.first[block]]
    shard, row = shard_and_row(places)
    columns = {"row": row, **{name: rows[name] for name in ("method", "survivor", "similarity")}}
    spill.write("placed", block, columns, shard, shards)


def write_decisions(spill: Spill, shard: int, source: Artifact, folder: Path) -> None:
    """Writes the decision on each row of one shard."""
    name = source.shard_names[shard]
    rows, count = spill.read("placed", shard), source.manifest.shards[name]
    method, similarity, position = np.full(count, -1, np.int8), np.zeros(count), np.full(count, -1)
    row = column(rows, "row")
    method[row], similarity[row], position[row] = (
        column(rows, "method"),
        column(rows, "similarity"),
        np.arange(len(rows)),
    )
    survivors = rows["survivor"].take(pa.array(position, mask=position < 0))
    with spill.writes(str(folder), f"{name}.parquet") as file:
        pq.write_table(pa.table({"method": method, "survivor": survivors, "similarity": similarity}), file)
