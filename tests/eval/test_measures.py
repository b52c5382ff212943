"""Intervals against published values, fast formulas against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.stats.measures import (
    bootstrap_mean,
    compression_ratio,
    distinct_n,
    mean_pairwise_cosine,
    nearest_cosine,
    quartiles,
    vendi_score,
    wilson_interval,
)


def unit_vectors(rows: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_interval_has_published_values(correct: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(correct, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0.5, 0.999))
def test_wilson_interval_holds_the_share_and_stays_in_range(a: int, b: int, confidence: float) -> None:
    correct, n = min(a, b), max(a, b)
    interval = wilson_interval(correct, n, confidence)
    assert 0 <= interval.low <= interval.high <= 1
    if n:
        assert interval.low <= correct / n <= interval.high


@pytest.mark.parametrize(("correct", "n", "confidence"), [(2, 1, 0.95), (-1, 3, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_wilson_interval_refuses_the_impossible(correct: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"impossible|confidence"):
        wilson_interval(correct, n, confidence)


def test_quartiles_interpolate() -> None:
    found = quartiles([4, 1, 3, 2])
    assert (found.low, found.q1, found.median, found.q3, found.high, found.mean) == (1, 1.75, 2.5, 3.25, 4, 2.5)
    with pytest.raises(ValueError, match="no values"):
        quartiles([])


def test_bootstrap_mean_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        interval = bootstrap_mean(generator.normal(3.0, 1.0, 40).tolist(), seed, samples=300)
        hits += interval.low <= 3.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99
    assert bootstrap_mean([1.0, 2.0, 5.0], 7) == bootstrap_mean([1.0, 2.0, 5.0], 7)


def test_mean_pairwise_cosine_equals_brute_force() -> None:
    vectors = unit_vectors(50)
    expected = np.mean([float(a @ b) for a, b in itertools.combinations(vectors, 2)])
    assert mean_pairwise_cosine(vectors) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="two rows, got 1"):
        mean_pairwise_cosine(vectors[:1])


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_nearest_cosine_equals_brute_force(block: int) -> None:
    vectors = unit_vectors(60)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    np.testing.assert_allclose(nearest_cosine(vectors, block=block), similarity.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(nearest_cosine(vectors, [5, 2], block), similarity.max(axis=1)[[5, 2]], atol=1e-6)


def test_distinct_n_counts_within_texts() -> None:
    texts = ["a b a b", "B a"]
    assert distinct_n(texts, 1) == pytest.approx(2 / 6)
    assert distinct_n(texts, 2) == pytest.approx(2 / 4)  # ab ba ab | ba
    assert distinct_n(texts, 5) == 0.0
    assert distinct_n([], 1) == 0.0


def test_vendi_counts_what_is_different() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7)
    assert vendi_score(np.tile([[1.0, 0.0]], (9, 1))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    rows = np.random.default_rng(0).standard_normal((50, 20))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert vendi_score(rows) == pytest.approx(16.218931274152226)  # vendi_score.vendi.score_dual of vendi-score 0.0.3
    with pytest.raises(ValueError, match="no rows"):
        vendi_score(np.empty((0, 3)))


def test_what_repeats_is_compressed() -> None:
    assert compression_ratio(["the same words again"] * 50) > 20
    chance = np.random.default_rng(0)
    assert compression_ratio("".join(map(chr, chance.integers(97, 123, 40))) for _ in range(50)) < 2
    assert compression_ratio([]) == 0
