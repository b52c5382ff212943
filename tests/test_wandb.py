"""The quickstart tracked offline: what `wandb sync` would send holds config, metrics, tables and lineage of every stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_tracking import wandb_records
from tests.test_notebooks import SMALL


def sent(file: Path) -> dict[str, Any]:
    """What one run of W&B holds, read by W&B's own record types."""
    found: dict[str, Any] = {"config": {}, "history": [], "artifacts": {}, "summary": set(), "group": "", "job": ""}
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["group"], found["job"] = record.run.run_group, record.run.job_type
            found["config"] |= {item.key: item.value_json for item in record.run.config.update}
        elif kind == "history":
            found["history"].append({item.key or ".".join(item.nested_key) for item in record.history.item})
        elif kind == "summary":
            found["summary"] |= {item.key or ".".join(item.nested_key) for item in record.summary.update}
        elif kind == "artifact":
            found["artifacts"][record.artifact.name] = json.loads(record.artifact.metadata or "{}")
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
            found["artifacts"][artifact.name] = json.loads(artifact.metadata or "{}")
    return found


@pytest.mark.slow
def test_every_stage_of_the_quickstart_is_a_run(tmp_path: Path, repository: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {
        "HOME": str(tmp_path)
    }
    command = ["run", "configs/quickstart.yaml", "--runs", str(tmp_path / "runs"), "tracking.wandb=offline", *SMALL]
    command.append("stages.model.config.sft.logging_steps=1")
    called = [sys.executable, "-m", "personahub", *command]
    subprocess.run(called, cwd=repository, env=clean, check=True, timeout=280)
    folder = tmp_path / "runs" / "quickstart"
    manifests = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/manifest.json")}
    assert len(manifests) == 20
    for stage, manifest in manifests.items():
        (file,) = (folder / stage).rglob("*.wandb")
        run = sent(file)
        assert (run["group"], run["job"]) == ("quickstart", stage)
        assert run["config"]["seed"] == "1"
        assert "rows_out" in run["summary"]
        made_from = {f"quickstart-{Path(used['path']).name}" for used in manifest["inputs"].values()}
        told = run["artifacts"][f"quickstart-{stage}"]
        assert set(told["made_from"]) == made_from
        assert told["fingerprint"] == manifest["fingerprint"]
        if sum(manifest["shards"].values()):
            assert list((folder / stage).rglob("samples_*.table.json"))
    assert any(
        {"train/loss", "train/grad_norm"} <= row for row in sent(next((folder / "model").rglob("*.wandb")))["history"]
    )
