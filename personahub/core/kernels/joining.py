"""Compiled loops of the exact word-set join.

`surface` explains the method and owns the arrays. `compiled` compiles them and lists the argument types. The caller
passes scratch arrays, so that the machine code does not need Python. The words of a row are the distinct hashes
`words[word_start[row] : word_start[row] + sizes[row]]`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from personahub.core.kernels.hashing import sort
from personahub.core.kernels.intrinsics import ONE, U, fetch, mix, popcount, second

FETCHED_AHEAD = 8  # rows, so that memory outside the processor's cache arrives in time
TWO_PARTS = 1 << 32  # as in `plan`


def group_identical(order, sum1, sum2, slots, leader):
    """Sets `leader[row]` to the first row in visiting order with the same set. `slots` starts as all -1."""
    mask = U(len(slots) - 1)
    for visit in range(len(order)):
        row = order[visit]
        if visit + FETCHED_AHEAD < len(order):
            fetch(slots, sum1[order[visit + FETCHED_AHEAD]] & mask)  # pyright: ignore[reportCallIssue]
            fetch(sum1, slots[sum1[order[visit + FETCHED_AHEAD // 2]] & mask])  # pyright: ignore[reportCallIssue]
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


@njit(inline="always")
def bloom_bits(value):
    return (ONE << (value & U(63))) | (ONE << ((value >> U(6)) & U(63))) | (ONE << ((value >> U(12)) & U(63)))


def fill_bloom(sizes, sum1, leader, least, most, bloom):
    """Adds the leaders of `least` to `most` words to `bloom`. It starts as zeros, with a power of two as length."""
    mask = U(len(bloom) - 1)
    for row in range(len(sizes)):
        if leader[row] == row and least <= sizes[row] <= most:
            bloom[(sum1[row] >> U(32)) & mask] |= bloom_bits(sum1[row])


def one_word_apart(
    first, last, words, word_start, sizes, sum1, sum2, leader, slots, bloom, least, most, larger, smaller
):
    """Finds all pairs of distinct sets in which one is the other plus one word.

    Returns their number. Considers larger sets of `least` to `most` words among the rows from `first` to `last`.
    Leaders are written to `larger` and `smaller`, which need room for one entry per word of those sets. `slots` is
    the table that `group_identical` filled, and `bloom` avoids most look-ups in it. Candidates that pass `bloom` are
    first collected in `larger` and `smaller`, as row and position of the word.
    """
    mask, bloom_mask = U(len(slots) - 1), U(len(bloom) - 1)
    passed = 0
    for row in range(first, last):
        ahead = row + FETCHED_AHEAD
        if ahead < last and least <= sizes[ahead] <= most:
            for i in range(word_start[ahead], word_start[ahead] + sizes[ahead]):
                fetch(bloom, ((sum1[ahead] - words[i]) >> U(32)) & bloom_mask)  # pyright: ignore[reportCallIssue]
        if leader[row] != row or sizes[row] < least or sizes[row] > most:
            continue
        for i in range(sizes[row]):
            rest1 = sum1[row] - words[word_start[row] + i]
            bits = bloom_bits(rest1)
            if bloom[(rest1 >> U(32)) & bloom_mask] & bits == bits:
                larger[passed], smaller[passed] = row, i
                passed += 1
    found = 0
    for number in range(passed):
        ahead = number + FETCHED_AHEAD
        if ahead < passed:
            row = larger[ahead]
            fetch(slots, (sum1[row] - words[word_start[row] + smaller[ahead]]) & mask)  # pyright: ignore[reportCallIssue]
            ahead = number + FETCHED_AHEAD // 2
            row = larger[ahead]
            other = slots[(sum1[row] - words[word_start[row] + smaller[ahead]]) & mask]
            fetch(sum1, other)  # pyright: ignore[reportCallIssue]
            fetch(sum2, other)  # pyright: ignore[reportCallIssue]
        row = larger[number]
        word = words[word_start[row] + smaller[number]]
        rest1, rest2 = sum1[row] - word, sum2[row] - second(word)
        slot = rest1 & mask
        while slots[slot] >= 0:
            other = slots[slot]
            if sum1[other] == rest1 and sum2[other] == rest2:
                larger[found], smaller[found] = row, other
                found += 1
                break
            slot = (slot + ONE) & mask
    return found


def count_words(words, word_start, sizes, leader, least, counts):
    """Counts how often words occur in sets of at least `least` words. Approximate: words share counters."""
    mask = U(len(counts) - 1)
    for row in range(len(sizes)):
        if leader[row] == row and sizes[row] >= least:
            for i in range(word_start[row], word_start[row] + sizes[row]):
                counts[words[i] & mask] += 1


@njit(nogil=True)
def sign_parts(words, begin, size, parts, out, at):
    """Writes one signature for each of the `parts` parts of the vocabulary."""
    for part in range(parts):
        out[at + part] = mix(U(part << 32 | parts))
    for i in range(begin, begin + size):
        part = ((words[i] >> U(32)) * U(parts)) >> U(32)
        out[U(at) + part] += words[i]
    for part in range(parts):
        out[at + part] = mix(out[at + part])
    return at + parts


@njit(nogil=True)
def sign_two_parts(words, begin, size, parts, out, at):
    """Writes one signature for every two of `parts` parts. `out` after them is scratch space."""
    end = at + parts * (parts - 1) // 2
    sign_parts(words, begin, size, parts, out, end)
    for one in range(end, end + parts):
        for other in range(one + 1, end + parts):
            out[at] = mix(out[one] * U(3) + out[other])
            at += 1
    return at


@njit(nogil=True)
def sign_rarest(words, begin, size, shared, count, counts, top, top_counts, chosen, state, out, at):
    """Writes a signature for every choice of `shared` of the `count` rarest words. Ties are broken by hash."""
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
    # All ascending choices: `chosen` holds positions in `top`, and `state` the hash up to each of them.
    depth, chosen[0], state[0] = 0, -1, mix(U(shared))
    while depth >= 0:
        chosen[depth] += 1
        if chosen[depth] > count - shared + depth:
            depth -= 1
            continue
        value = mix(state[depth] ^ top[chosen[depth]])
        if depth == shared - 1:
            out[at] = value
            at += 1
        else:
            state[depth + 1], chosen[depth + 1] = value, chosen[depth]
            depth += 1
    return at


def sign(
    words, word_start, sizes, leader, counts, scheme_start, schemes, spare, once, twice,
    one, top, top_counts, chosen, state, out_start, out,
):  # fmt: skip
    """Writes the signatures that each leader may share.

    Those of a row go to `out[out_start[row] : out_start[row + 1]]`. `schemes[scheme_start[size] :
    scheme_start[size + 1]]` lists the signatures that sets of a size need: `n` rarest words if positive, one of `-n` parts, or every two of
    `-TWO_PARTS - n` parts. `spare[size]` is the largest number of words of a set that a similar set can lack. `once`
    and `twice` are bit maps that start as all 0 and have a power of two as length; they filter out signatures that
    occur once and so match nothing. The five arrays after them are scratch space. `one` has room for the signatures
    of one set and a few more. Returns the number written.
    """
    mask, half = U(len(once) * 64 - 1), len(one) // 2
    written, waiting = 0, 0
    for emit in range(2):
        bits = twice if emit else once
        # The signatures of a row are looked up one row later, when their memory has been fetched.
        for row in range(len(sizes) + 1):
            now, before = row % 2 * half, (1 - row % 2) * half
            end = now
            if row < len(sizes) and leader[row] == row:
                size = sizes[row]
                begin = word_start[row]
                for s in range(scheme_start[size], scheme_start[size + 1]):
                    if schemes[s] < -TWO_PARTS:
                        end = sign_two_parts(words, begin, size, -schemes[s] - TWO_PARTS, one, end)
                    elif schemes[s] < 0:
                        end = sign_parts(words, begin, size, -schemes[s], one, end)
                    else:
                        count = min(size, spare[size] + schemes[s])
                        end = sign_rarest(
                            words, begin, size, schemes[s], count, counts, top, top_counts, chosen, state, one, end
                        )
                for i in range(now, end):
                    fetch(bits, (one[i] & mask) >> U(6))  # pyright: ignore[reportCallIssue]
            if row > 0:
                out_start[row - 1] = written
            for i in range(before, before + waiting):
                place = one[i] & mask
                bit = ONE << (place & U(63))
                if emit:
                    if twice[place >> U(6)] & bit:
                        out[written] = one[i]
                        written += 1
                elif once[place >> U(6)] & bit:
                    twice[place >> U(6)] |= bit
                else:
                    once[place >> U(6)] |= bit
            waiting = end - now
        waiting = 0
    out_start[len(sizes)] = written
    return written


def sort_and_sketch(words, word_start, sizes, signature_start, sketches):
    """Prepares sets with signatures for comparison. Sorts them and computes 64-bit sketches."""
    for row in range(len(sizes)):
        if signature_start[row] < signature_start[row + 1]:
            begin, end = word_start[row], word_start[row] + sizes[row]
            sort(words[begin:end])
            for i in range(begin, end):
                sketches[row] |= ONE << (words[i] >> U(58))


@njit(nogil=True)
def overlap(words, a, a_size, b, b_size, needed):
    """Counts the common words of two sorted sets. Returns -1 once they are certain to be below `needed`."""
    a_end, b_end = a + a_size, b + b_size
    spare_a, spare_b = a_size - needed, b_size - needed
    common = 0
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


@njit(nogil=True, error_model="numpy")
def similarity_above(words, word_start, sizes, sketches, a, b, least):
    """Jaccard similarity of two leaders' sets, or 0 if it is below `least`."""
    a_size, b_size = np.int64(sizes[a]), np.int64(sizes[b])
    if min(a_size, b_size) / max(a_size, b_size) < least:
        return 0.0
    total = a_size + b_size
    needed = np.int64(np.ceil(least / (1.0 + least) * total - 1e-6))
    if popcount(sketches[a] ^ sketches[b]) > total - 2 * needed:  # pyright: ignore[reportCallIssue]
        return 0.0
    common = overlap(words, word_start[a], a_size, word_start[b], b_size, needed)
    value = common / (total - common)
    return value if value >= least else 0.0


def keep_first(
    order, rank, references, keep_rest, threshold, leader,
    words, word_start, sizes, sketches,
    edge_start, edges, signature_start, signatures, heads, entries,
    kept, seen, survivor, similarity,
):  # fmt: skip
    """Visits rows in `order`.

    Sets the `survivor` (-1 for none) and `similarity` of each. The first `references` rows are kept without
    comparison. The others are compared with the kept rows and, if `keep_rest` is set, kept when no kept row covers
    them. `edges` lists, for each leader, the leaders one word away. Kept rows are stored under their signatures:
    `heads[signature & mask]` is the latest of a chain of `entries` (previous entry, row, tag and size of the set,
    sketch). Most entries of a chain are too different and are skipped by size and sketch alone. `kept` starts as all
    False, and `seen` (the last row that examined this one) as all -1. Returns the number of kept rows.
    """
    count = 0
    mask = U(len(heads) - 1)
    used = 0
    for visit in range(len(order)):
        row = order[visit]
        lead = leader[row]
        if visit + FETCHED_AHEAD < len(order):
            ahead = order[visit + FETCHED_AHEAD]
            for s in range(signature_start[ahead], signature_start[ahead + 1]):
                fetch(heads, signatures[s] & mask)  # pyright: ignore[reportCallIssue]
            for e in range(edge_start[ahead], edge_start[ahead + 1]):
                fetch(kept, edges[e])  # pyright: ignore[reportCallIssue]
                fetch(sizes, edges[e])  # pyright: ignore[reportCallIssue]
            ahead = order[visit + FETCHED_AHEAD // 2]
            for s in range(signature_start[ahead], signature_start[ahead + 1]):
                fetch(entries, 4 * heads[signatures[s] & mask])  # pyright: ignore[reportCallIssue]
        if kept[lead]:
            if visit >= references:
                survivor[row], similarity[row] = lead, 1.0
            continue
        if visit >= references:
            best, best_value = -1, threshold
            size, sketch = np.int64(sizes[lead]), sketches[lead]
            for e in range(edge_start[lead], edge_start[lead + 1]):
                other = edges[e]
                if kept[other]:
                    value = min(sizes[row], sizes[other]) / max(sizes[row], sizes[other])
                    if value > best_value or (value == best_value and (best < 0 or rank[other] < rank[best])):
                        best, best_value = other, value
            for s in range(signature_start[lead], signature_start[lead + 1]):
                tag = np.int64(signatures[s] >> U(33))
                entry = heads[signatures[s] & mask]
                while entry >= 0:
                    other = entries[entry, 1]
                    total = size + (entries[entry, 2] & 0xFFFFFFFF)
                    needed = np.int64(np.ceil(best_value / (1.0 + best_value) * total - 1e-6))
                    apart = popcount(sketch ^ U(entries[entry, 3]))  # pyright: ignore[reportCallIssue]
                    if entries[entry, 2] >> 32 == tag and apart <= total - 2 * needed and seen[other] != row:
                        seen[other] = row
                        value = similarity_above(words, word_start, sizes, sketches, lead, other, best_value)
                        if value > best_value or (value == best_value and (best < 0 or rank[other] < rank[best])):
                            best, best_value = other, value
                    entry = entries[entry, 0]
            if best >= 0:
                survivor[row], similarity[row] = best, best_value
                continue
            if not keep_rest:
                continue
        kept[row] = True
        count += 1
        for s in range(signature_start[row], signature_start[row + 1]):
            slot = signatures[s] & mask
            entries[used, 0], entries[used, 1] = heads[slot], row
            entries[used, 2] = np.int64(signatures[s] >> U(33)) << 32 | np.int64(sizes[row])
            entries[used, 3] = np.int64(sketches[row])
            heads[slot] = used
            used += 1
    return count
