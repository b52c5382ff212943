"""Estimates with their uncertainty: pure functions over numbers, no files and no engines.

    interval = wilson_interval(correct=812, n=1000)
    print(f"{interval.low:.3f} to {interval.high:.3f}")

Proportions get Wilson intervals, means get percentile bootstrap intervals. All
randomness comes from the `seed` argument.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Three quartiles of a sample, with its extremes and mean; what a box plot shows."""

    low: float
    q1: float
    median: float
    q3: float
    high: float
    mean: float


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22:209-212).

    Unlike the normal approximation it stays within [0, 1] and does not collapse at 0 of n or n of n.
    Without observations it is (0, 1).

    Raises:
        ValueError: unless 0 <= correct <= n and 0 < confidence < 1.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} is impossible")
    if n == 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(confidence)
    share = correct / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # at 0 and n the ends are 0 and 1 exactly; rounding must not say otherwise
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return Interval(low, high)


def normal_quantile(confidence: float) -> float:
    """Two-sided quantile of the standard normal: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is between 0 and 1, not {confidence}")
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)


def quartiles(values: Iterable[float]) -> Quartiles:
    """Quartiles with linear interpolation (type 7, the default of NumPy and R).

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(list(values), dtype=np.float64)
    if array.size == 0:
        raise ValueError("quartiles of nothing")
    low, q1, median, q3, high = np.quantile(array, (0, 0.25, 0.5, 0.75, 1))
    return Quartiles(float(low), float(q1), float(median), float(q3), float(high), float(array.mean()))


def bootstrap_mean(values: Sequence[float], seed: int, samples: int = 1000, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval of the mean of `values`.

    Raises:
        ValueError: there are no values.
    """
    (interval,) = bootstrap_means(np.asarray(values, dtype=np.float64)[:, None], seed, samples, confidence)
    return interval


def bootstrap_means(values: FloatArray, seed: int, samples: int = 1000, confidence: float = 0.95) -> list[Interval]:
    """Percentile bootstrap interval of the mean of every column; rows are drawn, and kept whole.

    Args:
        values: (rows, columns). Memory stays near 16 MB beside it: resamples are drawn in blocks.

    Raises:
        ValueError: there are no rows.
    """
    rows = len(values)
    if rows == 0:
        raise ValueError("the mean of nothing has no interval")
    generator = np.random.default_rng(seed)
    block = max(1, 1_000_000 // rows)
    means = []
    for start in range(0, samples, block):
        count = min(block, samples - start)
        drawn = generator.integers(0, rows, (count, rows)) + rows * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        means.append(weights @ values / rows)
    return [_percentile(column, confidence) for column in np.concatenate(means).T]


def mean_pairwise_cosine(vectors: FloatArray) -> float:
    """Mean cosine over all pairs of different rows, in O(rows): (|sum|^2 - rows) / (rows (rows - 1)).

    Args:
        vectors: (rows, dimensions), unit norm.

    Raises:
        ValueError: fewer than two rows.
    """
    rows = len(vectors)
    if rows < 2:
        raise ValueError("a pair needs two rows")
    total = np.ones(rows) @ vectors
    own = float(np.ones(rows) @ np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return (float(total @ total) - own) / float(rows * (rows - 1))


def _percentile(values: Sequence[float] | FloatArray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(values), (tail, 1 - tail))
    return Interval(float(low), float(high))


def nearest_cosine(vectors: FloatArray, queries: Sequence[int] | None = None, block: int = 1024) -> FloatArray:
    """Cosine of each query row to its nearest other row.

    Args:
        vectors: (rows, dimensions), unit norm.
        queries: row numbers to ask for; all by default.
        block: queries compared at a time; memory is block x rows.

    Returns:
        (queries,) float32. Costs queries x rows x dimensions.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(vectors) < 2:
        raise ValueError("a nearest neighbour needs two rows")
    numbers = np.arange(len(vectors)) if queries is None else np.asarray(queries, dtype=np.int64)
    nearest = np.empty(len(numbers), dtype=np.float32)
    for start in range(0, len(numbers), block):
        part = numbers[start : start + block]
        similarity = vectors[part] @ vectors.T
        similarity[np.arange(len(part)), part] = -2.0
        nearest[start : start + len(part)] = similarity.max(axis=1)
    return nearest


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Distinct word n-grams over all word n-grams (Li et al. 2016, arXiv 1510.03055).

    Falls as the collection grows: compare equal numbers of texts only. 0 without any n-gram. Words
    are what whitespace separates, lower-cased; n-grams do not cross texts.
    """
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.lower().split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else 0.0


def vendi_score(vectors: FloatArray) -> float:
    """Effective number of different rows: 1 if all are the same, their number if all are orthogonal.

    Friedman & Dieng 2023 (arXiv 2210.02410): the exponential of the entropy of the eigenvalues of K / n,
    K the matrix of cosines. They are those of X^T X / n, too, so the smaller of the two is decomposed. The
    authors' package (vendi-score 0.0.3) needs scikit-learn and parts of SciPy that go with SciPy 2; this gives
    the same numbers.

    Args:
        vectors: (rows, dimensions), unit norm.

    Raises:
        ValueError: there are no rows.
    """
    rows, dimensions = vectors.shape
    if rows == 0:
        raise ValueError("the Vendi score of nothing")
    matrix = np.asarray(vectors, dtype=np.float64)
    gram = matrix @ matrix.T if rows < dimensions else matrix.T @ matrix
    eigenvalues = np.linalg.eigvalsh(gram / rows)
    present = eigenvalues[eigenvalues > 1e-12]  # rounding leaves tiny and negative ones, which have no entropy
    return float(np.exp(-(present * np.log(present)).sum()))


def compression_ratio(texts: Iterable[str]) -> float:
    """Bytes of the texts over bytes of the same compressed: the more they repeat one another, the higher.

    zlib at its highest level, texts joined by line breaks, as in Shaib et al. 2024 (arXiv 2403.00553) with
    gzip. zlib looks back 32 KiB, so what it sees repeated is repeated nearby. 0 without text.
    """
    joined = "\n".join(texts).encode()
    return len(joined) / len(zlib.compress(joined, 9)) if joined else 0.0
