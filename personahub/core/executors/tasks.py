"""A batch of calls of one function, which any executor can run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Task = tuple[str, tuple[Any, ...]]  # name and arguments


@dataclass(frozen=True)
class TaskBatch:
    """Calls of `function(*arguments)`, one for each named task.

    Attributes:
        function: importable by worker processes; its return value is ignored.
        tasks: names and arguments, in the order in which they start.
        on_done: called with the name of each finished task.
        running: with the `process` executor, the names of the tasks that are running.
        timeout_s: with the `process` executor, the time limit of a task; None means no limit.
    """

    function: Callable[..., object]
    tasks: Sequence[Task]
    on_done: Callable[[str], object]
    running: set[str] = field(default_factory=set)
    timeout_s: float | None = None


def call(function: Callable[..., object], arguments: Sequence[Any]) -> None:
    """Call `function(*arguments)` in a worker process.

    Raises:
        The error of the function. If it cannot be pickled, a RuntimeError with the same message and notes.
        (Unpickling creates an exception from its `args`, which not every class accepts.)
    """
    try:
        function(*arguments)
    except Exception as error:
        if _can_be_pickled(error):
            raise
        replacement = RuntimeError(f"{type(error).__qualname__}: {error}")
        for note in getattr(error, "__notes__", ()):
            replacement.add_note(note)
        raise replacement from error  # includes the traceback of `error` as text


def _can_be_pickled(error: Exception) -> bool:
    """Returns whether an error survives pickling. Copying creates it in the same way."""
    try:
        return type(copy.deepcopy(error)) is type(error)
    except Exception:  # noqa: BLE001 - its class may raise anything here
        return False
