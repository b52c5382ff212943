"""Writing one shard: records, rejected records and truth, all of it or nothing.

A shard is written to temporary names and renamed when whole; the records' file comes last, so a
shard that exists is done. Its counts and usage travel in the Parquet file's own metadata, so a
resumed run adds up the same totals as an undisturbed one.
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
    """Rows buffered into a temporary Parquet file; `commit` gives it its name."""

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
        """Take away what an earlier try, which ended before it was whole, has left under this name."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of what was not committed."""
        if self._writer is not None:
            with suppress(OSError):  # on a full disk closing fails too
                self._writer.close()
        self._temporary.unlink(missing_ok=True)


def _to_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table, by way of JSON: `from_pylist` imports pandas, 50 MB that a client of engines has no use for."""
    try:
        text = "\n".join(map(json.dumps, rows)).encode()
        return pyarrow.json.read_json(
            io.BytesIO(text),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (TypeError, pa.ArrowException):  # values that JSON does not have, or that have to be converted
        return pa.Table.from_pylist(rows, schema=schema)


class ShardWriter:
    """Collects the output of one shard. Use as a context manager: it commits, or leaves nothing.

    Args:
        folder: the artifact's directory.
        name: the shard's name, as in `00003`.
        schema: of the records.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.rows_in = 0
        self.usage = Usage()
        self._reasons: dict[str, int] = {}
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
        """Keep a record that was dropped, with its reason.

        Args:
            row: the record; its `id` is kept as a column, the whole of it as JSON.
            error: reason and detail.
            raw: the model's text that did not qualify.
        """
        self._reasons[error.reason] = self._reasons.get(error.reason, 0) + 1
        record = json.dumps(row, ensure_ascii=False, default=str)
        self._rejected.write(
            {"id": row.get("id"), "reason": error.reason, "detail": error.detail, "record": record, "raw": raw}
        )

    def truth(self, record_id: str, sample: int, attempt: int, truth: Mapping[str, Any]) -> None:
        """Record what the simulated teacher knew about one completion."""
        text = json.dumps(truth, ensure_ascii=False, sort_keys=True)
        self._truth.write({"record_id": record_id, "sample": sample, "attempt": attempt, "truth": text})

    def commit(self) -> None:
        """Publish the shard; the records' file last."""
        for file in (self._truth, self._rejected):
            if file.rows:
                file.commit()
            else:
                file.remove()
        counts = Counts(rows_in=self.rows_in, rows_out=self._records.rows, rejected=dict(sorted(self._reasons.items())))
        self._records.commit({"counts": counts.model_dump(), "usage": self.usage.model_dump()})


def shard_totals(file: Path) -> tuple[Counts, Usage] | None:
    """Counts and usage of a committed shard; None when it is not there yet."""
    try:
        metadata = pq.read_metadata(file).metadata
    except FileNotFoundError:
        return None
    footer = json.loads(metadata[_FOOTER])
    return Counts(**footer["counts"]), Usage(**footer["usage"])


def shard_name(index: int) -> str:
    """Shards sort by name: `00000`, `00001`, ..."""
    return f"{index:05d}"
