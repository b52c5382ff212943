"""Scores on the same problems under several seeds: estimates and tests that take both for samples.

    accuracies = arm_means({"with": scores, "without": other})         # each (seeds, problems)
    differences = arm_differences({"with": ..., "without": ...}, "with")   # paired by seed and problem

Problems are a sample of those that one might ask, and seeds a sample of the data sets and trainings that one
might make. A test that takes seeds for fixed mistakes a lucky training for an effect of the arm; one that
averages over problems knows nothing of how few they are. Here both vary, in the two-way layout of Clark
(1973, J. Verbal Learning 12:335-359): with mean squares MS of seeds, problems and their interaction,

    variance of the mean = (MS_seeds + MS_problems - MS_interaction) / (seeds * problems)

whose degrees of freedom follow Satterthwaite (1946, Biometrics 2:110-114). Three seeds say little about how
much seeds matter, so MS_seeds is pooled over all arms, as in an analysis of variance of arms by seeds:
five arms and three seeds give it 8 degrees of freedom where one pair of arms has 2.
`benchmarks/ablation_power.py` measures how often the test is wrong.

Where all scores are equal nothing tells how far they could be off: there is no interval, no detectable difference
and no luck (None), and p is that of the sign test over problems.

    luck, most = training_luck(scores)          # of an arm's accuracy, from seed to seed
    detectable(differences["without"])          # the difference that such an experiment finds in nine of ten cases
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_ROUNDING = 1e-12  # of scores from 0 to 1: a smaller error is that of floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and problems. `p`: two-sided, that the true mean is 0."""

    mean: float
    low: float | None  # None where all scores are equal
    high: float | None
    p: float
    error: float  # standard error; 0 where all scores are equal, which says nothing of the true one
    freedom: float  # degrees of freedom
    by_seed: tuple[float, ...]  # mean over problems under each seed


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance of the mean over problems from seed to seed, and the degrees of freedom that it rests on."""

    variance: float
    freedom: float


def arm_means(scores: Mapping[str, FloatArray], confidence: float = 0.95) -> dict[str, Estimate]:
    """Mean score of every arm; the spread over seeds is pooled over arms.

    Args:
        scores: by arm (seeds, problems), the same seeds and problems in each.
    """
    means = np.stack([each.mean(axis=1) for each in scores.values()])  # (arms, seeds)
    arms, seeds = means.shape
    spread = None
    if seeds > 1:
        spread = Spread(float(means.var(axis=1, ddof=1).mean()), arms * (seeds - 1))
    return {arm: crossed_mean(each, spread, confidence) for arm, each in scores.items()}


def arm_differences(scores: Mapping[str, FloatArray], baseline: str, confidence: float = 0.95) -> dict[str, Estimate]:
    """Every other arm minus the baseline, paired by seed and problem; the spread over seeds is pooled over arms.

    Args:
        scores: by arm (seeds, problems), the same seeds and problems in each.

    Returns:
        Estimates by arm, without the baseline.
    """
    own = _arms_by_seeds(scores)
    # a difference has the variance of two arms
    spread = Spread(2 * own.variance, own.freedom) if own is not None else None
    return {
        arm: crossed_mean(each - scores[baseline], spread, confidence)
        for arm, each in scores.items()
        if arm != baseline
    }


def _arms_by_seeds(scores: Mapping[str, FloatArray]) -> Spread | None:
    """How far arms' means go apart from seed to seed beyond what a seed does to all of them; None with one seed."""
    means = np.stack([each.mean(axis=1) for each in scores.values()])
    arms, seeds = means.shape
    if seeds < 2 or arms < 2:
        return None
    rest = means - means.mean(axis=0) - means.mean(axis=1)[:, None] + means.mean()
    freedom = (arms - 1) * (seeds - 1)
    return Spread(float((rest**2).sum()) / freedom, freedom)


def training_luck(scores: Mapping[str, FloatArray]) -> tuple[float, float] | None:
    """Standard deviation of an arm's mean from seed to seed, apart from what a problem's right or wrong adds to it.

    Other draws of data and another training make it; seeds that move all arms alike are not counted, nor is what
    would be gone with more problems (the mean square within arms of seeds by problems, over the problems).

    Args:
        scores: by arm (seeds, problems), the same seeds and problems in each.

    Returns:
        The estimate, 0 where the problems explain it all, and the upper end of its one-sided 95% interval;
        None with one seed or one arm, and where all arms change alike from seed to seed.
    """
    spread = _arms_by_seeds(scores)
    if spread is None or spread.variance < _ROUNDING**2:
        return None
    noise = float(np.mean([_interaction(each) for each in scores.values()])) / next(iter(scores.values())).shape[1]
    largest = spread.variance * spread.freedom / _low_chi_square(spread.freedom)
    return math.sqrt(max(spread.variance - noise, 0)), math.sqrt(max(largest - noise, 0))


@lru_cache(maxsize=64)
def _low_chi_square(freedom: float, below: float = 0.05) -> float:
    """The value below which chi-square falls with this chance: 0.00393 for 1 degree of freedom, 3.94 for 10.

    By bisection of the regularized incomplete gamma function: the usual approximation (Wilson & Hilferty 1931) is
    too low by five orders of magnitude at 1 degree of freedom, which two arms and two seeds have.
    """
    low, high = 0.0, float(freedom)  # the mean, which is above the median
    for _ in range(64):
        middle = (low + high) / 2
        if mpmath.gammainc(freedom / 2, 0, middle / 2, regularized=True) < below:
            low = middle
        else:
            high = middle
    return high


def detectable(estimate: Estimate, power: float = 0.9, alpha: float = 0.05) -> float | None:
    """The true difference that an experiment with this error finds at level `alpha` with the chance `power`.

    The sum of the two quantiles of t times the standard error, which is near the exact (noncentral t) answer.
    None where all scores are equal.
    """
    if estimate.error == 0:
        return None
    reach = t_quantile(1 - alpha, estimate.freedom) + t_quantile(2 * power - 1, estimate.freedom)
    return reach * estimate.error


def crossed_mean(scores: FloatArray, spread: Spread | None = None, confidence: float = 0.95) -> Estimate:
    """Mean of scores whose seeds and problems are both sampled.

    With one seed the problems alone are taken for a sample: the estimate then says nothing of other seeds.

    Args:
        scores: (seeds, problems).
        spread: over seeds, where more is known of it than these scores tell.

    Raises:
        ValueError: fewer than two problems.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape[1] < 2:
        raise ValueError("an estimate of its own error needs two problems")
    if spread is None and len(scores) > 1:
        spread = Spread(float(scores.mean(axis=1).var(ddof=1)), len(scores) - 1)
    variance, freedom = _variance(scores, spread)
    mean, by_seed = float(scores.mean()), scores.mean(axis=1)
    if variance == 0:
        return _all_equal(mean, scores.shape[1], freedom, by_seed)
    return _estimate(mean, math.sqrt(variance), freedom, by_seed, confidence)


def _estimate(mean: float, error: float, freedom: float, by_seed: FloatArray, confidence: float) -> Estimate:
    seeds = tuple(float(value) for value in by_seed)
    reach = t_quantile(confidence, freedom) * error
    return Estimate(mean, mean - reach, mean + reach, t_p_value(mean / error, freedom), error, freedom, seeds)


def _all_equal(mean: float, n: int, freedom: float, by_seed: FloatArray) -> Estimate:
    """Of `n` equal numbers: t has no scale, and p is that of their signs, 2 / 2^n, which chance could make agree."""
    p = 1.0 if abs(mean) < _ROUNDING else max(2.0 ** (1 - n), sys.float_info.min)
    return Estimate(mean, None, None, p, 0.0, freedom, tuple(float(value) for value in by_seed))


def _variance(scores: FloatArray, spread: Spread | None) -> tuple[float, float]:
    """Variance of the grand mean, exactly 0 where all scores are equal, and its degrees of freedom."""
    seeds, problems = scores.shape
    of_problems = seeds * float(scores.mean(axis=0).var(ddof=1))
    if spread is None:
        return (0.0 if of_problems < _ROUNDING**2 else of_problems / problems), problems - 1.0
    of_seeds = problems * spread.variance
    freedom_of_rest = (seeds - 1) * (problems - 1)
    interaction = _interaction(scores)
    # what is left of either sample when the interaction is taken off may come out below nothing
    total = max(of_seeds + of_problems - interaction, of_problems, of_seeds)
    if total < _ROUNDING**2:  # neither seeds nor problems stand out, and what is left are single scores
        total = interaction
    if total < _ROUNDING**2:
        return 0.0, problems - 1.0
    squares = of_seeds**2 / spread.freedom + of_problems**2 / (problems - 1) + interaction**2 / freedom_of_rest
    return total / (seeds * problems), total**2 / squares


def _interaction(scores: FloatArray) -> float:
    """Mean square of seeds by problems."""
    seeds, problems = scores.shape
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1)[:, None] + scores.mean()
    return float((rest**2).sum()) / ((seeds - 1) * (problems - 1))


def t_p_value(t: float, freedom: float) -> float:
    """Two-sided p of Student's t, by the regularized incomplete beta function."""
    return float(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))


@lru_cache(maxsize=256)
def t_quantile(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t: 2.776 for 0.95 and 4 degrees of freedom.

    By Newton's method from the normal's quantile, which is smaller: p falls and bends upwards in t, so the steps
    never go too far.
    """
    t = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    for _ in range(100):
        density = scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (t_p_value(t, freedom) - (1 - confidence)) / (2 * density)
        t += step
        if abs(step) < 1e-9 * t:
            break
    return t


def paired_by_seed(differences: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean of one number per seed, such as a difference in diversity, by Student's paired t.

    With one seed there is no telling how far it could be off: the interval is infinite and p is 1. Where all
    seeds differ by the same (rounded) number, there is no interval: p is that of the signs, 2 / 2^seeds.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, seeds = float(values.mean()), len(values)
    if seeds < 2:
        return Estimate(mean, -math.inf, math.inf, 1.0, math.inf, 0.0, tuple(map(float, values)))
    if np.ptp(values) < _ROUNDING * max(1.0, float(np.abs(values).max())):
        return _all_equal(mean, seeds, seeds - 1.0, values)
    error = float(values.std(ddof=1)) / math.sqrt(seeds)
    return _estimate(mean, error, seeds - 1.0, values, confidence)
