"""Cosine deduplication and nearest neighbours against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personahub.core.duplicates import bounds, embedding
from personahub.core.duplicates import clustered as by_clusters
from personahub.core.duplicates.embedding import deduplicate, nearest, sweep
from personahub.core.errors import UserError


def clustered(seed: int, rows: int, dimensions: int, spread: float) -> np.ndarray:
    """Unit vectors, half of them near another one, some equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, dimensions))
    for row in range(rows // 2, rows):
        noise = spread * rng.normal(size=dimensions) * rng.integers(0, 2)
        vectors[row] = vectors[rng.integers(0, max(rows // 2, 1))] + noise
    return unit(vectors)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_definition(vectors: np.ndarray, threshold: float, priority: np.ndarray) -> dict[int, int]:
    exact = vectors.astype(np.float64)
    kept: list[int] = []
    covered: dict[int, int] = {}
    for row in sorted(range(len(vectors)), key=lambda i: (priority[i], i)):
        cosines = [float(np.einsum("j,j->", exact[row], exact[other])) for other in kept]
        if cosines and max(cosines) > threshold:
            covered[row] = kept[int(np.argmax(cosines))]
        else:
            kept.append(row)
    return covered


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_BLOCK", 13)
    monkeypatch.setattr(embedding, "_KEPT_BLOCK", 17)
    monkeypatch.setattr(embedding, "_BOUNDED_BLOCK", 13)
    monkeypatch.setattr(bounds, "_TILES_AT_ONCE", 2)
    monkeypatch.setattr(bounds, "_FOUND", 16)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 90),
    dimensions=st.sampled_from([1, 2, 5, 48]),
    leading=st.sampled_from([None, 1, 4, 40]),
    spread=st.sampled_from([0.01, 0.1, 0.4]),
    threshold=st.sampled_from([-0.9, 0.0, 0.5, 0.8, 0.9, 0.99]),
)
def test_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    rows: int,
    dimensions: int,
    leading: int | None,
    spread: float,
    threshold: float,
) -> None:
    monkeypatch.setattr(embedding, "_BOUND_FROM_ROWS", 10_000 if leading is None else 1)
    monkeypatch.setattr(bounds, "_LEADING", leading)
    monkeypatch.setattr(bounds, "_MOST_CANDIDATES", 1.0)
    vectors = clustered(seed, rows, dimensions, spread)
    priority = np.random.default_rng(seed).integers(0, 4, rows)
    result = deduplicate(vectors, threshold, priority)
    assert dict(zip(result.dropped.tolist(), result.survivors.tolist(), strict=True)) == by_definition(
        vectors, threshold, priority
    )
    exact = np.einsum("ij,ij->i", vectors[result.dropped], vectors[result.survivors])
    np.testing.assert_allclose(result.similarities, exact, atol=1e-6)


@pytest.mark.parametrize(("block", "kept_block"), [(1, 1), (5, 100), (1000, 3)])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block: int, kept_block: int) -> None:
    vectors = clustered(0, 200, 16, 0.15)
    expected = deduplicate(vectors, 0.9)
    monkeypatch.setattr(embedding, "_BLOCK", block)
    monkeypatch.setattr(embedding, "_KEPT_BLOCK", kept_block)
    monkeypatch.setattr(embedding, "_BOUND_FROM_ROWS", 1)
    monkeypatch.setattr(embedding, "_BOUNDED_BLOCK", block)
    result = deduplicate(vectors, 0.9)
    assert result.dropped.tolist() == expected.dropped.tolist()
    assert result.survivors.tolist() == expected.survivors.tolist()
    assert result.similarities.tolist() == expected.similarities.tolist()
    assert 20 < len(result.dropped) < 180


def test_a_cosine_equal_to_the_threshold_is_kept() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    at = float(np.float64(np.float32(0.8)))
    assert deduplicate(vectors, at).kept.tolist() == [0, 1, 2]
    assert deduplicate(vectors, at - 1e-9).kept.tolist() == [0, 1]


def test_identical_rows_keep_one() -> None:
    vectors = unit(np.ones((100, 7)))
    result = deduplicate(vectors, 0.99999)
    assert result.kept.tolist() == [0]
    assert set(result.survivors.tolist()) == {0}


def test_sweep_equals_single_runs() -> None:
    vectors = clustered(1, 120, 8, 0.3)
    for result in sweep(vectors, [0.3, 0.5, 0.9]):
        assert result.dropped.tolist() == deduplicate(vectors, result.threshold).dropped.tolist()


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 60), queries=st.integers(0, 30), k=st.integers(1, 70))
def test_nearest_equals_sorting_all_cosines(seed: int, rows: int, queries: int, k: int) -> None:
    # Quarter steps make every product exact, so ties are ties.
    rng = np.random.default_rng(seed)
    basis = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0, 0, 0, -1]], np.float32)
    corpus, asked = basis[rng.integers(0, 4, rows)], basis[rng.integers(0, 4, queries)]
    cosines, found = nearest(asked, corpus, k)
    products = asked @ corpus.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :k]
    assert found.tolist() == expected.tolist()
    assert cosines.tolist() == np.take_along_axis(products, expected, axis=1).tolist()


def test_refuses_what_is_not_a_matrix_of_unit_vectors() -> None:
    with pytest.raises(UserError, match="row 1 does not have norm 1"):
        deduplicate(np.array([[1, 0], [2, 0]], np.float32))
    with pytest.raises(UserError, match="row 0 does not have norm 1"):
        nearest(np.array([[np.nan, 0]], np.float32), np.array([[1, 0]], np.float32))
    with pytest.raises(UserError, match="float32 matrix"):
        deduplicate(np.ones((2, 2)))
    with pytest.raises(UserError, match="threshold"):
        deduplicate(np.ones((1, 1), np.float32), 1.0)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 90), threshold=st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_all_pairs_equal_the_definition(
    monkeypatch: pytest.MonkeyPatch, seed: int, rows: int, threshold: float
) -> None:
    monkeypatch.setattr(embedding, "_BOUND_FROM_ROWS", 40)
    monkeypatch.setattr(bounds, "_MOST_CANDIDATES", 1.0)
    vectors = clustered(seed, rows, 24, 0.1)
    exact = np.einsum("ij,kj->ik", vectors.astype(np.float64), vectors.astype(np.float64))
    expected = [(i, j) for i in range(rows) for j in range(i + 1, rows) if exact[i, j] > threshold]
    found, cosines = embedding.pairs(vectors, threshold)
    assert list(map(tuple, found.tolist())) == expected
    assert np.allclose(cosines, [exact[pair] for pair in expected])


def test_bounds_leave_few_pairs_and_lose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(3, 1500, 384, 0.6)  # cosines of about 0.857 with the one nearby: on both sides of the threshold
    exact = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    similar = {(i, j) for i, j in np.argwhere(np.triu(exact, 1) > 0.85).tolist()}
    assert len(similar) > 100
    monkeypatch.setattr(bounds, "_MOST_CANDIDATES", 1.0)
    bound = bounds.Bounds.of(vectors)
    columns = bounds.Columns.empty(bound, 1500)
    columns.add(np.arange(1000))
    columns.add(np.arange(1000, 1500))
    rows, positions = bound.near(np.arange(1500), columns, 0.85, after=0)
    found = set(zip(rows.tolist(), positions.tolist(), strict=True))
    assert similar <= found
    assert len(found - similar) < 0.01 * len(similar) + 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 80), old=st.integers(0, 30), data=st.data())
def test_references_stay_and_cover_the_others(seed: int, rows: int, old: int, data: st.DataObject) -> None:
    vectors = clustered(seed, rows + old, 16, 0.1)
    priority = np.array(data.draw(st.permutations(range(rows))), int)
    result = deduplicate(vectors, 0.9, priority, references=old)
    before = np.concatenate([priority, np.full(old, -1)])
    exact = np.einsum("ij,kj->ik", vectors.astype(np.float64), vectors.astype(np.float64))
    kept = list(range(rows, rows + old))
    for row in np.argsort(priority):
        if not kept or exact[row, kept].max() <= 0.9:
            kept.append(int(row))
    assert result.kept.tolist() == sorted(row for row in kept if row < rows)
    assert all(before[s] < before[r] for r, s in zip(result.dropped, result.survivors, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 90), threshold=st.sampled_from([0.5, 0.8, 0.9]))
def test_up_to_four_clusters_are_exact(seed: int, rows: int, threshold: float) -> None:
    vectors = clustered(seed, rows, 24, 0.1)
    priority = np.random.default_rng(seed).permutation(rows)
    for clusters in (1, 4):
        result = by_clusters.deduplicate(vectors, threshold, priority, clusters)
        survivors = dict(zip(result.dropped.tolist(), result.survivors.tolist(), strict=True))
        assert survivors == by_definition(vectors, threshold, priority)


def test_clusters_find_nearly_all_and_nothing_wrong() -> None:
    vectors = clustered(1, 6000, 48, 0.06)
    exact = deduplicate(vectors, 0.9)
    result = by_clusters.deduplicate(vectors, 0.9, clusters=60)
    assert len(exact.dropped) > 1000
    assert len(result.dropped) >= 0.99 * len(exact.dropped)
    assert (result.similarities > 0.9).all()
    assert np.isin(result.survivors, result.kept).all()
    assert by_clusters.recall(vectors, 0.9, result)[0] > 0.98
    again = by_clusters.deduplicate(vectors, 0.9, clusters=60)
    assert np.array_equal(again.survivors, result.survivors)
