"""The launch files: accelerate reads them, and a node finds its place."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "configs" / "launch"
FILES = sorted(file for file in LAUNCH.glob("*.yaml") if file.stem != "ray")  # that one is for `ray up`


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_its_head_shows_how_to_use_it(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert str(config.mixed_precision) == "bf16"
    assert config.num_processes in (1, 8, 16)
    head = file.read_text(encoding="utf-8").splitlines()[0]
    assert head.startswith("# execution: {launcher: [")
    assert file.name in head or "node.sh" in head


def test_sharding_is_fsdp2_and_checkpoints_activations_once() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    for name in ("fsdp2_8_gpus", "fsdp2_nodes"):
        sharding = load_config_from_file(str(LAUNCH / f"{name}.yaml")).fsdp_config
        assert sharding["fsdp_version"] == 2
        assert sharding["fsdp_activation_checkpointing"] is False


def test_node_says_which_it_is(tmp_path: Path) -> None:
    for name, text in (("scontrol", "printf 'n1\\nn2\\n'"), ("accelerate", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_NODEID": "1",
    }
    command = ["bash", str(LAUNCH / "node.sh"), "-m", "personahub.core.experiments.stage_process", "stage.json"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert said[:3] == ["launch", "--config_file", str(LAUNCH / "fsdp2_nodes.yaml")]
    options = dict(zip(said[3:-3:2], said[4:-3:2], strict=True))
    assert options == {
        "--num_machines": "2",
        "--num_processes": "16",
        "--machine_rank": "1",
        "--main_process_ip": "n1",
        "--main_process_port": "29500",
    }
    assert said[-3:] == ["-m", "personahub.core.experiments.stage_process", "stage.json"]
