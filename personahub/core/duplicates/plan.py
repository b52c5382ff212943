"""Plans how to find similar word sets of each size at a Jaccard threshold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_MAX_SIGNATURES = 36  # of rarest words, per set and scheme; more are more selective and take more memory
_MAX_SHARED = 6
_MAX_DIFFERING = 4  # words for which two parts must agree: 15 choices of two
_WORDS_PER_PART = 6  # with fewer, too many sets share parts that are empty or have only frequent words
TWO_PARTS = 1 << 32  # schemes below -TWO_PARTS require two parts to agree


@dataclass(frozen=True, eq=False)
class Plan:
    """How to find all pairs at or above a threshold.

    Arrays are indexed by set size, from 0 to the largest.

    Attributes:
        one_word_apart: sizes (first, last) of the larger set in pairs that differ by one word and are looked up
            directly. All other pairs have two sets of at least `least` words, and share a signature of the smaller
            set's scheme.
        least: fewest words of a set that needs signatures.
        spare: the most words of a set that a similar set can lack.
        scheme_start: `schemes[scheme_start[size] : scheme_start[size + 1]]` are the schemes that a set needs,
            whether it is the smaller or the larger of a pair.
        schemes: a positive `n` stands for `n` of a set's rarest words, a negative one for one of `-n` parts, and one
            below -TWO_PARTS for two of `-TWO_PARTS - n` parts.
        signatures: number of signatures of these schemes.
    """

    one_word_apart: tuple[int, int]
    least: int
    spare: np.ndarray
    scheme_start: np.ndarray
    schemes: np.ndarray
    signatures: np.ndarray


def make_plan(threshold: float, largest: int) -> Plan:
    """Makes the plan for sets of at most `largest` words.

    Bounds come from the final comparison itself, `overlap / union >= threshold` in double precision, so rounding
    cannot lose a pair that is exactly at the threshold.
    """
    sizes = range(1, largest + 1)
    least_overlap = np.zeros(largest + 1, np.int64)  # fewest words that a similar set shares
    for size in sizes:
        overlap = max(int(least_overlap[size - 1]), 1)
        while overlap / size < threshold:
            overlap += 1
        least_overlap[size] = overlap
    spare = np.arange(largest + 1) - least_overlap

    # The closest pair that differs by two words is `size` and `size + 2`. It is closer than a swap of one word.
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
    """Yields ranges of set sizes. Sets similar to a given set are in at most two of them."""
    low = least
    while low <= largest:
        high = min(int(low / threshold), largest)
        yield low, high
        low = high + 1


def _scheme(threshold: float, low: int, high: int, least_overlap: np.ndarray) -> int:
    """Chooses the scheme for pairs whose smaller set has `low` to `high` words.

    Sets that differ by `d` words agree on one of `d + 1` parts of the vocabulary, and on two of `d + 2` parts
    (pigeonhole). Two parts give more signatures, but far fewer sets share them by chance. For a smaller set of `a`
    words, d <= a (1 - t) / t.
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
