"""What would end a run after hours, said before it begins: a full disk, a GPU too small, and memory that ran out."""

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
_MARGIN = 1.05  # tokenizer, random states, the file system's own
_NO_ROOM = (
    "No space left on device",  # safetensors, and Python
    "Disk quota exceeded",
    "fail at inline_container.cc",  # torch, which does not say why a write fell short
)
_CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch's CPU allocator raises a RuntimeError of its own


def refuse_full_disk(config: Config, trainer: SFTTrainer, folder: Path) -> None:
    """Before training: is there room for the checkpoints that will lie beside one another, and for the model?

    Raises:
        UserError: there is not, with the numbers.
    """
    one, model = checkpoint_bytes(config, trainer), model_bytes(config, trainer)
    saves = str(trainer.args.save_strategy).rpartition(".")[2].lower() != "no"
    # transformers deletes the oldest only once the next is whole
    kept = (trainer.args.save_total_limit or 1) + 1 if saves else 0
    there = sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file())
    needed = _MARGIN * (max(kept * one - there, one if saves else 0) + model)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.1f} GB are free on this disk, and training needs {needed / 1e9:.1f} GB: {kept} "
            f"checkpoints of {one / 1e9:.1f} GB at a time, and {model / 1e9:.1f} GB for the finished model. Free some, "
            "put the runs elsewhere (--runs), or lower sft.save_total_limit"
        )


def checkpoint_bytes(config: Config, trainer: SFTTrainer) -> float:
    """Weights (of an adapter, under LoRA) and optimizer, as transformers saves them.

    Under FSDP the weights are there twice. ZeRO's are 16 bits wide, and float32 masters lie with the
    optimizer: 14.1 bytes a parameter of Adam (measured with DeepSpeed 0.19.8), of which this counts 14.
    """
    trained = parameters(trainer, trained=True)
    weights = trained if config.lora is not None else parameters(trainer)
    size = 4 if trainer.is_deepspeed_enabled else _weight_bytes(config, trainer)
    try:
        state = optimizer_bytes(_optimizer_name(trainer), size)
    except UserError:  # an optimizer that the plan does not know: as large as Adam's
        state = 2.0 * size
    if trainer.is_deepspeed_enabled:
        return 2 * weights + (size + state) * trained
    return (2 if _saves_twice(trainer) else 1) * size * weights + state * trained


def _weight_bytes(config: Config, trainer: SFTTrainer) -> int:
    """Of a trained weight. FSDP2 holds those in float32, whatever they were, while products are in bf16."""
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    widened = plugin is not None and plugin.fsdp_version == 2 and trainer.accelerator.mixed_precision != "no"
    return 4 if config.model.dtype == "float32" or (widened and config.lora is None) else 2


def parameters(trainer: SFTTrainer, trained: bool = False) -> int:
    """How many there are, or are trained. ZeRO-3 leaves empty tensors behind, which know their size."""
    assert trainer.model is not None  # noqa: S101
    counted = [p for p in trainer.model.parameters() if p.requires_grad or not trained]
    return sum(getattr(p, "ds_numel", p.numel()) for p in counted)


def _saves_twice(trainer: SFTTrainer) -> bool:
    """FSDP's whole state is written as model.safetensors and as pytorch_model_fsdp.bin, from which it resumes."""
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    return plugin is not None and "FULL" in str(plugin.state_dict_type)


def _optimizer_name(trainer: SFTTrainer) -> str:
    return str(getattr(trainer.args.optim, "value", trainer.args.optim))


def model_bytes(config: Config, trainer: SFTTrainer) -> float:
    """`model/`, and with validation `best/` beside it and being replaced."""
    copies = 1 if config.validation is None else 3
    return float(copies * (4 if config.model.dtype == "float32" else 2) * parameters(trainer))


def warn_of_small_gpu(config: Config, base: str) -> None:
    """Say so where the plan exceeds what the GPU has; a plan may be wrong, so it refuses nothing."""
    import torch

    shape = _shape(base)
    if shape is None or config.device == "cpu" or not torch.cuda.is_available():
        return
    try:
        plan = memory_of(config, shape)
    except UserError:
        return
    there = torch.cuda.get_device_properties(0).total_memory
    if plan.total > there:
        _LOG.warning("%s; this GPU has %.0f GB. %s", plan, there / 1e9, ways_to_fit(config, shape, there))


@contextmanager
def explain_out_of_memory(config: Config, base: str) -> Iterator[None]:
    """Turn the allocator's error into one line that says what to change.

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
        raise UserError(_advice(config, base, "the machine has no more")) from None


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn what libraries say of a full disk into one line.

    Raises:
        UserError: there was no room, most likely for a checkpoint or the model below `folder`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not any(words in str(error) for words in _NO_ROOM):
            raise
        raise UserError(
            f"no space was left on a disk, most likely on that of {folder} ({str(error).strip()[:160]}). Free some, then "
            "run again: training goes on from the checkpoint before"
        ) from None


def _advice(config: Config, base: str, said: str) -> str:
    shape = _shape(base)
    head = f"out of memory ({said[:160]})"
    if shape is None:
        return f"{head}. Lower sft.per_device_train_batch_size, or set sft.gradient_checkpointing: true"
    try:
        plan = memory_of(config, shape)
    except UserError:
        return f"{head}. Lower sft.per_device_train_batch_size, or set sft.gradient_checkpointing: true"
    tokens = training_setup(config, shape).tokens_per_device
    return f"{head}. The plan for {tokens:,} tokens at a time: {plan}. {ways_to_fit(config, shape, plan.total * 0.999)}"


def _shape(base: str) -> ModelShape | None:
    return shape_of_folder(base) if is_local(base) else known_shape_of(base)
