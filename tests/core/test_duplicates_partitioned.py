"""Partitioned joins against those of one process, over any number of partitions and shards."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personahub.core.duplicates import clustered, embedding, surface
from personahub.core.duplicates.partitioned import vector_join, word_join
from personahub.core.duplicates.partitioned.blocks import Source, cut
from personahub.core.duplicates.partitioned.spill import Spill
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding.config import EmbedderConfig
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from tests.core.test_duplicates_surface import THRESHOLDS, as_mapping, texts


@dataclass(frozen=True)
class Shards:
    """Texts in shards; ids and scores are optional."""

    shards: tuple[tuple[str, ...], ...]
    best: tuple[tuple[float | None, ...], ...] | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(map(len, self.shards))

    def read(self, shard: int) -> pa.Table:
        texts = [text.encode("utf-8", "surrogatepass") for text in self.shards[shard]]
        columns = {"id": pa.array(self.shards[shard], pa.string()), "text": pa.array(texts, pa.large_binary())}
        if self.best is not None:
            columns["best"] = pa.array(self.best[shard], pa.float64())
        return pa.table(columns)


def sharded(rows: Sequence[str], cuts: Sequence[int]) -> Shards:
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return Shards(tuple(tuple(rows[a:b]) for a, b in itertools.pairwise(ends)))


def by_partitions(source: Source, threshold: float, partitions: int, old: Source | None = None) -> Deduplication:
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder), partitions)
        return word_join.deduplicate(spill.subfolder("0"), cut(spill, source, old), threshold).load(threshold)


cuts = st.lists(st.integers(0, 25), max_size=3)


@settings(max_examples=10, deadline=None)
@given(rows=texts, old=texts, threshold=st.sampled_from(THRESHOLDS), partitions=st.integers(1, 4), cuts=cuts)
def test_surface_equals_one_process(
    rows: list[str], old: list[str], threshold: float, partitions: int, cuts: list[int]
) -> None:
    rows, old = ([text for text in some if text != "\ud800"] for some in (rows, old))  # ids are strings
    found = by_partitions(sharded(rows, cuts), threshold, partitions, sharded(old, cuts) if old else None)
    assert as_mapping(found) == as_mapping(surface.deduplicate(rows, threshold, against=old))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(rows=texts, threshold=st.sampled_from(THRESHOLDS), partitions=st.integers(1, 7), cuts=cuts)
def test_surface_equals_one_process_at_length(
    rows: list[str], threshold: float, partitions: int, cuts: list[int]
) -> None:
    rows = [text for text in rows if text != "\ud800"]
    found = by_partitions(sharded(rows, cuts), threshold, partitions)
    assert as_mapping(found) == as_mapping(surface.deduplicate(rows, threshold))


@settings(max_examples=8, deadline=None)
@given(rows=texts, old=texts, threshold=st.sampled_from(THRESHOLDS), partitions=st.integers(1, 4), cuts=cuts)
def test_chains_are_collapsed_if_asked(
    rows: list[str], old: list[str], threshold: float, partitions: int, cuts: list[int]
) -> None:
    rows, old = ([text for text in some if text != "\ud800"] for some in (rows, old))
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder), partitions)
        blocks = cut(spill, sharded(rows, cuts), sharded(old, cuts) if old else None)
        found = word_join.deduplicate(spill.subfolder("0"), blocks, threshold, collapse_chains=True).load(threshold)
    assert as_mapping(found) == by_union(old, rows, threshold)


def by_union(old: list[str], rows: list[str], threshold: float) -> dict[int, tuple[int, float]]:
    """Survivor of each row that goes, and its similarity to the most similar other one."""
    everything, group = [*old, *rows], list(range(len(old) + len(rows)))
    best = [0.0] * len(everything)
    for b in range(len(old), len(everything)):
        for a in range(b):
            if (similarity := surface.jaccard(everything[a], everything[b])) >= threshold:
                best[a], best[b] = max(best[a], similarity), max(best[b], similarity)
                joined = min(group[a], group[b])
                group = [joined if g in (group[a], group[b]) else g for g in group]
    return {
        row - len(old): (first - len(old) if first >= len(old) else len(rows) + first, best[row])
        for row, first in enumerate(group)
        if row >= len(old) and first != row
    }


HASHING = EmbedderConfig(kind="hashing", dimensions=16)


@settings(max_examples=8, deadline=None)
@given(
    rows=texts,
    old=texts,
    threshold=st.sampled_from([0.0, 0.5, 0.8, 0.9]),
    partitions=st.integers(1, 4),
    cuts=cuts,
    search=st.sampled_from(["exact", "clustered"]),
)
def test_embedding_equals_one_process(
    rows: list[str],
    old: list[str],
    threshold: float,
    partitions: int,
    cuts: list[int],
    search: Literal["exact", "clustered"],
) -> None:
    rows, old = ([text for text in some if text != "\ud800"] for some in (rows, old))
    if not rows:
        return
    vectors = embed([*rows, *old], HASHING)
    if search == "exact":
        expected = embedding.deduplicate(vectors, threshold, references=len(old))
    else:
        expected = clustered.deduplicate(vectors, threshold, clusters=6, references=len(old))
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder), partitions)
        blocks = cut(spill, sharded(rows, cuts), sharded(old, cuts) if old else None)
        make = functools.partial(_embed, config=HASHING)
        found = vector_join.deduplicate(spill.subfolder("0"), blocks, threshold, make, search, clusters=6).load(
            threshold
        )
    assert as_mapping(found) == as_mapping(expected)


def _embed(texts: Sequence[Any], config: EmbedderConfig) -> np.ndarray:
    return embed([text.decode() for text in texts], config)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """Stopped at its third block; the next run embeds that one and those after it, and leaves no half-written file."""
    source = sharded([f"a person of number {number}" for number in range(40)], [10, 15])
    log = tmp_path / "log"

    def run(fail_at: int) -> Deduplication:
        spill = Spill(tmp_path / "spill", 5)
        make = functools.partial(_logged, log=log, fail_at=fail_at)
        return vector_join.deduplicate(spill.subfolder("0"), cut(spill, source), 0.8, make).load(0.8)

    with pytest.raises(UserError, match="third"):
        run(fail_at=3)
    assert len(log.read_text().splitlines()) == 3
    again = run(fail_at=-1)
    assert len(log.read_text().splitlines()) == 6
    assert not list(tmp_path.rglob("*.tmp"))
    vectors = embed([f"a person of number {number}" for number in range(40)], HASHING)
    assert as_mapping(again) == as_mapping(embedding.deduplicate(vectors, 0.8))
    assert as_mapping(run(fail_at=1)) == as_mapping(again)  # nothing is embedded at all
    assert len(log.read_text().splitlines()) == 6


def _logged(texts: Sequence[Any], log: Path, fail_at: int) -> np.ndarray:
    with log.open("a") as file:
        file.write(f"{len(texts)}\n")
    if len(log.read_text().splitlines()) == fail_at:
        raise UserError("the third")
    return _embed(texts, HASHING)


def test_highest_first_and_what_has_no_number_last(tmp_path: Path) -> None:
    shards = (("e", "b", "d"), (), ("a", "c", "f", "g"))
    best = ((2.0, None, float("nan")), (), (2.0, float("nan"), 7.0, None))
    spill = Spill(tmp_path, 3)
    blocks = cut(spill, Shards(shards, best), Shards((("z",), ("y",))), given=False)
    ids = [name for block in range(len(blocks)) for name in blocks.read(block)["id"].to_pylist()]
    assert "".join(ids) == "zy" + "faecdbg"
    assert blocks.references == 2
