"""FSDP2 on two gloo processes, as configs/launch/fsdp2_8_gpus.yaml shards on GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.config import parse_config
from personahub.core.experiments.stage_process import run_stage
from personahub.core.files import write_json
from train import sft
from train.planning.memory import shape_of_folder
from train.trainer.build import reduce_in_float32

Make = Callable[..., Any]
Launch = Callable[..., subprocess.CompletedProcess[str]]

LAUNCH = Path(__file__).parents[2] / "configs" / "launch" / "fsdp2_8_gpus.yaml"
SETTINGS = {
    "max_steps": 4,
    "max_length": 192,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "gradient_checkpointing": True,
    "save_steps": 2,
}


def losses(path: Path) -> list[float]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines]


@pytest.fixture(scope="module")
def wide(data: Artifact, make_spec: Make, tiny_shape: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model large enough that its checkpoints are weights and moments, and little else."""
    shape = {**tiny_shape, "hidden_size": 128, "intermediate_size": 512}
    path = tmp_path_factory.mktemp("models") / "wide"
    return run_stage(make_spec("train.init_model", shape, {"data": data}), path)


@pytest.fixture
def launch(data: Artifact, wide: Artifact, make_spec: Make, tmp_path: Path) -> Launch:
    """Runs train.sft under FSDP2: two processes, two micro-steps of one row each."""

    def run(**settings: Any) -> subprocess.CompletedProcess[str]:
        free, dtype = settings.pop("free", None), settings.pop("dtype", "float32")
        values = {**SETTINGS, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, **settings}
        config = {"sft": values, "device": "cpu", "keep_checkpoints": True, "model": {"dtype": dtype}}
        spec = make_spec("train.sft", config, {"data": data, "model": wide})
        (tmp_path / "sharded").mkdir()
        write_json(tmp_path / "sharded" / "stage.json", spec.model_dump(mode="json"))
        sharding = yaml.safe_load(LAUNCH.read_text())["fsdp_config"]
        environment = {
            **os.environ,
            **{key.upper(): str(value).lower() for key, value in sharding.items()},
            "FSDP_AUTO_WRAP_POLICY": sharding["fsdp_auto_wrap_policy"],
            "FSDP_STATE_DICT_TYPE": sharding["fsdp_state_dict_type"],
            "ACCELERATE_USE_FSDP": "true",
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "FSDP_RECORD": str(tmp_path / "record.jsonl"),
            **({} if free is None else {"FREE_BYTES": str(round(free))}),
        }
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        program = [str(Path(__file__).with_name("fsdp_on_cpu.py")), str(tmp_path / "sharded" / "stage.json")]
        return subprocess.run(
            [*command, *program], env=environment, capture_output=True, text=True, timeout=800, check=False
        )

    return run


@pytest.mark.parametrize(("mixed_precision", "products"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_only_products_are_in_half_precision(
    mixed_precision: str, products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from accelerate import FullyShardedDataParallelPlugin

    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    reduce_in_float32(plugin)
    assert plugin.mixed_precision_policy is None  # all is float32
    plugin.set_mixed_precision(mixed_precision)
    reduce_in_float32(plugin)
    policy: Any = plugin.mixed_precision_policy
    assert policy.param_dtype == getattr(torch, products)
    assert (policy.reduce_dtype, policy.output_dtype) == (torch.float32, torch.float32)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 5e-3)])
def test_gradients_are_float32_shards_between_micro_steps(
    bf16: bool,
    tolerance: float,
    launch: Launch,
    data: Artifact,
    wide: Artifact,
    make_spec: Make,
    tmp_path: Path,
) -> None:
    config = {"sft": {**SETTINGS, "bf16": bf16, "per_device_train_batch_size": 4}, "device": "cpu"}
    alone = run_stage(make_spec("train.sft", config, {"data": data, "model": wide}), tmp_path / "alone")
    done = launch(bf16=bf16)
    assert done.returncode == 0, done.stderr[-3000:]
    first, *between = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    policy = first["policy"]
    if bf16:
        assert (policy["param_dtype"], policy["reduce_dtype"]) == ("torch.bfloat16", "torch.float32")
        assert policy["output_dtype"] == "torch.float32"
    else:
        assert policy is None
    assert len(between) == SETTINGS["max_steps"]
    for gradients in between:
        assert gradients["dtypes"] == ["torch.float32"]
        assert gradients["numbers"] == gradients["own"] < 0.6 * gradients["all"]
    assert losses(tmp_path / "sharded") == pytest.approx(losses(alone.path), rel=tolerance)
    assert open_artifact(tmp_path / "sharded").manifest.summary["parameters"] == alone.manifest.summary["parameters"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_plan_counts_a_checkpoint_as_it_is_on_the_disk(
    dtype: str, launch: Launch, wide: Artifact, tmp_path: Path
) -> None:
    """Weights twice and both moments, all in float32: under bf16 FSDP2 widens what it trains."""
    done = launch(bf16=True, dtype=dtype)
    assert done.returncode == 0, done.stderr[-3000:]
    base = str(wide.path / "model")
    values = {"model": {"name_or_path": base, "dtype": dtype}, "plan": {"gpus": 2}}
    planned = sft.forecast(parse_config(sft.Config, values, "config"), {"data": 96})
    shape = shape_of_folder(base)
    assert shape is not None
    model_bytes = {"float32": 4, "bfloat16": 2}[dtype] * shape.parameters
    checkpoint = (planned.disk_bytes - model_bytes) / 3
    files = (tmp_path / "sharded" / "checkpoints" / "checkpoint-4").iterdir()
    assert sum(file.stat().st_size for file in files) == pytest.approx(checkpoint, rel=0.05)
    model = tmp_path / "sharded" / "model"
    assert (model / "model.safetensors").stat().st_size == pytest.approx(model_bytes, rel=0.01)
    assert json.loads((model / "config.json").read_text())["dtype"] == dtype
    assert any("saves the optimizer, and the weights twice" in note for note in planned.notes)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_disk_with_room_for_the_weights_once_is_too_small(launch: Launch, wide: Artifact, tmp_path: Path) -> None:
    shape = shape_of_folder(wide.path / "model")
    assert shape is not None
    done = launch(free=1.05 * (3 * 14 + 4) * shape.parameters)
    assert done.returncode != 0
    assert "GB are free on this disk, but training needs" in done.stderr
    assert not (tmp_path / "sharded" / "model").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_ranks_end_when_training_diverges(launch: Launch, tmp_path: Path) -> None:
    done = launch(learning_rate=1e25, save_steps=1)
    assert done.returncode != 0
    assert "training has diverged: at step 2 the loss is nan" in done.stderr
    assert "checkpoint-1, is older" in done.stderr
    assert not (tmp_path / "sharded" / "model").exists()
