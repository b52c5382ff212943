"""Tasks in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from personahub.core import processes, ray_cluster

Executor = Literal["serial", "process", "ray"]


def map_tasks(
    executor: Executor,
    function: Callable[..., object],
    jobs: Sequence[tuple[str, tuple[Any, ...]]],
    workers: int,
    on_done: Callable[[str], object],
    under_way: set[str] | None = None,
    timeout_s: float | None = None,
) -> None:
    """Call `function(*arguments)` for each named job, `workers` of them at once.

    Args:
        executor: where.
        function: importable by the workers; what it returns is dropped.
        jobs: (name, arguments) of each.
        workers: jobs under way at once, except under `serial`.
        on_done: called with the name of each finished job.
        under_way: under `process`, kept equal to the names of the jobs that have begun and not ended.
        timeout_s: under `process`, that one job may take; None: any time.

    Raises:
        What `function` raised first.
        UserError: see `processes` and `ray_cluster`.
    """
    if executor == "ray":
        ray_cluster.map_tasks(function, jobs, workers, on_done)
    elif executor == "process" and len(jobs) > 1:
        processes.map_tasks(function, jobs, workers, on_done, under_way, timeout_s)
    else:
        for name, arguments in jobs:
            function(*arguments)
            on_done(name)
