"""The memory plan against transformers' own models and against hand-computed totals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from personahub.core.errors import UserError
from train.planning.memory import (
    Dtype,
    ModelShape,
    TrainingSetup,
    activation_bytes,
    known_shape,
    optimizer_bytes,
    plan_memory,
    shape_of_config,
    shape_of_folder,
)

SEVEN_B = ModelShape(152_064, 3_584, 18_944, 28, 28, 4, tied_embeddings=False)


def qwen2(shape: ModelShape, **values: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            tie_word_embeddings=shape.tied_embeddings,
            **values,
        )
    )


@pytest.mark.parametrize("name", ["Qwen/Qwen2-0.5B", "Qwen/Qwen2-7B"])
def test_parameters_are_those_of_the_real_architecture(name: str) -> None:
    import torch

    shape = known_shape(name)
    assert shape is not None
    with torch.device("meta"):
        model = qwen2(shape)
    assert sum(p.numel() for p in model.parameters()) == shape.parameters
    assert shape_of_config(model.config.to_dict()) == shape


def test_known_shapes_go_by_the_published_name() -> None:
    assert known_shape("Qwen/Qwen2-7B") == SEVEN_B == known_shape("Qwen/Qwen2.5-Math-7B-Instruct")
    assert SEVEN_B.parameters == 7_615_616_512
    assert known_shape("meta-llama/Llama-3.1-8B") is None
    assert known_shape("Qwen/Qwen3-14B") is None


@pytest.mark.parametrize(
    ("weights", "optimizer", "shards", "expected"),
    [  # weights + gradients + optimizer of Qwen2-7B, GB on each device
        ("float32", "adamw_torch_fused", 1, 121.8),
        ("float32", "adamw_torch_fused", 8, 15.2),
        ("float32", "adamw_bnb_8bit", 1, 76.4),
        ("bfloat16", "adamw_torch", 1, 60.9),
        ("bfloat16", "paged_adamw_32bit", 1, 91.4),
        ("float32", "lion_8bit", 1, 68.7),
        ("bfloat16", "adafactor", 1, 30.5),
    ],
)
def test_state_of_the_seven_b_model(weights: Dtype, optimizer: str, shards: int, expected: float) -> None:
    plan = plan_memory(SEVEN_B, TrainingSetup(weights=weights, optimizer=optimizer, shards=shards))
    assert (plan.weights + plan.gradients + plan.optimizer) / 1e9 == pytest.approx(expected, abs=0.06)
    assert plan.total >= plan.weights + plan.gradients + plan.optimizer
    assert f"{plan.total / 1e9:.1f} GB per GPU" in str(plan)


def test_lora_needs_gradients_of_the_adapter_alone() -> None:
    adapter = SEVEN_B.adapter_parameters(16)
    plan = plan_memory(SEVEN_B, TrainingSetup(weights="bfloat16", trained_parameters=adapter))
    assert plan.gradients == 4 * adapter  # PEFT keeps adapters in float32
    assert plan.weights == 2 * SEVEN_B.parameters + 4 * adapter


@pytest.mark.parametrize("targets", [None, "all-linear", ["k_proj", "down_proj"]])
def test_adapter_parameters_are_pefts(targets: str | list[str] | None) -> None:
    from peft import LoraConfig, get_peft_model

    shape = ModelShape(320, 64, 128, 2, 4, 2, tied_embeddings=True)
    model: Any = get_peft_model(qwen2(shape), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=targets))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == shape.adapter_parameters(8, targets)


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_activations_are_what_autograd_keeps(weights: Dtype, tied: bool) -> None:
    import torch

    shape = ModelShape(320, 96, 416, 3, 4, 2, tied_embeddings=tied)
    model = qwen2(shape).to(getattr(torch, weights)).train()
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    matrices = {tuple(p.shape) for p in model.parameters() if p.dim() == 2}
    matrices |= {shape[::-1] for shape in matrices}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        if tensor.untyped_storage().data_ptr() not in owned and tuple(tensor.shape) not in matrices:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=weights == "float32"),
    ):
        model.model(input_ids=torch.randint(0, 320, (4, 200)), use_cache=False)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    planned = activation_bytes(shape, TrainingSetup(weights=weights, tokens_per_device=800, checkpointing=False))
    assert planned == pytest.approx(measured, rel=0.03)


def test_checkpointing_keeps_the_residual_stream_and_computes_one_layer_again() -> None:
    without = plan_memory(SEVEN_B, TrainingSetup(weights="bfloat16", checkpointing=False))
    with_it = plan_memory(SEVEN_B, TrainingSetup(weights="bfloat16", checkpointing=True))
    assert without.activations / 1e9 == pytest.approx(52, rel=0.02)
    assert (with_it.activations + with_it.layer) / 1e9 == pytest.approx(3.7, rel=0.02)
    assert with_it.layer == without.layer


def test_without_triton_the_head_takes_copies_of_a_tile() -> None:
    plans = [plan_memory(SEVEN_B, TrainingSetup(tokens_per_device=8192, triton=triton)) for triton in (True, False)]
    assert plans[1].head - plans[0].head == 29 * 4096 * 32768
    assert plans[1].total >= plans[0].total


def test_unknown_optimizer_is_named() -> None:
    with pytest.raises(UserError, match="does not know the optimizer 'galore_adamw'"):
        optimizer_bytes("galore_adamw", 4)


def test_flops_of_the_papers_run() -> None:
    full = SEVEN_B.training_flops(2.25e9, sequence_length=700)
    assert full == pytest.approx(9.6e19, rel=0.01)
    assert SEVEN_B.training_flops(2.25e9, 700, trains_all=False) == pytest.approx(full * 4 / 6, rel=0.01)


@pytest.mark.parametrize(("text", "message"), [(None, "not a model folder: it has no config.json"), ("{", "not JSON")])
def test_folder_without_a_model_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        shape_of_folder(tmp_path)


def test_models_built_in_another_way_have_no_known_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 768}')
    assert shape_of_folder(tmp_path) is None
    assert shape_of_config([1]) is None
