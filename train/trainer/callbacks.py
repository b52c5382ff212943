"""Callback that logs training metrics and stops diverged runs.

Import this module only where a trainer is built, because it imports torch.
"""

from __future__ import annotations

import contextlib
import math
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from personahub.core.errors import UserError
from personahub.core.executors.progress import Progress
from personahub.core.stage import Stage
from train.trainer.checkpoints import last_complete_checkpoint

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Work:
    """Cost of a token and capacity of the devices.

    Attributes:
        flops_per_token: FLOPs of the model, without recomputation (`ModelShape.training_flops`).
        devices: number of devices that share the work.
        peak_flops: dense bf16 rate of one device; None on a CPU, whose peak rate is not known.
    """

    flops_per_token: float
    devices: int
    peak_flops: float | None

    def mfu(self, tokens_per_second: float) -> float | None:
        """Returns model FLOPs utilization.

        It is tokens/s * FLOPs per token / (devices * peak FLOP/s of one device). Chowdhery et al. 2022 (PaLM, arXiv
        2204.02311, appendix B): the FLOPs that the model needs, divided by those that the hardware could do in that
        time. Recomputed activations do not count. A token needs 6 * (parameters it is multiplied with) + 6 * layers *
        hidden size * mean context. The last term is half of PaLM's 12LHQT, because causal attention covers half of
        the sequence.
        """
        if self.peak_flops is None:
            return None
        return tokens_per_second * self.flops_per_token / (self.devices * self.peak_flops)


def mean_context(dataset: Dataset) -> float:
    """Returns the mean length of a token's example: sum of squared lengths over sum of lengths."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(dataset.data.column("input_ids")).to_numpy().astype(float)  # type: ignore[union-attr]
    return float((lengths**2).sum() / lengths.sum())


class StageLog(TrainerCallback):
    """Sends metrics to the stage and steps to a progress bar.

    Stops a run that diverges. Metrics have the names that transformers gives them (`train/loss`, `train/grad_norm`,
    `train/learning_rate`, ...). There are also

    * `train/tokens_per_second`: tokens of all devices without padding, per second since the last log, without the time
      passed to `exclude_time`;
    * `train/tflops_per_device`: the same rate in model FLOPs, and `train/mfu`, see `Work.mfu`;
    * `train/peak_memory_gb`: peak memory of this process on its device (`max_memory_allocated`), or its peak resident
      memory on a CPU.

    The callback also logs before every save and after the last step, so that weights are never saved after a loss or
    gradient that is not finite. `on_log` then ends the training on all ranks, because transformers averages the loss over
    the ranks first, and the norm of the gradient is global.

    Every event receives (arguments, state, control).
    """

    def __init__(self, stage: Stage[Any], work: Work | None = None) -> None:
        self._stage = stage
        self._work = work
        self._open = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._tokens = 0.0
        self._clock = 0.0

    def exclude_time(self, seconds: float) -> None:
        """Excludes time without training from the token rate."""
        self._clock += seconds

    def on_train_begin(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        if state.is_world_process_zero:
            bar = self._stage.progress(state.max_steps, "steps", done=state.global_step)
            self._bar = self._open.enter_context(bar)
        self._clock = time.monotonic()

    def on_step_end(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        control: TrainerControl = event[2]  # already set by transformers' own callback
        control.should_log |= control.should_save or state.global_step >= state.max_steps
        if self._bar is not None:
            self._bar.update(1)

    def on_epoch_end(self, *event: Any, **_: Any) -> None:
        control: TrainerControl = event[2]
        control.should_log |= control.should_save

    def on_log(self, *event: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the summary at the end of training
            return
        state: TrainerState = event[1]
        self._stop_if_diverged(event[0], state.global_step, logs)
        now = time.monotonic()
        tokens = logs.get("num_tokens", 0.0)  # TRL starts from 0 in every process
        rate = (tokens - self._tokens) / max(now - self._clock, 1e-9)
        if self._bar is not None:
            self._bar.update(0, tokens=round(tokens - self._tokens))
        self._tokens, self._clock = tokens, now
        numbers = {f"train/{name}": float(value) for name, value in logs.items()}
        self._stage.log({**numbers, **self._speed_metrics(rate)}, step=state.global_step)

    def _stop_if_diverged(self, args: TrainingArguments, step: int, logs: dict[str, Any]) -> None:
        # Under float16 an overflowing gradient is harmless: the scaler skips that step.
        names = ("loss",) if args.fp16 else ("loss", "grad_norm")
        broken = [f"{name} is {logs[name]}" for name in names if not math.isfinite(logs.get(name, 0.0))]
        if not broken:
            return
        checkpoint = last_complete_checkpoint(self._stage.path / "checkpoints")
        saved = (
            "there is no checkpoint" if checkpoint is None else f"the last complete checkpoint, {checkpoint}, is older"
        )
        raise UserError(
            f"{self._stage.name}: training has diverged: at step {step} the {' and the '.join(broken)} (learning rate "
            f"{logs['learning_rate']:g}); {saved}. Running the same command again would diverge again. Lower "
            f"sft.learning_rate or increase sft.warmup_steps, then start over with run --redo {self._stage.name}"
        )

    def _speed_metrics(self, rate: float) -> dict[str, float]:
        numbers = {"train/tokens_per_second": round(rate, 1), "train/peak_memory_gb": round(peak_memory_gb(), 3)}
        if self._work is not None:
            numbers["train/tflops_per_device"] = round(rate * self._work.flops_per_token / self._work.devices / 1e12, 4)
            if (mfu := self._work.mfu(rate)) is not None:
                numbers["train/mfu"] = round(mfu, 4)
        return numbers

    def close(self) -> None:
        """Closes the progress bar. The trainer does not notify callbacks of an error that ends training."""
        self._open.close()


def peak_memory_gb() -> float:
    """Returns peak memory on the CUDA device. Without one, returns peak resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
