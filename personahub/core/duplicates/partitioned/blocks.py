"""Sorts texts into visiting order and cuts them into blocks.

Memory is bounded by one block.

    blocks = cut(spill, source)
    blocks.read(3)["text"]       # texts of block 3
    blocks.first[3]              # rank of the first of them

The rank of a row is its position in visiting order, and it identifies the row from here on. Of two near-duplicates
the one with the lower rank survives. The block of a rank is found by bisection.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from personahub.core.duplicates.partitioned.spill import Spill

_SAMPLED_SHARDS = 16
_SAMPLED_ROWS = 4096  # of each
_ROW_BITS = 32  # lower bits of a place; the upper bits are the shard


class Source(Protocol):
    """Rows to compare, read one shard at a time. Tasks get copies of this object."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Number of rows in each shard."""
        ...

    def read(self, shard: int) -> pa.Table:
        """Reads `id` (string), `text` (large_string) and optional `best` (float64).

        The highest `best` is visited first.
        """
        ...


@dataclass(frozen=True)
class Order:
    """The visiting order: by `best`, if there is such a column, and `id`, or as given."""

    given: bool

    def sort(self, table: pa.Table) -> pa.Table:
        """Sorts rows into visiting order. NaN and null come last, and ties keep their order."""
        if self.given:
            return table.sort_by("place")
        best = [("best", "descending")] if "best" in table.column_names else []
        return table.sort_by([*best, ("id", "ascending"), ("place", "ascending")])

    def key(self, table: pa.Table, row: int) -> tuple[Any, ...]:
        """Returns the sort key of one row."""
        if self.given:
            return (table["place"][row].as_py(),)
        best = table["best"][row].as_py() if "best" in table.column_names else 0.0
        name = table["id"][row].as_py()
        if best is None or math.isnan(best):
            return (2 if best is None else 1, 0.0, name)
        return (0, -best, name)


@dataclass(frozen=True)
class Blocks:
    """Blocks of sorted rows.

    `first[i]` is the rank of the first row of block `i`, `first[-1]` the number of rows. The lowest `references`
    ranks belong to an existing collection. They stay and are not compared with each other.
    """

    folder: Path
    files: tuple[str, ...]
    first: tuple[int, ...]
    references: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def rows(self) -> int:
        return self.first[-1]

    def read(self, block: int) -> pa.Table:
        """Reads the columns `id`, `text` and `place` of one block."""
        with pa.memory_map(str(self.folder / self.files[block])) as file:
            return pa.ipc.open_file(file).read_all()

    def alive(self, block: int, alive: Path | None) -> np.ndarray:
        """Returns the ranks of the block's rows that earlier methods kept. `alive` is a file with one bool per rank."""
        first, last = self.first[block : block + 2]
        if alive is None:
            return np.arange(first, last)
        return first + np.flatnonzero(np.load(alive, mmap_mode="r")[first:last])

    def texts(self, block: int, ranks: np.ndarray) -> pa.ChunkedArray:
        """Returns the texts of some rows of a block."""
        text: Any = self.read(block)["text"]
        return text if len(ranks) == len(text) else text.take(pa.array(ranks - self.first[block]))

    def block_of(self, ranks: np.ndarray) -> np.ndarray:
        """Returns the block (int64) of each rank."""
        return np.searchsorted(np.array(self.first), ranks, side="right") - 1


def place_of(shard: int, rows: int) -> np.ndarray:
    """Returns the places (int64) of the rows of a shard."""
    return (shard << _ROW_BITS) + np.arange(rows, dtype=np.int64)


def shard_and_row(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shard of each place, and the row in the shard."""
    return places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)


def cut(spill: Spill, source: Source, old: Source | None = None, given: bool = True) -> Blocks:
    """Sorts rows into `spill.partitions` blocks of similar size, those of `old` first.

    Args:
        spill: holds the blocks.
        source: the rows.
        old: an existing collection, always in the order given.
        given: whether to visit rows in the order given instead of by `best` and `id`.
    """
    files, first, references = [], [0], 0
    for name, rows, order in (("old", old, Order(given=True)), ("new", source, Order(given))):
        if rows is None:
            continue
        splitters = _splitters(rows, order, spill.partitions)
        blocks = range(len(splitters) + 1)
        spill.run(f"{name}_cut", _cut, range(len(rows.rows)), rows, order, splitters, name)
        counts = spill.run(f"{name}_sort", _sort, blocks, order, name, not rows.rows)
        spill.drop(f"{name}_cut")
        files += [f"{name}/{block:05d}.arrow" for block in blocks]
        for count in counts:
            first.append(first[-1] + count)
        references = first[-1] if name == "old" else references
    return Blocks(spill.folder, tuple(files), tuple(first), references)


def _splitters(source: Source, order: Order, blocks: int) -> list[tuple[Any, ...]]:
    """Keys at which the blocks after the first one begin. For sorted rows they come from a sample."""
    if order.given:
        ends = np.cumsum(source.rows)
        starts = [int(ends[-1]) * block // blocks for block in range(1, blocks)] if len(ends) else []
        shards = np.searchsorted(ends, starts, side="right").tolist()
        return [
            ((shard << _ROW_BITS) + start - int(ends[shard]) + source.rows[shard],)
            for shard, start in zip(shards, starts, strict=True)
            if shard < len(source.rows)
        ]
    shards = len(source.rows)
    keys = []
    for shard in sorted({shards * i // _SAMPLED_SHARDS for i in range(_SAMPLED_SHARDS)} if shards else ()):
        table = order.sort(_placed(source, shard).drop_columns(["text"]))
        rows = sorted({len(table) * i // _SAMPLED_ROWS for i in range(_SAMPLED_ROWS)}) if len(table) else []
        keys += [order.key(table, row) for row in rows]
    keys.sort()
    return [keys[len(keys) * block // blocks] for block in range(1, blocks)] if keys else []


def _placed(source: Source, shard: int) -> pa.Table:
    table = source.read(shard)
    return table.append_column("place", pa.array(place_of(shard, len(table))))


def _cut(spill: Spill, shard: int, source: Source, order: Order, splitters: list[tuple[Any, ...]], name: str) -> None:
    """Deals the rows of one shard to blocks."""
    table = order.sort(_placed(source, shard))
    starts = [bisect.bisect_left(range(len(table)), key, key=lambda row: order.key(table, row)) for key in splitters]
    destination = np.searchsorted(np.array(starts, np.int64), np.arange(len(table)), side="right")
    spill.write(
        f"{name}_cut", shard, dict(zip(table.column_names, table.columns, strict=True)), destination, len(splitters) + 1
    )


def _sort(spill: Spill, block: int, order: Order, name: str, is_empty: bool) -> int:
    """Merges the rows that all shards have for one block. Returns their number."""
    if is_empty:
        table = pa.table(
            {"id": pa.array([], pa.string()), "text": pa.array([], pa.large_string()), "place": place_of(0, 0)}
        )
    else:
        table = order.sort(spill.read(f"{name}_cut", block))
    columns = {column: table[column] for column in ("id", "text", "place")}
    spill.write(name, block, columns, np.zeros(len(table), np.int64), 1)
    return len(table)
