"""Takedown: a web text and all that was made from it leave a run, and nothing else does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from personahub.cli import main
from personahub.core.artifact import open_artifact
from personahub.core.errors import UserError
from personahub.forget import forget

SMALL = [
    "stages.sources.config.limit=6",
    "stages.related_personas.config.max_new=60",
    "stages.data.config.test_problems=4",
]
SHORT = [
    "stages.personas.config.methods=[{method: surface, threshold: 0.9}]",
    "stages.data.inputs={problems: verified}",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command = ["run", "configs/quickstart.yaml", "--only", "data", "--runs", str(folder), *SMALL, *SHORT]
    subprocess.run([sys.executable, "-m", "personahub", *command], cwd=repository, check=True, timeout=200)
    return folder / "quickstart"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "quickstart"))


def texts(run: Path) -> Iterator[tuple[str, str]]:
    """Every row of the run, in whatever file, as text, with the name of its stage."""
    for manifest in run.glob("*/manifest.json"):
        artifact = open_artifact(manifest.parent)
        for row in (*artifact.rows(), *artifact.rejected(), *artifact.truth()):
            yield artifact.name, json.dumps(row, default=str)
        for file in manifest.parent.rglob("*.jsonl"):
            for line in file.read_text().splitlines() if file.name != "metrics.jsonl" else []:
                yield artifact.name, line


def made_from(run: Path, document: dict[str, Any]) -> set[str]:
    """Ids of everything whose `document_id` is the document's, and its own."""
    ids = {document["id"]}
    for manifest in run.glob("*/manifest.json"):
        ids |= {row["id"] for row in open_artifact(manifest.parent).rows() if row.get("document_id") == document["id"]}
    return ids


def test_a_text_and_all_that_was_made_from_it_go_and_nothing_else(run: Path) -> None:
    document = next(open_artifact(run / "sources").rows())
    gone = made_from(run, document)
    before = {stage: open_artifact(run / stage).num_rows for stage in ("sources", "personas", "problems", "data")}
    found = {each.stage: each.records for each in forget(run, document["id"], write=True)}
    assert found["sources"] == 1
    assert len(gone) > 20
    left = list(texts(run))
    assert not [stage for stage, text in left if any(f'"{id_}"' in text for id_ in gone)]
    assert not [stage for stage, text in left if json.dumps(document["text"])[1:80] in text]
    for stage, rows in before.items():
        artifact = open_artifact(run / stage)
        assert len(list(artifact.rows())) == artifact.num_rows == rows - found[stage]
        assert artifact.manifest.counts.rows_out == artifact.num_rows
        assert artifact.manifest.forgotten >= found[stage] > 0
    exported = sum(len((run / "data/export" / name).read_text().splitlines()) for name in ("train.jsonl", "test.jsonl"))
    assert exported == open_artifact(run / "data").num_rows
    assert not (run / "problems" / "journal").exists()


def test_only_saying_changes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    persona = next(row for row in open_artifact(run / "related_personas").rows() if row["hop"] == 0)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert main(["forget", persona["id"], "--experiment", str(run)]) == 0
    said = capsys.readouterr().out
    assert "related_personas: " in said
    assert "Nothing is removed yet" in said
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_the_run_stays_complete(run: Path, repository: Path) -> None:
    problem = next(open_artifact(run / "data").rows())
    forget(run, problem["id"], write=True)
    command = ["run", "configs/quickstart.yaml", "--only", "data", "--runs", str(run.parent), *SMALL, *SHORT]
    done = subprocess.run(
        [sys.executable, "-m", "personahub", *command], cwd=repository, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cached") == 9


@pytest.mark.parametrize(("folder", "message"), [("quickstart", "no stage has a record"), ("other", "no experiment")])
def test_unknown_ids_and_runs_are_one_line(run: Path, folder: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        forget(run.parent / folder, "no-such-id", write=True)


def test_a_stage_without_records_is_passed_over(run: Path) -> None:
    """As `eval.datasets` is when MATH cannot be had."""
    document = next(iter(open_artifact(run / "sources").rows()))["id"]
    for file in (run / "verified").glob("[0-9]*.parquet"):
        pq.write_table(pq.read_table(file).slice(0, 0), file)
    stages = {each.stage for each in forget(run, document, write=False)}
    assert {"sources", "first_personas", "problems"} <= stages
