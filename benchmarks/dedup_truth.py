"""Make personas with planted near-duplicates, and find all near-duplicates without our code.

Personas are recombined from the heads and tails of real ones, and every eighth row is a
near-duplicate of another: its words shuffled, one removed, added or replaced. Texts are lower
case and have no punctuation, so that all tools see the same words.

`find_truth` is a separate exact join on the words themselves instead of hashes. Of two sets at
Jaccard >= 0.9, the smaller lacks at most d = |A| - ceil(0.9 |A|) words of the larger one, so the
d + 3 rarest words of each share at least three (prefix filter, extended to three words). Sets
that share such a triple are compared word by word. `partners` compares one row with every other
row, to check a sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

THRESHOLD = 0.9
_BLOCK = 500_000  # rows made at once
_PLANTED = 0.13
_CANDIDATES = 4_000_000  # pairs checked at once


@dataclass(frozen=True)
class Ragged:
    """Row `i` is `flat[start[i] : start[i + 1]]`."""

    flat: np.ndarray
    start: np.ndarray

    @classmethod
    def gather(cls, flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Make rows of parts: `begins` and `lengths` are [rows, parts] positions in `flat`."""
        start = np.concatenate([[0], np.cumsum(lengths.sum(axis=1))])
        begins, lengths = begins.ravel(), lengths.ravel()
        ends = np.cumsum(lengths)
        index = np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        return cls(flat[index], start)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.start)


def make(personas: list[list[str]], rows: int, seed: int = 0) -> Iterator[pa.Array]:
    """Yield texts, a block at a time."""
    vocabulary, flat = np.unique(np.array([word for words in personas for word in words]), return_inverse=True)
    words = pa.array(vocabulary.tolist(), pa.string())
    start = np.concatenate([[0], np.cumsum([len(persona) for persona in personas])])
    source = Ragged(flat.astype(np.int32), start)
    rng = np.random.default_rng(seed)
    for first in range(0, rows, _BLOCK):
        made = _block(rng, source, min(_BLOCK, rows - first))
        lists = pa.ListArray.from_arrays(pa.array(made.start, pa.int32()), words.take(pa.array(made.flat)))
        yield pc.call_function("binary_join", [lists, " "])


def _block(rng: np.random.Generator, source: Ragged, rows: int) -> Ragged:
    copies = int(rows * _PLANTED)
    head, tail = rng.integers(len(source.lengths), size=(2, rows - copies))
    taken = 1 + (rng.random(len(head)) * source.lengths[head]).astype(int)
    skipped = (rng.random(len(tail)) * source.lengths[tail]).astype(int)
    begins = np.stack([source.start[head], source.start[tail] + skipped], axis=1)
    base = Ragged.gather(source.flat, begins, np.stack([taken, source.lengths[tail] - skipped], axis=1))

    # A copy: the words before a place, perhaps another word, then the words from there on or from the next.
    original, kind = rng.integers(len(head), size=copies), rng.integers(4, size=copies)
    length = base.lengths[original]
    place = (rng.random(copies) * length).astype(int)
    other = len(base.flat) + rng.integers(len(source.flat), size=copies)
    skip = np.isin(kind, (1, 3))  # removed, replaced
    begins = np.stack([base.start[original], other, base.start[original] + place + skip], axis=1)
    lengths = np.stack([place, np.isin(kind, (2, 3)) | (length == 1), length - place - skip], axis=1)
    varied = Ragged.gather(np.concatenate([base.flat, source.flat]), begins, lengths)
    row = np.repeat(np.arange(copies), varied.lengths)
    within = np.where(kind[row] == 0, rng.random(len(row)), np.arange(len(row)) - varied.start[row])
    varied = Ragged(varied.flat[np.lexsort((within, row))], varied.start)

    both = Ragged(
        np.concatenate([base.flat, varied.flat]), np.concatenate([base.start, base.start[-1] + varied.start[1:]])
    )
    order = rng.permutation(rows)
    return Ragged.gather(both.flat, both.start[order][:, None], both.lengths[order][:, None])


def word_sets(texts: pa.ChunkedArray) -> Ragged:
    """Return the distinct words of each text as ascending numbers; rarer words have smaller numbers."""
    lists = [pc.call_function("split_pattern", [chunk], pc.SplitPatternOptions(" ")) for chunk in texts.chunks]
    counts = np.concatenate([pc.call_function("list_value_length", [part]).to_numpy() for part in lists])
    words = pa.chunked_array([part.flatten() for part in lists]).combine_chunks().dictionary_encode()
    number = words.indices.to_numpy()
    rarity = np.argsort(np.argsort(np.bincount(number), kind="stable"), kind="stable")
    row = np.repeat(np.arange(len(counts)), counts)
    key = np.unique(row << 24 | rarity[number])
    return Ragged((key & 0xFFFFFF).astype(np.int32), np.concatenate([[0], np.cumsum(np.bincount(key >> 24))]))


@dataclass(frozen=True)
class Truth:
    """For each row, the first row with the same set; and all pairs of such first rows at Jaccard >= 0.9."""

    leader: np.ndarray
    pairs: np.ndarray  # [pairs, 2], each ascending

    def kept_first(self) -> np.ndarray:
        """Return the rows that remain if each row is dropped that is similar to one kept before it."""
        kept = self.leader == np.arange(len(self.leader))
        for earlier, later in self.pairs[np.argsort(self.pairs[:, 1], kind="stable")].tolist():
            if kept[earlier]:  # all pairs in which `earlier` is the later one are done
                kept[later] = False
        return kept

    def judge(self, kept: np.ndarray) -> tuple[float, float, float]:
        """Return recall and precision.

        Recall: pairs with at least one dropped row, of all pairs and of those with different sets.
        Precision: dropped rows that have a similar row among the kept ones.
        """
        same = np.flatnonzero(self.leader != np.arange(len(self.leader)))
        of_same = ~(kept[same] & kept[self.leader[same]])
        of_near = ~(kept[self.pairs[:, 0]] & kept[self.pairs[:, 1]])
        present = np.zeros(len(kept), bool)
        present[self.leader[kept]] = True
        covered = present.copy()
        for one, other in ((0, 1), (1, 0)):
            np.logical_or.at(covered, self.pairs[:, one], present[self.pairs[:, other]])
        precision = covered[self.leader[~kept]].mean()
        return float(np.concatenate([of_same, of_near]).mean()), float(of_near.mean()), float(precision)

    def check(self, sets: Ragged, rows: np.ndarray) -> None:
        """Compare the partners of some rows with those found by brute force."""
        for row in rows.tolist():
            pairs = self.pairs[(self.pairs == self.leader[row]).any(axis=1)]
            groups = np.unique([self.leader[row], *pairs.ravel()])
            expected = np.unique([self.leader[row], *self.leader[partners(sets, row)]])
            if not np.array_equal(groups, expected):
                raise SystemExit(f"the join on all rows and brute force differ on row {row}: {groups} and {expected}")


def find_truth(sets: Ragged) -> Truth:
    """Join all rows."""
    leader, size = _leaders(sets), sets.lengths
    sketch = np.bitwise_or.reduceat(np.uint64(1) << (sets.flat % 61).astype(np.uint64), sets.start[:-1])
    keys, rows = _triples(sets, np.flatnonzero((leader == np.arange(len(leader))) & (size >= 9)))
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    pairs, left, distance = [np.empty((0, 2), np.int64)], np.arange(len(keys)), 1
    while len(left := left[: np.searchsorted(left, len(keys) - distance)]):
        left = left[keys[left] == keys[left + distance]]  # only these matter for the next distance
        pairs.append(_similar(sets, size, sketch, rows[left], rows[left + distance]))
        distance += 1
    return Truth(leader, np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0))


def _leaders(sets: Ragged) -> np.ndarray:
    """Return the first row with the same set, compared as bytes."""
    first: dict[bytes, int] = {}
    flat, start = sets.flat.tobytes(), (sets.start * sets.flat.itemsize).tolist()
    return np.array([first.setdefault(flat[a:b], row) for row, (a, b) in enumerate(itertools.pairwise(start))])


def _triples(sets: Ragged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = sets.lengths[rows]
    prefix = np.minimum(size - np.ceil(THRESHOLD * size - 1e-9).astype(int) + 3, size)
    keys, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for length in np.unique(prefix).tolist():
        chosen = rows[prefix == length]
        rarest = sets.flat[sets.start[chosen][:, None] + np.arange(length)].astype(np.int64)
        for a, b, c in itertools.combinations(range(length), 3):
            keys.append(rarest[:, a] << 42 | rarest[:, b] << 21 | rarest[:, c])
            owners.append(chosen)
    return np.concatenate(keys), np.concatenate(owners)


def _similar(sets: Ragged, size: np.ndarray, sketch: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    found = [np.empty((0, 2), np.int64)]
    for first in range(0, len(left), _CANDIDATES):
        a, b = left[first : first + _CANDIDATES], right[first : first + _CANDIDATES]
        total = size[a] + size[b]
        apart = total - 2 * np.ceil(THRESHOLD / (1 + THRESHOLD) * total - 1e-9).astype(int)
        likely = (np.abs(size[a] - size[b]) <= apart) & (np.bitwise_count(sketch[a] ^ sketch[b]) <= apart)
        unique = np.unique(np.stack([a[likely], b[likely]], axis=1), axis=0)
        similar = [jaccard(sets, x, y) >= THRESHOLD for x, y in unique.tolist()]
        found.append(unique[np.array(similar, bool)])
    return np.concatenate(found)


def jaccard(sets: Ragged, a: int, b: int) -> float:
    """Return the shared words over all words of two rows."""
    left, right = (set(sets.flat[sets.start[row] : sets.start[row + 1]].tolist()) for row in (a, b))
    return len(left & right) / len(left | right)


def partners(sets: Ragged, row: int) -> np.ndarray:
    """Find all other rows at Jaccard >= 0.9 by comparing the row with each of them."""
    own = np.zeros(int(sets.flat.max()) + 1, bool)
    own[sets.flat[sets.start[row] : sets.start[row + 1]]] = True
    common = np.add.reduceat(own[sets.flat].astype(np.int32), sets.start[:-1])
    similar = np.flatnonzero(common / (sets.lengths + own.sum() - common) >= THRESHOLD)
    return similar[similar != row]
