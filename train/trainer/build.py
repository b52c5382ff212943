"""TRL's SFTTrainer over tokens that are made already: the trainer of the stage, and of what measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personahub.core.errors import UserError
from train.trainer.config import ModelConfig
from train.trainer.sections import lora_config

if TYPE_CHECKING:
    from accelerate import FullyShardedDataParallelPlugin
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer


def load_tokenizer(base: str, config: ModelConfig) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with the chat template that the config names, if any.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"{base}: no tokenizer could be loaded: {str(error).splitlines()[0]}") from None
    if config.chat_template is not None:
        tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
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
    """A trainer of the model `base` on `dataset`, rows of `input_ids` and `labels` cut to `max_length` already.

    Raises:
        UserError: the model cannot be loaded, or TRL refuses the combination.
    """
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    if not args.packing:
        args.max_length = None  # the tokens are cut already; TRL would copy the data set to cut them again
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
        raise UserError(f"{base}: no trainer could be built: {str(error).splitlines()[0]}") from None
    trainer.remove_callback(PrinterCallback)
    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    if plugin is not None and plugin.fsdp_version == 2:
        reduce_in_float32(plugin)
    return trainer


def reduce_in_float32(plugin: FullyShardedDataParallelPlugin) -> None:
    """Have FSDP2 sum gradients over devices, and hand out losses, in float32; products stay as they are.

    accelerate takes the dtype of the products for all three. It reads the policy as it shards the
    model, which the trainer has it do when training begins.
    """
    import torch

    policy: Any = plugin.mixed_precision_policy
    if policy is not None:
        policy = replace(policy, reduce_dtype=torch.float32, output_dtype=torch.float32)
        plugin.mixed_precision_policy = policy
