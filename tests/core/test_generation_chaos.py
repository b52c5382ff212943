"""The whole loop against a server that misbehaves: nothing lost, nothing paid twice, little time lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from personahub.commands.cli import main
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.stage_process import run_stage
from personahub.core.generation.budget import spent_by_experiment

SLOW = pytest.mark.slow


def config_file(folder: Path, url: str, count: int, **engine: Any) -> Path:
    """An experiment of `count` prompts that the server at `url` answers."""
    module = "benchmarks.generation_stage"
    stages = {
        "prompts": {"run": module, "config": {"count": count}},
        "answers": {"run": module, "inputs": {"prompts": "prompts"}, "config": {"engine": "server"}},
    }
    server = {"kind": "openai", "model": "m", "base_url": url, **engine}
    file = folder / "chaos.json"
    file.write_text(json.dumps({"experiment": "chaos", "engines": {"server": server}, "stages": stages}))
    return file


def answer(folder: Path, url: str, count: int, **engine: Any) -> tuple[Artifact, float]:
    """Run it in this process; the answers, and the seconds that they took."""
    folder.mkdir(exist_ok=True)
    file = config_file(folder, url, count, **engine)
    for name in ("prompts", "answers"):
        planned = load_experiment(file, runs=folder).stage(name)
        assert planned.spec is not None
        started = time.monotonic()
        run_stage(planned.spec, planned.path)
    return open_artifact(folder / "chaos" / "answers"), time.monotonic() - started


def check_whole(artifact: Artifact, count: int) -> None:
    assert [row["id"] for row in artifact.rows()] == [str(number) for number in range(count)]
    assert artifact.manifest.counts.rejected == {}


@pytest.mark.parametrize(("count", "kills"), [(1_500, 4), pytest.param(20_000, 20, marks=SLOW)])
def test_kill_at_random_moments(chaos, tmp_path: Path, repository: Path, count: int, kills: int) -> None:
    """With 32 in flight, at most 32 more can have arrived in the turn of the event loop that the kill cuts short."""
    server = chaos(latency_ms=20)
    file = config_file(tmp_path, server.base_url, count, concurrency=32)
    command = [sys.executable, "-m", "personahub", "run", str(file), "--runs", str(tmp_path)]
    generator = random.Random(kills)
    moments = sorted(generator.randrange(1, count) for _ in range(kills))
    for moment in moments:
        process = subprocess.Popen(command, cwd=repository, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and server.stats()["distinct"] < moment:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, cwd=repository, stderr=subprocess.DEVNULL, timeout=240).returncode == 0
    check_whole(open_artifact(tmp_path / "chaos" / "answers"), count)
    stats = server.stats()
    assert stats["distinct"] == count
    assert stats["repeated"] <= kills * 64
    assert stats["most_in_flight"] <= 2 * 32, "32, and 32 of a killed client whose replies are still on their way"


@pytest.mark.parametrize(
    ("count", "window_s", "within_s", "retry_after"),
    [
        (1_000, 2.0, 8.0, -1.0),
        pytest.param(3_000, 10.0, 25.0, -1.0, marks=SLOW),
        pytest.param(3_000, 10.0, 25.0, 1.0, marks=SLOW),
    ],
)
def test_a_window_of_nothing_but_429(
    chaos, tmp_path: Path, count: int, window_s: float, within_s: float, retry_after: float
) -> None:
    server = chaos(latency_ms=50, window_after=count // 3, window_s=window_s, retry_after=retry_after)
    artifact, seconds = answer(tmp_path, server.base_url, count, concurrency=128)
    check_whole(artifact, count)
    assert window_s < seconds < within_s
    assert server.stats()["faults"]["window"] < 128 * 4 * window_s, "the server is hammered"


@pytest.mark.parametrize(
    ("count", "retry_after", "rate"), [(1_500, 0.0, 0.5), pytest.param(12_000, 0.01, 0.8, marks=SLOW)]
)
def test_scattered_errors_cost_little(chaos, tmp_path: Path, count: int, retry_after: float, rate: float) -> None:
    """5% of all requests fail: throttled, server errors, dropped and cut connections, replies that are no JSON.

    `rate` is a share of the clean one; the short run lasts two seconds, which a busy machine easily doubles.
    """
    server = chaos(latency_ms=50)
    _, clean = answer(tmp_path / "clean", server.base_url, count, concurrency=32)
    each = (0.05 - retry_after) / 5
    kinds = {f"rate_{name}": each for name in ("429", "500", "dropped", "cut", "not_json")}
    server.change(**kinds, rate_429_retry_after=retry_after)
    artifact, seconds = answer(tmp_path / "chaos", server.base_url, count, concurrency=32)
    check_whole(artifact, count)
    faults = sum(server.stats()["faults"].values())
    assert 0.03 * count < faults < 0.1 * count
    assert clean / seconds >= rate


def test_only_malformed_replies_are_asked_for_again(chaos, tmp_path: Path) -> None:
    server = chaos(rate_malformed=0.02)
    artifact, _ = answer(tmp_path, server.base_url, 3_000, concurrency=64)
    check_whole(artifact, 3_000)
    stats = server.stats()
    malformed = stats["faults"]["malformed"]
    assert 30 < malformed < 90
    assert stats["requests"] == stats["distinct"] == 3_000 + malformed
    assert artifact.manifest.usage.requests == 3_000 + malformed, "failed attempts are paid for"


def test_a_limit_that_lets_half_through_is_kept_to(chaos, tmp_path: Path) -> None:
    """A server that serves 200 requests a second gets few more, and no row is lost."""
    server = chaos(latency_ms=20, requests_per_minute=12_000)
    artifact, seconds = answer(tmp_path, server.base_url, 800, concurrency=64)
    check_whole(artifact, 800)
    assert seconds < 20
    assert server.stats()["faults"]["rate_429_retry_after"] < 800


def test_slow_answers_do_not_stop_the_others(chaos, tmp_path: Path) -> None:
    """One answer in 100 takes 2 s instead of 10 ms; in the end all places were busy most of the time."""
    server = chaos(latency_ms=10, rate_drip=0.01, drip_s=2.0)
    artifact, seconds = answer(tmp_path, server.base_url, 2_000, concurrency=32)
    check_whole(artifact, 2_000)
    busy = 2_000 * 0.01 + server.stats()["faults"]["rate_drip"] * 2.0
    assert seconds < busy / 32 + 2.0 + 4.0


def test_the_money_limit_stops_cleanly_and_raising_it_goes_on(chaos, tmp_path: Path) -> None:
    server = chaos(latency_ms=5, reply_chars=400)  # 100 tokens: a dollar each
    money = {"concurrency": 8, "price": {"input": 0, "output": 10_000}}
    with pytest.raises(UserError, match=r"engines\.server\.max_cost_usd is reached: \$[0-9.]+ of \$50"):
        answer(tmp_path, server.base_url, 200, max_cost_usd=50, **money)
    spent = server.stats()
    assert 42 <= spent["requests"] <= 50
    assert spent["answered"] == spent["requests"], "the run must wait for requests in flight"
    with pytest.raises(UserError, match="raise it and run the same command"):
        answer(tmp_path, server.base_url, 200, max_cost_usd=50, **money)
    assert server.stats()["requests"] <= 50, "what earlier runs spent counts"
    artifact, _ = answer(tmp_path, server.base_url, 200, max_cost_usd=500, **money)
    check_whole(artifact, 200)
    assert server.stats()["requests"] == 200
    assert artifact.manifest.usage.cost_usd == pytest.approx(200)


def test_replies_that_cannot_be_read_are_paid_for(chaos, tmp_path: Path) -> None:
    server = chaos(rate_wrong_n=0.2, reply_chars=400)
    artifact, _ = answer(tmp_path, server.base_url, 200, price={"input": 0, "output": 10_000})
    check_whole(artifact, 200)
    wrong = server.stats()["faults"]["rate_wrong_n"]
    assert wrong > 20
    usage = artifact.manifest.usage
    assert usage.completion_tokens == 200 * 100 + wrong * 200
    assert usage.cost_usd == pytest.approx(200 + 2 * wrong)


def test_pruned_journals_are_gone_and_what_they_cost_is_not(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(reply_chars=400)
    money = {"concurrency": 4, "price": {"input": 0, "output": 10_000}}
    answer(tmp_path, server.base_url, 30, **money)
    journal = tmp_path / "chaos" / "answers" / "journal" / "00000.jsonl"
    assert main(["cache", "stats", "--runs", str(tmp_path)]) == 0
    assert "chaos/answers            30" in capsys.readouterr().out
    assert main(["cache", "prune", "--runs", str(tmp_path)]) == 0
    assert "--yes would delete 30 completions, 0.0 MB" in capsys.readouterr().out
    assert journal.exists()
    assert main(["cache", "prune", "chaos", "--runs", str(tmp_path), "--yes"]) == 0
    assert "30 completions deleted" in capsys.readouterr().out
    assert not journal.exists()
    spent = spent_by_experiment(tmp_path / "chaos", "server")
    assert (spent.answers, spent.completion_tokens) == (30, 30 * 100)
    assert main(["cache", "stats", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No journals.\n"
    (tmp_path / "chaos" / "answers" / "manifest.json").unlink()
    for file in (tmp_path / "chaos" / "answers").glob("*.parquet"):
        file.unlink()
    with pytest.raises(UserError, match="max_cost_usd is reached"):
        answer(tmp_path, server.base_url, 30, max_cost_usd=45, **money)
    assert server.stats()["requests"] <= 45
    assert main(["cache", "prune", "--runs", str(tmp_path), "--yes"]) == 0
    assert journal.exists(), "the stage is not complete: its journal is needed"
    assert main(["cache", "stats", "--runs", str(tmp_path / "none")]) == 2


TRAP = """
import pyarrow as pa
from personahub.core.config import EngineName, StageConfig
from personahub.core.engines import Request, Sampling
from personahub.core.generation.loop import map_completions
VERSION, INPUTS = "1", ("prompts",)
class Config(StageConfig):
    engine: EngineName = "server"
    system: str = "You are a pilot."
    sampling: Sampling = Sampling()
    sample: int = 0
def run(stage):
    schema = pa.schema([("id", pa.string()), ("answer", pa.string())])
    map_completions(stage, process, stage.input("prompts"), schema)
async def process(stage, shard):
    config = stage.config
    def prompts(row):
        messages = ({"role": "system", "content": config.system}, {"role": "user", "content": row["prompt"]})
        return [Request(messages, config.sampling, 7, config.sample, engine=config.engine)]
    async for row, (answer,) in shard.generate(shard.rows(), prompts, lambda _, completion: completion.text):
        shard.write({"id": row["id"], "answer": answer})
"""


def test_arms_that_differ_in_one_thing_share_no_completion(
    chaos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm must not use the journal of another arm that is found in its place."""
    (tmp_path / "trap_stage.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    server, other = chaos(), chaos()
    answer(tmp_path, server.base_url, 20)
    server.change()
    config = json.loads(config_file(tmp_path, server.base_url, 20).read_text())
    config["stages"]["trap"] = {"run": "trap_stage", "inputs": {"prompts": "prompts"}}
    file = tmp_path / "trap.json"
    file.write_text(json.dumps(config))

    def asked(*overrides: str) -> int:
        """Returns the requests of the stage after `run --redo`, which keeps its journal."""
        before = server.stats()["requests"] + other.stats()["requests"]
        planned = load_experiment(file, overrides, runs=tmp_path).stage("trap")
        for shard in planned.path.glob("*.parquet"):
            shard.unlink()
        assert planned.spec is not None
        run_stage(planned.spec, planned.path)
        return server.stats()["requests"] + other.stats()["requests"] - before

    assert asked() == 20
    assert asked() == 0, "nothing has changed"
    for change in (
        "stages.trap.config.system=You are a nurse.",
        f"engines.server.base_url={other.base_url}",
        "engines.server.model=n",
        "stages.trap.config.sampling.temperature=0.9",
        "stages.trap.config.sampling.top_p=0.9",
        "stages.trap.config.sampling.max_tokens=99",
        "stages.trap.config.sampling.stop=[x]",
        "stages.trap.config.sampling.extra={min_p: 0.1}",
        "stages.trap.config.sample=1",
    ):
        assert asked(change) == 20, change
    assert asked() == 0, "and all of it is still there"
