"""Compiled inner loops of the exact word-set join (`surface`), which explains the method.

Compiled by numba on first use and cached on disk. All integers that meet a 64-bit hash are
`uint64`: numba turns a mix of signed and unsigned into a float.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U = np.uint64
ZERO, ONE, BYTE, WORD_BITS = U(0), U(1), U(8), U(64)
SEED = U(0x9E3779B97F4A7C15)
SECOND = U(0xD1B54A32D192ED03)
MAX_SHARED = 3  # most words that one signature is made of

# Byte -> its lower case if it belongs to a word, else 0. Bytes of non-ASCII characters belong to
# words: `surface` hands over such rows with everything that is no word already blanked out.
LOWER = np.array(
    [ord(chr(b).lower()) if b < 128 and (chr(b).isalnum() or b == ord("_")) else b * (b >= 128) for b in range(256)],
    dtype=np.uint8,
)


@njit(inline="always")
def mix(value):
    """The finalizer of SplitMix64: a bijection on 64 bits in which every input bit reaches every output bit."""
    value = (value ^ (value >> U(30))) * U(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> U(27))) * U(0x94D049BB133111EB)
    return value ^ (value >> U(31))


@njit(inline="always")
def popcount(value):
    value = value - ((value >> ONE) & U(0x5555555555555555))
    value = (value & U(0x3333333333333333)) + ((value >> U(2)) & U(0x3333333333333333))
    value = (value + (value >> U(4))) & U(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * U(0x0101010101010101)) >> U(56))


@njit(nogil=True, cache=True)
def rows_beyond_ascii(data, starts, ends, flags):
    for row in range(len(starts)):
        union = np.uint8(0)
        for i in range(starts[row], ends[row]):
            union |= data[i]
        flags[row] = union >= 128


@njit(nogil=True, cache=True)
def hash_words(data, starts, ends, words, at, word_start, sizes, sum1, sum2):
    """Write each row's distinct word hashes, ascending, to `words[word_start : word_start + size]`.

    A hash takes the word's bytes eight at a time, so words of up to seven bytes never collide.
    `sum1` and `sum2` become the 128-bit hash of the set: a sum, so that removing a word is a
    subtraction. `at` is where in `words` to begin.
    """
    for row in range(len(starts)):
        begin = at
        state, pending, shift, inside = SEED, ZERO, ZERO, False
        for i in range(starts[row], ends[row]):
            byte = LOWER[data[i]]
            if byte != 0:
                inside = True
                pending |= U(byte) << shift
                shift += BYTE
                if shift == WORD_BITS:
                    state, pending, shift = mix(state ^ pending), ZERO, ZERO
            elif inside:
                words[at] = mix(state ^ pending)
                at += 1
                state, pending, shift, inside = SEED, ZERO, ZERO, False
        if inside:
            words[at] = mix(state ^ pending)
            at += 1
        at = begin + sort_distinct(words[begin:at])
        word_start[row], sizes[row] = begin, at - begin
        first, second = ZERO, ZERO
        for i in range(begin, at):
            first += words[i]
            second += mix(words[i] ^ SECOND)
        sum1[row], sum2[row] = first, second


@njit(nogil=True)
def sort_distinct(values):
    """Sort in place, move the distinct values to the front, return how many there are."""
    if len(values) > 48:
        values.sort()
    else:
        for i in range(1, len(values)):
            value, j = values[i], i - 1
            while j >= 0 and values[j] > value:
                values[j + 1] = values[j]
                j -= 1
            values[j + 1] = value
    count = min(len(values), 1)
    for i in range(1, len(values)):
        if values[i] != values[count - 1]:
            values[count] = values[i]
            count += 1
    return count


@njit(nogil=True, cache=True)
def group_identical(order, sum1, sum2, slots, leader):
    """Set `leader[row]` to the first row, in visiting order, with the same set. `slots` is all -1."""
    mask = U(len(slots) - 1)
    for row in order:
        slot = sum1[row] & mask
        while True:
            other = slots[slot]
            if other < 0:
                slots[slot] = leader[row] = row
                break
            if sum1[other] == sum1[row] and sum2[other] == sum2[row]:
                leader[row] = other
                break
            slot = (slot + ONE) & mask


@njit(nogil=True, cache=True)
def one_word_apart(words, word_start, sizes, sum1, sum2, leader, slots, least, most, bloom, larger, smaller):
    """All pairs of distinct sets where one is the other plus one word; returns how many.

    `least` and `most` bound the size of the larger set. Row numbers of leaders go to `larger` and
    `smaller`, which must hold one entry per word of those sets. `slots` is the table that
    `group_identical` filled; `bloom` (all 0, a power of two long) spares most look-ups in it.
    """
    mask, bloom_mask = U(len(slots) - 1), U(len(bloom) - 1)
    for row in range(len(sizes)):
        if leader[row] == row and least - 1 <= sizes[row] < most:
            bloom[(sum1[row] >> U(32)) & bloom_mask] |= bloom_bits(sum1[row])
    found = 0
    for row in range(len(sizes)):
        if leader[row] != row or sizes[row] < least or sizes[row] > most:
            continue
        for i in range(word_start[row], word_start[row] + sizes[row]):
            rest1 = sum1[row] - words[i]
            bits = bloom_bits(rest1)
            if bloom[(rest1 >> U(32)) & bloom_mask] & bits != bits:
                continue
            rest2 = sum2[row] - mix(words[i] ^ SECOND)
            slot = rest1 & mask
            while slots[slot] >= 0:
                other = slots[slot]
                if sum1[other] == rest1 and sum2[other] == rest2:
                    larger[found], smaller[found] = row, other
                    found += 1
                    break
                slot = (slot + ONE) & mask
    return found


@njit(inline="always")
def bloom_bits(value):
    return (ONE << (value & U(63))) | (ONE << ((value >> U(6)) & U(63))) | (ONE << ((value >> U(12)) & U(63)))


@njit(nogil=True, cache=True)
def count_words(words, word_start, sizes, leader, least, counts, bitmaps):
    """Approximate frequency of each word over the sets of at least `least` words, and a 64-bit sketch of each set."""
    mask = U(len(counts) - 1)
    for row in range(len(sizes)):
        if leader[row] == row and sizes[row] >= least:
            bitmap = ZERO
            for i in range(word_start[row], word_start[row] + sizes[row]):
                counts[words[i] & mask] += 1
                bitmap |= ONE << (words[i] >> U(58))
            bitmaps[row] = bitmap


@njit(nogil=True)
def rarest(words, begin, size, count, counts, top, top_counts):
    """Write the `count` rarest words of a set to `top`, rarest first, ties by hash."""
    mask = U(len(counts) - 1)
    held = 0
    for i in range(begin, begin + size):
        word, frequency = words[i], counts[words[i] & mask]
        j = held
        if held == count:
            j -= 1
            if top_counts[j] < frequency or (top_counts[j] == frequency and top[j] < word):
                continue
        else:
            held += 1
        while j > 0 and (top_counts[j - 1] > frequency or (top_counts[j - 1] == frequency and top[j - 1] > word)):
            top[j], top_counts[j] = top[j - 1], top_counts[j - 1]
            j -= 1
        top[j], top_counts[j] = word, frequency


@njit(nogil=True)
def sign(top, count, shared, signatures, at):
    """Append one signature for every choice of `shared` words out of the first `count` of `top`."""
    salt = mix(U(shared))
    for i in range(count):
        one = mix(top[i] ^ salt)
        if shared == 1:
            signatures[at] = one
            at += 1
            continue
        for j in range(i + 1, count):
            two = mix(one ^ top[j])
            if shared == 2:
                signatures[at] = two
                at += 1
                continue
            for k in range(j + 1, count):
                signatures[at] = mix(two ^ top[k])
                at += 1
    return at


@njit(nogil=True)
def overlap(words, a, a_size, b, b_size, needed):
    """Number of common words of two sets, or -1 as soon as it is sure to be below `needed`."""
    a_end, b_end = a + a_size, b + b_size
    common = 0
    spare_a, spare_b = a_size - needed, b_size - needed
    while a < a_end and b < b_end:
        if words[a] == words[b]:
            common += 1
            a += 1
            b += 1
        elif words[a] < words[b]:
            a += 1
            spare_a -= 1
            if spare_a < 0:
                return -1
        else:
            b += 1
            spare_b -= 1
            if spare_b < 0:
                return -1
    return common


@njit(nogil=True, cache=True, error_model="numpy")
def keep_first(
    order, rank, references, keep_rest, threshold, leader,
    words, word_start, sizes, bitmaps, counts,
    edge_start, edges,
    least, least_overlap, choices, heads, entries, signature_room,
    survivor, similarity,
):  # fmt: skip
    """Visit rows in `order`; set `survivor` (-1: none) and `similarity` of each.

    The first `references` rows are kept unseen; the rest are compared with the kept rows and, if
    `keep_rest`, kept where nothing covers them. `edges` lists, for each leader, the leaders one
    word away. Sets of `least` words or more are found through signatures: `least_overlap[size]`
    is the fewest words of a set that any partner shares, bit `l` of `choices[size]` says that
    signatures of `l` words are needed.
    """
    seen = np.full(len(sizes), -1, np.int32)  # the row that last looked at this one
    kept = np.zeros(len(sizes), np.bool_)
    signatures = np.empty(signature_room, np.uint64)
    top = np.empty(len(least_overlap), np.uint64)
    top_counts = np.empty(len(least_overlap), np.int32)
    mask = U(len(heads) - 1)
    used = 0
    for visit in range(len(order)):
        row = order[visit]
        lead = leader[row]
        if kept[lead]:
            if visit >= references:
                survivor[row], similarity[row] = lead, 1.0
            continue
        size, begin = sizes[row], word_start[row]
        signed = 0
        if size >= least:
            for shared in range(1, MAX_SHARED + 1):
                if choices[size] >> shared & 1:
                    count = min(size - least_overlap[size] + shared, size)
                    rarest(words, begin, size, count, counts, top, top_counts)
                    signed = sign(top, count, shared, signatures, signed)
        if visit >= references:
            best, best_similarity = -1, threshold
            for e in range(edge_start[lead], edge_start[lead + 1]):
                other = edges[e]
                if kept[other]:
                    value = min(size, sizes[other]) / max(size, sizes[other])
                    if value > best_similarity or (value == best_similarity and (best < 0 or rank[other] < rank[best])):
                        best, best_similarity = other, value
            for s in range(signed):
                tag = np.int32(signatures[s] >> U(33))
                entry = heads[signatures[s] & mask]
                while entry >= 0:
                    other = entries[entry, 1]
                    if entries[entry, 2] == tag and seen[other] != row:
                        seen[other] = row
                        other_size = sizes[other]
                        if min(size, other_size) / max(size, other_size) >= best_similarity:
                            total = size + other_size
                            needed = np.int64(np.ceil(best_similarity / (1.0 + best_similarity) * total - 1e-6))
                            if popcount(bitmaps[lead] ^ bitmaps[other]) <= total - 2 * needed:
                                common = overlap(words, begin, size, word_start[other], other_size, needed)
                                value = common / (total - common)
                                if value > best_similarity or (
                                    value == best_similarity and (best < 0 or rank[other] < rank[best])
                                ):
                                    best, best_similarity = other, value
                    entry = entries[entry, 0]
            if best >= 0:
                survivor[row], similarity[row] = best, best_similarity
                continue
            if not keep_rest:
                continue
        if lead != row:
            continue
        kept[row] = True
        for s in range(signed):
            slot = signatures[s] & mask
            entries[used, 0], entries[used, 1] = heads[slot], row
            entries[used, 2] = np.int32(signatures[s] >> U(33))
            heads[slot] = used
            used += 1
