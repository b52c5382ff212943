"""Greedy keep-first over word sets, given the pairs that may be similar. Every match is verified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personahub.core.duplicates.result import Priority, visiting_order
from personahub.core.duplicates.word_sets import WordSets
from personahub.core.kernels import compiled


@dataclass(frozen=True, eq=False)
class Lists:
    """One list per row: `values[start[row] : start[row + 1]]`."""

    start: np.ndarray  # int64
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Groups:
    """Word sets in visiting order, grouped by equality.

    The rows after the first `rows` are references: they are visited before all others and stay. `leader[row]` is
    the first row in visiting order with the same set. `slots` is the hash table of these leaders.
    """

    sets: WordSets
    rows: int
    order: np.ndarray  # int64
    leader: np.ndarray  # int32
    slots: np.ndarray  # int32; its length is a power of two

    @classmethod
    def of(cls, sets: WordSets, rows: int, priority: Priority | None) -> Groups:
        """Groups equal sets. `priority` is the order in which the first `rows` are visited."""
        everything = len(sets.sizes)
        order = np.concatenate([np.arange(rows, everything, dtype=np.int64), visiting_order(rows, priority)])
        leader, slots = np.empty(everything, np.int32), np.full(power_of_two(2 * everything), -1, np.int32)
        compiled.group_identical(order, sets.sum1, sets.sum2, slots, leader)
        return cls(sets, rows, order, leader, slots)

    def keep_first(
        self, threshold: float, edges: Lists, signatures: Lists, keep_rest: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns each row's survivor (int32, -1 for none) and similarity (float64).

        `edges` lists leaders that are one word away. Two leaders with a common entry in `signatures` (uint64) are
        compared. See `kernels.joining.keep_first`.
        """
        sets, everything = self.sets, len(self.order)
        rank = np.empty(everything, np.int32)
        rank[self.order] = np.arange(everything, dtype=np.int32)
        sketches = np.zeros(everything, np.uint64)
        compiled.sort_and_sketch(sets.words, sets.start, sets.sizes, signatures.start, sketches)
        survivor, similarity = np.full(everything, -1, np.int32), np.zeros(everything, np.float64)
        entries = len(signatures.values)
        compiled.keep_first(
            self.order, rank, everything - self.rows, keep_rest, threshold, self.leader,
            sets.words, sets.start, sets.sizes, sketches,
            edges.start, edges.values, signatures.start, signatures.values,
            np.full(power_of_two(entries), -1, np.int64), np.empty((entries, 4), np.int64),
            np.zeros(everything, np.bool_), np.full(everything, -1, np.int32), survivor, similarity,
        )  # fmt: skip
        return survivor[: self.rows], similarity[: self.rows]


def power_of_two(at_least: int) -> int:
    """Returns the length of a hash table: a power of two >= 16 and >= `at_least`."""
    return 1 << max(4, (at_least - 1).bit_length())
