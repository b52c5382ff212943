"""pass@k and maj@k against going through all subsets of the samples."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.grading.pass_at_k import majority_at_k, pass_at_k, reported_ks

SAMPLES = st.lists(st.tuples(st.integers(-1, 3), st.booleans()), min_size=1, max_size=8)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one(correct: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(itertools.combinations(correct, k))
    expected = sum(map(any, subsets)) / len(subsets)
    assert pass_at_k([sum(correct)], len(correct), k)[0] == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 2000), st.data())
def test_pass_at_k_is_exact_where_binomials_overflow(n: int, data: st.DataObject) -> None:
    k, c = data.draw(st.integers(1, n)), data.draw(st.integers(0, n))
    expected = float(1 - Fraction(comb(n - c, k), comb(n, k)))
    assert pass_at_k([c], n, k)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_pass_at_1_is_the_share_of_correct_samples_and_pass_at_k_grows() -> None:
    counts = np.arange(65)
    np.testing.assert_allclose(pass_at_k(counts, 64, 1), counts / 64, atol=1e-12)
    values = np.stack([pass_at_k(counts, 64, k) for k in range(1, 65)])
    assert (np.diff(values, axis=0) >= -1e-12).all()


def majority_by_brute_force(clusters: list[int], correct: list[bool], k: int) -> float:
    values = []
    for chosen in itertools.combinations(range(len(clusters)), k):
        votes = Counter(clusters[i] for i in chosen if clusters[i] >= 0)
        winners = [cluster for cluster, count in votes.items() if count == max(votes.values())]
        shares = [
            np.mean([correct[i] for i in chosen if clusters[i] == winner])
            for winner in winners  # ties share the problem
        ]
        values.append(float(np.mean(shares)) if shares else 0.0)
    return float(np.mean(values))


@given(SAMPLES, st.data())
def test_majority_at_k_is_the_mean_over_subsets(samples: list[tuple[int, bool]], data: st.DataObject) -> None:
    clusters, correct = [cluster for cluster, _ in samples], [is_correct for _, is_correct in samples]
    k = data.draw(st.integers(1, len(samples)))
    assert majority_at_k(clusters, correct, k) == pytest.approx(majority_by_brute_force(clusters, correct, k))


@given(SAMPLES)
def test_a_majority_of_one_is_pass_at_1_of_answered_samples(samples: list[tuple[int, bool]]) -> None:
    clusters, correct = [cluster for cluster, _ in samples], [c and cluster >= 0 for cluster, c in samples]
    assert majority_at_k(clusters, correct, 1) == pytest.approx(float(np.mean(correct)))


def test_drawn_subsets_come_close_to_all_of_them_and_repeat() -> None:
    clusters, correct = [0] * 9 + [1] * 6 + [-1] * 3, [True] * 9 + [False] * 9
    drawn = majority_at_k(clusters, correct, 9, seed=5)  # 48,620 subsets: a thousand are drawn
    assert drawn == majority_at_k(clusters, correct, 9, seed=5)
    assert drawn == pytest.approx(majority_by_brute_force(clusters, correct, 9), abs=0.05)


def test_a_majority_needs_the_most_votes() -> None:
    assert majority_at_k([0, 1, 1], [True, False, False], 3) == 0
    assert majority_at_k([0, 0, 1], [True, True, False], 3) == 1
    assert majority_at_k([0, 1], [True, False], 2) == 0.5
    assert majority_at_k([-1, -1], [False, False], 2) == 0


@pytest.mark.parametrize(("counts", "n", "k"), [([1], 2, 3), ([1], 2, 0), ([3], 2, 1), ([-1], 2, 1)])
def test_the_impossible_is_refused(counts: list[int], n: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(counts, n, k)
    with pytest.raises(ValueError, match="maj@"):
        majority_at_k([0], [True, False], 1)


def test_reported_ks() -> None:
    assert [reported_ks(n) for n in (1, 2, 3, 8, 10)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 10]]
