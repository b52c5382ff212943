"""Which examples are trained on, and what happens to those that are too long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from train.data.chat_format import ChatFormat
from train.data.tokens import TokenStats, load_tokens, write_tokens


@pytest.fixture
def chat(base_model: Artifact) -> ChatFormat:
    from transformers import AutoTokenizer

    return ChatFormat(AutoTokenizer.from_pretrained(base_model.path / "model"), "<|im_end|>")


def tokenize(folder: Path, data: Artifact, chat: ChatFormat, **changes: Any) -> tuple[list[Any], TokenStats]:
    settings = {"max_length": 192, "max_truncated_share": 0.0, "max_examples": None, "seed": 0}
    write_tokens(folder, data, chat, **{**settings, **changes})
    loaded = load_tokens(folder)
    assert loaded is not None
    dataset, stats = loaded
    return list(dataset), stats


def decoded(rows: list[Any], chat: ChatFormat) -> Iterator[str]:
    return (chat._tokenizer.decode(row["input_ids"]) for row in rows)


def test_only_the_training_split_is_read(data: Artifact, chat: ChatFormat, tmp_path: Path) -> None:
    rows, stats = tokenize(tmp_path, data, chat)
    assert stats.examples == len(rows) == 96
    assert not any("zebra" in text for text in decoded(rows, chat))
    assert stats.tokens == sum(len(row["input_ids"]) for row in rows)
    assert stats.trained_tokens == sum(label != -100 for row in rows for label in row["labels"])
    assert (stats.truncated, stats.licences, stats.models) == (0, ["CC0-1.0"], ["simulated-teacher"])


def test_too_many_long_examples_are_refused_with_numbers(data: Artifact, chat: ChatFormat, tmp_path: Path) -> None:
    rows, _ = tokenize(tmp_path / "whole", data, chat)
    lengths = sorted(len(row["input_ids"]) for row in rows)
    limit = lengths[len(lengths) // 2]
    longer = sum(length > limit for length in lengths)
    with pytest.raises(
        UserError, match=rf"would truncate {longer} of 96 training examples .* longest has {lengths[-1]} tokens"
    ):
        tokenize(tmp_path / "cut", data, chat, max_length=limit, max_truncated_share=0.01)
    assert load_tokens(tmp_path / "cut") is None


def test_allowed_truncation_is_counted(data: Artifact, chat: ChatFormat, tmp_path: Path) -> None:
    whole, _ = tokenize(tmp_path / "whole", data, chat)
    limit = sorted(len(row["input_ids"]) for row in whole)[48]
    rows, stats = tokenize(tmp_path / "cut", data, chat, max_length=limit, max_truncated_share=1.0)
    assert stats.truncated == sum(len(row["input_ids"]) > limit for row in whole) > 0
    assert [row["input_ids"] for row in rows] == [row["input_ids"][:limit] for row in whole]
    assert all(len(row["labels"]) == len(row["input_ids"]) for row in rows)


def test_prompt_that_leaves_no_room_is_dropped_and_counts_as_cut(
    data: Artifact, chat: ChatFormat, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="would truncate 96 of 96"):
        tokenize(tmp_path, data, chat, max_length=10, max_truncated_share=0.5)
    with pytest.raises(UserError, match="all were dropped: prompt_fills_max_length 96"):
        tokenize(tmp_path, data, chat, max_length=10, max_truncated_share=1.0)


def test_subsets_of_one_seed_are_nested(data: Artifact, chat: ChatFormat, tmp_path: Path) -> None:
    sizes = (8, 16, 32)
    subsets = [
        {tuple(row["input_ids"]) for row in tokenize(tmp_path / str(size), data, chat, max_examples=size)[0]}
        for size in sizes
    ]
    assert [len(subset) for subset in subsets] == list(sizes)
    assert subsets[0] < subsets[1] < subsets[2]
    other = {tuple(row["input_ids"]) for row in tokenize(tmp_path / "other", data, chat, max_examples=32, seed=1)[0]}
    assert other != subsets[2]


def test_half_written_tokens_are_not_loaded(data: Artifact, chat: ChatFormat, tmp_path: Path) -> None:
    tokenize(tmp_path, data, chat)
    (tmp_path / "stats.json").unlink()
    assert load_tokens(tmp_path) is None
