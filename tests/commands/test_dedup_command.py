"""`personahub dedup`: files in, files out."""

from __future__ import annotations

import gzip
import json
import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.commands.cli import main

NURSES = [
    "A night nurse in Oslo who paints",
    "a night nurse in Oslo, who paints!",
    "A night nurse in Oslo who paints boats",
    "A coal miner who collects stamps",
]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, records: list[Any]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    else:
        file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return file


def personas(texts: list[str]) -> list[dict[str, Any]]:
    return [{"id": f"p{i}", "persona": text, "hop": i} for i, text in enumerate(texts)]


def dedup(*words: Any) -> int:
    return main(["dedup", *map(str, words)])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_that_stay_are_copied_and_the_others_are_told_of(kind: str, tmp_path: Path, capsys: Any) -> None:
    records = personas(NURSES)
    source, target = write(tmp_path / f"in.{kind}", records), tmp_path / f"out.{kind}"
    assert dedup(source, target, "--threshold", 0.8) == 0
    kept = rows(target) if kind == "jsonl" else pq.read_table(target).to_pylist()
    assert kept == [records[0], records[3]]
    assert rows(tmp_path / "out.dropped.jsonl") == [
        {
            "file": str(source), "row": row + 1, "id": f"p{row}", "reason": "near_duplicate_surface",
            "similarity": similarity, "survivor_file": str(source), "survivor_row": 1, "survivor_id": "p0",
            "text": NURSES[row],
        }
        for row, similarity in ((1, 1.0), (2, 0.875))
    ]  # fmt: skip
    assert "4 rows, 2 kept, 2 near_duplicate_surface" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([source.name, target.name, "out.dropped.jsonl"])


@pytest.mark.parametrize("method", ["surface", "minhash", "embedding"])
def test_existing_rows_stay_and_cover_new_ones(method: str, tmp_path: Path) -> None:
    new = write(tmp_path / "new.jsonl", personas([NURSES[1], "A teacher of Latin", "a teacher of latin"]))
    old = write(tmp_path / "old.parquet", personas([NURSES[3], NURSES[0], NURSES[0]]))
    target = tmp_path / "out.jsonl"
    words = ["--method", method, "--against", old, "--embedder", "hashing", "--threshold", 0.9]
    assert dedup(new, target, *words) == 0
    assert [row["persona"] for row in rows(target)] == ["A teacher of Latin"]
    dropped = rows(tmp_path / "out.dropped.jsonl")
    assert [(r["reason"], r["survivor_file"], r["survivor_row"], r["survivor_id"]) for r in dropped] == [
        (f"near_duplicate_{method}", str(old), 2, "p1"),
        (f"near_duplicate_{method}", str(new), 2, "p1"),
    ]


def test_which_of_two_survives(tmp_path: Path) -> None:
    records = [dict(row, score=score) for row, score in zip(personas(NURSES), [None, 0.4, 0.9, 1], strict=True)]
    source, target = write(tmp_path / "in.jsonl", records), tmp_path / "out.jsonl"
    dedup(source, target, "--threshold", 0.8, "--score-field", "score")
    assert [row["id"] for row in rows(target)] == ["p2", "p3"]
    dedup(source, target, "--threshold", 0.9, "--score-field", "score")
    assert [row["id"] for row in rows(target)] == ["p1", "p2", "p3"]
    dedup(source, target, "--threshold", 0.8, "--keep", "longest")
    assert [row["id"] for row in rows(target)] == ["p2", "p3"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_score_that_ranks_nothing_is_no_score(kind: str, tmp_path: Path, capsys: Any) -> None:
    records = [dict(row, quality=number / 2, note=f"{number}") for number, row in enumerate(personas(NURSES))]
    source, target = write(tmp_path / f"in.{kind}", records), tmp_path / f"out.{kind}"
    for name, said in (("qualty", "Did you mean 'quality'?"), ("note", "number"), ("persona", "number")):
        error = refused(capsys, source, target, "--score-field", name)
        assert f"in.{kind}: " in error
        assert repr(name) in error
        assert said in error
        assert "--score-field" in error
    assert list(tmp_path.iterdir()) == [source]
    old = write(tmp_path / "old.jsonl", personas(["A judge"]))  # what stays anyway needs no score
    assert dedup(source, target, "--score-field", "quality", "--threshold", 0.8, "--against", old) == 0
    kept = rows(target) if kind == "jsonl" else pq.read_table(target).to_pylist()
    assert [row["id"] for row in kept] == ["p2", "p3"]


@pytest.mark.parametrize("kind", [pa.decimal128(3, 1), pa.float16(), pa.uint64()])
def test_every_type_of_number_ranks(kind: pa.DataType, tmp_path: Path) -> None:
    number = Decimal if pa.types.is_decimal(kind) else int if pa.types.is_integer(kind) else float
    score = pa.array([number(1), number(2), number(3), None], kind)
    table = pa.table({"persona": [*NURSES[:3], "A judge"], "score": score})
    pq.write_table(table, tmp_path / "in.parquet")
    assert dedup(tmp_path / "in.parquet", tmp_path / "out.parquet", "--threshold", 0.8, "--score-field", "score") == 0
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(tmp_path / "in.parquet").slice(2))


def test_a_row_that_cannot_be_compared_is_dropped_with_its_reason(tmp_path: Path) -> None:
    huge = "word " * 2_000_000
    records = [
        {"id": "a", "persona": "A nurse"},
        "{not json",
        "[1, 2]",
        {"id": "b"},
        {"id": "c", "persona": None},
        {"id": "d", "persona": 7},
        {"id": "e", "persona": huge},
        "[" * 100_000,
        "",
        {"id": "a", "persona": ""},
        {"id": "a", "persona": "A nurse \ud800 北京"},
        '{"id": "f", "persona": "a NURSE"}\r',
    ]
    target = tmp_path / "out.jsonl"
    assert dedup(write(tmp_path / "in.jsonl", records), target) == 0
    assert [row["id"] for row in rows(target)] == ["a", "a", "a"]
    dropped = rows(tmp_path / "out.dropped.jsonl")
    assert [(row["row"], row["reason"]) for row in dropped] == [
        (2, "not_json"), (3, "not_an_object"), (4, "missing_field"), (5, "missing_field"), (6, "not_a_string"),
        (7, "too_long"), (8, "not_json"), (11, "near_duplicate_surface"),
    ]  # fmt: skip
    assert (tmp_path / "out.dropped.jsonl").stat().st_size < 10_000


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_folder_of_shards_gives_what_one_file_gives(kind: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdef", k=rng.randint(1, 7))) for _ in range(300)]
    records = personas(texts)
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, part in enumerate((records[:10], records[10:11], records[11:])):
        write(folder / f"{number:05d}.{kind}", part)
    one, several = tmp_path / f"one.{kind}", tmp_path / f"several.{kind}"
    dedup(write(tmp_path / f"all.{kind}", records), one, "--threshold", 0.7)
    dedup(folder, several, "--threshold", 0.7)
    if kind == "jsonl":
        assert one.read_bytes() == several.read_bytes()
    else:
        assert pq.read_table(one).equals(pq.read_table(several))
    reported = [
        [(r["id"], r["survivor_id"]) for r in rows(tmp_path / f"{n}.dropped.jsonl")] for n in ("one", "several")
    ]
    assert reported[0] == reported[1]
    assert 50 < len(reported[0]) < 290


def test_of_a_folder_every_file_is_read_and_what_was_dropped_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    write(folder / "a.jsonl", personas(NURSES[:1]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"id": "gz", "persona": "A judge"}).encode()))
    write(folder / "sub/c.jsonl", [{"id": "deep", "persona": "A cook"}, {"id": "again", "persona": "a judge"}])
    for name in ("x.dropped", "sub/x.rejected"):
        write(folder / f"{name}.jsonl", [{"id": "gone", "persona": "A monk"}])
    assert dedup(folder, tmp_path / "out.jsonl.gz") == 0
    kept = [json.loads(line)["id"] for line in gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()]
    assert kept == ["p0", "gz", "deep"]
    (reported,) = rows(tmp_path / "out.dropped.jsonl")
    assert (reported["id"], reported["survivor_file"]) == ("again", str(folder / "b.jsonl.gz"))
    assert dedup(folder / "x.dropped.jsonl", tmp_path / "named.jsonl") == 0
    assert [row["id"] for row in rows(tmp_path / "named.jsonl")] == ["gone"]


def test_a_folder_grows_day_by_day(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    write(archive / "day1.parquet", personas(NURSES[:1]))
    for day, texts in ((2, [NURSES[1], NURSES[3]]), (3, ["a coal miner who collects stamps", "A judge"])):
        new = write(tmp_path / f"new{day}.parquet", personas(texts))
        assert dedup(new, archive / f"day{day}.parquet", "--against", archive) == 0
    assert (archive / "day3.dropped.jsonl").exists()
    assert pq.read_table(archive / "day3.parquet")["persona"].to_pylist() == ["A judge"]


def test_of_a_stages_folder_its_records_are_read(tmp_path: Path, run: Any, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", [*personas(NURSES), {"persona": None}])
    stages = {"people": {"run": "personahub.released", "config": {"path": str(source), "rows_per_shard": 2}}}
    artifact = run(stages)["people"]
    (artifact.path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert artifact.manifest.counts.rejected
    assert dedup(artifact.path, tmp_path / "out.parquet", "--threshold", 0.8) == 0
    assert pq.read_table(tmp_path / "out.parquet")["persona"].to_pylist() == [NURSES[0], NURSES[3]]
    assert "out.parquet: is in" in refused(capsys, artifact.path, artifact.path / "sub/out.parquet")
    (artifact.path / "manifest.json").rename(artifact.path / "stage.json")
    assert "half-written" in refused(capsys, artifact.path, tmp_path / "out.parquet")


def test_a_folder_of_both_kinds_is_refused_by_what_it_has(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.parquet"):
        write(folder / name, personas(NURSES))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    assert "in: rows are copied" in (error := refused(capsys, folder, tmp_path / "out.jsonl"))
    assert "2 .jsonl, 1 .jsonl.gz, 1 .parquet" in error
    (folder / "c.parquet").unlink()
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(b'{"persona": "A judge"}\n' * 9000)[:-20])
    assert "d.jsonl.gz: damaged gzip file" in refused(capsys, folder, tmp_path / "out.jsonl")


def test_what_the_user_can_mend_is_one_clear_line_and_leaves_nothing(tmp_path: Path, capsys: Any) -> None:
    good = write(tmp_path / "good.jsonl", personas(NURSES))
    table = write(tmp_path / "good.parquet", personas(NURSES * 50_000))
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "cut.parquet").write_bytes(table.read_bytes()[:-100])
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "0.parquet").write_bytes(table.read_bytes())
    damaged = bytearray(table.read_bytes())
    damaged[1000:60_000] = bytes(59_000)
    (shards / "1.parquet").write_bytes(damaged)
    (tmp_path / "nothing").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for source, target, words, message in [
        ("empty.jsonl", "out.jsonl", [], "empty.jsonl: there are no rows"),
        ("absent.jsonl", "out.jsonl", [], "no such file"),
        ("nothing", "out.jsonl", [], "nothing: no file here ends in .jsonl"),
        ("cut.parquet", "out.parquet", [], "cut.parquet: not a readable Parquet file"),
        ("shards", "out.parquet", [], "1.parquet: not a readable Parquet file"),
        ("good.jsonl", "out.parquet", [], "must end in .jsonl"),
        ("good.jsonl", "out.jsonl", ["--text-field", "person"], "no row has a field 'person'. Did you mean 'persona'"),
        ("good.parquet", "out.parquet", ["--text-field", "person"], "no column 'person'. Did you mean 'persona'"),
        ("good.jsonl", "out.jsonl", ["--threshold", "1.5"], "threshold: Input should be less than or equal to 1"),
        ("good.jsonl", "out.jsonl", ["--against", tmp_path / "empty.jsonl"], "empty.jsonl: there are no rows"),
    ]:
        assert dedup(tmp_path / source, tmp_path / target, *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert good.exists()


def refused(capsys: Any, *words: Any) -> str:
    assert dedup(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_nothing_that_is_read_is_overwritten(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", personas(NURSES))
    dropped = write(tmp_path / "x.dropped.jsonl", personas(NURSES[:2]))
    link = tmp_path / "link.jsonl"
    link.symlink_to(source)
    before = {file: file.read_bytes() for file in (source, dropped)}
    assert "would overwrite the input" in refused(capsys, source, source)
    assert "would overwrite the input" in refused(capsys, source, link)
    assert "would overwrite the input" in refused(capsys, dropped, tmp_path / "x.jsonl")
    assert "would overwrite the input" in refused(capsys, source, dropped, "--against", dropped)
    link.unlink()
    assert "the next run would read it" in refused(capsys, tmp_path, tmp_path / "new.jsonl")
    assert {file: file.read_bytes() for file in before} == before
    assert sorted(tmp_path.iterdir()) == sorted(before)


@pytest.mark.parametrize("content", ['[\n{"persona":\n"x"}\n]', '{"persona": 1}', '{"persona": null}', "no json"])
def test_a_file_of_which_nothing_can_be_compared_is_no_empty_result(content: str, tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", [content])
    assert "in.jsonl: no row can be compared (" in refused(capsys, source, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


def test_a_byte_order_mark_is_not_copied_and_utf_16_is_not_guessed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    records = personas(NURSES)
    for name, record in (("a", records[0]), ("b", records[3])):
        (folder / f"{name}.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(record).encode() + b"\n")
    (folder / "c.jsonl").write_bytes(json.dumps(records[2]).encode("utf-16"))
    assert dedup(folder, tmp_path / "out.jsonl") == 0
    assert rows(tmp_path / "out.jsonl") == [records[0], records[3]]
    assert [row["reason"] for row in rows(tmp_path / "out.dropped.jsonl")] == ["not_json"]


def test_parquet_of_views_and_dictionaries(tmp_path: Path) -> None:
    columns = [
        pa.array(NURSES).dictionary_encode(),
        pa.array(NURSES, pa.string_view()),
        pa.array([b"x"] * 4, pa.binary_view()),
    ]
    pq.write_table(pa.table(columns, ["kind", "persona", "raw"]), tmp_path / "in.parquet")
    assert dedup(tmp_path / "in.parquet", tmp_path / "out.parquet", "--threshold", 0.8) == 0
    assert pq.read_table(tmp_path / "out.parquet")["persona"].to_pylist() == [NURSES[0], NURSES[3]]


def test_parquet_of_views_within_lists_structs_and_maps(tmp_path: Path) -> None:
    view = pa.string_view()
    columns = {
        "persona": pa.array(NURSES),
        "list": pa.array([["a", "b"], [], None, ["c"]], pa.list_(view)),
        "struct": pa.array([{"a": "x"}, None, {"a": None}, {"a": "y"}], pa.struct([("a", view)])),
        "map": pa.array([[("k", "v")], [], None, [("k", "w")]], pa.map_(view, view)),
        "pair": pa.array([["a", "b"], ["c", "d"], None, ["e", "f"]], pa.list_(view, 2)),
        "large": pa.array([["a"], [], None, ["b"]], pa.large_list(view)),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "in.parquet")
    assert dedup(tmp_path / "in.parquet", tmp_path / "out.parquet", "--threshold", 0.8) == 0
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [table.to_pylist()[row] for row in (0, 3)]


def test_two_columns_of_one_name(tmp_path: Path, capsys: Any) -> None:
    source = tmp_path / "in.parquet"
    for name in ("persona", "id", "other"):
        columns = [pa.array(NURSES), pa.array(range(4)), pa.array(NURSES), pa.array(range(4))]
        names = ["persona", "id", "other"]
        pq.write_table(pa.Table.from_arrays(columns, [*names, name]), source)
        if name == "other":
            assert dedup(source, tmp_path / "out.parquet", "--threshold", 0.8) == 0
            copied = pq.ParquetFile(tmp_path / "out.parquet").read()
            assert copied.schema.names == [*names, "other"]
            assert copied.columns[3].to_pylist() == [0, 3]
        else:
            error = refused(capsys, source, tmp_path / "out.parquet")
            assert f"in.parquet: has two columns named {name!r}" in error


def test_a_threshold_that_no_cosine_is_above_is_said_before_anything_is_embedded(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", personas(NURSES))
    words = ["--method", "embedding", "--threshold", 1, "--embedder", tmp_path]  # a folder without a model
    for search in ("exact", "clustered"):
        assert "--threshold: Input should be less than 1 (got '1')" in refused(
            capsys, source, tmp_path / "out.jsonl", *words, "--search", search
        )


def test_what_cannot_be_written_is_said_before_anything_is_read(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "in.jsonl", personas(NURSES))
    (tmp_path / "folder.jsonl").mkdir()
    assert "folder.jsonl: is a folder" in refused(capsys, source, tmp_path / "folder.jsonl")
    assert "cannot be written: File exists" in refused(capsys, source, source / "x.jsonl")
    assert "/proc/x.jsonl: cannot be written: " in refused(capsys, source, "/proc/x.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "pipe.jsonl: is not a regular file" in refused(capsys, source, tmp_path / "pipe.jsonl")
    assert (tmp_path / "pipe.jsonl").is_fifo()
    assert "(got 'nan')" in refused(capsys, source, tmp_path / "out.jsonl", "--threshold", "nan")
