"""Paired comparisons against brute force, exact fractions and published values."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.stats.paired import holm, mcnemar, paired_difference


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(a: int, b: int) -> None:
    n, tail = a + b, sum(comb(a + b, i) for i in range(min(a, b) + 1))
    expected = min(Fraction(1), Fraction(2 * tail, 2**n))
    assert mcnemar(a, b) == pytest.approx(float(expected), rel=1e-12)
    assert mcnemar(a, b) == mcnemar(b, a)


def test_mcnemar_holds_where_floats_overflow() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0.015 < mcnemar(2500, 2673) < 0.018  # normal approximation with continuity correction: 0.0168
    assert mcnemar(0, 3000) == 0.0  # 2^-2999 is below the smallest float


def test_mcnemar_has_published_values() -> None:
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)  # Fagerland et al. 2013, table 2: exact conditional
    assert mcnemar(0, 0) == 1.0
    with pytest.raises(ValueError, match="not be negative, got -1 and 2"):
        mcnemar(-1, 2)


def holm_by_steps(p_values: list[float], level: float) -> list[bool]:
    """Which hypotheses Holm's procedure rejects, as the paper words it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] * (len(p_values) - rank) > level:
            break
        rejected[i] = True
    return rejected


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_procedure_rejects(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    assert [p <= level for p in adjusted] == holm_by_steps(p_values, level)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(0, 9))
def test_the_interval_of_a_difference_follows_the_pairs(pairs: list[tuple[bool, bool]], seed: int) -> None:
    a, b = np.array(pairs, dtype=float).T
    difference, interval = paired_difference(a, b, seed, samples=200)
    assert difference == pytest.approx(float(np.mean(b - a)))
    back, mirrored = paired_difference(b, a, seed, samples=200)
    assert back == -difference
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))
    assert -1 <= interval.low <= interval.high <= 1


def test_the_bootstrap_equals_drawing_problems_one_by_one() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.random(80) < share for share in (0.4, 0.6))
    _, interval = paired_difference(a, b, seed=1, samples=4000)
    difference = b.astype(float) - a
    means = [np.mean([difference[generator.integers(80)] for _ in range(80)]) for _ in range(1500)]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.03)


def test_pairing_is_what_narrows_the_interval() -> None:
    """Two models that solve nearly the same problems differ more surely than two that solve any."""
    generator = np.random.default_rng(2)
    a = (generator.random(500) < 0.5).astype(float)
    b = a.copy()
    b[:20] = 1.0
    unrelated = generator.permutation(b)
    (_, near), (_, far) = paired_difference(a, b, 0), paired_difference(a, unrelated, 0)
    assert near.high - near.low < (far.high - far.low) / 3
    assert near.low > 0


def test_scores_of_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        paired_difference([1.0], [1.0, 0.0], 0)
    with pytest.raises(ValueError, match="no values"):
        paired_difference([], [], 0)
