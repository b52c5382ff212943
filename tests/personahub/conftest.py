"""Runs stages of an experiment in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from personahub.core.artifact import Artifact
from personahub.core.experiments.experiment import Experiment, load_experiment
from personahub.core.experiments.stage_process import run_stage

Run = Callable[..., dict[str, Artifact]]

SIMULATED = {"teacher": {"kind": "simulated", "model": "simulated-teacher", "concurrency": 8}}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Experiment]:
    """Writes an experiment of the given stages and loads it."""

    def load_stages(stages: dict[str, Any], engines: Any = SIMULATED, name: str = "test", seed: int = 0) -> Experiment:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"experiment": name, "seed": seed, "engines": engines, "stages": stages}))
        return load_experiment(file, runs=tmp_path / "runs")

    return load_stages


@pytest.fixture
def run(load: Callable[..., Experiment]) -> Run:
    """Runs the stages in order and returns their artifacts by name; finished ones are taken as they are."""

    def run_stages(stages: dict[str, Any], engines: Any = SIMULATED, name: str = "test", seed: int = 0) -> Any:
        artifacts: dict[str, Artifact] = {}
        for stage in stages:
            planned = load(stages, engines, name, seed).stage(stage)
            assert planned.spec is not None
            artifacts[stage] = run_stage(planned.spec, planned.path)
        return artifacts

    return run_stages
