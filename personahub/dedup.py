"""Dedup: near-duplicate personas are dropped, by surface form and then by meaning.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}
      config:
        methods:
          - {method: surface, threshold: 0.9}
          - {method: embedding, threshold: 0.9, embedder: {kind: minilm}}

The thresholds are the paper's (arXiv 2406.20094, section 2); where it approximates with MinHash,
`surface` is exact. `minhash` is there for comparison and for long texts. Each method reads what
the one before kept and looks at all of it at once, so its memory grows with the input: about 500
bytes a persona for `surface`, and 4 bytes for each dimension of its vector for `embedding`. Which of two near-duplicates survives is decided by
`keep`, and depends neither on shards nor on order unless it says `first`.

A dropped persona is in `rejected/` under `near_duplicate_METHOD`; its detail names the similarity
and the survivor, which a later method may have dropped in turn.
The summary holds a sweep over thresholds and the most doubtful drops of each method: read these
before you trust a threshold. `field` makes the stage serve other records, such as problems.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.artifact import Artifact
from personahub.core.config import FrozenModel, StageConfig, suggest
from personahub.core.duplicates import embedding, minhash, surface
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding import EmbedderConfig, describe, embed
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ("personas",)

_VECTORS = "vectors"  # folder of the embeddings made so far, while the stage is unfinished
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


Method = Annotated[Surface | MinHash | Embedding, Field(discriminator="method")]


class Config(StageConfig):
    """Which methods, in which order, and which of two near-duplicates stays."""

    methods: tuple[Method, ...] = (Surface(method="surface"), Embedding(method="embedding"))
    field: str = Field(default="persona", description="The text that is compared.")
    keep: Literal["id", "first", "longest"] = Field(
        default="id",
        description="The survivor has the smallest id (a content hash, so no text is favoured), comes first in the "
        "input, or has the longest text (then the smallest id).",
    )
    sweep: tuple[float, ...] = Field(
        default=(0.5, 0.6, 0.7, 0.8, 0.9, 0.95), description="Thresholds of the sweep in the summary; empty: none."
    )
    sweep_rows: int = Field(default=20_000, gt=0, description="The sweep reads a seeded sample of this size.")
    examples: int = Field(default=5, ge=0, description="Most doubtful drops of each method to show in the summary.")


def run(stage: Stage[Config]) -> None:
    """Decide over all shards, then write each one."""
    source, config = stage.input("personas"), stage.config
    table = _read(source, config.field)
    rows = _visiting_order(table, config.keep)
    decisions = _Decisions(len(table))
    reports = []
    for number, method in enumerate(config.methods):
        texts = table["text"].take(rows)
        vectors = _embed(stage, method, number, texts) if isinstance(method, Embedding) else None
        result = _deduplicate(method, texts, vectors)
        decisions.record(number, rows, result)
        reports.append(_report(stage, method, table.take(rows), vectors, result))
        rows = rows[result.kept]
    stage.report(methods=reports, duplicate_ratio=(len(table) - len(rows)) / max(len(table), 1))
    _write(stage, source, table["id"], decisions)
    shutil.rmtree(stage.path / _VECTORS, ignore_errors=True)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """As many rows as come in: how many are near-duplicates is not known beforehand."""
    rows = rows_in["personas"]
    embedders = [describe(method.embedder) for method in config.methods if isinstance(method, Embedding)]
    return Forecast(rows_out=rows, notes=tuple(f"embeds up to {rows:,} texts with {name}" for name in embedders))


class _Decisions:
    """For each input row the method that dropped it (-1: none), the survivor's row and the similarity."""

    def __init__(self, rows: int) -> None:
        self.method = np.full(rows, -1, np.int8)
        self.survivor = np.full(rows, -1, np.int64)
        self.similarity = np.zeros(rows)

    def record(self, method: int, rows: np.ndarray, result: Deduplication) -> None:
        """Take over a result whose indices count within `rows`."""
        dropped = rows[result.dropped]
        self.method[dropped] = method
        self.survivor[dropped] = rows[result.survivors]
        self.similarity[dropped] = result.similarities


def _read(source: Artifact, field: str) -> pa.Table:
    """Columns `id` and `text` of all records."""
    columns = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").names if source.shard_names else [field]
    if field not in columns:
        raise UserError(f"{source.path}: its records have no field {field!r}. {suggest(field, columns)}")
    if not source.shard_names:
        return pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.large_string())})
    table = source.table(sorted({"id", field}))
    if table[field].null_count:
        broken = table.filter(table[field].is_null())["id"][0].as_py()
        raise UserError(f"{source.path}: the record {broken} has no {field}")
    return pa.table({"id": table["id"], "text": table[field].cast(pa.large_string())})


def _visiting_order(table: pa.Table, keep: str) -> np.ndarray:
    """Rows in the order in which they are considered: the first of two near-duplicates survives."""
    if keep == "first":
        return np.arange(len(table))
    lengths = pc.call_function("utf8_length", [table["text"]])
    keys = pa.table({"id": table["id"], "length": lengths, "row": np.arange(len(table))})
    by_length = [("length", "descending")] if keep == "longest" else []
    return keys.sort_by([*by_length, ("id", "ascending"), ("row", "ascending")])["row"].to_numpy()


def _embed(stage: Stage[Config], method: Embedding, number: int, texts: pa.ChunkedArray) -> np.ndarray:
    """Embed in blocks that are kept on disk, so that an interrupted run does not embed again.

    The blocks follow the visiting order, so vectors do not depend on how the input is sharded.
    """
    folder = stage.path / _VECTORS
    folder.mkdir(exist_ok=True)
    blocks = [np.empty((0, 1), np.float32)] if not len(texts) else []
    with stage.progress(len(texts), "texts embedded") as progress:
        for first in range(0, len(texts), _ROWS_PER_FILE):
            file = folder / f"{number}-{first // _ROWS_PER_FILE:05d}.npy"
            if file.exists():
                blocks.append(np.load(file))
                progress.update(len(blocks[-1]))
            else:
                part = texts.slice(first, _ROWS_PER_FILE).to_pylist()
                blocks.append(embed(part, method.embedder, progress.update))
                _save(file, blocks[-1])
    return np.concatenate(blocks)


def _save(file: Path, block: np.ndarray) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("wb") as stream:
        np.save(stream, block)
    temporary.replace(file)


def _deduplicate(method: Method, texts: pa.ChunkedArray, vectors: np.ndarray | None) -> Deduplication:
    if vectors is not None:
        return embedding.deduplicate(vectors, method.threshold)
    return _sweep_texts(method, texts, [method.threshold])[0]


def _sweep_texts(method: Method, texts: pa.ChunkedArray, thresholds: Sequence[float]) -> list[Deduplication]:
    if isinstance(method, MinHash):
        return minhash.sweep(texts, thresholds, ngram=method.ngram, permutations=method.permutations)
    return surface.sweep(texts, thresholds)


def _report(
    stage: Stage[Config],
    method: Method,
    table: pa.Table,
    vectors: np.ndarray | None,
    result: Deduplication,
) -> dict[str, Any]:
    """What the summary says of one method; `table` holds the rows it read, in visiting order."""
    config = stage.config
    ids, texts = table["id"], table["text"]
    report: dict[str, Any] = {
        "method": method.method,
        "threshold": method.threshold,
        "rows": result.rows,
        "kept": len(result.kept),
        "dropped": len(result.dropped),
        "duplicate_ratio": result.duplicate_ratio,
    }
    if isinstance(method, Embedding):
        report["embedder"] = describe(method.embedder)
    sampled = np.arange(result.rows)
    if result.rows > config.sweep_rows:
        sampled = np.sort(np.random.default_rng(config.seed).choice(result.rows, config.sweep_rows, replace=False))
    if vectors is None:
        swept = _sweep_texts(method, texts.take(sampled), [t for t in config.sweep if 0 < t <= 1])
    else:
        swept = embedding.sweep(vectors[sampled], [t for t in config.sweep if -1 <= t < 1])
    report["sweep"] = {
        "rows": len(sampled),
        "kept": [{"threshold": s.threshold, "kept": len(s.kept), "duplicate_ratio": s.duplicate_ratio} for s in swept],
    }
    report["most_doubtful"] = [
        {
            "similarity": round(similarity, 4),
            "id": ids[row].as_py(),
            "dropped": texts[row].as_py(),
            "survivor": texts[survivor].as_py(),
        }
        for row, survivor, similarity in result.borderline(config.examples)
    ]
    stage.log({f"{method.method}/{name}": report[name] for name in ("rows", "kept", "dropped", "duplicate_ratio")})
    return report


def _write(stage: Stage[Config], source: Artifact, ids: pa.ChunkedArray, decisions: _Decisions) -> None:
    """One output shard for each input shard; those that exist are left alone."""
    pending = set(stage.pending(source))
    row = 0
    with stage.progress(source.num_rows, "rows written") as progress:
        for name in source.shard_names:
            if name in pending:
                schema = pq.read_schema(source.path / f"{name}.parquet").remove_metadata()
                with stage.writer(name, schema) as writer:
                    for offset, record in enumerate(source.read_shard(name)):
                        writer.rows_in += 1
                        rejected = _rejected(stage.config, ids, decisions, row + offset)
                        if rejected is None:
                            writer.write(record)
                        else:
                            writer.reject(record, rejected)
            row += source.manifest.shards[name]
            progress.update(source.manifest.shards[name])


def _rejected(config: Config, ids: pa.ChunkedArray, decisions: _Decisions, row: int) -> Rejected | None:
    number = int(decisions.method[row])
    if number < 0:
        return None
    survivor = ids[int(decisions.survivor[row])].as_py()
    return Rejected(
        f"near_duplicate_{config.methods[number].method}", f"similarity {decisions.similarity[row]:.4f} to {survivor}"
    )
