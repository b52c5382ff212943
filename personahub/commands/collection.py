"""Reads, writes, samples, counts and searches collections of personas in files.

A collection is a JSON Lines or Parquet file, a folder of such files, or an artifact of a run. Every
function streams it and documents what it holds in memory.
"""

from __future__ import annotations

import contextlib
import gzip
import heapq
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import open_artifact
from personahub.core.embedding.config import EmbedderConfig
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from personahub.core.files import publish, temporary_name
from personahub.core.identity import digest
from personahub.core.records import Row
from personahub.core.texts.rows import EVERY_FILE, ROW_SUFFIXES, SourceRow, one_line, open_parquet
from personahub.core.texts.words import fold, words_of
from personahub.personas.documents import is_artifact, list_files, read_files
from personahub.personas.lexicon import detect_language, names_person
from personahub.personas.plain_replies import normalise

OUTPUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_BUFFER_ROWS = 2048
_EMBEDDING_ROWS = 4096


class Persona(NamedTuple):
    """A persona and its row."""

    text: str
    row: Row
    where: str


def read_collection(path: Path, field: str = "persona") -> Iterator[Persona]:
    """Streams the personas of a collection, file by file.

    Rows whose text is empty or not a string are skipped.

    Raises:
        UserError: nothing is found, a file is empty, damaged or malformed, a row lacks the column, or no row has text.
    """
    found = False
    for where, row in _rows(path):
        if field not in row:
            there = ", ".join(map(repr, row)) or "none"
            raise UserError(f"{where}: no field {field!r}; its fields are {there}. Name the persona field with --field")
        text = row[field]
        if isinstance(text, str) and text.strip():
            found = True
            yield Persona(text, row, where)
    if not found:
        raise UserError(f"{path}: has no personas: no row has text in {field!r}; name another column with --field")


def _rows(path: Path) -> Iterator[SourceRow]:
    if is_artifact(path):
        artifact = open_artifact(path)
        for shard in artifact.shard_names:
            for number, row in enumerate(artifact.read_shard(shard), 1):
                yield SourceRow(f"{path / shard}.parquet, row {number}", row)
        return
    if path.is_file() and not path.name.endswith(ROW_SUFFIXES):
        raise UserError(f"{path}: unknown file type; a collection can be {', '.join(ROW_SUFFIXES)}")
    yield from read_files(path, EVERY_FILE, "", ROW_SUFFIXES)


def parquet_schema(path: Path) -> pa.Schema | None:
    """Returns the columns of a collection of Parquet files with their types.

    None if it has JSON Lines files.

    Raises:
        UserError: files disagree about a column's type, a column name is repeated, or see `list_files`.
    """
    files = list_files(path, EVERY_FILE, ROW_SUFFIXES)
    if not files or not all(file.suffix == ".parquet" for file in files):
        return None
    try:
        return pa.unify_schemas([open_parquet(file, str(file)).schema_arrow for file in files])
    except pa.ArrowException as error:
        raise UserError(f"{path}: the files have no common schema ({one_line(error)}); write .jsonl instead") from None


class CollectionWriter:
    """Writes rows to JSON Lines or Parquet under a temporary name.

    The file appears when it is complete. Use as a context manager. Parquet takes its columns from `schema`. Without a
    schema, all rows are held until the end, and the columns are those that occur in any row.

    Raises:
        UserError: the file type is unknown, the file exists, its folder cannot be written to, or Parquet cannot
            store the rows.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None, overwrite: bool = False) -> None:
        if not path.name.endswith(OUTPUT_SUFFIXES):
            raise UserError(f"{path}: unknown file type; personas can be written to {', '.join(OUTPUT_SUFFIXES)}")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: already exists; name another file, or replace it with --overwrite")
        self.path, self.rows = path, 0
        self._schema = schema
        self._temporary = temporary_name(path)
        self._buffer: list[Row] = []
        self._parquet: pq.ParquetWriter | None = None
        self._lines: IO[str] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix != ".parquet":
                opened = gzip.open if path.suffix == ".gz" else open
                self._lines = opened(self._temporary, "wt", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None

    def __enter__(self) -> CollectionWriter:
        return self

    def write(self, row: Row) -> None:
        """Adds one row."""
        self.rows += 1
        if self._lines is not None:
            self._lines.write(_json_line(row))
            return
        self._buffer.append(row)
        if self._schema is not None and len(self._buffer) >= _BUFFER_ROWS:
            self._flush()

    def _flush(self) -> None:
        try:
            if self._schema is None:
                self._schema = _schema_of(self._buffer)
            table = pa.Table.from_pylist(self._buffer, schema=self._schema)
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
            self._parquet.write_table(table)
        except UnicodeEncodeError:
            raise UserError(
                f"{self.path}: a row has a lone surrogate, which Parquet cannot store; write .jsonl instead"
            ) from None
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{self.path}: Parquet cannot store the rows ({one_line(error)}); write .jsonl instead"
            ) from None
        self._buffer.clear()

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._lines is None and (self._buffer or self._parquet is None):
                self._flush()
            self._close()
            if kind is None:
                publish(self._temporary, self.path)
        finally:
            with contextlib.suppress(OSError):  # on a full disk, closing fails too
                self._close()
            self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        for file in (self._lines, self._parquet):
            if file is not None:
                file.close()


def _schema_of(rows: Sequence[Row]) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.schema([(name, pa.array([row.get(name) for row in rows]).type) for name in names])


def _json_line(row: Row) -> str:
    line = json.dumps(row, ensure_ascii=False, default=str)
    if any(
        "\ud800" <= character <= "\udfff" for character in line
    ):  # a lone surrogate can only be written as an escape
        line = json.dumps(row, default=str)
    return line + "\n"


def sample(personas: Iterator[Persona], count: int, seed: int) -> list[Persona]:
    """Draws `count` personas uniformly without replacement.

    They are those with the smallest hashes, in hash order. The sample does not depend on the order of rows or files.
    The hash covers id and text, because the id may be that of a document with many personas. Memory: the sample.
    """
    keyed = (
        (digest("sample", seed, str(persona.row.get("id") or ""), persona.text), number, persona)
        for number, persona in enumerate(personas)
    )
    return [persona for _, _, persona in heapq.nsmallest(count, keyed, key=lambda entry: entry[:2])]


_COUNTED = ("hop", "mode", "granularity", "source", "licence", "model")
_FIRST_WORDS = re.compile(r"[\w'’-]+")


def stats(personas: Iterator[Persona], most: int = 10) -> dict[str, Any]:
    """Computes statistics of a collection, as JSON values.

    Memory: 8 bytes per persona (about 80 in a Python set) to find repeated ones, and the vocabulary.

    Args:
        personas: the personas of the collection.
        most: how many of the most common values to list.
    """
    lengths: Counter[int] = Counter()
    languages: Counter[str] = Counter()
    people: Counter[str] = Counter()
    vocabulary: set[str] = set()
    seen: set[int] = set()
    ids: set[int] = set()
    columns: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    without_id = profiles = 0
    for text, row, _ in personas:
        words = words_of(text)
        lengths[len(words)] += 1
        vocabulary.update(words)
        languages[detect_language(text) or "unknown"] += 1
        people[_person_word(text)] += 1
        seen.add(_hash(normalise(text)))
        if row.get("id") in (None, ""):
            without_id += 1
        else:
            ids.add(_hash(str(row["id"])))
        profiles += bool(row.get("profile"))
        for name, counts in columns.items():
            if row.get(name) is not None:
                counts[str(row[name]).partition("#")[0]] += 1
    total = sum(lengths.values())
    return {
        "personas": total,
        "distinct": len(seen),
        "duplicate_ids": total - without_id - len(ids),
        "without_id": without_id,
        "with_profile": profiles,
        "words": _percentiles(lengths),
        "vocabulary": len(vocabulary),
        "languages": dict(languages.most_common(most)),
        "people": dict(people.most_common(most)),
        **{name: _top_values(name, counts, most) for name, counts in columns.items() if counts},
    }


def _top_values(name: str, counts: Counter[str], most: int) -> dict[str, int]:
    return dict(sorted(counts.items()) if name == "hop" else counts.most_common(most))


def _hash(text: str) -> int:
    return int(digest(text, size=8), 16)


def _person_word(text: str) -> str:
    """Returns the first word that names a person, as a one-word description."""
    words = _FIRST_WORDS.findall(text[:200])[:12]
    return next((word.lower() for word in words if names_person(word)), "(none)")


def _percentiles(lengths: Mapping[int, int]) -> dict[str, float]:
    if not lengths:
        return {}
    values = np.array(sorted(lengths))
    counts = np.array([lengths[value] for value in values.tolist()])
    reached = np.cumsum(counts) / counts.sum()
    at = {name: int(values[np.searchsorted(reached, share)]) for name, share in (("median", 0.5), ("p95", 0.95))}
    mean = round(float((values * counts).sum() / counts.sum()), 2)
    return {"min": int(values[0]), "mean": mean, **at, "max": int(values[-1])}


class Hit(NamedTuple):
    """A search result; higher scores are better."""

    score: float
    persona: Persona


_K1, _B = 1.2, 0.75  # parameters of BM25 (Robertson and Zaragoza 2009); lengths are in characters


def search_words(read: Callable[[], Iterator[Persona]], query: str, count: int) -> list[Hit]:
    """Finds the best personas for the words in `query` by BM25.

    Reads the collection twice; memory: the hits.

    Args:
        read: opens the collection from its beginning.
        query: words; case and order do not matter, and not all need to occur.
        count: maximum number of hits.

    Raises:
        UserError: the query has no words.
    """
    terms = list(dict.fromkeys(words_of(query)))
    if not terms:
        raise UserError(f"search {query!r}: the query has no words")
    frequency: Counter[str] = Counter()
    rows = characters = 0
    for persona in read():
        rows += 1
        characters += len(persona.text)
        frequency.update(_occurrences(persona.text, terms).keys())
    mean = characters / max(rows, 1)
    weights = {term: math.log(1 + (rows - frequency[term] + 0.5) / (frequency[term] + 0.5)) for term in terms}

    def score(text: str) -> float:
        damping = _K1 * (1 - _B + _B * len(text) / mean)
        found = _occurrences(text, terms).items()
        return sum(weights[term] * times * (_K1 + 1) / (times + damping) for term, times in found)

    scored = ((score(persona.text), persona) for persona in read())
    return _best(((value, persona) for value, persona in scored if value > 0), count)


def _occurrences(text: str, terms: Sequence[str]) -> dict[str, int]:
    """Counts how often each term occurs in the text. Terms that do not occur are left out."""
    folded = fold(text)
    if not any(term in folded for term in terms):  # true for most rows
        return {}
    counts = Counter(words_of(text))
    return {term: counts[term] for term in terms if term in counts}


def search_embedding(
    personas: Iterator[Persona], query: str, count: int, embedder: EmbedderConfig, progress: Callable[[int], object]
) -> list[Hit]:
    """Finds the personas closest to `query` in meaning, by cosine. Embeds all of them; memory: a block and the hits."""
    wanted = embed([query], embedder)[0]
    best: list[Hit] = []
    block: list[Persona] = []

    def merge() -> None:
        cosines = embed([persona.text for persona in block], embedder) @ wanted
        found = zip(cosines.tolist(), block, strict=True)
        best[:] = _best([*((hit.score, hit.persona) for hit in best), *found], count)
        progress(len(block))
        block.clear()

    for persona in personas:
        block.append(persona)
        if len(block) == _EMBEDDING_ROWS:
            merge()
    if block:
        merge()
    return best


def _best(scored: Any, count: int) -> list[Hit]:
    """Returns the highest scores; among equal scores, the first."""
    numbered = ((-score, number, persona) for number, (score, persona) in enumerate(scored))
    return [Hit(-score, persona) for score, _, persona in heapq.nsmallest(count, numbered, key=lambda entry: entry[:2])]
