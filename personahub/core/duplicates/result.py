"""The result of a deduplication: what is kept, what is dropped, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Priority = np.ndarray | Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Deduplication:
    """Kept rows and dropped rows, each dropped row with the kept row that covers it.

    Rows are visited in priority order, and a row is dropped if and only if a row kept before it is similar enough
    (greedy keep-first). Similarity is never chained through dropped rows, so every dropped row is a near-duplicate
    of its own survivor.

    `kept` and `dropped` are ascending row indices (int64) that together cover all rows. `survivors` (int64) and
    `similarities` (float64) are parallel to `dropped`. The survivor is the most similar of the rows kept earlier;
    among equals it is the first by priority.
    """

    threshold: float
    kept: np.ndarray
    dropped: np.ndarray
    survivors: np.ndarray
    similarities: np.ndarray

    @classmethod
    def from_survivors(cls, threshold: float, survivor_of: np.ndarray, similarity_of: np.ndarray) -> Deduplication:
        """Builds a result from each row's survivor, which is -1 if the row is kept."""
        dropped = np.flatnonzero(survivor_of >= 0)
        return cls(
            threshold=threshold,
            kept=np.flatnonzero(survivor_of < 0),
            dropped=dropped,
            survivors=survivor_of[dropped].astype(np.int64),
            similarities=similarity_of[dropped].astype(np.float64),
        )

    @property
    def rows(self) -> int:
        return len(self.kept) + len(self.dropped)

    @property
    def duplicate_ratio(self) -> float:
        """Dropped rows divided by all rows, or 0 if there are no rows."""
        return len(self.dropped) / self.rows if self.rows else 0.0

    def borderline(self, count: int = 10) -> list[tuple[int, int, float]]:
        """Returns the `count` least similar drops as (row, survivor, similarity). Read them to judge the threshold."""
        order = np.argsort(self.similarities, kind="stable")[:count]
        return [(int(self.dropped[i]), int(self.survivors[i]), float(self.similarities[i])) for i in order]


def visiting_order(rows: int, priority: Priority | None) -> np.ndarray:
    """Returns row indices (int64) in visiting order.

    Lowest priority first, ties by row. A priority may be a function, for texts that are still being read. It is
    called after all of them are read.

    Raises:
        ValueError: the length of `priority` differs from the number of rows.
    """
    if priority is None:
        return np.arange(rows, dtype=np.int64)
    if callable(priority):
        priority = priority()
    if len(priority) != rows:
        raise ValueError(f"{len(priority)} priorities for {rows} rows")
    return np.argsort(np.asarray(priority), kind="stable").astype(np.int64)
