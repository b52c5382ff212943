"""Compares two models on the same problems.

Paired bootstrap, McNemar's exact test, Holm's correction. paired_difference(a, b, seed=0)       # mean of b - a, with
its interval mcnemar(only_a=31, only_b=52)         # two-sided p holm([0.012, 0.04, 0.3])              # adjusted for
three comparisons
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.stats.measures import Interval, bootstrap_means


def paired_difference(
    a: Sequence[float] | NDArray[np.floating],
    b: Sequence[float] | NDArray[np.floating],
    seed: int,
    samples: int = 10_000,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Returns the mean of b - a over problems, with its percentile bootstrap interval.

    Pairs are drawn together.

    Args:
        a, b: score of each problem with one of the models, in the same order of problems.

    Raises:
        ValueError: the lengths differ, or there are no problems.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"paired scores must be of the same problems: the shapes {first.shape} and {second.shape} do not match"
        )
    difference = second - first
    (interval,) = bootstrap_means(difference[:, None], seed, samples, confidence)
    return float(difference.mean()), interval


def mcnemar(only_a: int, only_b: int) -> float:
    """Returns the two-sided p value of McNemar's exact test for counts of discordant problems.

    The binomial form (McNemar 1947; Fagerland et al. 2013, https://doi.org/10.1186/1471-2288-13-91): twice the
    smaller tail of Binomial(only_a + only_b, 1/2), at most 1.

    Raises:
        ValueError: a count is negative.
    """
    from scipy import stats

    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts of discordant problems must not be negative, got {only_a} and {only_b}")
    return min(1.0, 2 * float(stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values by Holm's (1979) step-down method.

    It bounds the chance of any false positive.

    Returns:
        Adjusted p values in the given order.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
