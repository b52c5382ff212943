"""Rows of JSON Lines and Parquet files: the one reader of every stage and command.

    for where, row in read_rows(Path("personas.jsonl.gz")):
        print(where, row["persona"])  # "personas.jsonl.gz, line 1"

JSON Lines are strict UTF-8, one JSON object per line. Only a line feed ends a line: U+2028 and its like belong
to the text. Blank lines and byte order marks are skipped. If an object repeats a key, the last value counts.
Parquet is read in batches, and the page checksums of files that carry them are verified.

Everything is streamed, from a disk or from any open binary file. Errors name the file and the line or row.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.errors import UserError

ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".json.gz", ".parquet")  # .json.gz: how RedPajama names its JSON Lines
REMOVED_SUFFIXES = (".dropped.jsonl", ".rejected.jsonl")  # rows that dedup and import removed, next to the rest
EVERY_FILE = "**/*"
_BATCH_ROWS = 256  # Parquet rows in memory at a time; web texts can be large


class SourceRow(NamedTuple):
    """A row and its place for error messages, such as `texts.jsonl, line 17`."""

    where: str
    row: dict[str, Any]


class InvalidRow(ValueError):
    """A line that is not a row. `reason` is a slug to count; the message says what is wrong."""

    def __init__(self, reason: Literal["not_json", "not_an_object"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_rows(path: Path) -> Iterator[SourceRow]:
    """Streams the rows of a JSON Lines or Parquet file.

    Raises:
        UserError: the file is missing, unreadable or damaged, or a row is malformed.
    """
    with open_file(path) as file:
        yield from read_open_rows(file, str(path))


def read_open_rows(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    """Streams the rows of an open file. Its name determines the format.

    Raises:
        UserError: the file is damaged or a row is malformed.
    """
    yield from _parquet_rows(file, name) if name.endswith(".parquet") else _json_rows(file, name)


def _json_rows(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    for number, line in read_open_lines(file, name):
        where = f"{name}, line {number}"
        try:
            row = parse_row(line)
        except InvalidRow as error:
            raise UserError(f"{where}: {error}") from None
        yield SourceRow(where, row)


def _parquet_rows(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    count = 0
    for batch in read_batches(file, name):
        names = batch.schema.names
        if repeated := next((column for column in names if names.count(column) > 1), None):
            raise UserError(f"{name}: has two columns named {repeated!r}; rename one")
        with name_damage(name):
            rows = batch.to_pylist()
        for row in rows:
            count += 1
            yield SourceRow(f"{name}, row {count}", row)


def parse_row(line: bytes) -> dict[str, Any]:
    """Parses a line of JSON Lines.

    Raises:
        InvalidRow: the line is not UTF-8, not JSON or not an object.
    """
    try:
        row = json.loads(line.decode())  # from bytes, `json.loads` would guess UTF-16 too
    except UnicodeDecodeError as error:
        raise InvalidRow("not_json", f"not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at column {error.pos + 1}"
        raise InvalidRow("not_json", f"not JSON: {problem}; each line must be a JSON object") from None
    except (ValueError, RecursionError) as error:  # an integer with too many digits; `[[[[...`
        raise InvalidRow("not_json", f"not JSON: {one_line(error)}") from None
    if not isinstance(row, dict):
        example = '{"text": ...}'
        raise InvalidRow("not_an_object", f"a row must be a JSON object such as {example} (got {type(row).__name__})")
    return row


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Streams the non-blank lines of a JSON Lines file; see `read_open_lines`.

    Raises:
        UserError: the file is missing, unreadable or damaged.
    """
    with open_file(path) as file:
        yield from read_open_lines(file, str(path))


def read_open_lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Streams line numbers, from 1, and lines without line ends.

    `.gz` in the name: the file is decompressed.

    Raises:
        UserError: the file is damaged.
    """
    lines = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
    with name_damage(name):
        for number, line in enumerate(lines, 1):
            if line.startswith(codecs.BOM_UTF8):
                line = line[len(codecs.BOM_UTF8) :]
            line = line.rstrip(b"\r\n")
            if line and not line.isspace():
                yield number, line


def read_batches(
    file: Path | IO[bytes], name: str, columns: Sequence[str] | None = None, rows: int = _BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Streams a Parquet file in batches of `rows` rows.

    Raises:
        UserError: the file is missing, unreadable or damaged.
    """
    with open_parquet(file, name) as parquet, name_damage(name):
        yield from parquet.iter_batches(batch_size=rows, columns=columns)


def open_parquet(file: Path | IO[bytes], name: str) -> pq.ParquetFile:
    """Opens a Parquet file.

    Its page checksums, if it has them, are verified as it is read.

    Raises:
        UserError: the file is missing or is not a Parquet file.
    """
    if isinstance(file, Path):
        open_file(file).close()  # a missing file is not a damaged one
    with name_damage(name):
        return pq.ParquetFile(file, page_checksum_verification=True)


def open_file(path: Path) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
        UserError: the file is missing or unreadable.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (paths are relative to the folder you run in: {Path.cwd()})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def name_damage(name: str) -> Iterator[None]:
    """Turns errors of decompression and Parquet into one line that names the file.

    Raises:
        UserError: for each of these errors.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{name}: damaged gzip file ({error}); fetch it again") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet file" if name.endswith(".parquet") else "file"
        raise UserError(f"{name}: not a readable {kind} ({one_line(error)}); fetch it again") from None


def find_files(path: Path, pattern: str = EVERY_FILE, suffixes: Sequence[str] = ROW_SUFFIXES) -> list[Path]:
    """Lists a file, or the files below a folder that match `pattern`, sorted by path.

    Hidden files are skipped, and so are `REMOVED_SUFFIXES` unless `pattern` names them.

    Raises:
        UserError: the path does not exist, a file has another suffix, or a folder has no such file.
    """
    if path.is_file():
        if not path.name.endswith(tuple(suffixes)):
            raise UserError(f"{path}: unknown file type; supported: {', '.join(suffixes)}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder (paths are relative to the folder you run in: {Path.cwd()})")
    endings, removed = tuple(suffixes), tuple(end for end in REMOVED_SUFFIXES if not pattern.endswith(end))
    found = [f for f in path.glob(pattern) if f.is_file() and f.name.endswith(endings) and not f.name.startswith(".")]
    files = [file for file in found if not file.name.endswith(removed)]
    if not files:
        skipped = f" except {' and '.join(f'*{end}' for end in removed)}, which are skipped" if found else ""
        matches = "" if pattern in ("*", EVERY_FILE) else f"matches {pattern!r} and "
        raise UserError(f"{path}: no file here {matches}ends in {', '.join(suffixes)}{skipped}")
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def one_line(error: BaseException, characters: int = 300) -> str:
    """Returns the error's message on one line, or its type if it has none."""
    return " ".join(str(error).split())[:characters] or type(error).__name__
