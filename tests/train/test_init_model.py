"""The random model and its tokenizer, as the stage leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.experiments.stage_process import run_stage
from train import init_model

Make = Callable[..., Any]


def read(artifact: Artifact, name: str) -> bytes:
    return (artifact.path / "model" / name).read_bytes()


def test_loads_like_any_model_and_knows_its_chat_template(base_model: Artifact, tiny_shape: dict[str, int]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base_model.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(base_model.path / "model")
    summary = base_model.manifest.summary
    assert type(model).__name__ == "Qwen2ForCausalLM"
    shape = init_model.Config.model_validate({**tiny_shape, "vocab_size": len(tokenizer)}).shape()
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"] == shape.parameters
    assert len(tokenizer) == summary["vocabulary"] <= tiny_shape["vocab_size"]
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert not model.generation_config.do_sample
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert base_model.manifest.shards == {}


def test_tokenizer_takes_digits_one_by_one_and_any_text(base_model: Artifact) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model.path / "model")
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    for text in ("héllo wörld 漢字 🙂\r\n\t", "\x00\x7f ½", "a" * 500):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_seed_decides_the_weights_and_the_training_split_the_tokenizer(
    base_model: Artifact,
    data: Artifact,
    tiny_shape: dict[str, int],
    write_sft_data: Make,
    make_spec: Make,
    tmp_path: Path,
) -> None:
    train_only = write_sft_data(tmp_path / "data", [row for row in data.rows() if row["split"] == "train"])
    again = run_stage(make_spec("train.init_model", tiny_shape, {"data": train_only}), tmp_path / "again")
    other = run_stage(make_spec("train.init_model", {**tiny_shape, "seed": 1}, {"data": data}), tmp_path / "other")
    for name in ("tokenizer.json", "model.safetensors"):
        assert read(again, name) == read(base_model, name)
    assert read(other, "tokenizer.json") == read(base_model, "tokenizer.json")
    assert read(other, "model.safetensors") != read(base_model, "model.safetensors")


def test_data_without_a_training_split_is_refused(
    tiny_shape: dict[str, int], write_sft_data: Make, sft_row: Make, make_spec: Make, tmp_path: Path
) -> None:
    data = write_sft_data(tmp_path / "data", [sft_row(1, "test")])
    with pytest.raises(UserError, match="no record has split 'train'"):
        run_stage(make_spec("train.init_model", tiny_shape, {"data": data}), tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 3}, "even multiple of num_attention_heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"vocab_size": 100}, "vocab_size"),
        ({"hiden_size": 64}, "Did you mean 'hidden_size'"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, int], message: str, tiny_shape: dict[str, int]) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(init_model.Config, {**tiny_shape, **change}, "stages.init_model.config")
