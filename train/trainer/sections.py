"""The `sft:` and `lora:` sections: handed to trl.SFTConfig and peft.LoraConfig as they are.

Their keys are checked when an experiment is planned, long before a trainer exists, and without
importing TRL, which takes seconds: the names are read from the source of the config classes.
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

# (package, file in it, class): a config class and those it inherits its fields from
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

# Keys of SFTConfig that are decided elsewhere, and where.
_RESERVED = {
    "output_dir": "checkpoints lie in the artifact's folder",
    "seed": "set the stage's `seed`",
    "report_to": "metrics go where the experiment's `tracking` says",
    "run_name": "the run is named after experiment and stage",
    "disable_tqdm": "the stage shows its own progress",
    "resume_from_checkpoint": "a run resumes from its last whole checkpoint by itself",
    "save_only_model": "a checkpoint without the optimizer cannot be resumed",
    "use_cpu": "set `device: cpu`",
    "dataset_text_field": "training data is the prompts and completions of the input `data`",
    "dataset_kwargs": "training data is prepared by the stage",
    "chat_template_path": "set `model.chat_template`",
    "model_init_kwargs": "set the keys of `model`",
    "trust_remote_code": "code from a model's repository is not run",
    "completion_only_loss": "the loss is always on the completion alone",
    "assistant_only_loss": "the loss is always on the completion alone",
    "truncation_mode": "an example that is too long keeps its start",
    "logging_nan_inf_filter": "a loss that is not finite ends the training",
    "push_to_hub": "publish the finished `model/` folder yourself",
}

# Keys that say how fast, where, or what is printed, and not what comes out.
_EXECUTION_KEYS = re.compile(
    r"log_level.*|log_on_each_node|logging_.*|save_strategy|save_steps|save_total_limit|save_on_each_node|"
    r"dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor|multiprocessing_context)|"
    r"dataset_num_proc|gradient_checkpointing.*|activation_offloading|ddp_.*|fsdp.*|deepspeed|"
    r"torch_compile.*|torch_empty_cache_steps|debug|skip_memory_metrics"
)

_YAML_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def check_sft_keys(values: Mapping[str, Any]) -> None:
    """Refuse keys that SFTConfig does not know, or that the stage decides itself.

    Raises:
        UserError: the first such key, with the nearest valid one or the place to set it.
    """
    _check("sft", "trl.SFTConfig", values, _field_names(_SFT_CLASSES))
    for key in values:
        if key in _RESERVED or key.startswith("hub_"):
            raise UserError(f"sft.{key}: cannot be set here: {_RESERVED.get(key, _RESERVED['push_to_hub'])}")


def check_lora_keys(values: Mapping[str, Any]) -> None:
    """Refuse keys that LoraConfig does not know.

    Raises:
        UserError: the first such key, with the nearest valid one.
    """
    _check("lora", "peft.LoraConfig", values, _field_names(_LORA_CLASSES))


def _check(section: str, owner: str, values: Mapping[str, Any], valid: frozenset[str]) -> None:
    for key in values:
        if valid and key not in valid:
            raise UserError(f"{section}.{key}: unknown key of {owner}. {suggest(key, valid)}")


@cache
def _field_names(classes: Sequence[tuple[str, str, str]]) -> frozenset[str]:
    """Annotated names in the bodies of dataclasses; empty where their package is not installed."""
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
    """Keys that decide the result, and keys that do not."""
    execution = {key: value for key, value in values.items() if _EXECUTION_KEYS.fullmatch(key)}
    return {key: value for key, value in values.items() if key not in execution}, execution


def read_numbers(values: Any) -> Any:
    """Strings like `2e-5` as the numbers they are: YAML 1.1 takes only `2.0e-5` for a number."""
    if isinstance(values, Mapping):
        return {key: read_numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [read_numbers(value) for value in values]
    return float(values) if isinstance(values, str) and _YAML_FLOAT.fullmatch(values) else values


def sft_config(values: Mapping[str, Any], folder: Path, seed: int, on_cpu: bool) -> SFTConfig:
    """The trainer's config: `values`, and what the stage decides.

    Raises:
        UserError: TRL refuses a value.
    """
    from trl.trainer.sft_config import SFTConfig

    ours = {
        "output_dir": str(folder),
        "seed": seed,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": on_cpu,
        "logging_nan_inf_filter": False,  # it would log a diverged training's loss as that of the step before, or 0
    }
    try:
        config = SFTConfig(**{"save_total_limit": 2, **values, **ours})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"sft: TRL refuses these values: {_first_line(error)}") from None
    if config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        # Else FSDP keeps the whole gradient on every device, in bf16, from one micro-step to the next.
        accelerator: Any = config.accelerator_config
        given = accelerator.gradient_accumulation_kwargs or {}
        accelerator.gradient_accumulation_kwargs = {"sync_each_batch": True, **given}
    return config


def lora_config(values: Mapping[str, Any]) -> LoraConfig:
    """LoRA's config for a causal language model.

    Raises:
        UserError: PEFT refuses a value.
    """
    from peft import LoraConfig

    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **values})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"lora: PEFT refuses these values: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
