"""Comparing two models on the same problems: paired bootstrap, exact McNemar, Holm's correction.

paired_difference(a, b, seed=0)       # mean of b - a, with its interval
mcnemar(only_a=31, only_b=52)         # two-sided p
holm([0.012, 0.04, 0.3])              # adjusted for three comparisons
"""

from __future__ import annotations

import math
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
    """Mean of b - a over problems and its percentile bootstrap interval; problems are drawn, pairs kept together.

    Args:
        a, b: score of each problem under either model, in the same order of problems.

    Raises:
        ValueError: the lengths differ, or there are no problems.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired scores are of the same problems: {first.shape} and {second.shape} do not match")
    difference = second - first
    (interval,) = bootstrap_means(difference[:, None], seed, samples, confidence)
    return float(difference.mean()), interval


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of McNemar's exact test: that `only_a` of the discordant problems fall to one side by chance.

    The binomial form (McNemar 1947; Fagerland et al. 2013, https://doi.org/10.1186/1471-2288-13-91): twice
    the smaller tail of Binomial(only_a + only_b, 1/2), at most 1. Summed in integers, so it is exact at any size.

    Raises:
        ValueError: a count is negative.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError("counts of discordant problems are not negative")
    n = only_a + only_b
    term = tail = 1
    for i in range(min(only_a, only_b)):
        term = term * (n - i) // (i + 1)
        tail += term
    return 1.0 if 2 * tail >= 1 << n else _ratio(2 * tail, n)


def _ratio(numerator: int, power: int) -> float:
    """numerator / 2**power, where either may exceed a float."""
    bits = max(numerator.bit_length() - 64, 0)
    return math.ldexp(numerator >> bits, bits - power)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment: the chance of any false alarm among all comparisons stays below the level.

    Returns:
        Adjusted p values in the order given.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
