"""Data sets and models of the Hugging Face hub by their names: read by the hub's own clients from a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.core.test_engine_transformers import save_model
from tests.hub_server import COMMIT, HubServer, hub_server
from tests.train.conftest import sft_row, write_sft_data

TEXTS = [
    f"Text {n}: how a keeper of bees in valley {n} feeds them through a long, cold and wet winter." for n in range(6)
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with hub_server() as server:
        texts = tmp_path / "hub/texts"
        (texts / "data").mkdir(parents=True)
        (texts / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n")
        pq.write_table(pa.table({"text": TEXTS, "number": list(range(6))}), texts / "data/train-00000-of-00001.parquet")
        server.serve("datasets", "me/texts", texts)
        yield server


def run(folder: Path, hub: HubServer, stages: dict[str, Any], **more: Any) -> subprocess.CompletedProcess[str]:
    (folder / "e.json").write_text(json.dumps({"experiment": "e", "stages": stages, **more}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    account = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "personahub", "run", "e.json"]
    return subprocess.run(command, cwd=folder, env={**kept, **account}, capture_output=True, text=True, timeout=200)


def sources(**hub: str) -> dict[str, Any]:
    config = {"hub": {"name": "me/texts", "revision": COMMIT, **hub}, "min_chars": 10}
    return {"texts": {"run": "personahub.sources", "config": config}}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("[0-9]*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_texts_of_a_data_set(hub: HubServer, tmp_path: Path) -> None:
    done = run(tmp_path, hub, sources())
    assert done.returncode == 0, done.stderr
    assert [row["text"] for row in rows(tmp_path / "runs/e/texts")] == TEXTS
    assert any("/resolve/" in path for path in hub.asked)


@pytest.mark.parametrize(
    ("asked", "reported"),
    [({"name": "me/nosuch"}, "me/nosuch"), ({"revision": "d" * 40}, "dddddddd"), ({"split": "test"}, "test")],
)
def test_what_the_hub_has_not_is_one_line(hub: HubServer, tmp_path: Path, asked: dict[str, str], reported: str) -> None:
    done = run(tmp_path, hub, sources(**asked))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: texts: ")]
    assert reported in line
    assert "Traceback" not in done.stderr


def test_a_model_and_problems_by_name(hub: HubServer, tmp_path: Path) -> None:
    """A base model is trained and evaluated without ever having been a folder of the user's."""
    hub.serve("models", "me/tiny", save_model(tmp_path / "hub/tiny"))
    exam = tmp_path / "hub/exam"
    exam.mkdir(parents=True)
    lines = [json.dumps({"problem": f"What is {n} + 1?", "solution": f"\\boxed{{{n + 1}}}"}) for n in range(4)]
    (exam / "test.jsonl").write_text("\n".join(lines))
    hub.serve("datasets", "me/exam", exam)
    write_sft_data(tmp_path / "data", [sft_row(n) for n in range(8)])
    sft = {"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 128}
    student = {"kind": "transformers", "model": "me/tiny", "revision": COMMIT}
    exam_config = {"name": "exam", "hub": "me/exam", "split": "test", "revision": COMMIT}
    stages = {
        "data": {"adopt": str(tmp_path / "data")},
        "model": {
            "run": "train.sft",
            "inputs": {"data": "data"},
            "config": {"model": {"name_or_path": "me/tiny", "revision": COMMIT}, "sft": sft},
        },
        "exam": {"run": "eval.datasets", "config": exam_config},
        "before": {
            "run": "eval.benchmark",
            "inputs": {"exam": "exam"},
            "config": {"engine": "student", "sampling": {"temperature": 0, "max_tokens": 8}},
        },
    }
    done = run(tmp_path, hub, stages, engines={"student": student})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/e/model/model/model.safetensors").is_file()
    assert len(rows(tmp_path / "runs/e/before")) == 4
    assert COMMIT in (tmp_path / "runs/e/before/manifest.json").read_text()


@pytest.mark.parametrize("stage", ["model", "before"])
def test_a_model_that_the_hub_has_not_is_one_line(hub: HubServer, tmp_path: Path, stage: str) -> None:
    write_sft_data(tmp_path / "data", [sft_row(n) for n in range(8)])
    (tmp_path / "exam.jsonl").write_text(json.dumps({"problem": "What is 1 + 1?", "answer": "2"}))
    stages = {
        "data": {"adopt": str(tmp_path / "data")},
        "exam": {"run": "eval.datasets", "config": {"name": "exam", "path": "exam.jsonl"}},
        "model": {"run": "train.sft", "inputs": {"data": "data"}, "config": {"model": {"name_or_path": "me/nosuch"}}},
        "before": {"run": "eval.benchmark", "inputs": {"exam": "exam"}, "config": {"engine": "student"}},
    }
    del stages[{"model": "before", "before": "model"}[stage]]
    done = run(tmp_path, hub, stages, engines={"student": {"kind": "transformers", "model": "me/nosuch"}})
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "me/nosuch" in done.stderr
