"""Run tasks on a Ray cluster, one task per shard.

    stages:
      verified: {run: synth.verify, execution: {executor: ray, workers: 64}, ...}

The cluster is the one that `RAY_ADDRESS` names, or one that runs on this machine, or a new one on this
machine only. `runs/` must be the same directory on all nodes, and this package must be installed on them.
Ray starts processes in a directory of its own. Tasks change to the directory in which the run was started,
if a node has it, so that relative paths (`runs/`, files in a config) mean the same there.

A task writes its shard under a temporary name and renames it. When a worker or node is lost, Ray gives the
shards it had started to others. A shard that is made twice is the same both times, because seeds derive
from the records.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from personahub.core.errors import UserError
from personahub.core.executors.tasks import TaskBatch, call

_NO_IMPORT = "failed to import on the worker"  # in Ray's message about a function or class
_RETRIES = 5  # of a shard whose worker was lost; a shard that takes all memory of a node fails on every node
_connected_here = False  # True if this module connected to Ray, rather than a program that uses this package


def connect() -> Any:
    """Connect to a cluster and return the package `ray`.

    Raises:
        UserError: the package is not installed, or no cluster answers at `RAY_ADDRESS`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep GPUs visible in tasks that request none
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("Ray is not installed: pip install 'persona-hub-harness[ray]'") from None
    global _connected_here
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        _check_address(address)
        try:
            ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = address or "this machine"
            raise UserError(f"no Ray cluster at {where}: {' '.join(str(error).split())[:300]}") from None
        _connected_here = True
    return ray


def _check_address(address: str) -> None:
    """Fail quickly if nothing listens at the address. Ray itself would try for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():  # `auto`, `local`, or a URL of Ray Client
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"no Ray cluster at {address}, the value of RAY_ADDRESS: {error}") from None


def run_tasks(batch: TaskBatch, workers: int) -> None:
    """Run all tasks on the cluster, up to `workers` at a time, with one CPU each.

    Raises:
        The first error of a task. If this module connected to the cluster, it then disconnects, and Ray stops
        the other tasks. Otherwise they continue to the end, and what they write is complete.
        UserError: a task lost its worker repeatedly.
    """
    global _connected_here
    ray = connect()
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run_in(Path.cwd(), batch.function))
    waiting, running = deque(batch.tasks), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, arguments = waiting.popleft()
                running[task.remote(*arguments)] = name
            (done, *_), _ = ray.wait(list(running))
            name = running[done]
            _raise_error(ray, done, name)
            del running[done]
            batch.on_done(name)
    finally:
        if running and _connected_here:
            # Not ray.cancel: if the task ends at the same moment, it aborts this whole process
            # (https://github.com/ray-project/ray/pull/54798).
            ray.shutdown()
            _connected_here = False


def _run_in(folder: Path, function: Callable[..., object]) -> Callable[..., None]:
    """Wrap `function` so that it runs in `folder` on a node. Ray names the task after the function."""

    @functools.wraps(function)
    def on_node(*arguments: Any) -> None:
        with working_in(folder):
            call(function, arguments)

    return on_node


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Change to `folder`, if it exists, so that relative paths start there.

    Raises:
        UserError: the body failed and this node has no such folder, which may be the reason.
    """
    if folder.is_dir():
        with contextlib.chdir(folder):
            yield
        return
    try:
        yield
    except (UserError, FileNotFoundError) as error:
        raise UserError(
            f"{error} (node {socket.gethostname()} does not have the folder {folder}, in which the run was started and "
            "relative paths begin: start it in a folder that all nodes have, or use absolute paths for files and --runs)"
        ) from None


def _raise_error(ray: Any, reference: Any, name: str) -> None:
    """Raise the error of a finished task, if it has one."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if _NO_IMPORT in str(error):
            last = str(error).strip().splitlines()[-1]
            raise UserError(
                f"shard {name}: a node of the Ray cluster cannot load this package: {last}; install the same packages "
                "there as here, then run again"
            ) from None
        if isinstance(error.cause, Exception):
            raise error.cause from error  # `error` has the traceback as text
        raise
    except ray.exceptions.RayError as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"shard {name}: Ray lost its worker {_RETRIES + 1} times: {first}") from None
