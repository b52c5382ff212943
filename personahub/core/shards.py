"""Write one shard atomically: records, rejected records and truth.

A shard is written under temporary names and renamed when it is complete. The file of the records is
renamed last, so a shard that exists is done. Its counts and usage are stored in the Parquet metadata,
so a resumed run adds up to the same totals as an uninterrupted one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from personahub.core.artifact import Counts, Usage
from personahub.core.errors import Rejected
from personahub.core.files import publish, temporary_name, writing
from personahub.core.records import REJECTED, TRUTH, Row

_FOOTER = b"personahub"
_BUFFER_ROWS = 2048


class _ParquetFile:
    """A temporary Parquet file with buffered rows. `commit` renames it to its final name."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.rows = 0
        self._temporary = temporary_name(path)
        self._buffer: list[Row] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: Row) -> None:
        self._buffer.append(row)
        self.rows += 1
        if len(self._buffer) >= _BUFFER_ROWS:
            self._flush()

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(
                    self._temporary, self.schema, compression="zstd", write_page_checksum=True
                )
        return self._writer

    def _flush(self) -> None:
        writer = self._open()
        if self._buffer:
            table = _to_table(self._buffer, self.schema)
            with writing(self.path):
                writer.write_table(table)
            self._buffer.clear()

    def commit(self, footer: Mapping[str, Any] | None = None) -> None:
        self._flush()
        writer = self._open()
        if footer is not None:
            writer.add_key_value_metadata({_FOOTER: json.dumps(footer).encode()})
        with writing(self.path):
            writer.close()
            publish(self._temporary, self.path)

    def remove(self) -> None:
        """Remove a file that an earlier, interrupted attempt left under this name."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove everything that was not committed."""
        if self._writer is not None:
            with suppress(OSError):  # on a full disk, closing fails too
                self._writer.close()
        self._temporary.unlink(missing_ok=True)


def _to_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Convert rows to a table by way of JSON. `from_pylist` would import pandas, which takes 50 MB."""
    try:
        text = "\n".join(map(json.dumps, rows)).encode()
        return pyarrow.json.read_json(
            io.BytesIO(text),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (TypeError, pa.ArrowException):  # values that JSON cannot represent, or that need a conversion
        return pa.table([_column(rows, field) for field in schema], schema=schema)


def _column(rows: list[Row], field: pa.Field) -> pa.Array:
    try:
        return pa.array([row.get(field.name) for row in rows], field.type, from_pandas=False)
    except (TypeError, ValueError, pa.ArrowException) as error:
        error.add_note(f"in column {field.name!r}, which the schema declares as {field.type}")
        raise


class ShardWriter:
    """Collects the output of one shard.

    Use it as a context manager, which commits everything or nothing.

    Args:
        folder: the artifact's folder.
        name: the shard's name, such as `00003`.
        schema: of the records.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.rows_in = 0
        self.usage = Usage()
        self._reasons: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._records = _ParquetFile(folder / f"{name}.parquet", schema)
        self._rejected = _ParquetFile(folder / "rejected" / f"{name}.parquet", REJECTED)
        self._truth = _ParquetFile(folder / "truth" / f"{name}.parquet", TRUTH)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            for file in (self._records, self._rejected, self._truth):
                file.discard()

    def write(self, row: Row) -> None:
        """Add one output record."""
        self._records.write(row)

    def reject(self, row: Row, error: Rejected, raw: str | None = None) -> None:
        """Add a rejected record with its reason.

        Args:
            row: the record. Its `id` is stored as a column, and the whole record as JSON.
            error: reason and detail.
            raw: the model's text that did not qualify.
        """
        self._reasons[error.reason] = self._reasons.get(error.reason, 0) + 1
        record = json.dumps(row, ensure_ascii=False, default=str)
        self._rejected.write(
            {"id": row.get("id"), "reason": error.reason, "detail": error.detail, "record": record, "raw": raw}
        )

    def count(self, name: str, number: int) -> None:
        """Add to a count of the shard that is not a count of records."""
        if number:
            self._noted[name] = self._noted.get(name, 0) + number

    def truth(self, record_id: str, sample: int, attempt: int, truth: Mapping[str, Any]) -> None:
        """Record what the simulated teacher knew about one completion."""
        text = json.dumps(truth, ensure_ascii=False, sort_keys=True)
        self._truth.write({"record_id": record_id, "sample": sample, "attempt": attempt, "truth": text})

    def commit(self) -> None:
        """Publish the shard. The file of the records is published last."""
        for file in (self._truth, self._rejected):
            if file.rows:
                file.commit()
            else:
                file.remove()
        rejected, noted = dict(sorted(self._reasons.items())), dict(sorted(self._noted.items()))
        counts = Counts(rows_in=self.rows_in, rows_out=self._records.rows, rejected=rejected, noted=noted)
        self._records.commit({"counts": counts.model_dump(), "usage": self.usage.model_dump()})


def shard_totals(file: Path) -> tuple[Counts, Usage] | None:
    """Return counts and usage of a committed shard, or None if it does not exist."""
    try:
        metadata = pq.read_metadata(file).metadata
    except FileNotFoundError:
        return None
    footer = json.loads(metadata[_FOOTER])
    return Counts(**footer["counts"]), Usage(**footer["usage"])


def shard_name(index: int) -> str:
    """Return the name of a shard: `00000`, `00001`, ... Names sort in the order of the shards."""
    return f"{index:05d}"
