"""train.sft end to end on a tiny model: what it leaves, how it resumes, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.experiments.stage_process import run_stage
from personahub.core.files import write_json
from personahub.core.stage import Stage
from train import sft

Make = Callable[..., Any]

SAVING = {"save_steps": 3, "logging_steps": 1}


def losses(artifact_path: Path) -> dict[int, float]:
    """Loss by step; a step that was made again counts once, as it was made last."""
    lines = [json.loads(line) for line in (artifact_path / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/loss"] for line in lines}


def weights(artifact: Artifact) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(artifact.path / "model" / "model.safetensors")


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process's run as the step is logged, without giving it time to tidy up."""

    def log(self: Stage[Any], metrics: dict[str, float], step_logged: int | None = None, **values: Any) -> None:
        if values.get("step", step_logged) == step:
            raise KeyboardInterrupt
        original(self, metrics, values.get("step", step_logged))

    original = Stage.log
    monkeypatch.setattr(Stage, "log", log)


def test_trained_model_loads_with_template_and_card(train: Make, base_model: Artifact) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    artifact = train()
    tokenizer = AutoTokenizer.from_pretrained(artifact.path / "model")
    model = AutoModelForCausalLM.from_pretrained(artifact.path / "model")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    assert model.generate(**prompt, max_new_tokens=3).shape[1] <= prompt["input_ids"].shape[1] + 3
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert not model.generation_config.do_sample
    assert not same(weights(artifact), weights(base_model))

    card = (artifact.path / "model" / "README.md").read_text()
    for part in ("f" * 32, "sft_data", "init_model", "simulated-teacher", "CC0-1.0", "achine-generated", "0.001"):
        assert part in card
    summary = artifact.manifest.summary
    assert (summary["steps"], summary["examples"], summary["truncated"]) == (6, 96, 0)
    assert summary["final_loss"] < summary["first_loss"]
    assert sorted(path.name for path in artifact.path.iterdir()) == ["manifest.json", "metrics.jsonl", "model"]


def test_metrics_have_loss_rate_and_speed_for_each_step(train: Make) -> None:
    lines = [json.loads(line) for line in (train().path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["train/grad_norm"] > 0
        assert line["train/learning_rate"] > 0
        assert line["train/tokens_per_second"] > 0
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]


def test_killed_run_resumes_with_the_losses_of_an_undisturbed_one(
    train: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train("undisturbed", sft=SAVING)
    others = set(threading.enumerate())
    with monkeypatch.context() as patch:
        interrupt_at(5, patch)
        with pytest.raises(KeyboardInterrupt):
            train("killed", sft=SAVING)
    for watch in set(threading.enumerate()) - others:
        watch.join(10)
        assert not watch.is_alive(), "a finished task's bar must not report a stall"
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-3"]
    shutil.copytree(checkpoints / "checkpoint-3", checkpoints / "checkpoint-4")  # one that was being written
    (checkpoints / "checkpoint-4" / "trainer_state.json").write_text('{"global_step": 4')

    resumed = train("killed", sft=SAVING)
    steps = [json.loads(line)["step"] for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4, 5, 6]
    assert losses(resumed.path) == losses(undisturbed.path)
    assert same(weights(resumed), weights(undisturbed))
    assert resumed.manifest.summary == undisturbed.manifest.summary
    assert not checkpoints.exists()


def test_mean_of_a_log_does_not_depend_on_where_a_run_was_killed(
    train: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = {"max_steps": 8, "save_steps": 3, "logging_steps": 4}
    undisturbed = train("undisturbed", sft=apart)
    assert list(losses(undisturbed.path)) == [3, 4, 6, 8]
    with monkeypatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train("killed", sft=apart)
    assert losses(train("killed", sft=apart).path) == losses(undisturbed.path)


@pytest.mark.parametrize(
    ("sft", "step", "checkpoint"),
    [
        ({"logging_steps": 1, "save_steps": 1}, 2, r"the last complete checkpoint, .*checkpoint-1, is older"),
        ({"logging_steps": 500, "save_steps": 3}, 3, "there is no checkpoint"),
        ({"logging_steps": 500, "save_strategy": "no"}, 6, "there is no checkpoint"),
    ],
    ids=["at the next log", "before a save", "at the end"],
)
def test_diverged_training_is_an_error_and_leaves_no_spoiled_weights(
    sft: dict[str, Any], step: int, checkpoint: str, train: Make, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    with pytest.raises(
        UserError,
        match=rf"diverged: at step {step} the loss is nan .*learning rate .*; {checkpoint}\..*Lower .*--redo sft",
    ):
        train(sft={**sft, "learning_rate": 1e25})
    assert not (tmp_path / "sft" / "model").exists()
    for saved in (tmp_path / "sft" / "checkpoints").glob("*/model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(saved).values())


def test_run_killed_after_saving_its_model_does_not_train_again(train: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train("done")
    saved = (first.path / "model" / "model.safetensors").stat().st_mtime_ns
    (first.path / "manifest.json").unlink()
    again = train("done")
    assert (again.path / "model" / "model.safetensors").stat().st_mtime_ns == saved
    assert again.manifest.summary == first.manifest.summary


def test_checkpoints_stay_when_asked(train: Make) -> None:
    artifact = train(sft=SAVING, keep_checkpoints=True)
    assert {path.name for path in (artifact.path / "checkpoints").glob("c*")} == {"checkpoint-3", "checkpoint-6"}


def test_lora_trains_an_adapter_and_saves_a_merged_model(train: Make, base_model: Artifact) -> None:
    from transformers import AutoModelForCausalLM

    artifact = train(lora={"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, sft={"learning_rate": 1e-2})
    summary = artifact.manifest.summary
    assert 0 < summary["trained_parameters"] < summary["parameters"]
    assert (artifact.path / "model" / "adapter" / "adapter_model.safetensors").exists()
    assert type(AutoModelForCausalLM.from_pretrained(artifact.path / "model")).__name__ == "Qwen2ForCausalLM"
    merged, base = weights(artifact), weights(base_model)
    changed = {name for name in base if not merged[name].equal(base[name])}
    assert any("q_proj" in name for name in changed)
    assert "model.embed_tokens.weight" not in changed


def test_subset_of_the_data_is_counted(train: Make) -> None:
    assert train(max_train_examples=16).manifest.summary["examples"] == 16


def test_packing_trains_on_all_tokens(train: Make) -> None:
    artifact = train(sft={"packing": True, "per_device_train_batch_size": 1, "max_length": 256})
    lines = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train/num_tokens"] > 0.8 * 6 * 256


def test_truncation_past_the_threshold_is_refused(train: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sft\.max_length=70 would truncate .* of 96"):
        train(sft={"max_length": 70})
    assert not (tmp_path / "sft" / "manifest.json").exists()


def test_base_model_by_path_needs_no_input(
    data: Artifact, base_model: Artifact, make_spec: Make, tmp_path: Path
) -> None:
    config = {"model": {"name_or_path": str(base_model.path / "model")}, "sft": {"max_steps": 1, "max_length": 192}}
    artifact = run_stage(make_spec("train.sft", config, {"data": data}), tmp_path / "sft")
    assert artifact.manifest.summary["steps"] == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"no base model; add an input `model`"),
        ({"model": {"name_or_path": "EMPTY"}}, r"not a model folder: it has no config\.json"),
    ],
)
def test_missing_base_model_is_one_line(
    config: dict[str, Any], message: str, data: Artifact, make_spec: Make, tmp_path: Path
) -> None:
    if config:
        config = {"model": {"name_or_path": str(tmp_path)}}
    with pytest.raises(UserError, match=message):
        run_stage(make_spec("train.sft", config, {"data": data}), tmp_path / "sft")


def test_damaged_base_model_is_one_line(data: Artifact, base_model: Artifact, make_spec: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base_model.path / "model", broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot build the trainer") as caught:
        run_stage(
            make_spec(
                "train.sft", {"model": {"name_or_path": str(broken)}, "sft": {"max_length": 192}}, {"data": data}
            ),
            tmp_path / "sft",
        )
    assert "\n" not in str(caught.value)


def test_two_base_models_are_refused(train: Make, base_model: Artifact) -> None:
    with pytest.raises(UserError, match=r"both the input `model` and model\.name_or_path name"):
        train(model={"name_or_path": str(base_model.path / "model")})


def test_no_training_example_is_one_line(train: Make, write_sft_data: Make, sft_row: Make, tmp_path: Path) -> None:
    held_out = write_sft_data(tmp_path / "held_out", [sft_row(1, "test")])
    with pytest.raises(UserError, match=r"held_out: no examples to train on \(no record has split 'train'\)"):
        train(data=held_out)


def test_cuda_is_refused_where_there_is_none(train: Make) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UserError, match="finds no CUDA device"):
        train(device="cuda")


def test_forecast_of_the_papers_run() -> None:
    config = parse_config(
        sft.Config, {"model": {"name_or_path": "Qwen/Qwen2-7B"}, "sft": {"num_train_epochs": 3}}, "config"
    )
    forecast = sft.forecast(config, {"data": 1_070_000})
    assert forecast.rows_out == 0
    assert forecast.gpu_hours == pytest.approx(84.6, rel=0.01)
    assert any("7.62B parameters" in note for note in forecast.notes)
    assert any("GB per GPU" in note for note in forecast.notes)
    lora = parse_config(sft.Config, {"model": {"name_or_path": "Qwen/Qwen2-7B"}, "lora": {"r": 16}}, "config")
    assert sft.forecast(lora, {"data": 1_070_000}).gpu_hours < 0.7 * forecast.gpu_hours


def test_forecast_without_a_known_size_says_so() -> None:
    config = parse_config(sft.Config, {"sft": {"max_steps": 10, "per_device_train_batch_size": 4}}, "config")
    forecast = sft.forecast(config, {"data": 500, "model": 0})
    assert forecast.gpu_hours == 0
    assert "2.8e+04 tokens" in forecast.notes[0]


@pytest.fixture
def write_stage(data: Artifact, base_model: Artifact, make_spec: Make) -> Callable[[Path, dict[str, Any]], Path]:
    """Writes what the runner would hand to a stage's process."""

    def write(path: Path, config: dict[str, Any]) -> Path:
        path.mkdir()
        spec = make_spec("train.sft", config, {"data": data, "model": base_model})
        write_json(path / "stage.json", spec.model_dump(mode="json"))
        return path / "stage.json"

    return write


def worker_environment() -> dict[str, str]:
    """Of a user: nothing that keeps libraries offline is set for the stage."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(train: Make, write_stage: Make, tmp_path: Path) -> None:
    settings = {
        "max_steps": 40,
        "per_device_train_batch_size": 4,
        "max_length": 192,
        "logging_steps": 1,
        "save_steps": 5,
        "learning_rate": 1e-3,  # as the fixture has it
    }
    undisturbed = train("undisturbed", sft=settings)
    command = [sys.executable, "-m", "personahub.core.experiments.stage_process"]
    stage_file = write_stage(tmp_path / "killed", {"sft": {**settings, "gradient_checkpointing": False}})
    process = subprocess.Popen([*command, str(stage_file)], env=worker_environment())
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed" / "checkpoints").glob("checkpoint-1*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    subprocess.run([*command, str(stage_file)], env=worker_environment(), check=True)
    assert losses(tmp_path / "killed") == pytest.approx(losses(undisturbed.path), rel=1e-4)


@pytest.mark.slow
def test_no_library_phones_home(write_stage: Make, tmp_path: Path) -> None:
    stage_file = write_stage(tmp_path / "sft", {"sft": {"max_steps": 1, "max_length": 192}})
    code = (
        "import socket, sys\n"
        "asked = []\n"
        "socket.getaddrinfo = lambda host, *rest, **more: asked.append(host) or (_ for _ in ()).throw(OSError(host))\n"
        "from personahub.core.experiments.stage_process import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit(code or (f'asked for {asked}' if asked else 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(stage_file)], env=worker_environment(), check=False)
    assert done.returncode == 0
