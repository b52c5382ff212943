"""The limit on money over a whole experiment, with a priced engine of the user's own that logs every call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.generation.budget import spent_by_experiment

ENGINE = '''
import asyncio
from typing import Annotated
from personahub.core.config import EXECUTION
from personahub.core.engines.base import Completion, Engine, PricedConfig, RequestRefused
from personahub.core.engines.price import Price

class Config(PricedConfig):
    """A completion of a million tokens costs a dollar; `merges` takes the samples of a prompt as one call."""
    price: Annotated[Price | None, EXECUTION] = Price(input=0, output=1)
    max_cost_usd: Annotated[float | None, EXECUTION] = 1
    merges: bool = False
    filters: bool = False

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    def __init__(self, config):
        super().__init__(config)
        self.merges_samples = config.merges
    async def complete(self, request):
        return (await self.complete_samples([request]))[0]
    async def complete_samples(self, requests):
        with open("calls.txt", "a") as file:
            file.write(f"{len(requests)}\\n")
        await asyncio.sleep(0.005)
        if self.config.filters:
            raise RequestRefused("content_filter", "withheld", (0, 1_000_000))
        return [Completion("fine", "stop", 0, 1_000_000, "toy") for _ in requests]
'''
STAGE = """
import pyarrow as pa
from personahub.core.config import EngineName, StageConfig
from personahub.core.engines.base import Request, Sampling
from personahub.core.generation.loop import Failure, map_completions

VERSION, INPUTS = "1", ("texts",)
SCHEMA = pa.schema([("id", pa.string())])
class Config(StageConfig):
    engine: EngineName = "toy"
    samples: int = 1

def run(stage):
    map_completions(stage, process, stage.input("texts"), SCHEMA)

async def process(stage, shard):
    sampling = Sampling()
    def prompts(row):
        messages = ({"role": "user", "content": row["id"]},)
        return [Request(messages, sampling, i, i, engine=stage.config.engine) for i in range(stage.config.samples)]
    async for row, results in shard.generate(shard.rows(), prompts, lambda request, completion: completion.text):
        if isinstance(results[0], Failure):
            shard.reject(row, results[0].error)
        else:
            shard.write(row)
"""
TEXTS = """
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ()
Config = StageConfig
def run(stage):
    with stage.writer("00000", pa.schema([("id", pa.string())])) as writer:
        for i in range(60):
            writer.write({"id": str(i)})
"""
CONFIG = """
experiment: toy
engines: {toy: {kind: toys.engine, model: toy, concurrency: 1}}
stages:
  texts: {run: toys.texts}
  asked: {run: toys.asked, inputs: {texts: texts}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toys").mkdir()
    for name, source in (("engine", ENGINE), ("asked", STAGE), ("texts", TEXTS)):
        (tmp_path / "toys" / f"{name}.py").write_text(source)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personahub", "run", "toy.yaml", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def bought(folder: Path) -> int:
    """Completions paid for, a dollar each."""
    return sum(map(int, (folder / "calls.txt").read_text().split()))


def test_replies_that_are_withheld_cost_money_too(folder: Path) -> None:
    limit = ["engines.toy.filters=true", "engines.toy.max_cost_usd=5"]
    stopped = run(folder, *limit)
    assert stopped.returncode == 2, stopped.stderr
    assert "max_cost_usd is reached: $5 of $5" in stopped.stderr
    assert bought(folder) == 5
    assert spent_by_experiment(folder / "runs/toy", "toy").completion_tokens == 5_000_000
    assert run(folder, *limit).returncode == 2
    assert bought(folder) == 5


def test_samples_that_are_asked_for_as_one_call_are_that_many_answers_before_and_after_a_restart(folder: Path) -> None:
    merged = ["engines.toy.merges=true", "stages.asked.config.samples=4"]
    assert run(folder, *merged, "engines.toy.max_cost_usd=22").returncode == 2
    assert bought(folder) == 20
    again = run(folder, *merged, "engines.toy.max_cost_usd=30", "engines.toy.concurrency=8")
    assert again.returncode == 2, again.stderr
    assert bought(folder) == 28  # two calls more; a third would have cost more than the limit
