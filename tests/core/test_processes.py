"""Workers that hang, die or raise, through the command line and real signals."""

from __future__ import annotations

import contextlib
import multiprocessing
import operator
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from personahub.core.artifact import open_artifact
from personahub.core.executors import run_tasks
from personahub.core.executors.tasks import TaskBatch

STAGES = """
import os, signal, time
from pathlib import Path
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION = "1"
SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])
"""
NUMBERS = f"""{STAGES}
INPUTS = ()
class Config(StageConfig):
    shards: int = 4
def run(stage):
    for shard in range(stage.config.shards):
        with stage.writer(f"{{shard:05d}}", SCHEMA) as writer:
            for value in range(10 * shard, 10 * shard + 10):
                writer.write({{"id": f"number-{{value}}", "value": value}})
"""
DOUBLE = f"""{STAGES}
class Unequal(Exception):
    def __init__(self, value, other):  # pickle would call it with the one text that `args` holds
        super().__init__(f"{{value}} is not {{other}}")
INPUTS = ("numbers",)
class Config(StageConfig):
    fault: str = ""   # at number 25, in the third shard
    once: bool = True
def run(stage):
    stage.map_shards(process, stage.input("numbers"), SCHEMA)
def process(stage, shard):
    for row in shard.rows():
        if row["value"] == 25 and not (stage.config.once and Path("faulted").exists()):
            Path("faulted").write_text(str(os.getpid()))
            match stage.config.fault:
                case "raise": raise ZeroDivisionError("25 is too much")
                case "unequal": raise Unequal(25, 26)
                case "kill": os.kill(os.getpid(), signal.SIGKILL)
                case "stop": os.kill(os.getpid(), signal.SIGSTOP)
                case "sleep": time.sleep(3600)
        shard.write({{"id": row["id"], "value": 2 * row["value"]}})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy_numbers.py").write_text(NUMBERS)
    (tmp_path / "toy_double.py").write_text(DOUBLE)
    (tmp_path / "toy.yaml").write_text(
        "experiment: toy\nstages:\n  numbers: {run: toy_numbers}\n"
        "  double: {run: toy_double, inputs: {numbers: numbers}, execution: {executor: process, workers: 2}}\n"
    )
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left(folder: Path) -> Iterator[None]:
    """A test that fails leaves no stopped process behind."""
    yield
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder):
                process.kill()


def start(folder: Path, fault: str, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml", f"stages.double.config.fault={fault}", *overrides]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def values(folder: Path) -> list[int]:
    return [row["value"] for row in open_artifact(folder / "runs/toy/double").rows()]


EXPECTED = [2 * value for value in range(40)]


@pytest.mark.parametrize("executor", ["serial", "process"])
def test_a_stage_that_raises_names_shard_and_record(folder: Path, executor: str) -> None:
    process = start(folder, "raise", f"stages.double.execution.executor={executor}")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1
    assert "ZeroDivisionError: 25 is too much\nin shard 00002, record number-25\n" in said
    assert "error: stage double failed; finished shards are kept. To resume: personahub run toy.yaml" in said
    again = start(folder, "raise")  # `once`: as if the bug were fixed without a config change
    assert (again.communicate(timeout=200), again.returncode)[1] == 0
    assert values(folder) == EXPECTED


def test_an_error_that_cannot_be_pickled_is_said_as_it_is(folder: Path) -> None:
    """It broke the pool, which looked like three workers lost for want of memory."""
    process = start(folder, "unequal", "stages.double.config.once=false")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1
    assert "RuntimeError: Unequal: 25 is not 26\nin shard 00002, record number-25\n" in said
    assert 'toy_double.py", line' in said, "the place where it was raised"
    assert "was lost" not in said


def test_a_lost_worker_costs_the_shards_under_way(folder: Path) -> None:
    process = start(folder, "kill")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert values(folder) == EXPECTED
    assert not list(folder.rglob(".*.tmp"))


@pytest.mark.slow
def test_workers_lost_again_and_again_are_one_line(folder: Path) -> None:
    process = start(folder, "kill", "stages.double.config.once=false")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 2
    line = said.strip().splitlines()[-1]  # a worker that is ended amid its start may say so before
    assert line.startswith("error: double: a worker process was lost 3 times")
    assert "00002" in line
    assert "fewer execution.workers" in line


def test_a_stopped_worker_is_named_and_goes_on_when_it_can(folder: Path) -> None:
    """SIGSTOP: a line names the shard and the process; SIGCONT, and the run ends as if nothing had been."""
    process = start(folder, "stop", "stages.double.execution.quiet_s=1")
    assert process.stderr is not None
    lines = []
    while "stopped" not in "".join(lines[-1:]):  # the first may come before any worker has started
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    worker = int((folder / "faulted").read_text())
    assert "double: nothing finished for" in lines[-1]
    assert "of 40 rows" in lines[-1]
    assert "in progress: shards 00002" in lines[-1]
    assert f"process {worker} stopped" in lines[-1]
    os.kill(worker, signal.SIGCONT)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert values(folder) == EXPECTED


@pytest.mark.slow
def test_a_shard_that_takes_too_long_ends_the_stage_if_asked(folder: Path) -> None:
    process = start(folder, "sleep", "stages.double.execution.shard_timeout_s=8")
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 2
    assert "error: double: shard 00002 took longer than 8s" in said
    assert "execution.shard_timeout_s" in said
    assert not psutil.pid_exists(int((folder / "faulted").read_text()))
    again = start(folder, "sleep", "stages.double.execution.shard_timeout_s=8")
    assert (again.communicate(timeout=200), again.returncode)[1] == 0
    assert values(folder) == EXPECTED


@pytest.mark.slow
def test_no_worker_outlives_its_stage(folder: Path) -> None:
    """Neither one that works nor one that waits for work, when the stage is killed or interrupted."""
    for ending in (signal.SIGKILL, signal.SIGINT):
        process = start(folder, "sleep", "stages.double.config.once=false")
        deadline = time.monotonic() + 200
        while not (folder / "faulted").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (stage,) = psutil.Process(process.pid).children()
        workers = [child for child in stage.children() if "spawn_main" in " ".join(child.cmdline())]
        assert workers
        stage.send_signal(ending)
        said = process.communicate(timeout=200)[1]
        assert process.returncode == (1 if ending == signal.SIGKILL else 130), said
        assert "Traceback" not in said
        assert not psutil.wait_procs(workers, timeout=20)[1]
        (folder / "faulted").unlink()
        shutil.rmtree(folder / "runs")  # a single shard that is left would be made without a worker


def test_processes_of_others_are_left_alone() -> None:
    """A notebook, or a stage that checks answers, has child processes other than the workers of a failing task."""
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    bystander.start()
    try:
        with pytest.raises(ZeroDivisionError):
            run_tasks(TaskBatch(operator.floordiv, [("a", (1, 0)), ("b", (1, 0))], print), "process", 2)
        bystander.join(0.5)
        assert bystander.is_alive()
    finally:
        bystander.kill()
        bystander.join()
