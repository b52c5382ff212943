"""Accuracy while training: which problems, what is written, and which weights are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from train.trainer.config import Validation
from train.trainer.validation import best_evaluation, validation_rows

Make = Callable[..., Any]

OFTEN = {"problems": 8, "every_steps": 3, "max_new_tokens": 4, "samples": 2}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_slice_is_fixed_and_of_the_training_split(data: Artifact) -> None:
    few, more = (validation_rows(data, Validation(problems=n), seed=0) for n in (4, 8))
    assert [row["id"] for row in more] == [row["id"] for row in validation_rows(data, Validation(problems=8), seed=0)]
    assert {row["id"] for row in few} < {row["id"] for row in more}
    assert not any("zebra" in row["problem"] for row in more)
    assert {row["id"] for row in more} != {row["id"] for row in validation_rows(data, Validation(problems=8), seed=1)}
    assert validation_rows(data, None, seed=0) == []


def test_slice_of_more_than_half_is_refused(data: Artifact) -> None:
    with pytest.raises(UserError, match=r"validation\.problems: 60 of the 96 training problems"):
        validation_rows(data, Validation(problems=60), seed=0)


def test_evaluations_samples_and_best_weights(train: Make) -> None:
    artifact = train(validation=OFTEN, max_train_examples=90)
    summary = artifact.manifest.summary
    assert summary["examples"] == 88  # 96 without the slice, although 90 were asked for
    found = lines(artifact.path / "validation.jsonl")
    assert [entry["step"] for entry in found] == [3, 6]
    assert all(entry["problems"] == 8 for entry in found)
    samples = lines(artifact.path / "samples.jsonl")
    assert [sample["step"] for sample in samples] == [3, 3, 6, 6]
    assert set(samples[0]) == {"step", "problem", "reference", "completion", "verdict"}
    logged = [line for line in lines(artifact.path / "metrics.jsonl") if "eval/accuracy" in line]
    assert [line["step"] for line in logged] == [3, 6]
    # Nothing is learnt in six steps; of equals the later is kept, and that is the last.
    assert summary["best_step"] == 6
    assert (artifact.path / "best").resolve() == artifact.path / "model"


def test_better_weights_of_an_earlier_step_stay(train: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    # An evaluation as a run that was killed would have left it: nothing later is as good.
    (tmp_path / "sft").mkdir()
    earlier = {"step": 1, "correct": 8, "problems": 8, "accuracy": 1.0, "seconds": 0.1}
    (tmp_path / "sft" / "validation.jsonl").write_text(json.dumps(earlier) + "\n")
    artifact = train(validation=OFTEN)
    assert artifact.manifest.summary["best_step"] == 1
    assert artifact.manifest.summary["best_validation_accuracy"] == 1.0
    assert not (artifact.path / "best").exists()  # nothing replaced what was best

    artifact = train("first", validation={**OFTEN, "every_steps": 4}, lora={"r": 2})
    best, last = (load_file(artifact.path / name / "model.safetensors") for name in ("best", "model"))
    assert best.keys() == last.keys()


def test_evaluating_changes_no_loss(train: Make) -> None:
    """The same examples, evaluated often and only at the end."""
    often, seldom = train("often", validation=OFTEN), train("seldom", validation={**OFTEN, "every_steps": 100})

    def losses(artifact: Artifact) -> list[float]:
        return [line["train/loss"] for line in lines(artifact.path / "metrics.jsonl") if "train/loss" in line]

    assert losses(often) == losses(seldom)


def test_best_is_the_later_of_equals_and_survives_a_cut_line(tmp_path: Path) -> None:
    assert best_evaluation(tmp_path) is None
    entries = [{"step": step, "correct": correct} for step, correct in ((10, 3), (20, 5), (30, 5), (40, 4))]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / "validation.jsonl").write_text(text + '{"step": 50, "corr')
    best = best_evaluation(tmp_path)
    assert best is not None
    assert best["step"] == 30
    earlier = best_evaluation(tmp_path, up_to=30)
    assert earlier is not None
    assert earlier["step"] == 20
