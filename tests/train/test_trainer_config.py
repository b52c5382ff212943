"""Pass-through of the `sft:` and `lora:` sections."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from personahub.core.config import identity_of, parse_config
from personahub.core.errors import UserError
from train import sft
from train.trainer import sections


def parse(**values: Any) -> sft.Config:
    return parse_config(sft.Config, values, "stages.sft.config")


def test_names_read_from_source_are_the_fields_of_the_classes() -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    for classes, owner in ((sections._SFT_CLASSES, SFTConfig), (sections._LORA_CLASSES, LoraConfig)):
        names = sections._field_names(classes)
        assert names == {field.name for field in dataclasses.fields(owner) if not field.name.startswith("_")}
    assert set(sections._RESERVED) <= sections._field_names(sections._SFT_CLASSES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sft": {"learning_rat": 1e-5}},
            r"sft\.learning_rat: unknown key of trl\.SFTConfig\. Did you mean 'learning_rate'\?",
        ),
        ({"sft": {"warmup_ratio": 0.1}}, r"sft\.warmup_ratio: unknown key .* 'warmup_steps'"),
        ({"lora": {"rank": 8}}, r"lora\.rank: unknown key of peft\.LoraConfig"),
        ({"sft": {"output_dir": "x"}}, r"sft\.output_dir: cannot be set here: checkpoints are in the folder"),
        ({"sft": {"seed": 1}}, "set the stage's `seed`"),
        ({"sft": {"report_to": "wandb"}}, "tracking"),
        ({"sft": {"dataset_text_field": "text"}}, "prompts and completions"),
        ({"sft": {"logging_nan_inf_filter": True}}, "a loss that is not finite ends the training"),
        ({"sft": {"hub_model_id": "me/model"}}, "publish the finished"),
        ({"model": {"name_or_pth": "Qwen/Qwen2-7B"}}, "Did you mean 'name_or_path'"),
        ({"sft": "fast"}, r"config\.sft"),
        ({"max_train_example": 5}, "Did you mean 'max_train_examples'"),
    ],
)
def test_bad_keys_are_refused_when_the_experiment_is_read(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(**values)


def test_keys_that_do_not_change_the_result_are_no_identity() -> None:
    fast = parse(sft={"learning_rate": 1e-5, "save_steps": 10, "logging_steps": 1, "dataloader_num_workers": 4})
    slow = parse(sft={"learning_rate": 1e-5, "gradient_checkpointing": True}, device="cpu", keep_checkpoints=True)
    other = parse(sft={"learning_rate": 2e-5})
    assert identity_of(fast) == identity_of(slow) != identity_of(other)
    assert parse(**fast.model_dump(mode="json")) == fast


def test_local_base_model_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    here, there = (identity_of(parse(model={"name_or_path": str(tmp_path / name)})) for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "model.safetensors").write_bytes(b"other weights")
    assert here != identity_of(parse(model={"name_or_path": str(tmp_path / "there")}))


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    config = parse(sft={"learning_rate": "2e-5", "optim_args": "eps=1e-8"}, lora={"r": 4, "lora_dropout": "1e-1"})
    assert config.sft == {"learning_rate": 2e-5, "optim_args": "eps=1e-8"}
    assert config.lora == {"r": 4, "lora_dropout": 0.1}


def test_values_reach_trl_untouched(tmp_path: Path) -> None:
    values = {"learning_rate": 3e-4, "max_length": 77, "packing": True, "adam_beta2": 0.95, "eos_token": "<|im_end|>"}
    config = sections.sft_config(values, tmp_path, seed=5, on_cpu=True)
    assert {key: getattr(config, key) for key in values} == values
    assert (config.seed, config.output_dir, config.report_to, config.bf16) == (5, str(tmp_path), [], True)


def test_gradients_are_reduced_after_each_micro_step_under_fsdp_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(**values: Any) -> Any:
        made: Any = sections.sft_config(values, tmp_path, seed=0, on_cpu=True)
        return made.accelerator_config.gradient_accumulation_kwargs

    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert given() is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as `accelerate launch` sets it
    assert given() == {"sync_each_batch": True}
    asked = {"gradient_accumulation_kwargs": {"sync_each_batch": False}}
    assert given(accelerator_config=asked) == asked["gradient_accumulation_kwargs"]


def test_values_that_trl_refuses_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^sft: TRL rejects these values: .*sometimes") as caught:
        sections.sft_config({"save_strategy": "sometimes"}, tmp_path, seed=0, on_cpu=True)
    assert "\n" not in str(caught.value)


def test_keys_pass_unchecked_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sections._field_names.cache_clear()
    try:
        sections.check_lora_keys({"rank": 8})
    finally:
        sections._field_names.cache_clear()
