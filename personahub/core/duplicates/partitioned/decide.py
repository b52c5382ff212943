"""Decides which rows stay, given the similar pairs.

Applies the greedy rule of `Deduplication`. Memory holds one byte per row, the pairs whose later row is in one block,
and the rows that are equal to a dropped row. Collapsing chains takes 16 more bytes per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from personahub.core.duplicates.partitioned.blocks import Blocks
from personahub.core.duplicates.partitioned.spill import Spill, column
from personahub.core.duplicates.result import Deduplication
from personahub.core.kernels import compiled

_DECIDED = "decided"


@dataclass(frozen=True)
class Decided:
    """Decisions of one method. `alive` is a file with one bool per rank. `rows` and `dropped` are counts."""

    spill: Spill
    blocks: Blocks
    alive: Path
    rows: int
    dropped: int

    def by_survivor(self, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the rows that this block's survivors cover. Ranks, the survivors' ranks, and similarities."""
        rows = self.spill.read(_DECIDED, block)
        return column(rows, "rank"), column(rows, "survivor"), column(rows, "similarity")

    def load(self, threshold: float) -> Deduplication:
        """Loads all decisions. Rows are numbered without references, which come after all of them."""
        parts = [self.by_survivor(block) for block in range(len(self.blocks))]
        rank, survivor, similarity = (np.concatenate([part[i] for part in parts]) for i in range(3))
        references, rows = self.blocks.references, self.blocks.rows - self.blocks.references
        survivor_of, similarity_of = np.full(rows, -1, np.int64), np.zeros(rows)
        survivor_of[rank - references] = np.where(survivor < references, rows + survivor, survivor - references)
        similarity_of[rank - references] = similarity
        return Deduplication.from_survivors(threshold, survivor_of, similarity_of)


def decide(
    spill: Spill,
    blocks: Blocks,
    alive: Path | None,
    pairs: Sequence[str],
    repeats: str | None = None,
    collapse_chains: bool = False,
) -> Decided:
    """Visits rows by rank.

    A row is dropped if a row kept before it is similar, and the most similar one covers it.

    Args:
        spill: holds the named outputs.
        blocks: all rows.
        alive: file of bools that says which rows take part. None means all.
        pairs: outputs with `earlier`, `later` (ranks) and `similarity`, dealt by the block of the later row.
        repeats: output with `rank` and `leader` of rows that are equal to another row and have no pairs of their own.
        collapse_chains: whether to keep only the first of all rows that are connected by pairs. It covers the others.
            Their similarity is then that to the most similar row, whichever it is.
    """
    rule = _collapse if collapse_chains else _decide
    ((rows, dropped),) = spill.run("decide", rule, [0], blocks, alive, tuple(pairs), repeats)
    spill.drop(*pairs, *([repeats] if repeats else []))
    return Decided(replace(spill, files=dict(spill.files)), blocks, spill.folder / "alive" / "kept.npy", rows, dropped)


def _decide(
    spill: Spill, _: int, blocks: Blocks, alive: Path | None, outputs: tuple[str, ...], repeats: str | None
) -> tuple[int, int]:
    kept = np.ones(blocks.rows, np.bool_) if alive is None else np.load(alive)
    rows = int(kept[blocks.references :].sum())
    for block in range(len(blocks)):
        kept[_repeats(spill, block, blocks, repeats)[0]] = False
    for block in range(len(blocks)):
        earlier, later, similarity = _ranked(*_pairs(spill, block, outputs))
        chosen = np.empty(len(later), np.int64)
        chosen = chosen[: compiled.first_kept(later, earlier, kept, chosen)]
        _write(spill, block, blocks, later[chosen], earlier[chosen], similarity[chosen])
    orphans = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for block in range(len(blocks)):
        rank, leader = _repeats(spill, block, blocks, repeats)
        stays = kept[leader]
        _write(spill, len(blocks) + block, blocks, rank[stays], leader[stays], np.ones(int(stays.sum())))
        orphans[0].append(rank[~stays])
        orphans[1].append(leader[~stays])
    rank, leader = (np.concatenate(part) for part in orphans)
    pairs = (_pairs(spill, block, outputs) for block in range(len(blocks)))
    _write(spill, 2 * len(blocks), blocks, *_by_leader(rank, leader, kept, pairs))
    spill.save("alive", "kept", kept=kept)
    return rows, rows - int(kept[blocks.references :].sum())


def _collapse(
    spill: Spill, _: int, blocks: Blocks, alive: Path | None, outputs: tuple[str, ...], repeats: str | None
) -> tuple[int, int]:
    kept = np.ones(blocks.rows, np.bool_) if alive is None else np.load(alive)
    rows = int(kept[blocks.references :].sum())
    root, best = np.arange(blocks.rows), np.zeros(blocks.rows)
    for block in range(len(blocks)):
        rank, leader = _repeats(spill, block, blocks, repeats)
        earlier, later, similarity = _pairs(spill, block, outputs)
        for a, b, value in ((leader, rank, np.ones(len(rank))), (earlier, later, similarity)):
            compiled.join(root, a, b)
            np.maximum.at(best, a, value)
            np.maximum.at(best, b, value)
    compiled.flatten(root)
    for block in range(len(blocks)):
        first, last = max(blocks.first[block], blocks.references), blocks.first[block + 1]
        rank = first + np.flatnonzero(root[first:last] != np.arange(first, last))
        kept[rank] = False
        _write(spill, block, blocks, rank, root[rank], best[rank])
    spill.save("alive", "kept", kept=kept)
    return rows, rows - int(kept[blocks.references :].sum())


def _write(
    spill: Spill, number: int, blocks: Blocks, rank: np.ndarray, survivor: np.ndarray, similarity: np.ndarray
) -> None:
    """Deals dropped rows to the blocks of their survivors."""
    columns = {"rank": rank, "survivor": survivor, "similarity": similarity}
    spill.write(_DECIDED, number, columns, blocks.block_of(survivor), len(blocks))


def _repeats(spill: Spill, block: int, blocks: Blocks, output: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ranks and leaders of rows that repeat another row.

    References are left out, because they always stay.
    """
    if output is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = spill.read(output, block)
    rank, leader = column(rows, "rank"), column(rows, "leader")
    new = rank >= blocks.references
    return rank[new], leader[new]


def _pairs(spill: Spill, block: int, outputs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Earlier, later, similarity of pairs whose later row is in a block."""
    parts = [batch for output in outputs for batch in spill.batches(output, block)]
    none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    names = ("earlier", "later", "similarity")
    earlier, later, similarity = (
        np.concatenate([start, *(column(part, name) for part in parts)])
        for name, start in zip(names, none, strict=True)
    )
    return earlier, later, similarity


def _ranked(earlier: np.ndarray, later: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, ...]:
    """By the later row, then the most similar first, then the earliest."""
    order = np.lexsort((earlier, -similarity, later))
    return earlier[order], later[order], similarity[order]


def _by_leader(
    rank: np.ndarray, leader: np.ndarray, kept: np.ndarray, pairs: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds survivors of rows equal to a dropped row. A survivor was kept before them and is similar to it."""
    leaders = np.unique(leader)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for earlier, later, similarity in pairs:
        for one, other in ((earlier, later), (later, earlier)):
            chosen = np.flatnonzero(np.isin(one, leaders) & kept[other])
            found.append((one[chosen], other[chosen], similarity[chosen]))
    one, other, similarity = (np.concatenate([part[i] for part in found]) for i in range(3))
    order = np.argsort(one, kind="stable")
    one, other, similarity = one[order], other[order], similarity[order]
    first, last = np.searchsorted(one, leader), np.searchsorted(one, leader, side="right")
    row = np.repeat(np.arange(len(rank)), last - first)
    pair = np.arange(len(row)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[row]
    before = other[pair] < rank[row]
    row, pair = row[before], pair[before]
    order = np.lexsort((other[pair], -similarity[pair], row))
    row, pair = row[order], pair[order]
    best = np.flatnonzero(np.diff(row, prepend=-1))
    return rank[row[best]], other[pair[best]], similarity[pair[best]]
