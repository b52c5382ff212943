"""Estimates with confidence intervals, and measures of diversity.

Pure functions.

    interval = wilson_interval(correct=812, n=1000)
    print(f"{interval.low:.3f} to {interval.high:.3f}")

Proportions get Wilson intervals and means get percentile bootstrap intervals. All randomness comes from the
`seed` argument. SciPy is imported where it is used, because loading it would slow down every command.
"""

from __future__ import annotations

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
    """Quartiles, extremes and mean of a sample: what a box plot shows."""

    low: float
    q1: float
    median: float
    q3: float
    high: float
    mean: float


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22:209-212).

    Unlike the normal approximation it stays within [0, 1] and does not collapse to a point at 0 of n or n of n.
    Without observations it is (0, 1).

    Raises:
        ValueError: unless 0 <= correct <= n and 0 < confidence < 1.
    """
    from scipy import stats

    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} is impossible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    if n == 0:
        return Interval(0.0, 1.0)
    found = stats.binomtest(correct, n).proportion_ci(confidence, method="wilson")
    # Rounding can put an end on the wrong side of the share, or of 0 and 1.
    return Interval(min(max(float(found.low), 0.0), correct / n), max(min(float(found.high), 1.0), correct / n))


def quartiles(values: Iterable[float]) -> Quartiles:
    """Computes quartiles with linear interpolation (type 7, NumPy's and R's default).

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(list(values), dtype=np.float64)
    if array.size == 0:
        raise ValueError("cannot compute quartiles: there are no values")
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
    """Percentile bootstrap interval of the mean of every column. Whole rows are drawn.

    Args:
        values: (rows, columns). Resamples are drawn in blocks, which take about 16 MB.

    Raises:
        ValueError: there are no rows.
    """
    rows = len(values)
    if rows == 0:
        raise ValueError("cannot compute an interval of the mean: there are no values")
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
    """Returns the mean cosine of all pairs of different rows.

    O(rows): (|sum|^2 - rows) / (rows (rows - 1)).

    Args:
        vectors: (rows, dimensions), unit norm.

    Raises:
        ValueError: there are fewer than two rows.
    """
    rows = len(vectors)
    if rows < 2:
        raise ValueError(f"a mean over pairs needs at least two rows, got {rows}")
    total = np.ones(rows) @ vectors
    diagonal = float(np.ones(rows) @ np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return (float(total @ total) - diagonal) / float(rows * (rows - 1))


def _percentile(values: Sequence[float] | FloatArray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(values), (tail, 1 - tail))
    return Interval(float(low), float(high))


def nearest_cosine(vectors: FloatArray, queries: Sequence[int] | None = None, block: int = 1024) -> FloatArray:
    """Returns the cosine of each query row to its nearest other row.

    Args:
        vectors: (rows, dimensions), unit norm.
        queries: row numbers; all rows by default.
        block: queries compared at a time; memory is block x rows.

    Returns:
        (queries,) float32. The cost is queries x rows x dimensions.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if len(vectors) < 2:
        raise ValueError(f"a nearest neighbor needs at least two rows, got {len(vectors)}")
    numbers = np.arange(len(vectors)) if queries is None else np.asarray(queries, dtype=np.int64)
    nearest = np.empty(len(numbers), dtype=np.float32)
    for start in range(0, len(numbers), block):
        part = numbers[start : start + block]
        similarity = vectors[part] @ vectors.T
        similarity[np.arange(len(part)), part] = -2.0
        nearest[start : start + len(part)] = similarity.max(axis=1)
    return nearest


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Returns the share of word n-grams that are distinct (distinct-n).

    See Li et al. 2016 (arXiv 1510.03055). The ratio falls as the collection grows, so compare equal numbers of texts
    only. It is 0
    without any n-gram. Words are lower-cased and separated by whitespace. N-grams do not cross texts.
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
    """Returns the effective number of different rows.

    It is 1 for equal rows and their number for orthogonal rows. Friedman & Dieng 2023 (arXiv 2210.02410): the
    exponential of the entropy of the eigenvalues of K / n, where K is the matrix of cosines. X^T X / n has the same
    nonzero eigenvalues, so the smaller of the two is decomposed. The authors' package (vendi-score 0.0.3) gives the
    same numbers but uses parts of SciPy that SciPy 2 removes.

    Args:
        vectors: (rows, dimensions), unit norm.

    Raises:
        ValueError: there are no rows.
    """
    rows, dimensions = vectors.shape
    if rows == 0:
        raise ValueError("cannot compute the Vendi score: there are no rows")
    matrix = np.asarray(vectors, dtype=np.float64)
    gram = matrix @ matrix.T if rows < dimensions else matrix.T @ matrix
    eigenvalues = np.linalg.eigvalsh(gram / rows)
    present = eigenvalues[eigenvalues > 1e-12]  # rounding leaves tiny and negative values
    return float(np.exp(-(present * np.log(present)).sum()))


def compression_ratio(texts: Iterable[str]) -> float:
    """Returns text size divided by compressed size.

    It is higher if the texts repeat one another. The texts are joined by line breaks and compressed by zlib at its
    highest level, as in Shaib et al. 2024 (arXiv 2403.00553) with gzip. zlib looks back 32 KiB, so it only finds
    repetition between nearby texts. 0 without text.
    """
    joined = "\n".join(texts).encode()
    return len(joined) / len(zlib.compress(joined, 9)) if joined else 0.0
