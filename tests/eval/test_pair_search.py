"""The search finds what is there, only what is there, and stops when it should."""

from __future__ import annotations

import numpy as np
import pytest

from eval.vectors.pair_search import find_pairs


def unit_vectors(rows: int, dimensions: int = 6, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_an_exhaustive_search_finds_every_pair_once() -> None:
    vectors = unit_vectors(70)
    search = find_pairs(vectors, (0.4, 0.9), 0.05, per_level=10_000, seed=0, block=16)
    assert search.exhaustive
    similarity = vectors @ vectors.T
    upper = np.triu_indices(70, k=1)
    for level in (0.4, 0.9):
        expected = int((np.abs(similarity[upper] - level) <= 0.05).sum())
        pairs = search.pairs[level]
        assert len(pairs) == expected > 0
        assert len({frozenset((a, b)) for a, b, _ in pairs}) == expected
        assert all(value == pytest.approx(similarity[a, b], abs=1e-5) for a, b, value in pairs)


def test_pairs_that_share_no_row_come_first() -> None:
    vectors = unit_vectors(200)
    pairs = find_pairs(vectors, (0.3,), 0.05, per_level=60, seed=1, block=32).pairs[0.3]
    rows = [row for a, b, _ in pairs for row in (a, b)]
    assert len(pairs) == 60
    assert len(set(rows)) == 120


def test_shared_rows_fill_up_where_the_collection_is_small() -> None:
    pairs = find_pairs(unit_vectors(12), (0.2,), 0.2, per_level=9, seed=0).pairs[0.2]
    assert len(pairs) == 9
    assert len({row for a, b, _ in pairs for row in (a, b)}) <= 12


def test_a_level_that_nothing_reaches_is_empty() -> None:
    search = find_pairs(np.eye(20, dtype=np.float32), (0.0, 0.9), 0.01, per_level=5, seed=0)
    assert len(search.pairs[0.0]) == 5
    assert search.pairs[0.9] == []
    assert search.exhaustive


def test_the_search_stops_at_its_budget_and_says_so() -> None:
    search = find_pairs(unit_vectors(400), (0.99,), 0.0001, per_level=50, seed=0, max_comparisons=3000, block=50)
    assert not search.exhaustive
    assert 3000 <= search.compared < 3000 + 50 * 50


def test_the_search_stops_when_all_levels_are_full() -> None:
    search = find_pairs(unit_vectors(2000, dimensions=3), (0.1, 0.5), 0.05, per_level=3, seed=0, block=100)
    assert search.compared <= 100 * 100
    assert [len(pairs) for pairs in search.pairs.values()] == [3, 3]


def test_the_seed_decides_which_pairs() -> None:
    vectors = unit_vectors(300)
    first, again, other = (find_pairs(vectors, (0.3,), 0.05, 20, seed).pairs for seed in (0, 0, 1))
    assert first == again
    assert first != other
