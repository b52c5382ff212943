"""Statistics of seeds by problems: against known values, and against what happens when an effect is planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.ablation_power import rejections, simulate
from eval.stats.crossed import (
    Estimate,
    arm_differences,
    arm_means,
    crossed_mean,
    detectable,
    paired_by_seed,
    t_p_value,
    t_quantile,
    training_luck,
)


def ends(estimate: Estimate) -> tuple[float, float]:
    """Of an interval that there is."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_students_t_is_that_of_tables() -> None:
    assert t_quantile(0.95, 4) == pytest.approx(2.776, abs=1e-3)
    assert t_quantile(0.95, 2) == pytest.approx(4.303, abs=1e-3)
    assert t_quantile(0.99, 1000) == pytest.approx(2.581, abs=1e-3)
    assert t_p_value(2.228, 10) == pytest.approx(0.05, abs=1e-4)
    assert t_p_value(0, 5) == 1
    assert t_quantile(0.95, 1) == pytest.approx(12.706, abs=1e-3)
    assert t_quantile(0.8, 7.5) == pytest.approx(1.4053, abs=1e-3)


def test_one_seed_is_a_paired_t_test_over_problems() -> None:
    differences = np.array([[1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0, 0.0]])
    found = crossed_mean(differences)
    error = differences.std(ddof=1) / math.sqrt(8)
    assert found.freedom == 7
    assert found.error == pytest.approx(error)
    assert found.p == pytest.approx(t_p_value(differences.mean() / error, 7))


def test_seeds_that_differ_widen_the_interval_however_many_problems_there_are() -> None:
    chance = np.random.default_rng(0)
    alike = (chance.random((3, 5000)) < 0.5).astype(float)
    different = (chance.random((3, 5000)) < np.array([[0.4], [0.5], [0.6]])).astype(float)
    narrow, wide = crossed_mean(alike), crossed_mean(different)
    assert np.ptp(ends(wide)) > 5 * np.ptp(ends(narrow))
    assert wide.freedom < 3
    assert wide.error == pytest.approx(np.std([0.4, 0.5, 0.6], ddof=1) / math.sqrt(3), rel=0.1)


def test_arms_are_paired_by_seed() -> None:
    """An effect of a seed on all arms cancels in all differences."""
    chance = np.random.default_rng(1)
    luck = np.array([[0.2], [0.5], [0.7]])
    points = chance.random((3, 400))
    scores = {arm: (points < luck + gain).astype(float) for arm, gain in (("a", 0.0), ("b", 0.05), ("c", 0.0))}
    differences = arm_differences(scores, "a")
    assert set(differences) == {"b", "c"}
    assert ends(differences["b"])[0] > 0
    assert (differences["c"].mean, differences["c"].p) == (0, pytest.approx(1))
    means = arm_means(scores)
    low, high = ends(means["a"])
    assert low < 0.3 < 0.6 < high  # an arm's own accuracy depends on the seed all the same
    assert means["a"].by_seed == pytest.approx(scores["a"].mean(axis=1))


def test_one_number_per_seed_is_compared_by_t() -> None:
    found = paired_by_seed([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert ends(found)[1] - found.mean == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert paired_by_seed([1.5]).p == 1
    assert math.isinf(ends(paired_by_seed([1.5]))[1])
    for alike in ([0.1, 0.1, 0.1], [24.4 - 23.3, 25.4 - 24.3, 1.7 - 0.6]):  # but for rounding
        found = paired_by_seed(alike)
        assert found.p == 0.25  # the three signs could agree by chance
        assert (found.low, found.high) == (None, None)
    assert paired_by_seed([0.0, 0.0]).p == 1


def test_the_luck_of_a_training_is_found_and_chance_on_problems_is_not_taken_for_it() -> None:
    generator = np.random.default_rng(5)
    for luck in (0.0, 0.03):
        found = [training_luck(simulate(400, 3, 0.0, luck, generator)) for _ in range(40)]
        estimates = [each[0] for each in found if each is not None]
        held = [luck <= each[1] for each in found if each is not None]
        assert math.sqrt(np.mean(np.square(estimates))) == pytest.approx(luck, abs=0.012)
        assert np.mean(held) >= 0.85
    assert training_luck({"a": np.zeros((1, 9)), "b": np.zeros((1, 9))}) is None
    assert training_luck({"a": np.zeros((3, 9)), "b": np.ones((3, 9))}) is None  # nothing to estimate it from


@pytest.mark.parametrize("share", [0.0, 1.0, 1 / 3, 0.1])
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_scores_that_are_all_equal_have_no_error_to_give_an_interval_from(share: float, seeds: int) -> None:
    found = crossed_mean(np.full((seeds, 6), share))
    assert (found.low, found.high, found.error) == (None, None, 0)
    assert found.mean == pytest.approx(share)
    assert found.p == (2**-5 if share else 1)
    assert detectable(found) is None


def test_the_sign_test_of_many_problems_is_above_zero() -> None:
    assert 0 < crossed_mean(np.ones((3, 5000))).p < 1e-300


def test_what_cancels_in_both_means_is_still_an_error() -> None:
    """No seed and no problem stands out, though no two neighbouring scores are equal."""
    found = crossed_mean(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert found.error == pytest.approx(0.5)
    assert ends(found)[0] < 0.5 - 1


def test_nine_of_ten_experiments_find_what_is_called_detectable() -> None:
    generator = np.random.default_rng(6)
    sizes = [
        detectable(arm_differences(simulate(200, 3, 0.0, 0.02, generator), "persona")["no_persona"]) for _ in range(20)
    ]
    one, _, _ = rejections(
        200,
        problems=200,
        seeds=3,
        effect=float(np.mean([size for size in sizes if size is not None])),
        luck=0.02,
        seed=8,
    )
    assert 0.8 < one < 0.98


def test_a_planted_null_is_not_found() -> None:
    for seeds, luck in ((3, 0.0), (3, 0.02), (5, 0.03)):
        one, _, any_of = rejections(100, problems=400, seeds=seeds, effect=0.0, luck=luck, seed=7)
        assert one <= 0.1
        assert any_of <= 0.1


@pytest.mark.parametrize(("seeds", "luck"), [(3, 0.01), (3, 0.02), (5, 0.03)])
def test_a_planted_effect_is_found(seeds: int, luck: float) -> None:
    one, _, _ = rejections(100, problems=400, seeds=seeds, effect=0.1, luck=luck, seed=7)
    assert one > 0.9


@pytest.mark.parametrize(
    ("arms", "seeds", "low_chi_square"),  # of (arms - 1) * (seeds - 1) degrees of freedom, from a table
    [(2, 2, 0.00393214), (2, 3, 0.10258659), (3, 3, 0.71072302), (5, 3, 2.73263679)],
)
def test_the_most_that_luck_may_be_is_exact_with_few_seeds(arms: int, seeds: int, low_chi_square: float) -> None:
    generator = np.random.default_rng(arms * seeds)
    scores = {str(arm): generator.random((seeds, 50)) for arm in range(arms)}
    means = np.stack([each.mean(axis=1) for each in scores.values()])
    squares = ((means - means.mean(axis=0) - means.mean(axis=1)[:, None] + means.mean()) ** 2).sum()
    noise = np.mean([interaction(each) for each in scores.values()]) / 50
    found = training_luck(scores)
    assert found is not None
    assert found[1] == pytest.approx(math.sqrt(max(squares / low_chi_square - noise, 0)), rel=1e-5)


def interaction(scores: np.ndarray) -> float:
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1)[:, None] + scores.mean()
    return float((rest**2).sum()) / ((len(scores) - 1) * (scores.shape[1] - 1))
