"""Scores on the same problems under several seeds: estimates and tests that take both for samples.

    estimate = crossed_mean(scores)                   # (seeds, problems): accuracy of one arm
    difference = crossed_mean(scores_b - scores_a)    # the same seeds and problems: two arms, paired

Problems are a sample of those that one might ask, and seeds a sample of the data sets and trainings that one
might make. A test that takes seeds for fixed mistakes a lucky training for an effect of the arm; one that
averages over problems knows nothing of how few they are. Here both vary, in the two-way layout of Clark
(1973, J. Verbal Learning 12:335-359): with mean squares MS of seeds, problems and their interaction,

    variance of the mean = (MS_seeds + MS_problems - MS_interaction) / (seeds * problems)

whose degrees of freedom follow Satterthwaite (1946, Biometrics 2:110-114). `benchmarks/ablation_power.py`
measures how often the test is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and problems. `p`: two-sided, that the true mean is 0."""

    mean: float
    low: float
    high: float
    p: float
    error: float  # standard error
    freedom: float  # degrees of freedom
    by_seed: tuple[float, ...]  # mean over problems under each seed


def crossed_mean(scores: NDArray[np.floating], confidence: float = 0.95) -> Estimate:
    """Mean of scores whose seeds and problems are both sampled.

    With one seed the problems alone are taken for a sample: the estimate then says nothing of other seeds.

    Args:
        scores: (seeds, problems).

    Raises:
        ValueError: fewer than two problems.
    """
    scores = np.asarray(scores, dtype=np.float64)
    seeds, problems = scores.shape
    if problems < 2:
        raise ValueError("an estimate of its own error needs two problems")
    mean = float(scores.mean())
    variance, freedom = _variance(scores)
    error = math.sqrt(variance)
    by_seed = tuple(float(value) for value in scores.mean(axis=1))
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, freedom, by_seed)
    reach = t_quantile(confidence, freedom) * error
    return Estimate(mean, mean - reach, mean + reach, t_p_value(mean / error, freedom), error, freedom, by_seed)


def _variance(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the grand mean, and its degrees of freedom."""
    seeds, problems = scores.shape
    of_problems = seeds * float(scores.mean(axis=0).var(ddof=1))
    if seeds == 1:
        return of_problems / problems, problems - 1.0
    of_seeds = problems * float(scores.mean(axis=1).var(ddof=1))
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1)[:, None] + scores.mean()
    freedom_of_rest = (seeds - 1) * (problems - 1)
    interaction = float((rest**2).sum()) / freedom_of_rest
    total = of_seeds + of_problems - interaction
    # the estimate may fall below what either sample alone amounts to; neither is less than nothing
    total = max(total, of_problems, of_seeds)
    squares = of_seeds**2 / (seeds - 1) + of_problems**2 / (problems - 1) + interaction**2 / freedom_of_rest
    if total == 0 or squares == 0:
        return 0.0, problems - 1.0
    return total / (seeds * problems), total**2 / squares


def t_p_value(t: float, freedom: float) -> float:
    """Two-sided p of Student's t, by the regularized incomplete beta function."""
    return float(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))


def t_quantile(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t, by bisection: 2.776 for 0.95 and 4 degrees of freedom."""
    low, high = 0.0, 1.0
    while t_p_value(high, freedom) > 1 - confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_p_value(middle, freedom) > 1 - confidence else (low, middle)
    return high


def paired_by_seed(differences: NDArray[np.floating], confidence: float = 0.95) -> Estimate:
    """Mean of one number per seed, such as a difference in diversity, by Student's paired t.

    With one seed there is no telling how far it could be off: the interval is infinite and p is 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, seeds = float(values.mean()), len(values)
    by_seed = tuple(float(value) for value in values)
    if seeds < 2:
        return Estimate(mean, -math.inf, math.inf, 1.0, math.inf, 0.0, by_seed)
    error = float(values.std(ddof=1)) / math.sqrt(seeds)
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, seeds - 1.0, by_seed)
    reach = t_quantile(confidence, seeds - 1) * error
    return Estimate(mean, mean - reach, mean + reach, t_p_value(mean / error, seeds - 1), error, seeds - 1.0, by_seed)
