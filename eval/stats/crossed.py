"""Means and differences of scores on the same problems under several seeds.

    accuracies = arm_means({"with": scores, "without": other})         # each (seeds, problems)
    differences = arm_differences({"with": ..., "without": ...}, "with")   # paired by seed and problem

The problems are a sample of the problems one could ask, and the seeds are a sample of the data sets and training
runs one could make. A test that treats seeds as fixed mistakes one lucky training run for an effect of the arm. A
test that averages over problems ignores how few problems there are. Here both are random, in the two-way layout of
Clark (1973, J. Verbal Learning 12:335-359). With the mean squares MS of seeds, problems and their interaction,

    variance of the mean = (MS_seeds + MS_problems - MS_interaction) / (seeds * problems)

and its degrees of freedom follow Satterthwaite (1946, Biometrics 2:110-114). Three seeds say little about how much
seeds matter, so MS_seeds is pooled over all arms, as in an analysis of variance of arms by seeds: five arms with
three seeds give 8 degrees of freedom where a single pair of arms gives 2.
`benchmarks/ablation_power.py` measures how often the test is wrong.

If all scores are equal, nothing says how large the error could be. Then there is no interval, no detectable
difference and no training luck (all None), and p is that of the sign test over problems.

    luck, most = training_luck(scores)          # standard deviation of an arm's accuracy from seed to seed
    detectable(differences["without"])          # difference that such an experiment finds in nine of ten cases

Quantiles and p values are SciPy's. It is imported where it is used, because loading `scipy.stats` takes about as
long as all of `personahub plan`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_ROUNDING = 1e-12  # scores lie between 0 and 1: anything smaller is floating-point error


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and problems with its interval. `p` is the two-sided p value for a true mean of 0."""

    mean: float
    low: float | None  # None if all scores are equal
    high: float | None
    p: float
    error: float  # standard error; 0 if all scores are equal, although the true error is then unknown
    freedom: float  # degrees of freedom
    by_seed: tuple[float, ...]  # mean over problems for each seed


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance over seeds of the mean over problems, and its degrees of freedom."""

    variance: float
    freedom: float


def arm_means(scores: Mapping[str, FloatArray], confidence: float = 0.95) -> dict[str, Estimate]:
    """Estimates the mean score of every arm.

    The spread over seeds is pooled over arms.

    Args:
        scores: by arm, an array (seeds, problems). All arms have the same seeds and problems.
    """
    means = np.stack([each.mean(axis=1) for each in scores.values()])  # (arms, seeds)
    arms, seeds = means.shape
    spread = None
    if seeds > 1:
        spread = Spread(float(means.var(axis=1, ddof=1).mean()), arms * (seeds - 1))
    return {arm: crossed_mean(each, spread, confidence) for arm, each in scores.items()}


def arm_differences(scores: Mapping[str, FloatArray], baseline: str, confidence: float = 0.95) -> dict[str, Estimate]:
    """Estimates every other arm minus the baseline, paired by seed and problem.

    The spread over seeds is pooled over arms.

    Args:
        scores: by arm, an array (seeds, problems). All arms have the same seeds and problems.

    Returns:
        Estimates by arm, without the baseline.
    """
    single = _arms_by_seeds(scores)
    # A difference has the variance of two arms.
    spread = Spread(2 * single.variance, single.freedom) if single is not None else None
    return {
        arm: crossed_mean(each - scores[baseline], spread, confidence)
        for arm, each in scores.items()
        if arm != baseline
    }


def _arms_by_seeds(scores: Mapping[str, FloatArray]) -> Spread | None:
    """Returns the spread of one arm's mean over seeds, or None with one seed or one arm.

    Common seed effects are removed.
    """
    means = np.stack([each.mean(axis=1) for each in scores.values()])
    arms, seeds = means.shape
    if seeds < 2 or arms < 2:
        return None
    rest = means - means.mean(axis=0) - means.mean(axis=1)[:, None] + means.mean()
    freedom = (arms - 1) * (seeds - 1)
    return Spread(float((rest**2).sum()) / freedom, freedom)


def training_luck(scores: Mapping[str, FloatArray]) -> tuple[float, float] | None:
    """Returns the standard deviation of an arm's mean over seeds, beyond answer noise.

    It comes from drawing other data and training again. Two things are not part of it: an effect of the seed that
    all arms share, and noise that more problems would average away (the mean square of seeds by problems within
    arms, divided by the number of problems).

    Args:
        scores: by arm, an array (seeds, problems). All arms have the same seeds and problems.

    Returns:
        The estimate and the upper end of its one-sided 95% interval. The estimate is 0 if the noise of single
        answers explains all variation. None with one seed or one arm, and if all arms change alike from seed to
        seed.
    """
    spread = _arms_by_seeds(scores)
    if spread is None or spread.variance < _ROUNDING**2:
        return None
    noise = float(np.mean([_interaction(each) for each in scores.values()])) / next(iter(scores.values())).shape[1]
    largest = spread.variance * spread.freedom / chi_square_quantile(0.05, spread.freedom)
    return math.sqrt(max(spread.variance - noise, 0)), math.sqrt(max(largest - noise, 0))


def detectable(estimate: Estimate, power: float = 0.9, alpha: float = 0.05) -> float | None:
    """Returns the true difference found with probability `power`.

    The test has this error and level `alpha`. This is the sum of the two quantiles of t, times the standard error. It
    is close to the exact (noncentral t) answer. None if all scores are equal.
    """
    if estimate.error == 0:
        return None
    quantiles = t_quantile(1 - alpha, estimate.freedom) + t_quantile(2 * power - 1, estimate.freedom)
    return quantiles * estimate.error


def crossed_mean(scores: FloatArray, spread: Spread | None = None, confidence: float = 0.95) -> Estimate:
    """Estimates the mean of scores whose seeds and problems are both samples.

    With one seed, only the problems are a sample. The estimate then says nothing about other seeds.

    Args:
        scores: (seeds, problems).
        spread: the spread over seeds, if it is known from more than these scores.

    Raises:
        ValueError: there are fewer than two problems.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape[1] < 2:
        raise ValueError(f"a standard error needs at least two problems, got {scores.shape[1]}")
    if spread is None and len(scores) > 1:
        spread = Spread(float(scores.mean(axis=1).var(ddof=1)), len(scores) - 1)
    variance, freedom = _variance(scores, spread)
    mean, by_seed = float(scores.mean()), scores.mean(axis=1)
    if variance == 0:
        return _all_equal(mean, scores.shape[1], freedom, by_seed)
    return _estimate(mean, math.sqrt(variance), freedom, by_seed, confidence)


def _estimate(mean: float, error: float, freedom: float, by_seed: FloatArray, confidence: float) -> Estimate:
    seeds = tuple(float(value) for value in by_seed)
    margin = t_quantile(confidence, freedom) * error
    return Estimate(mean, mean - margin, mean + margin, t_p_value(mean / error, freedom), error, freedom, seeds)


def _all_equal(mean: float, n: int, freedom: float, by_seed: FloatArray) -> Estimate:
    """Estimates the mean of `n` equal numbers. As t is undefined, p is the sign test's, 2 / 2^n."""
    p = 1.0 if abs(mean) < _ROUNDING else max(2.0 ** (1 - n), sys.float_info.min)
    return Estimate(mean, None, None, p, 0.0, freedom, tuple(float(value) for value in by_seed))


def _variance(scores: FloatArray, spread: Spread | None) -> tuple[float, float]:
    """Returns the variance of the grand mean and its degrees of freedom. It is exactly 0 if all scores are equal."""
    seeds, problems = scores.shape
    of_problems = seeds * float(scores.mean(axis=0).var(ddof=1))
    if spread is None:
        return (0.0 if of_problems < _ROUNDING**2 else of_problems / problems), problems - 1.0
    of_seeds = problems * spread.variance
    freedom_of_rest = (seeds - 1) * (problems - 1)
    interaction = _interaction(scores)
    # The estimate of either component can be negative once the interaction is subtracted.
    total = max(of_seeds + of_problems - interaction, of_problems, of_seeds)
    if total < _ROUNDING**2:  # neither seeds nor problems differ: only the interaction is left
        total = interaction
    if total < _ROUNDING**2:
        return 0.0, problems - 1.0
    squares = of_seeds**2 / spread.freedom + of_problems**2 / (problems - 1) + interaction**2 / freedom_of_rest
    return total / (seeds * problems), total**2 / squares


def _interaction(scores: FloatArray) -> float:
    """Returns the mean square of the interaction of seeds and problems."""
    seeds, problems = scores.shape
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1)[:, None] + scores.mean()
    return float((rest**2).sum()) / ((seeds - 1) * (problems - 1))


def t_p_value(t: float, freedom: float) -> float:
    """Returns the two-sided p value of Student's t."""
    from scipy import stats

    return float(2 * stats.t.sf(abs(t), freedom))


@lru_cache(maxsize=256)
def t_quantile(confidence: float, freedom: float) -> float:
    """Returns the two-sided quantile of Student's t: 2.776 for 0.95 and 4 degrees of freedom."""
    from scipy import stats

    return float(stats.t.ppf(0.5 + confidence / 2, freedom))


@lru_cache(maxsize=64)
def chi_square_quantile(probability: float, freedom: float) -> float:
    """Returns the quantile of chi-square: 0.00393 for 0.05 and 1 degree of freedom."""
    from scipy import stats

    return float(stats.chi2.ppf(probability, freedom))


def paired_by_seed(differences: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Estimates the mean of one number per seed by Student's paired t.

    An example is a difference in diversity. With one seed the error is unknown: the interval is infinite and p is 1.
    If all seeds have the same (rounded) number, there is no interval, and p is the sign test's, 2 / 2^seeds.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, seeds = float(values.mean()), len(values)
    if seeds < 2:
        return Estimate(mean, -math.inf, math.inf, 1.0, math.inf, 0.0, tuple(map(float, values)))
    if np.ptp(values) < _ROUNDING * max(1.0, float(np.abs(values).max())):
        return _all_equal(mean, seeds, seeds - 1.0, values)
    error = float(values.std(ddof=1)) / math.sqrt(seeds)
    return _estimate(mean, error, seeds - 1.0, values, confidence)
