"""The reader of JSON Lines and Parquet: what counts as a row, and what an error names."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.errors import UserError
from personahub.core.texts.rows import InvalidRow, find_files, parse_row, read_lines, read_open_rows, read_rows

LINES = [{"text": "a\u2028b\x85c"}, {"text": "\ud800"}, {"text": "d", "n": 1}]


def jsonl(rows: list[dict]) -> bytes:
    """Lines as other tools write them: with a byte order mark, blank lines and carriage returns."""
    lines = [json.dumps(row, ensure_ascii=row["text"] == "\ud800").encode() for row in rows]
    return b"\xef\xbb\xbf" + b"\r\n \n\n".join(lines)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.json.gz"])
def test_lines_are_read_alike_from_a_path_and_from_an_open_file(tmp_path: Path, name: str) -> None:
    content = gzip.compress(jsonl(LINES)) if name.endswith(".gz") else jsonl(LINES)
    (tmp_path / name).write_bytes(content)
    file = tmp_path / name
    rows = [(f"{file}, line {number}", row) for number, row in zip((1, 4, 7), LINES, strict=True)]
    assert list(read_rows(file)) == rows
    assert list(read_open_rows(io.BytesIO(content), str(file))) == rows
    assert [number for number, _ in read_lines(file)] == [1, 4, 7]


def test_parquet_rows_are_numbered_across_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(600)}), tmp_path / "in.parquet")
    rows = list(read_rows(tmp_path / "in.parquet"))
    assert [row["n"] for _, row in rows] == list(range(600))
    assert rows[599].where == f"{tmp_path / 'in.parquet'}, row 600"


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"a": 1', "not_json", "not JSON: .* at column 8; each line must be a JSON object"),
        (b'{"a": "caf\xe9"}', "not_json", "not UTF-8: .* at byte 10"),
        ('{"a": 1}'.encode("utf-16"), "not_json", "not UTF-8"),
        (b"[" * 100_000, "not_json", "not JSON: maximum recursion"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not_json", "not JSON: Exceeds the limit"),
        (b"[1]", "not_an_object", r"a row must be a JSON object .*\(got list\)"),
    ],
)
def test_a_bad_line_has_a_reason_and_a_message(tmp_path: Path, line: bytes, reason: str, message: str) -> None:
    with pytest.raises(InvalidRow, match=message) as error:
        parse_row(line)
    assert error.value.reason == reason
    (tmp_path / "in.jsonl").write_bytes(b"{}\n\n" + line)
    with pytest.raises(UserError, match=rf"in\.jsonl, line 3: {message}") as named:
        list(read_rows(tmp_path / "in.jsonl"))
    assert "\n" not in str(named.value)


def test_of_a_repeated_key_the_last_value_counts_and_a_repeated_column_is_refused(tmp_path: Path) -> None:
    assert parse_row(b'{"a": 1, "a": 2}') == {"a": 2}
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"in\.parquet: has two columns named 'a'; rename one"):
        list(read_rows(tmp_path / "in.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", b"no gzip", "damaged gzip file"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 9000, mtime=0)[:-20], "damaged gzip file"),
        ("a.parquet", b"PAR1 and nothing else", "not a readable Parquet file"),
        ("a.jsonl", None, "no such file"),
        ("a.parquet", None, "no such file"),
        ("..", None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_rows(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_a_folder_are_sorted_and_removed_rows_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.parquet", "a.jsonl.gz", "sub/c.jsonl", ".hidden.jsonl", "a.dropped.jsonl", "note.md"):
        (tmp_path / name).touch()
    assert [file.name for file in find_files(tmp_path)] == ["a.jsonl.gz", "b.parquet", "c.jsonl"]
    assert [file.name for file in find_files(tmp_path, "*.dropped.jsonl")] == ["a.dropped.jsonl"]
    assert find_files(tmp_path / "b.parquet") == [tmp_path / "b.parquet"]
    for path, message in (("note.md", "unknown file type"), ("gone", "no such file or folder")):
        with pytest.raises(UserError, match=message):
            find_files(tmp_path / path)
    with pytest.raises(UserError, match=r"no file here matches 'x\*' and ends in"):
        find_files(tmp_path, "x*")
