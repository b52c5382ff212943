"""Near-duplicates by surface form: exact Jaccard similarity over the sets of words (word 1-grams).

    result = deduplicate(["A nurse in Oslo", "a nurse, in Oslo!", "A miner"], threshold=0.9)
    result.kept                                 # array([0, 2])

The paper (arXiv 2406.20094, section 2) approximates this with MinHash. For sets of 10 to 18
words, as personas have, 0.9 means "the same words, or one added or left out", which MinHash with
128 hashes misses about half of the time. This join is exact (recall and precision 1) and faster:

1. A set's hash is the sum of its word hashes, 128 bits wide. Equal sets meet in one table.
2. Sets that differ by one word are found by subtracting each word in turn and looking the rest
   up in that table, behind a Bloom filter. At most one edge per word: no bucket can overflow.
3. Sets that may be similar at two or more different words share a signature, by which each row
   looks among those kept so far; what it finds is verified. At a high threshold, sets that differ
   by `d` words agree on one of `d + 1` parts of the vocabulary (pigeonhole: Arasu, Ganti and
   Kaushik 2006). At a low one, with `o` the fewest words of a set A that a similar set shares,
   the `|A| - o + l` rarest words of both have `l` in common (prefix filter: Chaudhuri, Ganti and
   Kaushik 2006; for `l` words: Wang, Li and Feng 2012). `plan` decides by size. Signatures that
   occur once are dropped before anything is stored.

Words are compared by 64-bit hashes: among ten million distinct words, the probability that any
two are confused is 3e-6. Memory at the peak: about 350 bytes for a persona of 14 words, beside
the texts. At 0.9 time grows with the number of rows; at 0.5, with its square.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from personahub.core.duplicates import compiled
from personahub.core.duplicates.plan import Plan, make_plan
from personahub.core.duplicates.result import Deduplication, visiting_order
from personahub.core.errors import UserError

Texts = Sequence[str] | pa.Array | pa.ChunkedArray | Iterator[pa.Array]
Item = TypeVar("Item")
Result = TypeVar("Result")

_WORD = re.compile(r"\w+")
_FOLDED = 0x3100  # characters in the folding table
_OFFSETS = {pa.string(): np.int32, pa.binary(): np.int32, pa.large_string(): np.int64, pa.large_binary(): np.int64}
_ROWS_PER_PIECE = 65_536  # their arrays are large enough for huge pages


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
        texts: strings of any kind; a pyarrow string column is read in place. An iterator of
            pyarrow arrays is consumed as it comes, and only the words' hashes stay in memory.
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
    rows = 0

    def counted() -> Iterator[pa.Array]:
        nonlocal rows
        for piece in _pieces(corpus):
            rows += len(piece)
            yield piece

    sets = _word_sets(itertools.chain(counted(), _pieces(queries)))
    references = rows
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
    """Row `i` has the distinct word hashes `words[start[i] : start[i] + sizes[i]]`; never none."""

    words: np.ndarray  # uint64
    start: np.ndarray  # int64
    sizes: np.ndarray  # int32
    sum1: np.ndarray  # uint64
    sum2: np.ndarray  # uint64

    def columns(self) -> tuple[np.ndarray, ...]:
        """What a kernel fills in, row by row."""
        return self.start, self.sizes, self.sum1, self.sum2


def _pieces(texts: Texts) -> Iterator[pa.Array]:
    """The texts as Arrow arrays of UTF-8 strings or bytes, in place where they are that already."""
    if isinstance(texts, pa.Array):
        chunks: Iterable[Any] = [texts]
    elif isinstance(texts, pa.ChunkedArray):
        column: Any = texts
        chunks = column.chunks
    elif isinstance(texts, Sequence):
        chunks = (_encoded(texts[first : first + _ROWS_PER_PIECE]) for first in range(0, len(texts), _ROWS_PER_PIECE))
    else:
        chunks = texts
    row = 0
    for chunk in chunks:
        array = chunk if chunk.type in _OFFSETS else chunk.cast(pa.large_binary())
        if array.null_count:
            raise UserError(f"text {row + array.is_null().index(True).as_py()} is null: every row needs a text")
        row += len(array)
        for first in range(0, len(array), _ROWS_PER_PIECE):
            yield array.slice(first, _ROWS_PER_PIECE)


def _encoded(texts: Sequence[str]) -> Any:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def _word_sets(texts: Texts) -> _WordSets:
    """Hash all words. Pieces are hashed in threads as they come; the texts are not kept."""
    pieces = _in_threads(_hash_piece, _pieces(texts))
    words = np.empty(sum(len(piece.words) for piece in pieces), np.uint64)
    sizes, sum1, sum2 = (
        np.concatenate([np.empty(0, kind), *(getattr(piece, name) for piece in pieces)])
        for name, kind in (("sizes", np.int32), ("sum1", np.uint64), ("sum2", np.uint64))
    )
    start, row, at = np.empty(len(sizes), np.int64), 0, 0
    pieces.reverse()
    while pieces:  # each is freed once it is copied, so words are hardly ever in memory twice
        piece = pieces.pop()
        np.add(piece.start, at, out=start[row : row + len(piece.start)])
        words[at : at + len(piece.words)] = piece.words
        row, at = row + len(piece.start), at + len(piece.words)
    return _WordSets(words, start, sizes, sum1, sum2)


def _hash_piece(array: pa.Array) -> _WordSets:
    rows = len(array)
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer or bytes(8), _OFFSETS[array.type])
    offsets = offsets[array.offset : array.offset + rows + 1].astype(np.int64, copy=False)
    data = np.frombuffer(data_buffer or b"", np.uint8)

    # A text of n bytes has at most (n + 1) / 2 words. Pages that are never written cost no memory.
    words = np.empty((int(offsets[-1] - offsets[0]) + rows) // 2 + 1, np.uint64)
    sets = _WordSets(words, *(np.empty(rows, kind) for kind in (np.int64, np.int32, np.uint64, np.uint64)))
    left = np.empty(rows, np.bool_)
    used = compiled.hash_words(
        data, offsets[:-1], offsets[1:], False, _folding(), words, 0, *sets.columns(), left, _stamps()
    )
    added = [_rewrite(sets, array, np.flatnonzero(left), used)] if left.any() else []
    used_in_all = used + sum(map(len, added))
    added.append(_hash_wordless(sets, array, used_in_all))
    return dataclasses.replace(sets, words=np.concatenate([words[:used], *added]))


def _rewrite(sets: _WordSets, array: pa.Array, rows: np.ndarray, at: int) -> np.ndarray:
    """Normalise rows that need it as a whole; return their words, which are to stand from `at` on."""
    texts = [" ".join(words_of(_text(array, row))).encode() for row in rows.tolist()]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    starts = ends - np.diff(ends, prepend=0)
    data = np.frombuffer(b"".join(texts), np.uint8)
    words = np.empty((len(data) + len(texts)) // 2 + 1, np.uint64)
    columns = [column[rows] for column in sets.columns()]
    left = np.empty(len(rows), np.bool_)
    used = compiled.hash_words(data, starts, ends, True, _folding(), words, 0, *columns, left, _stamps())
    columns[0] += at
    for column, values in zip(sets.columns(), columns, strict=True):
        column[rows] = values
    return words[:used]


def _stamps() -> np.ndarray:
    return np.full(4096, -1, np.int64)  # one for each upper 12 bits of a hash


@functools.cache
def _folding() -> np.ndarray:
    """What each character up to the end of the kana becomes by itself: see `kernels.fold`.

    Marks and Hangul letters may merge with the character before them, and some characters become
    several: texts with any of these are normalised as a whole.
    """
    table = np.zeros(_FOLDED, np.int32)
    for code in range(_FOLDED):
        character = chr(code)
        folded = _normalize(character)
        if len(folded) != 1 or unicodedata.category(character)[0] == "M" or 0x1100 <= code < 0x1200:
            table[code] = -1
        elif _WORD.match(folded):
            table[code] = ord(folded)
    return table


def _hash_wordless(sets: _WordSets, array: pa.Array, at: int) -> np.ndarray:
    """A text without words counts as one word of its own: its normalised self."""
    rows = np.flatnonzero(sets.sizes == 0)
    words = np.empty(len(rows), np.uint64)
    for i, row in enumerate(rows.tolist()):
        squeezed = _squeeze(_text(array, row)).encode("utf-8", "surrogatepass")
        words[i], sets.sum2[row] = np.frombuffer(hashlib.blake2b(squeezed, digest_size=16).digest(), np.uint64)
    sets.start[rows], sets.sizes[rows], sets.sum1[rows] = at + np.arange(len(rows)), 1, words
    return words


def _text(array: pa.Array, row: int) -> str:
    value = array[row].as_py()
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in the order of the items, of which few are taken ahead; the kernels release the GIL."""
    threads, results = _processors(), []
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                results.append(waiting.popleft().result())
        results += [future.result() for future in waiting]
    return results


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: those this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class _Groups:
    """Identical sets: the first row of each one's group in visiting order, and the hash table of these leaders."""

    leader: np.ndarray  # int32
    slots: np.ndarray  # int32, a power of two long


def _group(sets: _WordSets, order: np.ndarray) -> _Groups:
    groups = _Groups(np.empty(len(order), np.int32), np.full(_power_of_two(2 * len(order)), -1, np.int32))
    compiled.group_identical(order, sets.sum1, sets.sum2, groups.slots, groups.leader)
    return groups


def _join(
    sets: _WordSets, order: np.ndarray, groups: _Groups, threshold: float, references: int, keep_rest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Survivor (int32, -1: none) and similarity (float64) of each row; see `kernels.keep_first`."""
    rows = len(order)
    plan = make_plan(threshold, int(sets.sizes.max(initial=1)))
    edge_start, edges = _edges(sets, groups, plan)
    sketches, signature_start, signatures = _signatures(sets, groups, plan)
    rank = np.empty(rows, np.int32)
    rank[order] = np.arange(rows, dtype=np.int32)
    survivor, similarity = np.full(rows, -1, np.int32), np.zeros(rows, np.float64)
    compiled.keep_first(
        order, rank, references, keep_rest, threshold, groups.leader,
        sets.words, sets.start, sets.sizes, sketches,
        edge_start, edges, signature_start, signatures,
        np.full(_power_of_two(len(signatures)), -1, np.int64), np.empty((len(signatures), 3), np.int32),
        np.zeros(rows, np.bool_), np.full(rows, -1, np.int32), survivor, similarity,
    )  # fmt: skip
    return survivor, similarity


def _edges(sets: _WordSets, groups: _Groups, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Leaders one word away from each leader: `edges[edge_start[i] : edge_start[i + 1]]`."""
    rows, (least, most) = len(sets.sizes), plan.one_word_apart
    if least > most:
        return np.zeros(rows + 1, np.int64), np.empty(0, np.int32)
    bloom = np.zeros(_power_of_two(rows // 4), np.uint64)
    compiled.fill_bloom(sets.sizes, sets.sum1, groups.leader, least - 1, most - 1, bloom)

    def find(first: int) -> tuple[np.ndarray, np.ndarray]:
        last = min(first + _ROWS_PER_PIECE, rows)
        sizes = sets.sizes[first:last]
        room = int(sizes[(sizes >= least) & (sizes <= most)].sum())
        larger, smaller = np.empty(room, np.int32), np.empty(room, np.int32)
        found = compiled.one_word_apart(
            first, last, sets.words, sets.start, sets.sizes, sets.sum1, sets.sum2, groups.leader, groups.slots,
            bloom, least, most, larger, smaller,
        )  # fmt: skip
        return larger[:found].copy(), smaller[:found].copy()

    found = _in_threads(find, range(0, rows, _ROWS_PER_PIECE))
    none = np.empty(0, np.int32)
    ends = np.concatenate([none, *(larger for larger, _ in found), *(smaller for _, smaller in found)])
    others = np.concatenate([none, *(smaller for _, smaller in found), *(larger for larger, _ in found)])
    edge_start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=rows))])
    return edge_start, others[np.argsort(ends, kind="stable")]


def _signatures(sets: _WordSets, groups: _Groups, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sketches of the sets, and those signatures of each leader that it may share with another."""
    rows = len(sets.sizes)
    sketches, start = np.zeros(rows, np.uint64), np.zeros(rows + 1, np.int64)
    leaders = np.bincount(sets.sizes[groups.leader == np.arange(rows)], minlength=len(plan.signatures))
    room = int(leaders @ plan.signatures)
    if not room:
        return sketches, start, np.empty(0, np.uint64)
    counts = np.zeros(_power_of_two(min(len(sets.words) // 16, 1 << 18)), np.int32)
    if (plan.schemes > 0).any():
        compiled.count_words(sets.words, sets.start, sets.sizes, groups.leader, plan.least, counts)
    once, twice = (np.zeros(_power_of_two(room // 4), np.uint64) for _ in range(2))
    signatures = np.empty(room, np.uint64)
    compiled.sign(
        sets.words, sets.start, sets.sizes, groups.leader, counts, plan.scheme_start, plan.schemes, plan.spare,
        once, twice, *_scratch(plan), start, signatures,
    )  # fmt: skip
    compiled.sort_and_sketch(sets.words, sets.start, sets.sizes, start, sketches)
    return sketches, start, signatures[: start[-1]]


def _scratch(plan: Plan) -> tuple[np.ndarray, ...]:
    """Arrays for `kernels.sign`: the signatures of one set, its rarest words, and one choice of them."""
    most, rarest = int(plan.signatures.max()), len(plan.spare) + 64
    return (
        np.empty(most, np.uint64),
        np.empty(rarest, np.uint64),
        np.empty(rarest, np.int32),
        np.empty(64, np.int64),
        np.empty(64, np.uint64),
    )


def _power_of_two(at_least: int) -> int:
    return 1 << max(4, (at_least - 1).bit_length())
