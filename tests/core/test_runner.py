"""Two processes at one experiment, and a kill in the middle of `--redo`."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.artifact import read_manifest
from personahub.core.errors import StaleArtifactError, UserError
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.runner import lock_experiment, run_experiment

STAGE = """
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ("*",)
class Config(StageConfig):
    value: int = 1
def run(stage):
    with stage.writer("00000", pa.schema([("value", pa.int64())])) as writer:
        writer.write({"value": stage.config.value})
"""
CONFIG = """
experiment: toy
stages:
  first: {run: toy_stage}
  second: {run: toy_stage, inputs: {first: first}}
  third: {run: toy_stage, inputs: {second: second}}
"""
REDO = """
import os, signal, sys
from personahub.commands.cli import main
left = int(sys.argv[1])
def watch(event, arguments):
    global left
    if event == "os.remove" and str(arguments[0]).endswith("manifest.json"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.exit(main(["run", "toy.yaml", "--redo", "first"]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy_stage.py").write_text(STAGE)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_stage", raising=False)
    return tmp_path


def test_only_the_lock_itself_is_said_to_be_taken(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), lock_experiment(tmp_path):
        # what `fork` raises at a limit of processes has the same class
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    with lock_experiment(tmp_path), pytest.raises(UserError, match="another run of this experiment is in progress"):
        lock_experiment(tmp_path).__enter__()


def test_what_another_run_has_made_since_the_config_was_read_is_seen(folder: Path) -> None:
    """Reading a config may take minutes, for it hashes the sources; only then is the lock taken."""
    late = load_experiment(folder / "toy.yaml", ["stages.first.config.value=2"])
    same = load_experiment(folder / "toy.yaml")
    assert late.stage("first").state == same.stage("first").state == "missing"
    said: list[str] = []
    run_experiment(load_experiment(folder / "toy.yaml"), ["first"], say=said.append)
    made = read_manifest(folder / "runs/toy/first")
    with pytest.raises(StaleArtifactError, match="value: 1 -> 2"):
        run_experiment(late, ["first"], say=said.append)
    run_experiment(same, ["first"], say=said.append)
    assert said[-1].endswith("cached")
    assert read_manifest(folder / "runs/toy/first") == made


def test_a_kill_amid_redo_leaves_nothing_that_stands_on_what_is_gone(folder: Path) -> None:
    run_experiment(load_experiment(folder / "toy.yaml"), say=lambda _: None)
    order = ("first", "second", "third")
    for moment in range(1, 3):  # before the second and the third of three manifests are removed
        killed = subprocess.run([sys.executable, "-c", REDO, str(moment)], cwd=folder, timeout=200, check=False)
        assert killed.returncode == -9
        there = [read_manifest(folder / "runs/toy" / name) is not None for name in order]
        assert there == sorted(there, reverse=True), f"a stage is complete whose input is not: {there}"
        assert sum(there) == 3 - moment
        run_experiment(load_experiment(folder / "toy.yaml"), say=lambda _: None)
