"""Tests by perturbation whether packed examples see one another.

Uses the actual model, device and attention. Examples that share a row must be trained as if each were alone.
Attention that ignores the boundaries of examples breaks this silently, with a loss that looks healthy. So one token
of one example is changed, and no log-probability of another example may change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.data.chat_format import IGNORED

if TYPE_CHECKING:
    from torch import Tensor
    from trl.trainer.sft_trainer import SFTTrainer

TOLERANCE = 1e-4  # nats; without a leak the difference is 0, and a real leak is far larger

_PERTURBED = 4  # examples of the row, changed one at a time
_ROWS_SEARCHED = 1000


@dataclass(frozen=True)
class Leak:
    """Effect of a changed token.

    Attributes:
        examples: number of examples in the row.
        others: largest change of a log-probability in any other example, in nats. 0 if nothing leaks.
        own: smallest of the largest changes within the changed examples. It must be above 0, or the perturbation would
            show nothing.
    """

    examples: int
    others: float
    own: float


def example_spans(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Finds the examples of a packed row. Each begins where labels end and a masked prompt follows."""
    starts = [0]
    starts += [i for i in range(1, len(labels)) if labels[i] == IGNORED and labels[i - 1] != IGNORED]
    return list(zip(starts, [*starts[1:], len(labels)], strict=True))


def packing_leak(trainer: SFTTrainer) -> Leak | None:
    """Perturbs a row that the trainer has packed; None if no row has two examples.

    Draws no random numbers, so it does not change the training that follows.
    """
    batch = _packed_batch(trainer)
    return None if batch is None else leak_of(trainer, batch)


def leak_of(trainer: SFTTrainer, batch: Mapping[str, Any]) -> Leak:
    """Perturbs the examples of the first row of `batch`, a collated batch."""
    spans = example_spans(batch["labels"][0].tolist())
    before = _log_probs(trainer, batch)
    others, own = [], []
    for start, end in spans[:_PERTURBED]:
        changed = batch["input_ids"].clone()
        changed[0, start] = (changed[0, start] + 1) % trainer.model.config.vocab_size  # type: ignore[union-attr]
        change = (_log_probs(trainer, {**batch, "input_ids": changed}) - before).abs()[0]
        # Log-probability i belongs to token i + 1. The tokens of start - 1 and end - 1 have no loss.
        own.append(float(change[start : end - 1].max()))
        outside = [change[: max(start - 1, 0)], change[end:]]
        others.append(max((float(part.max()) for part in outside if part.numel()), default=0.0))
    return Leak(len(spans), max(others), min(own))


def _packed_batch(trainer: SFTTrainer) -> dict[str, Any] | None:
    dataset: Any = trainer.train_dataset
    columns = [name for name in dataset.column_names if name in ("input_ids", "labels", "seq_lengths", "position_ids")]
    for number in range(min(len(dataset), _ROWS_SEARCHED)):
        row = {name: dataset[number][name] for name in columns}
        if len(example_spans(list(row["labels"]))) > 1:
            return dict(trainer.data_collator([row]))
    return None


def _log_probs(trainer: SFTTrainer, batch: Mapping[str, Any]) -> Tensor:
    """Returns log-probabilities of shape (rows, tokens - 1) in float32. They are zero where there is no label."""
    import torch

    model: Any = trainer.model
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), trainer.compute_loss_context_manager():
            inputs = trainer._prepare_inputs(dict(batch))
            return model(**inputs, use_cache=False, fused_lm_head=True).log_probs.float()
    finally:
        model.train(training)
