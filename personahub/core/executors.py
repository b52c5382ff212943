"""Tasks in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, Literal

from personahub.core import ray_cluster

Executor = Literal["serial", "process", "ray"]


def map_tasks(
    executor: Executor,
    function: Callable[..., object],
    jobs: Sequence[tuple[str, tuple[Any, ...]]],
    workers: int,
    on_done: Callable[[str], object],
) -> None:
    """Call `function(*arguments)` for each named job, `workers` of them at once.

    Args:
        executor: where.
        function: importable by the workers; what it returns is dropped.
        jobs: (name, arguments) of each.
        workers: jobs under way at once, except under `serial`.
        on_done: called with the name of each finished job.

    Raises:
        What `function` raised first.
    """
    if executor == "ray":
        ray_cluster.map_tasks(function, jobs, workers, on_done)
    elif executor == "process" and len(jobs) > 1:
        _map_in_processes(function, jobs, workers, on_done)
    else:
        for name, arguments in jobs:
            function(*arguments)
            on_done(name)


def _map_in_processes(
    function: Callable[..., object],
    jobs: Sequence[tuple[str, tuple[Any, ...]]],
    workers: int,
    on_done: Callable[[str], object],
) -> None:
    # spawn, not fork: stages may hold threads (Arrow, torch) that do not survive a fork
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(jobs)), context) as pool:
        futures = {pool.submit(function, *arguments): name for name, arguments in jobs}
        for future in concurrent.futures.as_completed(futures):
            try:
                future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            on_done(futures[future])
