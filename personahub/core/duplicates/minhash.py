"""Finds near-duplicates by MinHash over word n-grams, and verifies all candidates.

    result = deduplicate(texts, threshold=0.9, ngram=5)

This is for long texts, and for comparison with the paper (arXiv 2406.20094, section 2: 128 permutations, 1-grams,
0.9). The signatures are computed by rensa. Rows that agree on all permutations of a band are compared by their
n-grams, so every dropped row has a survivor at the threshold: precision is 1. Recall is below 1. With `r`
permutations in each of `b` bands, a pair at similarity J is missed with probability (1 - J^r)^b. `bands` chooses
them so that a pair exactly at the threshold is found with probability 0.999. This gives more candidates than the
usual choice, and verification removes them.

On texts as short as personas, `surface` is exact and several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personahub.core.duplicates.greedy import Groups, Lists
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.surface import check_threshold
from personahub.core.duplicates.word_sets import Texts, read_sets
from personahub.core.errors import UserError

PERMUTATIONS = 128
RECALL = 0.999  # of pairs at the threshold
_SEED = 42
_ROWS_AT_ONCE = 8192  # rensa returns signatures as Python numbers


def deduplicate(
    texts: Texts,
    threshold: float = 0.9,
    priority: Priority | None = None,
    against: Texts | None = None,
    *,
    ngram: int = 1,
    permutations: int = PERMUTATIONS,
) -> Deduplication:
    """Drops each text that is similar to a text kept before it.

    Its n-grams have a Jaccard similarity >= `threshold`.

    Args:
        texts, priority, against: as for `surface.deduplicate`.
        threshold: in (0, 1].
        ngram: consecutive words that form one element. A text of fewer words is one element.
        permutations: length of the signatures. Longer signatures miss fewer pairs.

    Raises:
        UserError: the threshold, the n-gram or the number of permutations is out of range, or a text is null.
    """
    return sweep(texts, [threshold], priority, against, ngram=ngram, permutations=permutations)[0]


def sweep(
    texts: Texts,
    thresholds: Sequence[float],
    priority: Priority | None = None,
    against: Texts | None = None,
    *,
    ngram: int = 1,
    permutations: int = PERMUTATIONS,
) -> list[Deduplication]:
    """Same as `deduplicate` at several thresholds, reading the texts once."""
    for threshold in thresholds:
        check_threshold(threshold)
    if ngram < 1 or permutations < 1:
        raise UserError(f"ngram is {ngram} and permutations is {permutations}: both must be at least 1")
    rows, sets = read_sets(texts, against, ngram)
    groups = Groups.of(sets, rows, priority)
    edges = Lists(np.zeros(len(groups.order) + 1, np.int64), np.empty(0, np.int32))
    return [
        Deduplication.from_survivors(
            threshold,
            *groups.keep_first(threshold, edges, _signatures(groups, permutations, *bands(threshold, permutations))),
        )
        for threshold in thresholds
    ]


def bands(threshold: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """Returns the number and length of bands. They are the longest ones that find `RECALL` of the pairs."""
    for length in range(permutations, 1, -1):
        count = permutations // length
        if 1 - (1 - threshold**length) ** count >= RECALL:
            return count, length
    return permutations, 1


def _signatures(groups: Groups, permutations: int, count: int, length: int) -> Lists:
    """Computes the bands (uint64) that each leader shares with another."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

    sets, everything = groups.sets, len(groups.order)
    leaders = np.flatnonzero(groups.leader == np.arange(everything))
    keys = np.empty((len(leaders), count), np.uint64)
    weights = np.random.default_rng(_SEED).integers(1, 1 << 63, size=(count, length), dtype=np.uint64) | np.uint64(1)
    for first in range(0, len(leaders), _ROWS_AT_ONCE):
        rows = leaders[first : first + _ROWS_AT_ONCE]
        sizes = sets.sizes[rows].astype(np.int64)
        ends = np.cumsum(sizes)
        words = sets.words[np.repeat(sets.start[rows] - (ends - sizes), sizes) + np.arange(ends[-1])]
        offsets = np.concatenate([[0], ends]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(words, offsets, permutations, _SEED)
        digests = np.array(matrix.to_rows(), np.uint64)
        bands_of_rows = digests[:, : count * length].reshape(len(rows), count, length)
        keys[first : first + len(rows)] = _mix((bands_of_rows * weights).sum(axis=2, dtype=np.uint64))
    # A band that occurs once matches nothing.
    _, inverse, times = np.unique(keys, return_inverse=True, return_counts=True)
    shared = times[inverse.reshape(keys.shape)] > 1
    held = np.zeros(everything, np.int64)
    held[leaders] = shared.sum(axis=1)
    return Lists(np.concatenate([[0], np.cumsum(held)]), keys[shared])


def _mix(values: np.ndarray) -> np.ndarray:
    """Applies most of the SplitMix64 finalizer. All bits of a sum then count in a hash table."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(27))
