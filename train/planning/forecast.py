"""Forecasts tokens, FLOPs, hours, memory and disk of a training run.

Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from train.planning.memory import (
    MemoryPlan,
    ModelShape,
    TrainingSetup,
    known_shape,
    optimizer_bytes,
    plan_memory,
    shape_of_folder,
)
from train.trainer.config import Config
from train.trainer.model_files import is_local

_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2}


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecasts tokens, FLOPs, GPU-hours and memory.

    Uses the model's shape and the assumptions in `plan`. `rows_in["data"]` counts both splits, so the forecast is an
    upper bound.
    """
    shape = None if config.model.name_or_path is None else known_shape_of(config.model.name_or_path)
    examples = min(rows_in["data"], config.max_train_examples or rows_in["data"])
    tokens = _planned_tokens(config, examples)
    if shape is None:
        note = f"about {tokens:.3g} tokens; GPU-hours and memory are unknown, because the size of the base model is not known yet"
        return Forecast(rows_out=0, notes=(note,))
    plan = config.plan
    flops = shape.training_flops(tokens, plan.tokens_per_example, trains_all=config.lora is None)
    hours = flops / (plan.mfu * plan.peak_tflops * 1e12) / 3600
    notes = (
        f"{tokens:.3g} tokens of {shape.parameters / 1e9:.2f}B parameters = {flops:.3g} FLOPs, {hours:,.1f} GPU-hours "
        f"at {plan.mfu:.0%} of {plan.peak_tflops:g} TFLOP/s ({hours / plan.gpus:,.1f} h on {plan.gpus} GPUs)",
        *_memory_notes(config, shape),
        *_disk_notes(config, shape),
    )
    return Forecast(rows_out=0, gpu_hours=hours, disk_bytes=round(_disk_bytes(config, shape)), notes=notes)


def known_shape_of(name: str) -> ModelShape | None:
    """Returns the shape of a model folder, or of a hub model known offline."""
    return shape_of_folder(name) if is_local(name) else known_shape(name)


def _planned_tokens(config: Config, examples: int) -> float:
    steps = config.sft.get("max_steps", 0)
    if steps > 0:
        rows = steps * config.sft.get("per_device_train_batch_size", 8) * config.plan.gpus
        return rows * config.sft.get("gradient_accumulation_steps", 1) * _tokens_per_row(config)
    return examples * config.plan.tokens_per_example * config.sft.get("num_train_epochs", 3)


def _tokens_per_row(config: Config) -> float:
    """Returns tokens per row. A packed row is almost full. Any other row has one example."""
    return config.sft.get("max_length", 1024) if config.sft.get("packing") else config.plan.tokens_per_example


def training_setup(config: Config, shape: ModelShape) -> TrainingSetup:
    """Returns what determines the memory. Several GPUs mean FSDP2, which holds trained weights in float32."""
    sft = {**config.sft, **config.sft_execution}
    lora = config.lora or {}
    widened = config.plan.gpus > 1 and config.lora is None and sft.get("bf16", True)
    adapter = shape.adapter_parameters(lora.get("r", 8), lora.get("target_modules"))
    return TrainingSetup(
        weights="float32" if widened else config.model.dtype,
        optimizer=sft.get("optim", "adamw_torch_fused"),
        tokens_per_device=round(sft.get("per_device_train_batch_size", 8) * _tokens_per_row(config)),
        checkpointing=sft.get("gradient_checkpointing", True),
        shards=config.plan.gpus,
        trained_parameters=None if config.lora is None else adapter,
        adapted=lora.get("target_modules"),
        autocast=sft.get("bf16", True),
    )


def memory_of(config: Config, shape: ModelShape) -> MemoryPlan:
    """Plans the memory of a training step on each device.

    Raises:
        UserError: the size of the optimizer's state is not known.
    """
    return plan_memory(shape, training_setup(config, shape))


def _memory_notes(config: Config, shape: ModelShape) -> list[str]:
    try:
        plan = memory_of(config, shape)
    except UserError as error:
        return [f"memory unknown: {error}"]
    limit = config.plan.memory_gb * 1e9
    notes = [f"memory: {plan}"]
    if plan.total > limit:
        notes.append(
            f"WARNING: does not fit: {plan.total / 1e9:.1f} GB planned, {config.plan.memory_gb:g} GB available "
            f"(plan.memory_gb). {ways_to_fit(config, shape, limit)}"
        )
    return notes


def ways_to_fit(config: Config, shape: ModelShape, limit: float) -> str:
    """Lists single changes that bring the plan below `limit` bytes, with the memory of each."""
    ways = [(text, memory_of(changed, shape).total) for text, changed in _changes(config)]
    fitting = [f"{text} ({total / 1e9:.1f} GB)" for text, total in ways if total <= limit]
    if fitting:
        return f"Any of these changes would fit: {'; '.join(fitting)}"
    text, total = min(ways, key=lambda way: way[1])
    return f"No single change is enough; the most effective is {text} ({total / 1e9:.1f} GB)"


def _changes(config: Config) -> Iterator[tuple[str, Config]]:
    batch = config.sft.get("per_device_train_batch_size", 8)
    accumulation = config.sft.get("gradient_accumulation_steps", 1)
    if batch > 1:
        smaller = {"per_device_train_batch_size": batch // 2, "gradient_accumulation_steps": accumulation * 2}
        text = f"sft.per_device_train_batch_size={batch // 2} with gradient_accumulation_steps={accumulation * 2}"
        yield text, _with_sft(config, smaller)
    if not config.sft_execution.get("gradient_checkpointing", True):
        yield "sft.gradient_checkpointing=true", _with_sft(config, {"gradient_checkpointing": True})
    if "8bit" not in str(config.sft.get("optim", "")) and config.lora is None:
        yield "sft.optim=adamw_bnb_8bit", _with_sft(config, {"optim": "adamw_bnb_8bit"})
    gpus = max(8, 2 * config.plan.gpus)
    yield (
        f"sharding over {gpus} GPUs (plan.gpus)",
        config.model_copy(update={"plan": config.plan.model_copy(update={"gpus": gpus})}),
    )
    if config.lora is None:
        yield (
            "LoRA with bf16 weights (lora: {r: 16}, model.dtype: bfloat16)",
            config.model_copy(
                update={"lora": {"r": 16}, "model": config.model.model_copy(update={"dtype": "bfloat16"})}
            ),
        )


def _with_sft(config: Config, changes: Mapping[str, Any]) -> Config:
    return config.model_copy(update={"sft": {**config.sft, **config.sft_execution, **changes}, "sft_execution": {}})


def _disk_bytes(config: Config, shape: ModelShape) -> float:
    """Returns the bytes of simultaneous checkpoints and the finished model. See `limits.check_disk_space`."""
    kept, one = _checkpoints(config, shape)
    models = 1 if config.validation is None else 3
    return kept * one + models * _WEIGHT_BYTES[config.model.dtype] * shape.parameters


def _checkpoints(config: Config, shape: ModelShape) -> tuple[int, float]:
    """Returns the number of checkpoints at a time and bytes of one. With several GPUs, FSDP saves the weights twice."""
    setup = training_setup(config, shape)
    size = _WEIGHT_BYTES[setup.weights]
    trained = shape.parameters if setup.trained_parameters is None else setup.trained_parameters
    try:
        state = optimizer_bytes(setup.optimizer, size)
    except UserError:
        state = 2.0 * size
    copies = 2 if setup.shards > 1 else 1
    return config.sft_execution.get("save_total_limit", 2) + 1, (copies * size + state) * trained


def _disk_notes(config: Config, shape: ModelShape) -> list[str]:
    if config.plan.gpus == 1:
        return []
    kept, one = _checkpoints(config, shape)
    return [
        f"disk: {kept} checkpoints of {one / 1e9:.1f} GB at a time; FSDP saves the optimizer, and the weights twice"
    ]
