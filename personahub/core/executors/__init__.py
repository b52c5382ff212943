"""Run tasks in this process, in processes on this machine, or on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from personahub.core.executors import process_pool, ray_cluster
from personahub.core.executors.tasks import TaskBatch

Executor = Literal["serial", "process", "ray"]


def run_tasks(batch: TaskBatch, executor: Executor, workers: int) -> None:
    """Run all tasks of a batch, up to `workers` at a time.

    With `serial`, one at a time.

    Raises:
        The first error of a task.
        UserError: see `process_pool` and `ray_cluster`.
    """
    if executor == "ray":
        ray_cluster.run_tasks(batch, workers)
    elif executor == "process" and len(batch.tasks) > 1:
        process_pool.run_tasks(batch, workers)
    else:
        for name, arguments in batch.tasks:
            batch.function(*arguments)
            batch.on_done(name)
