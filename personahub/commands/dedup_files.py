"""Deduplicates JSON Lines and Parquet files for `personahub dedup`.

Needs no experiment. The input is a file, the folder of a stage, or a folder of files of one type, JSON Lines (also
gzipped) or Parquet. Files named `*.dropped.jsonl` and `*.rejected.jsonl` in a folder are skipped. The input is read
twice, in blocks: first the texts, of which `surface` and `minhash` keep only hashes (about 250 bytes for a row of 14
words) and `embedding` keeps vectors in a file next to the output; then the rows, which are copied unchanged if they
are kept. The output appears when everything is done, so a run that fails leaves no file that looks complete.

`OUT.dropped.jsonl` describes every row that is not in the output: file, row (from 1), id, text and reason. The reason
is `near_duplicate_METHOD`, with the similarity and the row that was kept, or says why the row could not be compared:
`not_json`, `not_an_object`, `missing_field`, `not_a_string`, `too_long`. Rows are identified by file and number, so ids
may repeat or be missing.

Chains are not collapsed: every dropped row is similar to the row that was kept in its place.
"""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.commands.dedup_input import (
    Fields,
    TextRow,
    field_names,
    file_schema,
    is_parquet,
    line_blocks,
    parse_text_row,
    read_text_rows,
    record_batches,
    row_files,
)
from personahub.commands.outputs import require_writable
from personahub.core.config import suggest
from personahub.core.duplicates.result import Deduplication
from personahub.core.errors import UserError
from personahub.core.executors.progress import Progress
from personahub.core.files import replacing
from personahub.deduplication.method import Method


@dataclass(frozen=True)
class Options:
    """Options of the command apart from the method; see `personahub dedup --help`."""

    text_field: str = "persona"
    id_field: str = "id"
    keep: Literal["first", "longest"] = "first"
    score_field: str | None = None  # the row with the highest number survives


@dataclass
class Collection:
    """The rows of one file or folder, and the values kept in memory for all of them."""

    files: list[Path]
    fields: Fields
    keep: Literal["first", "longest"] = "first"
    reasons: list[str | None] = field(default_factory=list)  # of all rows; None if the text is compared
    ids: list[Any] = field(default_factory=list)  # of rows that are compared
    priority: list[float] = field(default_factory=list)  # the lowest is visited first
    scored: int = 0  # number of compared rows with a score
    first_row: list[int] = field(default_factory=list)  # of each file, as an index among all rows

    @property
    def is_parquet(self) -> bool:
        return is_parquet(self.files[0])

    def texts(self, report: Callable[[int], object]) -> Iterator[pa.Array]:
        """Reads all rows and yields the texts that can be compared."""
        for file in self.files:
            self.first_row.append(len(self.reasons))
            for rows in read_text_rows(file, self.fields):
                self.reasons += [row.reason for row in rows]
                usable = [row for row in rows if row.reason is None]
                self.ids += [row.id for row in usable]
                self.priority += [self._priority(row) for row in usable]
                self.scored += sum(row.score is not None for row in usable)
                yield pa.array([row.text.encode("utf-8", "surrogatepass") for row in usable], pa.large_binary())
                report(len(rows))
        if not self.reasons:
            raise UserError(f"{self.files[0]}: there are no rows")
        if not self.ids:
            raise UserError(self._nothing_to_compare())
        if self.fields.score is not None and not self.scored:
            raise UserError(self._nothing_to_rank_by(self.fields.score))

    def _nothing_to_compare(self) -> str:
        reasons, wanted = Counter(self.reasons), self.fields.text
        if len(reasons) == 1 and "missing_field" in reasons:
            names = field_names(self.files[0])
            if wanted not in names:
                return (
                    f"{self.files[0]}: no row has a field {wanted!r}. {suggest(wanted, names)} "
                    "(--text-field names another)"
                )
        counts = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
        kind = "no row" if self.is_parquet else "no line is a JSON object that"
        return f"{self.files[0]}: no row can be compared ({counts}): {kind} has text in {wanted!r}"

    def _nothing_to_rank_by(self, wanted: str) -> str:
        names = field_names(self.files[0])
        hint = "its values are not numbers" if wanted in names else suggest(wanted, names)
        return f"{self.files[0]}: no row has a number in {wanted!r}: {hint} (--score-field names another)"

    @functools.cached_property
    def compared(self) -> np.ndarray:
        """Indexes, among all rows, of the compared ones. Use it only after all rows are read."""
        return np.flatnonzero([reason is None for reason in self.reasons])

    def _priority(self, row: TextRow) -> float:
        if self.fields.score is not None:
            return -row.score if row.score is not None else float("inf")
        return -len(row.text) if self.keep == "longest" else 0.0

    def place(self, row: int) -> dict[str, Any]:
        """Returns the file, and the row number in it from 1, of the row with this index."""
        number = int(np.searchsorted(self.first_row, row, side="right")) - 1
        return {"file": str(self.files[number]), "row": row - self.first_row[number] + 1}


def deduplicate_files(
    source: Path, target: Path, method: Method, options: Options, against: Path | None = None
) -> dict[str, int]:
    """Writes kept rows of `source` to `target`.

    Dropped ones go to a file next to it.

    Returns:
        Counts: `rows`, `kept`, and the number of dropped rows by reason.

    Raises:
        UserError: a file cannot be read, is empty or lacks the field; a file has no row that can be compared;
            `target` has another format, cannot be written, or would overwrite what is read.
    """
    fields = Fields(options.text_field, options.id_field, options.score_field)
    new = Collection(row_files(source), fields, options.keep)
    old = Collection(row_files(against), replace(fields, score=None)) if against is not None else None
    endings = (".parquet",) if new.is_parquet else _LINES
    if not target.name.endswith(endings):
        raise UserError(f"{target}: rows are copied unchanged, so the name must end in {' or '.join(endings)}")
    for written in (target, _dropped_file(target)):
        require_writable(written, [*new.files, *(old.files if old else [])])
        folder = written.parent.resolve()
        if source.is_dir() and source.resolve() in (folder, *folder.parents):
            raise UserError(f"{written}: is in {source}, where the next run would read it; choose another folder")
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in new.files]
    with Progress("dedup: reading", None) as progress:
        result = _decide(new, old, method, target.parent, progress.update)
    if stamps != [(file.stat().st_size, file.stat().st_mtime_ns) for file in new.files]:
        raise UserError(f"{source}: changed while it was read")
    with Progress("dedup: writing", len(new.reasons)) as progress:
        return _write(new, old, result, target, f"near_duplicate_{method.name}", progress.update)


_LINES = (".jsonl", ".jsonl.gz")


def _dropped_file(target: Path) -> Path:
    return target.with_name(f"{target.name.removesuffix('.gz').rpartition('.')[0]}.dropped.jsonl")


def _decide(
    new: Collection, old: Collection | None, method: Method, folder: Path, report: Callable[[int], object]
) -> Deduplication:
    def priority() -> np.ndarray:  # known only after all rows are read
        return np.array(new.priority)

    with tempfile.TemporaryDirectory(dir=folder, prefix=".dedup-") as scratch:
        before = old.texts(report) if old else None
        return method.prepare(new.texts(report), before, Path(scratch)).deduplicate(priority)


def _write(
    new: Collection,
    old: Collection | None,
    result: Deduplication,
    target: Path,
    method: str,
    report: Callable[[int], object],
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
    position = np.cumsum(usable) - 1  # index of a row among the compared ones
    counts = Counter[str]()
    # `dropped` is published first, so that OUT appears only when the list of dropped rows is complete.
    with (
        replacing(target) as temporary,
        replacing(_dropped_file(target)) as dropped,
        dropped.open("w", encoding="utf-8") as log,
    ):
        row = 0
        for rows in _copied(new, stays, temporary, compressed=target.suffix == ".gz"):
            for text in rows:
                if not stays[row]:
                    reason = new.reasons[row] or method
                    counts[reason] += 1
                    entry = {**new.place(row), "id": new.ids[position[row]] if usable[row] else None, "reason": reason}
                    # ASCII, because a lone surrogate can only be written as an escape.
                    log.write(json.dumps(entry | details.get(row, {}) | {"text": text}, default=str) + "\n")
                row += 1
            report(len(rows))
    return {"rows": len(new.reasons), "kept": int(stays.sum()), **dict(sorted(counts.items()))}


def _survivor(new: Collection, old: Collection | None, survivor: int) -> dict[str, Any]:
    collection = new
    if old is not None and survivor >= len(new.ids):
        collection, survivor = old, survivor - len(new.ids)
    place = collection.place(int(collection.compared[survivor]))
    return {"survivor_file": place["file"], "survivor_row": place["row"], "survivor_id": collection.ids[survivor]}


def _copied(new: Collection, stays: np.ndarray, target: Path, compressed: bool) -> Iterator[list[str | None]]:
    """Copies the kept rows. Yields the texts of all rows, with None for kept ones."""
    row = 0
    if new.is_parquet:
        with pq.ParquetWriter(target, file_schema(new.files[0])) as writer:
            for file in new.files:
                for batch in record_batches(file):
                    chosen = stays[row : row + len(batch)]
                    try:
                        writer.write(batch.filter(pa.array(chosen)))
                    except pa.ArrowException as error:
                        raise UserError(f"{file}: rows cannot be copied: {str(error).splitlines()[0]}") from None
                    texts = batch[new.fields.text].to_pylist()
                    yield [None if kept else text for kept, text in zip(chosen, texts, strict=True)]
                    row += len(batch)
        return
    with (gzip.open if compressed else open)(target, "wb") as stream:
        for file in new.files:
            for lines in line_blocks(file):
                chosen = stays[row : row + len(lines)].tolist()
                stream.writelines(line + b"\n" for line, kept in zip(lines, chosen, strict=True) if kept)
                yield [
                    None if kept else parse_text_row(line, new.fields).text or line[:1000].decode("utf-8", "replace")
                    for line, kept in zip(lines, chosen, strict=True)
                ]
                row += len(lines)
