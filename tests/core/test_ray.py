"""A Ray cluster of three nodes on this machine: the same artifacts as without, whatever is lost meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from personahub.core import ray_cluster, stage
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Request, RequestRefused, Sampling
from personahub.core.errors import UserError
from personahub.core.experiment import load_experiment
from personahub.core.worker import run_stage
from tests.core.test_engine_transformers import save_model

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
cluster_utils = pytest.importorskip("ray.cluster_utils")

SLOW_STAGE = '''
"""Doubles numbers, slowly; the number in `fail_at` is an error."""
import os
import time
import pyarrow as pa
from pydantic import Field
from personahub.core.config import StageConfig
from personahub.core.errors import Rejected, UserError

VERSION = "1"
INPUTS = ("numbers?",)
SCHEMA = pa.schema([("id", pa.string()), ("number", pa.int64())])

class Config(StageConfig):
    shards: int = 0
    fail_at: int = -1
    fault: str = "error of the user"
    seconds: float = 0.0

def run(stage):
    if "numbers" in stage.inputs:
        stage.map_shards(process, stage.input("numbers"), SCHEMA)
        return
    for shard in range(stage.config.shards):
        with stage.writer(f"{shard:05d}", SCHEMA) as writer:
            for number in range(10 * shard, 10 * shard + 10):
                writer.rows_in += 1
                writer.write({"id": str(number), "number": number})

class Unequal(Exception):
    def __init__(self, value, other):  # pickle would call it with the one text that `args` holds
        super().__init__(f"{value} is not {other}")

def process(stage, shard):
    time.sleep(stage.config.seconds)
    for row in shard.rows():
        if row["number"] == stage.config.fail_at:
            if stage.config.fault == "unequal":
                raise Unequal(33, 34)
            raise UserError(f"row {row['id']}: cannot be doubled")
        if row["number"] % 7 == 0:
            shard.reject(row, Rejected("seven"))
        else:
            shard.write({**row, "number": 2 * row["number"]})
'''


PERSONAS = '''
"""Writes personas that are similar to one another."""
import random
from personahub.core.config import StageConfig
from personahub.core.records import PERSONA

VERSION = "1"
INPUTS = ()
WORDS = "able acid aged also area army away baby back ball band bank base bath bear beat been beer bell belt".split()

class Config(StageConfig):
    shards: int = 4
    rows: int

def run(stage):
    rng = random.Random(0)
    for shard in range(stage.config.shards):
        with stage.writer(f"{shard:05d}", PERSONA) as writer:
            for row in range(stage.config.rows):
                text = " ".join(rng.choices(WORDS, k=rng.randrange(2, 9)))
                writer.write({"id": f"{rng.getrandbits(64):016x}", "persona": text})
'''
ROWS = 2000  # in each of four shards: enough that embedding takes a moment


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without room for work and two nodes with one CPU each, on which `doubling` can be imported."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "doubling.py").write_text(SLOW_STAGE)
    (folder / "similar_personas.py").write_text(PERSONAS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(folder)
        memory = 80 << 20
        head = {"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def run(folder: Path, executor: str, shards: int = 8, **config: Any) -> Artifact:
    """The doubled numbers, made under `executor`."""
    execution = {"executor": executor, "workers": 2}
    stages = {
        "numbers": {"run": "doubling", "config": {"shards": shards}},
        "doubled": {"run": "doubling", "inputs": {"numbers": "numbers"}, "config": config, "execution": execution},
    }
    file = folder / f"{executor}.json"
    file.write_text(json.dumps({"experiment": executor, "stages": stages}))
    for name in stages:
        planned = load_experiment(file, runs=folder).stage(name)
        assert planned.spec is not None
        run_stage(planned.spec, planned.path)
    return open_artifact(folder / executor / "doubled")


def contents(artifact: Artifact) -> Any:
    rejected = sorted((row["id"], row["reason"]) for row in artifact.rejected())
    return list(artifact.rows()), rejected, artifact.manifest.counts, artifact.manifest.shards


def workers(title: str) -> list[Any]:
    """Processes of the cluster that are at work on `title`."""
    return [p for p in psutil.process_iter() if title in " ".join(_command(p))]


def kill_one(title: str) -> bool:
    """Whether one was found and is killed; between the two it may have ended by itself."""
    for process in workers(title):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False


def _command(process: Any) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def restore_nodes(cluster: Any) -> None:
    """Both nodes, of which an earlier test may have lost one."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)


def meanwhile(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)  # what it waits for may never come
    thread.start()
    return thread


def test_cluster_of_the_docs_is_one_that_ray_takes(repository: Path) -> None:
    autoscaler = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((repository / "configs/launch/ray.yaml").read_text(encoding="utf-8"))
    prepared = autoscaler.prepare_config(config)
    autoscaler.validate_config(prepared)  # raises where a key is unknown or missing
    assert set(prepared["available_node_types"]) == set(config["available_node_types"])


def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^no Ray cluster at 127\.0\.0\.1:1, which RAY_ADDRESS names"):
        ray_cluster.connect()


def test_error_of_a_shard_is_the_run_s(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^row 33: cannot be doubled$"):
        run(tmp_path, "ray", fail_at=33)
    again = run(tmp_path, "ray", fail_at=-2)  # shards that were whole stay
    assert len(list(again.rows())) == 80 - 12


def test_error_that_cannot_be_pickled_is_said_as_it_is(cluster: Any, tmp_path: Path) -> None:
    """Ray said that it had lost a worker six times, as the error could not be rebuilt here."""
    with pytest.raises(RuntimeError, match=r"^Unequal: 33 is not 34\nin shard 00003, record 33$") as raised:
        run(tmp_path, "ray", fail_at=33, fault="unequal")
    assert 'doubling.py", line' in str(raised.value.__cause__), "the place where it was raised"


def test_relative_paths_are_those_of_the_run(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster was started in another directory, and its processes work there."""
    monkeypatch.chdir(tmp_path)
    on_ray = run(Path(), "ray")
    assert contents(on_ray) == contents(run(Path(), "serial"))
    assert on_ray.path == Path("ray/doubled")
    assert on_ray.manifest.inputs["numbers"].path == "ray/numbers", "as it was named"


def test_node_without_the_folder_of_the_run_says_so_where_something_fails(tmp_path: Path) -> None:
    here = Path.cwd()
    with ray_cluster.working_in(tmp_path / "of another machine"):
        assert Path.cwd() == here, "absolute paths are as good as ever"
    message = (
        r"^runs/x/00000\.parquet: is missing \(node \S+ has no folder .*of another machine, where the run was started"
    )
    with pytest.raises(UserError, match=message), ray_cluster.working_in(tmp_path / "of another machine"):
        raise UserError("runs/x/00000.parquet: is missing")


def test_error_while_other_shards_end_is_the_run_s(cluster: Any, tmp_path: Path) -> None:
    """Ray would abort a process that cancels a task at the moment of its end: a race, so tried a few times."""
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with pytest.raises(UserError, match=r"^row 3: cannot be doubled$"):
            run(folder, "ray", shards=2, fail_at=3)
    assert not ray.is_initialized()


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
    """One of two is killed with requests under way, which the other answers; answers are those of a single engine."""
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
    """What a model of random weights replies to 600 personas, rejected replies included."""
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
@pytest.mark.timeout(900)  # Ray gives its workers the lowest priority but four: beside other jobs they crawl
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
    from personahub.core.engines import replicas as module

    monkeypatch.setitem(sys.modules, "not_on_these_nodes", module)
    monkeypatch.setattr(module._Replica, "__module__", "not_on_these_nodes")
    refused_by_all(model, r"no replica can be started: .*No module named 'not_on_these_nodes'")
    assert "cannot be started and is left out" in capfd.readouterr().err


def test_tasks_on_nodes_without_the_package_are_one_line(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "not_on_these_nodes", stage)
    monkeypatch.setattr(stage._map_shard, "__module__", "not_on_these_nodes")
    with pytest.raises(UserError, match=r"^shard \d+: .* cannot load this package: .*'not_on_these_nodes'; install"):
        run(tmp_path, "ray")


def test_lost_worker_and_node_change_nothing(cluster: Any, tmp_path: Path) -> None:
    restore_nodes(cluster)
    lost = []

    def lose() -> None:
        while not (found := workers("ray::_map_shard")):
            time.sleep(0.05)
        os.kill(found[0].pid, signal.SIGKILL)
        lost.append(found[0].pid)
        time.sleep(1)
        cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)

    thread = meanwhile(lose)
    on_ray = run(tmp_path, "ray", seconds=0.7)
    thread.join()
    assert lost
    assert contents(on_ray) == contents(run(tmp_path, "serial", seconds=0.0))
    assert not list(on_ray.path.rglob(".*.tmp"))


def dedup(folder: Path, executor: str, rows: int, partitions: int | None = None) -> Artifact:
    """What both methods leave of random personas; without `partitions`, in one process."""
    methods = [
        {"method": "surface", "threshold": 0.8},
        {"method": "embedding", "threshold": 0.9, "embedder": {"kind": "hashing"}, "search": "clustered"},
    ]
    stages = {
        "personas": {"run": "similar_personas", "config": {"rows": rows}},
        "unique": {
            "run": "personahub.dedup",
            "inputs": {"personas": "personas"},
            "config": {"methods": methods, "partitions": partitions, "sweep": []},
            "execution": {"executor": executor, "workers": 2},
        },
    }
    file = folder / f"dedup-{executor}.json"
    file.write_text(json.dumps({"experiment": f"dedup-{executor}", "stages": stages}))
    for name in stages:
        planned = load_experiment(file, runs=folder).stage(name)
        assert planned.spec is not None
        run_stage(planned.spec, planned.path)
    return open_artifact(folder / f"dedup-{executor}" / "unique")


def test_lost_workers_and_node_change_no_dedup(cluster: Any, tmp_path: Path) -> None:
    """A worker is killed while texts are hashed, another while they are embedded, and then a node."""
    restore_nodes(cluster)
    lost = []

    partitions = tmp_path / "dedup-ray/unique/partitions-4"

    def done(phase: str) -> bool:
        with contextlib.suppress(FileNotFoundError):  # folders vanish while they are listed
            return any(partitions.glob(f"*/done/{phase}"))
        return False

    def kill_at(phase: str) -> None:
        while not done(phase):
            time.sleep(0.005)
        while not kill_one("ray::_run_task"):
            time.sleep(0.005)
        lost.append(phase)

    def lose() -> None:
        kill_at("sets")
        kill_at("vectors")
        cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
        lost.append("node")

    thread = meanwhile(lose)
    on_ray = dedup(tmp_path, "ray", rows=ROWS, partitions=4)
    thread.join()
    assert lost == ["sets", "vectors", "node"]
    in_one_process = dedup(tmp_path, "serial", rows=ROWS)
    assert contents(on_ray) == contents(in_one_process)
    assert on_ray.manifest.summary == in_one_process.manifest.summary
    assert len(on_ray.manifest.counts.rejected) == 2
    assert not [file for file in on_ray.path.rglob("*") if file.name.endswith(".tmp") or "partitions" in file.name]
