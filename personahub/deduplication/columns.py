"""The columns that dedup reads: id, text, and the score that ranks records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from personahub.core.artifact import Artifact
from personahub.core.config import suggest
from personahub.core.errors import UserError


def read_table(source: Artifact, field: str, score_field: str | None = None) -> pa.Table:
    """Reads `id`, `text` and, if `score_field` is given, `score` of all records."""
    check_columns(source, [field, *([score_field] if score_field else [])])
    if not source.shard_names:
        return pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.large_string())})
    return read_columns(source, source.shard_names, field, score_field)


def check_columns(source: Artifact, wanted: Sequence[str]) -> None:
    """Raises UserError if the records lack one of the fields."""
    columns = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").names if source.shard_names else wanted
    for name in wanted:
        if name not in columns:
            raise UserError(f"{source.path}: the records have no field {name!r}. {suggest(name, columns)}")


def read_columns(source: Artifact, shards: Sequence[str], field: str, score_field: str | None) -> pa.Table:
    """Reads `id`, `text` and, with a `score_field`, `score` (float64) of some shards.

    Raises:
        UserError: a text is null, or the scores are not numbers.
    """
    wanted = {"id", field} | ({score_field} if score_field else set())
    table = source.table(sorted(wanted), shards)
    if table[field].null_count:
        broken = table.filter(table[field].is_null())["id"][0].as_py()
        raise UserError(f"{source.path}: the record {broken} has no {field}: it is null")
    read = {"id": table["id"], "text": table[field].cast(pa.large_string())}
    if score_field:
        kind = table[score_field].type
        if not holds_numbers(kind):
            raise UserError(f"{source.path}: score_field {score_field!r} holds {kind}, not numbers")
        read["score"] = table[score_field].cast(pa.float64())
    return pa.table(read)


def holds_numbers(kind: pa.DataType) -> bool:
    """Returns whether a column of this type can rank rows."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def with_best(table: pa.Table, keep: str) -> pa.Table:
    """Returns `id`, `text` and, for `longest` and `score`, `best`. The row with the highest value survives."""
    columns = {"id": table["id"], "text": table["text"]}
    if keep == "longest":
        columns["best"] = pc.call_function("utf8_length", [table["text"]]).cast(pa.float64())
    elif keep == "score":
        columns["best"] = table["score"]
    return pa.table(columns)


def visiting_order(table: pa.Table, keep: str) -> np.ndarray:
    """Rows in the order in which they are visited. The first of two near-duplicates survives."""
    if keep == "first" or not len(table):
        return np.arange(len(table))
    ranked = with_best(table, keep).append_column("row", pa.array(np.arange(len(table)))).drop_columns(["text"])
    best = [("best", "descending")] if "best" in ranked.column_names else []  # NaN and null sort last
    return ranked.sort_by([*best, ("id", "ascending"), ("row", "ascending")])["row"].to_numpy()
