"""Search for pairs of rows whose cosine is close to given levels.

    search = find_pairs(vectors, levels=(0.4, 0.9), tolerance=0.01, per_level=100, seed=0)
    search.pairs[0.9]     # [(row, row, cosine), ...]
    search.exhaustive     # False if the limit on comparisons ended the search

Figure 10 of the paper needs 100 persona pairs at each level. Random pairs of a diverse collection almost never have
a cosine of 0.9, so the collection is compared block by block, in a random order of blocks, until every level is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int, float]


@dataclass(frozen=True)
class PairSearch:
    """Pairs by level. `compared` of `possible` pairs were compared."""

    pairs: dict[float, list[Pair]]
    compared: int
    possible: int

    @property
    def exhaustive(self) -> bool:
        return self.compared == self.possible


@dataclass
class _Level:
    """Pairs of one level. Pairs that share a row are dependent, so they are only used if others are missing."""

    wanted: int
    chosen: list[Pair] = field(default_factory=list)
    spare: list[Pair] = field(default_factory=list)
    used: set[int] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return len(self.chosen) >= self.wanted

    def add(self, pair: Pair) -> None:
        if pair[0] in self.used or pair[1] in self.used:
            if len(self.spare) < self.wanted:
                self.spare.append(pair)
        elif not self.full:
            self.chosen.append(pair)
            self.used.update(pair[:2])

    def result(self) -> list[Pair]:
        return [*self.chosen, *self.spare][: self.wanted]


def find_pairs(
    vectors: NDArray[np.float32],
    levels: Sequence[float],
    tolerance: float,
    per_level: int,
    seed: int,
    max_comparisons: int = 2_000_000_000,
    block: int = 1024,
) -> PairSearch:
    """Finds up to `per_level` random pairs of different rows at each level.

    Pairs that share no row come first. If there are fewer than `per_level` of them, pairs that share a row follow.

    Args:
        vectors: (rows, dimensions), unit norm.
        levels: the cosines to look for.
        tolerance: a pair is at level L if its cosine is within L ± tolerance.
        per_level: number of pairs at each level.
        seed: determines which of the pairs are found.
        max_comparisons: the search ends after this many pairs, even if a level is not full.
        block: rows compared at a time. Memory grows with its square.
    """
    generator = np.random.default_rng(seed)
    rows = len(vectors)
    order = generator.permutation(rows)
    found = {level: _Level(per_level) for level in levels}
    compared = 0
    for first, second in _block_pairs(rows, block, generator):
        if compared >= max_comparisons or all(level.full for level in found.values()):
            break
        left, right = order[first : first + block], order[second : second + block]
        similarity = vectors[left] @ vectors[right].T
        if first == second:
            similarity[np.tril_indices(len(left))] = np.nan
        compared += len(left) * (len(left) - 1) // 2 if first == second else similarity.size
        for value, level in found.items():
            if not level.full:
                _collect(level, similarity, value, tolerance, left, right, generator)
    return PairSearch({value: level.result() for value, level in found.items()}, compared, rows * (rows - 1) // 2)


def _block_pairs(rows: int, block: int, generator: np.random.Generator) -> NDArray[Any]:
    starts = np.arange(0, rows, block)
    first, second = np.triu_indices(len(starts))
    pairs = np.stack([starts[first], starts[second]], axis=1)
    generator.shuffle(pairs)
    return pairs


def _collect(
    level: _Level,
    similarity: NDArray[np.float32],
    value: float,
    tolerance: float,
    left: NDArray[Any],
    right: NDArray[Any],
    generator: np.random.Generator,
) -> None:
    places = np.argwhere(np.abs(similarity - value) <= tolerance)
    generator.shuffle(places)
    for i, j in places:
        if level.full:
            return
        level.add((int(left[i]), int(right[j]), float(similarity[i, j])))
