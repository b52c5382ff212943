"""Supervised fine-tuning with TRL's SFTTrainer, on the solution's tokens alone.

    sft:
      run: train.sft
      inputs: {data: sft_data, model: init_model}   # or config: {model: {name_or_path: Qwen/Qwen2-7B}}
      config:
        sft: {learning_rate: 1.0e-5, num_train_epochs: 3, max_length: 2048, eos_token: <|im_end|>}

`sft` goes to trl.SFTConfig and `lora` to peft.LoraConfig untouched; keys that say only how fast or
how often (saving, logging, data loading, sharding) are left out of the fingerprint. The artifact's
`model/` holds weights, tokenizer, chat template, generation config and a model card. A run that was
killed goes on from the last whole checkpoint; from there its losses are those of an undisturbed run
(the mean that is logged is the same, too, where `save_steps` is a multiple of `logging_steps`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.artifact import write_json
from personahub.core.config import EXECUTION, ContentPath, FrozenModel, ModelName, StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.stage import Stage
from train.chat_format import ChatFormat
from train.checkpoints import last_whole_checkpoint, remove_partial_checkpoints
from train.environment import is_main_rank, silence_progress_bars, stay_offline
from train.memory import ModelShape, TrainingSetup, known_shape, plan_memory, shape_of_folder
from train.model_files import MODEL, greedy_generation, model_card, publish, save_model
from train.tokens import TokenStats, load_tokens, write_tokens
from train.trainer_config import check_lora_keys, check_sft_keys, lora_config, read_numbers, sft_config, split_execution

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

VERSION = "1"
INPUTS = ("data", "model?")

_RESULTS = "train_results.json"


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


class Config(StageConfig):
    """See the module's docstring."""

    model: ModelConfig = ModelConfig()
    sft: dict[str, Any] = Field(default_factory=dict, description="Keys of trl.SFTConfig.")
    sft_execution: Annotated[dict[str, Any], EXECUTION] = Field(
        default_factory=dict, description="Filled from `sft`: its keys that do not change the result."
    )
    lora: dict[str, Any] | None = Field(default=None, description="Keys of peft.LoraConfig; null trains all weights.")
    max_train_examples: int | None = Field(default=None, gt=0, description="A nested, seeded subset of the data.")
    max_truncated_share: float = Field(default=0.01, ge=0, le=1, description="Refuse to cut more examples than this.")
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


def run(stage: Stage[Config]) -> None:
    """Tokenize, train from the last whole checkpoint, save the model, remove what only resuming needs."""
    base = _base_model(stage)
    if _is_local(base):
        stay_offline()
    _require_packages(stage.config)
    silence_progress_bars()
    results = _finished_results(stage.path)
    if results is None:
        results = _train(stage, base)
    stage.report(**results)
    if is_main_rank():
        shutil.rmtree(stage.path / "tokens", ignore_errors=True)
        if not stage.config.keep_checkpoints:
            shutil.rmtree(stage.path / "checkpoints", ignore_errors=True)


def _base_model(stage: Stage[Config]) -> str:
    """Folder or hub name of the model to start from."""
    name = stage.config.model.name_or_path
    if "model" in stage.inputs:
        if name is not None:
            raise UserError(f"{stage.name}: has an input `model` and names another in model.name_or_path; remove one")
        name = str(stage.input("model").path / MODEL)
    if name is None:
        raise UserError(f"{stage.name}: no base model: give it an input `model`, or set model.name_or_path")
    if _is_local(name):
        shape_of_folder(name)  # raises where there is no model
    return name


def _is_local(name: str) -> bool:
    """Whether a name is a folder, or can be nothing else: the hub's are `owner/name`."""
    return Path(name).is_dir() or name.startswith(("/", ".", "~")) or name.count("/") > 1


def _require_packages(config: Config) -> None:
    try:
        import torch
        import trl  # noqa: F401

        if config.lora is not None:
            import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"training needs the package {error.name!r}: pip install 'persona-hub-harness[train]'"
        ) from None
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but torch sees no CUDA device here; set device: auto to train on the CPU")


def _finished_results(folder: Path) -> dict[str, Any] | None:
    """Results of a run that saved its model and was killed before its manifest."""
    try:
        return json.loads((folder / MODEL / _RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _train(stage: Stage[Config], base: str) -> dict[str, Any]:
    import torch

    config = stage.config
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    args = sft_config({**config.sft, **config.sft_execution}, stage.path / "checkpoints", config.seed, on_cpu)
    tokenizer = _load_tokenizer(base, config.model)
    # One rank tokenizes, the others wait for it and map the same file.
    with args.main_process_first(desc="tokenizing"):
        dataset, stats = _tokens(stage, args, tokenizer)
    trainer = _build_trainer(stage, base, args, tokenizer, dataset)
    if is_main_rank():
        remove_partial_checkpoints(stage.path / "checkpoints")
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_whole_checkpoint(stage.path / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    results = _results(trainer, stats)
    _save(stage, trainer, tokenizer, base, results)
    trainer.accelerator.wait_for_everyone()
    return results


def _load_tokenizer(base: str, config: ModelConfig) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"{base}: no tokenizer could be loaded: {str(error).splitlines()[0]}") from None
    if config.chat_template is not None:
        tokenizer.chat_template = Path(config.chat_template).read_text(encoding="utf-8")
    return tokenizer


def _tokens(stage: Stage[Config], args: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, TokenStats]:
    folder = stage.path / "tokens"
    loaded = load_tokens(folder)
    if loaded is None:
        write_tokens(
            folder,
            stage.input("data"),
            ChatFormat(tokenizer, args.eos_token or str(tokenizer.eos_token)),
            max_length=args.max_length,
            max_truncated_share=stage.config.max_truncated_share,
            max_examples=stage.config.max_train_examples,
            seed=stage.config.seed,
        )
        loaded = load_tokens(folder)
        assert loaded is not None  # noqa: S101  (it was just written)
    return loaded


def _build_trainer(
    stage: Stage[Config], base: str, args: SFTConfig, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> SFTTrainer:
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    from train.callbacks import StageLog

    config = stage.config
    if not args.packing:
        args.max_length = None  # the tokens are cut already; TRL would copy the data set to cut them again
    loading = {
        "dtype": config.model.dtype,
        "attn_implementation": config.model.attn_implementation,
        "revision": config.model.revision,
    }
    args.model_init_kwargs = {key: value for key, value in loading.items() if value is not None}
    try:
        trainer = SFTTrainer(
            base,
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=None if config.lora is None else lora_config(config.lora),
            callbacks=[StageLog(stage)],
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{base}: no trainer could be built: {str(error).splitlines()[0]}") from None
    trainer.remove_callback(PrinterCallback)
    return trainer


def _results(trainer: SFTTrainer, stats: TokenStats) -> dict[str, Any]:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    assert trainer.model is not None  # noqa: S101
    parameters = list(trainer.model.parameters())
    return {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 4),
        "first_loss": round(losses[0], 5) if losses else None,
        "final_loss": round(sum(last) / len(last), 5) if losses else None,
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        **asdict(stats),
    }


def _save(
    stage: Stage[Config],
    trainer: SFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    results: dict[str, Any],
) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = trainer.accelerator.get_state_dict(trainer.model)  # sharded ones are gathered by all ranks together
    if not is_main_rank():
        return
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    card = model_card(stage, base, results)

    def write(folder: Path) -> None:
        if stage.config.lora is None:
            whole, state = model, weights
        else:
            model.save_pretrained(folder / "adapter")
            whole, state = model.merge_and_unload(), None
        whole.generation_config = greedy_generation(tokenizer, ends)
        save_model(folder, whole, tokenizer, card, state)
        write_json(folder / _RESULTS, results)

    publish(stage.path, write)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Tokens, FLOPs, GPU-hours and memory, from the model's shape and what `plan` supposes.

    `rows_in["data"]` counts both splits, so the forecast is an upper bound.
    """
    shape = _known_shape(config.model)
    examples = min(rows_in["data"], config.max_train_examples or rows_in["data"])
    tokens = _planned_tokens(config, examples)
    if shape is None:
        note = f"about {tokens:.3g} tokens; the base model's size is not known yet, so neither are GPU-hours and memory"
        return Forecast(rows_out=0, notes=(note,))
    plan = config.plan
    flops = shape.training_flops(tokens, plan.tokens_per_example, trains_all=config.lora is None)
    hours = flops / (plan.mfu * plan.peak_tflops * 1e12) / 3600
    notes = (
        f"{tokens:.3g} tokens of {shape.parameters / 1e9:.2f}B parameters = {flops:.3g} FLOPs, {hours:,.1f} GPU-hours "
        f"at {plan.mfu:.0%} of {plan.peak_tflops:g} TFLOP/s ({hours / plan.gpus:,.1f} h on {plan.gpus} GPUs)",
        _memory_note(config, shape),
    )
    saved = (config.sft_execution.get("save_total_limit", 2) + 1) * 12 * shape.parameters
    return Forecast(rows_out=0, gpu_hours=hours, disk_bytes=saved, notes=notes)


def _known_shape(config: ModelConfig) -> ModelShape | None:
    if config.name_or_path is None:
        return None
    return shape_of_folder(config.name_or_path) if _is_local(config.name_or_path) else known_shape(config.name_or_path)


def _planned_tokens(config: Config, examples: int) -> float:
    if config.sft.get("max_steps", 0) > 0:
        batch = config.sft.get("per_device_train_batch_size", 8) * config.sft.get("gradient_accumulation_steps", 1)
        examples = config.sft["max_steps"] * batch * config.plan.gpus
        return examples * config.plan.tokens_per_example
    return examples * config.plan.tokens_per_example * config.sft.get("num_train_epochs", 3)


def _memory_note(config: Config, shape: ModelShape) -> str:
    try:
        return f"memory: {plan_memory(shape, _setup(config, shape))}"
    except UserError as error:
        return f"memory unknown: {error}"


def _setup(config: Config, shape: ModelShape) -> TrainingSetup:
    sft = {**config.sft, **config.sft_execution}
    rank = (config.lora or {}).get("r", 8)
    length = sft.get("max_length", 1024) if sft.get("packing") else config.plan.tokens_per_example
    return TrainingSetup(
        weights=config.model.dtype,
        optimizer=sft.get("optim", "adamw_torch_fused"),
        tokens_per_device=round(sft.get("per_device_train_batch_size", 8) * length),
        checkpointing=sft.get("gradient_checkpointing", True),
        shards=config.plan.gpus,
        trained_parameters=None if config.lora is None else shape.adapter_parameters(rank),
    )
