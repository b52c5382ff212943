"""Runs jobs in coroutines.

A window returns their results in the order of the records. Jobs are created as late as possible. A record is taken
when a worker is about to run out of jobs, if neither the limit of open jobs (`_WINDOW`) nor that of held records
(`_HELD`) is reached. So memory is bounded for any number of records. All records after the first unfinished one are
held. The window is much larger than the number of workers, and the limit of held records is much larger than the
window, so that one slow answer does not stop the workers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_WINDOW = 16  # open jobs per worker: an answer that takes 16 times as long as usual does not stop the others
_HELD = 256  # records per worker: an answer may take 256 times as long as usual before the others wait for it
_HELD_AT_LEAST = 4096  # for few workers; this many records take little memory
_DRAIN_S = 120.0


class Drain(Exception):
    """Mixin for an error after which no job starts. Running jobs finish because they are paid for."""


class WorkerPool:
    """A pool of `size` coroutines that run jobs in the order in which they were added.

    Args:
        size: number of jobs that run at the same time.
        moved: set whenever a job starts or ends.
    """

    def __init__(self, size: int, moved: asyncio.Event) -> None:
        self.size = size
        self._moved = moved
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def has_room(self) -> bool:
        """Whether more jobs should be added so that no worker has to wait for one."""
        return len(self._jobs) < self.size

    def put(self, job: Callable[[], Awaitable[None]]) -> None:
        """Add a job to the queue. The job must handle its own errors."""
        self._jobs.append(job)
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        if len(self._tasks) < self.size:
            self._tasks.append(asyncio.create_task(self._work()))

    async def _work(self) -> None:
        jobs = self._jobs
        while not self._stopping:
            if jobs:
                job = jobs.popleft()
                self._moved.set()
                await job()
                self._moved.set()
            else:
                waiter = asyncio.get_running_loop().create_future()
                self._idle.append(waiter)
                await waiter

    async def drain(self) -> None:
        """Start no more jobs, and wait up to `_DRAIN_S` seconds for running jobs."""
        self._stopping = True
        for waiter in self._idle:
            waiter.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_S)

    async def close(self) -> None:
        """Cancel running jobs."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """Work in `pool` that returns the results at `positions` of its record's results."""

    pool: WorkerPool
    positions: Sequence[int]
    work: Callable[[], Awaitable[Sequence[T]]]


@dataclass(slots=True, eq=False)
class _Open(Generic[R, T]):
    record: R
    results: list[T | None]
    missing: int


class OrderedWindow(Generic[R, T]):
    """The open jobs of one sequence of records.

    Args:
        pools: all pools that jobs may use.
        moved: the event that the pools set.
    """

    def __init__(self, pools: Iterable[WorkerPool], moved: asyncio.Event) -> None:
        self._pools = list(pools)
        self._moved = moved
        workers = max(pool.size for pool in self._pools)
        self._most = _WINDOW * workers
        self._most_held = max(_HELD * workers, _HELD_AT_LEAST)
        self._jobs = 0
        self._error: BaseException | None = None

    async def run(
        self, records: Iterable[R], make_jobs: Callable[[R], Sequence[Job[T]]]
    ) -> AsyncIterator[tuple[R, list[T]]]:
        """Yield every record with the results of its jobs, in the order of the records.

        Raises:
            The first error of any job, immediately. Running jobs are not cancelled.
        """
        pending: deque[_Open[R, T]] = deque()
        source = iter(records)
        exhausted = False
        while True:
            while pending and not pending[0].missing:
                done = pending.popleft()
                yield done.record, done.results  # pyright: ignore[reportReturnType] - no result is missing
            if self._error is not None:
                await self._fail(self._error)
            while not exhausted and len(pending) < self._most_held and self._may_open():
                for record in source:
                    pending.append(self._begin(record, make_jobs(record)))
                    break
                else:
                    exhausted = True
            if not pending and exhausted:
                return
            if not pending or pending[0].missing:
                self._moved.clear()
                await self._moved.wait()

    def _may_open(self) -> bool:
        return self._jobs < self._most and any(pool.has_room for pool in self._pools)

    def _begin(self, record: R, jobs: Sequence[Job[T]]) -> _Open[R, T]:
        count = sum(len(job.positions) for job in jobs)
        opened: _Open[R, T] = _Open(record, [None] * count, count)
        self._jobs += len(jobs)
        for job in jobs:
            job.pool.put(partial(self._run_job, opened, job))
        return opened

    async def _run_job(self, opened: _Open[R, T], job: Job[T]) -> None:
        try:
            for position, result in zip(job.positions, await job.work(), strict=True):
                opened.results[position] = result
            opened.missing -= len(job.positions)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._error = self._error or error
        self._jobs -= 1

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, Drain):
            await asyncio.gather(*(pool.drain() for pool in self._pools))
        raise error
