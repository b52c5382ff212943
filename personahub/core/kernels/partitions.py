"""Compiled inner loops of the partitioned joins; `partitioned.word_join` and `partitioned.decide` own the arrays.

As in `kernels.joining`, integers that meet a 64-bit hash are `uint64`, and `compiled` says with which types they are called.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from personahub.core.kernels.hashing import SEED, sort
from personahub.core.kernels.intrinsics import U, popcount, second
from personahub.core.kernels.joining import bloom_bits, overlap


@njit(inline="always")
def partition(key, partitions):
    """As `partitioned.spill.partition_of`."""
    return (((key * SEED) >> U(32)) * U(partitions)) >> U(32)


def rests(words, word_start, sizes, sum1, sum2, leader, blooms, partitions, least, most, rest1, rest2, rows):
    """Write the hash of each leader's set less one word, for each word, if the Bloom filter has it; return how many.

    Looks at sets of `least` to `most` words. `blooms` are the filters of all partitions, one after
    another, each a power of two long; a hash is in that of its partition.
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
    """Set `found` to the leader whose set has this hash, or -1; `slots` is what `group_identical` filled."""
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
    """Find pairs of rows with a signature in common that size and sketch do not rule out; return how many there are.

    `signatures` ascend; the other arrays run parallel. Pairs of two references are left out. Writes
    positions as far as there is room: the caller makes more and calls again.
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
    """Jaccard similarity of each pair of sets, `words[start_a[i] : start_a[i] + sizes_a[i]]` and so on, if it is at
    least `threshold`, else 0. Sorts the words of each set."""
    for i in range(len(similarity)):
        sort(words[start_a[i] : start_a[i] + sizes_a[i]])
        sort(words[start_b[i] : start_b[i] + sizes_b[i]])
        common = overlap(words, start_a[i], sizes_a[i], start_b[i], sizes_b[i], 0)
        value = common / (sizes_a[i] + sizes_b[i] - common)
        similarity[i] = value if value >= threshold else 0.0


def first_kept(later, earlier, kept, chosen):
    """Visit pairs by their later row, its best partner first; write which pair covers each row that goes.

    `kept` is one bool for each row, and is changed. Returns how many rows go.
    """
    count = 0
    for i in range(len(later)):
        if kept[later[i]] and kept[earlier[i]]:
            kept[later[i]] = False
            chosen[count] = i
            count += 1
    return count


def join(parent, a, b):
    """Put the rows of each pair into one tree, whose root is its lowest row. `parent` is at first each row itself."""
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
    """Set every row's parent to the root of its tree; parents are never higher than their rows."""
    for row in range(len(parent)):
        parent[row] = parent[parent[row]]
