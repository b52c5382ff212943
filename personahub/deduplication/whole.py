"""Dedup in one process: all rows of a method are compared at once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.duplicates import clustered, embedding
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding.embed import embed
from personahub.core.files import replacing
from personahub.core.stage import Stage
from personahub.deduplication.columns import read, visiting_order
from personahub.deduplication.methods import (
    DECISIONS,
    Config,
    Embedding,
    Method,
    _sweep_texts,
    report,
    sample,
    write_shards,
)

_VECTORS = "vectors"  # folder of the embeddings made so far, while the stage is unfinished


_ROWS_PER_FILE = 16_384


def run(stage: Stage[Config]) -> None:
    """Decide over all shards in this process, then write each one."""
    source, config = stage.input("personas"), stage.config
    table = read(source, config.field, config.score_field)
    against = read(stage.inputs["against"], config.field) if "against" in stage.inputs else table.slice(0, 0)
    rows = visiting_order(table, config.keep)
    decisions = _Decisions(len(table))
    reports = []
    for number, method in enumerate(config.methods):
        compared = pa.concat_tables([table.take(rows).select(["id", "text"]), against.select(["id", "text"])])
        vectors = _embed(stage, method, number, compared["text"]) if isinstance(method, Embedding) else None
        result = _deduplicate(method, compared["text"], len(rows), vectors)
        decisions.record(number, rows, result)
        reports.append(_report(stage, method, compared, vectors, result))
        rows = rows[result.kept]
    stage.report(methods=reports, duplicate_ratio=(len(table) - len(rows)) / max(len(table), 1))
    _write(stage, source, pa.concat_tables([table.select(["id"]), against.select(["id"])])["id"], decisions)
    shutil.rmtree(stage.path / _VECTORS, ignore_errors=True)


class _Decisions:
    """For each input row the method that dropped it (-1: none), the survivor's row and the similarity.

    Rows of `against` are counted after those of the input.
    """

    def __init__(self, rows: int) -> None:
        self.method = np.full(rows, -1, np.int8)
        self.survivor = np.full(rows, -1, np.int64)
        self.similarity = np.zeros(rows)

    def record(self, method: int, rows: np.ndarray, result: Deduplication) -> None:
        """Take over a result whose indices count within `rows`."""
        dropped = rows[result.dropped]
        self.method[dropped] = method
        old = result.survivors >= len(rows)
        self.survivor[dropped[~old]] = rows[result.survivors[~old]]
        self.survivor[dropped[old]] = len(self.method) + result.survivors[old] - len(rows)
        self.similarity[dropped] = result.similarities


def _embed(stage: Stage[Config], method: Embedding, number: int, texts: pa.ChunkedArray) -> np.ndarray:
    """Vectors of all texts, mapped from a file.

    They are made in blocks that are kept on disk, so that an interrupted run does not embed again.
    The blocks follow the visiting order, so vectors do not depend on how the input is sharded.
    """
    if not len(texts):
        return np.empty((0, 1), np.float32)
    folder = stage.path / _VECTORS
    folder.mkdir(exist_ok=True)
    whole, blocks = folder / f"{number}.npy", []
    with stage.progress(len(texts), "texts embedded") as progress:
        for first in range(0, 0 if whole.exists() else len(texts), _ROWS_PER_FILE):
            blocks.append(folder / f"{number}-{first // _ROWS_PER_FILE:05d}.npy")
            part = texts.slice(first, _ROWS_PER_FILE)
            if blocks[-1].exists():
                progress.update(len(part))
            else:
                _save(blocks[-1], embed(part.to_pylist(), method.embedder, progress.update))
    if blocks:
        _join(blocks, len(texts), whole)
    return np.load(whole, mmap_mode="r")


def _join(blocks: Sequence[Path], rows: int, whole: Path) -> None:
    """Put the blocks into one file, and remove them."""
    dimensions = np.load(blocks[0], mmap_mode="r").shape[1]
    with replacing(whole) as temporary:
        joined = np.lib.format.open_memmap(temporary, "w+", np.float32, (rows, dimensions))
        first = 0
        for block in blocks:
            vectors = np.load(block)
            joined[first : first + len(vectors)] = vectors
            first += len(vectors)
        joined.flush()
    for block in blocks:
        block.unlink()


def _save(file: Path, block: np.ndarray) -> None:
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, block)


def _deduplicate(method: Method, texts: pa.ChunkedArray, rows: int, vectors: np.ndarray | None) -> Deduplication:
    """The first `rows` texts in their order; those after them all stay."""
    if isinstance(method, Embedding) and vectors is not None:
        search = clustered.deduplicate if method.search == "clustered" else embedding.deduplicate
        return search(vectors, method.threshold, references=len(texts) - rows)
    return _sweep_texts(method, texts.slice(0, rows), [method.threshold], texts.slice(rows))[0]


def _report(
    stage: Stage[Config],
    method: Method,
    table: pa.Table,
    vectors: np.ndarray | None,
    result: Deduplication,
) -> dict[str, Any]:
    """What the summary says of one method; `table` holds the rows it read, in visiting order, and then `against`."""
    config, ids, texts = stage.config, table["id"], table["text"]
    recall = None
    if isinstance(method, Embedding) and method.search == "clustered" and vectors is not None:
        recall, _ = clustered.recall(vectors, method.threshold, result, seed=config.seed)
    sampled = sample(config, result.rows)
    examples = [
        {
            "similarity": round(similarity, 4),
            "id": ids[row].as_py(),
            "dropped": texts[row].as_py(),
            "survivor": texts[survivor].as_py(),
        }
        for row, survivor, similarity in result.borderline(config.examples)
    ]
    compared = texts.take(sampled) if vectors is None else vectors[sampled]
    return report(stage, method, result.rows, len(result.dropped), recall, compared, examples)


def _write(stage: Stage[Config], source: Artifact, ids: pa.ChunkedArray, decisions: _Decisions) -> None:
    """One output shard for each input shard, by any executor; those that exist are left alone."""
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
