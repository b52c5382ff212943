"""Validates during training: solves a fixed slice greedily and keeps the best weights.

The slice is chosen from the training split by the seed and held out of training. So neither the choice of the best
weights nor any decision based on the curve uses the test split.

validation.jsonl    one line per evaluation: step, correct, problems, accuracy, seconds
samples.jsonl       some completions of each evaluation with their verdicts, which W&B shows as a table
best/               the weights with the highest accuracy; the later ones if two are equal
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerState

from personahub.core.answers import CheckerPool
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from personahub.core.files import append_to_lines
from personahub.core.identity import digest
from personahub.core.records import Row
from personahub.core.stage import Stage
from train.trainer.callbacks import StageLog
from train.trainer.config import Config, Validation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl.trainer.sft_trainer import SFTTrainer

RESULTS, SAMPLES = "validation.jsonl", "samples.jsonl"
_COLUMNS = ("step", "problem", "reference", "completion", "verdict")


def validation_rows(data: Artifact, config: Validation | None, seed: int) -> list[Row]:
    """Chooses the slice's problems.

    They come from the end of the order whose start gives training subsets.

    Raises:
        UserError: the slice would take more than half of the training problems.
    """
    if config is None:
        return []
    columns = ["id", "split", "prompt", "problem", "answer"]
    rows = [row for row in data.rows(["id", "split", "answer"]) if row["split"] == "train" and row["answer"]]
    if len(rows) < 2 * config.problems:
        raise UserError(
            f"validation.problems: {config.problems} of the {len(rows)} training problems would be held out of training; "
            "set it to at most half of them, or set validation to null"
        )
    ids = {
        row["id"] for row in heapq.nlargest(config.problems, rows, key=lambda row: digest("subset", seed, row["id"]))
    }
    return [row for row in data.rows(columns) if row["id"] in ids]


def evaluations(folder: Path) -> dict[int, dict[str, Any]]:
    """Reads all evaluations by step. A resumed run repeats some of them with equal results."""
    try:
        lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    entries = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may cut the last line
    return {entry["step"]: entry for entry in entries}


def best_evaluation(folder: Path, up_to: int | None = None) -> dict[str, Any] | None:
    """Returns the most accurate evaluation, or None. The later one wins a tie."""
    entries = [entry for step, entry in evaluations(folder).items() if up_to is None or step < up_to]
    return max(entries, key=lambda entry: (entry["correct"], entry["step"]), default=None)


class ValidationCallback(TrainerCallback):
    """Evaluates at regular steps and after the last one, and saves the best weights.

    All ranks solve a share of the problems, because with sharded weights every rank must take part in every forward pass.
    The attribute `trainer` is set after the trainer is built, because the trainer needs its callbacks first.
    """

    def __init__(
        self,
        stage: Stage[Config],
        config: Validation,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        log: StageLog,
        save_best: Callable[[dict[str, Any]], None],
    ) -> None:
        self._stage = stage
        self._config = config
        self._rows = list(rows)
        self._tokenizer = tokenizer
        self._log = log
        self._save_best = save_best
        self.trainer: SFTTrainer | None = None

    def on_step_end(self, *event: Any, **_: Any) -> None:
        state: TrainerState = event[1]
        if state.global_step % self._config.every_steps == 0 or state.global_step >= state.max_steps:
            started = time.monotonic()
            self._evaluate(state.global_step)
            self._log.exclude_time(time.monotonic() - started)

    def _evaluate(self, step: int) -> None:
        from accelerate.utils import broadcast_object_list, gather_object

        assert self.trainer is not None  # noqa: S101  (set by the stage)
        accelerator = self.trainer.accelerator
        started = time.monotonic()
        completions = solve(self.trainer, self._tokenizer, self._share(), self._config)
        if accelerator.num_processes > 1:
            completions = gather_object(completions)
        # One rank checks the answers, so that all ranks agree on whether to save these weights.
        decision: list[dict[str, Any] | None] = [None]
        if accelerator.is_main_process:
            decision = [self._record_evaluation(step, dict(completions), started)]
        if accelerator.num_processes > 1:
            broadcast_object_list(decision)
        if decision[0] is not None:
            self._save_best(decision[0])

    def _record_evaluation(self, step: int, completions: dict[str, str], started: float) -> dict[str, Any] | None:
        """Checks the answers and writes the results. Returns the evaluation unless an earlier one was better."""
        verdicts = _check_answers(self._rows, completions)
        correct = sum(verdict == "correct" for verdict in verdicts)
        entry = {
            "step": step,
            "correct": correct,
            "problems": len(self._rows),
            "accuracy": round(correct / len(self._rows), 4),
            "seconds": round(time.monotonic() - started, 2),
        }
        best = best_evaluation(self._stage.path, up_to=step)
        self._write(entry, completions, verdicts)
        return entry if best is None or correct >= best["correct"] else None

    def _share(self) -> list[Row]:
        """Returns the problems of this rank. Every rank has equally many, so that all make the same forward passes."""
        assert self.trainer is not None  # noqa: S101
        ranks, rank = self.trainer.accelerator.num_processes, self.trainer.accelerator.process_index
        size = -(-len(self._rows) // ranks)
        return [self._rows[(rank * size + i) % len(self._rows)] for i in range(size)]

    def _write(self, entry: dict[str, Any], completions: dict[str, str], verdicts: Sequence[str]) -> None:
        samples = [
            {
                "step": entry["step"],
                "problem": row["problem"],
                "reference": row["answer"],
                "completion": completions[row["id"]],
                "verdict": verdict,
            }
            for row, verdict in zip(self._rows[: self._config.samples], verdicts, strict=False)
        ]
        for name, lines in ((RESULTS, [entry]), (SAMPLES, samples)):
            with append_to_lines(self._stage.path / name) as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._stage.log({"eval/accuracy": entry["accuracy"], "eval/seconds": entry["seconds"]}, step=entry["step"])
        if self._stage.tracker is not None and samples:
            table = [[sample[column] for column in _COLUMNS] for sample in samples]
            self._stage.tracker.table("eval/samples", _COLUMNS, table, step=entry["step"])


def solve(
    trainer: SFTTrainer, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], config: Validation
) -> list[tuple[str, str]]:
    """Returns greedy completions as (row id, text), with the trainer's current weights."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    ordered = sorted(rows, key=lambda row: len(row["problem"]))  # similar lengths need little padding
    solved: list[tuple[str, str]] = []
    training = model.training
    model.eval()  # also disables activation checkpointing, under which generation has no cache
    try:
        for start in range(0, len(ordered), config.batch_size):
            batch = ordered[start : start + config.batch_size]
            prompts = [
                str(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False))
                for row in batch
            ]
            inputs = tokenizer(
                prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
            ).to(trainer.args.device)
            with torch.no_grad(), trainer.compute_loss_context_manager():
                output = model.generate(
                    **inputs,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    max_new_tokens=config.max_new_tokens,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                    synced_gpus=sharded and trainer.accelerator.num_processes > 1,
                )
            new = output[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            solved += [(row["id"], text) for row, text in zip(batch, texts, strict=True)]
    finally:
        model.train(training)
    return solved


def _check_answers(rows: Sequence[Row], completions: dict[str, str]) -> list[str]:
    with CheckerPool(workers=1, deadline_s=5) as pool:
        pairs = [(row["answer"], completions[row["id"]]) for row in rows]
        return [verdict.label for verdict in pool.check_many(pairs)]
