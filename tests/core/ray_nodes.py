"""A Ray cluster of three nodes on this machine, stages for it, and ways to take parts of it away."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact

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


def three_nodes(folder: Path) -> Iterator[Any]:
    """A head without room for work and two nodes with one CPU each, on which `doubling` and `similar_personas` can be imported."""
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
