"""A user's own engine: one file outside of the package, as docs/your_own.md shows it, run by the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact

PAGE = Path(__file__).parents[2] / "docs" / "your_own.md"
MINIMAL = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
PRICED = MINIMAL.replace("EngineConfig", "PricedConfig")
MERGED = MINIMAL.replace("class Echo(Engine[Config]):", "class Echo(Engine[Config]):\n    merges_samples = True\n")
COUNTED = MERGED.replace(
    "def open_engine",
    """
    async def complete_samples(self, requests):
        with open("calls.txt", "a") as file:
            file.write(f"{len(requests)} ")
        return await super().complete_samples(requests)

def open_engine""",
)
STAGES = """
import pyarrow as pa
from personahub.core.config import EngineName, StageConfig
from personahub.core.engines import Request, Sampling
from personahub.core.forecast import Forecast, Requests
from personahub.core.generation.loop import map_completions

VERSION, INPUTS = "1", ("words",)
SCHEMA = pa.schema([("id", pa.string()), ("answers", pa.list_(pa.string()))])

class Config(StageConfig):
    engine: EngineName = "mine"
    samples: int = 1

def forecast(config, rows):
    count = rows["words"] * config.samples
    return Forecast(rows["words"], {config.engine: Requests(count, 10 * count, 5 * count)})

def run(stage):
    map_completions(stage, process, stage.input("words"), SCHEMA)

async def process(stage, shard):
    def prompts(row):
        messages = ({"role": "user", "content": row["id"]},)
        return [Request(messages, Sampling(), i, i, engine=stage.config.engine) for i in range(stage.config.samples)]
    async for row, answers in shard.generate(shard.rows(), prompts, lambda request, completion: completion.text):
        shard.write({"id": row["id"], "answers": answers})
"""
WORDS = """
import pyarrow as pa
from personahub.core.config import StageConfig
from personahub.core.forecast import Forecast

VERSION, INPUTS, Config = "1", (), StageConfig

def forecast(config, rows):
    return Forecast(2, {})

def run(stage):
    with stage.writer("00000", pa.schema([("id", pa.string())])) as writer:
        for word in ("red", "blue"):
            writer.write({"id": word})
"""
CONFIG = """
experiment: mine
engines: {mine: {kind: mine.engine, model: echo-1}}
stages:
  words: {run: mine.words}
  asked: {run: mine.asked, inputs: {words: words}}
"""


class Folder:
    """A folder with an engine, two stages and an experiment that uses them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "mine").mkdir()
        (path / "mine.yaml").write_text(CONFIG)
        self.write(engine=MINIMAL, asked=STAGES, words=WORDS)

    def write(self, **modules: str) -> None:
        for name, source in modules.items():
            (self.path / "mine" / f"{name}.py").write_text(source)

    def call(self, command: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "personahub", command, "mine.yaml", *overrides]
        return subprocess.run(line, cwd=self.path, capture_output=True, text=True, timeout=200)

    def answers(self, *overrides: str) -> dict[str, list[str]]:
        done = self.call("run", *overrides)
        assert done.returncode == 0, done.stderr
        return {row["id"]: row["answers"] for row in open_artifact(self.path / "runs/mine/asked").rows()}

    def refusal(self, command: str, *overrides: str) -> str:
        refused = self.call(command, *overrides)
        assert refused.returncode == 2, refused.stdout
        return refused.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_fifteen_lines_are_an_engine(folder: Folder) -> None:
    assert sum(bool(line.strip()) for line in MINIMAL.splitlines()) <= 15
    assert folder.answers("engines.mine.shout=true") == {"red": ["RED"], "blue": ["BLUE"]}


@pytest.mark.parametrize(("engine", "calls"), [(MINIMAL, ""), (MERGED, ""), (COUNTED, "3 3 ")])
def test_samples_reach_an_engine_one_by_one_or_together(folder: Folder, engine: str, calls: str) -> None:
    folder.write(engine=engine)
    assert folder.answers("stages.asked.config.samples=3") == {"red": ["red"] * 3, "blue": ["blue"] * 3}
    log = folder.path / "calls.txt"
    assert (log.read_text() if log.exists() else "") == calls


def test_a_price_is_forecast_billed_and_limited(folder: Folder) -> None:
    folder.write(engine=PRICED)
    price = "engines.mine.price={input: 100000, output: 200000}"  # a completion costs two dollars
    assert "Not priced: asked" in folder.call("plan").stdout
    assert "$4.00 at $100000 and $200000 per million" in folder.call("plan", price).stdout
    assert "max_cost_usd needs a price" in folder.refusal("run", "engines.mine.max_cost_usd=1")
    limited = folder.refusal("run", price, "engines.mine.max_cost_usd=3", "engines.mine.concurrency=1")
    assert "engines.mine.max_cost_usd is reached: $2 of $3" in limited
    folder.answers(price)
    assert open_artifact(folder.path / "runs/mine/asked").manifest.usage.cost_usd == pytest.approx(4)


@pytest.mark.parametrize("key", ["replicas=2", "price={input: 1, output: 1}", "max_cost_usd=1", "shuot=true"])
def test_keys_that_an_engine_does_not_support_are_refused(folder: Folder, key: str) -> None:
    name = key.partition("=")[0]
    assert f"engines.mine.{name}: unknown key." in folder.refusal("run", f"engines.mine.{key}")


@pytest.mark.parametrize(
    "source",
    ["", MINIMAL.replace("class Config(EngineConfig)", "class Config"), MINIMAL.replace("def open_engine", "def open")],
)
def test_a_module_that_is_not_an_engine_is_refused(folder: Folder, source: str) -> None:
    folder.write(engine=source)
    refused = folder.refusal("run")
    assert (
        "engines.mine.kind: mine.engine must define `class Config(EngineConfig)` and `open_engine(config)`" in refused
    )


def test_an_engine_without_the_base_class_is_refused(folder: Folder) -> None:
    folder.write(engine=MINIMAL.replace("return Echo(config)", "return object()"))
    assert "mine.engine: open_engine returned object, not a subclass of Engine" in folder.refusal("run")


def test_an_engine_that_returns_text_is_refused(folder: Folder) -> None:
    folder.write(
        engine=MINIMAL.replace("return Completion(", "return str(").replace('"stop", 10, 5, self.config.model', "")
    )
    assert "the engine returned str, not a Completion" in folder.refusal("run")
