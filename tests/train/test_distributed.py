"""Two processes train like one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.files import write_json

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
@pytest.mark.timeout(900)
def test_two_gloo_processes_give_the_losses_of_one(
    data: Artifact, base_model: Artifact, train: Callable[..., Any], make_spec: Callable[..., Any], tmp_path: Path
) -> None:
    alone = train("alone", sft={**SETTINGS, "per_device_train_batch_size": 4}, validation=VALIDATION)

    config = {"sft": {**SETTINGS, "per_device_train_batch_size": 2}, "validation": VALIDATION, "device": "cpu"}
    spec = make_spec("train.sft", config, {"data": data, "model": base_model})
    (tmp_path / "pair").mkdir()
    write_json(tmp_path / "pair" / "stage.json", spec.model_dump(mode="json"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    worker = ["-m", "personahub.core.experiments.stage_process", str(tmp_path / "pair" / "stage.json")]
    done = subprocess.run([*launch, *worker], capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    pair = open_artifact(tmp_path / "pair")
    assert numbers(pair, "train/loss") == pytest.approx(numbers(alone, "train/loss"), rel=1e-5)
    assert numbers(pair, "train/grad_norm") == pytest.approx(numbers(alone, "train/grad_norm"), rel=1e-5)
    # Also shows that there were two: each alone would have seen half of the tokens.
    assert numbers(pair, "train/num_tokens") == numbers(alone, "train/num_tokens")
    assert numbers(pair, "eval/accuracy") == numbers(alone, "eval/accuracy")
    assert pair.manifest.summary["examples"] == alone.manifest.summary["examples"] == 89
