"""Inner loops of the partitioned joins.

`partitioned.word_join` and `partitioned.decide` own the arrays. As in `kernels.joining`, integers that are combined
with a 64-bit hash are `uint64`. `compiled` lists the argument types.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from personahub.core.kernels.hashing import SEED, sort
from personahub.core.kernels.intrinsics import U, popcount, second
from personahub.core.kernels.joining import bloom_bits, overlap


@njit(inline="always")
def partition(key, partitions):
    """Same as `partitioned.spill.partition_of`."""
    return (((key * SEED) >> U(32)) * U(partitions)) >> U(32)


def rests(words, word_start, sizes, sum1, sum2, leader, blooms, partitions, least, most, rest1, rest2, rows):
    """Writes hashes of sets without one word.

    Covers each word of each leader that the Bloom filter contains. Only sets of `least` to `most` words are
    considered. `blooms` holds the filters of all partitions in order. Each has a power of two as its length, and a
    hash belongs to the filter of its partition. Returns the number written.
    """
    length = len(blooms) // partitions
    mask = U(length - 1)
    found = 0
    for row in range(len(sizes)):
        if leader[row] != row or sizes[row] < least or sizes[row] > most:
            continue
        for i in range(word_start[row], word_start[row] + sizes[row]):
            rest = sum1[row] - words[i]
            bits = bloom_bits(rest)
            if blooms[partition(rest, partitions) * U(length) + ((rest >> U(32)) & mask)] & bits == bits:
                rest1[found], rest2[found], rows[found] = rest, sum2[row] - second(words[i]), row
                found += 1
    return found


def look_up(rest1, rest2, sum1, sum2, slots, found):
    """Sets `found` to the leader whose set has this hash, or -1. `slots` was filled by `group_identical`."""
    mask = U(len(slots) - 1)
    for i in range(len(rest1)):
        slot = rest1[i] & mask
        found[i] = -1
        while slots[slot] >= 0:
            other = slots[slot]
            if sum1[other] == rest1[i] and sum2[other] == rest2[i]:
                found[i] = other
                break
            slot = (slot + U(1)) & mask


def sharing(signatures, sizes, sketches, ranks, references, threshold, left, right):
    """Finds pairs of rows that share a signature.

    Skips those that size and sketch rule out. `signatures` is ascending, and the other arrays are parallel to it.
    Pairs of two references are skipped. Returns the number of pairs. If `left` and `right` are too short, the caller
    allocates more and calls again.
    """
    found, first = 0, 0
    while first < len(signatures):
        last = first + 1
        while last < len(signatures) and signatures[last] == signatures[first]:
            last += 1
        for i in range(first, last):
            for j in range(i + 1, last):
                if ranks[i] == ranks[j] or max(ranks[i], ranks[j]) < references:
                    continue
                if min(sizes[i], sizes[j]) / max(sizes[i], sizes[j]) < threshold:
                    continue
                total = np.int64(sizes[i]) + np.int64(sizes[j])
                needed = np.int64(np.ceil(threshold / (1.0 + threshold) * total - 1e-6))
                if popcount(sketches[i] ^ sketches[j]) <= total - 2 * needed:  # pyright: ignore[reportCallIssue]
                    if found < len(left):
                        left[found], right[found] = i, j
                    found += 1
        first = last
    return found


def verify(words, start_a, start_b, sizes_a, sizes_b, threshold, similarity):
    """Computes the Jaccard similarity of each pair of sets, or 0 below `threshold`.

    The sets of pair `i` are `words[start_a[i] : start_a[i] + sizes_a[i]]` and the same for `b`. Their words get sorted.
    """
    for i in range(len(similarity)):
        sort(words[start_a[i] : start_a[i] + sizes_a[i]])
        sort(words[start_b[i] : start_b[i] + sizes_b[i]])
        common = overlap(words, start_a[i], sizes_a[i], start_b[i], sizes_b[i], 0)
        value = common / (sizes_a[i] + sizes_b[i] - common)
        similarity[i] = value if value >= threshold else 0.0


def first_kept(later, earlier, kept, chosen):
    """Visits pairs by their later row, best partner first.

    Writes which pair covers each dropped row. `kept` holds one bool per row and is updated. Returns the number of
    dropped rows.
    """
    count = 0
    for i in range(len(later)):
        if kept[later[i]] and kept[earlier[i]]:
            kept[later[i]] = False
            chosen[count] = i
            count += 1
    return count


def join(parent, a, b):
    """Joins the rows of each pair into one tree. Its root is the lowest row. Initially each row is its own `parent`."""
    for i in range(len(a)):
        one, other = a[i], b[i]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        parent[max(one, other)] = min(one, other)


def flatten(parent):
    """Sets every row's parent to the root of its tree. A parent is never higher than its row."""
    for row in range(len(parent)):
        parent[row] = parent[parent[row]]
