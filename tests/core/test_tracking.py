"""metrics.jsonl always; W&B offline below the stage's folder, in the format that `wandb sync` reads."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personahub.commands.wandb import unsent_runs
from personahub.core.tracking.tracker import Tracker, TrackingConfig

STAGE = """
import pyarrow as pa
from personahub.core.config import StageConfig
from personahub.core.errors import Rejected
VERSION, INPUTS = "1", ("data?",)
class Config(StageConfig):
    steps: int = 3
def run(stage):
    for step in range(1, stage.config.steps + 1):
        stage.log({"loss": 1.0 / step}, step)
    if stage.tracker is not None:
        stage.tracker.table("eval", ("problem", "verdict"), [["1 + 1?", "correct"]], step=stage.config.steps)
    with stage.writer("00000", pa.schema([("id", pa.string()), ("text", pa.string())])) as writer:
        writer.write({"id": "a", "text": "x" * 5000})
        writer.reject({"id": "b"}, Rejected("too_short", "one word"))
    stage.report(final_loss=1.0 / stage.config.steps)
"""


def run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "toys").mkdir(exist_ok=True)
    (folder / "toys" / "train.py").write_text(STAGE)
    (folder / "toy.yaml").write_text(
        "experiment: toy\nstages:\n  data: {run: toys.train}\n  sft: {run: toys.train, inputs: {data: data}}\n"
    )
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml", *overrides]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, "HOME": str(folder), **environment},
    )


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a .wandb file: protobufs framed as a LevelDB log (7-byte file header, 32 KiB blocks)."""
    from wandb.proto import wandb_internal_pb2

    data, offset, parts = file.read_bytes(), 7, b""
    while offset + 7 <= len(data):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        length, kind = struct.unpack_from("<HB", data, offset + 4)
        parts += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_metrics_file_is_always_written(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "runs/toy/sft/metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert not list(tmp_path.rglob("wandb"))


def test_a_line_that_was_cut_short_is_not_grown_together_with_the_next(tmp_path: Path) -> None:
    """As after a full disk: the report reads every line of what a resumed run has written."""
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2, "lo')
    tracker = Tracker(tmp_path, TrackingConfig(), "toy", "sft", {})
    tracker.log({"loss": 1.0}, step=2)
    tracker.finish()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]


def test_offline_run_holds_group_job_type_config_and_metrics(tmp_path: Path) -> None:
    result = run(tmp_path, "tracking.wandb=offline", "tracking.project=trial")
    assert result.returncode == 0, result.stderr
    (file,) = (tmp_path / "runs/toy/sft").rglob("*.wandb")
    runs, history, artifacts, summary = [], [], [], {}
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            runs.append(record.run)
        elif kind == "history":
            history.append({(item.key or ".".join(item.nested_key)): item.value_json for item in record.history.item})
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifacts.append(record.request.log_artifact.artifact)
        elif kind == "artifact":
            artifacts.append(record.artifact)
        elif kind == "summary":
            summary.update({(i.key or ".".join(i.nested_key)): i.value_json for i in record.summary.update})
    assert (runs[0].run_group, runs[0].job_type, runs[0].project) == ("toy", "sft", "trial")
    assert {update.key: update.value_json for update in runs[0].config.update}["steps"] == "3"
    assert [json.loads(row["loss"]) for row in history if "loss" in row] == [1.0, 0.5, 1 / 3]
    assert json.loads(summary["final_loss"]) == 1 / 3
    tables = {
        file.name.split("_")[0]: json.loads(file.read_text())
        for file in (tmp_path / "runs/toy/sft").rglob("*.table.json")
    }
    assert tables["eval"]["data"] == [["1 + 1?", "correct"]]
    assert tables["samples"]["data"] == [["a", "x" * 4000 + " ..."]]
    assert tables["rejected"]["data"][0][:3] == ["b", "too_short", "one word"]
    (artifact,) = [artifact for artifact in artifacts if artifact.name == "toy-sft"]
    reported = json.loads(artifact.metadata)
    assert (artifact.type, reported["rows"], reported["rejected"]) == ("dataset", 1, {"too_short": 1})
    data = json.loads((tmp_path / "runs/toy/data/manifest.json").read_text())
    assert reported["made_from"] == {"toy-data": data["fingerprint"]}
    # Tracking is not part of the identity: turning it off later does not change the artifact.
    assert "cached" in run(tmp_path).stdout


def test_online_without_an_account_is_one_clear_line(tmp_path: Path) -> None:
    result = run(tmp_path, "tracking.wandb=online")
    assert result.returncode == 2
    assert "wandb login" in result.stderr
    assert "Traceback" not in result.stderr


def test_offline_runs_are_listed_and_sending_them_needs_an_account(tmp_path: Path) -> None:
    assert run(tmp_path, "tracking.wandb=offline").returncode == 0
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {
        "HOME": str(tmp_path)
    }

    def sync(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "personahub", "wandb", "sync", *words]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120)

    listed = sync("--dry-run")
    assert [Path(line).parts[2] for line in listed.stdout.splitlines()] == ["data", "sft"]
    refused = sync()
    assert refused.returncode == 2
    assert "wandb login" in refused.stderr
    nowhere = sync("--runs", "nosuch")
    assert (nowhere.returncode, nowhere.stderr.partition(";")[0]) == (2, "error: nosuch: no such folder")


def test_a_server_out_of_reach_costs_a_line_and_no_run(tmp_path: Path) -> None:
    """Nobody listens at the port: each stage is tracked offline, to be sent later. No key is in any file."""
    key = "0123456789abcdef" * 2 + "a1b2c3d4"
    result = run(
        tmp_path,
        "tracking.wandb=online",
        "tracking.timeout_s=3",
        WANDB_API_KEY=key,
        WANDB_BASE_URL="http://127.0.0.1:9",
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("W&B could not start ") == 2
    assert "personahub wandb sync" in result.stderr
    runs = tmp_path / "runs"
    assert [path.relative_to(runs).parts[1] for path in unsent_runs(runs)] == ["data", "sft"]
    assert key not in result.stderr
    assert not [file for file in (tmp_path / "runs").rglob("*") if file.is_file() and key.encode() in file.read_bytes()]
