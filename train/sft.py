"""Supervised fine-tuning with TRL's SFTTrainer.

The loss covers only the solution's tokens.

    sft:
      run: train.sft
      inputs: {data: sft_data, model: init_model}   # or config: {model: {name_or_path: Qwen/Qwen2-7B}}
      config:
        sft: {learning_rate: 1.0e-5, num_train_epochs: 3, max_length: 2048, eos_token: <|im_end|>}
        validation: {problems: 64, every_steps: 200}
      execution: {launcher: [accelerate, launch, --config_file, configs/launch/fsdp2_8_gpus.yaml]}

`sft` is passed to trl.SFTConfig and `lora` to peft.LoraConfig unchanged. Keys that do not change the result (saving,
logging, data loading, sharding) are not part of the fingerprint. The artifact's `model/` holds the last weights with
tokenizer, chat template, generation config and a model card. With `validation`, `best/` holds the weights that solved the
most problems of a fixed slice. A killed run resumes from the last complete checkpoint, with the same losses as an
uninterrupted run. Training that diverges to NaN is an error, and its weights are not saved.
docs/training.md describes the checks, how to launch on several GPUs, and the choice of hyperparameters.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from personahub.core.errors import UserError
from personahub.core.files import write_json
from personahub.core.records import SFT, Row
from personahub.core.stage import Stage
from train.data.chat_format import ChatFormat
from train.data.tokens import TokenStats, load_tokens, write_tokens
from train.planning.forecast import forecast
from train.planning.limits import (
    check_disk_space,
    count_parameters,
    explain_full_disk,
    explain_out_of_memory,
    warn_if_gpu_too_small,
)
from train.planning.memory import shape_of_folder
from train.trainer.build import build_trainer, load_tokenizer
from train.trainer.checkpoints import last_complete_checkpoint, remove_partial_checkpoints
from train.trainer.config import Config
from train.trainer.environment import is_main_rank, silence_progress_bars, stay_offline
from train.trainer.model_files import (
    BEST,
    MODEL,
    consolidate_weights,
    greedy_generation,
    is_local,
    model_card,
    publish,
    remove,
    save_model,
)
from train.trainer.sections import sft_config

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

__all__ = ["INPUTS", "VERSION", "Config", "forecast", "run"]

VERSION = "1"
INPUTS = ("data", "model?")

_RESULTS = "train_results.json"


def run(stage: Stage[Config]) -> None:
    """Tokenizes, trains, saves the model and cleans up. Training starts at the last complete checkpoint."""
    base = _base_model(stage)
    _check_data(stage)
    if is_local(base):
        stay_offline()
    _require_packages(stage.config)
    silence_progress_bars()
    results = _finished_results(stage.path)
    if results is None:
        with explain_full_disk(stage.path), explain_out_of_memory(stage.config, base):
            results = _train(stage, base)
    stage.report(**results)
    if is_main_rank():
        shutil.rmtree(stage.path / "tokens", ignore_errors=True)
        if not stage.config.keep_checkpoints:
            shutil.rmtree(stage.path / "checkpoints", ignore_errors=True)


def _base_model(stage: Stage[Config]) -> str:
    """Returns the folder or hub name of the model to start from."""
    name = stage.config.model.name_or_path
    if "model" in stage.inputs:
        if name is not None:
            raise UserError(
                f"{stage.name}: both the input `model` and model.name_or_path name a base model; remove one"
            )
        name = str(stage.input("model").path / MODEL)
    if name is None:
        raise UserError(f"{stage.name}: no base model; add an input `model` or set model.name_or_path")
    if is_local(name):
        shape_of_folder(name)  # raises if there is no model
    return name


def _check_data(stage: Stage[Config]) -> None:
    """Rejects the artifact of a wrong stage. It would otherwise fail on some column after minutes."""
    data = stage.input("data")
    found = {name for shard in data.shard_names[:1] for name in pq.read_schema(data.path / f"{shard}.parquet").names}
    if missing := [name for name in ("prompt", "completion", "split") if name not in found]:
        raise UserError(
            f"{stage.name}: the input `data` is {data.path}, made by {data.manifest.module}, which lacks the columns "
            f"{', '.join(missing)}. Training needs the output of synth.sft_data (columns {', '.join(SFT.names[:4])}, ...)"
        )


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
        raise UserError("device is cuda, but torch finds no CUDA device; set device: auto to train on the CPU")


def _finished_results(folder: Path) -> dict[str, Any] | None:
    """Reads the results of a run that was killed between its model and its manifest."""
    try:
        return json.loads((folder / MODEL / _RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _train(stage: Stage[Config], base: str) -> dict[str, Any]:
    import torch

    from train.trainer.callbacks import StageLog
    from train.trainer.validation import validation_rows

    config = stage.config
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    args = sft_config({**config.sft, **config.sft_execution}, stage.path / "checkpoints", config.seed, on_cpu)
    tokenizer = load_tokenizer(base, config.model)
    validation = validation_rows(stage.input("data"), config.validation, config.seed)
    # The nodes share the folder, so one rank tokenizes. The others wait and map the same file.
    with args.main_process_first(local=False, desc="tokenizing"):
        dataset, stats = _tokens(stage, args, tokenizer, validation)
    trainer = _trainer(stage, base, args, tokenizer, dataset, stats, validation)
    if is_main_rank():
        remove_partial_checkpoints(stage.path / "checkpoints")
        check_disk_space(config, trainer, stage.path)
        warn_if_gpu_too_small(config, base)
    trainer.accelerator.wait_for_everyone()
    leak = _check_packing(trainer)
    checkpoint = last_complete_checkpoint(stage.path / "checkpoints")
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        log = trainer.pop_callback(StageLog)
        assert isinstance(log, StageLog)  # noqa: S101  (for the type checker)
        log.close()
    results = {**_results(stage, trainer, stats), **leak}
    _save(stage, trainer, tokenizer, base, results)
    trainer.accelerator.wait_for_everyone()
    return results


def _tokens(
    stage: Stage[Config], args: SFTConfig, tokenizer: PreTrainedTokenizerBase, validation: list[Row]
) -> tuple[Dataset, TokenStats]:
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
            left_out=frozenset(row["id"] for row in validation),
        )
        loaded = load_tokens(folder)
        assert loaded is not None  # noqa: S101  (it was just written)
    return loaded


def _trainer(
    stage: Stage[Config],
    base: str,
    args: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    stats: TokenStats,
    validation: list[Row],
) -> SFTTrainer:
    from train.trainer.callbacks import StageLog, Work, mean_context
    from train.trainer.validation import ValidationCallback

    config = stage.config
    shape = shape_of_folder(base) if is_local(base) else None
    shape = shape or _shape_of_hub_model(base, config)
    work = None
    if shape is not None:
        flops = shape.training_flops(1, mean_context(dataset), trains_all=config.lora is None)
        work = Work(flops, args.world_size, None if args.use_cpu else config.plan.peak_tflops * 1e12)
    log = StageLog(stage, work)
    callbacks: list[Any] = [log]
    if config.validation is not None:
        # Before the log, so that the token rate excludes the time of an evaluation.
        evaluation = ValidationCallback(
            stage,
            config.validation,
            validation,
            tokenizer,
            log,
            save_best=lambda entry: _save_best(stage, trainer, tokenizer, base, {**asdict(stats), **entry}),
        )
        callbacks.insert(0, evaluation)
    trainer = build_trainer(base, config.model, config.lora, args, tokenizer, dataset, callbacks)
    if config.validation is not None:
        callbacks[0].trainer = trainer
    return trainer


def _shape_of_hub_model(base: str, config: Config) -> Any:
    from transformers import AutoConfig

    from train.planning.memory import shape_of_config

    return shape_of_config(AutoConfig.from_pretrained(base, revision=config.model.revision).to_dict())


def _check_packing(trainer: SFTTrainer) -> dict[str, Any]:
    """Rejects packing that lets examples see one another. Sharded weights cannot be tested before training."""
    from train.data.packing import TOLERANCE, packing_leak

    args: Any = trainer.args
    if not args.packing or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return {}
    leak = packing_leak(trainer)
    if leak is None:
        return {}
    if leak.others > TOLERANCE:
        attention = getattr(trainer.model.config, "_attn_implementation", "unknown")  # type: ignore[union-attr]
        raise UserError(
            f"sft.packing: the {leak.examples} examples of a row see one another: changing a token of one changed the "
            f"log-probabilities of another by {leak.others:.2g} (packing_strategy={args.packing_strategy}, "
            f"attention {attention}). Use packing_strategy: bfd, another model.attn_implementation, or packing: false"
        )
    return {"packing_leak": leak.others}


def _results(stage: Stage[Config], trainer: SFTTrainer, stats: TokenStats) -> dict[str, Any]:
    from train.trainer.validation import best_evaluation, evaluations

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    results = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 4),
        "first_loss": round(losses[0], 5) if losses else None,
        "final_loss": round(sum(last) / len(last), 5) if losses else None,
        "parameters": count_parameters(trainer),
        "trained_parameters": count_parameters(trainer, trained=True),
        **asdict(stats),
    }
    if (best := best_evaluation(stage.path)) is not None:
        final = evaluations(stage.path)[trainer.state.global_step]
        results |= {"validation_problems": best["problems"], "validation_accuracy": final["accuracy"]}
        results |= {"best_validation_accuracy": best["accuracy"], "best_step": best["step"]}
    return results


def _save_best(
    stage: Stage[Config], trainer: SFTTrainer, tokenizer: PreTrainedTokenizerBase, base: str, results: dict[str, Any]
) -> None:
    """Saves the current weights as `best/`. After the last step they become `model/` instead."""
    if trainer.state.global_step < trainer.state.max_steps:
        _write_model(stage, trainer, tokenizer, base, results, BEST)


def _save(
    stage: Stage[Config],
    trainer: SFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    results: dict[str, Any],
) -> None:
    if is_main_rank() and results.get("best_step") == trainer.state.global_step:
        remove(stage.path / BEST)
        (stage.path / BEST).symlink_to(MODEL)
    _write_model(stage, trainer, tokenizer, base, results, MODEL)


def _write_model(
    stage: Stage[Config],
    trainer: SFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    results: dict[str, Any],
    name: str,
) -> None:
    """Writes full weights, tokenizer, generation config and card. Under LoRA, writes the adapter and merged model."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    # All ranks gather sharded weights together. Under ZeRO-3 the engine does it, not the model that it wraps.
    sharded = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    weights = trainer.accelerator.get_state_dict(sharded)
    if not is_main_rank():
        return
    dtype = stage.config.model.dtype
    eos = model.generation_config.eos_token_id
    eos = [eos] if isinstance(eos, int) else eos
    card = model_card(stage, base, results)

    def write(folder: Path) -> None:
        if stage.config.lora is None:
            complete, state = model, consolidate_weights(model, weights, dtype)
        else:
            model.save_pretrained(folder / "adapter", state_dict=weights)
            complete, state = _merged(folder / "adapter", base, stage.config), None
        complete.generation_config = greedy_generation(tokenizer, eos)
        save_model(folder, complete, tokenizer, card, state)
        complete.config.dtype = dtype  # dtype of the file; saving recorded that of the parameters
        complete.config.save_pretrained(folder)
        write_json(folder / _RESULTS, results)

    publish(stage.path, write, name)


def _merged(adapter: Path, base: str, config: Config) -> Any:
    """Merges base and adapter into a new model on the CPU. The model in training is not changed."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(
        base, revision=config.model.revision, dtype=getattr(torch, config.model.dtype)
    )
    return PeftModel.from_pretrained(merged, str(adapter)).merge_and_unload()
