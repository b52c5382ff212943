"""The vector searches of `embedding` and `clustered`, by partitions.

    decided = deduplicate(spill, blocks, threshold=0.9, functools.partial(embed, config=config), "clustered")

Texts are embedded one block at a time, and the vectors are mapped from files. With `clustered`, rows are dealt to
their eight nearest clusters, with the same centroids as in `clustered`. Each task has some of the clusters and reads
the vectors of one at a time. With `exact`, each task compares two blocks.

Every pair above the threshold is stored, so this is for high thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from personahub.core.duplicates import clustered, embedding
from personahub.core.duplicates.bounds import ROUNDING, Columns
from personahub.core.duplicates.partitioned.blocks import Blocks
from personahub.core.duplicates.partitioned.decide import Decided, decide
from personahub.core.duplicates.partitioned.spill import Spill, column
from personahub.core.duplicates.partitioned.word_join import write_pairs

Embed = Callable[[Sequence[str]], np.ndarray]

_TEXTS_AT_ONCE = 16_384
_PRODUCTS = 4096  # rows and columns multiplied at once


class MappedRows:
    """The concatenated rows of several `.npy` files. Supports slices and arrays of rows."""

    def __init__(self, files: Sequence[Path]) -> None:
        parts = [np.load(file, mmap_mode="r") for file in files]
        self._parts = [part for part in parts if len(part)]
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in self._parts])]).astype(np.int64)
        kind = (self._parts or parts)[0]
        self.dtype, self._shape = kind.dtype, kind.shape[1:]

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._shape)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        found = np.empty((len(rows), *self._shape), self.dtype)
        part_of = np.searchsorted(self._first, rows, side="right") - 1
        for part in np.unique(part_of).tolist():
            chosen = np.flatnonzero(part_of == part)
            found[chosen] = self._parts[part][rows[chosen] - self._first[part]]
        return found


def deduplicate(
    spill: Spill,
    blocks: Blocks,
    threshold: float,
    embed: Embed,
    search: Literal["exact", "clustered"] = "exact",
    alive: Path | None = None,
    clusters: int | None = None,
    collapse_chains: bool = False,
) -> Decided:
    """Same as `embedding.deduplicate` or `clustered.deduplicate`.

    Args:
        spill: holds intermediate files.
        blocks: the texts.
        threshold: in [-1, 1).
        embed: converts texts to vectors. Workers must be able to import it.
        search: all pairs, or those within clusters.
        alive: file of bools that says which ranks take part. None means all.
        clusters: number of clusters, by default one per thousand rows.
        collapse_chains: whether to keep only the first of all rows that are connected by similar pairs.

    Raises:
        UserError: the threshold is out of range, or a vector does not have norm 1.
    """
    embedding.check_threshold(threshold)
    spill.run("vectors", _vectors, range(len(blocks)), blocks, alive, embed)
    vectors, _ = mapped(spill, blocks)
    if search == "clustered" and len(vectors):
        count = spill.run("centroids", _centroids, [0], blocks, clusters)[0]
        spill.run("nearest", _nearest, range(spill.partitions), blocks)
        spill.run("within", _within, range(spill.partitions), blocks, threshold, count)
        spill.drop("members", "centroids")
    else:
        tasks = [
            (i, j) for i in range(len(blocks)) for j in range(i, len(blocks)) if blocks.first[j + 1] > blocks.references
        ]
        spill.run("across", _across, range(len(tasks)), blocks, threshold, tasks)
    return decide(spill, blocks, alive, ("pairs",), collapse_chains=collapse_chains)


def mapped(spill: Spill, blocks: Blocks) -> tuple[MappedRows, MappedRows]:
    """Maps all vectors, and their ranks. Those of references come last, as `clustered` expects."""
    order = sorted(range(len(blocks)), key=lambda block: blocks.first[block + 1] <= blocks.references)
    vectors, ranks = (
        MappedRows([spill.folder / output / f"{block:05d}.npy" for block in order]) for output in ("vectors", "ranks")
    )
    return vectors, ranks


def _vectors(spill: Spill, block: int, blocks: Blocks, alive: Path | None, embed: Embed) -> None:
    """Embeds one block."""
    ranks = blocks.alive(block, alive)
    texts = blocks.texts(block, ranks)
    parts = [embed(texts.slice(first, _TEXTS_AT_ONCE).to_pylist()) for first in range(0, len(texts), _TEXTS_AT_ONCE)]
    vectors = np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
    embedding.check_unit(vectors)
    spill.save("vectors", f"{block:05d}", vectors=vectors)
    spill.save("ranks", f"{block:05d}", ranks=ranks)


def _centroids(spill: Spill, _: int, blocks: Blocks, clusters: int | None) -> int:
    """Finds the clusters on a sample. Returns their number."""
    centroids = clustered.find_centroids(mapped(spill, blocks)[0], clusters)  # pyright: ignore[reportArgumentType]
    spill.save("centroids", "all", centroids=centroids)
    return len(centroids)


def _nearest(spill: Spill, task: int, blocks: Blocks) -> None:
    """Deals a range of rows to the partitions of their nearest clusters."""
    vectors, _ = mapped(spill, blocks)
    centroids = np.load(spill.folder / "centroids" / "all.npy")
    # Same blocks as in `clustered`, so that the products agree to the last bit.
    length = -(-len(vectors) // (spill.partitions * clustered.BLOCK)) * clustered.BLOCK
    first, last = task * length, min((task + 1) * length, len(vectors))
    parts = [
        clustered.nearest_clusters(vectors[start : min(start + clustered.BLOCK, last)], centroids)
        for start in range(first, last, clustered.BLOCK)
    ]
    nearest = np.concatenate([np.empty((0, min(clustered.NEAREST, len(centroids))), np.int32), *parts])
    cluster = nearest.ravel()
    own = np.zeros(nearest.shape, np.bool_)
    own[:, 0] = True
    columns = {
        "cluster": cluster,
        "row": np.repeat(np.arange(first, first + len(nearest)), nearest.shape[1]),
        "own": own.ravel(),
    }
    destination = cluster.astype(np.int64) * spill.partitions // len(centroids)
    spill.write("members", task, columns, destination, spill.partitions)


def _within(spill: Spill, partition: int, blocks: Blocks, threshold: float, count: int) -> None:
    """Compares the rows of each cluster of a partition."""
    vectors, ranks = mapped(spill, blocks)
    rows = spill.read("members", partition)
    cluster, row, own = (column(rows, name) for name in ("cluster", "row", "own"))
    order = np.lexsort((row, cluster))
    cluster, row, own = cluster[order], row[order], own[order]
    ends = np.searchsorted(cluster, np.arange(count + 1))
    found = [np.empty((0, 2), np.int64)]
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if first < last:
            members = row[first:last]
            found.append(clustered.similar_within(vectors[members], members, own[first:last], threshold))
    pairs = np.unique(np.concatenate(found), axis=0)
    _write(spill, partition, blocks, vectors, ranks, pairs, threshold)


def _write(
    spill: Spill, task: int, blocks: Blocks, vectors: MappedRows | np.ndarray, ranks: MappedRows | np.ndarray,
    pairs: np.ndarray, threshold: float,
) -> None:  # fmt: skip
    """Writes the pairs that are above the threshold."""
    cosine = embedding.cosines(vectors, pairs[:, 0], pairs[:, 1])  # pyright: ignore[reportArgumentType]
    above = cosine > threshold
    write_pairs(spill, "pairs", task, blocks, ranks[pairs[above, 0]], ranks[pairs[above, 1]], cosine[above])


def _across(spill: Spill, task: int, blocks: Blocks, threshold: float, tasks: list[tuple[int, int]]) -> None:
    """Compares the rows of two blocks, or those of one block."""
    names = [f"{block:05d}.npy" for block in sorted(set(tasks[task]))]
    parts = [part for name in names if len(part := np.load(spill.folder / "vectors" / name))]
    ranks = np.concatenate([np.load(spill.folder / "ranks" / name) for name in names])
    vectors = np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
    if len(names) == 1:
        pairs, _ = embedding.pairs(vectors, threshold)
    else:
        pairs = _similar_across(vectors, len(parts[0]), threshold) if len(parts) == 2 else np.empty((0, 2), np.int64)
    _write(spill, task, blocks, vectors, ranks, pairs, threshold)


def _similar_across(vectors: np.ndarray, second: int, threshold: float) -> np.ndarray:
    """Finds pairs (int64 [pairs, 2]) that may be similar. `second` separates the two rows of a pair."""
    bounds = embedding.make_bounds(vectors, threshold)
    if bounds is not None:
        columns = Columns.empty(bounds, len(vectors) - second)
        columns.add(np.arange(second, len(vectors)))
        row, position = bounds.near(np.arange(second), columns, threshold)
        return np.stack([row, position + second], axis=1)
    found = [np.empty((0, 2), np.int64)]
    for first in range(0, second, _PRODUCTS):
        for start in range(second, len(vectors), _PRODUCTS):
            products = vectors[first : min(first + _PRODUCTS, second)] @ vectors[start : start + _PRODUCTS].T
            found.append(np.argwhere(products > threshold - ROUNDING) + np.array([first, start]))
    return np.concatenate(found)
