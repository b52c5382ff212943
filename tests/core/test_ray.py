"""Shards and partitions on a Ray cluster of three nodes: the same artifacts as without, whatever is lost meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from personahub.core import stage
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.executors import ray_cluster
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.stage_process import run_stage
from tests.core.ray_nodes import contents, kill_one, meanwhile, ray, restore_nodes, three_nodes, workers

ROWS = 2000  # in each of four shards: enough that embedding takes a moment


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from three_nodes(tmp_path_factory.mktemp("stages"))


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


def test_cluster_of_the_docs_is_one_that_ray_takes(repository: Path) -> None:
    autoscaler = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((repository / "configs/launch/ray.yaml").read_text(encoding="utf-8"))
    prepared = autoscaler.prepare_config(config)
    autoscaler.validate_config(prepared)  # raises where a key is unknown or missing
    assert set(prepared["available_node_types"]) == set(config["available_node_types"])


def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^no Ray cluster at 127\.0\.0\.1:1, the value of RAY_ADDRESS"):
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
    message = r"^runs/x/00000\.parquet: is missing \(node \S+ does not have the folder .*of another machine, in which the run was started"
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
    """Returns the random personas that both methods keep. Without `partitions`, runs in one process."""
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
