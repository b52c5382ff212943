"""Reading web texts: every format, malformed input, cutting, duplicates, resuming, identity."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.quality import contact_data
from personahub.sources import Config, clean_text, cut_text, forecast, read, to_document

LONG = "A river gauge was read each hour. " * 5


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stage(**config: Any) -> dict[str, Any]:
    return {"texts": {"run": "personahub.sources", "config": config}}


def texts(config: Config) -> list[str]:
    return [to_document(raw, config)["text"] for raw in read(config)]


def test_all_formats_give_the_same_documents(tmp_path: Path, run: Any) -> None:
    rows = [{"text": f"{number}. {LONG}", "kind": "note", "licence": "CC0", "source": "me"} for number in range(5)]
    write_jsonl(tmp_path / "a/texts.jsonl", rows)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/texts.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a/texts.jsonl").read_bytes()))
    (tmp_path / "c").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c/texts.parquet")
    artifacts = [run(stage(path=str(tmp_path / f)), name=f)["texts"] for f in ("a", "b", "c")]
    first = list(artifacts[0].rows())
    assert [row["text"] for row in first] == [f"{number}. {LONG.strip()}" for number in range(5)]
    assert {(row["kind"], row["licence"], row["source"]) for row in first} == {("note", "CC0", "me")}
    assert len({row["id"] for row in first}) == 5
    assert [list(artifact.rows()) for artifact in artifacts] == [first] * 3


def test_a_folder_of_plain_texts_is_read_by_name_and_hidden_or_foreign_files_are_not(tmp_path: Path, run: Any) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/b.txt").write_text("second " + LONG)
    (folder / "a.txt").write_text("\ufefffirst " + LONG)
    (folder / ".hidden.txt").write_text("third " + LONG)
    (folder / "README.md").write_text("not a text")
    rows = list(run(stage(path=str(folder), licence="CC BY 4.0", kind="essay"))["texts"].rows())
    assert [(row["text"][:6], row["source"]) for row in rows] == [("first ", "a.txt"), ("second", "b.txt")]
    assert {(row["licence"], row["kind"]) for row in rows} == {("CC BY 4.0", "essay")}


def test_pattern_selects_files_of_a_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t/en.jsonl", [{"text": "english " + LONG}])
    write_jsonl(tmp_path / "t/de.jsonl", [{"text": "german " + LONG}])
    assert [text[:7] for text in texts(Config(path=str(tmp_path / "t"), pattern="en*"))] == ["english"]
    with pytest.raises(UserError, match=r"no file here matches 'fr\*'"):
        texts(Config(path=str(tmp_path / "t"), pattern="fr*"))


@pytest.mark.parametrize("pattern", ["", ".", "/tmp/*", "**.jsonl"])
def test_what_is_no_pattern_is_said_when_the_config_is_read(pattern: str, load: Any) -> None:
    with pytest.raises(UserError, match=r"stages\.texts\.config\.pattern: not a pattern for files") as error:
        load(stage(path="texts", pattern=pattern))
    assert "\n" not in str(error.value)


def test_of_a_folder_what_dedup_and_import_took_out_is_passed_over(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t/a.jsonl", [{"text": "kept " + LONG}])
    for name in ("a.dropped", "sub/a.rejected"):
        write_jsonl(tmp_path / f"t/{name}.jsonl", [{"text": "gone " + LONG}])
    config = Config(path=str(tmp_path / "t"))
    assert [text[:4] for text in texts(config)] == ["kept"]
    assert forecast(config, {}).rows_out == 1
    for named in (
        Config(path=str(tmp_path / "t/a.dropped.jsonl")),
        Config(path=str(tmp_path / "t"), pattern="**/*.rejected.jsonl"),
    ):
        assert [text[:4] for text in texts(named)] == ["gone"]
        assert forecast(named, {}).rows_out == 1
    with pytest.raises(UserError, match=r"no file here ends in .*except \*\.dropped\.jsonl and .* skipped"):
        texts(Config(path=str(tmp_path / "t/sub")))


def test_of_a_stages_folder_its_records_are_read(tmp_path: Path, run: Any) -> None:
    rows = [{"text": f"{number}. {LONG}"} for number in range(5)] + [{"text": "short"}]
    first = run(stage(path=str(write_jsonl(tmp_path / "t.jsonl", rows)), rows_per_shard=2))["texts"]
    (first.path / "metrics.jsonl").write_text('{"step": 1}\n')
    config = Config(path=str(first.path))
    assert texts(config) == [row["text"] for row in first.rows()]
    assert forecast(config, {}).rows_out == 5
    (first.path / "manifest.json").rename(first.path / "stage.json")  # as before it is done
    with pytest.raises(UserError, match="half-written"):
        texts(config)


def test_columns_are_mapped_and_defaults_fill_what_rows_lack(tmp_path: Path) -> None:
    rows = [{"body": LONG, "n": 7, "license": "MIT"}, {"body": LONG + "x", "n": 8, "licence": None, "kind": ""}]
    file = write_jsonl(tmp_path / "t.jsonl", rows)
    config = Config(path=str(file), text_field="body", id_field="n", source="crawl", kind="web", licence="unknown")
    documents = [to_document(raw, config) for raw in read(config)]
    assert [(d["source"], d["licence"], d["kind"]) for d in documents] == [
        ("crawl#7", "MIT", "web"),
        ("crawl#8", "unknown", "web"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "fine"}\n{"text": "torn', r"t\.jsonl, line 2: not JSON: "),
        (b'{"text": "fine"}\n\n[1, 2]\n', r"t\.jsonl, line 3: a row must be a JSON object.*got list"),
        (b'{"body": "fine", "n": 1}\n', r"t\.jsonl, line 1: no field 'text'; its fields are 'body', 'n'\..*text_field"),
        (b"{}\n", r"t\.jsonl, line 1: no field 'text'; its fields are none"),
        (b'{"text": "caf\xe9"}\n', r"t\.jsonl, line 1: not UTF-8: .*byte 13"),
        (b'{"text": ' + b"[" * 100_000 + b"\n", r"t\.jsonl, line 1: not JSON"),
        (b"", r"t\.jsonl: there are no rows"),
        (b"\n \n", r"t\.jsonl: there are no rows"),
    ],
)
def test_malformed_json_lines_are_named_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        texts(Config(path=str(tmp_path / "t.jsonl"), min_chars=1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl.gz", b"no gzip", "damaged gzip file"),
        ("t.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9000)[:-20], "damaged gzip file"),
        ("t.parquet", b"PAR1 and nothing else", "not a readable Parquet file"),
        ("t.txt", b"caf\xe9", "not UTF-8"),
        ("t.txt", b" \n", "there are no rows"),
        ("t.csv", b"text\nhello\n", r"unknown file type; supported: \.jsonl"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        texts(Config(path=str(tmp_path / name)))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_path_is_an_error_before_anything_runs(tmp_path: Path, load: Any) -> None:
    with pytest.raises(UserError, match=r"stages\.texts\.config\..*nowhere\.jsonl: no such file or folder"):
        load(stage(path=str(tmp_path / "nowhere.jsonl")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of `path`, `hub`"),
        ({"path": "a", "hub": {"name": "x", "revision": "0" * 40}}, "give one of `path`, `hub`"),
        ({"hub": {"name": "x", "revision": "main"}}, r"c\.hub\.revision: .*full commit hash"),
        ({"path": "a", "text_feild": "x"}, "Did you mean 'text_field'"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(Config, values, "c")


def test_unfit_rows_are_kept_with_their_reason(tmp_path: Path, run: Any) -> None:
    rows = [{"text": value} for value in (LONG, "short", LONG + "\r\n", None, 17, ["x"], "", "other " + LONG)]
    file = write_jsonl(tmp_path / "t.jsonl", rows)
    artifact = run(stage(path=str(file)))["texts"]
    assert artifact.num_rows == 2
    assert artifact.manifest.counts.rows_in == 8
    assert artifact.manifest.counts.rejected == {"duplicate_document": 1, "no_text": 4, "too_short": 1}
    details = {row["reason"]: row["detail"] for row in artifact.rejected()}
    assert details["too_short"] == "5 characters"
    assert "'text'" in details["no_text"]


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path: Path, run: Any) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": "short"}, {"text": None}])
    with pytest.raises(UserError, match=r"none of the 2 texts is usable \(no_text 1, too_short 1\)"):
        run(stage(path=str(file)))


def test_duplicates_are_found_across_shards_and_a_resumed_run_ends_the_same(tmp_path: Path, run: Any) -> None:
    rows = [{"text": f"{number % 17} {LONG}"} for number in range(40)]
    file = write_jsonl(tmp_path / "t.jsonl", rows)
    config = stage(path=str(file), rows_per_shard=10)
    whole = run(config)["texts"]
    assert whole.manifest.shards == {"00000": 10, "00001": 7, "00002": 0, "00003": 0}
    expected = list(whole.rows())
    (whole.path / "manifest.json").unlink()
    (whole.path / "00001.parquet").unlink()
    (whole.path / "00003.parquet").unlink()
    untouched = (whole.path / "00000.parquet").stat().st_mtime_ns
    again = run(config)["texts"]
    assert list(again.rows()) == expected
    assert again.manifest.counts == whole.manifest.counts
    assert (whole.path / "00000.parquet").stat().st_mtime_ns == untouched


def test_limit_counts_rows_read(tmp_path: Path, run: Any) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", [{"text": f"{number} {LONG}"} for number in range(9)])
    assert run(stage(path=str(file), limit=4))["texts"].num_rows == 4
    assert forecast(Config(path=str(file)), {}).rows_out == 9
    assert forecast(Config(path=str(file), limit=4), {}).rows_out == 4


def test_identity_is_the_bytes_and_not_the_name(tmp_path: Path, load: Any) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", [{"text": LONG}])
    second = write_jsonl(tmp_path / "b.jsonl", [{"text": LONG}])
    prints = [load(stage(path=str(file))).stage("texts").fingerprint for file in (first, second)]
    assert prints[0] == prints[1]
    second.write_text(second.read_text().replace("river", "lake"))
    assert load(stage(path=str(second))).stage("texts").fingerprint != prints[0]


def test_a_data_set_in_the_hubs_layout_is_streamed(tmp_path: Path, run: Any) -> None:
    folder = tmp_path / "dataset"
    write_jsonl(folder / "data/train-0.jsonl", [{"text": f"{number} {LONG}", "url": "u"} for number in range(6)])
    hub = {"name": str(folder), "revision": "a" * 40}
    artifact = run(stage(hub=hub, limit=4, id_field="url"))["texts"]
    assert [row["text"][0] for row in artifact.rows()] == ["0", "1", "2", "3"]
    assert {row["source"] for row in artifact.rows()} == {"#u"}
    with pytest.raises(UserError, match=r"dataset \(nope, aaaaaaaa\): cannot be read"):
        run(stage(hub={**hub, "split": "nope"}), name="other")


def test_an_unreachable_data_set_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    hub = {"name": "no-such-owner/no-such-set", "revision": "b" * 40}
    with pytest.raises(UserError, match=r"no-such-owner/no-such-set \(train, bbbbbbbb\): cannot be read") as error:
        next(read(parse_config(Config, {"hub": hub}, "c")))
    assert "\n" not in str(error.value)


def test_cut_text_ends_at_a_sentence_else_a_word_else_anywhere() -> None:
    text = "First one. Second (quite long) one! Third"
    assert cut_text(text, 40) == "First one. Second (quite long) one!"
    assert cut_text("He said “stop.” Then more words follow here", 20) == "He said “stop.”"
    assert cut_text("no border in these words at all", 20) == "no border in these"
    assert cut_text("a. " + "b" * 50, 20) == "a. " + "b" * 17
    assert cut_text("x" * 50, 20) == "x" * 20
    assert cut_text("一句话。第二句话很长很长", 6) == "一句话。"
    assert cut_text("ends here. 3.14159 is no end", 17) == "ends here."


@given(st.text(max_size=300), st.integers(1, 120))
def test_cut_text_is_a_prefix_within_the_limit(text: str, limit: int) -> None:
    cut = cut_text(text, limit)
    assert text.startswith(cut)
    assert len(cut) <= limit


def test_clean_text_makes_any_json_string_storable() -> None:
    assert clean_text(json.loads('"a\\ud800b\\u0000c\\r\\nd\\re\\u0007 "')) == "a?bc\nd\ne"


def test_reading_is_a_stream(tmp_path: Path) -> None:
    row = json.dumps({"text": LONG * 40}) + "\n"
    with (tmp_path / "t.jsonl").open("w") as file:
        for _ in range(4000):
            file.write(row)
    tracemalloc.start()
    count = sum(1 for _ in read(Config(path=str(tmp_path / "t.jsonl"))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 1_000_000 < 4000 * len(row)


def test_real_web_texts(test_data: Path, run: Any) -> None:
    file = test_data / "webtext" / "documents.jsonl"
    artifact = run(stage(path=str(file), max_chars=6000, rows_per_shard=500))["texts"]
    rows = list(artifact.rows())
    assert len(rows) == 1895
    assert max(len(row["text"]) for row in rows) <= 6000
    assert {row["kind"] for row in rows} >= {"arXiv abstract", "web (C4)"}
    assert all(row["licence"] and row["source"] for row in rows)
    cut = [row for row in rows if len(row["text"]) > 5000]
    assert sum(row["text"][-1] in ".!?…\"”')]" for row in cut) > len(cut) / 2


def test_the_shipped_corpus(repository: Path, run: Any) -> None:
    file = repository / "configs/data/walks_of_life.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) >= 60
    assert {(row["licence"], row["source"]) for row in rows} == {("Apache-2.0", "written for Persona Hub")}
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(90 <= len(row["text"].split()) <= 180 for row in rows)
    assert len({row["kind"] for row in rows}) > 40
    assert [row["id"] for row in rows if contact_data(row["text"])] == []
    assert not any(re.search(r"https?:|@|\+\d", row["text"]) for row in rows)
    assert run(stage(path=str(file)))["texts"].num_rows == len(rows)
