"""Estimates pass@k and maj@k from n samples per problem, for any k up to n.

    pass_at_k(correct=[0, 3, 8], n=8, k=4)        # one value per problem
    majority_at_k(clusters, correct, k=4, seed=0) # one value for one problem

Both are means over all ways to draw k of the n samples, so they use every sample and do not depend
on the order of the samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_SUBSETS = (
    1000  # above this, subsets are drawn at random: the standard error of one problem's value is below 0.016
)


def pass_at_k(correct: Sequence[int] | NDArray[np.integer], n: int, k: int) -> NDArray[np.float64]:
    """Estimates the probability that k samples contain a correct one.

    See Chen et al. 2021 (arXiv 2107.03374). The estimate is 1 - C(n - c, k) / C(n, k), computed as a product of
    ratios that neither overflow nor
    cancel.

    Args:
        correct: number of correct samples for each problem.
        n: number of samples per problem.
        k: 1 to n.

    Returns:
        One value per problem.

    Raises:
        ValueError: k or a count is out of range.
    """
    counts = np.asarray(correct, dtype=np.int64)
    if not 1 <= k <= n or (counts.size and not 0 <= counts.min() <= counts.max() <= n):
        raise ValueError(f"pass@{k} of {n} samples needs 1 <= k <= n and counts of 0 to n")
    values = np.ones(n + 1)
    for c in range(n - k + 1):  # with more correct samples, any k contain one
        values[c] = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
    return values[counts]


def majority_at_k(clusters: Sequence[int], correct: Sequence[bool], k: int, seed: int = 0) -> float:
    """Estimates the probability that the majority answer of k samples is correct.

    Equivalent answers form a cluster and vote together. Samples without an answer (-1) do not vote; with
    no votes at all, the problem is not solved. Tied clusters share the problem equally. If the checker
    disagrees about the members of a cluster, the cluster counts as the mean of its members. maj@1
    therefore equals pass@1 over the samples with an answer.

    Args:
        clusters: cluster of each sample; -1 without an answer.
        correct: whether each sample is correct.
        k: 1 to the number of samples.
        seed: for drawing subsets, if there are more than a thousand.

    Raises:
        ValueError: k is out of range, or the lengths differ.
    """
    n = len(clusters)
    if not 1 <= k <= n or len(correct) != n:
        raise ValueError(f"maj@{k} needs as many verdicts as clusters, and at least {k}; got {len(correct)} and {n}")
    labels, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    votes = np.equal.outer(numbers, np.arange(len(labels))).astype(np.float64)[:, labels >= 0]  # samples x clusters
    if votes.shape[1] == 0:
        return 0.0
    drawn = _subsets(n, k, seed)
    counts = drawn @ votes
    right = drawn @ (votes * np.asarray(correct, dtype=np.float64)[:, None])
    most = counts.max(axis=1, keepdims=True)
    winners = (counts == most) & (counts > 0)
    shares = np.divide(right, counts, out=np.zeros_like(right), where=winners).sum(axis=1)
    return float((shares / np.maximum(winners.sum(axis=1), 1)).mean())


def _subsets(n: int, k: int, seed: int) -> NDArray[np.float64]:
    """Returns indicator rows [subsets, n] of subsets of size k. Above a limit, a thousand random ones are used."""
    if math.comb(n, k) <= _MOST_SUBSETS:
        chosen = np.array(list(itertools.combinations(range(n), k)))
    else:
        chosen = np.random.default_rng(seed).random((_MOST_SUBSETS, n)).argpartition(k - 1, axis=1)[:, :k]
    rows = np.zeros((len(chosen), n))
    np.put_along_axis(rows, chosen, 1.0, axis=1)
    return rows


def reported_ks(n: int) -> list[int]:
    """Returns the k to report for n samples: powers of two, and n."""
    return sorted({*(2**i for i in range(n.bit_length()) if 2**i <= n), n})
