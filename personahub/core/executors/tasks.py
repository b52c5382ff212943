"""Calls of one function on many jobs, for whichever executor makes them."""

from __future__ import annotations

import copy
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


def call(function: Callable[..., object], arguments: Sequence[Any]) -> None:
    """`function(*arguments)` in a worker of another process.

    Raises:
        What the function raises, or a RuntimeError of the same words and notes where that would not arrive whole:
        an exception is rebuilt from its `args`, which not every class takes.
    """
    try:
        function(*arguments)
    except Exception as error:
        if _travels(error):
            raise
        said = RuntimeError(f"{type(error).__qualname__}: {error}")
        for note in getattr(error, "__notes__", ()):
            said.add_note(note)
        raise said from error  # whose traceback goes along as text


def _travels(error: Exception) -> bool:
    """Copying rebuilds an exception as its way to another process does."""
    try:
        return type(copy.deepcopy(error)) is type(error)
    except Exception:  # noqa: BLE001 - whatever its class does when it is rebuilt
        return False
