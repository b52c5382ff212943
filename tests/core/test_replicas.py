"""Replicas of an engine that no node can open, for a reason that the engine did not foresee."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import EngineUnavailable, Message, Request, Sampling

ENGINE = """
from typing import Annotated
from personahub.core.config import EXECUTION, EngineConfig
class Config(EngineConfig):
    replicas: Annotated[int, EXECUTION] = 2
def open_engine(config):
    raise RuntimeError("CUDA driver initialization failed")
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
