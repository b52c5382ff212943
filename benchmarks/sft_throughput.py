"""Measure training speed: TRL's defaults, our config, and every step between them, on one model and data set.

    python -m benchmarks.sft_throughput                  # tiny shape; CPU or GPU
    python -m benchmarks.sft_throughput --shape 7b       # Qwen2-7B's shape on one GPU: full fine-tune and LoRA

Weights and tokens are random, because speed depends only on shapes and lengths. Lengths are log-normal
around the paper's (see `sft_model.solution_lengths`). Needs the repository, torch, transformers, trl, peft
and accelerate. bitsandbytes and flash-attn are used if installed; otherwise the rows that need them are
left out.

Every row changes one more thing than the row above it unless it says otherwise. Each runs in a separate
process, `--rounds` times in turn; the best counts. The table prints tokens without padding per second (on a
CPU, per CPU-second, because wall time depends on other work); the ratio to TRL's defaults; padding; MFU,
which is model FLOPs over the bf16 matrix rate measured at the start of the same run
(`train.trainer.callbacks.Work.mfu`); the peak memory and the planned memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.sft_model import SHAPES, check_device, make_model, make_tokens, solution_lengths
from train.planning.forecast import training_setup
from train.planning.memory import plan_memory
from train.trainer.config import Config

LENGTHS = {"tiny": 256, "small": 256, "7b": 2048}
WARM_UP = 2  # steps that do not count: allocation, compilation, the optimizer's state


@dataclass(frozen=True)
class Variant:
    """One row: its changes, and what it needs."""

    name: str
    sft: dict[str, Any]
    model: dict[str, Any]
    lora: dict[str, Any] | None = None
    fused_head: bool = True
    needs: str | None = None


def variants(on_gpu: bool, shape: str) -> list[Variant]:
    """Return the steps from TRL's defaults to our config, then variants of it."""
    defaults = Variant("TRL's defaults", {}, {})
    packed = replace(defaults, name="+ packing", sft={"packing": True, "per_device_train_batch_size": 4})
    rows = [
        replace(defaults, name="TRL's defaults without the fused head", fused_head=False),
        defaults,
        packed,
    ]
    ours = packed
    if on_gpu:
        flash = {"attn_implementation": "flash_attention_2"}
        rows.append(replace(packed, name="+ flex attention", model={"attn_implementation": "flex_attention"}))
        rows.append(replace(packed, name="+ flash attention instead", model=flash, needs="flash_attn"))
        ours = rows[-1] if importlib.util.find_spec("flash_attn") else rows[-2]
        eight_bit = {**ours.sft, "optim": "adamw_bnb_8bit"}
        rows.append(replace(ours, name="+ 8-bit AdamW", sft=eight_bit, needs="bitsandbytes"))
        if importlib.util.find_spec("bitsandbytes"):
            ours = rows[-1]
    free = replace(ours, name="+ no activation checkpointing", sft={**ours.sft, "gradient_checkpointing": False})
    rows.append(free)
    lora = {"r": 64, "lora_alpha": 32, "target_modules": "all-linear"}
    half = {**ours.model, "dtype": "bfloat16"}
    rows.append(replace(ours, name="LoRA r=64, bf16 weights, checkpointing", model=half, lora=lora))
    eager = {**packed.model, "attn_implementation": "eager"}
    rows.append(replace(packed, name="packing with eager attention", model=eager))
    if shape == "7b":  # 8192 x 8192 scores of 28 heads
        rows.pop()
    return [row for row in rows if row.needs is None or importlib.util.find_spec(row.needs)]


def config_of(variant: Variant, shape: str, steps: int) -> Config:
    """Return the stage's config for a row."""
    sft = {"max_length": LENGTHS[shape], "max_steps": WARM_UP + steps, "save_strategy": "no", **variant.sft}
    mean = 700 * LENGTHS[shape] / 2048
    return Config.model_validate(
        {"sft": sft, "model": variant.model, "lora": variant.lora, "plan": {"tokens_per_example": mean}}
    )


def measure(variant: Variant, shape: str, steps: int) -> dict[str, Any]:
    """Train for some steps in this process."""
    from train.trainer.build import build_trainer, load_tokenizer
    from train.trainer.callbacks import mean_context, peak_memory_gb
    from train.trainer.sections import sft_config

    config = config_of(variant, shape, steps)
    on_cpu = not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        base = make_model(Path(folder) / "model", shape, weights=True)
        values = {**config.sft, **config.sft_execution}
        args = sft_config(values, Path(folder) / "out", 0, on_cpu)
        rows = (WARM_UP + steps) * args.per_device_train_batch_size
        dataset = make_tokens(solution_lengths(4 * rows, LENGTHS[shape]), SHAPES[shape].vocab_size)
        context = mean_context(dataset)
        clock = _Clock()
        tokenizer = load_tokenizer(str(base), config.model)
        trainer = build_trainer(str(base), config.model, config.lora, args, tokenizer, dataset, [clock.callback()])
        clock.count(trainer)
        if not variant.fused_head:
            _use_all_logits(trainer)
        before = 0.0 if on_cpu else torch.cuda.memory_allocated() / 1e9
        trainer.train()
    seconds = clock.cpu_seconds if on_cpu else clock.seconds
    flops = SHAPES[shape].training_flops(1, context, trains_all=variant.lora is None)
    return {
        "tokens_per_second": clock.tokens / seconds,
        "tflops": clock.tokens * flops / seconds / 1e12,
        "padding": 1 - clock.tokens / clock.positions,
        "peak_gb": peak_memory_gb(),
        "before_gb": before,
    }


class _Clock:
    """Counts tokens and time of the steps after the warm-up."""

    def __init__(self) -> None:
        self.tokens = self.positions = 0
        self.seconds = self.cpu_seconds = 0.0
        self._counting = False

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Steps(TrainerCallback):
            def on_step_end(self, *event: Any, **_: Any) -> None:
                state = event[1]
                if state.global_step in (WARM_UP, state.max_steps):
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    sign = -1 if state.global_step == WARM_UP else 1
                    clock.seconds += sign * time.perf_counter()
                    clock.cpu_seconds += sign * time.process_time()
                    clock._counting = state.global_step == WARM_UP

        return Steps()

    def count(self, trainer: Any) -> None:
        step = trainer.training_step

        def counted(model: Any, inputs: Any, *rest: Any) -> Any:
            if self._counting:
                shown = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
                self.tokens += int(shown)
                self.positions += inputs["input_ids"].numel()
            return step(model, inputs, *rest)

        trainer.training_step = counted


def _use_all_logits(trainer: Any) -> None:
    """Return the loss of transformers' own forward, which holds every logit of the batch."""

    def compute_loss(model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        outputs = model(**inputs, use_cache=False, num_items_in_batch=num_items_in_batch)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    trainer.compute_loss = compute_loss


def matrix_rate(size: int) -> float:
    """Return FLOP/s of bf16 matrix products on the device, best of ten; on a CPU, per CPU-second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter if device == "cuda" else time.process_time
        start = now()
        for _ in range(4):
            torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 4 * 2 * size**3 / (now() - start))
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--steps", type=int, default=6, help="measured steps of each row")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", help="only rows whose name contains this, and TRL's defaults")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a row, measured in this process
    options = parser.parse_args()
    check_device(options.shape)
    on_gpu = torch.cuda.is_available()
    rows = {row.name: row for row in variants(on_gpu, options.shape)}
    if options.one:
        print(json.dumps(measure(rows[options.one], options.shape, options.steps)))
        return
    if options.only:
        rows = {name: row for name, row in rows.items() if options.only in name or name == "TRL's defaults"}
    rate = matrix_rate(8192 if on_gpu else 1024)
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {os.cpu_count()} cores"
    unit = "s" if on_gpu else "CPU-s"
    print(f"{where}; torch {torch.__version__}; bf16 matrix products: {rate / 1e12:.3f} TFLOP/{unit}\n", flush=True)
    best: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        for name in rows:
            found = _in_a_process(name, options)
            if name not in best or found.get("tokens_per_second", 0) > best[name].get("tokens_per_second", 0):
                best[name] = found
    _print_table(rows, best, rate, unit, options.shape, on_gpu)


def _in_a_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.sft_throughput", "--shape", options.shape, "--one", name]
    done = subprocess.run([*command, "--steps", str(options.steps)], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:150]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _print_table(
    rows: dict[str, Variant], best: dict[str, dict[str, Any]], rate: float, unit: str, shape: str, on_gpu: bool
) -> None:
    base = best["TRL's defaults"].get("tokens_per_second")
    print(f"| | tokens/{unit} | of TRL's | padding | MFU | peak GB | planned GB |\n|---|---|---|---|---|---|---|")
    for name, variant in rows.items():
        found = best[name]
        if "error" in found:
            print(f"| {name} | {found['error']} | | | | | |")
            continue
        setup = replace(training_setup(config_of(variant, shape, 1), SHAPES[shape]), triton=on_gpu)
        if not variant.sft.get("packing"):  # padded to the longest of the batch, which is near the limit
            setup = replace(setup, tokens_per_device=8 * LENGTHS[shape])
        planned = f"{plan_memory(SHAPES[shape], setup).total / 1e9:.1f}" if on_gpu and variant.fused_head else ""
        ratio = f"{found['tokens_per_second'] / base:.2f}" if base else ""
        peak = f"{found['peak_gb']:.1f}" if on_gpu else ""  # on a CPU it is the whole process: see memory_plan.py
        print(
            f"| {name} | {found['tokens_per_second']:,.0f} | {ratio} | {found['padding']:.0%} | "
            f"{found['tflops'] * 1e12 / rate:.0%} | {peak} | {planned} |"
        )


if __name__ == "__main__":
    main()
