"""Near-duplicates by surface form: exact Jaccard similarity over the sets of words (word 1-grams).

    result = deduplicate(["A nurse in Oslo", "a nurse, in Oslo!", "A miner"], threshold=0.9)
    result.kept                                 # array([0, 2])

The paper (arXiv 2406.20094, section 2) approximates this with MinHash. For sets of 10 to 18
words, as personas have, 0.9 means "the same words, or one added or left out", which MinHash with
128 hashes misses about half of the time. This join is exact (recall and precision 1) and faster:

1. A set's hash is the sum of its word hashes, 128 bits wide. Equal sets meet in one table.
2. Sets that differ by one word are found by subtracting each word in turn and looking the rest
   up in that table, behind a Bloom filter. At most one edge per word: no bucket can overflow.
3. Sets long enough to be similar at two or more different words, and all sets when the threshold
   is low, share the rarest words of their prefixes. With `o` the fewest words of a set A that a
   similar set shares, the `|A| - o + l` rarest words of A and those of its partner have at least
   `l` words in common (prefix filter: Chaudhuri et al. 2006; extended to `l` words: Wang, Li and
   Feng 2012). Signatures of `l` of them are looked up among the rows kept so far, and verified.

Words are compared by 64-bit hashes: among ten million distinct words, the probability that any
two are confused is 3e-6. Memory at the peak: about 300 bytes for a persona of 15 words.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from personahub.core.duplicates.result import Deduplication, visiting_order
from personahub.core.errors import UserError

Texts = Sequence[str] | pa.Array | pa.ChunkedArray

_WORD = re.compile(r"\w+")
_MAX_SIGNATURES = 24  # per set and number of shared words: more signatures are rarer, but each costs memory
_MIN_ROWS_PER_THREAD = 20_000


def words_of(text: str) -> list[str]:
    """The words that count: runs of letters, digits and underscores after NFKC and case folding."""
    return _WORD.findall(_normalize(text))


def jaccard(a: str, b: str) -> float:
    """Shared words over all words of two texts; texts without words are equal (1) or not (0)."""
    set_a, set_b = set(words_of(a)), set(words_of(b))
    if not set_a or not set_b:
        return float(not set_a and not set_b and _squeeze(a) == _squeeze(b))
    common = len(set_a & set_b)
    return common / (len(set_a) + len(set_b) - common)


def deduplicate(texts: Texts, threshold: float = 0.9, priority: np.ndarray | None = None) -> Deduplication:
    """Drop each text that has `jaccard >= threshold` with a text kept before it.

    Args:
        texts: strings of any kind; a pyarrow string column is read in place.
        threshold: in (0, 1].
        priority: one number per text, the lowest is visited first; by default the order given.

    Raises:
        UserError: the threshold is out of range, or a text is null.
    """
    return sweep(texts, [threshold], priority)[0]


def sweep(texts: Texts, thresholds: Sequence[float], priority: np.ndarray | None = None) -> list[Deduplication]:
    """`deduplicate` at several thresholds, reading the texts once."""
    for threshold in thresholds:
        _check(threshold)
    sets = _word_sets(texts)
    order = visiting_order(len(sets.sizes), priority)
    groups = _group(sets, order)
    return [
        Deduplication.from_survivors(threshold, *_join(sets, order, groups, threshold, references=0))
        for threshold in thresholds
    ]


def nearest(queries: Texts, corpus: Texts, threshold: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """For each query the most similar text of `corpus` with `jaccard >= threshold`.

    Returns:
        Its index (int64, -1 where there is none; the first among equals), and the similarity
        (float64, 0 where there is none).
    """
    _check(threshold)
    both = pa.chunked_array([*_column(corpus).chunks, *_column(queries).chunks], type=pa.large_binary())
    references = len(corpus)
    sets = _word_sets(both)
    order = np.arange(len(sets.sizes), dtype=np.int64)
    survivor, similarity = _join(sets, order, _group(sets, order), threshold, references, keep_rest=False)
    return survivor[references:].astype(np.int64), similarity[references:]


def _check(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UserError(f"threshold {threshold}: a Jaccard similarity above 0 and at most 1 is needed")


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _squeeze(text: str) -> str:
    return " ".join(_normalize(text).split())


@dataclass(frozen=True, eq=False)
class _WordSets:
    """Row `i` has the ascending word hashes `words[start[i] : start[i] + sizes[i]]`; never none."""

    words: np.ndarray  # uint64
    start: np.ndarray  # int64
    sizes: np.ndarray  # int32
    sum1: np.ndarray  # uint64
    sum2: np.ndarray  # uint64


def _column(texts: Texts) -> pa.ChunkedArray:
    """The texts as UTF-8 bytes, without a copy where they are a pyarrow column already."""
    column: pa.ChunkedArray
    if isinstance(texts, (pa.Array, pa.ChunkedArray)):
        column = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])
    else:
        try:
            column = pa.chunked_array([pa.array(texts, pa.large_string())])
        except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
            column = pa.chunked_array([pa.array(encoded, pa.large_binary())])
    if column.null_count:
        raise UserError(f"text {column.is_null().index(True).as_py()} is null: every row needs a text")
    return column.cast(pa.large_binary())


def _word_sets(texts: Texts) -> _WordSets:
    from personahub.core.duplicates import kernels

    column = _column(texts).combine_chunks()
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows = len(array)
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + rows + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    starts, ends = offsets[:-1], offsets[1:]

    beyond_ascii = np.empty(rows, np.bool_)
    _in_threads(rows, lambda a, b: kernels.rows_beyond_ascii(data, starts[a:b], ends[a:b], beyond_ascii[a:b]))
    rewritten = np.flatnonzero(beyond_ascii)
    plain = [" ".join(words_of(_text(array, row))).encode() for row in rewritten.tolist()]
    plain_ends = np.cumsum([len(text) for text in plain], dtype=np.int64)
    plain_data = np.frombuffer(b"".join(plain), np.uint8)

    # A text of n bytes has at most (n + 1) / 2 words, which tells every thread where it may write.
    # Pages that are never written cost no memory. One more slot a row is for texts without words.
    ceiling = (starts - offsets[0] + np.arange(rows) + 1) // 2 if rows else offsets
    room = (int(offsets[-1] - offsets[0]) + rows) // 2 + 1
    plain_room = (len(plain_data) + len(plain)) // 2 + 1
    sets = _WordSets(
        words=np.empty(room + plain_room + rows, np.uint64),
        start=np.empty(rows, np.int64),
        sizes=np.empty(rows, np.int32),
        sum1=np.empty(rows, np.uint64),
        sum2=np.empty(rows, np.uint64),
    )
    ascii_ends = np.where(beyond_ascii, starts, ends)

    def hash_rows(a: int, b: int) -> None:
        outputs = (sets.start[a:b], sets.sizes[a:b], sets.sum1[a:b], sets.sum2[a:b])
        kernels.hash_words(data, starts[a:b], ascii_ends[a:b], sets.words, ceiling[a], *outputs)

    _in_threads(rows, hash_rows)
    if len(rewritten):
        plain_starts = plain_ends - np.diff(plain_ends, prepend=0)
        outputs = tuple(np.empty(len(rewritten), a.dtype) for a in (sets.start, sets.sizes, sets.sum1, sets.sum2))
        kernels.hash_words(plain_data, plain_starts, plain_ends, sets.words, room, *outputs)
        for target, values in zip((sets.start, sets.sizes, sets.sum1, sets.sum2), outputs, strict=True):
            target[rewritten] = values
    _hash_wordless(sets, array, room + plain_room)
    return sets


def _hash_wordless(sets: _WordSets, array: pa.Array, at: int) -> None:
    """A text without words counts as one word of its own: its normalised self."""
    for i, row in enumerate(np.flatnonzero(sets.sizes == 0).tolist()):
        squeezed = _squeeze(_text(array, row)).encode("utf-8", "surrogatepass")
        hash1, hash2 = np.frombuffer(hashlib.blake2b(squeezed, digest_size=16).digest(), np.uint64)
        sets.words[at + i] = sets.sum1[row] = hash1
        sets.start[row], sets.sizes[row], sets.sum2[row] = at + i, 1, hash2


def _text(array: pa.Array, row: int) -> str:
    return array[row].as_py().decode("utf-8", "surrogatepass")


def _in_threads(rows: int, work) -> None:
    """Call `work(first, last)` on slices of the rows; the compiled kernels release the GIL."""
    threads = max(1, min(len(os.sched_getaffinity(0)), rows // _MIN_ROWS_PER_THREAD))
    bounds = [rows * i // threads for i in range(threads + 1)]
    if threads == 1:
        if rows:
            work(0, rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, a, b) for a, b in itertools.pairwise(bounds)]:
            done.result()


@dataclass(frozen=True, eq=False)
class _Groups:
    """Identical sets: the first row of each one's group in visiting order, and the hash table of these leaders."""

    leader: np.ndarray  # int32
    slots: np.ndarray  # int32, a power of two long


def _group(sets: _WordSets, order: np.ndarray) -> _Groups:
    from personahub.core.duplicates import kernels

    groups = _Groups(np.empty(len(order), np.int32), np.full(_power_of_two(2 * len(order)), -1, np.int32))
    kernels.group_identical(order, sets.sum1, sets.sum2, groups.slots, groups.leader)
    return groups


def _join(
    sets: _WordSets, order: np.ndarray, groups: _Groups, threshold: float, references: int, keep_rest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Survivor (int32, -1: none) and similarity (float64) of each row; see `kernels.keep_first`."""
    from personahub.core.duplicates import kernels

    rows = len(order)
    plan = _plan(threshold, int(sets.sizes.max(initial=1)))
    edge_start, edges = _edges(sets, groups, plan)

    is_leader = groups.leader == np.arange(rows)
    histogram = np.bincount(sets.sizes[is_leader], minlength=len(plan.signatures))
    bitmaps = np.zeros(rows, np.uint64)
    counts = np.zeros(_power_of_two(min(max(int(sets.sizes.sum()) // 8, 1 << 10), 1 << 20)), np.int32)
    entry_room = int(histogram[plan.least :] @ plan.signatures[plan.least :])
    if entry_room:
        kernels.count_words(sets.words, sets.start, sets.sizes, groups.leader, plan.least, counts, bitmaps)
    rank = np.empty(rows, np.int32)
    rank[order] = np.arange(rows, dtype=np.int32)
    survivor, similarity = np.full(rows, -1, np.int32), np.zeros(rows, np.float64)
    kernels.keep_first(
        order, rank, references, keep_rest, threshold, groups.leader,
        sets.words, sets.start, sets.sizes, bitmaps, counts,
        edge_start, edges,
        plan.least, plan.least_overlap, plan.choices,
        np.full(_power_of_two(entry_room), -1, np.int64), np.empty((entry_room, 3), np.int32),
        int(plan.signatures.max(initial=0)),
        survivor, similarity,
    )  # fmt: skip
    return survivor, similarity


def _edges(sets: _WordSets, groups: _Groups, plan: _Plan) -> tuple[np.ndarray, np.ndarray]:
    """Leaders one word away from each leader: `edges[edge_start[i] : edge_start[i + 1]]`."""
    from personahub.core.duplicates import kernels

    rows = len(sets.sizes)
    reached = (sets.sizes >= plan.one_apart_from) & (sets.sizes <= plan.one_apart_to)
    room = int(sets.sizes[reached].sum())
    larger, smaller = np.empty(room, np.int32), np.empty(room, np.int32)
    found = 0
    if room:
        bloom = np.zeros(_power_of_two(rows // 4), np.uint64)
        found = kernels.one_word_apart(
            sets.words, sets.start, sets.sizes, sets.sum1, sets.sum2, groups.leader, groups.slots,
            plan.one_apart_from, plan.one_apart_to, bloom, larger, smaller,
        )  # fmt: skip
    ends = np.concatenate([larger[:found], smaller[:found]])
    others = np.concatenate([smaller[:found], larger[:found]])
    edge_start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=rows))])
    return edge_start, others[np.argsort(ends, kind="stable")]


def _power_of_two(at_least: int) -> int:
    return 1 << max(4, (at_least - 1).bit_length())


@dataclass(frozen=True, eq=False)
class _Plan:
    """What a threshold means for sets of each size; arrays are indexed by size, 0 to the largest."""

    one_apart_from: int  # sizes of the larger set of the pairs that step 2 finds
    one_apart_to: int
    least: int  # smallest set that step 3 handles
    least_overlap: np.ndarray  # fewest words that a similar set of any size shares
    choices: np.ndarray  # bit l: signatures of l words are needed
    signatures: np.ndarray  # how many that makes


def _plan(threshold: float, largest: int) -> _Plan:
    """Which sizes can differ by how much at `threshold`.

    Every bound is found by the comparison that decides in the end, `overlap / union >= threshold`
    in double precision, so that rounding cannot lose a pair that sits on the threshold.
    """
    sizes = range(1, largest + 1)
    least_overlap = np.zeros(largest + 1, np.int64)
    for size in sizes:
        overlap = max(int(least_overlap[size - 1]), 1)
        while overlap / size < threshold:
            overlap += 1
        least_overlap[size] = overlap
    beyond = largest + 1
    least = next((size for size in sizes if size / (size + 2) >= threshold), beyond)
    one_apart_from = next((size for size in sizes if size > 1 and (size - 1) / size >= threshold), beyond)

    shared = np.zeros(largest + 1, np.int64)  # words in a signature, decided by the smaller set of a pair
    for size in range(least, largest + 1):
        spare = size - int(least_overlap[size])
        fitting = [n for n in (1, 2, 3) if n <= least_overlap[size] and math.comb(spare + n, n) <= _MAX_SIGNATURES]
        shared[size] = max(fitting, default=1)
    choices, signatures = np.zeros(largest + 1, np.int64), np.zeros(largest + 1, np.int64)
    for size in range(least, largest + 1):
        lengths = set(shared[max(least, least_overlap[size]) : size + 1].tolist())
        choices[size] = sum(1 << n for n in lengths)
        spare = size - int(least_overlap[size])
        signatures[size] = sum(math.comb(min(spare + n, size), n) for n in lengths)
    return _Plan(one_apart_from, min(least, largest), least, least_overlap, choices, signatures)
