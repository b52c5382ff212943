"""Configuration of train.sft: base model, TRL, LoRA, validation and plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.config import EXECUTION, UNLESS_DEFAULT, ContentPath, FrozenModel, ModelName, StageConfig
from train.trainer.sections import check_lora_keys, check_sft_keys, read_numbers, split_execution


class ModelConfig(FrozenModel):
    """Base model, and how to load it."""

    name_or_path: ModelName | None = Field(
        default=None, description="Name on the hub, or folder of a saved model; null uses the input `model`."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Dtype of the weights. float32 computes in bf16 under autocast and updates exactly.",
    )
    attn_implementation: Annotated[str | None, EXECUTION] = Field(
        default=None, description="sdpa, flash_attention_2, eager, ...; null lets transformers decide."
    )
    chat_template: ContentPath | None = Field(
        default=None, description="Jinja file for a base model whose tokenizer has no chat template."
    )
    chat_template_kwargs: Annotated[dict[str, Any], UNLESS_DEFAULT] = Field(
        default_factory=dict,
        description="Values that are set in the chat template and saved with the model, such as {enable_thinking: false} or "
        "{date_string: 26 Jul 2024}.",
    )


class Plan(FrozenModel):
    """Assumptions of `personahub plan`."""

    tokens_per_example: float = Field(default=700, gt=0, description="Average length of prompt and solution together.")
    peak_tflops: float = Field(
        default=790, gt=0, description="Dense bf16 rate of one GPU; 790 was measured on an H200."
    )
    mfu: float = Field(default=0.4, gt=0, le=1, description="Share of the peak rate that training reaches.")
    gpus: int = Field(default=1, gt=0, description="Devices that share weights, gradients and optimizer.")
    memory_gb: float = Field(default=141, gt=0, description="Memory of one GPU; an H200 has 141.")


class Validation(FrozenModel):
    """Held-out training problems that the model solves greedily at intervals.

    They determine which weights are kept as `best/`, so they must not come from the test split.
    """

    problems: int = Field(default=64, gt=0, description="Number of problems, chosen by the seed and never trained on.")
    every_steps: int = Field(
        default=200, gt=0, description="Optimizer steps between evaluations. There is always one after the last step."
    )
    max_new_tokens: int = Field(default=512, gt=0, description="Longer solutions count as wrong.")
    batch_size: Annotated[int, EXECUTION] = Field(default=64, gt=0, description="Problems per device and batch.")
    samples: Annotated[int, EXECUTION] = Field(default=8, ge=0, description="Rows in the table of samples.")


class Config(StageConfig):
    """Configuration of the stage train.sft."""

    model: ModelConfig = ModelConfig()
    sft: dict[str, Any] = Field(default_factory=dict, description="Keys of trl.SFTConfig.")
    sft_execution: Annotated[dict[str, Any], EXECUTION] = Field(
        default_factory=dict, description="The keys of `sft` that do not change the result; filled automatically."
    )
    lora: dict[str, Any] | None = Field(default=None, description="Keys of peft.LoraConfig; null trains all weights.")
    max_train_examples: int | None = Field(
        default=None,
        gt=0,
        description="Train on a seeded subset of this size. Smaller subsets are part of larger ones.",
    )
    max_truncated_share: float = Field(
        default=0.01, ge=0, le=1, description="Fail if `max_length` truncates a larger share of the examples."
    )
    validation: Validation | None = Field(default=None, description="Measure accuracy during training; null for never.")
    device: Annotated[Literal["auto", "cuda", "cpu"], EXECUTION] = "auto"
    keep_checkpoints: Annotated[bool, EXECUTION] = False
    plan: Annotated[Plan, EXECUTION] = Plan()

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("sft", {}), Mapping):
            return values  # pydantic reports the error
        sft, execution = split_execution(read_numbers({**values.get("sft_execution", {}), **values.get("sft", {})}))
        check_sft_keys({**sft, **execution})
        checked = {**values, "sft": sft, "sft_execution": execution}
        if isinstance(values.get("lora"), Mapping):
            check_lora_keys(values["lora"])
            checked["lora"] = read_numbers(values["lora"])
        return checked
