"""What the trainer tells the stage while it runs. Imported only where a trainer is built."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from transformers import TrainerCallback, TrainerState

from personahub.core.progress import Progress
from personahub.core.stage import Stage


class StageLog(TrainerCallback):
    """Sends the trainer's numbers to the stage's metrics, and its steps to a progress bar.

    Logged under the names W&B users know from transformers (`train/loss`, `train/grad_norm`,
    `train/learning_rate`, ...), and `train/tokens_per_second`: tokens of all devices without
    padding, over the wall time since the last log. Every event comes as (arguments, state, control).
    """

    def __init__(self, stage: Stage[Any]) -> None:
        self._stage = stage
        self._open = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._tokens = 0.0
        self._clock = 0.0

    def on_train_begin(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        if state.is_world_process_zero:
            bar = self._stage.progress(state.max_steps, "steps", done=state.global_step)
            self._bar = self._open.enter_context(bar)
        self._clock = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def on_log(self, *event: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the summary at the end of training
            return
        state: TrainerState = event[1]
        now = time.monotonic()
        tokens = logs.get("num_tokens", 0.0)  # TRL counts anew in every process
        rate = (tokens - self._tokens) / max(now - self._clock, 1e-9)
        if self._bar is not None:
            self._bar.update(0, tokens=round(tokens - self._tokens))
        self._tokens, self._clock = tokens, now
        numbers = {f"train/{name}": float(value) for name, value in logs.items()}
        self._stage.log({**numbers, "train/tokens_per_second": round(rate, 1)}, step=state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._open.close()
