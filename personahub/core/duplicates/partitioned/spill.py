"""Phases of tasks that exchange rows through files, so that memory is bounded by a partition.

    spill = Spill(folder, partitions=64, executor="process", workers=8)
    rows = spill.run("sort", sort_block, range(64), source)

A phase runs one function over numbered tasks. A task writes its outputs and then a marker; each is
written under a temporary name and renamed, so a task that was killed has left nothing, and a run
that is repeated over the same folder begins with the first task that has no marker. `drop` deletes
outputs that nobody will read again; their markers stay. Tasks are told which files there are: on a
network file system a listing may be older than they.

Outputs are Arrow files (IPC, so they can be mapped) with one batch for each destination: task 5 of
the next phase reads batch 5 of all of them. With 1,000 blocks and 1,000 partitions that is 1,000
files for a phase, not a million.
"""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from personahub.core.errors import UserError
from personahub.core.executors import Executor, run_tasks
from personahub.core.executors.progress import Progress
from personahub.core.executors.tasks import TaskBatch
from personahub.core.files import temporary_name, writing

_SEEN_WITHIN_S = 90.0  # a file that another node wrote: NFS may answer from its cache for a minute
_IN_KB = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`


@dataclass
class Spill:
    """A folder, into how many partitions rows are dealt, and where tasks run.

    The folder has to be the same on all nodes of a cluster.
    """

    folder: Path
    partitions: int
    executor: Executor = "serial"
    workers: int = 1
    label: str = "dedup"
    written: int = field(default=0, repr=False)  # bytes, by the task that has this copy
    shuffled: int = field(default=0, repr=False)  # of these, dealt to several destinations
    files: dict[str, list[int]] = field(default_factory=dict, repr=False)  # numbers of those of each output

    def at(self, name: str) -> Spill:
        """The same in a folder below this one."""
        return Spill(self.folder / name, self.partitions, self.executor, self.workers, self.label)

    def run(self, phase: str, function: Callable[..., Any], tasks: Sequence[int], *arguments: Any) -> list[Any]:
        """Call `function(spill, task, *arguments)` for the tasks that are not done.

        Returns:
            What the function returned for each task (JSON values), from this run or an earlier one.
        """
        (self.folder / "done" / phase).mkdir(parents=True, exist_ok=True)
        pending = [task for task in tasks if not self._marker(phase, task).exists()]
        with Progress(f"{self.label}: {phase}", len(tasks), "tasks", len(tasks) - len(pending)) as progress:
            jobs = [(f"{phase}-{task:05d}", (replace(self), phase, task, function, arguments)) for task in pending]
            run_tasks(TaskBatch(_run_task, jobs, lambda _: progress.update()), self.executor, self.workers)
        markers = [self._read_marker(phase, task) for task in tasks]
        for marker in markers:
            for output, files in marker["outputs"].items():
                self.files.setdefault(output, []).extend(files)
        return [marker["result"] for marker in markers]

    def costs(self) -> dict[str, dict[str, float]]:
        """What each phase took so far, by its markers: tasks, CPU seconds, bytes, the highest resident bytes.

        `shuffled` bytes are those that were dealt to several destinations.
        """
        costs: dict[str, dict[str, float]] = {}
        for file in sorted(self.folder.rglob("done/*/*.json")):
            marker = json.loads(file.read_text(encoding="utf-8"))
            phase = file.parent.relative_to(self.folder).as_posix().replace("done/", "")
            of_phase = costs.setdefault(phase, {"tasks": 0, "cpu_s": 0, "bytes": 0, "shuffled": 0, "peak_bytes": 0})
            of_phase["tasks"] += 1
            for name in ("cpu_s", "bytes", "shuffled"):
                of_phase[name] += marker[name]
            of_phase["peak_bytes"] = max(of_phase["peak_bytes"], marker["peak_bytes"])
        return costs

    def _marker(self, phase: str, task: int) -> Path:
        return self.folder / "done" / phase / f"{task:05d}.json"

    def _read_marker(self, phase: str, task: int) -> dict[str, Any]:
        file, last = self._marker(phase, task), time.monotonic() + _SEEN_WITHIN_S
        while not file.exists():
            if time.monotonic() > last:
                raise UserError(f"{file}: a task wrote it, and it is not here: is this the same folder on all nodes?")
            time.sleep(0.5)
        return json.loads(file.read_text(encoding="utf-8"))

    def write(self, output: str, number: int, columns: Mapping[str, Any], destination: np.ndarray, count: int) -> None:
        """Deal rows to `count` destinations.

        Args:
            output: name of the files.
            number: of this one; that of the task, if it writes one only.
            columns: arrays (numpy or Arrow) of one length.
            destination: of each row, below `count`.
            count: of destinations, each of which gets a batch, if an empty one.
        """
        order = np.argsort(destination, kind="stable")
        ends = np.searchsorted(destination[order], np.arange(count + 1))
        arrays = {
            name: pa.array(column[order]) if isinstance(column, np.ndarray) else column.take(pa.array(order))
            for name, column in columns.items()
        }
        whole = pa.table(arrays).combine_chunks()
        batch = pa.RecordBatch.from_arrays(
            [
                pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
                for column in whole.columns
            ],
            schema=whole.schema,
        )
        with self.writes(output, f"{number:05d}.arrow") as file, pa.ipc.new_file(str(file), batch.schema) as writer:
            for first, last in itertools.pairwise(ends.tolist()):
                writer.write_batch(batch.slice(first, last - first))
        self.files.setdefault(output, []).append(number)
        if count > 1:
            self.shuffled += (self.folder / output / f"{number:05d}.arrow").stat().st_size

    def read(self, output: str, destination: int) -> pa.Table:
        """The rows that all tasks dealt to one destination, in the order of the tasks; mapped, not loaded."""
        return pa.Table.from_batches(list(self.batches(output, destination)))

    def batches(self, output: str, destination: int) -> Iterator[pa.RecordBatch]:
        """Each file's batch for one destination. None, if no task wrote this output."""
        for number in self.files.get(output, ()):
            file = pa.memory_map(str(self.folder / output / f"{number:05d}.arrow"))
            yield pa.ipc.open_file(file).get_batch(destination)

    def save(self, output: str, name: str, **arrays: np.ndarray) -> None:
        """Arrays for one reader: one as `.npy`, which can be mapped, several as `.npz`."""
        if len(arrays) == 1:
            with self.writes(output, f"{name}.npy") as file, file.open("wb") as stream:
                np.save(stream, next(iter(arrays.values())))
        else:
            with self.writes(output, f"{name}.npz") as file, file.open("wb") as stream:
                np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def writes(self, output: str, name: str) -> Iterator[Path]:
        """A temporary file that takes its name if all goes well, and is removed otherwise."""
        file = self.folder / output / name
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(file)
        try:
            with writing(file):
                yield temporary
                self.written += temporary.stat().st_size
                temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)

    def drop(self, *outputs: str) -> None:
        """Delete outputs that no pending task needs."""
        for output in outputs:
            shutil.rmtree(self.folder / output, ignore_errors=True)


def _run_task(spill: Spill, phase: str, task: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    started = time.process_time()
    before = {output: len(numbers) for output, numbers in spill.files.items()}
    spill.files = {output: list(numbers) for output, numbers in spill.files.items()}
    result = function(spill, task, *arguments)
    outputs = {output: numbers[before.get(output, 0) :] for output, numbers in spill.files.items()}
    outputs = {output: numbers for output, numbers in outputs.items() if numbers}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _IN_KB
    cpu = round(time.process_time() - started, 3)
    cost = {"cpu_s": cpu, "bytes": spill.written, "shuffled": spill.shuffled, "peak_bytes": peak}
    # Without waiting for the disk: after a power cut the folder's data would be as doubtful as its markers.
    with spill.writes(f"done/{phase}", f"{task:05d}.json") as file:
        file.write_text(json.dumps({"result": result, "outputs": outputs, **cost}), encoding="utf-8")


def column(rows: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
    """A column of numbers as one array that can be written to."""
    values: Any = rows[name]
    return np.array(values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False))


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """The partition (int64) of each 64-bit key. `kernels.partitions.partition` agrees."""
    upper = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return ((upper * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)
