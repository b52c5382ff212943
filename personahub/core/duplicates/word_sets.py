"""Represents texts compactly, as sets of hashed words or word n-grams.

    sets = word_sets(["A nurse in Oslo", "a nurse, in Oslo!"])
    sets.words[sets.start[0] : sets.start[0] + sets.sizes[0]]      # uint64, the distinct hashes of row 0

`words_of` defines what a word is, and the compiled kernel agrees with it on every character. Texts are read one piece
at a time and not kept, so an iterator over a file of any size works.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from personahub.core.duplicates.folding import folding
from personahub.core.errors import UserError
from personahub.core.executors.threads import in_threads
from personahub.core.kernels import compiled
from personahub.core.texts.words import squeeze, words_of

Texts = Sequence[str] | pa.Array | pa.ChunkedArray | Iterator[pa.Array]

_OFFSETS = {pa.string(): np.int32, pa.binary(): np.int32, pa.large_string(): np.int64, pa.large_binary(): np.int64}
_ROWS_PER_PIECE = 65_536  # enough for arrays with huge pages


@dataclass(frozen=True, eq=False)
class WordSets:
    """Sets of word hashes. Row `i` has `words[start[i] : start[i] + sizes[i]]`, at least one, all distinct."""

    words: np.ndarray  # uint64
    start: np.ndarray  # int64
    sizes: np.ndarray  # int32
    sum1: np.ndarray  # uint64
    sum2: np.ndarray  # uint64

    def columns(self) -> tuple[np.ndarray, ...]:
        """Returns the columns that a kernel fills in, row by row."""
        return self.start, self.sizes, self.sum1, self.sum2


def pieces(texts: Texts) -> Iterator[pa.Array]:
    """Yields the texts as Arrow arrays of UTF-8 strings or bytes. Arrow input is not copied."""
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


def strings(texts: Texts) -> Iterator[str]:
    """Yields the texts one by one, decoded if they are bytes."""
    for piece in pieces(texts):
        for text in piece.to_pylist():
            yield text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text


def _encoded(texts: Sequence[str]) -> Any:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate, which JSON allows and UTF-8 does not
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def word_sets(texts: Texts, ngram: int = 1) -> WordSets:
    """Hashes all words, or runs of `ngram` words. Pieces are hashed in threads, and the texts are not kept."""
    words, at = np.empty(0, np.uint64), 0
    start, *others = ([np.empty(0, kind)] for kind in (np.int64, np.int32, np.uint64, np.uint64))
    for piece in in_threads(functools.partial(_hash_piece, ngram), pieces(texts)):
        words.resize(at + len(piece.words), refcheck=False)  # for large arrays Linux moves pages instead of copying
        words[at : at + len(piece.words)] = piece.words
        start.append(piece.start + at)
        for held, column in zip(others, piece.columns()[1:], strict=True):
            held.append(column)
        at += len(piece.words)
    return WordSets(words[:at], np.concatenate(start), *(np.concatenate(held) for held in others))


def read_sets(texts: Texts, against: Texts | None, ngram: int = 1) -> tuple[int, WordSets]:
    """Returns the number of texts, and their sets followed by those of `against`."""
    rows = 0

    def counted() -> Iterator[pa.Array]:
        nonlocal rows
        for piece in pieces(texts):
            rows += len(piece)
            yield piece

    sets = word_sets(itertools.chain(counted(), pieces([] if against is None else against)), ngram)
    return rows, sets


def _hash_piece(ngram: int, array: pa.Array) -> WordSets:
    rows = len(array)
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer or bytes(8), _OFFSETS[array.type])
    offsets = offsets[array.offset : array.offset + rows + 1].astype(np.int64, copy=False)
    data = np.frombuffer(data_buffer or b"", np.uint8)

    # A text of n bytes has at most (n + 1) / 2 words. Pages that are never written cost no memory.
    words = np.empty((int(offsets[-1] - offsets[0]) + rows) // 2 + 1, np.uint64)
    sets = WordSets(words, *(np.empty(rows, kind) for kind in (np.int64, np.int32, np.uint64, np.uint64)))
    left, table = np.empty(rows, np.bool_), folding(int(data[offsets[0] : offsets[-1]].max(initial=0)))
    used = compiled.hash_words(
        data, offsets[:-1], offsets[1:], False, ngram, table, words, 0, *sets.columns(), left, _stamps()
    )
    added = [_rewrite(sets, array, np.flatnonzero(left), used, ngram)] if left.any() else []
    used_in_all = used + sum(map(len, added))
    added.append(_hash_wordless(sets, array, used_in_all))
    return dataclasses.replace(sets, words=np.concatenate([words[:used], *added]))


def _rewrite(sets: WordSets, array: pa.Array, rows: np.ndarray, at: int, ngram: int) -> np.ndarray:
    """Hashes rows that must be normalized as a whole. Returns their words, which will be stored from `at` on."""
    texts = [" ".join(words_of(_text(array, row))).encode() for row in rows.tolist()]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    starts = ends - np.diff(ends, prepend=0)
    data = np.frombuffer(b"".join(texts), np.uint8)
    words = np.empty((len(data) + len(texts)) // 2 + 1, np.uint64)
    columns = [column[rows] for column in sets.columns()]
    left = np.empty(len(rows), np.bool_)
    used = compiled.hash_words(data, starts, ends, True, ngram, folding(0), words, 0, *columns, left, _stamps())
    columns[0] += at
    for column, values in zip(sets.columns(), columns, strict=True):
        column[rows] = values
    return words[:used]


def _stamps() -> np.ndarray:
    return np.full(4096, -1, np.int64)  # one entry for each value of the upper 12 bits of a hash


def _hash_wordless(sets: WordSets, array: pa.Array, at: int) -> np.ndarray:
    """Hashes texts without words. Each counts as one word of its own, which is its normalized text."""
    rows = np.flatnonzero(sets.sizes == 0)
    words = np.empty(len(rows), np.uint64)
    for i, row in enumerate(rows.tolist()):
        squeezed = squeeze(_text(array, row)).encode("utf-8", "surrogatepass")
        words[i], sets.sum2[row] = np.frombuffer(hashlib.blake2b(squeezed, digest_size=16).digest(), np.uint64)
    sets.start[rows], sets.sizes[rows], sets.sum1[rows] = at + np.arange(len(rows)), 1, words
    return words


def _text(array: pa.Array, row: int) -> str:
    value = array[row].as_py()
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
