"""Coroutines that work off jobs, and the results handed on in the order of the records.

Jobs are made as late as possible: a record is taken when a worker is about to run out of jobs, no more
jobs are open than a window allows, and no more records are held than `_HELD` says, so memory is bounded
however many records there are. Records are held behind the first one that has no result yet, finished or
not. The window is much wider than the number of workers, and what is held much more than the window: one
slow answer at the head leaves the workers enough to do.
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

_WINDOW = 16  # open jobs per worker: answers that take sixteen times the usual do not stop the others
_HELD = 256  # records per worker: one answer may take that many times the usual before the others wait for it
_HELD_AT_LEAST = 4096  # by few workers, which cost little memory
_DRAIN_S = 120.0


class Drain(Exception):
    """Mixed into an error after which no job is begun, but those under way are finished: they are paid for."""


class Workers:
    """`number` coroutines that run jobs first come, first served.

    Args:
        number: of jobs under way at once.
        moved: set whenever a job has begun or ended.
    """

    def __init__(self, number: int, moved: asyncio.Event) -> None:
        self.number = number
        self._moved = moved
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def has_room(self) -> bool:
        """Whether more jobs should be put, so that no worker will have to wait for one."""
        return len(self._jobs) < self.number

    def put(self, job: Callable[[], Awaitable[None]]) -> None:
        """Queue a job. It has to handle its own errors."""
        self._jobs.append(job)
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        if len(self._tasks) < self.number:
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
        """Begin nothing more and wait for what is under way, but not without end."""
        self._stopping = True
        for waiter in self._idle:
            waiter.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_S)

    async def close(self) -> None:
        """Cancel what is under way."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """`work` gives the results at `positions` of its record's list, on one of `workers`."""

    workers: Workers
    positions: Sequence[int]
    work: Callable[[], Awaitable[Sequence[T]]]


@dataclass(slots=True, eq=False)
class _Open(Generic[R, T]):
    record: R
    results: list[T | None]
    missing: int


class Window(Generic[R, T]):
    """The open jobs of one sequence of records.

    Args:
        pools: all workers that jobs may name.
        moved: the event that they set.
    """

    def __init__(self, pools: Iterable[Workers], moved: asyncio.Event) -> None:
        self._pools = list(pools)
        self._moved = moved
        workers = max(pool.number for pool in self._pools)
        self._most = _WINDOW * workers
        self._most_held = max(_HELD * workers, _HELD_AT_LEAST)
        self._jobs = 0
        self._error: BaseException | None = None

    async def in_order(
        self, records: Iterable[R], jobs_of: Callable[[R], Sequence[Job[T]]]
    ) -> AsyncIterator[tuple[R, list[T]]]:
        """Every record with the results of its jobs, in the order of the records.

        Raises:
            The first error of any job, at once. Jobs under way are not cancelled by it.
        """
        pending: deque[_Open[R, T]] = deque()
        source = iter(records)
        exhausted = False
        while True:
            while pending and not pending[0].missing:
                done = pending.popleft()
                yield done.record, done.results  # pyright: ignore[reportReturnType] - none is missing
            if self._error is not None:
                await self._fail(self._error)
            while not exhausted and len(pending) < self._most_held and self._may_open():
                for record in source:
                    pending.append(self._begin(record, jobs_of(record)))
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
            job.workers.put(partial(self._run, opened, job))
        return opened

    async def _run(self, opened: _Open[R, T], job: Job[T]) -> None:
        try:
            for position, result in zip(job.positions, await job.work(), strict=True):
                opened.results[position] = result
            opened.missing -= len(job.positions)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again where the results are waited for
            self._error = self._error or error
        self._jobs -= 1

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, Drain):
            await asyncio.gather(*(pool.drain() for pool in self._pools))
        raise error
