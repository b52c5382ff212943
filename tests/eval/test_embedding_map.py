"""Maps of texts: similar texts lie close together, and the same texts always get the same points."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from eval.vectors.embedding_map import embedding_map
from eval.vectors.topics import find_topics


def clusters(count: int, size: int, noise: float, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    rows = np.repeat(chance.normal(size=(count, 48)), size, axis=0) + noise * chance.normal(size=(count * size, 48))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_of_neighbors_in_own_cluster(points: np.ndarray, size: int) -> float:
    labels = np.arange(len(points)) // size
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argsort(axis=1)[:, :5]] == labels[:, None]).mean())


def test_neighbors_stay_neighbors_where_principal_components_lose_them() -> None:
    vectors = clusters(count=10, size=20, noise=0.6)
    centred = vectors - vectors.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    points = embedding_map(vectors)
    found = share_of_neighbors_in_own_cluster(points, 20)
    assert found > 0.95
    assert trustworthiness(vectors, points, n_neighbors=10) > 0.98
    assert found > share_of_neighbors_in_own_cluster(components, 20) + 0.15


def test_points_are_in_the_unit_square_and_reproducible() -> None:
    vectors = clusters(count=5, size=12, noise=0.5)
    points = embedding_map(vectors)
    assert points.shape == (60, 2)
    assert points.min() >= -1e-9
    assert points.max() <= 1 + 1e-9
    np.testing.assert_array_equal(points, embedding_map(vectors))
    with threadpool_limits(limits=1):
        np.testing.assert_array_equal(points, embedding_map(vectors))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_few_rows_have_points(rows: int) -> None:
    assert np.isfinite(embedding_map(clusters(rows, 1, 0.0))).all()


def test_rows_may_be_equal() -> None:
    assert np.isfinite(embedding_map(np.tile(clusters(2, 1, 0.0), (6, 1)))).all()
    np.testing.assert_array_equal(embedding_map(np.tile(clusters(1, 1, 0.0), (6, 1))), np.full((6, 2), 0.5))


def test_topics_are_the_clusters_and_reproducible() -> None:
    vectors = clusters(count=4, size=30, noise=0.3)
    texts = [f"{('apple', 'ship', 'violin', 'glacier')[row // 30]} number {row}" for row in range(len(vectors))]
    topics = find_topics(vectors, texts, count=4, seed=2**60 + 5)
    assert [len(set(topics.labels[start : start + 30])) for start in (0, 30, 60, 90)] == [1, 1, 1, 1]
    assert [topics.names[topics.labels[row]].split(",")[0] for row in (0, 30, 60, 90)] == [
        "apple",
        "ship",
        "violin",
        "glacier",
    ]
    with threadpool_limits(limits=1):
        np.testing.assert_array_equal(topics.labels, find_topics(vectors, texts, 4, 2**60 + 5).labels)


def test_there_may_be_fewer_different_rows_than_topics() -> None:
    topics = find_topics(np.tile(clusters(2, 1, 0.0), (6, 1)), ["apple", "ship"] * 6, count=5, seed=0)
    assert len(topics.names) == 5
    assert set(topics.labels[::2]).isdisjoint(topics.labels[1::2])
