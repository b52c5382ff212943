"""Rows of text collections as they are: files on disk and data sets on the hub, streamed.

A row comes with `where`, the words by which an error message names it. What is malformed is the
user's to mend and stops the reading; what is merely unfit (too short, a duplicate) is judged later,
by `personahub.sources`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.errors import UserError
from personahub.core.records import Row

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")
_BATCH_ROWS = 256  # rows of a Parquet file in memory at a time; web texts can be large


class RawDocument(NamedTuple):
    """One row and where it was read, as in `texts.jsonl:17`."""

    where: str
    row: Row


def read_files(path: Path, pattern: str, text_field: str) -> Iterator[RawDocument]:
    """Rows of a file, or of the files in a folder that match `pattern`, in the order of their names.

    Args:
        path: a file or folder.
        pattern: glob below the folder; files of other types are passed over.
        text_field: key under which a plain-text file's content is returned.

    Raises:
        UserError: nothing to read, or a file is empty, damaged or malformed.
    """
    for file in list_files(path, pattern):
        number = 0
        for number, document in enumerate(_read_file(file, text_field), 1):  # noqa: B007  (counts the rows)
            yield document
        if number == 0:
            raise UserError(f"{file}: holds no rows; remove it or name another file")


def list_files(path: Path, pattern: str) -> list[Path]:
    """The files that `read_files` reads.

    Raises:
        UserError: there is no such path, no such file below it, or its type is not known.
    """
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise UserError(f"{path}: unknown type of file; texts are read from {', '.join(SUFFIXES)}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder (paths are relative to the folder you run in: {Path.cwd()})")
    files = [f for f in path.glob(pattern) if f.is_file() and f.name.endswith(SUFFIXES) and not f.name.startswith(".")]
    if not files:
        raise UserError(f"{path}: no file here matches {pattern!r} and ends in {', '.join(SUFFIXES)}")
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def count_rows(path: Path, pattern: str) -> int:
    """Number of rows that `read_files` will find: exact for Parquet, lines for JSON Lines."""
    total = 0
    for file in list_files(path, pattern):
        if file.suffix == ".txt":
            total += 1
        elif file.suffix == ".parquet":
            total += pq.read_metadata(file).num_rows
        else:
            with _open(file) as lines:
                total += sum(1 for line in lines if line.strip())
    return total


def _read_file(file: Path, text_field: str) -> Iterator[RawDocument]:
    if file.suffix == ".txt":
        yield from _read_text(file, text_field)
    elif file.suffix == ".parquet":
        yield from _read_parquet(file)
    else:
        yield from _read_json_lines(file)


def _open(file: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _read_json_lines(file: Path) -> Iterator[RawDocument]:
    try:
        with _open(file) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield RawDocument(f"{file}:{number}", _parse_line(line, f"{file}:{number}"))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}: damaged gzip file ({error}); fetch it again") from None


def _parse_line(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f'{where}: a row is a JSON object, as in {{"text": ...}} (got {type(row).__name__})')
    return row


def _read_parquet(file: Path) -> Iterator[RawDocument]:
    try:
        with pq.ParquetFile(file) as parquet:
            number = 0
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield RawDocument(f"{file}: row {number}", row)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _read_text(file: Path, text_field: str) -> Iterator[RawDocument]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None
    if text.strip():
        yield RawDocument(str(file), {text_field: text, "source": file.name})


def read_hub(name: str, config: str | None, split: str, revision: str) -> Iterator[RawDocument]:
    """Rows of a data set on the Hugging Face hub, or of a local folder in the hub's layout, streamed.

    Raises:
        UserError: no such data set, configuration, split or revision, or the hub cannot be reached.
    """
    import datasets

    number = 0
    try:
        stream = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
        for number, row in enumerate(stream, 1):
            yield RawDocument(f"{name}: row {number}", dict(row))
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
        reason = " ".join(str(error).split())
        raise UserError(f"{name} ({split}, {revision[:8]}): cannot be read after row {number}: {reason:.300}") from None
    if number == 0:
        raise UserError(f"{name} ({split}): holds no rows")
