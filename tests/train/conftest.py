"""Small real artifacts for the training stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Libraries read these at import: nothing in a test asks the hub, and threads do not spin.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import pytest

from personahub.core.artifact import Artifact, Counts, InputReference, Manifest, Usage, open_artifact
from personahub.core.experiments.stage_process import run_stage
from personahub.core.files import write_json
from personahub.core.records import SFT, Row
from personahub.core.shards import ShardWriter
from personahub.core.stage import StageSpec

TINY = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}


def sft_row(number: int, split: str = "train", problem: str | None = None, solution: str | None = None) -> Row:
    """One record of the schema SFT: an addition."""
    problem = problem or f"Ana has {number} apples and buys {number + 3} more. How many apples does she have?"
    solution = solution or f"She has {number} + {number + 3} = {2 * number + 3} apples. \\boxed{{{2 * number + 3}}}"
    return {
        "id": f"{number:032x}",
        "split": split,
        "prompt": [{"role": "user", "content": problem}],
        "completion": [{"role": "assistant", "content": solution}],
        "problem": problem,
        "answer": str(2 * number + 3),
        "persona_id": "p",
        "document_id": "d",
        "licence": "CC0-1.0",
        "model": "simulated-teacher",
        "machine_generated": True,
    }


def write_sft_data(path: Path, rows: Sequence[Row]) -> Artifact:
    """An artifact of `rows`, as synth.sft_data would leave it."""
    with ShardWriter(path, "00000", SFT) as writer:
        for row in rows:
            writer.write(row)
    manifest = Manifest(
        experiment="test",
        stage="sft_data",
        module="synth.sft_data",
        version="1",
        fingerprint="f" * 32,
        config={},
        identity={},
        inputs={},
        shards={"00000": len(rows)},
        counts=Counts(rows_out=len(rows)),
        usage=Usage(),
        summary={},
        seconds=0.0,
        created="2026-01-01T00:00:00+00:00",
        versions={},
        command="",
    )
    write_json(path / "manifest.json", manifest.model_dump(mode="json"))
    return open_artifact(path)


def make_spec(module: str, config: dict[str, Any], inputs: dict[str, Artifact]) -> StageSpec:
    """Returns what the runner would write to stage.json."""
    return StageSpec(
        experiment="test",
        stage=module.rpartition(".")[2],
        module=module,
        version="1",
        fingerprint="0" * 32,
        identity=config,
        config=config,
        inputs={k: InputReference(path=str(a.path), fingerprint=a.fingerprint) for k, a in inputs.items()},
        engines={},
    )


@pytest.fixture(scope="session", name="tiny_shape")
def _tiny_shape() -> dict[str, int]:
    return dict(TINY)


@pytest.fixture(scope="session", name="sft_row")
def _sft_row() -> Callable[..., Row]:
    return sft_row


@pytest.fixture(scope="session", name="write_sft_data")
def _write_sft_data() -> Callable[[Path, Sequence[Row]], Artifact]:
    return write_sft_data


@pytest.fixture(scope="session", name="make_spec")
def _make_spec() -> Callable[..., StageSpec]:
    return make_spec


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """96 additions to train on and 8 held out, whose text says so."""
    rows = [sft_row(number) for number in range(96)]
    rows += [sft_row(number, "test", problem=f"zebra quiz {number}?") for number in range(900, 908)]
    return write_sft_data(tmp_path_factory.mktemp("artifacts") / "sft_data", rows)


@pytest.fixture(scope="session")
def base_model(data: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tiny random model with a tokenizer, from the real stage."""
    path = tmp_path_factory.mktemp("models") / "init_model"
    return run_stage(make_spec("train.init_model", TINY, {"data": data}), path)


@pytest.fixture
def train(data: Artifact, base_model: Artifact, tmp_path: Path) -> Callable[..., Artifact]:
    """Runs train.sft on the additions for a few steps; keyword arguments change its config."""

    def run(name: str = "sft", data: Artifact = data, sft: dict[str, Any] | None = None, **config: Any) -> Artifact:
        steps = {"max_steps": 6, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-3}
        settings = {**steps, "gradient_checkpointing": False, "max_length": 192, **(sft or {})}
        spec = make_spec("train.sft", {"sft": settings, **config}, {"data": data, "model": base_model})
        return run_stage(spec, tmp_path / name)

    return run
