"""Map a function over items in threads, with results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """Yield results in the order of the items. Takes only a few items ahead.

    This is faster than a loop only if `work` releases the GIL, as the kernels do.

    Args:
        work: the function to call for each item.
        items: its arguments.
        threads: number of threads; by default the number of processors.
    """
    threads = threads or _processors()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # on Linux: the processors that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
