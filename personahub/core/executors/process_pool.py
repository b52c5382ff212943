"""Run tasks in processes on this machine, one per shard.

`ray_cluster` does this on a cluster.

    stages:
      verified: {run: synth.verify, execution: {executor: process, workers: 4}, ...}

When a worker is lost, for example because it was killed for lack of memory, the shards in progress start
again in new processes. Workers end with the stage's own process, however that ends.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from personahub.core.errors import UserError
from personahub.core.executors.tasks import Task, TaskBatch, call
from personahub.core.texts.figures import format_seconds

_MAX_LOSSES = 3  # lost workers in a row, without a finished shard between them


def run_tasks(batch: TaskBatch, workers: int) -> None:
    """Run all tasks, up to `workers` at a time.

    Raises:
        The first error of a task, after the other workers are stopped.
        UserError: workers were lost repeatedly, or a task took longer than `timeout_s`.
    """
    waiting, losses = deque(batch.tasks), 0
    while waiting:
        finished, lost = _run_until_loss(batch, waiting, workers)
        losses = 1 if finished else losses + 1
        if lost and losses >= _MAX_LOSSES:
            shards = ", ".join(name for name, _ in lost)
            raise UserError(
                f"a worker process was lost {losses} times (perhaps killed for lack of memory) while working on shards "
                f"{shards}. Finished shards are kept: run again, with fewer execution.workers if memory is low"
            )
        waiting.extendleft(reversed(lost))


def _run_until_loss(batch: TaskBatch, waiting: deque[Task], workers: int) -> tuple[int, list[Task]]:
    """Run `waiting` tasks until none is left or a worker is lost.

    Returns:
        The number of finished tasks, and the tasks that were lost.
    """
    # spawn, not fork, because stages may have threads (Arrow, torch) that do not survive a fork
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    running: dict[concurrent.futures.Future[None], tuple[Task, float]] = {}
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_exit_with_parent)
    finished = 0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting[0]  # removed only after it is submitted, because a pool that lost a worker refuses it
                running[pool.submit(call, batch.function, task[1])] = (task, time.monotonic())
                batch.running.add(waiting.popleft()[0])
            done, _ = concurrent.futures.wait(running, timeout=1.0, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                name = running.pop(future)[0][0]
                batch.running.discard(name)
                finished += 1
                batch.on_done(name)
            _check_time(running.values(), batch.timeout_s)
    except BrokenProcessPool:
        return finished, [task for task, _ in running.values()]
    finally:
        batch.running.clear()
        if running:  # do not wait for workers that hang or whose work is not needed any more
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        pool.shutdown(cancel_futures=True)
    return finished, []


def _check_time(running: Iterable[tuple[Task, float]], timeout_s: float | None) -> None:
    for (name, _), started in running:
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise UserError(
                f"shard {name} took longer than {format_seconds(timeout_s)}, the limit set by "
                "execution.shard_timeout_s; its worker was stopped. Finished shards are kept: run again"
            )


def _exit_with_parent() -> None:
    """Make a worker ignore interrupts, which the stage handles. It exits when the stage's process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  (it was spawned)

    def exit_after_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


_STATES = {"T": "stopped", "t": "stopped", "D": "waiting for a disk", "R": "running", "S": "sleeping", "Z": "ended"}


def describe(shards: set[str]) -> str:
    """Return a text like `in progress: shards 00003, 00004. Process 4711 stopped, process 4712 running`."""
    parts = []
    for process in sorted(multiprocessing.active_children(), key=lambda child: child.pid or 0):
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = ""
        parts.append(f"process {process.pid} {_STATES.get(state, '')}".strip())
    named = ", ".join(sorted(shards.copy())[:8])
    return "; ".join(part for part in (named and f"in progress: shards {named}", ", ".join(parts)) if part)
