"""Replicas of an engine that no node can open, and of one for which the cluster has no GPUs yet."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import EngineUnavailable, Message, ReplicatedConfig, Request, Sampling
from personahub.core.engines.local import replicas

ENGINE = """
from typing import Annotated
from personahub.core.config import EXECUTION
from personahub.core.engines.base import ReplicatedConfig
class Config(ReplicatedConfig):
    replicas: Annotated[int, EXECUTION] = 2
    @property
    def gpus_per_replica(self):
        return 0
def open_engine(config):
    raise RuntimeError("CUDA driver initialization failed")
"""

WHERE = """
import os
from typing import Annotated
from personahub.core.config import EXECUTION
from personahub.core.engines.base import Completion, Engine, ReplicatedConfig
class Config(ReplicatedConfig):
    replicas: Annotated[int, EXECUTION] = 2
def open_engine(config):
    return Where(config)
class Where(Engine):
    def __init__(self, config):
        super().__init__(config)
        self.opened_in = os.getcwd()
    async def complete(self, request):
        import ray
        return Completion(f"GPUs {ray.get_gpu_ids()} in {self.opened_in}", "stop", 1, 1, "m")
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray = pytest.importorskip("ray")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()
    sys.modules.pop("broken.engine", None)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose nodes with GPUs are not up yet."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    (tmp_path / "where").mkdir()
    (tmp_path / "where" / "engine.py").write_text(WHERE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setattr(replicas, "_WAIT_NOTE_S", 1.0)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    sys.modules.pop("where.engine", None)


def test_replicas_wait_for_gpus_that_the_cluster_does_not_have_yet_and_say_so(
    growing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They asked for no GPUs where there were none at first, so that no machine with GPUs was ever brought up."""
    monkeypatch.chdir(tmp_path)  # and not where the cluster was started

    async def said(note: str) -> None:
        heard = ""
        while note not in heard:
            await asyncio.sleep(0.1)
            heard += capsys.readouterr().err

    async def run() -> str:
        engine = open_engine(engine_config({"kind": "where.engine", "model": "m"}, "engines.e"))
        try:
            request = Request((Message(role="user", content="hello"),), Sampling(), 1)
            answer = asyncio.create_task(engine.complete(request))
            await said("m: waiting for a replica: still loading, or the cluster (0 GPUs now) has no 1 free")
            assert not answer.done()
            growing.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 << 20)
            completion = await answer
            await said("m: waiting for 1 of 2 replicas: still loading, or the cluster (1 GPUs now) has no 1 free")
            return completion.text
        finally:
            await engine.close()

    assert asyncio.run(asyncio.wait_for(run(), 200)) == f"GPUs [0] in {tmp_path}"


def test_engines_say_how_many_gpus_a_replica_needs() -> None:
    def gpus(**values: Any) -> int:
        config = engine_config({"model": "m", **values}, "engines.e")
        assert isinstance(config, ReplicatedConfig)
        return config.gpus_per_replica

    assert gpus(kind="vllm", tensor_parallel_size=4, pipeline_parallel_size=2) == 8
    assert gpus(kind="vllm", tensor_parallel_size=4, device="cpu") == 0
    assert [gpus(kind="transformers", device=device) for device in ("auto", "cuda", "cpu")] == [1, 1, 0]


def test_an_engine_that_fails_in_a_way_of_its_own_stops_the_run(cluster: None) -> None:
    async def run() -> None:
        engine = open_engine(engine_config({"kind": "broken.engine", "model": "m"}, "engines.e"))
        try:
            request = Request((Message(role="user", content="hello"),), Sampling(), 1)
            await asyncio.wait_for(engine.complete(request), 120)
        finally:
            await engine.close()

    with pytest.raises(EngineUnavailable, match="CUDA driver initialization failed"):
        asyncio.run(run())
