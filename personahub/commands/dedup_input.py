"""Reads text, id and score from JSON Lines or Parquet for `personahub dedup`."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from personahub.core.config import suggest
from personahub.core.errors import UserError
from personahub.core.texts.rows import (
    EVERY_FILE,
    ROW_SUFFIXES,
    InvalidRow,
    open_parquet,
    parse_row,
    read_batches,
    read_lines,
)
from personahub.deduplication.columns import holds_numbers
from personahub.personas.documents import list_files

MAX_CHARACTERS = 1_000_000  # in one text; longer texts are not personas
_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Fields:
    """The columns to read."""

    text: str = "persona"
    id: str = "id"
    score: str | None = None


class TextRow(NamedTuple):
    """A row. If it has no usable text, `reason` says why."""

    text: str
    id: Any = None
    score: float | None = None
    reason: str | None = None


def row_files(path: Path) -> list[Path]:
    """Lists the files of a collection.

    They are all JSON Lines (also gzipped), or all Parquet with the same columns.

    Raises:
        UserError: the files are mixed, their columns differ, or see `documents.list_files`.
    """
    found = list_files(path, EVERY_FILE, ROW_SUFFIXES)
    if not found:
        raise UserError(f"{path}: there are no records")
    if len({is_parquet(file) for file in found}) > 1:
        kinds = Counter(next(suffix for suffix in ROW_SUFFIXES if file.name.endswith(suffix)) for file in found)
        counts = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(kinds.items()))
        raise UserError(
            f"{path}: rows are copied unchanged, so all files must be JSON Lines or all Parquet; found {counts}"
        )
    if is_parquet(found[0]):
        schemas = {file: _schema(file).remove_metadata() for file in found}
        for file, schema in schemas.items():
            if not schema.equals(schemas[found[0]]):
                raise UserError(f"{file}: its columns differ from those of {found[0]}")
    return found


def is_parquet(file: Path) -> bool:
    """Returns whether the file is Parquet, by its name; all others are JSON Lines."""
    return file.suffix == ".parquet"


def read_text_rows(file: Path, fields: Fields) -> Iterator[list[TextRow]]:
    """Streams the rows of a file in blocks, in order.

    Raises:
        UserError: the file cannot be read; or, in Parquet, a column is missing or repeated, or scores are not numbers.
    """
    if not is_parquet(file):
        for block in line_blocks(file):
            yield [parse_text_row(line, fields) for line in block]
        return
    wanted = _columns(file, fields)
    for batch in record_batches(file, wanted):
        nothing = [None] * len(batch)
        columns = [
            batch[name].to_pylist() if name in wanted else nothing for name in (fields.text, fields.id, fields.score)
        ]
        yield [_check_text(*values) for values in zip(*columns, strict=True)]


def _columns(file: Path, fields: Fields) -> list[str]:
    schema = _schema(file)
    for name, option in ((fields.text, "--text-field"), (fields.score, "--score-field")):
        if name is not None and name not in schema.names:
            raise UserError(f"{file}: no column {name!r}. {suggest(name, schema.names)} ({option} names another)")
    wanted = sorted({name for name in (fields.text, fields.id, fields.score) if name and name in schema.names})
    for name in wanted:
        if schema.names.count(name) > 1:
            raise UserError(f"{file}: has two columns named {name!r}; rename one")
    if fields.score is not None and not holds_numbers(kind := schema.field(fields.score).type):
        raise UserError(f"{file}: column {fields.score!r} holds {kind}; --score-field needs numbers")
    return wanted


def parse_text_row(line: bytes, fields: Fields) -> TextRow:
    """Parses a line of JSON Lines."""
    try:
        record = parse_row(line)
    except InvalidRow as error:
        return TextRow("", reason=error.reason)
    score = record.get(fields.score) if fields.score is not None else None
    return _check_text(record.get(fields.text), record.get(fields.id), score)


def _check_text(text: Any, name: Any, value: Any) -> TextRow:
    score = _parse_score(value)
    if text is None:
        return TextRow("", name, score, "missing_field")
    if not isinstance(text, str):
        return TextRow("", name, score, "not_a_string")
    if len(text) > MAX_CHARACTERS:
        return TextRow(text[:1000], name, score, "too_long")
    return TextRow(text, name, score)


def _parse_score(value: Any) -> float | None:
    if not isinstance(value, (int, float, Decimal)) or isinstance(value, bool) or value != value:
        return None
    try:
        return float(value)
    except OverflowError:  # JSON has no limit
        return float("inf") if value > 0 else float("-inf")


def field_names(file: Path) -> list[str]:
    """Returns the names of a file's columns, or of its first record's fields, for a message."""
    if is_parquet(file):
        return _schema(file).names
    for _, line in read_lines(file):
        with contextlib.suppress(InvalidRow):
            return list(parse_row(line))
    return []


def line_blocks(file: Path) -> Iterator[list[bytes]]:
    """Streams the non-blank lines of a JSON Lines file in blocks."""
    lines = (line for _, line in read_lines(file))
    while block := list(itertools.islice(lines, _BLOCK_ROWS)):
        yield block


def record_batches(file: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Streams the rows of a Parquet file in batches, with types that can be filtered."""
    for batch in read_batches(file, str(file), columns, _BLOCK_ROWS):
        schema = _filterable(batch.schema)
        yield batch if schema == batch.schema else batch.cast(schema)


def file_schema(file: Path) -> pa.Schema:
    """Returns the columns of a Parquet file, with types that can be filtered."""
    return _filterable(_schema(file))


def _schema(file: Path) -> pa.Schema:
    return open_parquet(file, str(file)).schema_arrow


def _filterable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([_copyable(column) for column in schema], metadata=schema.metadata)


_NO_FILTER = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}  # Arrow cannot filter these


def _copyable(column: pa.Field) -> pa.Field:
    kind: Any = column.type
    if pa.types.is_struct(kind):
        return column.with_type(pa.struct([_copyable(part) for part in kind]))
    if pa.types.is_map(kind):
        return column.with_type(pa.map_(_copyable(kind.key_field), _copyable(kind.item_field), kind.keys_sorted))
    if pa.types.is_fixed_size_list(kind):
        return column.with_type(pa.list_(_copyable(kind.value_field), kind.list_size))
    if pa.types.is_list(kind):
        return column.with_type(pa.list_(_copyable(kind.value_field)))
    if pa.types.is_large_list(kind):
        return column.with_type(pa.large_list(_copyable(kind.value_field)))
    return column.with_type(_NO_FILTER.get(kind, kind))
