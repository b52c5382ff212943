"""Methods of the dedup stage, its config, and what all ways of running it share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from personahub.core.artifact import Artifact
from personahub.core.config import EXECUTION, FrozenModel, StageConfig
from personahub.core.duplicates import embedding, minhash, surface
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.errors import Rejected
from personahub.core.stage import Shard, Stage

DECISIONS = "decisions"  # folder of what was decided on the rows of each shard, while shards are written


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


def _sweep_texts(
    method: Method, texts: pa.ChunkedArray, thresholds: Sequence[float], against: pa.ChunkedArray | None = None
) -> list[Deduplication]:
    if isinstance(method, MinHash):
        return minhash.sweep(texts, thresholds, against=against, ngram=method.ngram, permutations=method.permutations)
    return surface.sweep(texts, thresholds, against=against)


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
