"""Upper bounds of cosines, from 64 small integers per vector.

At a high threshold they rule out nearly all pairs.

    bounds = Bounds.of(vectors)
    columns = Columns.empty(bounds, len(vectors))
    columns.add(np.arange(len(vectors)))
    rows, positions = bounds.near(np.arange(100), columns, threshold=0.9)

Let x1 be the 63 leading components of x in the basis of the principal components, and x2 the rest. Then
x.y <= x1.y1 + |x2||y2|, which is the product of two rows of 64 numbers. The numbers are rounded to 16-bit integers.
The limit allows for the largest change that rounding can cause, so no pair is lost. The remaining pairs are
multiplied in full, in float32, in the same loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import threadpoolctl

from personahub.core.executors.threads import in_threads
from personahub.core.kernels import compiled

ROUNDING = 1e-5  # larger than the error of a float32 product of two unit vectors
_WIDTH, _LANES, _ROWS = 64, 16, 8  # as in `kernels.vectors`
_LEADING = _WIDTH - 1  # components of the bound
_SCALE = 32_700  # the integer for 1, so that norms slightly above 1 fit
_ROUNDED_BY = 2.6e-4  # for two rows of 64 numbers, each off by up to half of 1 / _SCALE
_SAMPLED = 8192
_AT_ONCE = 16_384
_TILES_AT_ONCE = 2048
_FOUND = 1 << 20
_MOST_CANDIDATES = 1 / 64  # of all pairs; above this, computing all products is faster than examining candidates
_ANYWHERE = -(1 << 62)


@dataclass(frozen=True, eq=False)
class Bounds:
    """The rows of `vectors` (float32, norm 1) as integers (int16 [rows, 64])."""

    vectors: np.ndarray
    integers: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Bounds:
        """Computes a basis from a sample, and the integers block by block. `vectors` may be a mapped file."""
        # BLAS threads would wait for each other far longer than these small products take.
        with threadpoolctl.threadpool_limits(1, "blas"):
            sample = np.ascontiguousarray(vectors[:: max(1, len(vectors) // _SAMPLED)])
            moments = (sample.T @ sample).astype(np.float64)
            basis = np.eye(vectors.shape[1], min(_LEADING, vectors.shape[1]))
            for _ in range(
                8
            ):  # subspace iteration: any orthonormal basis gives valid bounds, this one gives tight bounds
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

    def saves_time(self, threshold: float) -> bool:
        """Returns whether the bound rules out enough pairs of a sample to save time."""
        few = self.integers[:: max(1, len(self.integers) // 1024)].astype(np.float32)
        return threshold > 0.01 and bool(np.mean(few @ few.T > self._limit(threshold)) <= _MOST_CANDIDATES)

    def _limit(self, threshold: float) -> int:
        return int((threshold - _ROUNDED_BY - ROUNDING) * _SCALE**2)

    def near(
        self, rows: np.ndarray, columns: Columns, threshold: float, after: int = _ANYWHERE
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds pairs that may exceed `threshold`.

        Returns positions (int64) in `rows` and `columns`. Nearly all of them do. With `after`, only columns whose
        position is greater than the row's plus `after`.
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
    """Vectors to search, with integers in the layout that `kernels.vectors` reads. More can be added."""

    bounds: Bounds
    ids: np.ndarray  # int64, indices of the vectors
    tiles: np.ndarray  # int16 [tiles, 1024]: two integers of each of 16 columns, then the next two
    count: int = 0

    @classmethod
    def empty(cls, bounds: Bounds, room: int) -> Columns:
        """Allocates room for `room` columns. Unused room costs no memory."""
        tiles = (room + 2 * _LANES - 1) // (2 * _LANES) * 2
        return cls(bounds, np.empty(room, np.int64), np.zeros((tiles, _LANES * _WIDTH), np.int16))

    def add(self, ids: np.ndarray) -> None:
        """Appends vectors."""
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            position = self.count + np.arange(len(part))
            self.ids[position] = part
            laid_out = self.tiles.reshape(-1, _WIDTH // 2, _LANES, 2)
            laid_out[position // _LANES, :, position % _LANES] = self.bounds.integers[part].reshape(-1, _WIDTH // 2, 2)
            self.count += len(part)
