"""A shard is all or nothing, even if an earlier attempt ended between its files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.errors import Rejected, UserError
from personahub.core.shards import ShardWriter, shard_totals

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


def test_what_an_unfinished_try_rejected_does_not_stay_beside_the_shard_that_was_finished(tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").mkdir()  # the records cannot get their name; rejected and truth have theirs by then
    writer = ShardWriter(tmp_path, "00000", SCHEMA)
    writer.reject({"id": "a"}, Rejected("content_filter"))
    writer.truth("a", 0, 0, {"answer": 1})
    with pytest.raises(UserError, match=r"00000\.parquet: cannot be written"):
        writer.__exit__(None)
    assert (tmp_path / "rejected" / "00000.parquet").exists()
    (tmp_path / "00000.parquet").rmdir()

    with ShardWriter(tmp_path, "00000", SCHEMA) as writer:  # this time the endpoint has answered
        writer.write({"id": "a", "text": "fine"})
    totals = shard_totals(tmp_path / "00000.parquet")
    assert totals is not None
    assert totals[0].rejected == {}
    left = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()]
    assert left == ["00000.parquet"]


@pytest.mark.parametrize("text", ["nul \0 inside", "line\u2028separator\u0085next\vline", "\U0001f600", "", "\\u0041"])
def test_texts_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    with ShardWriter(tmp_path, "00000", SCHEMA) as writer:
        writer.write({"id": "a", "text": text})
    assert pq.read_table(tmp_path / "00000.parquet").to_pylist() == [{"id": "a", "text": text}]


def test_a_value_of_another_type_names_its_column(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowException) as raised, ShardWriter(tmp_path, "00000", SCHEMA) as writer:
        writer.write({"id": "a", "text": 5})
    assert raised.value.__notes__ == ["in column 'text', which the schema declares as string"]
