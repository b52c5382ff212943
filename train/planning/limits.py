"""Checks disk space and GPU memory before training, and explains shortages."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from personahub.core.errors import UserError
from train.planning.forecast import known_shape_of, memory_of, training_setup, ways_to_fit
from train.planning.memory import ModelShape, optimizer_bytes, shape_of_folder
from train.trainer.config import Config
from train.trainer.model_files import is_local

if TYPE_CHECKING:
    from trl.trainer.sft_trainer import SFTTrainer

_LOG = logging.getLogger(__name__)
_MARGIN = 1.05  # tokenizer, random states, overhead of the file system
_DISK_FULL = (
    "No space left on device",  # safetensors, and Python
    "Disk quota exceeded",
    "fail at inline_container.cc",  # torch, which does not say why a write failed
)
_CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch's CPU allocator raises a plain RuntimeError


def check_disk_space(config: Config, trainer: SFTTrainer, folder: Path) -> None:
    """Checks that the disk has room for the model and the simultaneous checkpoints.

    Raises:
        UserError: the disk is too full.
    """
    one, model = checkpoint_bytes(config, trainer), model_bytes(config, trainer)
    saves = str(trainer.args.save_strategy).rpartition(".")[2].lower() != "no"
    # transformers deletes the oldest checkpoint only after it has written the next
    kept = (trainer.args.save_total_limit or 1) + 1 if saves else 0
    existing = sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file())
    needed = _MARGIN * (max(kept * one - existing, one if saves else 0) + model)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.1f} GB are free on this disk, but training needs {needed / 1e9:.1f} GB: {kept} "
            f"checkpoints of {one / 1e9:.1f} GB at a time, and {model / 1e9:.1f} GB for the finished model. Free some "
            "space, put the runs on another disk (--runs), or lower sft.save_total_limit"
        )


def checkpoint_bytes(config: Config, trainer: SFTTrainer) -> float:
    """Returns the bytes of weights and optimizer as transformers saves them.

    Under LoRA, of the adapter. FSDP saves the weights twice. ZeRO saves 16-bit weights, with float32 masters next to
    the optimizer: 14.1 bytes per parameter for Adam (measured with DeepSpeed 0.19.8), counted as 14 here.
    """
    trained = count_parameters(trainer, trained=True)
    weights = trained if config.lora is not None else count_parameters(trainer)
    size = 4 if trainer.is_deepspeed_enabled else _weight_bytes(config, trainer)
    try:
        state = optimizer_bytes(_optimizer_name(trainer), size)
    except UserError:  # unknown optimizers count as Adam
        state = 2.0 * size
    if trainer.is_deepspeed_enabled:
        return 2 * weights + (size + state) * trained
    return (2 if _saves_twice(trainer) else 1) * size * weights + state * trained


def _weight_bytes(config: Config, trainer: SFTTrainer) -> int:
    """Returns the bytes of a trained weight.

    FSDP2 holds them in float32 if products are in bf16, whatever their dtype was.
    """
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    widened = plugin is not None and plugin.fsdp_version == 2 and trainer.accelerator.mixed_precision != "no"
    return 4 if config.model.dtype == "float32" or (widened and config.lora is None) else 2


def count_parameters(trainer: SFTTrainer, trained: bool = False) -> int:
    """Counts all parameters, or only trained ones. ZeRO-3 leaves empty tensors that store their full size."""
    assert trainer.model is not None  # noqa: S101
    counted = [p for p in trainer.model.parameters() if p.requires_grad or not trained]
    return sum(getattr(p, "ds_numel", p.numel()) for p in counted)


def _saves_twice(trainer: SFTTrainer) -> bool:
    """Returns whether FSDP saves its state twice. It writes model.safetensors and pytorch_model_fsdp.bin."""
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    return plugin is not None and "FULL" in str(plugin.state_dict_type)


def _optimizer_name(trainer: SFTTrainer) -> str:
    return str(getattr(trainer.args.optim, "value", trainer.args.optim))


def model_bytes(config: Config, trainer: SFTTrainer) -> float:
    """Returns the bytes of `model/`, and with validation also of the old and the new `best/`."""
    copies = 1 if config.validation is None else 3
    return float(copies * (4 if config.model.dtype == "float32" else 2) * count_parameters(trainer))


def warn_if_gpu_too_small(config: Config, base: str) -> None:
    """Warns if the plan exceeds the memory of the GPU. The plan may be wrong, so this is not an error."""
    import torch

    shape = _shape(base)
    if shape is None or config.device == "cpu" or not torch.cuda.is_available():
        return
    try:
        plan = memory_of(config, shape)
    except UserError:
        return
    available = torch.cuda.get_device_properties(0).total_memory
    if plan.total > available:
        _LOG.warning("%s; this GPU has %.0f GB. %s", plan, available / 1e9, ways_to_fit(config, shape, available))


@contextmanager
def explain_out_of_memory(config: Config, base: str) -> Iterator[None]:
    """Turns an out-of-memory error into one line that says what to change.

    Raises:
        UserError: the body ran out of memory.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(_advice(config, base, str(error).splitlines()[0])) from None
    except RuntimeError as error:
        if _CPU_ALLOCATOR not in str(error):
            raise
        raise UserError(_advice(config, base, str(error).splitlines()[0])) from None
    except MemoryError:
        raise UserError(_advice(config, base, "the machine is out of memory")) from None


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turns the errors of libraries about a full disk into one line.

    Raises:
        UserError: a disk is full, most likely that of `folder`, which gets the checkpoints and the model.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not any(text in str(error) for text in _DISK_FULL):
            raise
        raise UserError(
            f"a disk is full, most likely that of {folder} ({str(error).strip()[:160]}). Free some space and run the command "
            "again; training resumes from the last complete checkpoint"
        ) from None


def _advice(config: Config, base: str, message: str) -> str:
    shape = _shape(base)
    head = f"out of memory ({message[:160]})"
    if shape is None:
        return f"{head}. Lower sft.per_device_train_batch_size, or set sft.gradient_checkpointing: true"
    try:
        plan = memory_of(config, shape)
    except UserError:
        return f"{head}. Lower sft.per_device_train_batch_size, or set sft.gradient_checkpointing: true"
    tokens = training_setup(config, shape).tokens_per_device
    return (
        f"{head}. The plan for {tokens:,} tokens at a time is {plan}. {ways_to_fit(config, shape, plan.total * 0.999)}"
    )


def _shape(base: str) -> ModelShape | None:
    return shape_of_folder(base) if is_local(base) else known_shape_of(base)
