"""Whether packed examples see one another: found out by perturbation, with the model, device and attention at hand.

Examples that share a row must be trained as if each were alone. Attention that ignores where an
example begins breaks this without any error and with a loss that looks healthy, so it is tried: one
token of one example changes, and no log-probability of another example may move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train.data.chat_format import IGNORED

if TYPE_CHECKING:
    from torch import Tensor
    from trl.trainer.sft_trainer import SFTTrainer

TOLERANCE = 1e-4  # nats; the same numbers in the same order give 0, and a real leak is far above

_PERTURBED = 4  # examples of the row, each changed alone
_ROWS_SEARCHED = 1000


@dataclass(frozen=True)
class Leak:
    """What a changed token does.

    Attributes:
        examples: how many shared the row.
        others: largest change of a log-probability in any other example, nats. 0 where nothing leaks.
        own: smallest of the largest changes in the changed examples themselves. Above 0, or the
            perturbation would show nothing.
    """

    examples: int
    others: float
    own: float


def example_spans(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where the examples of a packed row lie: each begins where labels end and a masked prompt follows."""
    starts = [0]
    starts += [i for i in range(1, len(labels)) if labels[i] == IGNORED and labels[i - 1] != IGNORED]
    return list(zip(starts, [*starts[1:], len(labels)], strict=True))


def packing_leak(trainer: SFTTrainer) -> Leak | None:
    """Perturb a row that the trainer has packed; None where no row holds two examples.

    Draws no random number, so that training afterwards is what it would have been.
    """
    batch = _packed_batch(trainer)
    return None if batch is None else leak_of(trainer, batch)


def leak_of(trainer: SFTTrainer, batch: Mapping[str, Any]) -> Leak:
    """Perturb the examples of the first row of `batch`, which has been collated."""
    spans = example_spans(batch["labels"][0].tolist())
    before = _log_probs(trainer, batch)
    others, own = [], []
    for start, end in spans[:_PERTURBED]:
        changed = batch["input_ids"].clone()
        changed[0, start] = (changed[0, start] + 1) % trainer.model.config.vocab_size  # type: ignore[union-attr]
        moved = (_log_probs(trainer, {**batch, "input_ids": changed}) - before).abs()[0]
        # log-probability i is that of token i + 1: those at start - 1 and end - 1 are of tokens that no loss is on
        own.append(float(moved[start : end - 1].max()))
        outside = [moved[: max(start - 1, 0)], moved[end:]]
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
    """Shape (rows, tokens - 1), float32; zero where there is no label."""
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
