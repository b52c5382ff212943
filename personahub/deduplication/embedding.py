"""The method `embedding`: cosine similarity of sentence embeddings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from personahub.core.duplicates import clustered, embedding
from personahub.core.duplicates.partitioned import vector_join
from personahub.core.duplicates.partitioned.blocks import Blocks
from personahub.core.duplicates.partitioned.decide import Decided
from personahub.core.duplicates.partitioned.spill import Spill
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.word_sets import Texts, pieces
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.embedding.embed import embed
from personahub.core.files import replacing
from personahub.core.forecast import Forecast
from personahub.deduplication.method import Comparison, Method, TextColumn

ROWS_PER_FILE = 16_384
_EMBEDDING_CPU_SECONDS = 1 / 309  # per text, with the packaged MiniLM
_EMBEDDING_MEASURED_BY = "python -m benchmarks.embedding_dedup --only-rates"
# Search for near vectors at 0.9: CPU seconds per row and per row squared, fitted to runs of 100,000 and 1,000,000
# rows, and bytes per row in addition to the vectors, which are mapped from a file.
_SEARCH = {"exact": (6e-6, 2.6e-10, 367), "clustered": (1.31e-4, 9.1e-11, 1045)}
_SEARCH_MEASURED_BY = "python -m benchmarks.embedding_dedup --rows 1000000"
# By partitions, per row: bytes on disk of 384 numbers (`benchmarks.dedup_executors --rows 100000 --vectors`), and
# bytes of memory of the one task that finds the centroids of clusters from 64 vectors for each thousand rows.
_VECTOR_BYTES, _CENTROID_BYTES = 1_710, 98


class Embedding(Method):
    """Cosine of the embeddings, above `threshold`."""

    can_partition: ClassVar[bool] = True

    method: Literal["embedding"]  # pyright: ignore[reportIncompatibleVariableOverride]
    threshold: float = Field(default=0.9, ge=-1, lt=1, description="Minimum similarity of two near-duplicates.")
    embedder: EmbedderConfig = EmbedderConfig()
    search: Literal["exact", "clustered"] = Field(
        default="exact",
        description="`clustered` compares only within the eight nearest clusters, for more than a few million rows. "
        "The summary reports its recall.",
    )

    def accepts(self, threshold: float) -> bool:
        return -1 <= threshold < 1

    def prepare(
        self,
        texts: Texts,
        against: Texts | None,
        folder: Path,
        on_progress: Callable[[int], object] | None = None,
    ) -> Comparison:
        existing = 0

        def all_pieces() -> Iterator[pa.Array]:
            nonlocal existing
            yield from pieces(texts)
            for piece in pieces(against) if against is not None else ():
                existing += len(piece)
                yield piece

        vectors = embed_to_file(_batches(all_pieces()), self.embedder, folder, on_progress)
        return VectorComparison(self, vectors, existing)

    def deduplicate_partitions(
        self, spill: Spill, blocks: Blocks, alive: Path | None, collapse_chains: bool
    ) -> Decided:
        make = functools.partial(embed, config=self.embedder)
        return vector_join.deduplicate(
            spill, blocks, self.threshold, make, self.search, alive, collapse_chains=collapse_chains
        )

    def compare_partitions(self, decided: Decided, texts: TextColumn) -> Comparison:  # noqa: ARG002
        return VectorComparison(self, vector_join.mapped(decided.spill, decided.blocks)[0], 0)

    def forecast(self, rows: int, partitioned: bool) -> Forecast:
        on_this_cpu = self.embedder.kind == "minilm" and self.embedder.device in ("auto", "cpu")
        embedding_s = _EMBEDDING_CPU_SECONDS * rows if on_this_cpu else 0.0
        per_row, per_square, memory_per_row = _SEARCH[self.search]
        searching_s = rows * per_row + rows**2 * per_square
        notes = [f"embeds up to {rows:,} texts with {describe(self.embedder)}"]
        if embedding_s:
            notes.append(f"{embedding_s / 3600:,.2f} of the CPU-hours embed, without a GPU ({_EMBEDDING_MEASURED_BY})")
        notes.append(f"{searching_s / 3600:,.2f} of the CPU-hours search for near vectors ({_SEARCH_MEASURED_BY})")
        if partitioned:
            memory_per_row = _CENTROID_BYTES if self.search == "clustered" else 0
        return Forecast(
            rows_out=rows,
            cpu_seconds=embedding_s + searching_s,
            memory_bytes=rows * memory_per_row,
            disk_bytes=rows * _VECTOR_BYTES if partitioned else 0,
            notes=tuple(notes),
        )


@dataclass(frozen=True)
class VectorComparison:
    """Unit vectors of all rows, mapped from files. The last `existing` of them belong to an existing collection."""

    method: Embedding
    vectors: Any
    existing: int

    def deduplicate(self, priority: Priority | None = None) -> Deduplication:
        search = clustered.deduplicate if self.method.search == "clustered" else embedding.deduplicate
        return search(self.vectors, self.method.threshold, priority, references=self.existing)

    def sweep(self, rows: np.ndarray, thresholds: Sequence[float]) -> list[Deduplication]:
        return embedding.sweep(self.vectors[rows], thresholds)

    def summary(self, result: Callable[[], Deduplication], seed: int) -> dict[str, Any]:
        summary: dict[str, Any] = {"embedder": describe(self.method.embedder)}
        if self.method.search == "clustered":
            summary["recall"], _ = clustered.recall(self.vectors, self.method.threshold, result(), seed=seed)
        return summary


def embed_to_file(
    batches: Iterable[list[str]], config: EmbedderConfig, folder: Path, on_progress: Callable[[int], object] | None
) -> np.ndarray:
    """Embeds batches of texts into one file of `folder`, and maps it.

    Each batch is saved as soon as it is embedded, so an interrupted run does not embed it again.
    """
    joined, parts = folder / "all.npy", []
    is_done = joined.exists()
    for number, batch in enumerate(batches):
        parts.append(folder / f"{number:05d}.npy")
        if not is_done and not parts[-1].exists():
            vectors = embed(batch, config, on_progress)
            with replacing(parts[-1]) as temporary, temporary.open("wb") as stream:
                np.save(stream, vectors)
        elif on_progress is not None:
            on_progress(len(batch))
    if not parts:
        return np.empty((0, 1), np.float32)
    if not is_done:
        _join(parts, joined)
    return np.load(joined, mmap_mode="r")


def _batches(pieces: Iterable[pa.Array]) -> Iterator[list[str]]:
    """Returns the texts in batches of one size, whichever way they were cut into pieces."""
    waiting: list[str] = []
    for piece in pieces:
        texts = piece.to_pylist()
        waiting += [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts]
        while len(waiting) >= ROWS_PER_FILE:
            yield waiting[:ROWS_PER_FILE]
            del waiting[:ROWS_PER_FILE]
    if waiting:
        yield waiting


def _join(parts: Sequence[Path], joined: Path) -> None:
    """Moves the rows of all parts into one file."""
    shapes = [np.load(part, mmap_mode="r").shape for part in parts]
    rows = sum(shape[0] for shape in shapes)
    with replacing(joined) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.float32, (rows, shapes[0][1]))
        first = 0
        for part, shape in zip(parts, shapes, strict=True):
            array[first : first + shape[0]] = np.load(part)
            first += shape[0]
        array.flush()
    for part in parts:
        part.unlink()
