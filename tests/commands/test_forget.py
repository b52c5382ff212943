"""Removes a web text and everything made from it from a run, and nothing else."""

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

from personahub.commands.cli import main
from personahub.commands.forget import forget
from personahub.core.artifact import open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.runner import run_experiment
from personahub.core.generation.budget import spent_by_experiment
from personahub.core.generation.journal import journal_line

SMALL = [
    "stages.sources.config.limit=6",
    "stages.related_personas.config.max_new=60",
    "stages.data.config.test_problems=4",
]
SHORT = [
    "stages.personas.config.methods=[{method: surface, threshold: 0.9}]",
    "stages.data.inputs={problems: verified}",
]


STAGES = """
import json
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ("*",)
class Config(StageConfig):
    columns: tuple[str, ...]
def run(stage):
    config = stage.config
    rows = [{name: f"{name[0]}{number}" for name in config.columns} for number in range(3)]
    rows = [{**row, "text": f"text\\u2028of {row['id']}"} for row in rows]
    with stage.writer("00000", pa.schema([(name, pa.string()) for name in (*config.columns, "text")])) as writer:
        for row in rows:
            writer.write(row)
    with (stage.path / "export.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": row["text"]}, ensure_ascii=False) + "\\n" for row in rows)
"""
CHAIN = """
experiment: chain
stages:
  documents: {run: toy_rows, config: {columns: [id]}}
  problems: {run: toy_rows, inputs: {up: documents}, config: {columns: [id, document_id]}}
  graded: {run: toy_rows, inputs: {up: problems}, config: {columns: [id]}}
"""
KILLED = """
import os, signal, sys
from personahub.commands.cli import main
left = int(sys.argv[1])
def watch(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.exit(main(["forget", "i1", "--experiment", "runs/chain", "--yes"]))
"""


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
    assert [file.name for file in (run / "problems" / "journal").iterdir()] == ["spent.json"]


def test_only_saying_changes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    persona = next(row for row in open_artifact(run / "related_personas").rows() if row["hop"] == 0)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert main(["forget", persona["id"], "--experiment", str(run)]) == 0
    said = capsys.readouterr().out
    assert "related_personas: " in said
    assert "Nothing was removed" in said
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


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three stages; the last names the one before it and no longer the first, as graded answers do."""
    (tmp_path / "toy_rows.py").write_text(STAGES)
    (tmp_path / "chain.yaml").write_text(CHAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_rows", raising=False)
    run_experiment(load_experiment("chain.yaml"), say=lambda _: None)
    return Path("runs/chain")


def test_files_of_wandb_go_with_what_they_show(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables of samples hold whole records."""
    words = ["experiment=tracked", "tracking.wandb=offline"]
    subprocess.run([sys.executable, "-m", "personahub", "run", "chain.yaml", *words], check=True, timeout=200)
    tracked = chain.parent / "tracked"

    def shown() -> set[str]:
        files = [file for file in tracked.rglob("*") if file.is_file()]
        return {file.relative_to(tracked).parts[0] for file in files if b"of i1" in file.read_bytes()}

    assert any(tracked.glob("documents/wandb/**/samples_*.table.json"))
    assert shown() == {"documents", "problems", "graded"}
    assert main(["forget", "i1", "--experiment", str(tracked), "--yes"]) == 0
    assert "W&B's files; delete there what it was sent" in capsys.readouterr().out
    assert not shown()
    assert not list(tracked.rglob("wandb"))


def left(chain: Path) -> dict[str, list[str]]:
    """Ids and exported texts by stage, once it is sure that manifests count what is there."""
    found = {}
    for manifest in chain.glob("*/manifest.json"):
        artifact = open_artifact(manifest.parent)
        ids = [row["id"] for row in artifact.rows()]
        assert artifact.num_rows == artifact.manifest.counts.rows_out == len(ids)
        lines = (artifact.path / "export.jsonl").read_text().split("\n")[:-1]
        assert [json.loads(line)["text"] for line in lines] == [f"text\u2028of {id_}" for id_ in ids]
        found[artifact.name] = ids
    return found


@pytest.mark.parametrize("files", [2, 6])
def test_what_a_kill_left_is_found_again(chain: Path, files: int) -> None:
    """Each stage has an export, a shard and a manifest to be replaced: it is killed before a manifest, or between stages."""
    everything = ["i0", "i1", "i2"]
    assert left(chain) == {"documents": everything, "problems": everything, "graded": everything}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(files)], timeout=200, check=False)
    assert killed.returncode == -9
    forget(chain, "i1", write=True)
    others = ["i0", "i2"]
    assert left(chain) == {"documents": others, "problems": others, "graded": others}


def test_what_was_spent_stays_on_record(chain: Path) -> None:
    journal = chain / "problems" / "journal"
    journal.mkdir()
    answer = {"engine": "teacher", "text": "text of i1", "prompt_tokens": 7, "completion_tokens": 9}
    (journal / "00000.jsonl").write_bytes(journal_line("k", answer))
    spent = spent_by_experiment(chain, "teacher")
    assert spent.completion_tokens == 9
    forget(chain, "i1", write=True)
    assert spent_by_experiment(chain, "teacher") == spent
    assert "i1" not in "".join(file.read_text() for file in journal.iterdir())


def test_a_stage_that_is_half_made_may_hold_it_too(chain: Path) -> None:
    (chain / "graded" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"runs/chain/graded: is unfinished and may hold the record"):
        forget(chain, "i1", write=True)
    assert left(chain) == {"documents": ["i0", "i1", "i2"], "problems": ["i0", "i1", "i2"]}


def test_a_stage_without_records_is_passed_over(run: Path) -> None:
    """Like `eval.datasets` when MATH is not available."""
    document = next(iter(open_artifact(run / "sources").rows()))["id"]
    for file in (run / "verified").glob("[0-9]*.parquet"):
        pq.write_table(pq.read_table(file).slice(0, 0), file)
    stages = {each.stage for each in forget(run, document, write=False)}
    assert {"sources", "first_personas", "problems"} <= stages
