"""`personahub personas import | sample | stats | search`, through the command line's own entry."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.commands.cli import main
from personahub.commands.collection import Persona, stats
from personahub.core.errors import UserError
from personahub.core.records import PERSONA

PEOPLE = [
    "A night-shift nurse who keeps bees on the roof of her hospital",
    "A baker whose sourdough starter is older than his daughter",
    "A lighthouse keeper who breeds herring gulls",
    "A nurse who teaches first aid to fishermen",
    "A retired bus driver who restores old cameras",
    "Un boulanger qui fait du pain pour les écoles de la ville",
]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def personas(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `personahub personas ...`; returns exit code, stdout and stderr."""

    def command(*words: Any) -> tuple[int, str, str]:
        code = main(["personas", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps({"persona": text}) + "\n" for text in PEOPLE))
    return file


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_import_writes_records_in_every_format(tmp_path: Path, personas: Command, collection: Path, name: str) -> None:
    target = tmp_path / name
    code, out, _ = personas("import", collection, target, "--release", "personahub")
    assert code == 0
    assert "6 personas from 6 rows" in out
    assert "CC BY-NC-SA 4.0" in out
    if name.endswith(".parquet"):
        table = pq.read_table(target)
        assert table.schema.equals(PERSONA)
        rows = table.to_pylist()
    else:
        content = target.read_bytes()
        rows = [
            json.loads(line) for line in (gzip.decompress(content) if name.endswith("gz") else content).splitlines()
        ]
    assert [row["persona"] for row in rows] == PEOPLE
    assert {row["source"] for row in rows} == {"proj-persona/PersonaHub"}
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["people.jsonl", name])
    assert personas("stats", target)[0] == 0


def test_import_keeps_what_it_rejects_beside(tmp_path: Path, personas: Command) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"who": "A nurse", "n": 1}, {"who": 5, "n": 2}, {"who": "A nurse", "n": 3}, {"who": "A baker", "n": 1}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "out.parquet"
    code, out, _ = personas("import", source, target, "--field", "who", "--id-field", "n", "--licence", "CC0")
    assert code == 0
    assert "3 rejected" in out
    rejected = [json.loads(line) for line in (tmp_path / "out.rejected.jsonl").read_text().splitlines()]
    assert Counter(row["reason"] for row in rejected) == {"no_persona": 1, "duplicate_persona": 1, "duplicate_id": 1}
    assert rejected[0]["where"].endswith("in.jsonl, line 2")
    assert pq.read_table(target).to_pylist()[0]["source"] == "in.jsonl#1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"persona": "A nurse"}\n{"persona": "torn', "in.jsonl, line 2: not JSON"),
        (
            '{"persona": "A nurse"}\n{"text": "A baker"}\n',
            "in.jsonl, line 2: no field 'persona'; its fields are 'text'",
        ),
        ("", "in.jsonl: there are no rows"),
        ('{"persona": 5}\n', "none of the 1 rows has a usable persona (no_persona 1)"),
    ],
)
def test_a_failed_import_leaves_no_output(tmp_path: Path, personas: Command, content: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    for name in ("out.jsonl", "out.parquet"):
        code, _, error = personas("import", tmp_path / "in.jsonl", tmp_path / name)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_corrupt_shard_amid_a_folder_leaves_no_output(tmp_path: Path, personas: Command) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        people = [f"A keeper of {number} {name} gulls" for number in range(5000)]
        pq.write_table(pa.table({"persona": people}), folder / f"{name}.parquet", write_page_checksum=True)
    content = bytearray((folder / "b.parquet").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "b.parquet").write_bytes(bytes(content))
    code, _, error = personas("import", folder, tmp_path / "out.parquet")
    assert code == 2
    assert "b.parquet: not a readable Parquet file" in error
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_nothing_is_overwritten_unasked(tmp_path: Path, personas: Command, collection: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert personas("import", collection, target)[0] == 0
    before = target.read_bytes()
    code, _, error = personas("import", collection, target, "--limit", 1)
    assert code == 2
    assert "--overwrite" in error
    assert target.read_bytes() == before
    assert personas("import", collection, target, "--limit", 1, "--overwrite")[0] == 0
    assert len(target.read_text().splitlines()) == 1
    assert "unknown file type" in personas("import", collection, tmp_path / "out.csv")[2]


def test_import_writes_over_nothing_that_it_reads_or_that_is_not_its_own(tmp_path: Path, personas: Command) -> None:
    source = tmp_path / "mine.rejected.jsonl"
    source.write_text('{"persona": "A nurse"}\n')
    for words in (["mine.jsonl"], ["mine.jsonl", "--overwrite"], ["mine.rejected.jsonl", "--overwrite"]):
        code, _, error = personas("import", source, tmp_path / words[0], *words[1:])
        assert (code, "would overwrite the input" in error, error.count("\n")) == (2, True, 1)
    assert source.read_text() == '{"persona": "A nurse"}\n'
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.jsonl").write_text('{"persona": "A nurse"}\n')
    assert "would overwrite" in personas("import", tmp_path / "folder", tmp_path / "folder/a.jsonl", "--overwrite")[2]

    old = tmp_path / "out.rejected.jsonl"
    old.write_text('{"mine": 1}\n')
    code, _, error = personas("import", source, tmp_path / "out.jsonl")
    assert code == 2
    assert "out.rejected.jsonl: already exists" in error
    assert old.read_text() == '{"mine": 1}\n'
    assert not (tmp_path / "out.jsonl").exists()
    assert personas("import", source, tmp_path / "out.jsonl", "--overwrite")[0] == 0
    assert old.read_text() == ""  # replaced, as was asked for: nothing was rejected
    old.unlink()
    assert personas("import", source, tmp_path / "out.jsonl", "--overwrite")[0] == 0
    assert not old.exists()


def test_a_sample_of_parquet_keeps_its_types(tmp_path: Path, personas: Command) -> None:
    table = pa.table(
        {
            "persona": pa.array(PEOPLE, pa.string_view()),
            "stars": pa.array(range(6), pa.int8()),
            "weight": pa.array([0.1] * 6, pa.float32()),
            "note": pa.array([None] * 6, pa.string()),
            "tags": pa.array([[]] * 6, pa.list_(pa.string())),
            "key": pa.array([b"ab"] * 6, pa.binary(2)),
            "hash": pa.array([2**64 - 1] * 6, pa.uint64()),
        }
    ).replace_schema_metadata({"made": "by hand"})
    pq.write_table(table, tmp_path / "p.parquet")
    assert personas("sample", tmp_path / "p.parquet", "-n", 6, "--out", tmp_path / "s.parquet")[0] == 0
    drawn = pq.read_table(tmp_path / "s.parquet")
    assert drawn.schema.equals(pq.read_schema(tmp_path / "p.parquet"), check_metadata=True)
    assert drawn.schema.types[:4] == table.schema.types[:4]
    assert sorted(drawn.to_pylist(), key=lambda row: row["stars"]) == table.to_pylist()


def test_a_sample_keeps_the_columns_that_only_some_rows_have(tmp_path: Path, personas: Command) -> None:
    rows: list[Any] = [{"persona": f"A keeper of {number} gulls"} for number in range(3000)]
    rows.append({"persona": "A miner", "quality": 0.5})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert personas("sample", tmp_path / "p.jsonl", "-n", 4000, "--out", tmp_path / "s.parquet")[0] == 0
    drawn = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert len(drawn) == 3001
    assert [row["quality"] for row in drawn if row["persona"] == "A miner"] == [0.5]
    (tmp_path / "two").mkdir()
    pq.write_table(pa.table({"persona": ["A baker"], "a": pa.array([1], pa.int8())}), tmp_path / "two/a.parquet")
    pq.write_table(pa.table({"persona": ["A miner"], "b": ["x"]}), tmp_path / "two/b.parquet")
    assert personas("sample", tmp_path / "two", "--out", tmp_path / "t.parquet")[0] == 0
    assert pq.read_schema(tmp_path / "t.parquet").types == [pa.string(), pa.int8(), pa.string()]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"persona": "A nurse", "n": 2**70}], "too large"),
        ([{"persona": "A nurse", "n": 1}, {"persona": "A miner", "n": "x"}], "Could not convert"),
        ([{"persona": "A nurse", "n": {}}], "no child field"),
    ],
)
def test_a_sample_that_parquet_cannot_hold_is_one_line(
    tmp_path: Path, personas: Command, rows: list[Any], message: str
) -> None:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, error = personas("sample", tmp_path / "p.jsonl", "--out", tmp_path / "s.parquet")
    assert (code, error.count("\n")) == (2, 1)
    assert "s.parquet: Parquet cannot store the rows" in error
    assert message in error
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]


def test_a_sample_does_not_replace_what_it_is_drawn_from(tmp_path: Path, personas: Command, collection: Path) -> None:
    before = collection.read_bytes()
    assert "would overwrite the input" in personas("sample", collection, "--out", collection, "--overwrite")[2]
    assert collection.read_bytes() == before
    columns = [pa.array(["A nurse"]), pa.array(["A miner"])]
    pq.write_table(pa.Table.from_arrays(columns, ["persona", "persona"]), tmp_path / "two.parquet")
    code, _, error = personas("sample", tmp_path / "two.parquet", "--out", tmp_path / "s.parquet")
    assert (code, "has two columns named 'persona'" in error, error.count("\n")) == (2, True, 1)


def test_ids_that_come_again_are_not_drawn_together(tmp_path: Path, personas: Command) -> None:
    rows = [{"id": f"d{number // 10}", "persona": f"A keeper of {number} gulls"} for number in range(100)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = personas("sample", tmp_path / "p.jsonl", "-n", 10, "--json")[1].splitlines()
    assert len({json.loads(line)["id"] for line in drawn}) >= 4


def test_sample_does_not_depend_on_order_or_division(tmp_path: Path, personas: Command, collection: Path) -> None:
    drawn = personas("sample", collection, "-n", 3)[1].splitlines()
    assert len(set(drawn)) == 3
    assert set(drawn) <= set(PEOPLE)
    (tmp_path / "two").mkdir()
    for name, part in (("a", PEOPLE[3:]), ("b", PEOPLE[:3])):
        pq.write_table(pa.table({"persona": part}), tmp_path / f"two/{name}.parquet")
    assert personas("sample", tmp_path / "two", "-n", 3)[1].splitlines() == drawn
    assert personas("sample", collection, "-n", 3, "--seed", 1)[1].splitlines() != drawn
    assert len(personas("sample", collection, "-n", 99)[1].splitlines()) == 6
    target = tmp_path / "drawn.parquet"
    assert personas("sample", collection, "-n", 3, "--out", target)[0] == 0
    assert pq.read_table(target)["persona"].to_pylist() == drawn


def test_stats_count_what_is_there(tmp_path: Path, personas: Command) -> None:
    rows = [
        {"persona": text, "hop": number % 2, "id": str(number), "source": f"s#{number}"}
        for number, text in enumerate(PEOPLE)
    ]
    rows += [{**rows[0], "persona": "a night-shift NURSE who keeps bees on the roof of her hospital."}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(personas("stats", tmp_path / "p.jsonl", "--json")[1])
    assert (found["personas"], found["distinct"], found["duplicate_ids"], found["without_id"]) == (7, 6, 1, 0)
    assert found["languages"] == {"en": 6, "fr": 1}
    assert found["people"]["nurse"] == 3
    assert (found["hop"], found["source"]) == ({"0": 4, "1": 3}, {"s": 7})
    assert found["words"]["min"] == 7
    assert found["words"]["max"] == 13
    text = personas("stats", tmp_path / "p.jsonl")[1]
    assert "personas       7" in text


def test_search_by_words_ranks_the_rare_and_the_short_first(personas: Command, collection: Path) -> None:
    hits = personas("search", collection, "NURSE", "bees")[1].splitlines()
    assert [hit.partition("  ")[2] for hit in hits] == [PEOPLE[0], PEOPLE[3]]
    best = json.loads(personas("search", collection, "écoles", "-n", 1, "--json")[1])
    assert best["persona"] == PEOPLE[5]
    assert "nothing found" in personas("search", collection, "astronaut")[1]
    assert "the query has no words" in personas("search", collection, "...")[2]


def test_search_by_embedding(personas: Command, collection: Path) -> None:
    hits = personas("search", collection, "a keeper of lighthouses", "--embedder", "hashing", "-n", 2)[1].splitlines()
    assert len(hits) == 2
    assert hits[0].endswith(PEOPLE[2])
    scores = [float(hit.split()[0]) for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_artifacts_of_a_run_are_collections_and_half_of_one_is_not(
    tmp_path: Path, personas: Command, collection: Path, run: Any
) -> None:
    stages = {"personas": {"run": "personahub.released", "config": {"path": str(collection)}}}
    artifact = run(stages)["personas"]
    assert json.loads(personas("stats", artifact.path, "--json")[1])["personas"] == 6
    (artifact.path / "manifest.json").rename(artifact.path / "stage.json")  # a stage's folder before it is done
    code, _, error = personas("stats", artifact.path)
    assert code == 2
    assert "half-written" in error


def test_other_columns_and_unusable_rows(tmp_path: Path, personas: Command) -> None:
    (tmp_path / "p.jsonl").write_text('{"who": "A nurse"}\n{"who": null}\n{"who": 5}\n{"who": "A baker"}\n')
    assert sorted(personas("sample", tmp_path / "p.jsonl", "--field", "who")[1].splitlines()) == ["A baker", "A nurse"]
    code, _, error = personas("search", tmp_path / "p.jsonl", "nurse")
    assert code == 2
    assert "p.jsonl, line 1: no field 'persona'; its fields are 'who'" in error
    assert "no such file" in personas("stats", tmp_path / "nowhere.jsonl")[2]


def test_ids_that_are_missing_are_no_duplicates() -> None:
    ids = [None, "", None, "a", "a", "None"]
    found = stats(Persona(f"a baker {number}", {"id": id_}, "here") for number, id_ in enumerate(ids))
    assert (found["without_id"], found["duplicate_ids"]) == (3, 1)


def test_a_collection_without_a_persona_is_no_result(tmp_path: Path, personas: Command) -> None:
    (tmp_path / "p.jsonl").write_text('{"persona": null}\n{"persona": 5}\n')
    for words in (["sample"], ["stats"]):
        code, out, error = personas(*words, tmp_path / "p.jsonl")
        assert (code, out) == (2, "")
        assert "p.jsonl: has no personas: no row has text in 'persona'" in error
    assert "has no personas" in personas("search", tmp_path / "p.jsonl", "nurse")[2]


def test_half_a_character_is_kept_in_json_lines_and_refused_in_parquet(tmp_path: Path, personas: Command) -> None:
    rows = [{"persona": "A nurse \ud800"}, {"persona": "Une infirmière"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert personas("sample", tmp_path / "p.jsonl", "--out", tmp_path / "out.jsonl")[0] == 0
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["persona"] for line in written) == sorted(row["persona"] for row in rows)
    code, _, error = personas("sample", tmp_path / "p.jsonl", "--out", tmp_path / "out.parquet")
    assert (code, "lone surrogate" in error, error.count("\n")) == (2, True, 1)
    assert not (tmp_path / "out.parquet").exists()


def test_a_folder_is_searched_for_rows_only(tmp_path: Path, personas: Command, collection: Path) -> None:
    (tmp_path / "README.txt").write_text("Some personas.")
    assert json.loads(personas("stats", tmp_path, "--json")[1])["personas"] == len(PEOPLE)


def test_the_hub_out_of_reach_is_one_line(tmp_path: Path, personas: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    address = "hf://datasets/nobody/nothing@main/p.jsonl"
    code, _, error = personas("import", address, tmp_path / "out.jsonl")
    assert (code, error.count("\n")) == (2, 1)
    assert f"error: {address}: cannot be read: " in error
    assert not list(tmp_path.iterdir())


def test_a_stage_that_is_given_another_stages_records_says_which_column_it_misses(collection: Path, run: Any) -> None:
    stages = {
        "people": {"run": "personahub.released", "config": {"path": str(collection)}},
        "mixed_up": {
            "run": "personahub.text_to_persona",
            "inputs": {"documents": "people"},
            "config": {"engine": "teacher"},
        },
    }
    with pytest.raises(
        UserError, match=r"people: the records have no column 'text', only id, persona, .*under `inputs`"
    ):
        run(stages)
