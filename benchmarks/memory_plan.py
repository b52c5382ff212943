"""Compare the memory plan with the measured peak of real training steps.

    python -m benchmarks.memory_plan                 # small models on the CPU
    python -m benchmarks.memory_plan --shape 7b      # on a CUDA device: the shape of Qwen2-7B, random weights

Every configuration runs in a separate process: random weights, the stage's own trainer, two optimizer
steps. The peak is the process's resident memory above its level before the model was built (on a CPU,
where the heap returns freed tensors at once), or `torch.cuda.max_memory_allocated`. Exits with an error
if a plan is off by more than `--tolerance`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.sft_model import SHAPES, check_device, make_model, make_tokens
from train.planning.forecast import training_setup
from train.planning.memory import plan_memory
from train.trainer.config import Config

# Overrides of the stage's config. Lengths are fixed, so that every row is full.
CONFIGS: dict[str, dict[str, Any]] = {
    "full, fp32 + bf16 autocast, checkpointing": {"sft": {}},
    "full, fp32 + bf16 autocast, no checkpointing": {"sft": {"gradient_checkpointing": False}},
    "full, fp32 without autocast, checkpointing": {"sft": {"bf16": False}},
    "full, bf16 weights, checkpointing": {"sft": {}, "model": {"dtype": "bfloat16"}},
    "full, fp32, packed, no checkpointing": {"sft": {"packing": True, "gradient_checkpointing": False}},
    "full, fp32, Adafactor": {"sft": {"optim": "adafactor"}},
    "LoRA r=16 on all matrices, bf16 weights": {
        "sft": {},
        "model": {"dtype": "bfloat16"},
        "lora": {"r": 16, "target_modules": "all-linear"},
    },
    "LoRA r=16 on all matrices, fp32, no checkpointing": {
        "sft": {"gradient_checkpointing": False},
        "lora": {"r": 16, "target_modules": "all-linear"},
    },
}
SIZES = {"tiny": (256, 4), "small": (256, 4), "7b": (2048, 1)}  # length and rows per device
_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def config_of(shape: str, changes: dict[str, Any]) -> Config:
    """Return the stage's config for one row of the table."""
    length, rows = SIZES[shape]
    common = {"max_length": length, "per_device_train_batch_size": rows, "max_steps": 2, "save_strategy": "no"}
    plan = {"tokens_per_example": length}
    return Config.model_validate({**changes, "sft": {**common, **changes["sft"]}, "plan": plan})


def measure(shape: str, changes: dict[str, Any]) -> float:
    """Return the peak bytes of two steps in this process."""
    from train.trainer.build import build_trainer, load_tokenizer
    from train.trainer.sections import sft_config

    config = config_of(shape, changes)
    length, rows = SIZES[shape]
    with tempfile.TemporaryDirectory() as folder:
        base = make_model(Path(folder) / "model", shape, weights=True)
        dataset = make_tokens([length] * (4 * rows), SHAPES[shape].vocab_size)
        on_cpu = not torch.cuda.is_available()
        before = 0 if on_cpu else torch.cuda.memory_allocated()
        if on_cpu:
            _forget_peak()
            before = _resident("VmRSS")
        args = sft_config({**config.sft, **config.sft_execution}, Path(folder) / "out", 0, on_cpu)
        tokenizer = load_tokenizer(str(base), config.model)
        trainer = build_trainer(str(base), config.model, config.lora, args, tokenizer, dataset)
        trainer.train()
        return (_resident("VmHWM") if on_cpu else torch.cuda.max_memory_allocated()) - before


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small")
    parser.add_argument("--tolerance", type=float, default=0.10)
    parser.add_argument("--only", help="only configurations whose name contains this")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a configuration, measured in this process
    options = parser.parse_args()
    check_device(options.shape)
    if options.one:
        print(json.dumps(measure(options.shape, CONFIGS[options.one])))
        return
    off = []
    print("| configuration | planned GB | measured GB | planned / measured | plan |\n|---|---|---|---|---|", flush=True)
    for name, changes in CONFIGS.items():
        if options.only and options.only not in name:
            continue
        shape = SHAPES[options.shape]
        setup = training_setup(config_of(options.shape, changes), shape)
        planned = plan_memory(shape, dataclasses.replace(setup, triton=torch.cuda.is_available()))
        command = [sys.executable, "-m", "benchmarks.memory_plan", "--shape", options.shape, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_HEAP}, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        measured = float(done.stdout.strip().splitlines()[-1])
        ratio = planned.total / measured
        parts = ", ".join(
            f"{part} {size / 1e9:.2f}" for part, size in dataclasses.asdict(planned).items() if size >= 5e6
        )
        print(f"| {name} | {planned.total / 1e9:.3f} | {measured / 1e9:.3f} | {ratio:.2f} | {parts} |", flush=True)
        if abs(ratio - 1) > options.tolerance:
            off.append(name)
    if off:
        sys.exit(f"off by more than {options.tolerance:.0%}: {', '.join(off)}")


if __name__ == "__main__":
    main()
