"""The `sft:` and `lora:` sections, passed to trl.SFTConfig and peft.LoraConfig.

Their keys are checked when an experiment is planned, long before there is a trainer. Importing TRL takes seconds, so the
valid names are read from the source code of the config classes instead.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personahub.core.config import suggest
from personahub.core.errors import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig

# (package, file, class): the config class and the classes that it inherits fields from
_SFT_CLASSES = (
    ("trl", "trainer/sft_config.py", "SFTConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
_LORA_CLASSES = (
    ("peft", "tuners/lora/config.py", "LoraConfig"),
    ("peft", "config.py", "PeftConfig"),
    ("peft", "config.py", "PeftConfigMixin"),
)

# Keys of SFTConfig that are set elsewhere, and where.
_RESERVED = {
    "output_dir": "checkpoints are in the folder of the artifact",
    "seed": "set the stage's `seed`",
    "report_to": "set the experiment's `tracking`",
    "run_name": "the run is named after experiment and stage",
    "disable_tqdm": "the stage shows its own progress",
    "resume_from_checkpoint": "a run resumes from its last complete checkpoint automatically",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed",
    "use_cpu": "set `device: cpu`",
    "dataset_text_field": "training data is the prompts and completions of the input `data`",
    "dataset_kwargs": "training data is prepared by the stage",
    "chat_template_path": "set `model.chat_template`",
    "model_init_kwargs": "set the keys of `model`",
    "trust_remote_code": "code from a model's repository is never run",
    "completion_only_loss": "the loss is always on the completion only",
    "assistant_only_loss": "the loss is always on the completion only",
    "truncation_mode": "the start of an example that is too long is kept",
    "logging_nan_inf_filter": "a loss that is not finite ends the training",
    "push_to_hub": "publish the finished `model/` folder yourself",
}

# Keys that change speed, place or logging, but not the result.
_EXECUTION_KEYS = re.compile(
    r"log_level.*|log_on_each_node|logging_.*|save_strategy|save_steps|save_total_limit|save_on_each_node|"
    r"dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor|multiprocessing_context)|"
    r"dataset_num_proc|gradient_checkpointing.*|activation_offloading|ddp_.*|fsdp.*|deepspeed|"
    r"torch_compile.*|torch_empty_cache_steps|debug|skip_memory_metrics"
)

_YAML_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def check_sft_keys(values: Mapping[str, Any]) -> None:
    """Rejects keys that SFTConfig does not have or that the stage sets itself.

    Raises:
        UserError: names the first such key, and the closest valid key or the right place to set it.
    """
    _check_known("sft", "trl.SFTConfig", values, _field_names(_SFT_CLASSES))
    for key in values:
        if key in _RESERVED or key.startswith("hub_"):
            raise UserError(f"sft.{key}: cannot be set here: {_RESERVED.get(key, _RESERVED['push_to_hub'])}")


def check_lora_keys(values: Mapping[str, Any]) -> None:
    """Rejects keys that LoraConfig does not have.

    Raises:
        UserError: names the first such key and the closest valid key.
    """
    _check_known("lora", "peft.LoraConfig", values, _field_names(_LORA_CLASSES))


def _check_known(section: str, owner: str, values: Mapping[str, Any], valid: frozenset[str]) -> None:
    for key in values:
        if valid and key not in valid:
            raise UserError(f"{section}.{key}: unknown key of {owner}. {suggest(key, valid)}")


@cache
def _field_names(classes: Sequence[tuple[str, str, str]]) -> frozenset[str]:
    """Reads the annotated names from the bodies of dataclasses. Returns none if their package is not installed."""
    names: set[str] = set()
    for package, file, class_name in classes:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return frozenset()
        module = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name == class_name:
                fields = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
                names.update(field.id for field in fields if isinstance(field, ast.Name) and field.id[0] != "_")
    return frozenset(names)


def split_execution(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separates the keys that change the result from the keys that do not."""
    execution = {key: value for key, value in values.items() if _EXECUTION_KEYS.fullmatch(key)}
    return {key: value for key, value in values.items() if key not in execution}, execution


def read_numbers(values: Any) -> Any:
    """Converts strings like `2e-5` to numbers. YAML 1.1 only recognizes `2.0e-5`."""
    if isinstance(values, Mapping):
        return {key: read_numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [read_numbers(value) for value in values]
    return float(values) if isinstance(values, str) and _YAML_FLOAT.fullmatch(values) else values


def sft_config(values: Mapping[str, Any], folder: Path, seed: int, on_cpu: bool) -> SFTConfig:
    """Builds the trainer's config from `values` and the options that the stage sets.

    Raises:
        UserError: TRL rejects a value.
    """
    from trl.trainer.sft_config import SFTConfig

    fixed = {
        "output_dir": str(folder),
        "seed": seed,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": on_cpu,
        "logging_nan_inf_filter": False,  # True would log the loss of a diverged run as that of the step before, or as 0
    }
    try:
        config = SFTConfig(**{"save_total_limit": 2, **values, **fixed})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"sft: TRL rejects these values: {_first_line(error)}") from None
    if config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        # Otherwise FSDP keeps the whole gradient on every device, in bf16, between micro-steps.
        accelerator: Any = config.accelerator_config
        given = accelerator.gradient_accumulation_kwargs or {}
        accelerator.gradient_accumulation_kwargs = {"sync_each_batch": True, **given}
    return config


def lora_config(values: Mapping[str, Any]) -> LoraConfig:
    """Builds the LoRA config for a causal language model.

    Raises:
        UserError: PEFT rejects a value.
    """
    from peft import LoraConfig

    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **values})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"lora: PEFT rejects these values: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
