"""Supervised fine-tuning with TRL's SFTTrainer, on the solution's tokens alone.

    sft:
      run: train.sft
      inputs: {data: sft_data, model: init_model}   # or config: {model: {name_or_path: Qwen/Qwen2-7B}}
      config:
        sft: {learning_rate: 1.0e-5, num_train_epochs: 3, max_length: 2048, eos_token: <|im_end|>}
        validation: {problems: 64, every_steps: 200}
      execution: {launcher: [accelerate, launch, --config_file, configs/launch/fsdp2_8_gpus.yaml]}

`sft` goes to trl.SFTConfig and `lora` to peft.LoraConfig untouched; keys that say only how fast or
how often (saving, logging, data loading, sharding) are left out of the fingerprint. The artifact's
`model/` holds the last weights with tokenizer, chat template, generation config and a model card;
with `validation`, `best/` holds those that solved most of a fixed slice of problems. A run that was
killed goes on from the last whole checkpoint; from there its losses are those of an undisturbed run.
A training that diverges to NaN is an error, before anything of it is saved.
docs/training.md says what is checked, how to launch on more GPUs, and why which hyperparameters.
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
    explain_full_disk,
    explain_out_of_memory,
    parameters,
    refuse_full_disk,
    warn_of_small_gpu,
)
from train.planning.memory import shape_of_folder
from train.trainer.build import build_trainer, load_tokenizer
from train.trainer.checkpoints import last_whole_checkpoint, remove_partial_checkpoints
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
    """Tokenize, train from the last whole checkpoint, save the model, remove what only resuming needs."""
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
    """Folder or hub name of the model to start from."""
    name = stage.config.model.name_or_path
    if "model" in stage.inputs:
        if name is not None:
            raise UserError(f"{stage.name}: has an input `model` and names another in model.name_or_path; remove one")
        name = str(stage.input("model").path / MODEL)
    if name is None:
        raise UserError(f"{stage.name}: no base model: give it an input `model`, or set model.name_or_path")
    if is_local(name):
        shape_of_folder(name)  # raises where there is no model
    return name


def _check_data(stage: Stage[Config]) -> None:
    """Another stage's artifact fits no trainer, and would fail on some column after minutes."""
    data = stage.input("data")
    found = {name for shard in data.shard_names[:1] for name in pq.read_schema(data.path / f"{shard}.parquet").names}
    if lacking := [name for name in ("prompt", "completion", "split") if name not in found]:
        raise UserError(
            f"{stage.name}: the input `data` is {data.path}, made by {data.manifest.module}: it has no "
            f"{', '.join(lacking)}. Training takes what synth.sft_data makes (columns {', '.join(SFT.names[:4])}, ...)"
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
        raise UserError("device: cuda, but torch sees no CUDA device here; set device: auto to train on the CPU")


def _finished_results(folder: Path) -> dict[str, Any] | None:
    """Results of a run that saved its model and was killed before its manifest."""
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
    # One rank of all nodes tokenizes, for they share the folder; the others wait and map the same file.
    with args.main_process_first(local=False, desc="tokenizing"):
        dataset, stats = _tokens(stage, args, tokenizer, validation)
    trainer = _trainer(stage, base, args, tokenizer, dataset, stats, validation)
    if is_main_rank():
        remove_partial_checkpoints(stage.path / "checkpoints")
        refuse_full_disk(config, trainer, stage.path)
        warn_of_small_gpu(config, base)
    trainer.accelerator.wait_for_everyone()
    leak = _refuse_leaks(trainer)
    checkpoint = last_whole_checkpoint(stage.path / "checkpoints")
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
        # Before the log, so that the step's rate does not count the time that an evaluation takes.
        checks = ValidationCallback(
            stage,
            config.validation,
            validation,
            tokenizer,
            log,
            save_best=lambda entry: _save_best(stage, trainer, tokenizer, base, {**asdict(stats), **entry}),
        )
        callbacks.insert(0, checks)
    trainer = build_trainer(base, config.model, config.lora, args, tokenizer, dataset, callbacks)
    if config.validation is not None:
        callbacks[0].trainer = trainer
    return trainer


def _shape_of_hub_model(base: str, config: Config) -> Any:
    from transformers import AutoConfig

    from train.planning.memory import shape_of_config

    return shape_of_config(AutoConfig.from_pretrained(base, revision=config.model.revision).to_dict())


def _refuse_leaks(trainer: SFTTrainer) -> dict[str, Any]:
    """Perturb a packed row under this run's attention; sharded weights are not whole before training begins."""
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
            f"sft.packing: {leak.examples} examples share a row and see one another: a token changed in one moved the "
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
        "parameters": parameters(trainer),
        "trained_parameters": parameters(trainer, trained=True),
        **asdict(stats),
    }
    if (best := best_evaluation(stage.path)) is not None:
        last_one = evaluations(stage.path)[trainer.state.global_step]
        results |= {"validation_problems": best["problems"], "validation_accuracy": last_one["accuracy"]}
        results |= {"best_validation_accuracy": best["accuracy"], "best_step": best["step"]}
    return results


def _save_best(
    stage: Stage[Config], trainer: SFTTrainer, tokenizer: PreTrainedTokenizerBase, base: str, results: dict[str, Any]
) -> None:
    """These weights as `best/`; the last step's are saved as `model/` in a moment anyway."""
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
    """Whole weights, tokenizer, generation config and card. Under LoRA the adapter, and its sum with the base."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    # All ranks gather sharded weights together; ZeRO-3's engine does it, which is not the model that it wraps.
    sharded = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    weights = trainer.accelerator.get_state_dict(sharded)
    if not is_main_rank():
        return
    dtype = stage.config.model.dtype
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    card = model_card(stage, base, results)

    def write(folder: Path) -> None:
        if stage.config.lora is None:
            whole, state = model, consolidate_weights(model, weights, dtype)
        else:
            model.save_pretrained(folder / "adapter", state_dict=weights)
            whole, state = _merged(folder / "adapter", base, stage.config), None
        whole.generation_config = greedy_generation(tokenizer, ends)
        save_model(folder, whole, tokenizer, card, state)
        whole.config.dtype = dtype  # of the file; saving named that of the parameters
        whole.config.save_pretrained(folder)
        write_json(folder / _RESULTS, results)

    publish(stage.path, write, name)


def _merged(adapter: Path, base: str, config: Config) -> Any:
    """Base and adapter as one model, on the CPU: what is being trained stays as it is."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(
        base, revision=config.model.revision, dtype=getattr(torch, config.model.dtype)
    )
    return PeftModel.from_pretrained(whole, str(adapter)).merge_and_unload()
