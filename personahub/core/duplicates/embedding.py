"""Finds near-duplicates by exact cosine similarity, in bounded memory.

    vectors = embed(texts, config)              # personahub.core.embedding.embed
    result = deduplicate(vectors, threshold=0.9)
    rows, cosines = pairs(vectors, threshold=0.9)
    cosines, rows = nearest(queries, corpus)

The paper (arXiv 2406.20094, section 2) drops a persona whose cosine with another exceeds 0.9, or 0.5 when fewer and
very diverse personas are enough. Rows are compared only with the kept rows, one block of products at a time. At a
low threshold there are too many similar pairs to store, but few rows are kept.

Most products of a large input are never computed in full: at a high threshold, `bounds` rules out nearly all pairs
with integers.

Products are float32. Whenever rounding could change a decision, the product is computed again in float64. So the
result depends only on the vectors and their order, not on how they are cut into blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personahub.core.duplicates.bounds import ROUNDING, Bounds, Columns
from personahub.core.duplicates.result import Deduplication, Priority, visiting_order
from personahub.core.errors import UserError

_BLOCK = 1024  # rows visited at once; 1024 x 16384 products of 4 bytes are 64 MB
_KEPT_BLOCK = 16_384
_BOUNDED_BLOCK = 4096  # rows visited at once if products are not stored
_BOUND_FROM_ROWS = 8192  # with fewer, the basis costs more than it saves


def deduplicate(
    vectors: np.ndarray, threshold: float = 0.9, priority: Priority | None = None, references: int = 0
) -> Deduplication:
    """Drops each row whose cosine with a row kept before it is above `threshold`.

    Args:
        vectors: float32 [rows, dimensions] of norm 1.
        threshold: in [-1, 1).
        priority: one number per row. The lowest is visited first. By default rows are visited as given.
        references: number of rows at the end that belong to an existing collection. They all stay, are visited
            before all others, are not compared with each other and are not in the result.

    Raises:
        UserError: the threshold is out of range, or the rows do not have norm 1.
    """
    check_threshold(threshold)
    check_unit(vectors)
    rows = len(vectors) - references
    order = visiting_order(rows, priority)
    bounds = make_bounds(vectors, threshold)
    survivor_of, similarity_of = np.full(rows, -1, np.int64), np.full(rows, threshold, np.float64)
    kept, kept_count = np.empty(len(vectors), np.int64), references
    kept[:references] = np.arange(rows, len(vectors))
    columns = Columns.empty(bounds, len(vectors)) if bounds is not None else None
    if columns is not None:
        columns.add(kept[:references])
    block = _BOUNDED_BLOCK if bounds is not None else _BLOCK
    for first in range(0, rows, block):
        visited = order[first : first + block]
        survivor, similarity = _cover_by_kept(
            vectors, visited, kept[:kept_count] if columns is None else columns, threshold
        )
        is_kept = _cover_within(vectors, bounds, visited, survivor, similarity, threshold)
        survivor_of[visited], similarity_of[visited] = survivor, similarity
        added = visited[is_kept]
        kept[kept_count : kept_count + len(added)] = added
        kept_count += len(added)
        if columns is not None:
            columns.add(added)
    return Deduplication.from_survivors(threshold, survivor_of, similarity_of)


def check_threshold(threshold: float) -> None:
    """Raises UserError if a threshold is not in [-1, 1)."""
    if not -1 <= threshold < 1:
        raise UserError(f"threshold {threshold} is out of range: a cosine threshold is at least -1 and below 1")


def sweep(vectors: np.ndarray, thresholds: Sequence[float], priority: Priority | None = None) -> list[Deduplication]:
    """Same as `deduplicate` at several thresholds. Lower ones cost less, because they keep fewer rows."""
    return [deduplicate(vectors, threshold, priority) for threshold in thresholds]


def pairs(vectors: np.ndarray, threshold: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Finds all pairs of rows with a cosine above `threshold`, if they fit in memory.

    Returns:
        Rows (int64 [pairs, 2], the lower first, ascending) and cosines (float64).
    """
    check_unit(vectors)
    rows = len(vectors)
    bounds = make_bounds(vectors, threshold)
    found = [np.empty((0, 2), np.int64)]
    if bounds is not None:
        columns = Columns.empty(bounds, rows)
        columns.add(np.arange(rows))
        for first in range(0, rows, _BOUNDED_BLOCK):
            block = np.arange(first, min(first + _BOUNDED_BLOCK, rows))
            near = bounds.near(block, columns, threshold, after=first)
            found.append(np.stack([near[0] + first, near[1]], axis=1))
    for first in range(0, rows if bounds is None else 0, _BLOCK):
        for start in range(first, rows, _KEPT_BLOCK):
            products = vectors[first : first + _BLOCK] @ vectors[start : start + _KEPT_BLOCK].T
            some = np.argwhere(products > threshold - ROUNDING) + np.array([first, start])
            found.append(some[some[:, 0] < some[:, 1]])
    rows_of = np.concatenate(found)
    cosine = cosines(vectors, rows_of[:, 0], rows_of[:, 1])
    above = np.flatnonzero(cosine > threshold)
    above = above[np.lexsort((rows_of[above, 1], rows_of[above, 0]))]
    return rows_of[above], cosine[above]


def nearest(queries: np.ndarray, corpus: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `k` most similar rows of `corpus` for each query.

    Args:
        queries: float32 [n, dimensions] of norm 1.
        corpus: float32 [m, dimensions] of norm 1.
        k: number of rows to find. If the corpus has fewer, all of them.

    Returns:
        Cosines (float32) and corpus rows (int64), both [n, min(k, m)], most similar first. Among equals the lower
        row is first.

    Raises:
        UserError: the rows do not have norm 1.
    """
    check_unit(queries)
    check_unit(corpus)
    k = min(k, len(corpus))
    best_cosines, found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for first in range(0, len(queries), _BLOCK):
        block = queries[first : first + _BLOCK]
        best, best_rows = np.empty((len(block), 0), np.float32), np.empty((len(block), 0), np.int64)
        for start in range(0, len(corpus), _KEPT_BLOCK):
            products = block @ corpus[start : start + _KEPT_BLOCK].T
            top = _top(products, k)
            best = np.hstack([best, np.take_along_axis(products, top, axis=1)])
            best_rows = np.hstack([best_rows, top + start])
            top = _top(best, k)
            best, best_rows = np.take_along_axis(best, top, axis=1), np.take_along_axis(best_rows, top, axis=1)
        best_cosines[first : first + len(block)], found[first : first + len(block)] = best, best_rows
    return best_cosines, found


def _top(products: np.ndarray, k: int) -> np.ndarray:
    """Columns of the `k` largest values of each row, largest first. Among equals the lower column is first."""
    if k == 1:
        return products.argmax(axis=1)[:, None]
    if k < products.shape[1]:
        floor = -np.partition(-products, k - 1, axis=1)[:, k - 1 : k]
        # `argsort` must see all values that tie with the k-th, to prefer the lower columns.
        products = np.where(products >= floor, products, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


def check_unit(vectors: np.ndarray) -> None:
    """Raises UserError unless the rows are float32 of norm 1."""
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise UserError(f"vectors must be a float32 matrix, not {vectors.dtype} of shape {vectors.shape}")
    off = np.flatnonzero(~(np.abs(np.einsum("ij,ij->i", vectors, vectors) - 1) < 1e-3))
    if len(off):
        raise UserError(
            f"vectors: row {off[0]} does not have norm 1. personahub.core.embedding.embed.embed returns unit vectors"
        )


def make_bounds(vectors: np.ndarray, threshold: float) -> Bounds | None:
    """Computes bounds. None if they would not save time for so few rows or so low a threshold."""
    bounds = Bounds.of(vectors) if len(vectors) >= _BOUND_FROM_ROWS else None
    return bounds if bounds is not None and bounds.saves_time(threshold) else None


def _cover_by_kept(
    vectors: np.ndarray, visited: np.ndarray, kept: np.ndarray | Columns, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the most similar `kept` row and its cosine for each visited row, or -1."""
    if isinstance(kept, Columns):
        row, position = kept.bounds.near(visited, kept, threshold)
        kept = kept.ids
    else:
        row, position = _near_kept(vectors, visited, kept, threshold)
    cosine = cosines(vectors, visited[row], kept[position])
    survivor, similarity = np.full(len(visited), -1, np.int64), np.full(len(visited), threshold, np.float64)
    above = np.flatnonzero(cosine > threshold)
    # The last entry of each row has the highest cosine, and among equals the earliest kept row.
    ranked = above[np.lexsort((-position[above], cosine[above], row[above]))]
    survivor[row[ranked]], similarity[row[ranked]] = kept[position[ranked]], cosine[ranked]
    return survivor, similarity


def _near_kept(
    vectors: np.ndarray, visited: np.ndarray, kept: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Computes all products. Returns positions of pairs that may be the most similar of a row."""
    best = np.full(len(visited), threshold, np.float32)
    pairs_row, pairs_kept = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(kept), _KEPT_BLOCK):
        products = vectors[visited] @ vectors[kept[start : start + _KEPT_BLOCK]].T
        highest = products.max(axis=1)
        near = np.flatnonzero(highest > best - ROUNDING)
        best = np.maximum(best, highest)
        rows, columns = np.nonzero(products[near] >= best[near, None] - ROUNDING)
        pairs_row.append(near[rows])
        pairs_kept.append(columns + start)
    return np.concatenate(pairs_row), np.concatenate(pairs_kept)


def _cover_within(
    vectors: np.ndarray,
    bounds: Bounds | None,
    visited: np.ndarray,
    survivor: np.ndarray,
    similarity: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Compares the visited rows with each other in order. Completes both arrays and returns which rows are kept."""
    if bounds is None:
        block = vectors[visited]
        later, earlier = np.nonzero(np.tril(block @ block.T > threshold - ROUNDING, -1))
    else:
        columns = Columns.empty(bounds, len(visited))
        columns.add(visited)
        earlier, later = bounds.near(visited, columns, threshold, after=0)
    cosine = cosines(vectors, visited[later], visited[earlier])
    similar = np.flatnonzero(cosine > threshold)
    similar = similar[np.lexsort((earlier[similar], -cosine[similar], later[similar]))]
    is_kept, seen = survivor < 0, np.zeros(len(visited), bool)
    # The most similar partner of a row comes first, among equals the earliest. All rows before it are decided.
    for row, other, value in zip(
        later[similar].tolist(), earlier[similar].tolist(), cosine[similar].tolist(), strict=True
    ):
        if is_kept[other] and not seen[row]:
            seen[row] = True
            if value > similarity[row]:
                survivor[row], similarity[row], is_kept[row] = visited[other], value, False
    return is_kept


def cosines(vectors: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes cosines of row pairs in float64, from at most 16 MB of rows at a time."""
    cosine = np.empty(len(a), np.float64)
    step = max(1, (1 << 21) // max(vectors.shape[1], 1))
    for first in range(0, len(a), step):
        part = slice(first, first + step)
        left, right = vectors[a[part]].astype(np.float64), vectors[b[part]].astype(np.float64)
        cosine[part] = np.einsum("ij,ij->i", left, right)
    return cosine
