"""Calls of one function on many jobs, for whichever executor makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Job = tuple[str, tuple[Any, ...]]  # its name, and the arguments


@dataclass(frozen=True)
class Tasks:
    """`function(*arguments)` for each named job.

    Attributes:
        function: importable by workers in other processes; what it returns is dropped.
        jobs: in the order in which they are begun.
        on_done: called with the name of each finished job.
        under_way: under `process`, kept equal to the names of the jobs that have begun and not ended.
        timeout_s: under `process`, that one job may take; None: any time.
    """

    function: Callable[..., object]
    jobs: Sequence[Job]
    on_done: Callable[[str], object]
    under_way: set[str] = field(default_factory=set)
    timeout_s: float | None = None
