"""`personahub plan`: what it says of money, machines and sizes before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from personahub.commands.cli import main
from personahub.core.artifact import open_artifact

CONFIG = """
experiment: priced
engines:
  writer:
    kind: openai
    model: gpt-4o-2024-08-06
    price: {input: 2.5, output: 10, as_of: "the provider's list, 2024-08"}
  solver: {kind: vllm, model: Qwen/Qwen2.5-7B-Instruct, tensor_parallel_size: 2}
  other: {kind: vllm, model: Qwen/Qwen2.5-72B-Instruct, tokens_per_second: 1000, tensor_parallel_size: 4}
stages:
  personas: {run: personahub.load_personas, config: {path: %s}}
  unique: {run: personahub.dedup, inputs: {personas: personas}, config: {methods: [{method: surface}]}}
  problems: {run: synth.problems, inputs: {personas: unique}, config: {engine: writer, problems_per_persona: %d}}
  solutions:
    run: synth.solutions
    inputs: {problems: problems}
    config: {samples: [{engine: solver, kind: cot}, {engine: other, kind: cot, n: 2}]}
"""

Said = Callable[..., str]


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Returns what a command prints about 30 personas."""
    personas = tmp_path / "personas.jsonl"
    personas.write_text("".join(f'{{"persona": "a nurse who keeps {n} bees"}}\n' for n in range(30)))

    def run(*words: str, per_persona: int = 10) -> str:
        config = tmp_path / "config.yaml"
        config.write_text(CONFIG % (personas, per_persona))
        assert main([words[0], str(config), "--runs", str(tmp_path / "runs"), *words[1:]]) == 0
        return capsys.readouterr().out

    return run


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_bill_of_an_engine_at_once_and_by_the_batch_api(said: Said) -> None:
    line = line_of(said("plan", per_persona=1000), "writer (gpt-4o-2024-08-06)")
    tokens = [float(n) for n in re.findall(r"([\d.]+)M tokens in, ([\d.]+)M out", line)[0]]
    at_once, in_batches = (float(n) for n in re.findall(r"\$([\d.]+)(?: at|, within| within)", line))
    assert "30,000 requests" in line
    assert "at $2.5 and $10 per million (the provider's list, 2024-08)" in line
    assert at_once == pytest.approx(2.5 * tokens[0] + 10 * tokens[1], rel=0.01)
    assert in_batches == pytest.approx(at_once / 2, abs=0.01)


def test_gpu_hours_of_an_engine_come_from_its_measured_rate(said: Said) -> None:
    text = said("plan", per_persona=1000)
    assert "its GPU-hours are not known: measure and set tokens_per_second" in line_of(text, "solver (")
    # 60,000 samples of 550 tokens at 1,000 a second, four GPUs
    assert re.search(rf" {60_000 * 550 / 1000 / 3600 * 4:.1f} ", line_of(text, "solutions "))


def test_work_of_the_harness_grows_with_the_rows(said: Said) -> None:
    def totals(per_persona: int) -> tuple[float, float, float]:
        found = re.search(
            r"([\d.,]+) GB of disk; for the harness itself ([\d.,]+) CPU-hours and at most ([\d.,]+) GB",
            said("plan", per_persona=per_persona),
        )
        assert found is not None
        disk, cpu, memory = (float(number.replace(",", "")) for number in found.groups())
        return disk, cpu, memory

    small, large = totals(100_000), totals(1_000_000)
    assert large[0] == pytest.approx(10 * small[0], rel=0.1)
    assert large[1] == pytest.approx(10 * small[1], rel=0.1)
    assert large[1] > 0.5
    assert 0.1 <= small[2] <= large[2]


def test_manifest_tells_the_cpu_and_memory_that_a_stage_took(said: Said, tmp_path: Path) -> None:
    said("run", "--only", "unique")
    manifest = open_artifact(tmp_path / "runs" / "priced" / "unique").manifest
    assert 0.1 < manifest.cpu_seconds < 120
    assert 5e7 < manifest.peak_bytes < 4e9
