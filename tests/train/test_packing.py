"""Packed examples by perturbation: nothing leaks as the stage packs, and where it is made to leak, it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from train.data.chat_format import ChatFormat
from train.data.packing import TOLERANCE, example_spans, leak_of, packing_leak
from train.data.tokens import load_tokens, write_tokens
from train.trainer.build import build_trainer, load_tokenizer
from train.trainer.config import ModelConfig
from train.trainer.sections import sft_config

Make = Callable[..., Any]


@pytest.fixture
def packing_trainer(data: Artifact, base_model: Artifact, tmp_path: Path) -> Make:
    """The stage's trainer on packed additions."""

    def build(on_cpu: bool = True, attention: str | None = None, dtype: str = "float32", **sft: Any) -> Any:
        base = str(base_model.path / "model")
        model = ModelConfig.model_validate({"attn_implementation": attention, "dtype": dtype})
        tokenizer = load_tokenizer(base, model)
        write_tokens(tmp_path, data, ChatFormat(tokenizer, "<|im_end|>"), 256, 0.0, None, 0)
        loaded = load_tokens(tmp_path)
        assert loaded is not None
        values = {"packing": True, "max_length": 256, "per_device_train_batch_size": 1, **sft}
        args = sft_config(values, tmp_path / "out", 0, on_cpu)
        return build_trainer(base, model, None, args, tokenizer, loaded[0])

    return build


def test_examples_begin_where_a_prompt_follows_a_completion() -> None:
    assert example_spans([-100, -100, 5, 6, -100, 7, -100, -100, 8]) == [(0, 4), (4, 6), (6, 9)]
    assert example_spans([-100, 5]) == [(0, 2)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_changed_token_moves_no_other_example(packing_trainer: Make, attention: str) -> None:
    leak = packing_leak(packing_trainer(attention=attention))
    assert leak is not None
    assert leak.examples >= 2
    assert leak.others == 0.0
    assert leak.own > 100 * TOLERANCE  # else the perturbation would show nothing


def test_check_draws_no_random_number(packing_trainer: Make) -> None:
    import torch

    trainer = packing_trainer()
    state = torch.random.get_rng_state()
    packing_leak(trainer)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_check_fails_where_positions_are_lost(packing_trainer: Make) -> None:
    """Simulates attention without example boundaries, which sees the row as one text."""
    import torch

    trainer = packing_trainer()
    batch = dict(trainer.data_collator([trainer.train_dataset[0]]))
    reported = leak_of(trainer, batch)
    untold = {name: batch[name] for name in ("input_ids", "labels")}
    leaking = leak_of(trainer, {**untold, "attention_mask": torch.ones_like(batch["input_ids"])})
    assert reported.others == 0.0
    assert leaking.examples == reported.examples
    assert leaking.others > 10 * TOLERANCE


def test_stage_refuses_a_packing_that_leaks(train: Make, tmp_path: Path) -> None:
    packed = {"packing": True, "per_device_train_batch_size": 1, "max_length": 256, "max_steps": 1}
    with pytest.raises(UserError, match=r"sft\.packing: the \d+ examples of a row see one another"):
        train("leaks", sft={**packed, "packing_strategy": "wrapped"})
    assert not (tmp_path / "leaks" / "manifest.json").exists()
    assert train("whole", sft=packed).manifest.summary["packing_leak"] == 0.0


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention", "flash_attention_2"])
@pytest.mark.parametrize("rows", [1, 4])
def test_no_leak_under_the_gpus_attention(packing_trainer: Make, attention: str, rows: int) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    trainer = packing_trainer(
        on_cpu=False, attention=attention, dtype="bfloat16", per_device_train_batch_size=rows, bf16=True
    )
    batch = dict(trainer.data_collator([trainer.train_dataset[i] for i in range(rows)]))
    leak = leak_of(trainer, batch)
    assert leak.others <= TOLERANCE < leak.own
