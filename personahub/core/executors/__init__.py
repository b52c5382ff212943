"""Tasks in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from personahub.core.executors import process_pool, ray_cluster
from personahub.core.executors.tasks import Tasks

Executor = Literal["serial", "process", "ray"]


def run_tasks(tasks: Tasks, executor: Executor, workers: int) -> None:
    """Run all jobs, `workers` of them at once except under `serial`.

    Raises:
        What the function raised first.
        UserError: see `process_pool` and `ray_cluster`.
    """
    if executor == "ray":
        ray_cluster.run_tasks(tasks, workers)
    elif executor == "process" and len(tasks.jobs) > 1:
        process_pool.run_tasks(tasks, workers)
    else:
        for name, arguments in tasks.jobs:
            tasks.function(*arguments)
            tasks.on_done(name)
