"""Two processes train like one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact, open_artifact, write_json

SETTINGS = {
    "max_steps": 6,
    "max_length": 192,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "gradient_checkpointing": False,
    "bf16": False,
    "save_steps": 3,
}
VALIDATION = {"problems": 7, "every_steps": 3, "max_new_tokens": 4}  # odd, so that the ranks' shares overlap


def numbers(artifact: Artifact, name: str) -> list[float]:
    lines = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.slow
def test_two_gloo_processes_give_the_losses_of_one(
    data: Artifact, base_model: Artifact, train: Callable[..., Any], make_spec: Callable[..., Any], tmp_path: Path
) -> None:
    alone = train("alone", sft={**SETTINGS, "per_device_train_batch_size": 4}, validation=VALIDATION)

    config = {"sft": {**SETTINGS, "per_device_train_batch_size": 2}, "validation": VALIDATION, "device": "cpu"}
    spec = make_spec("train.sft", config, {"data": data, "model": base_model})
    (tmp_path / "pair").mkdir()
    write_json(tmp_path / "pair" / "stage.json", spec.model_dump(mode="json"))
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--main_process_port", "0", "--num_cpu_threads_per_process", "1"]
    worker = ["-m", "personahub.core.worker", str(tmp_path / "pair" / "stage.json")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*launch, *worker], env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    pair = open_artifact(tmp_path / "pair")
    assert numbers(pair, "train/loss") == pytest.approx(numbers(alone, "train/loss"), rel=1e-4)
    assert numbers(pair, "train/grad_norm") == pytest.approx(numbers(alone, "train/grad_norm"), rel=1e-3)
    assert numbers(pair, "train/num_tokens") == numbers(alone, "train/num_tokens")
    assert numbers(pair, "eval/accuracy") == numbers(alone, "eval/accuracy")
    assert pair.manifest.summary["examples"] == alone.manifest.summary["examples"] == 89
