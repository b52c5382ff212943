"""Tokenizes the training split once into a memory-mapped file for all ranks.

tokens/train.arrow    input_ids and labels, one row per example, in the order of the artifact
tokens/stats.json     counts, written last
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from personahub.core.artifact import Artifact
from personahub.core.errors import Rejected, UserError
from personahub.core.files import replacing, write_json
from personahub.core.identity import digest
from personahub.core.records import Row
from train.data.chat_format import IGNORED, ChatFormat

if TYPE_CHECKING:
    from datasets import Dataset

_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
_BATCH = 1000


@dataclass
class TokenStats:
    """Counts of the training split. `tokens` counts after truncation; `trained_tokens` are those with a loss."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


def load_tokens(folder: Path) -> tuple[Dataset, TokenStats] | None:
    """Maps tokens written earlier; None if they are missing or incomplete."""
    from datasets import Dataset

    try:
        stats = TokenStats(**json.loads((folder / "stats.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    return Dataset.from_file(str(folder / "train.arrow")), stats


def write_tokens(
    folder: Path,
    data: Artifact,
    chat: ChatFormat,
    max_length: int | None,
    max_truncated_share: float,
    max_examples: int | None,
    seed: int,
    left_out: frozenset[str] = frozenset(),
) -> None:
    """Tokenizes the training split of `data` into `folder`.

    Args:
        max_length: longer examples lose their end, including the answer and the end-of-turn token. None for no limit.
        max_truncated_share: fail if a larger share of the examples is truncated.
        max_examples: train on a seeded subset of at most this size. Subsets of one seed are nested.
        seed: seed of the subset.
        left_out: ids of records that are not trained on.

    Raises:
        UserError: there is nothing to train on, too many examples are too long, or the chat template does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stats = TokenStats()
    chosen = None if max_examples is None else _subset(data, max_examples, seed, left_out)
    with replacing(folder / "train.arrow") as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as writer:
            rows = (row for row in _train_rows(data) if row["id"] not in left_out)
            rows = (row for row in rows if chosen is None or row["id"] in chosen)
            while batch := list(islice(rows, _BATCH)):
                writer.write_batch(_encode(batch, chat, max_length, stats))
        _check_stats(stats, data, max_length, max_truncated_share)
    write_json(folder / "stats.json", asdict(stats))


def _train_rows(data: Artifact) -> Iterator[Row]:
    columns = ["id", "split", "prompt", "completion", "licence", "model"]
    return (row for row in data.rows(columns) if row["split"] == "train")


def _subset(data: Artifact, size: int, seed: int, left_out: frozenset[str]) -> set[str]:
    """Returns the first ids in a seeded order. Smaller subsets are part of larger ones."""
    rows = (row for row in data.rows(["id", "split"]) if row["split"] == "train")
    ids = (row["id"] for row in rows if row["id"] not in left_out)
    return set(heapq.nsmallest(size, ids, key=lambda record_id: digest("subset", seed, record_id)))


def _encode(batch: list[Row], chat: ChatFormat, max_length: int | None, stats: TokenStats) -> pa.RecordBatch:
    input_ids, labels = [], []
    for row, example in zip(batch, chat.encode([(r["prompt"], r["completion"]) for r in batch]), strict=True):
        if isinstance(example, Rejected):
            stats.dropped[example.reason] = stats.dropped.get(example.reason, 0) + 1
            continue
        stats.longest = max(stats.longest, len(example.input_ids))
        kept = example.labels[:max_length]
        trained = sum(label != IGNORED for label in kept)
        if not trained:
            stats.dropped["prompt_fills_max_length"] = stats.dropped.get("prompt_fills_max_length", 0) + 1
            continue
        stats.truncated += len(kept) < len(example.labels)
        stats.examples += 1
        stats.tokens += len(kept)
        stats.trained_tokens += trained
        input_ids.append(example.input_ids[:max_length])
        labels.append(kept)
        _add_new(stats.licences, row["licence"])
        _add_new(stats.models, row["model"])
    return pa.record_batch([pa.array(input_ids, _SCHEMA[0].type), pa.array(labels, _SCHEMA[1].type)], schema=_SCHEMA)


def _add_new(seen: list[str], value: Any) -> None:
    if value is not None and value not in seen:
        seen.append(value)


def _check_stats(stats: TokenStats, data: Artifact, max_length: int | None, max_truncated_share: float) -> None:
    too_long = stats.truncated + stats.dropped.get("prompt_fills_max_length", 0)
    considered = stats.examples + stats.dropped.get("prompt_fills_max_length", 0)
    if too_long > max_truncated_share * considered:
        raise UserError(
            f"sft.max_length={max_length} would truncate {too_long:,} of {considered:,} training examples "
            f"({too_long / considered:.1%}; allowed: max_truncated_share={max_truncated_share:.1%}); the longest has "
            f"{stats.longest:,} tokens. Raise sft.max_length, or raise max_truncated_share to accept the loss"
        )
    if not stats.examples:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in stats.dropped.items())
        reason = f"all were dropped: {dropped}" if dropped else "no record has split 'train'"
        raise UserError(f"{data.path}: no examples to train on ({reason})")
