"""Dedup of more personas than fit one memory: the stage `personahub.dedup` by partitions, with the same result.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}
      config: {partitions: 256}
      execution: {executor: ray, workers: 64}

Without `partitions` the stage works in its own process as long as half of the memory is enough.
With them (or when it is not), no process holds more than a few blocks, and all work is tasks for
the executor: sorting by id, hashing, joining, embedding, and telling each shard what goes. Tasks meet in files
under `partitions-N/` in the stage's folder, which is deleted when all shards are written. A run that was
killed goes on with the first task that had not ended, unless `partitions` has changed.

What stays in one process: one byte a row (16 more to collapse chains), and the pairs of one block.
`minhash` is not partitioned.
"""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.duplicates import clustered
from personahub.core.duplicates.partitioned import vector_join, word_join
from personahub.core.duplicates.partitioned.blocks import Blocks, cut, shard_and_row
from personahub.core.duplicates.partitioned.decide import Decided
from personahub.core.duplicates.partitioned.spill import Spill, column
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.stage import Stage
from personahub.deduplication import columns
from personahub.deduplication.methods import DECISIONS, Config, Embedding, Method, report, sample, write_shards

_BYTES_A_ROW, _OF_TEXT = 300, 5  # memory of one process: so much a row, and so many times its text
_BYTES_A_PARTITION = 1 << 30
_TEXT_BYTES = 100  # of a persona, before anything is read
# Per row, as `python -m benchmarks.dedup_executors --rows 10000000 --executors serial` measures `surface`; vectors, of
# 384 numbers, as with `--rows 100000 --vectors`. Memory is of a task, of its own rows, and of the one that decides.
_CPU_SECONDS, _SCRATCH_BYTES, _VECTOR_BYTES = 4.5e-6, 640, 1_710
_EMPTY_TASK_BYTES, _TASK_BYTES, _DECIDING_BYTES = 150_000_000, 1_700, 1
_CENTROID_BYTES = 98  # a row: of clusters, whose centroids one task finds from 64 vectors for each thousand rows


def partitions(stage: Stage[Config]) -> int | None:
    """Into how many partitions to cut; None: one process is enough.

    Raises:
        UserError: partitions are asked for with a method that cannot be partitioned.
    """
    config, execution = stage.config, stage.spec.execution
    by_minhash = any(method.method == "minhash" for method in config.methods)
    if config.partitions is not None:
        if by_minhash:
            raise UserError(
                f"stages.{stage.name}.config.partitions: minhash works in one process; use surface, which is exact"
            )
        return config.partitions
    needed = sum(_memory_of(source, config.field) for source in stage.inputs.values())
    if by_minhash or (_fits(needed) and not config.collapse_chains):
        return None
    return max(-(-needed // _BYTES_A_PARTITION), 1 if _fits(needed) else 2 * execution.workers)


def _fits(needed: int) -> bool:
    return needed <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _memory_of(source: Artifact, field: str) -> int:
    size = 0
    for name in source.shard_names:
        metadata = pq.read_metadata(source.path / f"{name}.parquet")
        for group in range(metadata.num_row_groups):
            columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
            size += sum(c.total_uncompressed_size for c in columns if c.path_in_schema == field)
    return _OF_TEXT * size + _BYTES_A_ROW * source.num_rows


def forecast(config: Config, rows: int, work: Work) -> Forecast | None:
    """What `surface` by partitions takes besides the writing of shards; None where one process is enough."""
    needed = rows * (_BYTES_A_ROW + _OF_TEXT * _TEXT_BYTES)
    if config.partitions is None and (_fits(needed) or any(method.method == "minhash" for method in config.methods)):
        return None
    count = config.partitions or -(-needed // _BYTES_A_PARTITION)
    joins = sum(method.method == "surface" for method in config.methods)
    scratch = rows * (_SCRATCH_BYTES + _VECTOR_BYTES * (len(config.methods) - joins))
    cpu = rows * joins * _CPU_SECONDS
    by_cluster = any(isinstance(each, Embedding) and each.search == "clustered" for each in config.methods)
    centroids = rows * _CENTROID_BYTES if by_cluster else 0
    return Forecast(
        rows_out=rows,
        cpu_seconds=rows * work.cpu_seconds + cpu,
        disk_bytes=round(rows * work.disk_bytes) + scratch,
        memory_bytes=_EMPTY_TASK_BYTES + max(rows * _TASK_BYTES // count + rows * _DECIDING_BYTES, centroids),
        notes=(
            f"by {count:,} partitions: {scratch / 1e9:,.1f} GB of the disk are scratch, {cpu / 3600:,.2f} of the "
            "CPU-hours joins of words (python -m benchmarks.dedup_executors), the others reading and writing shards",
        ),
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
        """In each shard."""
        return tuple(self.artifact.manifest.shards.values())

    def read(self, shard: int) -> pa.Table:
        """Columns `id`, `text`, and `best` where rows are visited by it."""
        table = columns.read_columns(self.artifact, [self.artifact.shard_names[shard]], self.field, self.score_field)
        return columns.with_best(table, self.keep)


def run(stage: Stage[Config], count: int) -> None:
    """Decide by partitions, then write each shard."""
    config, execution, personas = stage.config, stage.spec.execution, stage.input("personas")
    folder = stage.path.resolve() / f"partitions-{count}"  # tasks may run in another directory
    for other in folder.parent.glob("partitions-*"):
        if other != folder:
            shutil.rmtree(other)
    spill = Spill(folder, count, execution.executor, execution.workers, stage.name)
    source = Shards(personas, config.field, config.keep, config.score_field)
    old = Shards(stage.inputs["against"], config.field) if "against" in stage.inputs else None
    columns.check_columns(personas, [config.field, *([config.score_field] if config.score_field else [])])
    if old is not None:
        columns.check_columns(old.artifact, [config.field])
    blocks = cut(spill, source, old, given=config.keep == "first")
    decided: list[Decided] = []
    reports = []
    for number, method in enumerate(config.methods):
        alive = decided[-1].alive if decided else None
        decided.append(_deduplicate(spill.at(str(number)), blocks, method, alive, config.collapse_chains))
        reports.append(_report(stage, method, decided[-1], alive))
    dropped = sum(one.dropped for one in decided)
    stage.report(methods=reports, duplicate_ratio=dropped / max(personas.num_rows, 1))
    if personas.shard_names:
        spill.run("name", _name, range(len(blocks)), blocks, decided)
        spill.run("place", _place, range(len(blocks)), blocks, len(personas.shard_names))
        spill.run("tell", _tell, range(len(personas.shard_names)), personas, folder.parent / DECISIONS)
        write_shards(stage, personas)
    shutil.rmtree(folder)


def _deduplicate(spill: Spill, blocks: Blocks, method: Method, alive: Path | None, chains: bool) -> Decided:
    if isinstance(method, Embedding):
        make = functools.partial(embed, config=method.embedder)
        threshold, search = method.threshold, method.search
        return vector_join.deduplicate(spill, blocks, threshold, make, search, alive, collapse_chains=chains)
    return word_join.deduplicate(spill, blocks, method.threshold, alive, chains)


def _report(stage: Stage[Config], method: Method, decided: Decided, alive: Path | None) -> dict[str, Any]:
    """As `personahub.dedup` reports it."""
    blocks, config = decided.blocks, stage.config
    recall = None
    sampled = sample(config, decided.rows)
    if isinstance(method, Embedding):
        vectors: Any = vector_join.mapped(decided.spill, blocks)[0]
        compared = vectors[sampled]
        if method.search == "clustered":
            result = _counted(decided, alive, method.threshold)
            recall, _ = clustered.recall(vectors, method.threshold, result, seed=config.seed)
    else:
        ranks = blocks.references + np.flatnonzero(_mask(alive, blocks))[sampled]
        compared = _rows(blocks, ranks)["text"]
    examples = []
    for similarity, rank, survivor in _most_doubtful(decided, config.examples):
        told = _rows(blocks, np.array([rank, survivor]))
        (name, _), (text, of_survivor) = told["id"].to_pylist(), told["text"].to_pylist()
        examples.append({"similarity": round(similarity, 4), "id": name, "dropped": text, "survivor": of_survivor})
    return report(stage, method, decided.rows, decided.dropped, recall, compared, examples)


def _mask(alive: Path | None, blocks: Blocks) -> np.ndarray:
    """Which rows, references left out, were there before a method."""
    return np.ones(blocks.rows - blocks.references, np.bool_) if alive is None else np.load(alive)[blocks.references :]


def _counted(decided: Decided, alive: Path | None, threshold: float) -> Deduplication:
    """Which of the rows compared are kept, in their order, and which not; survivors are left out."""
    kept = np.load(decided.alive)[decided.blocks.references :][_mask(alive, decided.blocks)]
    return Deduplication(threshold, np.flatnonzero(kept), np.flatnonzero(~kept), np.empty(0, np.int64), np.empty(0))


def _most_doubtful(decided: Decided, count: int) -> list[tuple[float, int, int]]:
    """Similarity, rank and survivor's rank of the least similar drops."""
    found: list[tuple[float, int, int]] = []
    for block in range(len(decided.blocks)):
        rank, survivor, similarity = decided.by_survivor(block)
        order = np.lexsort((rank, similarity))[:count]
        found += zip(similarity[order].tolist(), rank[order].tolist(), survivor[order].tolist(), strict=True)
    return sorted(found)[:count]


def _rows(blocks: Blocks, ranks: np.ndarray) -> pa.Table:
    """Ids and texts of some rows, in the order of `ranks`."""
    block_of = blocks.block_of(ranks)
    order = np.argsort(block_of, kind="stable")
    parts = [blocks.read(0).slice(0, 0)]
    for block in np.unique(block_of).tolist():
        parts.append(blocks.read(block).take(pa.array(ranks[order][block_of[order] == block] - blocks.first[block])))
    return pa.concat_tables(parts).take(pa.array(np.argsort(order)))


def _name(spill: Spill, block: int, blocks: Blocks, decided: list[Decided]) -> None:
    """Look up the ids of the survivors in one block; deal them to the blocks of what they cover."""
    ids = blocks.read(block)["id"]
    parts = [one.by_survivor(block) for one in decided]
    rank, survivor, similarity = (np.concatenate([part[i] for part in parts]) for i in range(3))
    method = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]).astype(np.int8)
    names = ids.take(pa.array(survivor - blocks.first[block]))
    columns = {"rank": rank, "method": method, "survivor": names, "similarity": similarity}
    spill.write("named", block, columns, blocks.block_of(rank), len(blocks))


def _place(spill: Spill, block: int, blocks: Blocks, shards: int) -> None:
    """Deal the dropped rows of one block to the shards that they came from."""
    rows = spill.read("named", block)
    places = column(blocks.read(block), "place")[column(rows, "rank") - blocks.first[block]]
    shard, row = shard_and_row(places)
    columns = {"row": row, **{name: rows[name] for name in ("method", "survivor", "similarity")}}
    spill.write("placed", block, columns, shard, shards)


def _tell(spill: Spill, shard: int, source: Artifact, folder: Path) -> None:
    """Write what was decided on each row of one shard."""
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
