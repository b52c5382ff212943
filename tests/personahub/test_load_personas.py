"""Personas from a file: which are kept, which are rejected, and which errors the user must fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.load_personas import Config, forecast


def test_personas_are_read_once_each(tmp_path: Path, run) -> None:
    lines = [{"persona": "A tram  driver"}, {"persona": "A tram driver"}, {"persona": "x"}, {"persona": "A miller"}]
    file = tmp_path / "personas.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"path": str(file), "licence": "CC0", "rows_per_shard": 3}
    artifact = run({"personas": {"run": "personahub.load_personas", "config": config}})["personas"]
    rows = list(artifact.rows())
    assert [row["persona"] for row in rows] == ["A tram driver", "A miller"]
    assert {row["licence"] for row in rows} == {"CC0"}
    assert artifact.manifest.counts.rejected == {"duplicate_persona": 1, "too_short": 1}
    assert forecast(parse_config(Config, config, "t"), {}).rows_out == 4


@pytest.mark.parametrize(
    ("line", "config", "message"),
    [
        ('{"text": "A miller"}', {}, r"personas\.jsonl, line 1: no field 'persona'; its fields are 'text'"),
        ('{"persona": ""}', {}, "no row has a usable persona"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, run, line: str, config: dict[str, str], message: str) -> None:
    file = tmp_path / "personas.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        run({"personas": {"run": "personahub.load_personas", "config": {"path": str(file), **config}}})


@pytest.mark.parametrize("module", ["load_personas", "released"])
def test_of_a_data_set_the_named_files_are_read(tmp_path: Path, run, module: str) -> None:
    (tmp_path / "set/elite").mkdir(parents=True)
    (tmp_path / "set/train.jsonl").write_text('{"persona": "A tram driver"}\n')
    (tmp_path / "set/elite/a.jsonl").write_text('{"persona": "A miller"}\n')
    hub = {"name": str(tmp_path / "set"), "revision": "a" * 40, "files": "elite/*.jsonl"}
    artifact = run({"personas": {"run": f"personahub.{module}", "config": {"hub": hub}}})["personas"]
    assert [row["persona"] for row in artifact.rows()] == ["A miller"]


def test_one_origin() -> None:
    with pytest.raises(UserError, match="either `path` or `hub`"):
        parse_config(Config, {}, "stages.personas.config")
