"""Experiments tracked offline: what `wandb sync` would send holds config, metrics, tables and lineage of every stage."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import test_ablation
from tests.core.test_tracking import wandb_records
from tests.test_notebooks import SMALL
from tests.wandb_server import wandb_server

ARMS = test_ablation.ARMS
TINY = (  # of every arm one seed, with a handful of problems
    *test_ablation.SMALL,
    "matrix.seed=[0]",
    "stages.exam.config.per_input=2",
    "stages.model.config.sft.max_steps=2",
    "stages.model.config.sft.logging_steps=1",
    "stages.after.config.sampling.max_tokens=8",
    "stages.diversity.config.embedder.kind=hashing",
    "stages.diversity.config.topics=4",
)


def sent(file: Path) -> dict[str, Any]:
    """Returns the content of a W&B run, read with W&B's own record types."""
    found: dict[str, Any] = {"config": {}, "history": [], "artifacts": {}, "summary": set(), "tables": set()}
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["group"], found["job"] = record.run.run_group, record.run.job_type
            found["config"] |= {item.key: item.value_json for item in record.run.config.update}
        elif kind == "history":
            found["tables"] |= {item.nested_key[0] for item in record.history.item if "table-file" in item.value_json}
            found["history"].append({item.key or ".".join(item.nested_key) for item in record.history.item})
        elif kind == "summary":
            for item in record.summary.update:
                name = item.key or ".".join(item.nested_key)
                found["summary"] |= {name, *dotted(json.loads(item.value_json), f"{name}.")}
        elif kind == "artifact":
            found["artifacts"][record.artifact.name] = json.loads(record.artifact.metadata or "{}")
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
            found["artifacts"][artifact.name] = json.loads(artifact.metadata or "{}")
    return found


def dotted(value: Any, prefix: str) -> Iterator[str]:
    """Names that W&B shows for what is nested in a summary."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{key}"
        yield from dotted(inner, f"{prefix}{key}.")


def track(config: str, overrides: Sequence[str], runs: Path, repository: Path) -> None:
    """Run an experiment offline, by somebody who has no account."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {"HOME": str(runs)}
    words = ["run", config, "--runs", str(runs), "tracking.wandb=offline", *overrides]
    called = [sys.executable, "-m", "personahub", *words]
    subprocess.run(called, cwd=repository, env=clean, check=True, timeout=1500)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Checks what every stage of an experiment would send against its manifest."""
    found = {}
    for path in sorted(folder.glob("*/manifest.json")):
        manifest, stage = json.loads(path.read_text()), path.parent.name
        (file,) = path.parent.rglob("*.wandb")
        run = found[stage] = sent(file)
        assert run["group"] == folder.name
        assert run["config"]["seed"] == str(manifest["identity"]["seed"])
        assert {"rows_in", "rows_out"} <= run["summary"]
        reported = run["artifacts"][f"{folder.name}-{stage}"]
        assert reported["fingerprint"] == manifest["fingerprint"]
        made_from = {f"{folder.name}-{Path(used['path']).name}": used for used in manifest["inputs"].values()}
        assert reported["made_from"] == {name: used["fingerprint"] for name, used in made_from.items()}
        if sum(manifest["shards"].values()):
            assert "samples" in run["tables"], stage
            assert list(path.parent.rglob("samples_*.table.json"))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_every_stage_of_the_quickstart_is_a_run(tmp_path: Path, repository: Path) -> None:
    track("configs/quickstart.yaml", [*SMALL, "stages.model.config.sft.logging_steps=1"], tmp_path, repository)
    runs = read(tmp_path / "quickstart")
    assert len(runs) == 20
    assert all(run["job"] == stage for stage, run in runs.items())
    assert any({"train/loss", "train/grad_norm"} <= row for row in runs["model"]["history"])
    sent_to_a_server(tmp_path, repository)


def sent_to_a_server(runs: Path, repository: Path) -> None:
    """Every stage's run arrives, with the edges that the manifests tell of."""
    with wandb_server() as server:
        account = {
            "HOME": str(runs),
            "WANDB_API_KEY": "0123456789abcdef" * 2 + "a1b2c3d4",
            "WANDB_BASE_URL": server.url,
        }
        command = [sys.executable, "-m", "personahub", "wandb", "sync", "--runs", str(runs)]
        subprocess.run(command, cwd=repository, env={**os.environ, **account}, check=True, timeout=600)
    manifests = [json.loads(path.read_text()) for path in (runs / "quickstart").glob("*/manifest.json")]
    names = {reported["displayName"]: id_ for id_, reported in server.runs.items()}
    assert set(names) == {f"quickstart/{manifest['stage']}" for manifest in manifests}
    edges = {
        (f"quickstart-{Path(used['path']).name}:v0", names[f"quickstart/{manifest['stage']}"])
        for manifest in manifests
        for used in manifest["inputs"].values()
    }
    assert server.edges == edges
    assert len(edges) > 20
    losses = [line["train/loss"] for line in server.history[names["quickstart/model"]] if "train/loss" in line]
    metrics = (runs / "quickstart/model/metrics.jsonl").read_text().splitlines()
    assert losses == [line["train/loss"] for line in map(json.loads, metrics) if "train/loss" in line]


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_arms_of_an_ablation_can_be_grouped_and_followed_back(tmp_path: Path, repository: Path) -> None:
    track("configs/ablation_persona.yaml", TINY, tmp_path, repository)
    runs = read(tmp_path / "ablation_persona")
    artifacts = {name: reported for run in runs.values() for name, reported in run["artifacts"].items()}
    for arm in ARMS:
        for part in ("problems", "solutions", "verified", "data", "model", "after"):
            run = runs[f"{part}-{arm}-0"]
            assert run["job"] == part
            assert json.loads(run["config"]["matrix"]) == {"arm": arm, "seed": "0"}
        assert any({"train/loss", "train/grad_norm"} <= row for row in runs[f"model-{arm}-0"]["history"])
        above = ancestors(f"ablation_persona-after-{arm}-0", artifacts)
        assert {"sources", f"problems-{arm}-0", f"model-{arm}-0", "base_model"} <= above
        assert not {f"model-{other}-0" for other in ARMS if other != arm} & above
    summary = runs["ablation"]["summary"]
    for arm in ARMS:
        assert f"benchmarks.synthetic_test.accuracy.{arm}.mean" in summary
    logged = {key for run in runs.values() for key in run["summary"].union(*run["history"])}
    assert charted() <= logged | {"rejected/no_agreement"}  # so few problems may all be agreed on


def ancestors(name: str, artifacts: Mapping[str, Any]) -> set[str]:
    """Stages that an artifact was made from, at any distance."""
    above = set(artifacts[name]["made_from"])
    return {each.removeprefix("ablation_persona-") for each in above}.union(*(ancestors(e, artifacts) for e in above))


def charted() -> set[str]:
    """Keys that the documented workspace has charts of."""
    pytest.importorskip("wandb_workspaces")
    return {key for _, charts in _workspace_module().SECTIONS for _, keys, _ in charts for key in keys}


def _workspace_module() -> Any:
    path = Path(__file__).parents[1] / "docs" / "wandb_workspace.py"
    spec = importlib.util.spec_from_file_location("wandb_workspace", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_workspace_shows_one_experiment_by_arm() -> None:
    pytest.importorskip("wandb_workspaces")
    module = _workspace_module()
    view = module.workspace("team", "persona-hub", "ablation_persona")
    assert [section.name for section in view.sections] == [title for title, _ in module.SECTIONS]
    sent = view._to_model().model_dump_json(by_alias=True)  # what saving would send
    assert '"ablation_persona"' in sent
    assert sent.count("matrix") > sum(len(charts) for _, charts in module.SECTIONS)
    for key in charted():
        assert key in sent
    page = (Path(__file__).parents[1] / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert all(f"**{title}**" in page for title, _ in module.SECTIONS)
    assert all(f"`{key}`" in page for key in charted())
