"""Work on a Ray cluster: one task per shard.

    stages:
      verified: {run: synth.verify, execution: {executor: ray, workers: 64}, ...}

The cluster is the one that `RAY_ADDRESS` names, else one that runs on this machine, else a new one of this
machine alone. `runs/` has to be the same directory on all its nodes, and this package installed on them.
Ray starts processes in a directory of its own: ours go to the one in which the run was started, where a node
has it, so that relative paths (`runs/`, files that a config names) mean the same there.

A task writes its shard under a temporary name and renames it, so a lost worker or node costs the shards
that it had begun: Ray gives them to others. A shard that was done twice is the same twice, because seeds
come from the records.
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
from personahub.core.executors.tasks import Tasks, call

_NO_IMPORT = "failed to import on the worker"  # Ray's words, of a function or a class
_RETRIES = 5  # of a shard whose worker was lost; one that takes all of a node's memory fails on each
_connected_here = False  # and not by a program that calls this package


def connect() -> Any:
    """The package `ray`, connected to a cluster.

    Raises:
        UserError: the package is missing, or no cluster answers at `RAY_ADDRESS`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without GPUs are no reason to hide them
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("Ray is not installed: pip install 'persona-hub-harness[ray]'") from None
    global _connected_here
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        _knock(address)
        try:
            ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = address or "this machine"
            raise UserError(f"no Ray cluster at {where}: {' '.join(str(error).split())[:300]}") from None
        _connected_here = True
    return ray


def _knock(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():  # `auto`, `local`, or a URL of Ray Client
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"no Ray cluster at {address}, which RAY_ADDRESS names: {error}") from None


def run_tasks(tasks: Tasks, workers: int) -> None:
    """Run all jobs, `workers` of them at once with one CPU each, anywhere on the cluster.

    Raises:
        What the function raised first. Where this module has connected to the cluster it leaves it then, and
        Ray ends the others; else they are finished, and what they write is whole.
        UserError: a job lost its worker again and again.
    """
    global _connected_here
    ray = connect()
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_elsewhere(tasks.function, Path.cwd()))
    waiting, running = deque(tasks.jobs), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, arguments = waiting.popleft()
                running[task.remote(*arguments)] = name
            (done, *_), _ = ray.wait(list(running))
            name = running[done]
            _result(ray, done, name)
            del running[done]
            tasks.on_done(name)
    finally:
        if running and _connected_here:
            # Not ray.cancel: of a task that ends at that moment it aborts this whole process
            # (https://github.com/ray-project/ray/pull/54798).
            ray.shutdown()
            _connected_here = False


def _elsewhere(function: Callable[..., object], folder: Path) -> Callable[..., None]:
    """`function` as it is sent to nodes, which Ray names after it."""

    @functools.wraps(function)
    def on_node(*arguments: Any) -> None:
        with working_in(folder):
            call(function, arguments)

    return on_node


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Have relative paths start at `folder`.

    Raises:
        UserError: something failed, and this node has no such folder, which may be why.
    """
    if folder.is_dir():
        with contextlib.chdir(folder):
            yield
        return
    try:
        yield
    except (UserError, FileNotFoundError) as error:
        raise UserError(
            f"{error} (node {socket.gethostname()} has no folder {folder}, where the run was started and where relative "
            "paths begin: start it in one that all nodes have, or name files and --runs by absolute paths)"
        ) from None


def _result(ray: Any, reference: Any, name: str) -> None:
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if _NO_IMPORT in str(error):
            last = str(error).strip().splitlines()[-1]
            raise UserError(
                f"shard {name}: a node of the Ray cluster cannot load this package: {last}; install there what is "
                "installed here, then run again"
            ) from None
        if isinstance(error.cause, Exception):
            raise error.cause from error  # which holds its traceback as text
        raise
    except ray.exceptions.RayError as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"shard {name}: Ray lost its worker {_RETRIES + 1} times: {first}") from None
