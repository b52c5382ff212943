"""Texts in two dimensions: those that are alike come to lie together, and the same texts in the same places."""

from __future__ import annotations

import numpy as np
import pytest

from eval.vectors.embedding_map import embedding_map


def clusters(count: int, size: int, noise: float, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    rows = np.repeat(chance.normal(size=(count, 48)), size, axis=0) + noise * chance.normal(size=(count * size, 48))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_of_neighbours_in_own_cluster(places: np.ndarray, size: int) -> float:
    labels = np.arange(len(places)) // size
    distances = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argsort(axis=1)[:, :5]] == labels[:, None]).mean())


def test_neighbours_stay_neighbours_where_principal_components_lose_them() -> None:
    vectors = clusters(count=10, size=20, noise=0.6)
    centred = vectors - vectors.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    found = share_of_neighbours_in_own_cluster(embedding_map(vectors), 20)
    assert found > 0.95
    assert found > share_of_neighbours_in_own_cluster(components, 20) + 0.15


def test_places_lie_in_the_unit_square_and_are_the_same_again() -> None:
    vectors = clusters(count=5, size=12, noise=0.5)
    places = embedding_map(vectors)
    assert places.shape == (60, 2)
    assert places.min() >= -1e-9
    assert places.max() <= 1 + 1e-9
    np.testing.assert_array_equal(places, embedding_map(vectors))


@pytest.mark.parametrize("rows", [2, 3, 4, 7])
def test_few_rows_have_places_too(rows: int) -> None:
    assert np.isfinite(embedding_map(clusters(rows, 1, 0.0))).all()


def test_equal_rows_are_no_trouble() -> None:
    assert np.isfinite(embedding_map(np.tile(clusters(2, 1, 0.0), (6, 1)))).all()
