"""MATH-500 through a real vLLM server: generated, graded, killed half-way, resumed without repeating a problem."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from personahub.core import records
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.texts.student_prompt import student_prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONCURRENCY = 16


@pytest.fixture(scope="module")
def problems(test_data: Path) -> Path:
    return test_data / "math" / "math500.jsonl"


@pytest.fixture(scope="module")
def model(build: Any, run: Any, problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Qwen2 that train.init_model makes, its tokenizer learnt from MATH-500.

    vLLM's attention on the CPU takes heads of 32, 64, ... dimensions, not of 16.
    """
    folder = tmp_path_factory.mktemp("model")
    rows = []
    for number, line in enumerate(problems.open(encoding="utf-8")):
        row = json.loads(line)
        answer = [{"role": "assistant", "content": row["solution"]}]
        prompt = list(student_prompt("solve")(row["problem"]))
        rows.append({"id": str(number), "split": "train", "prompt": prompt, "completion": answer})
    data = build(folder / "data", "synth.sft_data", rows, records.SFT)
    config = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3}
    config |= {"max_position_embeddings": 4096}
    return run(folder / "base", "train.init_model", {"data": data}, config).path / "model"


@pytest.fixture(scope="module")
def server(vllm: ModuleType, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with vllm.serve(model, tmp_path_factory.mktemp("vllm") / "server.log") as running:
        print(f"vLLM answers after {running.started_in_s:.0f} s")
        yield running


def experiment(folder: Path, problems: Path, base_url: str) -> Path:
    engine = {
        "kind": "openai",
        "model": "tiny",
        "base_url": base_url,
        "concurrency": CONCURRENCY,
        "max_retry_s": 20,
        "max_outage_s": 20,
    }
    values = {
        "experiment": "vllm",
        "engines": {"tiny": engine},
        "stages": {
            "math500": {"run": "eval.datasets", "config": {"name": "math500", "path": str(problems)}},
            "accuracy": {
                "run": "eval.benchmark",
                "inputs": {"math500": "math500"},
                "config": {
                    "engine": "tiny",
                    "sampling": {"temperature": 0, "max_tokens": 128},
                    "rows_per_shard": 100,
                },
            },
        },
    }
    file = folder / "vllm.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def journaled(stage: Path) -> int:
    """Completions that reached the disk, whole lines only."""
    return sum(file.read_bytes().count(b"\n") for file in (stage / "journal").glob("*.jsonl"))


def start(config: Path, runs: Path, repository: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "personahub", "run", str(config), "--runs", str(runs)]
    return subprocess.Popen(words, cwd=repository, start_new_session=True, stdout=subprocess.DEVNULL)


def kill_half_way(process: subprocess.Popen[bytes], stage: Path, total: int) -> int:
    """SIGKILL to the whole process group once half of the completions are there; how many were."""
    while journaled(stage) < total // 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    found = journaled(stage)
    assert found < total
    return found


def check(artifact: Artifact) -> None:
    """All 500 problems are graded, each once."""
    rows = list(artifact.rows())
    result = artifact.manifest.summary["benchmarks"]["math500"]
    assert len(rows) == len({row["id"] for row in rows}) == result["n"] == sum(result["verdicts"].values()) == 500
    assert result["verdicts"]["error"] == result["verdicts"]["timeout"] == 0
    assert sum(level["n"] for level in result["by_level"].values()) == 500
    assert all(row["completion_tokens"] > 0 for row in rows)
    assert artifact.manifest.summary["reference_self_check"]["math500"]["correct"] == 500


def test_math500_survives_a_kill(server: Any, problems: Path, repository: Path, tmp_path: Path) -> None:
    config = experiment(tmp_path, problems, server.base_url)
    stage = tmp_path / "runs" / "vllm" / "accuracy"

    started = time.monotonic()
    kept = kill_half_way(start(config, tmp_path / "runs", repository), stage, 500)
    server.wait_until_idle()
    first = server.finished()
    first_s = time.monotonic() - started

    started = time.monotonic()
    assert start(config, tmp_path / "runs", repository).wait() == 0
    server.wait_until_idle()
    second = {reason: count - first.get(reason, 0) for reason, count in server.finished().items()}
    second_s = time.monotonic() - started

    artifact = open_artifact(stage)
    check(artifact)
    result = artifact.manifest.summary["benchmarks"]["math500"]
    print(f"killed after {kept} of 500 completions ({first_s:.0f} s); the server had finished {first}")
    print(f"resumed: the server finished {second} ({second_s:.0f} s); verdicts {result['verdicts']}")
    # the server's own count: what was on disk at the kill was not asked for again
    assert sum(second.values()) == 500 - kept
    assert second.get("abort", 0) == 0
    # what was generated twice was in flight at the kill: answered by the server, and never written down here
    answered = sum(count for reason, count in first.items() if reason != "abort")
    assert 0 <= answered - kept <= CONCURRENCY
    assert artifact.manifest.usage.requests == 500

    asked = sum(server.finished().values())
    assert start(config, tmp_path / "runs", repository).wait() == 0  # a finished run asks nothing
    assert sum(server.finished().values()) == asked
