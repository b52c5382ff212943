"""Upper bounds of cosines, in 64 small integers a vector: they rule out nearly all pairs at a high threshold.

    bounds = Bounds.of(vectors)
    columns = Columns.empty(bounds, len(vectors))
    columns.add(np.arange(len(vectors)))
    rows, positions = bounds.near(np.arange(100), columns, threshold=0.9)

In the basis of the principal components, with x1 the 63 leading components of x and x2 the rest,
x.y <= x1.y1 + |x2||y2|: the product of rows of 64 numbers. They are rounded to 16-bit integers, and
by how much that can change a product is allowed for, so no pair is lost. Pairs that remain are
multiplied in full, in float32, within the same loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import threadpoolctl

from personahub.core.executors.threads import in_threads
from personahub.core.kernels import compiled

ROUNDING = 1e-5  # more than a float32 product of two unit vectors can be off
_WIDTH, _LANES, _ROWS = 64, 16, 8  # as in `kernels.vectors`
_LEADING = _WIDTH - 1  # components of the bound
_SCALE = 32_700  # of 1, so that norms a little above 1 fit
_ROUNDED_BY = 2.6e-4  # two rows of 64 numbers, each off by half of 1 / _SCALE
_SAMPLED = 8192
_AT_ONCE = 16_384
_TILES_AT_ONCE = 2048
_FOUND = 1 << 20
_MOST_CANDIDATES = 1 / 64  # of all pairs: beyond, computing all products is faster than looking at each candidate
_ANYWHERE = -(1 << 62)


@dataclass(frozen=True, eq=False)
class Bounds:
    """The rows of `vectors` (float32, norm 1) in integers (int16 [rows, 64])."""

    vectors: np.ndarray
    integers: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Bounds:
        """A basis from a sample, the rows a block at a time: `vectors` may be mapped from a file."""
        # Threads of BLAS wait for each other far longer than these small products take.
        with threadpoolctl.threadpool_limits(1, "blas"):
            sample = np.ascontiguousarray(vectors[:: max(1, len(vectors) // _SAMPLED)])
            moments = (sample.T @ sample).astype(np.float64)
            basis = np.eye(vectors.shape[1], min(_LEADING, vectors.shape[1]))
            for _ in range(8):  # subspace iteration; any orthonormal basis gives bounds, this one good ones
                basis, _ = np.linalg.qr(moments @ basis)
            integers = np.zeros((len(vectors), _WIDTH), np.int16)
            for first in range(0, len(vectors), _AT_ONCE):
                block = vectors[first : first + _AT_ONCE]
                leading = block @ basis.astype(np.float32)
                rest = np.einsum("ij,ij->i", block, block) - np.einsum("ij,ij->i", leading, leading)
                norm = np.sqrt(np.maximum(rest, 0) + 4e-6)  # rounding must not lower the bound
                integers[first : first + len(block), : leading.shape[1]] = np.rint(leading * _SCALE)
                integers[first : first + len(block), -1] = np.minimum(np.rint(norm * _SCALE), np.iinfo(np.int16).max)
        return cls(vectors, integers)

    def tells_enough(self, threshold: float) -> bool:
        """Whether the bound rules out so many pairs, of a sample, that it saves time."""
        few = self.integers[:: max(1, len(self.integers) // 1024)].astype(np.float32)
        return threshold > 0.01 and bool(np.mean(few @ few.T > self._limit(threshold)) <= _MOST_CANDIDATES)

    def _limit(self, threshold: float) -> int:
        return int((threshold - _ROUNDED_BY - ROUNDING) * _SCALE**2)

    def near(
        self, rows: np.ndarray, columns: Columns, threshold: float, after: int = _ANYWHERE
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions (int64) in `rows` and in `columns` of pairs that may have a cosine above `threshold`.

        Few of them have not. With `after`, only columns whose position is more than the row's plus `after`.
        """
        tiles = (columns.count + 2 * _LANES - 1) // (2 * _LANES) * 2
        integers = np.zeros((-(-len(rows) // _ROWS) * _ROWS, _WIDTH), np.int16)
        integers[: len(rows)] = self.integers[rows]
        limit, least = self._limit(threshold), threshold - ROUNDING

        def find(first: int) -> tuple[np.ndarray, np.ndarray]:
            last, room = min(first + _TILES_AT_ONCE, tiles), _FOUND
            while True:
                found_rows, found_columns = np.empty(room, np.int64), np.empty(room, np.int64)
                found = compiled.near_pairs(
                    integers, rows, columns.tiles, columns.ids[: columns.count], first, last, limit, self.vectors,
                    least, after, np.empty(2 * _ROWS, np.uint16), found_rows, found_columns,
                )  # fmt: skip
                if found >= 0:
                    return found_rows[:found].copy(), found_columns[:found].copy()
                room *= 8

        starts = range(max(0, after) // (2 * _LANES) * 2, tiles, _TILES_AT_ONCE)
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64)), *in_threads(find, starts)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@dataclass(eq=False)
class Columns:
    """Vectors to be searched, their integers laid out as `kernels.vectors` reads them; more can be added."""

    bounds: Bounds
    ids: np.ndarray  # int64, which vectors
    tiles: np.ndarray  # int16 [tiles, 1024]: of 16 columns two integers each, then the next two
    count: int = 0

    @classmethod
    def empty(cls, bounds: Bounds, room: int) -> Columns:
        """Room for so many columns; what is not used costs no memory."""
        tiles = (room + 2 * _LANES - 1) // (2 * _LANES) * 2
        return cls(bounds, np.empty(room, np.int64), np.zeros((tiles, _LANES * _WIDTH), np.int16))

    def add(self, ids: np.ndarray) -> None:
        """Put these vectors behind those that are there."""
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            position = self.count + np.arange(len(part))
            self.ids[position] = part
            laid_out = self.tiles.reshape(-1, _WIDTH // 2, _LANES, 2)
            laid_out[position // _LANES, :, position % _LANES] = self.bounds.integers[part].reshape(-1, _WIDTH // 2, 2)
            self.count += len(part)
