"""Dedup: near-duplicate personas are dropped, by surface form and then by meaning.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}      # against: personas_of_last_month
      config:
        methods:
          - {method: surface, threshold: 0.9}
          - {method: embedding, threshold: 0.9, embedder: {kind: minilm}}

The thresholds are the paper's (arXiv 2406.20094, section 2); where it approximates with MinHash,
`surface` is exact. `minhash` is there for comparison and for long texts. Each method reads what
the one before kept and looks at all of it at once: about 300 bytes of memory a persona for `surface`
beside the texts, and 256 for `embedding`, whose vectors are in a file that is mapped. What does not fit
is cut into partitions (`personahub.deduplication.partitioned`). Which of two near-duplicates survives is
decided by `keep`, and depends neither on shards nor on order unless it says `first`.

The personas of the optional input `against` all stay where they are: they are not written again
and not compared with each other, but they cover new ones.

A dropped persona is in `rejected/` under `near_duplicate_METHOD`; its detail names the similarity
and the survivor, which a later method may have dropped in turn.
The summary holds a sweep over thresholds (without `against`) and the most doubtful drops of each
method: read these before you trust a threshold. `field` makes the stage serve other records, such as problems.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from personahub.core.artifact import Artifact, replacing
from personahub.core.config import EXECUTION, FrozenModel, StageConfig
from personahub.core.duplicates import clustered, embedding, minhash, surface
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding.embed import EmbedderConfig, describe, embed
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Work
from personahub.core.stage import Shard, Stage
from personahub.deduplication.columns import read, visiting_order

VERSION = "1"
INPUTS = ("personas", "against?")
WORK = Work(cpu_seconds=2.3e-05, memory_bytes=1700, disk_bytes=63, measured_by="benchmarks.million")
_EMBEDDING_CPU_SECONDS = 1 / 309  # a persona, by the packaged MiniLM
_EMBEDDING_MEASURED_BY = "python -m benchmarks.embedding_dedup --only-rates"
# Search for near vectors at 0.9: CPU seconds a row and a row squared, through what 100,000 and 1,000,000 rows took,
# and bytes a row beside the vectors, which are mapped from a file.
_SEARCH = {"exact": (6e-6, 2.6e-10, 367), "clustered": (1.31e-4, 9.1e-11, 1045)}
_SEARCH_MEASURED_BY = "python -m benchmarks.embedding_dedup --rows 1000000"

_VECTORS = "vectors"  # folder of the embeddings made so far, while the stage is unfinished
DECISIONS = "decisions"  # folder of what was decided on the rows of each shard, while shards are written
_ROWS_PER_FILE = 16_384


class Surface(FrozenModel):
    """Jaccard similarity of the sets of words, at least `threshold`."""

    method: Literal["surface"]
    threshold: float = Field(default=0.9, gt=0, le=1)


class MinHash(FrozenModel):
    """Jaccard similarity of the sets of word n-grams, at least `threshold`; nearly all such pairs are found."""

    method: Literal["minhash"]
    threshold: float = Field(default=0.9, gt=0, le=1)
    ngram: int = Field(default=1, gt=0, description="Words in a row that make one element of the set.")
    permutations: int = Field(default=minhash.PERMUTATIONS, gt=0)


class Embedding(FrozenModel):
    """Cosine of the embeddings, above `threshold`."""

    method: Literal["embedding"]
    threshold: float = Field(default=0.9, ge=-1, lt=1)
    embedder: EmbedderConfig = EmbedderConfig()
    search: Literal["exact", "clustered"] = Field(
        default="exact",
        description="`clustered` compares within the nearest eight clusters, for more than a few million rows; "
        "the summary has its recall.",
    )


Method = Annotated[Surface | MinHash | Embedding, Field(discriminator="method")]


class Config(StageConfig):
    """Which methods, in which order, and which of two near-duplicates stays."""

    methods: tuple[Method, ...] = (Surface(method="surface"), Embedding(method="embedding"))
    field: str = Field(default="persona", description="The text that is compared.")
    keep: Literal["id", "first", "longest", "score"] = Field(
        default="id",
        description="The survivor has the smallest id (a content hash, so no text is favoured), comes first in the "
        "input, has the longest text, or the highest `score_field` (then the smallest id).",
    )
    score_field: str | None = Field(
        default=None, description="For `keep: score`, a number of each record; records without one come last."
    )
    collapse_chains: bool = Field(
        default=False,
        description="Where A is like B and B like C, but not A like C: only the first of the three stays, and covers "
        "the others. By default both A and C stay.",
    )
    sweep: tuple[float, ...] = Field(
        default=(0.5, 0.6, 0.7, 0.8, 0.9, 0.95), description="Thresholds of the sweep in the summary; empty: none."
    )
    sweep_rows: int = Field(default=20_000, gt=0, description="The sweep reads a seeded sample of this size.")
    examples: int = Field(default=5, ge=0, description="Most doubtful drops of each method to show in the summary.")

    partitions: Annotated[int | None, EXECUTION] = Field(
        default=None,
        gt=0,
        description="Work by so many partitions on disk, as tasks for the executor, with the same result: see "
        "`personahub.deduplication.partitioned`. By default only if half of the memory is not enough for one process.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if (self.keep == "score") != (self.score_field is not None):
            raise ValueError("`keep: score` and `score_field` go together")
        if self.collapse_chains and any(method.method == "minhash" for method in self.methods):
            raise ValueError("`collapse_chains` needs all similar pairs, which minhash does not find: use surface")
        return self


def run(stage: Stage[Config]) -> None:
    """Decide over all shards, then write each one."""
    from personahub.deduplication import partitioned as dedup_partitioned  # which imports this module

    partitions = dedup_partitioned.partitions(stage)
    if partitions is not None:
        dedup_partitioned.run(stage, partitions)
        return
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


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """As many rows as come in: how many are near-duplicates is not known beforehand."""
    from personahub.deduplication import partitioned as dedup_partitioned  # which imports this module

    rows = rows_in["personas"]
    methods = [method for method in config.methods if isinstance(method, Embedding)]
    notes = tuple(f"embeds up to {rows:,} texts with {describe(method.embedder)}" for method in methods)
    embedding = _EMBEDDING_CPU_SECONDS * rows * sum(_on_this_cpu(method.embedder) for method in methods)
    if embedding:
        notes += (f"{embedding / 3600:,.2f} of the CPU-hours embed, without a GPU ({_EMBEDDING_MEASURED_BY})",)
    searching = sum(rows * _SEARCH[method.search][0] + rows**2 * _SEARCH[method.search][1] for method in methods)
    if searching:
        notes += (f"{searching / 3600:,.2f} of the CPU-hours search for near vectors ({_SEARCH_MEASURED_BY})",)
    whole = dedup_partitioned.forecast(config, rows)
    if whole is None:
        searched = [_SEARCH[method.search][2] for method in methods]
        work = replace(WORK, memory_bytes=WORK.memory_bytes + max(searched, default=0))
        whole = work.of(rows, Forecast(rows_out=rows))
    cpu = whole.cpu_seconds + embedding + searching
    return replace(whole, cpu_seconds=cpu, notes=(*whole.notes, *notes))


def _on_this_cpu(embedder: EmbedderConfig) -> bool:
    return embedder.kind == "minilm" and embedder.device in ("auto", "cpu")


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


def _sweep_texts(
    method: Method, texts: pa.ChunkedArray, thresholds: Sequence[float], against: pa.ChunkedArray | None = None
) -> list[Deduplication]:
    if isinstance(method, MinHash):
        return minhash.sweep(texts, thresholds, against=against, ngram=method.ngram, permutations=method.permutations)
    return surface.sweep(texts, thresholds, against=against)


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


def sample(config: Config, rows: int) -> np.ndarray:
    """Ascending positions of the rows that the sweep reads, among those that a method compared."""
    if rows <= config.sweep_rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(config.seed).choice(rows, config.sweep_rows, replace=False))


def report(
    stage: Stage[Config],
    method: Method,
    rows: int,
    dropped: int,
    recall: float | None,
    sampled: pa.ChunkedArray | np.ndarray,
    examples: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the summary says of a method that compared `rows`; `sampled` are texts or vectors to sweep."""
    told: dict[str, Any] = {
        "method": method.method,
        "threshold": method.threshold,
        "rows": rows,
        "kept": rows - dropped,
        "dropped": dropped,
        "duplicate_ratio": dropped / rows if rows else 0.0,
    }
    stage.log({f"{method.method}/{name}": told[name] for name in ("rows", "kept", "dropped", "duplicate_ratio")})
    if isinstance(method, Embedding):
        told["embedder"] = describe(method.embedder)
        if recall is not None:
            told["recall"] = recall
    if isinstance(sampled, np.ndarray):
        swept = embedding.sweep(sampled, [t for t in stage.config.sweep if -1 <= t < 1])
    else:
        swept = _sweep_texts(method, sampled, [t for t in stage.config.sweep if 0 < t <= 1])
    told["sweep"] = {
        "rows": len(sampled),
        "kept": [{"threshold": s.threshold, "kept": len(s.kept), "duplicate_ratio": s.duplicate_ratio} for s in swept],
    }
    told["most_doubtful"] = examples
    return told


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


def write_shards(stage: Stage[Config], source: Artifact) -> None:
    """Write the output shards, for which the decisions are there."""
    schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
    stage.map_shards(_write_shard, source, schema)
    shutil.rmtree(stage.path / DECISIONS)


def _write_shard(stage: Stage[Config], shard: Shard) -> None:
    """Copy the rows of one shard that stay, reject the others."""
    decided = pq.read_table(stage.path / DECISIONS / f"{shard.name}.parquet")
    columns = (decided[name].to_pylist() for name in ("method", "survivor", "similarity"))
    for record, number, survivor, similarity in zip(shard.rows(), *columns, strict=True):
        if number < 0:
            shard.write(record)
        else:
            method = stage.config.methods[number].method
            detail = f"similarity {similarity:.4f} to {survivor}"
            if stage.config.collapse_chains:
                detail = f"similarity {similarity:.4f} to one of a chain whose first is {survivor}"
            shard.reject(record, Rejected(f"near_duplicate_{method}", detail))
