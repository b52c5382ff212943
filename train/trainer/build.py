"""Builds TRL's SFTTrainer on tokenized data, for the stage and for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personahub.core.errors import UserError
from train.data.chat_format import fix_values
from train.trainer.config import ModelConfig
from train.trainer.sections import lora_config

if TYPE_CHECKING:
    from accelerate import FullyShardedDataParallelPlugin
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer


def load_tokenizer(base: str, config: ModelConfig) -> PreTrainedTokenizerBase:
    """Loads the base model's tokenizer, with the config's chat template if given.

    Raises:
        UserError: the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"{base}: cannot load the tokenizer: {str(error).splitlines()[0]}") from None
    if config.chat_template is not None:
        tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
    if config.chat_template_kwargs and tokenizer.chat_template:
        tokenizer.chat_template = fix_values(str(tokenizer.chat_template), config.chat_template_kwargs)
    return tokenizer


def build_trainer(
    base: str,
    model: ModelConfig,
    lora: Mapping[str, Any] | None,
    args: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    callbacks: Sequence[TrainerCallback] = (),
) -> SFTTrainer:
    """Builds a trainer for the model `base`.

    Args:
        dataset: rows of `input_ids` and `labels`, already truncated to `max_length`.

    Raises:
        UserError: the model cannot be loaded, or TRL rejects the combination of options.
    """
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    if not args.packing:
        args.max_length = None  # already truncated; TRL would copy the data set to do it again
    loading = {"dtype": model.dtype, "attn_implementation": model.attn_implementation, "revision": model.revision}
    args.model_init_kwargs = {key: value for key, value in loading.items() if value is not None}
    try:
        trainer = SFTTrainer(
            base,
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=None if lora is None else lora_config(lora),
            callbacks=list(callbacks),
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{base}: cannot build the trainer: {str(error).splitlines()[0]}") from None
    trainer.remove_callback(PrinterCallback)
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    if plugin is not None and plugin.fsdp_version == 2:
        reduce_in_float32(plugin)
    return trainer


def reduce_in_float32(plugin: FullyShardedDataParallelPlugin) -> None:
    """Makes FSDP2 reduce gradients and return losses in float32.

    Matrix products keep their dtype. accelerate uses the dtype of the products for all three. It reads the policy
    when it shards the model, which happens when training begins.
    """
    import torch

    policy: Any = plugin.mixed_precision_policy
    if policy is not None:
        policy = replace(policy, reduce_dtype=torch.float32, output_dtype=torch.float32)
        plugin.mixed_precision_policy = policy
