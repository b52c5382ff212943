"""Full disks, memory that runs out, and what the plan says to change."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from train import sft
from train.planning.limits import checkpoint_bytes, explain_out_of_memory
from train.trainer.config import Config

Make = Callable[..., Any]

SEVEN_B = {"model": {"name_or_path": "Qwen/Qwen2-7B"}}


def config(**values: Any) -> Config:
    return parse_config(Config, {**SEVEN_B, **values}, "config")


def notes(**values: Any) -> str:
    return "\n".join(sft.forecast(config(**values), {"data": 1_070_000}).notes)


def test_disk_too_small_for_the_checkpoints_is_found_before_training(
    train: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(UserError, match=r"0\.0 GB are free .* needs .* 3 checkpoints of") as caught:
        train()
    assert "save_total_limit" in str(caught.value)
    assert not list((tmp_path / "sft" / "checkpoints").glob("*"))


def test_allocators_error_becomes_one_line_with_what_to_change(base_model: Artifact) -> None:
    import torch

    base = str(base_model.path / "model")
    with (
        pytest.raises(UserError, match=r"out of memory \(.*\)\. The plan for 5,600 tokens at a time is ") as caught,
        explain_out_of_memory(config(sft={"gradient_checkpointing": False}), base),
    ):
        torch.empty(2**50, dtype=torch.uint8)
    assert "per_device_train_batch_size=4 with gradient_accumulation_steps=2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_errors_pass(base_model: Artifact) -> None:
    with (
        pytest.raises(RuntimeError, match="something else"),
        explain_out_of_memory(config(), str(base_model.path / "model")),
    ):
        raise RuntimeError("something else")


def test_plan_warns_of_what_does_not_fit_and_says_what_would() -> None:
    adam = {"per_device_train_batch_size": 4, "packing": True, "max_length": 2048}
    reported = notes(sft=adam, plan={"memory_gb": 96})
    assert "WARNING: does not fit: " in reported
    assert "sft.optim=adamw_bnb_8bit (" in reported
    assert "WARNING" not in notes(sft={**adam, "optim": "adamw_bnb_8bit"}, plan={"memory_gb": 96})
    assert "WARNING" not in notes(sft=adam, plan={"gpus": 8, "memory_gb": 80})
    small = notes(sft={**adam, "optim": "adamw_bnb_8bit"}, plan={"memory_gb": 24})
    assert "sharding over 8 GPUs" in small
    assert "WARNING" in notes(sft={**adam, "gradient_checkpointing": False})


def test_fsdp_holds_the_trained_weights_of_a_bf16_model_in_float32() -> None:
    """accelerate widens them (fsdp2_prepare_model); frozen ones under LoRA stay as they are."""
    eight, lora = {"gpus": 8}, {"r": 16}
    narrow, wide = {**SEVEN_B["model"], "dtype": "bfloat16"}, SEVEN_B["model"]
    assert notes(model=narrow, plan=eight) == notes(model=wide, plan=eight)
    assert notes(model=narrow) != notes(model=wide)
    assert notes(model=narrow, plan=eight, lora=lora) != notes(model=wide, plan=eight, lora=lora)


@pytest.mark.parametrize(("kind", "bytes_a_parameter"), [("fsdp", 16), ("zero", 14), ("one", 6)])
def test_checkpoints_of_a_bf16_model_are_as_large_as_who_shards_it_makes_them(
    kind: str, bytes_a_parameter: int
) -> None:
    import torch

    plugin = SimpleNamespace(fsdp_version=2, state_dict_type="StateDictType.FULL_STATE_DICT")
    trainer: Any = SimpleNamespace(
        model=torch.nn.Linear(999, 1),
        args=SimpleNamespace(optim="adamw_torch_fused"),
        is_fsdp_enabled=kind == "fsdp",
        is_deepspeed_enabled=kind == "zero",
        accelerator=SimpleNamespace(mixed_precision="bf16", state=SimpleNamespace(fsdp_plugin=plugin)),
    )
    narrow = config(model={**SEVEN_B["model"], "dtype": "bfloat16"})
    assert checkpoint_bytes(narrow, trainer) == 1000 * bytes_a_parameter


def test_plan_names_every_component() -> None:
    reported = notes(sft={"per_device_train_batch_size": 4, "packing": True, "max_length": 2048})
    for part in ("weights", "optimizer", "gradients", "bf16 copies", "activations", "one layer", "logits"):
        assert part in reported


def test_data_of_another_kind_is_refused(train: Make, write_sft_data: Make, sft_row: Make, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    other = write_sft_data(tmp_path / "problems", [sft_row(1)])
    shard = other.path / "00000.parquet"
    pq.write_table(pq.read_table(shard).drop_columns(["prompt", "completion"]), shard)
    with pytest.raises(
        UserError, match=r"problems, made by synth\.sft_data, which lacks the columns prompt, completion"
    ):
        train(data=other)
