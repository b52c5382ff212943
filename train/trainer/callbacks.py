"""What the trainer tells the stage while it runs. Imported only where a trainer is built."""

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
from train.trainer.checkpoints import last_whole_checkpoint

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Work:
    """What a token costs and what the devices could do.

    Attributes:
        flops_per_token: of the model, nothing computed twice counted (`ModelShape.training_flops`).
        devices: that share the work.
        peak_flops: of one device, dense bf16; None on a CPU, whose rate nobody states.
    """

    flops_per_token: float
    devices: int
    peak_flops: float | None

    def mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilisation: tokens/s * FLOPs per token / (devices * peak FLOP/s of one).

        Chowdhery et al. 2022 (PaLM, arXiv 2204.02311, appendix B): what the model needs, over what
        the hardware could do in that time; recomputed activations do not count. A token needs
        6 * (parameters it is multiplied with) + 6 * layers * hidden size * mean context; the last
        term is half of PaLM's 12LHQT, because causal attention looks at half of the sequence.
        """
        if self.peak_flops is None:
            return None
        return tokens_per_second * self.flops_per_token / (self.devices * self.peak_flops)


def mean_context(dataset: Dataset) -> float:
    """Average length of the example a token is in: sum of squared lengths over sum of lengths."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(dataset.data.column("input_ids")).to_numpy().astype(float)  # type: ignore[union-attr]
    return float((lengths**2).sum() / lengths.sum())


class StageLog(TrainerCallback):
    """Sends the trainer's numbers to the stage's metrics, and its steps to a progress bar.

    Logged under the names W&B users know from transformers (`train/loss`, `train/grad_norm`,
    `train/learning_rate`, ...), and

    * `train/tokens_per_second`: tokens of all devices without padding, over the wall time since the
      last log, less what `leave_out` was told of;
    * `train/tflops_per_device`: the same in model FLOPs, and `train/mfu`, see `Work.mfu`;
    * `train/peak_memory_gb`: the most that this process had on its device (`max_memory_allocated`),
      or on a CPU, that it had resident.

    A log is made before every save and after the last step, too, so that no weights are saved that a
    loss or a gradient which is not finite has spoiled: `on_log` ends the training there, on all ranks,
    for transformers takes the mean of the loss over them first, and the gradient's norm is of all.

    Every event comes as (arguments, state, control).
    """

    def __init__(self, stage: Stage[Any], work: Work | None = None) -> None:
        self._stage = stage
        self._work = work
        self._open = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._tokens = 0.0
        self._clock = 0.0

    def leave_out(self, seconds: float) -> None:
        """Do not count time in which nothing was trained."""
        self._clock += seconds

    def on_train_begin(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        if state.is_world_process_zero:
            bar = self._stage.progress(state.max_steps, "steps", done=state.global_step)
            self._bar = self._open.enter_context(bar)
        self._clock = time.monotonic()

    def on_step_end(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        control: TrainerControl = event[2]  # transformers' own callback has set it before
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
        self._refuse_divergence(event[0], state.global_step, logs)
        now = time.monotonic()
        tokens = logs.get("num_tokens", 0.0)  # TRL counts anew in every process
        rate = (tokens - self._tokens) / max(now - self._clock, 1e-9)
        if self._bar is not None:
            self._bar.update(0, tokens=round(tokens - self._tokens))
        self._tokens, self._clock = tokens, now
        numbers = {f"train/{name}": float(value) for name, value in logs.items()}
        self._stage.log({**numbers, **self._speed(rate)}, step=state.global_step)

    def _refuse_divergence(self, args: TrainingArguments, step: int, logs: dict[str, Any]) -> None:
        # Under float16 a gradient that overflows is no harm: the scaler leaves that step out.
        names = ("loss",) if args.fp16 else ("loss", "grad_norm")
        spoiled = [f"{name} is {logs[name]}" for name in names if not math.isfinite(logs.get(name, 0.0))]
        if not spoiled:
            return
        whole = last_whole_checkpoint(self._stage.path / "checkpoints")
        there = "there is no checkpoint" if whole is None else f"the last whole checkpoint, {whole}, is from before"
        raise UserError(
            f"{self._stage.name}: training has diverged: at step {step} the {' and the '.join(spoiled)} (learning rate "
            f"{logs['learning_rate']:g}); {there}. The same command would only come here again: begin anew with a lower "
            f"sft.learning_rate or a longer sft.warmup_steps, and run --redo {self._stage.name}"
        )

    def _speed(self, rate: float) -> dict[str, float]:
        numbers = {"train/tokens_per_second": round(rate, 1), "train/peak_memory_gb": round(peak_memory_gb(), 3)}
        if self._work is not None:
            numbers["train/tflops_per_device"] = round(rate * self._work.flops_per_token / self._work.devices / 1e12, 4)
            if (mfu := self._work.mfu(rate)) is not None:
                numbers["train/mfu"] = round(mfu, 4)
        return numbers

    def close(self) -> None:
        """End the progress bar. The trainer tells nobody of an error that ends its training."""
        self._open.close()


def peak_memory_gb() -> float:
    """The most memory that this process has held: on the CUDA device, or without one, resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
