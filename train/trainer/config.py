"""What the YAML says of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.config import EXECUTION, ContentPath, FrozenModel, ModelName, StageConfig
from train.trainer.sections import check_lora_keys, check_sft_keys, read_numbers, split_execution


class ModelConfig(FrozenModel):
    """The base model and how it is loaded."""

    name_or_path: ModelName | None = Field(
        default=None, description="Name on the hub, or folder of a saved model; null: the input `model`."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of the weights. float32 computes in bf16 under autocast and updates exactly."
    )
    attn_implementation: Annotated[str | None, EXECUTION] = Field(
        default=None, description="sdpa, flash_attention_2, eager, ...; null: transformers decides."
    )
    chat_template: ContentPath | None = Field(
        default=None, description="Jinja file for a base model whose tokenizer has no chat template."
    )


class Plan(FrozenModel):
    """What `personahub plan` supposes."""

    tokens_per_example: float = Field(default=700, gt=0, description="Average, prompt and solution together.")
    peak_tflops: float = Field(default=790, gt=0, description="Dense bf16 rate of one GPU; 790 measured on an H200.")
    mfu: float = Field(default=0.4, gt=0, le=1, description="Share of the peak that training reaches.")
    gpus: int = Field(default=1, gt=0, description="Devices that share weights, gradients and optimizer.")
    memory_gb: float = Field(default=141, gt=0, description="Of one GPU; 141 is an H200's.")


class Validation(FrozenModel):
    """Problems taken out of the training split, solved greedily now and then while the model trains.

    They choose which weights are kept as `best/`, so they are none of the test's.
    """

    problems: int = Field(default=64, gt=0, description="How many; drawn by the seed, and never trained on.")
    every_steps: int = Field(
        default=200, gt=0, description="Optimizer steps between two evaluations; the last step has one."
    )
    max_new_tokens: int = Field(default=512, gt=0, description="Longer solutions count as wrong.")
    batch_size: Annotated[int, EXECUTION] = Field(
        default=64, gt=0, description="Problems solved at a time, per device."
    )
    samples: Annotated[int, EXECUTION] = Field(default=8, ge=0, description="Rows of the table of samples.")


class Config(StageConfig):
    """Of the stage train.sft."""

    model: ModelConfig = ModelConfig()
    sft: dict[str, Any] = Field(default_factory=dict, description="Keys of trl.SFTConfig.")
    sft_execution: Annotated[dict[str, Any], EXECUTION] = Field(
        default_factory=dict, description="Filled from `sft`: its keys that do not change the result."
    )
    lora: dict[str, Any] | None = Field(default=None, description="Keys of peft.LoraConfig; null trains all weights.")
    max_train_examples: int | None = Field(default=None, gt=0, description="A nested, seeded subset of the data.")
    max_truncated_share: float = Field(default=0.01, ge=0, le=1, description="Refuse to cut more examples than this.")
    validation: Validation | None = Field(default=None, description="Accuracy while training; null: none.")
    device: Annotated[Literal["auto", "cuda", "cpu"], EXECUTION] = "auto"
    keep_checkpoints: Annotated[bool, EXECUTION] = False
    plan: Annotated[Plan, EXECUTION] = Plan()

    @model_validator(mode="before")
    @classmethod
    def _checked_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("sft", {}), Mapping):
            return values  # pydantic says what is wrong
        sft, execution = split_execution(read_numbers({**values.get("sft_execution", {}), **values.get("sft", {})}))
        check_sft_keys({**sft, **execution})
        checked = {**values, "sft": sft, "sft_execution": execution}
        if isinstance(values.get("lora"), Mapping):
            check_lora_keys(values["lora"])
            checked["lora"] = read_numbers(values["lora"])
        return checked
