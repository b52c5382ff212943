"""Compiled loops that turn texts into sets of word hashes; `word_sets` owns the arrays.

`compiled` compiles them and says with which types. A row's words are the distinct hashes
`words[word_start[row] : word_start[row] + sizes[row]]`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from personahub.core.kernels.intrinsics import ONE, ZERO, U, eight_bytes, mix, second, trailing_zeros

BYTE, WORD_BITS = U(8), U(64)
SEED = U(0x9E3779B97F4A7C15)
ONES, TOPS = U(0x0101010101010101), U(0x8080808080808080)
STAMPS = 4096
NO_WORD, CONTEXT = 0, -1  # besides code points, what a table of `hash_words` may hold


@njit(inline="always")
def fold(code, table):
    """What a character becomes: a code point, NO_WORD, or CONTEXT if that depends on its neighbours."""
    if code < len(table):
        return table[code]
    if 0x4E00 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7A3:  # Chinese, Hangul: themselves
        return code
    if 0x1F300 <= code <= 0x1FAFF:  # emoji
        return NO_WORD
    return CONTEXT


@njit(inline="always")
def at_least(value, byte):
    """In each of eight ASCII bytes the top bit: whether it is `byte` or more."""
    return (value + (U(0x80) - U(byte)) * ONES) & TOPS


@njit(inline="always")
def fold_eight(value):
    """Eight bytes of ASCII with lower-case letters, and the top bit of each byte that is no letter, digit or `_`."""
    beyond, value = value & TOPS, value & ~TOPS
    upper = at_least(value, 0x41) & ~at_least(value, 0x5B)
    of_word = (
        upper | (at_least(value, 0x61) & ~at_least(value, 0x7B)) | (at_least(value, 0x30) & ~at_least(value, 0x3A))
    )
    of_word |= at_least(value, 0x5F) & ~at_least(value, 0x60)
    return value | (upper >> U(2)), (of_word & ~beyond) ^ TOPS


@njit(inline="always")
def decode(data, i):
    """The character beyond ASCII whose UTF-8 begins at `i`, and where the next one does."""
    code = np.int64(data[i])
    more = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
    code &= 0x3F >> more
    for k in range(i + 1, i + 1 + more):
        code = code << 6 | (np.int64(data[k]) & 0x3F)
    return code, i + 1 + more


@njit(inline="always")
def push_byte(byte, state, pending, shift):
    """Append a byte to the word under way: `pending` are its last bytes, `shift` their bits, `state` hashes the others."""
    pending |= U(byte) << shift
    shift += BYTE
    if shift == WORD_BITS:
        state, pending, shift = mix(state ^ pending), ZERO, ZERO
    return state, pending, shift


@njit(inline="always")
def push_character(code, state, pending, shift):
    """Append a character's UTF-8 to the word under way."""
    if code >= 0x80:
        bits = 6 if code < 0x800 else 12 if code < 0x10000 else 18
        byte = ((0xFF00 >> (bits // 6 + 1)) & 0xFF) | code >> bits  # as UTF-8 marks its first byte
        while bits > 0:
            state, pending, shift = push_byte(byte, state, pending, shift)
            bits -= 6
            byte = 0x80 | (code >> bits & 0x3F)
        code = byte
    return push_byte(code, state, pending, shift)


@njit(inline="always")
def close_word(words, at, state, pending):
    """Write the hash of the word under way, if there is one; where the next goes."""
    if pending != ZERO or state != SEED:
        words[at] = mix(state ^ pending)
        at += 1
    return at


@njit(inline="always")
def hash_text(data, i, end, verbatim, table, words, at):
    """Hash the words of one text; where they end in `words`, or CONTEXT if it needs more than a character at a time.

    ASCII is classified and folded eight bytes at a time; what else there is, a character at a time.
    """
    state, pending, shift = SEED, ZERO, ZERO
    while i < end:
        if shift == ZERO and i + 8 <= len(data):
            value, stop = fold_eight(eight_bytes(data, i))  # pyright: ignore[reportCallIssue]
            if end - i < 8:
                stop |= TOPS << U(8 * (end - i))
            if stop == ZERO:
                state = mix(state ^ value)
                i += 8
                continue
            length = trailing_zeros(stop) >> 3  # pyright: ignore[reportCallIssue]
            pending = value & ((ONE << U(8 * length)) - ONE)
            i += length
            if i >= end or data[i] < 0x80:
                at = close_word(words, at, state, pending)
                state, pending = SEED, ZERO
                i += 1
                continue
            shift = U(8 * length)
        code = np.int64(data[i])
        if code < 0x80:
            code, i = np.int64(table[code]), i + 1
        else:
            code, i = decode(data, i)
            if not verbatim:
                code = np.int64(fold(code, table))
            if code == CONTEXT:
                return np.int64(CONTEXT)
        if code == NO_WORD:
            at = close_word(words, at, state, pending)
            state, pending, shift = SEED, ZERO, ZERO
        else:
            state, pending, shift = push_character(code, state, pending, shift)
    return close_word(words, at, state, pending)


@njit(inline="always")
def join_runs(words, begin, end, ngram):
    """Put the hashes of runs of `ngram` words, or of the one run of fewer, in their place; where they end."""
    run = min(ngram, end - begin)
    end -= run - 1
    for j in range(begin, end):
        state = SEED
        for k in range(run):
            state = mix(state ^ words[j + k])
        words[j] = state
    return end


def hash_words(data, starts, ends, verbatim, ngram, table, words, at, word_start, sizes, sum1, sum2, left, stamps):
    """Hash the words of UTF-8 texts; flag in `left` the rows that need more than a character at a time.

    With `verbatim`, texts are folded already, and all characters beyond ASCII belong to words.
    A hash takes the bytes of the folded word eight at a time, so words of up to seven bytes never
    collide. `sum1` and `sum2` become the 128-bit hash of the set: a sum, so that leaving out a
    word is a subtraction. With `ngram` above 1, runs of so many words take the place of words; a
    text of fewer is one run. `at` is where in `words` to begin; where it ended is returned. `stamps`
    is scratch, all -1.
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
    """Move the distinct values to the front; return how many there are.

    `stamps` tells nearly all values that are new from those that may have been there: what it
    holds under a value's upper bits is the last `stamp` that it came with. Where there are too
    many for that, they are sorted.
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
    """Shell sort in place: an insertion sort for most sets, and much quicker to compile than numba's own."""
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
