"""Importing released personas: mappings, lineage, what is not taken and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.records import PERSONA
from personahub.personas.importing import Imported
from personahub.released import RELEASES, Config, Seen, forecast, import_row, read

ELITE = {
    "persona": "A marine biologist who maps seagrass",
    "general domain (top 1 percent)": "Biology",
    "specific domain (top 1 percent)": "Marine Ecology",
    "general domain (top 0.1 percent)": "None",
    "specific domain (top 0.1 percent)": "None",
}
NEMOTRON = {
    "uuid": "e7c0574639a244c8972c92aab9501035",
    "persona": "A food service worker with steady hands",
    "sports_persona": "A runner along a lake",
    "occupation": "fast_food_worker",
    "skills_and_expertise_list": "['cash handling', 'inventory']",
    "age": 28,
    "state": "WI",
}
FINE = {
    "id": "<urn:uuid:f7c4d5a2-e818-4f68-a7e3-21d0eb1c7ad5>",
    "persona": "A historian of early mapmaking",
    "labels": '["History", "Maps"]',
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(path: Path, **config: Any) -> list[Imported]:
    parsed = parse_config(Config, {"path": str(path), **config}, "c")
    seen = Seen()
    return [entry for raw in read(parsed) for entry in import_row(raw, parsed, seen)]


def test_each_release_yields_lineage_source_and_licence(tmp_path: Path) -> None:
    ((hub, _),) = imported(write(tmp_path / "p.jsonl", [{"persona": "A nurse"}]), release="personahub")
    assert (hub["source"], hub["licence"], hub["document_id"]) == ("proj-persona/PersonaHub", "CC BY-NC-SA 4.0", None)
    ((sample, _),) = imported(
        write(tmp_path / "s.jsonl", [{"input persona": "A nurse", "synthesized text": "x"}]), release="personahub"
    )
    assert sample["persona"] == "A nurse"
    ((elite, _),) = imported(write(tmp_path / "e.jsonl", [ELITE]), release="elite_personas")
    assert json.loads(elite["profile"]) == {"general_domain": "Biology", "specific_domain": "Marine Ecology"}
    ((fine, _),) = imported(write(tmp_path / "f.jsonl", [FINE]), release="finepersonas")
    assert fine["document_id"] == FINE["id"]
    assert (fine["licence"], json.loads(fine["profile"])) == ("Llama 3 Community License", {"labels": FINE["labels"]})
    ((nemotron, _),) = imported(write(tmp_path / "n.jsonl", [NEMOTRON]), release="nemotron_personas")
    assert nemotron["source"] == f"nvidia/Nemotron-Personas-USA#{NEMOTRON['uuid']}"
    assert json.loads(nemotron["profile"])["age"] == "28"
    assert nemotron["licence"] == "CC BY 4.0"


def test_the_mapping_is_in_the_config_and_can_be_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "n.jsonl", [NEMOTRON])
    config = parse_config(Config, {"release": "nemotron_personas", "path": str(file)}, "c")
    assert config.model_dump(mode="json")["columns"]["id"] == "uuid"
    assert parse_config(Config, config.model_dump(mode="json"), "c") == config
    columns = {"persona": ["persona", "sports_persona"], "id": "uuid"}
    both = imported(file, release="nemotron_personas", columns=columns)
    assert [entry.record["persona"] for entry in both] == [NEMOTRON["persona"], NEMOTRON["sports_persona"]]
    profiles = [json.loads(entry.record["profile"]) for entry in both]
    assert [profile["column"] for profile in profiles] == columns["persona"]
    assert [profile["age"] for profile in profiles] == ["28", "28"]
    assert len({entry.record["id"] for entry in both}) == 2


def test_a_column_that_is_named_leaves_the_rest_of_the_mapping(tmp_path: Path) -> None:
    file = write(tmp_path / "n.jsonl", [NEMOTRON])
    ((record, _),) = imported(file, release="nemotron_personas", columns={"persona": ["sports_persona"]})
    assert record["persona"] == NEMOTRON["sports_persona"]
    assert record["source"] == f"nvidia/Nemotron-Personas-USA#{NEMOTRON['uuid']}"
    assert json.loads(record["profile"])["state"] == "WI"
    ((bare, _),) = imported(file, release="nemotron_personas", columns={"id": None, "profile": {}})
    assert (bare["source"], bare["profile"]) == ("nvidia/Nemotron-Personas-USA", None)


def test_an_id_comes_again_only_if_a_persona_of_its_row_was_taken(tmp_path: Path) -> None:
    rows = [
        {"uuid": "u1", "persona": ""},
        {"uuid": "u1", "persona": "A nurse in Oslo"},
        {"uuid": "u1", "persona": "A nurse in Bergen"},
        {"uuid": "u2", "persona": "A nurse in Oslo"},
        {"uuid": "u2", "persona": "A miner"},
    ]
    entries = imported(write(tmp_path / "p.jsonl", rows), columns={"id": "uuid"})
    reasons = [entry.error and entry.error.reason for entry in entries]
    assert reasons == ["no_persona", None, "duplicate_id", "duplicate_persona", None]


def test_every_release_names_its_place_columns_source_and_licence() -> None:
    for name, release in RELEASES.items():
        config = parse_config(Config, {"release": name, "hub": {"revision": "a" * 40}}, "c")
        assert config.hub is not None
        assert config.hub.name == release["hub"]["name"]
        assert config.source
        assert config.licence


def test_what_cannot_be_taken_is_kept_with_its_reason(tmp_path: Path, run: Any) -> None:
    rows = [
        {"persona": "A nurse", "n": 1},
        {"persona": "A nurse", "n": 2},
        {"persona": "A baker", "n": 1},
        {"persona": None, "n": 3},
        {"persona": 17, "n": 4},
        {"persona": ["A list"], "n": 5},
        {"persona": "  ", "n": 6},
        {"persona": "A baker " + "x" * 10_000_000, "n": 7},
        {"persona": "A clerk \ud800 in Oslo", "n": 8},
    ]
    file = write(tmp_path / "p.jsonl", rows)
    config = {"path": str(file), "columns": {"id": "n"}, "licence": "CC0", "source": "made"}
    artifact = run({"personas": {"run": "personahub.released", "config": config}})["personas"]
    assert [row["persona"] for row in artifact.rows()] == ["A nurse", "A clerk ? in Oslo"]
    assert artifact.table().schema.equals(PERSONA)
    assert {(row["licence"], row["hop"]) for row in artifact.rows()} == {("CC0", 0)}
    assert artifact.manifest.counts.rejected == {
        "duplicate_id": 1,
        "duplicate_persona": 1,
        "no_persona": 4,
        "too_long": 1,
    }
    assert max(len(row["record"]) for row in artifact.rejected()) < 2000


def test_the_rest_of_the_pipeline_reads_them(tmp_path: Path, run: Any) -> None:
    rows = [{"persona": f"A keeper of {number} gulls who writes letters"} for number in range(6)]
    stages = {
        "personas": {
            "run": "personahub.released",
            "config": {"path": str(write(tmp_path / "p.jsonl", rows)), "release": "personahub"},
        },
        "related": {
            "run": "personahub.persona_to_persona",
            "inputs": {"personas": "personas"},
            "config": {"engine": "teacher", "hops": 2, "breadth": 1},
        },
        "good": {"run": "personahub.quality", "inputs": {"personas": "related"}},
    }
    artifacts = run(stages)
    assert {row["licence"] for row in artifacts["good"].rows()} == {"CC BY-NC-SA 4.0"}
    assert artifacts["related"].num_rows == 18


def test_a_resumed_import_ends_the_same(tmp_path: Path, run: Any) -> None:
    file = write(tmp_path / "p.jsonl", [{"persona": f"A keeper of {number % 7} gulls"} for number in range(20)])
    stages = {"personas": {"run": "personahub.released", "config": {"path": str(file), "rows_per_shard": 5}}}
    whole = run(stages)["personas"]
    expected, counts = list(whole.rows()), whole.manifest.counts
    assert len(expected) == 7
    for name in ("manifest.json", "00001.parquet", "00003.parquet"):
        (whole.path / name).unlink()
    again = run(stages)["personas"]
    assert (list(again.rows()), again.manifest.counts) == (expected, counts)


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        ([{"text": "A nurse"}], {}, r"p\.jsonl, line 1: no field 'persona'; its fields are 'text'.*columns\.persona"),
        ([{"persona": 1}], {}, r"none of the 1 rows has a usable persona \(no_persona 1\)"),
        ([], {}, r"p\.jsonl: there are no rows"),
        ([{"persona": "A"}], {"release": "personahubs"}, "'personahub'"),
        ([{"persona": "A"}], {"hub": {"name": "x", "revision": "a" * 40}}, "give one of"),
        ([{"persona": "A"}], {"columns": {"persona": []}}, r"columns\.persona"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, run: Any, rows: list[Any], config: Any, message: str) -> None:
    file = write(tmp_path / "p.jsonl", rows)
    with pytest.raises(UserError, match=message) as error:
        run({"personas": {"run": "personahub.released", "config": {"path": str(file), **config}}})
    assert "\n" not in str(error.value)


def test_forecast_counts_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"persona": ["A", "B", "C"]}), tmp_path / "p.parquet")
    assert forecast(Config(path=str(tmp_path / "p.parquet")), {}).rows_out == 3
    assert forecast(Config(path=str(tmp_path / "p.parquet"), limit=2), {}).rows_out == 2
