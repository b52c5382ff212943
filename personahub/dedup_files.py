"""`personahub dedup`: near-duplicates out of JSONL and Parquet files, without an experiment.

    personahub dedup personas.jsonl unique.jsonl
    personahub dedup new.parquet unique.parquet --method embedding --threshold 0.9 --against old.parquet

IN is a file, or a folder of files of one kind. It is read twice, a piece at a time: first the texts,
of which `surface` and `minhash` keep hashes only (about 250 bytes a row of 14 words) and
`embedding` vectors in a file beside OUT; then the rows, of which those that stay are written as
they are. OUT appears when all is done, so a run that fails leaves nothing that looks whole.

`OUT.dropped.jsonl` tells of every row that is not in OUT: file, row (from 1), id, text and reason.
The reason is `near_duplicate_METHOD`, with the similarity and the survivor, or why the row could not
be compared: `not_json`, `not_an_object`, `missing_field`, `not_a_string`, `too_long`. Rows are told
apart by file and number, so ids may repeat or be absent.

No chain is collapsed: every near-duplicate is similar to its own survivor.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.artifact import replacing
from personahub.core.config import suggest
from personahub.core.duplicates import clustered, embedding, minhash, surface
from personahub.core.duplicates.result import Deduplication
from personahub.core.embedding import EmbedderConfig, embed
from personahub.core.errors import UserError
from personahub.core.progress import Progress

MOST_CHARACTERS = 1_000_000  # in one text; longer ones are no persona
_ROWS = 16_384  # read at once
_EMBEDDED = 16_384


@dataclass(frozen=True)
class Options:
    """What the command line says; see `personahub dedup --help`."""

    method: Literal["surface", "minhash", "embedding"] = "surface"
    threshold: float = 0.9
    text_field: str = "persona"
    id_field: str = "id"
    keep: Literal["first", "longest"] = "first"
    score_field: str | None = None  # the highest number survives
    ngram: int = 1
    search: Literal["exact", "clustered"] = "exact"  # among vectors
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)


def embedder(name: str) -> EmbedderConfig:
    """`minilm`, `hashing`, a folder, or a name on the hub."""
    if name == "minilm":
        return EmbedderConfig()
    if name == "hashing":
        return EmbedderConfig(kind="hashing")
    if Path(name).is_dir():
        return EmbedderConfig(kind="sentence_transformers", path=name)
    return EmbedderConfig(kind="sentence_transformers", model=name)


@dataclass(frozen=True)
class Row:
    """One row as read: either its text or, in `reason`, why it has none."""

    text: str
    id: Any = None
    score: Any = None
    reason: str | None = None


@dataclass
class Collection:
    """The rows of one file or folder; what is needed of all of them at once."""

    files: list[Path]
    options: Options
    reasons: list[str | None] = field(default_factory=list)  # of all rows; None: its text is compared
    ids: list[Any] = field(default_factory=list)  # of rows that are compared
    priority: list[float] = field(default_factory=list)  # the lowest is visited first
    first_row: list[int] = field(default_factory=list)  # of each file, among all rows

    @property
    def is_parquet(self) -> bool:
        return self.files[0].suffix == ".parquet"

    def texts(self, report: Callable[[int], object]) -> Iterator[pa.Array]:
        """Read all rows; yield the texts that can be compared."""
        for file in self.files:
            self.first_row.append(len(self.reasons))
            for rows in _read(file, self.options):
                self.reasons += [row.reason for row in rows]
                usable = [row for row in rows if row.reason is None]
                self.ids += [row.id for row in usable]
                self.priority += [self._priority(row) for row in usable]
                yield pa.array([row.text.encode("utf-8", "surrogatepass") for row in usable], pa.large_binary())
                report(len(rows))
        if not self.reasons:
            raise UserError(f"{self.files[0]}: there are no rows")
        if not self.ids:
            raise UserError(self._nothing_to_compare())

    def _nothing_to_compare(self) -> str:
        reasons, wanted = Counter(self.reasons), self.options.text_field
        if len(reasons) == 1 and "missing_field" in reasons:
            names = _field_names(self.files[0])
            if wanted not in names:
                return (
                    f"{self.files[0]}: no row has a field {wanted!r}. {suggest(wanted, names)} "
                    "(--text-field names another)"
                )
        told = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
        kind = "a row" if self.is_parquet else "a line is a JSON object that"
        return f"{self.files[0]}: no row can be compared ({told}): {kind} has text in {wanted!r}"

    @functools.cached_property
    def compared(self) -> np.ndarray:
        """Numbers, among all rows, of those that are compared; for use when all are read."""
        return np.flatnonzero([reason is None for reason in self.reasons])

    def _priority(self, row: Row) -> float:
        if self.options.score_field is not None:
            is_number = (
                isinstance(row.score, (int, float)) and not isinstance(row.score, bool) and row.score == row.score
            )
            try:
                return -float(row.score) if is_number else float("inf")
            except OverflowError:  # JSON knows no limit
                return float("-inf") if row.score > 0 else float("inf")
        return -len(row.text) if self.options.keep == "longest" else 0.0

    def place(self, row: int) -> dict[str, Any]:
        """File and row number, from 1, of one of all rows."""
        number = int(np.searchsorted(self.first_row, row, side="right")) - 1
        return {"file": str(self.files[number]), "row": row - self.first_row[number] + 1}


def deduplicate_files(source: Path, target: Path, options: Options, against: Path | None = None) -> dict[str, int]:
    """Write what stays of `source` to `target`, and what does not beside it.

    Returns:
        Counts: `rows`, `kept`, and for each reason how many were dropped.

    Raises:
        UserError: a file cannot be read, is empty or has no such field; no row of one can be compared; `target` has
            another format, cannot be written, or would overwrite what is read.
    """
    new = Collection(_files(source), options)
    old = Collection(_files(against), options) if against is not None else None
    if not -1 <= options.threshold <= 1:
        raise UserError(f"threshold {options.threshold}: a similarity is at most 1")
    if target.suffix != new.files[0].suffix:
        raise UserError(
            f"{target}: rows are copied as they are, so it must end in {new.files[0].suffix}, as {source} does"
        )
    for written in (target, _dropped_file(target)):
        _require_writable(written, [*new.files, *(old.files if old else [])])
        if source.is_dir() and source.resolve() == written.parent.resolve():
            raise UserError(f"{written}: lies in {source}, where the next run would read it; name another folder")
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in new.files]
    with Progress("dedup: reading", None) as progress:
        result = _decide(new, old, options, target.parent, progress.update)
    if stamps != [(file.stat().st_size, file.stat().st_mtime_ns) for file in new.files]:
        raise UserError(f"{source}: it was changed while it was read")
    with Progress("dedup: writing", len(new.reasons)) as progress:
        return _write(new, old, result, target, progress.update)


def _dropped_file(target: Path) -> Path:
    return target.with_name(f"{target.stem}.dropped.jsonl")


def _require_writable(file: Path, sources: list[Path]) -> None:
    """Before hours of work: that it can be written, and is none of the files that are read."""
    if file.exists() and any(file.samefile(source) for source in sources):
        raise UserError(f"{file}: the output would overwrite the input; give another name")
    if file.is_dir():
        raise UserError(f"{file}: is a folder; give the name of a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}."):
            pass
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from None


def _decide(
    new: Collection, old: Collection | None, options: Options, folder: Path, report: Callable[[int], object]
) -> Deduplication:
    texts, before = new.texts(report), old.texts(report) if old else None

    def priority() -> np.ndarray:  # known when all rows are read
        return np.array(new.priority)

    if options.method == "surface":
        return surface.deduplicate(texts, options.threshold, priority, before)
    if options.method == "minhash":
        return minhash.deduplicate(texts, options.threshold, priority, before, ngram=options.ngram)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".vectors-") as scratch:
        vectors = _embed(itertools.chain(texts, before or ()), options.embedder, Path(scratch) / "vectors.f32")
        search = clustered.deduplicate if options.search == "clustered" else embedding.deduplicate
        return search(vectors, options.threshold, priority, references=len(vectors) - len(new.ids))


def _embed(texts: Iterator[pa.Array], config: EmbedderConfig, file: Path) -> np.ndarray:
    """Vectors of all texts, in a file that is mapped into memory."""
    rows, dimensions = 0, 0
    with file.open("wb") as stream:
        for piece in texts:
            for first in range(0, len(piece), _EMBEDDED):
                part = [text.decode("utf-8", "replace") for text in piece.slice(first, _EMBEDDED).to_pylist()]
                vectors = embed(part, config)
                rows, dimensions = rows + len(vectors), vectors.shape[1]
                stream.write(vectors.tobytes())
    if not rows:
        return np.empty((0, 1), np.float32)
    return np.memmap(file, np.float32, mode="r", shape=(rows, dimensions))


def _write(
    new: Collection, old: Collection | None, result: Deduplication, target: Path, report: Callable[[int], object]
) -> dict[str, int]:
    row_of = new.compared
    usable = np.zeros(len(new.reasons), bool)
    usable[row_of] = True
    stays = usable.copy()
    stays[row_of[result.dropped]] = False
    details = {
        int(row_of[row]): {"similarity": round(float(similarity), 6), **_survivor(new, old, int(survivor))}
        for row, survivor, similarity in zip(result.dropped, result.survivors, result.similarities, strict=True)
    }
    position = np.cumsum(usable) - 1  # of a row among those compared
    counts = Counter[str]()
    method = f"near_duplicate_{new.options.method}"
    # The last to be opened is the first to take its name: OUT when all is told of what is not in it.
    with (
        replacing(target) as temporary,
        replacing(_dropped_file(target)) as dropped,
        dropped.open("w", encoding="utf-8") as log,
    ):
        row = 0
        for rows in _copied(new, stays, temporary):
            for text in rows:
                if not stays[row]:
                    reason = new.reasons[row] or method
                    counts[reason] += 1
                    told = {**new.place(row), "id": new.ids[position[row]] if usable[row] else None, "reason": reason}
                    # ASCII: a lone surrogate can be told as an escape only.
                    log.write(json.dumps(told | details.get(row, {}) | {"text": text}, default=str) + "\n")
                row += 1
            report(len(rows))
    return {"rows": len(new.reasons), "kept": int(stays.sum()), **dict(sorted(counts.items()))}


def _survivor(new: Collection, old: Collection | None, survivor: int) -> dict[str, Any]:
    collection = new
    if old is not None and survivor >= len(new.ids):
        collection, survivor = old, survivor - len(new.ids)
    place = collection.place(int(collection.compared[survivor]))
    return {"survivor_file": place["file"], "survivor_row": place["row"], "survivor_id": collection.ids[survivor]}


def _copied(new: Collection, stays: np.ndarray, target: Path) -> Iterator[list[str | None]]:
    """Copy the rows that stay; yield the texts of all rows, None where it stays."""
    row = 0
    if new.is_parquet:
        with pq.ParquetWriter(target, _copyable(pq.read_schema(new.files[0]))) as writer:
            for file in new.files:
                for batch in _batches(file):
                    chosen = stays[row : row + len(batch)]
                    writer.write(batch.filter(pa.array(chosen)))
                    texts = batch[new.options.text_field].to_pylist()
                    yield [None if kept else text for kept, text in zip(chosen, texts, strict=True)]
                    row += len(batch)
        return
    with target.open("wb") as stream:
        for file in new.files:
            for lines in _lines(file):
                chosen = stays[row : row + len(lines)].tolist()
                stream.writelines(line + b"\n" for line, kept in zip(lines, chosen, strict=True) if kept)
                yield [
                    None if kept else _row(line, new.options).text or line[:1000].decode("utf-8", "replace")
                    for line, kept in zip(lines, chosen, strict=True)
                ]
                row += len(lines)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in (".jsonl", ".parquet"))
        if not found or len({file.suffix for file in found}) > 1:
            raise UserError(f"{path}: a folder of .jsonl or of .parquet files is needed; it has {len(found)} of these")
    else:
        found = [path]
        if path.suffix not in (".jsonl", ".parquet"):
            raise UserError(f"{path}: a .jsonl or .parquet file is needed")
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
    if found[0].suffix == ".parquet":
        schemas = {file: _opened(file).schema_arrow.remove_metadata() for file in found}
        for file, schema in schemas.items():
            if not schema.equals(schemas[found[0]]):
                raise UserError(f"{file}: its columns are not those of {found[0]}")
    return found


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def _batches(file: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    try:
        for batch in _opened(file).iter_batches(_ROWS, columns=columns):
            schema = _copyable(batch.schema)
            yield batch if schema == batch.schema else batch.cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read to its end: {str(error).splitlines()[0]}") from None


_NO_FILTER = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}  # Arrow cannot filter these


def _copyable(schema: pa.Schema) -> pa.Schema:
    """The same columns in types that can be filtered."""
    fields = [field.with_type(_NO_FILTER.get(field.type, field.type)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _lines(file: Path) -> Iterator[list[bytes]]:
    """Lines without their end and without a byte order mark, blank ones left out."""
    try:
        with file.open("rb") as stream:
            if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                stream.seek(0)
            lines = (line.rstrip(b"\r\n") for line in stream)
            while part := list(itertools.islice((line for line in lines if line.strip()), _ROWS)):
                yield part
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None


def _field_names(file: Path) -> list[str]:
    """Of the first record, for a message."""
    if file.suffix == ".parquet":
        return _opened(file).schema_arrow.names
    return list(json.loads(next(_lines(file))[0].decode("utf-8", "surrogatepass")))


def _read(file: Path, options: Options) -> Iterator[list[Row]]:
    if file.suffix == ".jsonl":
        for lines in _lines(file):
            yield [_row(line, options) for line in lines]
        return
    names = _opened(file).schema_arrow.names
    if options.text_field not in names:
        raise UserError(
            f"{file}: no column {options.text_field!r}. {suggest(options.text_field, names)} (--text-field names another)"
        )
    wanted = {name for name in (options.text_field, options.id_field, options.score_field) if name and name in names}
    for batch in _batches(file, sorted(wanted)):
        nothing = [None] * len(batch)
        columns = [
            batch[name].to_pylist() if name in wanted else nothing
            for name in (options.text_field, options.id_field, options.score_field)
        ]
        yield [_checked(*values) for values in zip(*columns, strict=True)]


def _row(line: bytes, options: Options) -> Row:
    try:
        record = json.loads(line.decode("utf-8", "surrogatepass"))  # of bytes it would guess UTF-16 too
    except (ValueError, RecursionError):
        return Row("", reason="not_json")
    if not isinstance(record, dict):
        return Row("", reason="not_an_object")
    score = record.get(options.score_field) if options.score_field else None
    return _checked(record.get(options.text_field), record.get(options.id_field), score)


def _checked(text: Any, name: Any, score: Any) -> Row:
    if text is None:
        return Row("", name, score, "missing_field")
    if not isinstance(text, str):
        return Row("", name, score, "not_a_string")
    if len(text) > MOST_CHARACTERS:
        return Row(text[:1000], name, score, "too_long")
    return Row(text, name, score)
