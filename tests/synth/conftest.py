"""Running one stage in this process: inputs from rows, the simulated teacher as engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from personahub.core.artifact import MANIFEST, Artifact, Counts, InputReference, Manifest, Usage, open_artifact
from personahub.core.experiments.stage_process import run_stage
from personahub.core.files import write_json
from personahub.core.identity import digest
from personahub.core.records import Row
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import Execution, StageSpec, load_stage_module
from personahub.core.tracking.tracker import TrackingConfig

TEACHER = {"kind": "simulated", "model": "simulated-teacher"}
FAULTLESS = dict.fromkeys(
    ("refusal", "truncation", "malformed", "unsolvable", "near_duplicate", "wrong_arithmetic", "wrong_reading"), 0.0
)


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Artifact]:
    """`make_artifact(name, schema, rows, shards=2)`: an artifact on disk."""

    def make(name: str, schema: pa.Schema, rows: Iterable[Row], shards: int = 2) -> Artifact:
        rows, path = list(rows), tmp_path / name
        path.mkdir()
        sizes = {}
        for index in range(shards):
            part = rows[index::shards]
            with ShardWriter(path, shard_name(index), schema) as writer:
                for row in part:
                    writer.write(dict.fromkeys(schema.names) | row)
            sizes[shard_name(index)] = len(part)
        manifest = Manifest(
            experiment="test", stage=name, module="test", version="1", fingerprint=digest(name, len(rows)), config={},
            identity={}, inputs={}, shards=sizes, counts=Counts(), usage=Usage(), summary={}, seconds=0, created="",
            versions={}, command="",
        )  # fmt: skip
        write_json(path / MANIFEST, manifest.model_dump(mode="json"))
        return open_artifact(path)

    return make


@pytest.fixture
def run_module(tmp_path: Path) -> Callable[..., Artifact]:
    """`run_module("synth.problems", config, personas=artifact)`: the artifact that the stage makes."""

    def run(
        module: str,
        config: Mapping[str, Any],
        stage: str | None = None,
        engines: Mapping[str, dict[str, Any]] | None = None,
        execution: Mapping[str, Any] | None = None,
        **inputs: Artifact,
    ) -> Artifact:
        name = stage or module.rpartition(".")[2]
        spec = StageSpec(
            experiment="test",
            stage=name,
            module=module,
            version=load_stage_module(module, name).VERSION,
            fingerprint=digest(module, dict(config)),
            identity={},
            config=dict(config),
            inputs={k: InputReference(path=str(a.path), fingerprint=a.fingerprint) for k, a in inputs.items()},
            engines=dict(engines or {"teacher": {**TEACHER, "rates": FAULTLESS}}),
            execution=Execution(**(execution or {})),
            tracking=TrackingConfig(wandb="disabled"),
        )
        return run_stage(spec, tmp_path / "runs" / name)

    return run
