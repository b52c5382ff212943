"""Finds near-duplicates by meaning in collections too large to compare every pair.

    result = deduplicate(vectors, threshold=0.9)

Rows are clustered by k-means. Each row is compared with all rows that have its cluster among their eight nearest.
Every drop is correct, because it is verified in float64. Pairs whose rows are in distant clusters are missed;
`recall` measures them on a sample. Comparing takes rows x 8 x the size of a cluster. Finding the nearest clusters
takes rows x clusters, which is the square of the rows times a small factor.

All pairs above the threshold are held in memory, 24 bytes each. Below about 0.8 use `embedding.deduplicate`, which
compares with the kept rows only.
"""

from __future__ import annotations

import numpy as np

from personahub.core.duplicates.embedding import check_threshold, check_unit, cosines
from personahub.core.duplicates.result import Deduplication, Priority, visiting_order

NEAREST = 8  # clusters to search for a row; with four, one pair in forty is missed at a million rows
_ROWS_PER_CLUSTER = 1000
_TRAINED_ON = 64  # rows per centroid
_ROUNDS = 5
BLOCK = 8192
_ROUNDING = 1e-5  # larger than the error of a float32 product of two unit vectors


def deduplicate(
    vectors: np.ndarray,
    threshold: float = 0.9,
    priority: Priority | None = None,
    clusters: int | None = None,
    seed: int = 0,
    references: int = 0,
) -> Deduplication:
    """Drops each row whose cosine with a row kept before it is above `threshold`.

    Compares near clusters only.

    Args:
        vectors: float32 [rows, dimensions] of norm 1. They may be mapped from a file.
        threshold: in [-1, 1).
        priority: one number per row. The lowest is visited first. By default rows are visited as given.
        clusters: number of clusters, by default one per thousand rows.
        seed: determines the rows that k-means starts from.
        references: number of rows at the end that all stay and are visited before all others.

    Raises:
        UserError: the threshold is out of range, or the rows do not have norm 1.
    """
    check_threshold(threshold)
    check_unit(vectors)
    rows = len(vectors) - references
    order = np.concatenate([np.arange(rows, len(vectors)), visiting_order(rows, priority)])
    found, cosine = pairs(vectors, threshold, clusters, seed)
    new = found[:, 0] < rows  # the lower row of the pair
    survivor, similarity = _keep_first(order, found[new], cosine[new])
    return Deduplication.from_survivors(threshold, survivor[:rows], similarity[:rows])


def pairs(
    vectors: np.ndarray, threshold: float, clusters: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Finds pairs above `threshold`. Rows are int64 [pairs, 2], the lower first, ascending; cosines are float64."""
    rows = len(vectors)
    if not rows:
        return np.empty((0, 2), np.int64), np.empty(0)
    centroids = find_centroids(vectors, clusters, seed)
    nearest = nearest_clusters(vectors, centroids)
    row = np.repeat(np.arange(rows), nearest.shape[1])
    by_cluster = np.argsort(nearest.ravel(), kind="stable")
    members, ends = row[by_cluster], np.searchsorted(nearest.ravel()[by_cluster], np.arange(len(centroids) + 1))
    found = [np.empty((0, 2), np.int64)]
    for cluster in range(len(centroids)):
        chosen = members[ends[cluster] : ends[cluster + 1]]
        found.append(similar_within(vectors[chosen], chosen, nearest[chosen, 0] == cluster, threshold))
    unique = np.unique(np.concatenate(found), axis=0)
    cosine = cosines(vectors, unique[:, 0], unique[:, 1])
    return unique[cosine > threshold], cosine[cosine > threshold]


def similar_within(vectors: np.ndarray, members: np.ndarray, own: np.ndarray, threshold: float) -> np.ndarray:
    """Finds pairs of members of a cluster that may be similar.

    They are int64 [pairs, 2], the lower first.

    Args:
        vectors: vectors of the members.
        members: rows of the members.
        own: whether this cluster is the member's nearest. This must hold for at least one row of a pair.
        threshold: threshold of the cosine.
    """
    found, ours = [np.empty((0, 2), np.int64)], np.flatnonzero(own)
    for first in range(0, len(ours), BLOCK):
        part = ours[first : first + BLOCK]
        left, right = np.nonzero(vectors[part] @ vectors.T > threshold - _ROUNDING)
        some = np.stack([members[part[left]], members[right]], axis=1)
        found.append(np.sort(some[some[:, 0] != some[:, 1]], axis=1))
    return np.concatenate(found)


def recall(
    vectors: np.ndarray, threshold: float, result: Deduplication, sample: int = 200, seed: int = 0
) -> tuple[float, int]:
    """Estimates the recall by comparing a sample of the kept rows with all kept rows.

    Returns:
        The dropped rows divided by the estimated number of rows that an exact method would drop, and the number of
        sampled kept rows that are similar to another kept row.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(result.kept, min(sample, len(result.kept)), replace=False)
    missed = 0
    for first in range(0, len(result.kept), BLOCK):
        part = result.kept[first : first + BLOCK]
        similar = (vectors[chosen] @ vectors[part].T > threshold) & (chosen[:, None] > part)
        missed += int(similar.any(axis=1).sum())
    expected = missed / max(len(chosen), 1) * len(result.kept)
    return len(result.dropped) / max(len(result.dropped) + expected, 1), missed


def find_centroids(vectors: np.ndarray, clusters: int | None = None, seed: int = 0) -> np.ndarray:
    """Runs spherical k-means on a sample. The default is one centroid per thousand rows."""
    rng = np.random.default_rng(seed)
    count = min(clusters or -(-len(vectors) // _ROWS_PER_CLUSTER), len(vectors))
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), _TRAINED_ON * count), replace=False))
    trained = np.asarray(vectors[sample])
    centroids = trained[rng.choice(len(trained), count, replace=False)].copy()
    for _ in range(_ROUNDS):
        cluster = nearest_clusters(trained, centroids, 1)[:, 0]
        order = np.argsort(cluster, kind="stable")
        present, first = np.unique(cluster[order], return_index=True)
        sums = np.add.reduceat(trained[order], first, axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids[present] = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centroids[present])
    return centroids


def nearest_clusters(vectors: np.ndarray, centroids: np.ndarray, count: int = NEAREST) -> np.ndarray:
    """Finds the nearest clusters of each row (int32), nearest first."""
    count = min(count, len(centroids))
    found = np.empty((len(vectors), count), np.int32)
    for first in range(0, len(vectors), BLOCK):
        products = vectors[first : first + BLOCK] @ centroids.T
        top = np.argpartition(-products, count - 1, axis=1)[:, :count]
        ranked = np.argsort(-np.take_along_axis(products, top, axis=1), axis=1, kind="stable")
        found[first : first + len(products)] = np.take_along_axis(top, ranked, axis=1)
    return found


def _keep_first(order: np.ndarray, found: np.ndarray, cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Visits rows in `order`. A survivor is the most similar row kept before; among equals it is the first."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    swap = rank[found[:, 0]] > rank[found[:, 1]]
    earlier, later = np.where(swap, found[:, 1], found[:, 0]), np.where(swap, found[:, 0], found[:, 1])
    survivor, similarity = np.full(len(order), -1, np.int64), np.full(len(order), -1.0)
    # Ordered by the later row: when a row is reached, all rows before it are decided.
    for pair in np.lexsort((rank[earlier], -cosine, rank[later])).tolist():
        row, other = later[pair], earlier[pair]
        if survivor[row] < 0 and survivor[other] < 0:
            survivor[row], similarity[row] = other, cosine[pair]
    return survivor, similarity
