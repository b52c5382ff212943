"""Compiled loops that turn texts into sets of word hashes.

`word_sets` owns the arrays. `compiled` compiles them and lists the argument types. The words of a row are the
distinct hashes `words[word_start[row] : word_start[row] + sizes[row]]`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from personahub.core.kernels.intrinsics import ONE, ZERO, U, eight_bytes, mix, second, trailing_zeros

BYTE, WORD_BITS = U(8), U(64)
SEED = U(0x9E3779B97F4A7C15)
ONES, TOPS = U(0x0101010101010101), U(0x8080808080808080)
STAMPS = 4096

# An entry of the folding table is a folded character (21 bits), its kind (4 bits) and flags.
CHARACTER, KIND = 0x1FFFFF, 21
SEPARATOR, LETTER, KATAKANA, UNIT, LEADING, FOLLOWING, MARK, LINKING, INVISIBLE = range(9)
BEGINS, COMPOSES = 1 << 25, 1 << 26  # may be composed with a character after it, or before it
ENDS_IN_MARK, REORDERS = 1 << 27, 1 << 28  # its marks may change places with a mark after it, or before it
CONTEXT = -1  # the result depends on the characters around it


@njit(inline="always")
def fold(code, table):
    """Returns the entry of a character. Beyond the table, characters have rules or are CONTEXT."""
    if code < len(table):
        return np.int64(table[code])
    if 0x1F300 <= code <= 0x1FAFF:  # emoji
        return np.int64(SEPARATOR)
    if 0x20000 <= code < 0x2F800 or 0x30000 <= code < 0x40000:  # Chinese
        return np.int64(UNIT << KIND | code)
    return np.int64(CONTEXT)


@njit(inline="always")
def follow(kind, last):
    """Returns whether a character begins a new word, and the new kind of the open word.

    `last` is the kind of the open word before the character. The rules are those of `texts.words`.
    """
    in_unit = last in (UNIT, LEADING, LINKING)
    if kind == MARK:
        return False, UNIT if in_unit else last
    if kind == LINKING:
        return False, LINKING if in_unit else last
    if kind == FOLLOWING:
        return not in_unit, UNIT
    if kind == UNIT:
        return last != LEADING and last != LINKING, UNIT
    return kind != last, kind


@njit(inline="always")
def end_of_signs(data, i, end, verbatim):
    """Returns the end of the `+` and `#` at `i` that belong to the word, or CONTEXT."""
    before, stop = data[i - 1] | 0x20, i
    while stop < end and (data[stop] == 0x2B or data[stop] == 0x23):
        stop += 1
    if stop == i or verbatim:
        return stop
    after = np.int64(data[stop]) if stop < end else 0
    if before >= 0x80 or after >= 0x80:
        return CONTEXT
    if before < 0x61 or before > 0x7A:
        return i
    is_word = 0x61 <= (after | 0x20) <= 0x7A or 0x30 <= after <= 0x39 or after == 0x5F
    return i if is_word else stop


@njit(inline="always")
def at_least(value, byte):
    """Sets the top bit of each of eight ASCII bytes that is at least `byte`."""
    return (value + (U(0x80) - U(byte)) * ONES) & TOPS


@njit(inline="always")
def fold_eight(value):
    """Lowercases eight ASCII bytes. Marks the top bit of each that is not a letter, digit or `_`."""
    beyond, value = value & TOPS, value & ~TOPS
    upper = at_least(value, 0x41) & ~at_least(value, 0x5B)
    of_word = (
        upper | (at_least(value, 0x61) & ~at_least(value, 0x7B)) | (at_least(value, 0x30) & ~at_least(value, 0x3A))
    )
    of_word |= at_least(value, 0x5F) & ~at_least(value, 0x60)
    return value | (upper >> U(2)), (of_word & ~beyond) ^ TOPS


@njit(inline="always")
def decode(data, i):
    """Decodes the non-ASCII UTF-8 character at `i`. Returns it and the position of the next one."""
    code = np.int64(data[i])
    more = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
    code &= 0x3F >> more
    for k in range(i + 1, i + 1 + more):
        code = code << 6 | (np.int64(data[k]) & 0x3F)
    return code, i + 1 + more


@njit(inline="always")
def push_byte(byte, state, pending, shift):
    """Appends a byte to the current word.

    `pending` holds the word's last bytes, `shift` is their number of bits, and `state` is the hash of the others.
    """
    pending |= U(byte) << shift
    shift += BYTE
    if shift == WORD_BITS:
        state, pending, shift = mix(state ^ pending), ZERO, ZERO
    return state, pending, shift


@njit(inline="always")
def push_character(code, state, pending, shift):
    """Appends the UTF-8 bytes of a character to the current word."""
    if code >= 0x80:
        bits = 6 if code < 0x800 else 12 if code < 0x10000 else 18
        byte = ((0xFF00 >> (bits // 6 + 1)) & 0xFF) | code >> bits  # the first byte of a UTF-8 sequence
        while bits > 0:
            state, pending, shift = push_byte(byte, state, pending, shift)
            bits -= 6
            byte = 0x80 | (code >> bits & 0x3F)
        code = byte
    return push_byte(code, state, pending, shift)


@njit(inline="always")
def close_word(words, at, state, pending):
    """Writes the hash of the current word, if any. Returns the position for the next word."""
    if pending != ZERO or state != SEED:
        words[at] = mix(state ^ pending)
        at += 1
    return at


@njit(inline="always")
def hash_text(data, i, end, verbatim, table, words, at):
    """Hashes the words of one text.

    Returns their end in `words`, or CONTEXT if a character depends on its neighbors. ASCII is classified and folded
    eight bytes at a time, everything else one character at a time.
    """
    state, pending, shift = SEED, ZERO, ZERO
    last, before = SEPARATOR, 0  # kind of the open word, flags of the characters that the next one may compose with
    while i < end:
        if shift == ZERO and last <= LETTER and i + 8 <= len(data):
            value, stop = fold_eight(eight_bytes(data, i))  # pyright: ignore[reportCallIssue]
            if end - i < 8:
                stop |= TOPS << U(8 * (end - i))
            if stop == ZERO:
                state = mix(state ^ value)
                i += 8
                last, before = LETTER, BEGINS
                continue
            length = trailing_zeros(stop) >> 3  # pyright: ignore[reportCallIssue]
            if length > 0:
                pending = value & ((ONE << U(8 * length)) - ONE)
                i += length
                last, before = LETTER, BEGINS
            if i >= end or (data[i] < 0x80 and data[i] != 0x2B and data[i] != 0x23):
                at = close_word(words, at, state, pending)
                state, pending, last, before = SEED, ZERO, SEPARATOR, 0
                i += 1
                continue
            shift = U(8 * length)
        code = np.int64(data[i])
        if last == LETTER and (code == 0x2B or code == 0x23):
            stop_of_signs = end_of_signs(data, i, end, verbatim)
            if stop_of_signs == CONTEXT:
                return np.int64(CONTEXT)
            for k in range(i, stop_of_signs):
                state, pending, shift = push_byte(data[k], state, pending, shift)
            i = stop_of_signs if stop_of_signs > i else i + 1
            at = close_word(words, at, state, pending)
            state, pending, shift, last, before = SEED, ZERO, ZERO, SEPARATOR, 0
            continue
        if code < 0x80:
            entry, i = np.int64(table[code]), i + 1
        else:
            code, i = decode(data, i)
            entry = np.int64(LETTER << KIND | code) if verbatim else fold(code, table)
        reorders = entry & REORDERS
        if entry == CONTEXT or (entry & COMPOSES and before & BEGINS) or (reorders and before & ENDS_IN_MARK):
            return np.int64(CONTEXT)
        kind = entry >> KIND & 15
        if kind == INVISIBLE:
            continue
        before = entry | (before & BEGINS) if reorders else entry
        if last == SEPARATOR and kind in (MARK, LINKING):
            continue
        begins, last = follow(kind, last)
        if begins:
            at = close_word(words, at, state, pending)
            state, pending, shift = SEED, ZERO, ZERO
        if kind != SEPARATOR:
            state, pending, shift = push_character(entry & CHARACTER, state, pending, shift)
    return close_word(words, at, state, pending)


@njit(inline="always")
def join_runs(words, begin, end, ngram):
    """Replaces words by hashes of runs of `ngram` words. A shorter text is one run. Returns the end."""
    run = min(ngram, end - begin)
    end -= run - 1
    for j in range(begin, end):
        state = SEED
        for k in range(run):
            state = mix(state ^ words[j + k])
        words[j] = state
    return end


def hash_words(data, starts, ends, verbatim, ngram, table, words, at, word_start, sizes, sum1, sum2, left, stamps):
    """Hashes the words of UTF-8 texts.

    Flags in `left` the rows whose characters depend on their neighbors. With `verbatim`, texts are words of
    `words_of` with spaces between them. A hash takes the bytes of the folded word eight at a time, so words
    of up to seven bytes never collide. `sum1` and `sum2` become the 128-bit hash of the set. It is a sum, so that a
    word can be removed by subtraction. With `ngram` above 1, runs of that many words replace words; a shorter text is
    one run. `at` is the position in `words` to begin at, and the end is returned. `stamps` is scratch space, all -1.
    """
    for row in range(len(starts)):
        begin = at
        at = hash_text(data, starts[row], ends[row], verbatim, table, words, begin)
        left[row] = at == CONTEXT
        if at == CONTEXT:
            at = begin
        if ngram > 1 and at > begin:
            at = join_runs(words, begin, at, ngram)
        at = begin + distinct(words[begin:at], stamps, row)
        word_start[row], sizes[row] = begin, at - begin
        first, upper = ZERO, ZERO
        for j in range(begin, at):
            first += words[j]
            upper += second(words[j])
        sum1[row], sum2[row] = first, upper
    return at


@njit(nogil=True)
def distinct(values, stamps, stamp):
    """Moves the distinct values to the front. Returns their number.

    `stamps` holds, by the upper bits of a value, the last `stamp` that such a value came with. This recognizes
    nearly all new values without a search. If there are too many values for that, they are sorted.
    """
    ascending = len(values) > STAMPS
    if ascending:
        sort(values)
    count = 0
    for i in range(len(values)):
        value, repeated = values[i], False
        if ascending:
            repeated = i > 0 and value == values[count - 1]
        elif stamps[value >> U(52)] == stamp:
            for j in range(count):
                repeated |= values[j] == value
        if not repeated:
            stamps[value >> U(52)] = stamp
            values[count] = value
            count += 1
    return count


@njit(nogil=True)
def sort(values):
    """Shell sort in place. For most sets it is an insertion sort, and it compiles much faster than numba's sort."""
    gap = 1
    while gap < len(values) // 9:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, len(values)):
            value, j = values[i], i - gap
            while j >= 0 and values[j] > value:
                values[j + gap] = values[j]
                j -= gap
            values[j + gap] = value
        gap //= 3
