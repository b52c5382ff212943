"""Experiments through the command line, with toy stages in a folder of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from personahub.core.engines import engine_config
from personahub.core.errors import UserError

STAGES = """
import time
from pathlib import Path
import pyarrow as pa
from personahub.core.config import StageConfig
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast

VERSION = "1"
SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])
"""
NUMBERS = (
    STAGES
    + """
INPUTS = ()
class Config(StageConfig):
    count: int = 10
    shards: int = 3
def run(stage):
    for shard in range(stage.config.shards):
        with stage.writer(f"{shard:05d}", SCHEMA) as writer:
            for value in range(shard, stage.config.count, stage.config.shards):
                writer.write({"id": str(value), "value": value})
def forecast(config, rows_in):
    return Forecast(rows_out=config.count)
"""
)
DOUBLE = (
    STAGES
    + """
INPUTS = ("numbers",)
class Config(StageConfig):
    factor: int = 2
    pause: float = 0.0
    fail_at: int | None = None
def run(stage):
    stage.map_shards(process, stage.input("numbers"), SCHEMA)
    stage.report(factor=stage.config.factor)
def process(stage, shard):
    with open("touched.txt", "a") as file:
        file.write(shard.name + "\\n")
    for row in shard.rows():
        time.sleep(stage.config.pause)
        if row["value"] == stage.config.fail_at:
            raise ValueError("boom")
        if row["value"] % 5 == 0:
            shard.reject(row, Rejected("multiple_of_five"))
        else:
            shard.write({"id": row["id"], "value": row["value"] * stage.config.factor})
"""
)
CONFIG = """
experiment: toy
stages:
  numbers: {run: toy_numbers, config: {count: 30}}
  double: {run: toy_double, inputs: {numbers: numbers}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy_numbers.py").write_text(NUMBERS)
    (tmp_path / "toy_double.py").write_text(DOUBLE)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path


def personahub(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personahub", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def values(folder: Path, stage: str, experiment: str = "toy") -> list[int]:
    from personahub.core.artifact import open_artifact

    return [row["value"] for row in open_artifact(folder / "runs" / experiment / stage).rows()]


def touched(folder: Path) -> list[str]:
    return (folder / "touched.txt").read_text().split()


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_run_then_cached_then_show_and_diff(folder: Path) -> None:
    first = personahub(folder, "run", "toy.yaml")
    assert first.returncode == 0, first.stderr
    assert "30 -> 24 records, 6 rejected (multiple_of_five 6)" in first.stdout
    assert sorted(values(folder, "double")) == [2 * v for v in range(30) if v % 5]
    again = personahub(folder, "run", "toy.yaml")
    assert again.stdout.count("cached") == 2
    assert len(touched(folder)) == 3
    shown = personahub(folder, "show", "runs/toy/double", "--rejected", "-n", "1")
    assert '"reason": "multiple_of_five"' in shown.stdout
    personahub(folder, "run", "toy.yaml", "experiment=other", "stages.double.config.factor=7")
    difference = personahub(folder, "diff", "runs/toy/double", "runs/other/double").stdout
    assert difference.splitlines() == ["config.factor: 2 -> 7", "summary.factor: 2 -> 7"]


def test_execution_is_not_identity_and_executors_agree(folder: Path) -> None:
    personahub(folder, "run", "toy.yaml")
    override = "stages.double.execution={executor: process, workers: 2}"
    assert personahub(folder, "run", "toy.yaml", override).stdout.count("cached") == 2
    assert personahub(folder, "run", "toy.yaml", override, "experiment=parallel").returncode == 0
    assert values(folder, "double", "parallel") == values(folder, "double")


def test_stale_is_refused_with_the_difference_and_redo_replaces(folder: Path) -> None:
    personahub(folder, "run", "toy.yaml")
    line = refused(personahub(folder, "run", "toy.yaml", "stages.numbers.config.count=12"))
    assert "config.count: 30 -> 12" in line
    assert "experiment=NAME" in line
    assert "--redo numbers" in line
    assert len(values(folder, "double")) == 24
    redone = personahub(folder, "run", "toy.yaml", "--redo", "numbers", "stages.numbers.config.count=12")
    assert redone.returncode == 0, redone.stderr
    assert len(values(folder, "double")) == 9


def test_a_changed_stage_version_makes_it_stale(folder: Path) -> None:
    personahub(folder, "run", "toy.yaml")
    (folder / "toy_double.py").write_text(DOUBLE.replace('VERSION = "1"', 'VERSION = "2"'))
    assert "version: " in refused(personahub(folder, "run", "toy.yaml"))


def test_a_failing_stage_keeps_finished_shards_and_goes_on(folder: Path) -> None:
    broken = personahub(folder, "run", "toy.yaml", "stages.double.config.fail_at=29")
    assert broken.returncode == 1
    assert "boom" in broken.stderr
    assert "To resume" in broken.stderr
    assert not (folder / "runs/toy/double/manifest.json").exists()
    assert "half-written" in refused(personahub(folder, "show", "runs/toy/double"))
    # The config that fails is another fingerprint, so it must not be taken over silently either.
    assert "fail_at: 29 -> null" in refused(personahub(folder, "run", "toy.yaml"))
    assert personahub(folder, "run", "toy.yaml", "--redo", "double").returncode == 0
    assert sorted(values(folder, "double")) == [2 * v for v in range(30) if v % 5]


def test_killed_in_a_shard_resumes_with_the_finished_ones(folder: Path) -> None:
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml", "stages.double.config.pause=0.25"]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (folder / "runs/toy/double/00000.parquet").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    busy = personahub(folder, "run", "toy.yaml", "stages.double.config.pause=0.25")
    assert "in progress" in refused(busy)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = touched(folder)
    left = [name for name in ("00001", "00002") if not (folder / f"runs/toy/double/{name}.parquet").exists()]
    result = personahub(folder, "run", "toy.yaml", "stages.double.config.pause=0.25")
    assert result.returncode == 0, result.stderr
    assert touched(folder)[len(before) :] == left
    assert sorted(values(folder, "double")) == [2 * v for v in range(30) if v % 5]
    manifest = json.loads((folder / "runs/toy/double/manifest.json").read_text())
    assert manifest["counts"] == {"rows_in": 30, "rows_out": 24, "rejected": {"multiple_of_five": 6}, "noted": {}}
    assert not list(folder.rglob(".*.tmp"))


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_cleanly_and_names_the_way_on(folder: Path, signal_number: int) -> None:
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml", "stages.double.config.pause=0.2"]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (folder / "touched.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if signal_number == signal.SIGINT:
        os.killpg(process.pid, signal_number)  # as a terminal does
    else:
        os.kill(process.pid, signal_number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "To resume: personahub run toy.yaml" in errors


@pytest.mark.parametrize("last", ["signal.signal(signal.SIGINT, signal.SIG_DFL)", "signal.pthread_sigmask(0, {2})"])
def test_a_stop_while_a_stage_is_leaving_is_no_failure_and_holds_for_the_next(folder: Path, last: str) -> None:
    """Python's own end takes a moment, in which SIGINT kills it or, if all is done, comes too late for it."""
    leaving = f"""
import atexit, pathlib, signal, time
def leave():
    {last}
    pathlib.Path("leaving.txt").touch()
    time.sleep(1)
atexit.register(leave)
"""
    numbers = folder / "toy_numbers.py"
    numbers.write_text(numbers.read_text() + leaving)
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (folder / "leaving.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "failed" not in errors
    assert "killed" not in errors
    assert "To resume: personahub run toy.yaml" in errors
    assert not (folder / "runs/toy/double").exists()
    assert personahub(folder, "run", "toy.yaml").returncode == 0


def test_adopt_and_plan(folder: Path) -> None:
    personahub(folder, "run", "toy.yaml", "--only", "numbers")
    assert not (folder / "runs/toy/double").exists()
    (folder / "second.yaml").write_text(
        "extends: toy.yaml\nexperiment: second\nstages:\n  numbers: {run: null, config: null, adopt: runs/toy/numbers}\n"
    )
    plan = personahub(folder, "plan", "second.yaml")
    assert plan.returncode == 0, plan.stderr
    assert "adopted from runs/toy/numbers" in plan.stdout
    assert not (folder / "runs/second").exists()
    assert personahub(folder, "run", "second.yaml").returncode == 0
    assert len(values(folder, "double", "second")) == 24


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.double.inputs.numbers=numbres", "Did you mean 'numbers'"),
        ("stages.double.inputs={}", "needs the input 'numbers'"),
        ("stages.double.inputs.extra=numbers", "no input 'extra'"),
        ("stages.double.inputs={numbrs: numbers}", "no input 'numbrs'. Did you mean 'numbers'"),
        ("stages.numbers.inputs.x=double", "circle"),
        ("stages.double.run=toy_duoble", "no module 'toy_duoble'"),
        ("stages.double.run=json", "is not a stage"),
        ("stages.double.confg={}", "Did you mean 'config'"),
        ("stages.double.config.facto=3", "Did you mean 'factor'"),
        ("stages.double.execution.executor=rya", "execution.executor"),
        ("stages.double.adopt=runs/x", "either `run: module` or `adopt"),
        ("experiment=../evil", "experiment: "),
        (f"experiment={'x' * 300}", "toy.yaml: experiment: "),
        ("stages.double.run=../x", "not the dotted path"),
        ("stages.double.inputs=numbers", "names of stages, as in {documents: sources}"),
        ("stages.dubble.config.factor=3", "Did you mean 'double'"),
        ("stages={on: {run: toy_double}}", "stages.True: the name of a stage must be text"),
        ("stages={}", "toy.yaml: stages: "),
        ("engines.teacher={kind: opnai, model: m}", "Did you mean 'openai'"),
        ("engines.teacher={model: m}", "engines.teacher.kind"),
    ],
)
def test_mistakes_in_the_yaml_are_one_line_and_exit_2(folder: Path, override: str, message: str) -> None:
    assert message in refused(personahub(folder, "run", "toy.yaml", override))
    assert not (folder / "runs").exists()


def test_damaged_files_are_named(folder: Path) -> None:
    personahub(folder, "run", "toy.yaml")
    shard = folder / "runs/toy/numbers/00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    line = refused(personahub(folder, "show", "runs/toy/numbers", "-n", "30"))
    assert "00001.parquet: not a readable Parquet file" in line
    (folder / "runs/toy/numbers/manifest.json").write_text("{")
    assert "damaged manifest" in refused(personahub(folder, "run", "toy.yaml"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": 0}, "its format is 0, expected 1"),
        ({"usage": None}, "usage: "),
        ({"usage": ...}, "usage: field required"),
        ({"of_tomorrow": 1}, "of_tomorrow: extra inputs"),
    ],
)
def test_a_folder_of_another_version_is_refused_with_the_ways_on(folder: Path, change: dict, what: str) -> None:
    personahub(folder, "run", "toy.yaml")
    file = folder / "runs/toy/numbers/manifest.json"
    manifest = {**json.loads(file.read_text()), **change, "versions": {"persona-hub-harness": "0.0.7"}}
    file.write_text(json.dumps({key: value for key, value in manifest.items() if value is not ...}))
    for words in (("run", "toy.yaml"), ("show", "runs/toy/numbers")):
        line = refused(personahub(folder, *words))
        assert f"numbers/manifest.json: not a manifest of this version ({what}" in line
        assert "persona-hub-harness that made it, 0.0.7" in line
        assert "experiment=NAME" in line
        assert "--redo numbers" in line
    assert personahub(folder, "plan", "toy.yaml").returncode == 0
    assert personahub(folder, "run", "toy.yaml", "--redo", "numbers").returncode == 0
    assert len(values(folder, "double")) == 24


def test_an_engine_that_lacks_a_package_is_told_from_one_that_is_not_there(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "toyshop").mkdir()
    (tmp_path / "toyshop" / "other.py").write_text("import toy")  # which the module's own name begins like
    monkeypatch.syspath_prepend(tmp_path)
    for kind, message in (
        ("toyshop.other", "needs the package 'toy', which is not installed"),
        ("toyshop.gone", "no module 'toyshop.gone'"),
        ("toy.engine", "no module 'toy.engine'"),
    ):
        with pytest.raises(UserError, match=message):
            engine_config({"kind": kind, "model": "m"}, "engines.e")
