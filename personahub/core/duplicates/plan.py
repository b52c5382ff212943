"""What a Jaccard threshold means for word sets of each size: by how much similar ones can differ, and how to find them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_MAX_SIGNATURES = 36  # per set and scheme, of rarest words: more of them are more selective, and cost more memory
_MAX_SHARED = 6
_MAX_DIFFERING = 4  # words, for which two parts are to agree: 15 choices of two
_WORDS_PER_PART = 6  # with fewer, parts of frequent words only, or of none, are shared by too many sets
TWO_PARTS = 1 << 32  # below minus this, a scheme asks that two parts agree


@dataclass(frozen=True, eq=False)
class Plan:
    """How all pairs at or above a threshold are found; arrays are indexed by set size, from 0 to the largest.

    `one_word_apart`: sizes (first, last) of the larger set of pairs that differ by one word and
    are looked up directly. All other pairs have two sets of `least` words or more, and share a
    signature of the smaller one's scheme: `n` of a set's rarest words (positive), one of `-n`
    parts, or two of `-TWO_PARTS - n` parts. `schemes[scheme_start[size] : scheme_start[size + 1]]` lists the schemes that a set of a
    size needs, whether it is the smaller or the larger of a pair; `signatures` is how many
    signatures these make, and `spare` the most words of a set that a similar one lacks.
    """

    one_word_apart: tuple[int, int]
    least: int
    spare: np.ndarray
    scheme_start: np.ndarray
    schemes: np.ndarray
    signatures: np.ndarray


def make_plan(threshold: float, largest: int) -> Plan:
    """Plan for sets of at most `largest` words.

    Bounds come from the comparison that decides in the end, `overlap / union >= threshold` in
    double precision, so that rounding cannot lose a pair that sits on the threshold.
    """
    sizes = range(1, largest + 1)
    least_overlap = np.zeros(largest + 1, np.int64)  # fewest words that a similar set of any size shares
    for size in sizes:
        overlap = max(int(least_overlap[size - 1]), 1)
        while overlap / size < threshold:
            overlap += 1
        least_overlap[size] = overlap
    spare = np.arange(largest + 1) - least_overlap

    # Two different words: `size` against `size + 2` is the closest such pair, closer than a swap of one word.
    least = next((size for size in sizes if size / (size + 2) >= threshold), largest + 1)
    first = next((size for size in sizes if size > 1 and (size - 1) / size >= threshold), largest + 1)
    of_smaller = np.zeros(largest + 1, np.int64)
    for low, high in _bands(threshold, least, largest):
        of_smaller[low : high + 1] = _scheme(threshold, low, high, least_overlap)

    scheme_start = np.zeros(largest + 2, np.int64)
    schemes: list[int] = []
    signatures = np.zeros(largest + 1, np.int64)
    for size in range(largest + 1):
        if size >= least:
            needed = np.unique(of_smaller[max(least, least_overlap[size]) : size + 1]).tolist()
            schemes += needed
            signatures[size] = sum(_signatures(scheme, size, int(spare[size])) for scheme in needed)
        scheme_start[size + 1] = len(schemes)
    return Plan((first, min(least, largest)), least, spare, scheme_start, np.array(schemes, np.int64), signatures)


def _bands(threshold: float, least: int, largest: int) -> Iterator[tuple[int, int]]:
    """Ranges of sizes, each so wide that the sizes of sets similar to a given one lie in two of them at most."""
    low = least
    while low <= largest:
        high = min(int(low / threshold), largest)
        yield low, high
        low = high + 1


def _scheme(threshold: float, low: int, high: int, least_overlap: np.ndarray) -> int:
    """The scheme for pairs whose smaller set has `low` to `high` words.

    Parts (pigeonhole): sets that differ by `d` words agree on one of `d + 1` parts of the
    vocabulary, and on two of `d + 2`: more signatures, that far fewer sets share by chance. For a
    smaller set of `a` words, d <= a (1 - t) / t.
    """
    parts = int(high * (1 - threshold) / threshold + 1e-6) + 1
    if low >= _WORDS_PER_PART * parts:
        return -parts if parts - 1 > _MAX_DIFFERING else -TWO_PARTS - (parts + 1)
    spare, overlap = high - int(least_overlap[high]), int(least_overlap[low])
    fitting = [n for n in range(1, min(_MAX_SHARED, overlap) + 1) if math.comb(spare + n, n) <= _MAX_SIGNATURES]
    return max(fitting, default=1)


def _signatures(scheme: int, size: int, spare: int) -> int:
    if scheme < -TWO_PARTS:
        return math.comb(-scheme - TWO_PARTS, 2)
    return -scheme if scheme < 0 else math.comb(min(spare + scheme, size), scheme)
