"""The commit of the harness in stage.json, the manifest and `show`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from personahub.commands import cli
from personahub.core.artifact import MANIFEST, SPEC, Source, open_artifact
from personahub.core.experiments import runner, source
from personahub.core.experiments.experiment import load_experiment

STAGE = """
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ("*",)
class Config(StageConfig): pass
def run(stage):
    with stage.writer("00000", pa.schema([("value", pa.int64())])) as writer:
        writer.write({"value": 1})
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit that replaces the harness's own."""

    def git(*words: str) -> None:
        command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(tmp_path), *words]
        subprocess.run(command, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    monkeypatch.setattr(source, "_ROOT", tmp_path)
    return tmp_path


def test_the_commit_and_whether_tracked_files_differ(checkout: Path) -> None:
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (checkout / "untracked").touch()
    assert source.checkout_source() == Source(commit=head.stdout.strip(), dirty=False)
    (checkout / "file").write_text("b")
    assert source.checkout_source() == Source(commit=head.stdout.strip(), dirty=True)


def test_variables_of_an_outer_git_command_do_not_matter(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = source.checkout_source()
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert source.checkout_source() == expected is not None


def test_a_missing_git_is_no_error(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout / "nothing"))
    assert source.checkout_source() is None


def test_an_installation_inside_another_checkout_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_ROOT", checkout / "venv")
    assert source.checkout_source() is None


def test_a_damaged_checkout_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere")
    monkeypatch.setattr(source, "_ROOT", tmp_path)
    assert source.checkout_source() is None


def test_a_run_asks_git_once_and_every_manifest_names_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sourced_stage.py").write_text(STAGE)
    stages = {name: {"run": "sourced_stage"} for name in ("first", "second")}
    (tmp_path / "toy.yaml").write_text(json.dumps({"experiment": "toy", "stages": stages}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sourced_stage", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    asked = []

    def checkout_source() -> Source:
        asked.append(1)
        return Source(commit=COMMIT, dirty=True)

    monkeypatch.setattr(runner, "checkout_source", checkout_source)
    manifests = runner.run_experiment(load_experiment("toy.yaml", [], "runs"))
    assert [manifest.source for manifest in manifests] == [Source(commit=COMMIT, dirty=True)] * 2
    assert len(asked) == 1
    assert json.loads((tmp_path / "runs/toy/first" / SPEC).read_text())["source"]["commit"] == COMMIT

    monkeypatch.setattr(runner, "checkout_source", lambda: None)
    again = load_experiment("toy.yaml", [], "runs")
    assert {stage.state for stage in again.stages.values()} == {"cached"}  # the commit is in no fingerprint
    assert cli.main(["show", "runs/toy/first"]) == 0
    assert f"harness: commit {COMMIT} with uncommitted changes\n" in capsys.readouterr().out


def test_a_manifest_from_before_the_field_is_readable(tmp_path: Path) -> None:
    manifest = {
        "experiment": "e", "stage": "s", "module": "m", "version": "1", "fingerprint": "f", "config": {}, "identity": {},
        "inputs": {}, "shards": {}, "counts": {}, "usage": {}, "summary": {}, "seconds": 0, "created": "", "versions": {},
        "command": "",
    }  # fmt: skip
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert open_artifact(tmp_path).manifest.source is None
