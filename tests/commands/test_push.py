"""Publishing an artifact: the card says what the manifests say, and nothing of this machine leaves it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from personahub.commands.dataset_card import dataset_card, hub_license, upstream
from personahub.commands.push import push, write_upload
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from tests.hub_server import HubServer, hub_server


def stages(folder: Path) -> dict:
    texts = [
        {
            "text": f"Notes of a {trade} on how to keep {thing} in good order through a long, wet winter. " * 3,
            "licence": licence,
            "source": f"archive {i % 2}",
        }
        for i, (trade, thing, licence) in enumerate(
            [("beekeeper", "hives", "CC BY-NC-SA 4.0"), ("sailor", "ropes", "MIT"), ("miller", "stones", None)]
        )
    ]
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps(text) for text in texts))
    return {
        "texts": {"run": "personahub.sources", "config": {"path": str(file)}},
        "personas": {
            "run": "personahub.text_to_persona",
            "inputs": {"documents": "texts"},
            "config": {"engine": "teacher", "personas_per_text": 2},
        },
        "related": {
            "run": "personahub.persona_to_persona",
            "inputs": {"personas": "personas"},
            "config": {"engine": "teacher", "hops": 2},
        },
        "problems": {
            "run": "synth.problems",
            "inputs": {"personas": "related"},
            "config": {"engine": "teacher", "problems_per_persona": 2},
        },
    }


@pytest.fixture
def problems(run, tmp_path: Path) -> Artifact:
    return run(stages(tmp_path))["problems"]


def test_a_dry_run_writes_what_would_be_uploaded(problems: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "upload"
    command = [sys.executable, "-m", "personahub", "push", str(problems.path), "--dry-run", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Nothing was uploaded" in done.stdout
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    shards = {
        f"data/train-{i:05d}-of-{len(problems.shard_names):05d}.parquet" for i in range(len(problems.shard_names))
    }
    assert files == {"README.md", "provenance.json"} | shards
    published = [row for file in sorted(shards) for row in pq.read_table(folder / file).to_pylist()]
    assert published == list(problems.rows())

    provenance = json.loads((folder / "provenance.json").read_text())
    assert [stage["stage"] for stage in provenance] == ["texts", "personas", "related", "problems"]
    assert provenance[0]["config"]["path"] == "texts.jsonl"
    for file in ("README.md", "provenance.json"):
        assert str(tmp_path) not in (folder / file).read_text()

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr) == (
        2,
        f"error: {folder}: is not empty; choose a new or empty folder\n",
    )


def test_the_card_tells_counts_models_prompts_licences_cost_and_lineage(problems: Artifact) -> None:
    text = dataset_card(problems, "me/problems")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "cc-by-nc-sa-4.0"
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    licences = Counter(row["licence"] or "not stated" for row in problems.rows())
    assert len(licences) == 3
    usage = [open_artifact(problems.path.parent / name).manifest.usage for name in ("personas", "related", "problems")]
    hops = Counter(row["hop"] for row in open_artifact(problems.path.parent / "related").rows())
    assert set(hops) == {0, 1, 2}
    for said in (
        "# me/problems",
        "**Machine-generated.**",
        "**Simulated.**",
        f"{problems.num_rows:,} records",
        "simulated-teacher (`simulated`)",
        "- `math`, content ",
        "- `persona_to_persona`, content ",
        "| problems | synth.problems version",
        "`document_id`: the web text at the root",
        f"hop 0: {hops[0]}, hop 1: {hops[1]}, hop 2: {hops[2]}.",
        f"- CC BY-NC-SA 4.0: {licences['CC BY-NC-SA 4.0']:,} records",
        f"- not stated: {licences['not stated']:,} records",
        "archive 0 (",
        "non-commercial purposes only",
        f"{sum(u.requests for u in usage):,} requests",
    ):
        assert said in text, said


def test_the_card_of_web_texts_says_from_where_they_are_and_that_no_model_wrote_them(
    problems: Artifact, tmp_path: Path
) -> None:
    text = dataset_card(open_artifact(problems.path.parent / "texts"), "me/texts")
    assert yaml.safe_load(text.split("---")[1])["tags"] == ["persona-hub-harness"]
    for said in (
        "**Web texts.**",
        "from `texts.jsonl`",
        "- MIT: 1 records",
        "- not stated: 1 records",
        "archive 0 (2)",
    ):
        assert said in text, said
    for not_said in (
        "achine-generated",
        "written by language models",
        "models named above",
        "Personas under",
        "## Models",
    ):
        assert not_said not in text, not_said
    assert str(tmp_path) not in text


@pytest.mark.parametrize("name", ["personas", "related", "problems"])
def test_the_card_of_what_models_wrote_says_so(problems: Artifact, name: str) -> None:
    text = dataset_card(open_artifact(problems.path.parent / name))
    assert "The texts in this dataset were written by language models" in text
    assert "The terms of the models named above" in text
    assert {"synthetic", "machine-generated"} <= set(yaml.safe_load(text.split("---")[1])["tags"])


def test_the_card_of_personas_that_people_wrote(run, tmp_path: Path) -> None:
    lines = [json.dumps({"persona": f"A {trade} who keeps bees"}) for trade in ("miller", "sailor")]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    config = {"path": str(tmp_path / "own.jsonl"), "machine_generated": False}
    text = dataset_card(run({"own": {"run": "personahub.load_personas", "config": config}})["own"])
    assert "**Written by people.**" in text
    assert "achine-generated" not in text
    assert "models named above" not in text


def test_a_moved_experiment_still_finds_its_stages_and_a_missing_one_is_named(problems: Artifact) -> None:
    moved = problems.path.parent.with_name("moved")
    shutil.copytree(problems.path.parent, moved)
    shutil.rmtree(problems.path.parent)
    there = open_artifact(moved / "problems")
    assert [stage.name for stage in upstream(there) if stage.artifact] == ["texts", "personas", "related"]
    shutil.rmtree(moved / "personas")
    assert [(stage.name, stage.artifact is None) for stage in upstream(there)] == [
        ("personas", True),
        ("related", False),
    ]
    assert "Not available when this card was made: personas (" in dataset_card(there)


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ({"MIT": 3}, "mit"),
        ({"ODC-By 1.0": 3, "odc-by": 1}, "odc-by"),
        ({"MIT": 3, "CC BY 4.0": 1}, "other"),
        ({"MIT": 3, "CC BY-NC-SA 4.0": 1}, "cc-by-nc-sa-4.0"),
        ({"not stated": 1}, "other"),
        ({}, "other"),
    ],
)
def test_the_licence_that_binds_all(licences: dict[str, int], expected: str) -> None:
    assert hub_license(licences) == expected


def test_without_a_token_nothing_is_tried(problems: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match="HF_TOKEN is not set"):
        push(problems, "me/problems")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with pytest.raises(UserError, match="OWNER/NAME"):
        push(problems, "problems")


def pushed(problems: Artifact, server: HubServer, home: Path) -> subprocess.CompletedProcess[str]:
    """By the hub's own client, which reads its address when it is imported."""
    account = {"HF_TOKEN": "hf_secret", "HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "personahub", "push", str(problems.path), "--repo", "me/problems", "--private"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(command, env={**kept, **account}, capture_output=True, text=True, timeout=120)


def test_what_is_uploaded_is_what_the_dry_run_wrote(problems: Artifact, tmp_path: Path) -> None:
    with hub_server() as server:
        done = pushed(problems, server, tmp_path / "home")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{server.url}/datasets/me/problems"
    written = write_upload(problems, tmp_path / "upload", "me/problems")
    expected = {str(path.relative_to(tmp_path / "upload")): path.read_bytes() for path in written}
    assert {path: content for path, content in server.files.items() if path != ".gitattributes"} == expected
    assert server.created == [{"name": "problems", "organization": "me", "visibility": "private", "type": "dataset"}]
    assert server.messages == [f"{problems.manifest.experiment}/problems {problems.fingerprint}"]
    assert server.tokens == {"Bearer hf_secret"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


def test_a_hub_that_refuses_is_one_line(problems: Artifact, tmp_path: Path) -> None:
    with hub_server(refuse=True) as server:
        done = pushed(problems, server, tmp_path / "home")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the Hub refused the upload to me/problems: ")
    assert len(done.stderr.splitlines()) == 1
    assert server.tokens, "it was not asked"
    assert not server.files


def test_what_has_no_records_is_not_published(run, tmp_path: Path) -> None:
    made = stages(tmp_path)
    made["problems"]["config"] |= {"min_chars": 3999, "attempts": 1}
    empty = run(made)["problems"]
    assert empty.num_rows == 0
    with pytest.raises(UserError, match="no records to publish"):
        write_upload(empty, tmp_path / "upload")
    assert not os.path.lexists(tmp_path / "upload")
