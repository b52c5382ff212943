"""The generation loop with an engine and stage of the user's own: order, retries, journal, kills."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from personahub.core.engines.base import Request, Sampling
from personahub.core.errors import UserError
from personahub.core.generation.journal import Journal, RequestKeys

ENGINE = '''
import asyncio, os
from pathlib import Path
from personahub.core.engines.base import Completion, Engine, EngineConfig, EngineUnavailable, RequestRefused

class Config(EngineConfig):
    latency: float = 0.0
    system: str = ""
    fail_after: int = 10**9

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    """Answers `echo: <text>`, logs every call, and misbehaves on texts that ask for it."""
    def __init__(self, config):
        self.config, self.concurrency, self.calls = config, config.concurrency, 0
        self.log = os.open("calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async def complete(self, request):
        text = request.messages[-1]["content"]
        os.write(self.log, f"{text} {request.sample} {request.attempt} {request.seed}\\n".encode())
        self.calls += 1
        await asyncio.sleep(self.config.latency * (1 + request.seed % 5))
        if self.calls > self.config.fail_after:
            raise EngineUnavailable("http://nowhere: the endpoint is gone")
        if "refuse" in text:
            raise RequestRefused("prompt_too_long", "9999 tokens")
        if "stubborn" in text or ("shy" in text and request.attempt < 2):
            return Completion("no", "stop", 3, 1, "toy")
        return Completion(f"echo: {text} \\ud83d", "stop", 3, 2, "toy", {"secret": text})
    async def close(self):
        os.close(self.log)
'''
STAGE = """
import pyarrow as pa
from personahub.core.config import EngineName, StageConfig
from personahub.core.engines.base import Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.generation.loop import Failure, map_completions
from personahub.core.identity import derive_seed

VERSION, INPUTS = "1", ("texts",)
class Config(StageConfig):
    engine: EngineName = "toy"
    samples: int = 2
    temperature: float = 1.0

def run(stage):
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    map_completions(stage, process, stage.input("texts"), schema)

async def process(stage, shard):
    sampling = Sampling(temperature=stage.config.temperature)
    def prompts(row):
        messages = ({"role": "user", "content": row["text"]},)
        return [Request(messages, sampling, derive_seed(stage.config.seed, row["id"], i), i, engine=stage.config.engine)
                for i in range(stage.config.samples)]
    def parse(request, completion):
        if not completion.text.startswith("echo: "):
            raise Rejected("no_echo")
        return completion.text
    async for row, results in shard.generate(shard.rows(), prompts, parse, attempts=3):
        for result in results:
            if isinstance(result, Failure):
                shard.reject(row, result.error, result.raw)
            else:
                shard.write({"id": row["id"], "text": result})
"""
TEXTS = """
import json
import pyarrow as pa
from personahub.core.config import StageConfig
VERSION, INPUTS = "1", ()
class Config(StageConfig):
    texts: tuple[str, ...] = ()
    count: int = 0
def run(stage):
    texts = [*stage.config.texts, *(f"text-{i}" for i in range(stage.config.count))]
    for shard in range(3):
        with stage.writer(f"{shard:05d}", pa.schema([("id", pa.string()), ("text", pa.string())])) as writer:
            for i in range(shard, len(texts), 3):
                writer.write({"id": str(i), "text": texts[i]})
"""
CONFIG = """
experiment: toy
engines: {toy: {kind: toys.engine, model: toy, concurrency: 8}}
stages:
  texts: {run: toys.texts, config: {count: 60}}
  echo: {run: toys.echo, inputs: {texts: texts}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toys").mkdir()
    for name, source in (("engine", ENGINE), ("echo", STAGE), ("texts", TEXTS)):
        (tmp_path / "toys" / f"{name}.py").write_text(source)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "personahub", "run", "toy.yaml", *overrides]


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*overrides), cwd=folder, capture_output=True, text=True, timeout=60)


def calls(folder: Path) -> list[str]:
    return (folder / "calls.txt").read_text().splitlines()


def rows(folder: Path, experiment: str = "toy") -> list[dict]:
    return list(open_artifact(folder / "runs" / experiment / "echo").rows())


def test_every_record_in_order_whatever_the_latency(folder: Path) -> None:
    result = run(folder, "engines.toy.latency=0.002")
    assert result.returncode == 0, result.stderr
    ids = [row["id"] for row in rows(folder)]
    assert ids == [str(i) for shard in range(3) for i in range(shard, 60, 3) for _ in range(2)]
    assert len(calls(folder)) == len(set(calls(folder))) == 120
    artifact = open_artifact(folder / "runs/toy/echo")
    assert artifact.manifest.usage.model_dump() == {
        "requests": 120,
        "prompt_tokens": 360,
        "completion_tokens": 240,
        "cost_usd": 0.0,
    }
    assert all(row["text"].endswith(" ?") for row in artifact.rows())  # a lone surrogate cannot be stored
    assert {json.loads(row["truth"])["secret"] for row in artifact.truth()} == {f"text-{i}" for i in range(60)}


def test_failures_are_retried_with_new_seeds_then_kept_with_raw_text(folder: Path) -> None:
    texts = "stages.texts.config={texts: [fine, shy one, stubborn one, refuse me]}"
    result = run(folder, texts, "stages.echo.config.samples=1")
    assert result.returncode == 0, result.stderr
    assert sorted(row["text"] for row in rows(folder)) == ["echo: fine ?", "echo: shy one ?"]
    rejected = {row["id"]: row for row in open_artifact(folder / "runs/toy/echo").rejected()}
    assert (rejected["2"]["reason"], rejected["2"]["raw"]) == ("no_echo", "no")
    assert (rejected["3"]["reason"], rejected["3"]["detail"]) == ("prompt_too_long", "9999 tokens")
    asked = collections.Counter(line.rsplit(" ", 3)[0] for line in calls(folder))
    assert asked == {"fine": 1, "shy one": 3, "stubborn one": 3, "refuse me": 1}
    assert len({line.rsplit(" ", 1)[1] for line in calls(folder) if line.startswith("shy")}) == 3


def test_greedy_requests_are_not_repeated(folder: Path) -> None:
    texts = "stages.texts.config={texts: [stubborn]}"
    run(folder, texts, "stages.echo.config={samples: 1, temperature: 0}")
    assert len(calls(folder)) == 1


def test_an_endpoint_that_goes_away_stops_the_run_and_nothing_is_asked_again(folder: Path) -> None:
    result = run(folder, "engines.toy={kind: toys.engine, model: toy, fail_after: 50, concurrency: 8}")
    assert result.returncode == 2
    assert result.stderr == "error: echo: http://nowhere: the endpoint is gone\n"
    before = len(calls(folder))
    # `fail_after` is identity for this toy, so keep it: more calls than that are not needed any more.
    for _ in range(2):
        last = run(folder, "engines.toy={kind: toys.engine, model: toy, fail_after: 50, concurrency: 8}")
    assert last.returncode == 0, last.stderr
    assert len(rows(folder)) == 120
    assert len(calls(folder)) - 120 <= 2 * 16 + (before - 50)


def test_kill_at_random_moments_repeats_only_what_was_in_flight(folder: Path) -> None:
    generator = random.Random(5)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command("engines.toy.latency=0.02"), cwd=folder, start_new_session=True)
        seen = len(calls(folder)) if (folder / "calls.txt").exists() else 0
        target = seen + generator.randrange(5, 30)
        while process.poll() is None and (not (folder / "calls.txt").exists() or len(calls(folder)) < target):
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert run(folder, "engines.toy.latency=0.02").returncode == 0
    assert kills >= 2
    ids = [row["id"] for row in rows(folder)]
    assert ids == [str(i) for shard in range(3) for i in range(shard, 60, 3) for _ in range(2)]
    asked = collections.Counter(calls(folder))
    assert len(asked) == 120
    # 8 in flight, and at most 8 more that arrived in the turn of the event loop which the kill cut short
    assert sum(asked.values()) - 120 <= kills * 16


def test_redo_reuses_journaled_completions(folder: Path) -> None:
    run(folder)
    before = len(calls(folder))
    again = subprocess.run([*command(), "--redo", "echo"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert len(calls(folder)) == before
    assert len(rows(folder)) == 120


def request(**changes: object) -> Request:
    values: dict = {
        "messages": ({"role": "system", "content": "s"}, {"role": "user", "content": "u"}),
        "sampling": Sampling(),
        "seed": 1,
    }
    return Request(**{**values, **changes})


def test_keys_differ_wherever_the_answer_could() -> None:
    """The ablation trap: two arms that differ in one thing only must never share a completion."""
    scope = ["synth.problems", "1", {"model": "m", "base_url": "http://a"}]
    variants = [
        (request(), scope),
        (request(), ["synth.problems", "2", {"model": "m", "base_url": "http://a"}]),
        (request(), ["synth.problems", "1", {"model": "m", "base_url": "http://b"}]),
        (request(), ["synth.problems", "1", {"model": "n", "base_url": "http://a"}]),
        (request(messages=({"role": "system", "content": "t"}, {"role": "user", "content": "u"})), scope),
        (request(messages=({"role": "user", "content": "u"},)), scope),
        (request(seed=2), scope),
        (request(sample=1), scope),
        (request(attempt=1), scope),
        (request(json_schema={"type": "object"}), scope),
        *(
            (request(sampling=Sampling(**{name: value})), scope)
            for name, value in {
                "temperature": 0.5,
                "top_p": 0.5,
                "max_tokens": 5,
                "stop": ("x",),
                "extra": {"top_k": 1},
            }.items()
        ),
    ]
    assert len({RequestKeys(scope)(asked) for asked, scope in variants}) == len(variants)
    keys = RequestKeys(scope)
    assert len({keys(asked) for asked, of in variants if of is scope}) == sum(of is scope for _, of in variants)
    assert keys(request(engine="teacher")) == keys(request(engine="other name")) == RequestKeys(scope)(request())


def append(path: Path, entries: dict[str, dict]) -> None:
    async def write() -> None:
        journal = Journal(path)
        for key, entry in entries.items():
            journal.append(key, entry)
        await asyncio.sleep(0)
        size = path.stat().st_size
        journal.close()
        assert path.stat().st_size == size, "the event loop's turn is over and not all is handed over"

    asyncio.run(write())


def test_a_torn_journal_tail_is_cut_and_damage_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "00000.jsonl"
    entries = {f"k{i}": {"text": f"text {i}\n\u2028é", "tokens": i} for i in range(3)}
    append(path, entries)
    whole = path.read_bytes()
    for cut in (1, 5, 40):
        path.write_bytes(whole[:-cut])
        journal = Journal(path)
        assert [journal.get(f"k{i}") for i in range(3)] == [entries["k0"], entries["k1"], None]
        journal.close()
        append(path, {"k2": entries["k2"]})
        assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b'"k1"', b'"k1', 1))
    with pytest.raises(UserError, match=r"00000.jsonl:2: damaged journal line"):
        Journal(path)


def test_no_flipped_bit_is_taken_for_a_completion(tmp_path: Path) -> None:
    """Each bit of a line in turn: most leave it JSON."""
    path = tmp_path / "00000.jsonl"
    entries = {"k0": {"text": "She has 12 apples."}, "k1": {"text": "x", "tokens": 7}}
    append(path, entries)
    whole = path.read_bytes()
    for bit in range(8 * whole.index(b"\n") + 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"00000.jsonl:1: damaged journal line"):
            Journal(path)


def test_a_full_disk_stops_the_run_with_one_line(tmp_path: Path) -> None:
    async def write() -> None:
        journal = Journal(tmp_path / "00000.jsonl")
        os.dup2(os.open("/dev/full", os.O_WRONLY), journal._file)
        journal.append("k0", {"text": "x"})
        await asyncio.sleep(0.01)
        journal.append("k1", {"text": "x"})

    with pytest.raises(UserError, match="No space left on device"):
        asyncio.run(write())
