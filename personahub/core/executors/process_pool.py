"""Work in processes of this machine: one task per shard, as `ray_cluster` does on a cluster.

    stages:
      verified: {run: synth.verify, execution: {executor: process, workers: 4}, ...}

A lost worker (killed for want of memory, say) costs the shards under way: they are begun again in new
processes. Workers end with the stage's own process, however that ends.
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
from personahub.core.executors.tasks import Job, Tasks, call
from personahub.core.texts.figures import format_seconds

_LOSSES = 3  # of workers in a row without a finished shard between them


def run_tasks(tasks: Tasks, workers: int) -> None:
    """Run all jobs, `workers` of them at once.

    Raises:
        What the function raised first, after the others are ended.
        UserError: workers were lost again and again, or a job took longer than `timeout_s`.
    """
    waiting, losses = deque(tasks.jobs), 0
    while waiting:
        finished, lost = _until_a_loss(tasks, waiting, workers)
        losses = 1 if finished else losses + 1
        if lost and losses >= _LOSSES:
            shards = ", ".join(name for name, _ in lost)
            raise UserError(
                f"a worker process was lost {losses} times (killed, perhaps for want of memory) with shards {shards} "
                "under way. What is finished is kept: run again, with fewer execution.workers if memory is short"
            )
        waiting.extendleft(reversed(lost))


def _until_a_loss(tasks: Tasks, waiting: deque[Job], workers: int) -> tuple[int, list[Job]]:
    """Work off `waiting` until it is empty or a worker is lost: how many jobs were finished, and which were lost."""
    # spawn, not fork: stages may hold threads (Arrow, torch) that do not survive a fork
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    running: dict[concurrent.futures.Future[None], tuple[Job, float]] = {}
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_end_with_the_stage)
    finished = 0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting[0]  # taken off only when it is submitted: a pool that has just lost a worker refuses
                running[pool.submit(call, tasks.function, job[1])] = (job, time.monotonic())
                tasks.under_way.add(waiting.popleft()[0])
            done, _ = concurrent.futures.wait(running, timeout=1.0, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                name = running.pop(future)[0][0]
                tasks.under_way.discard(name)
                finished += 1
                tasks.on_done(name)
            _check_time(running.values(), tasks.timeout_s)
    except BrokenProcessPool:
        return finished, [job for job, _ in running.values()]
    finally:
        tasks.under_way.clear()
        if running:  # a worker that hangs, or is at work for nothing, is not waited for
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        pool.shutdown(cancel_futures=True)
    return finished, []


def _check_time(running: Iterable[tuple[Job, float]], timeout_s: float | None) -> None:
    for (name, _), begun in running:
        if timeout_s is not None and time.monotonic() - begun > timeout_s:
            raise UserError(
                f"shard {name} was under way for {format_seconds(timeout_s)}, which is all that "
                "execution.shard_timeout_s allows; its worker was ended. What is finished is kept: run again"
            )


def _end_with_the_stage() -> None:
    """An interrupt is the stage's own to handle, and a stage that was killed leaves no worker behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  (it was spawned)

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_STATES = {"T": "stopped", "t": "stopped", "D": "waits for a disk", "R": "at work", "S": "sleeps", "Z": "ended"}


def describe(shards: set[str]) -> str:
    """`under way: shards 00003, 00004; process 4711 stopped, process 4712 at work`, where the system tells."""
    parts = []
    for process in sorted(multiprocessing.active_children(), key=lambda child: child.pid or 0):
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = ""
        parts.append(f"process {process.pid} {_STATES.get(state, '')}".strip())
    named = ", ".join(sorted(shards.copy())[:8])
    return "; ".join(part for part in (named and f"under way: shards {named}", ", ".join(parts)) if part)
