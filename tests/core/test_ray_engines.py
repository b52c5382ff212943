"""Replicas of one engine on a Ray cluster of three nodes: what a replica loses, another answers, and the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Request, RequestRefused, Sampling
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.stage_process import run_stage
from tests.core.ray_nodes import contents, meanwhile, restore_nodes, three_nodes, workers
from tests.core.test_engine_transformers import save_model


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from three_nodes(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return save_model(tmp_path_factory.mktemp("tiny"), max_position_embeddings=1024)


def replicas(model: Path) -> dict[str, Any]:
    return {"kind": "transformers", "model": str(model), "device": "cpu", "concurrency": 4, "replicas": 2}


def ask(number: int, max_tokens: int) -> Request:
    message = {"role": "user", "content": f"prompt {number}"}
    return Request((message,), Sampling(temperature=1.0, max_tokens=max_tokens), seed=number)  # pyright: ignore


async def complete_all(engine: Any, requests: list[Request]) -> list[Completion]:
    try:
        return await asyncio.gather(*map(engine.complete, requests))
    finally:
        await engine.close()


def test_lost_replica_costs_nothing(cluster: Any, model: Path) -> None:
    """Kills one of two replicas with requests in flight. The other answers them as a single engine would."""
    requests = [ask(number, max_tokens=200) for number in range(40)]

    async def on_replicas() -> list[Completion]:
        engine = open_engine(engine_config(replicas(model), "engines.e"))
        too_long = asyncio.create_task(engine.complete(ask(0, max_tokens=2000)))
        answers = asyncio.create_task(complete_all(engine, requests))
        while len(busy := workers("ray::_Replica.complete")) < 2:
            await asyncio.sleep(0.1)
        os.kill(busy[0].pid, signal.SIGKILL)
        with pytest.raises(RequestRefused, match="prompt_too_long"):
            await too_long
        return await answers

    async def on_one() -> list[Completion]:
        return await complete_all(open_engine(engine_config({**replicas(model), "replicas": 1}, "engines.e")), requests)

    assert [c.text for c in asyncio.run(on_replicas())] == [c.text for c in asyncio.run(on_one())]
    assert not workers("ray::_Replica.complete")


def ask_for_problems(folder: Path, name: str, engine: dict[str, Any]) -> Artifact:
    """Returns a random model's replies to 600 personas, including rejected ones."""
    stages = {
        "personas": {"run": "similar_personas", "config": {"rows": 150}},
        "problems": {
            "run": "synth.problems",
            "inputs": {"personas": "personas"},
            "config": {"engine": "e", "sampling": {"temperature": 1.0, "max_tokens": 200}, "attempts": 1},
        },
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"experiment": name, "engines": {"e": engine}, "stages": stages}))
    for stage_name in stages:
        planned = load_experiment(file, runs=folder).stage(stage_name)
        assert planned.spec is not None
        run_stage(planned.spec, planned.path)
    return open_artifact(folder / name / "problems")


@pytest.mark.slow
@pytest.mark.timeout(900)  # Ray gives its workers the lowest priority but four: next to other jobs they are slow
def test_lost_worker_and_node_change_no_reply(cluster: Any, model: Path, tmp_path: Path) -> None:
    """One replica is killed while a stage asks both, and then the node on which the other is at work."""
    restore_nodes(cluster)
    lost = []

    def busy(number: int) -> list[Any]:
        while len(found := workers("ray::_Replica.complete")) < number:
            time.sleep(0.05)
        return found

    def lose() -> None:
        worker, other = busy(2)
        os.kill(worker.pid, signal.SIGKILL)
        lost.append("worker")
        raylet = other.ppid()
        node = next(n for n in cluster.worker_nodes if n.all_processes["raylet"][0].process.pid == raylet)
        busy(1)
        cluster.remove_node(node, allow_graceful=False)
        lost.append("node")

    thread = meanwhile(lose)
    on_ray = ask_for_problems(tmp_path, "ray", replicas(model))
    thread.join()
    assert lost == ["worker", "node"]
    in_process = ask_for_problems(tmp_path, "serial", {**replicas(model), "replicas": 1})
    assert contents(on_ray) == contents(in_process)
    replies = [[row["raw"] for row in artifact.rejected()] for artifact in (on_ray, in_process)]
    assert replies[0] == replies[1]
    assert on_ray.manifest.counts.rows_in == 600


def refused_by_all(model: Path, message: str) -> None:
    async def unavailable() -> None:
        engine = open_engine(engine_config(replicas(model), "engines.e"))
        with pytest.raises(EngineUnavailable, match=message):
            await complete_all(engine, [ask(0, max_tokens=2)])

    asyncio.run(unavailable())


@pytest.mark.slow
def test_model_that_no_replica_can_load_is_one_line(cluster: Any, tmp_path: Path) -> None:
    refused_by_all(tmp_path, "not a model folder")


@pytest.mark.slow
def test_nodes_without_the_package_are_one_line(
    cluster: Any, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray pickles a class by its module's name, which is one here that its workers do not find."""
    from personahub.core.engines.local import replicas as module

    monkeypatch.setitem(sys.modules, "not_on_these_nodes", module)
    monkeypatch.setattr(module._Replica, "__module__", "not_on_these_nodes")
    refused_by_all(model, r"no replica can be started: .*No module named 'not_on_these_nodes'")
    assert "cannot be started and is not used" in capfd.readouterr().err
