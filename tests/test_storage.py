"""Disks that are full, read-only or gone: real mounts where they are permitted, through the command line."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from tests.core.test_engine_transformers import save_model
from tests.train.conftest import sft_row, write_sft_data

STAGES = ("sources", "first_personas", "related_personas", "good_personas", "personas", "problems")
SMALL = (
    "stages.sources.config.limit=16",
    "stages.first_personas.config.modes=[read]",
    "stages.related_personas.config.max_new=40",
    "stages.personas.config.methods=[{method: surface, threshold: 0.9}]",
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own, in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def run(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(runs: Path, until: str = "problems") -> subprocess.CompletedProcess[str]:
        options = ["--runs", str(runs), "--only", until, *SMALL]
        command = [sys.executable, "-m", "personahub", "run", "configs/quickstart.yaml", *options]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=250)

    return call


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_full_disk_ends_commands_on_files_in_one_line(disk: Path, tmp_path: Path, name: str) -> None:
    noise = random.Random(1)
    rows = [{"persona": f"{noise.getrandbits(8000):x}"} for _ in range(12_000)]  # 24 MB, 12 when compressed
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["personas", "sample", str(tmp_path / "in.jsonl"), "-n", "12000", "--out", str(disk / name)]
    command = [sys.executable, "-m", "personahub", *words]
    assert "No space left on device" in refused(subprocess.run(command, capture_output=True, text=True, timeout=200))
    assert not list(disk.iterdir())


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_space_is_all_it_takes(disk: Path, tmp_path: Path, run: Callable) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(8 * 2**20 - shutil.disk_usage(disk).used - 140 * 2**10))  # 140 KB are left
    line = refused(run(disk / "runs"))
    assert "No space left on device" in line
    begun = [stage for stage in STAGES if (disk / "runs/quickstart" / stage / "manifest.json").exists()]
    assert begun
    assert begun != list(STAGES)
    ballast.unlink()
    resumed = run(disk / "runs")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("cached") == len(begun)
    assert run(tmp_path / "calm").returncode == 0
    for stage in STAGES:
        pair = [open_artifact(runs / "quickstart" / stage) for runs in (disk / "runs", tmp_path / "calm")]
        assert list(pair[0].rows()) == list(pair[1].rows()), stage
        assert pair[0].manifest.counts == pair[1].manifest.counts
    assert not list(disk.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("left_kb", [0, 300, 700])  # the weights do not fit, or the optimizer's state
def test_a_disk_that_fills_up_while_a_model_trains_is_one_line(disk: Path, tmp_path: Path, left_kb: int) -> None:
    """Free space is checked before training begins, but another process uses it up meanwhile."""
    write_sft_data(tmp_path / "data", [sft_row(number) for number in range(8)])
    sft = {"max_steps": 60, "save_steps": 10, "per_device_train_batch_size": 2, "max_length": 128}
    config = {"model": {"name_or_path": str(save_model(tmp_path / "tiny"))}, "sft": sft}
    stages = {
        "data": {"adopt": str(tmp_path / "data")},
        "model": {"run": "train.sft", "inputs": {"data": "data"}, "config": config},
    }
    (tmp_path / "e.json").write_text(json.dumps({"experiment": "e", "stages": stages}))
    command = [sys.executable, "-m", "personahub", "run", "e.json", "--runs", str(disk)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(disk.glob("e/model/checkpoints/checkpoint-1*")):
            assert process.poll() is None
            time.sleep(0.02)
        with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while (free := shutil.disk_usage(disk).free - left_kb * 1024) > 0:
                ballast.write(bytes(min(free, 1 << 16)))
        stderr = process.communicate(timeout=200)[1]
    assert process.returncode == 2, stderr
    assert stderr.splitlines()[-1].startswith(f"error: model: a disk is full, most likely that of {disk}/e/model (")
    assert "Traceback" not in stderr
    (disk / "ballast").unlink()
    resumed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert resumed.returncode == 0, resumed.stderr
    losses = [json.loads(line) for line in (disk / "e/model/metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in losses if "train/loss" in line} == set(range(10, 61, 10))


def test_a_read_only_runs_folder_is_one_line(disk: Path, run: Callable) -> None:
    assert run(disk / "runs", "sources").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "Read-only file system" in refused(run(disk / "runs", "first_personas"))
    assert open_artifact(disk / "runs/quickstart/sources").num_rows == 16
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert run(disk / "runs", "first_personas").returncode == 0


TOY = """
import time
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION = "1"
INPUTS = ("numbers?",)
SCHEMA = pa.schema([("id", pa.string())])
class Config(StageConfig):
    pause: float = 0.0
def run(stage):
    if "numbers" in stage.inputs:
        stage.map_shards(process, stage.input("numbers"), SCHEMA)
        return
    for shard in range(12):
        with stage.writer(f"{shard:05d}", SCHEMA) as writer:
            writer.write({"id": str(shard)})
def process(stage, shard):
    for row in shard.rows():
        time.sleep(stage.config.pause)
        shard.write(row)
"""


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_runs_folder_that_vanishes_amid_a_run(how: str, tmp_path: Path) -> None:
    """The finished shards disappear as well, so nothing may look complete afterwards."""
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "toy.yaml").write_text(
        "experiment: toy\nstages:\n  numbers: {run: toy}\n"
        "  copy: {run: toy, inputs: {numbers: numbers}, config: {pause: 0.25}}\n"
    )
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    copy = tmp_path / "runs/toy/copy"
    deadline = time.monotonic() + 200
    while not (copy / "00001.parquet").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if how == "removed":
        shutil.rmtree(tmp_path / "runs/toy")
    else:
        (tmp_path / "runs/toy").rename(tmp_path / "elsewhere")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 2, said
    (line,) = said.strip().splitlines()
    assert "runs/toy/" in line
    assert not (copy / "manifest.json").exists()
    if how == "moved":
        shutil.rmtree(tmp_path / "runs/toy", ignore_errors=True)
        (tmp_path / "elsewhere").rename(tmp_path / "runs/toy")
    else:
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        if again.returncode:  # shards of nobody knows what are not taken over
            assert "--redo copy" in refused(again)
            shutil.rmtree(tmp_path / "runs/toy")
    assert subprocess.run(command, cwd=tmp_path, timeout=200, stdout=subprocess.DEVNULL).returncode == 0
    assert open_artifact(copy).num_rows == 12
