"""W&B online, against a server on loopback that speaks its API: what arrives, and what its loss costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from personahub.commands.wandb import unsent_runs
from personahub.core.files import locked
from tests.wandb_server import Outage, WandbServer, wandb_server

KEY = "0123456789abcdef" * 2 + "a1b2c3d4"
STAGE = """
import time
from pathlib import Path
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ("data?",)
class Config(StageConfig):
    wait: bool = False
def run(stage):
    for step in range(1, 7):
        stage.log({"loss": 1.0 / step}, step)
        if step == 3 and stage.config.wait:
            Path("waiting").touch()
            while not Path("go").exists():
                time.sleep(0.02)
    with stage.writer("00000", pa.schema([("id", pa.string())])) as writer:
        writer.write({"id": "a"})
    stage.report(final_loss=1 / 6)
"""
LOSSES = [1.0 / step for step in range(1, 7)]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


def command(folder: Path, server: WandbServer, *overrides: str, experiment: str = "toy") -> dict[str, Any]:
    """Arguments of a process that runs two stages, the second of which waits amid its steps for a file `go`."""
    (folder / "toys").mkdir(exist_ok=True)
    (folder / "toys" / "train.py").write_text(STAGE)
    (folder / "toy.yaml").write_text(
        f"experiment: {experiment}\nstages:\n  data: {{run: toys.train}}\n"
        "  sft: {run: toys.train, inputs: {data: data}, config: {wait: true}}\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    account = {"HOME": str(folder), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
    words = ["tracking.wandb=online", "tracking.project=trial", "tracking.timeout_s=5", *overrides]
    return {
        "args": [sys.executable, "-m", "personahub", "run", "toy.yaml", *words],
        "cwd": folder,
        "env": {**clean, **account},
        "text": True,
        "stderr": subprocess.PIPE,
        "stdout": subprocess.PIPE,
    }


def run(folder: Path, server: WandbServer, *overrides: str, **more: Any) -> subprocess.CompletedProcess[str]:
    (folder / "go").touch()
    return subprocess.run(**command(folder, server, *overrides, **more), timeout=120)


def sync(folder: Path, server: WandbServer) -> dict[str, Any]:
    return {**command(folder, server), "args": [sys.executable, "-m", "personahub", "wandb", "sync"]}


def losses(server: WandbServer, id_: str) -> list[float]:
    return [line["loss"] for line in server.history.get(id_, []) if "loss" in line]


def ids(server: WandbServer) -> dict[str, str]:
    """Of the runs by name."""
    return {reported["displayName"]: id_ for id_, reported in server.runs.items() if "displayName" in reported}


def test_what_arrives(server: WandbServer, tmp_path: Path) -> None:
    result = run(tmp_path, server)
    assert result.returncode == 0, result.stderr
    found = ids(server)
    assert set(found) == {"toy/data", "toy/sft"}
    sft = server.runs[found["toy/sft"]]
    assert (sft["groupName"], sft["jobType"], sft["project"], sft["exit_code"]) == ("toy", "sft", "trial", 0)
    assert json.loads(sft["config"])["wait"] == {"value": True}
    assert losses(server, found["toy/sft"]) == LOSSES
    assert sft["summary"]["final_loss"] == 1 / 6
    fingerprints = {
        stage: json.loads((tmp_path / f"runs/toy/{stage}/manifest.json").read_text())["fingerprint"]
        for stage in ("data", "sft")
    }
    for stage, fingerprint in fingerprints.items():
        (made,) = server.artifacts[f"toy-{stage}"]
        assert (made["state"], made["artifactTypeName"]) == ("COMMITTED", "dataset")
        assert json.loads(made["metadata"])["fingerprint"] == fingerprint
    assert server.edges == {(server.artifacts["toy-data"][0]["id"], found["toy/sft"])}
    assert not unsent_runs(tmp_path / "runs")
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


@contextmanager
def amid(folder: Path, server: WandbServer, arrived: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A run whose second stage has logged three steps, of which `arrived` are with W&B, and waits."""
    with subprocess.Popen(**command(folder, server)) as process:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "waiting").exists() or len(losses(server, ids(server)["toy/sft"])) < arrived:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.1)
            yield process
        finally:
            (folder / "go").touch()
            process.terminate()


@pytest.mark.slow  # W&B's client is patient: each takes some 50 s
@pytest.mark.parametrize("outage", ["cut", "503", "hang"])
def test_server_that_goes_away_amid_a_stage_costs_no_stage(server: WandbServer, tmp_path: Path, outage: Outage) -> None:
    with amid(tmp_path, server, arrived=2) as process:
        server.outage, began = outage, time.monotonic()
        (tmp_path / "go").touch()
        stderr = process.communicate(timeout=100)[1]
    assert time.monotonic() - began < 90, "timeout_s is 5 here; docs/experiments.md says half a minute more"
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "personahub wandb sync" in stderr
    assert [path.parts[-4] for path in unsent_runs(tmp_path / "runs")] == ["sft"]
    server.outage = None
    server.up_again.set()
    sent = subprocess.run(**sync(tmp_path, server), timeout=120)
    assert sent.returncode == 0
    (id_,) = (id_ for name, id_ in ids(server).items() if name == "toy/sft")
    assert losses(server, id_) == LOSSES
    assert not unsent_runs(tmp_path / "runs")


@pytest.mark.parametrize("outage", ["cut", "503"])
def test_outage_that_ends_with_the_stage_under_way_costs_nothing(
    server: WandbServer, tmp_path: Path, outage: Outage
) -> None:
    with amid(tmp_path, server) as process:
        server.outage = outage
        (tmp_path / "go").touch()
        while not server.refused and process.poll() is None:
            time.sleep(0.05)
        server.outage = None
        stderr = process.communicate(timeout=100)[1]
    assert process.returncode == 0, stderr
    assert "wandb sync" not in stderr
    assert losses(server, ids(server)["toy/sft"]) == LOSSES
    assert not unsent_runs(tmp_path / "runs")


def test_client_of_wandb_that_dies_costs_no_stage(server: WandbServer, tmp_path: Path) -> None:
    with amid(tmp_path, server) as process:
        (core,) = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "wandb-core"]
        core.kill()
        (tmp_path / "go").touch()
        stderr = process.communicate(timeout=100)[1]
    assert process.returncode == 0, stderr
    assert "W&B stopped tracking toy/sft: " in stderr
    lines = (tmp_path / "runs/toy/sft/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == LOSSES


def test_killed_stage_goes_on_with_its_run_and_a_redone_one_begins_another(server: WandbServer, tmp_path: Path) -> None:
    with amid(tmp_path, server) as process:
        (stage,) = psutil.Process(process.pid).children()
        stage.send_signal(signal.SIGKILL)
        assert process.wait(60) == 1
    (first,) = (id_ for id_ in server.runs if "-sft-" in id_)
    assert run(tmp_path, server).returncode == 0
    assert [id_ for id_ in server.runs if "-sft-" in id_] == [first]
    assert losses(server, first)[-1] == LOSSES[-1]
    assert server.runs[first]["exit_code"] == 0
    assert not unsent_runs(tmp_path / "runs"), "what the killed part had not sent would be written over the whole run"
    assert run(tmp_path, server, "--redo", "sft").returncode == 0
    (second,) = (id_ for id_ in server.runs if "-sft-" in id_ and id_ != first)
    assert losses(server, second) == LOSSES


def test_one_experiment_of_two_people_in_one_project(server: WandbServer, tmp_path: Path) -> None:
    for name in ("mine", "hers"):
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, server, "seed=1" if name == "hers" else "seed=0").returncode == 0
    assert len(server.runs) == 4
    of = {id_: [a for a, used_by in server.edges if used_by == id_] for id_ in server.runs if "-sft-" in id_}
    assert sorted(map(len, of.values())) == [1, 1]
    assert len({artifact for (artifact,) in of.values()}) == 2


def test_what_was_tracked_offline_is_sent_with_the_edges_of_its_lineage(server: WandbServer, tmp_path: Path) -> None:
    assert run(tmp_path, server, "tracking.wandb=offline").returncode == 0
    assert not server.runs
    assert len(unsent_runs(tmp_path / "runs")) == 2
    sent = subprocess.run(**sync(tmp_path, server), timeout=120)
    assert sent.returncode == 0, sent.stderr
    sft = ids(server)["toy/sft"]
    assert losses(server, sft) == LOSSES
    assert server.edges == {(server.artifacts["toy-data"][0]["id"], sft)}
    assert not unsent_runs(tmp_path / "runs")
    again = subprocess.run(**sync(tmp_path, server), timeout=120)
    assert again.returncode == 0
    assert again.stdout.startswith("runs: all runs are already synced")


def test_sync_passes_over_what_holds_nothing_and_what_is_under_way(server: WandbServer, tmp_path: Path) -> None:
    """A stage killed in its first moments leaves a file that keeps W&B's tool from sending any of a list."""
    assert run(tmp_path, server, "tracking.wandb=offline").returncode == 0
    (file,) = (tmp_path / "runs/toy/sft/wandb").rglob("*.wandb")
    killed = tmp_path / "runs/toy/sft/wandb/wandb/offline-run-20260101_000000-toy-sft-0"
    killed.mkdir()
    (killed / "run-toy-sft-0.wandb").write_bytes(file.read_bytes()[:7])
    with locked(tmp_path / "runs/toy/.lock", "another run"):
        passed = subprocess.run(**sync(tmp_path, server), timeout=120)
    assert (passed.returncode, server.runs) == (0, {})
    assert passed.stderr.startswith("skipped: runs/toy: another run of this experiment is in progress")
    sent = subprocess.run(**sync(tmp_path, server), timeout=120)
    assert sent.returncode == 0, sent.stderr
    assert set(ids(server)) == {"toy/data", "toy/sft"}
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("wrong", ["project=a/b", f"tags=[{'t' * 70}]"])
def test_settings_that_wandb_would_refuse_are_one_line(server: WandbServer, tmp_path: Path, wrong: str) -> None:
    refused = run(tmp_path, server, f"tracking.{wrong}")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: toy.yaml: tracking.{wrong.partition('=')[0]}")
    assert len(refused.stderr.splitlines()) == 1
