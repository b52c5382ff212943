"""Runs phases of tasks that exchange rows through files.

A partition bounds their memory.

    spill = Spill(folder, partitions=64, executor="process", workers=8)
    rows = spill.run("sort", sort_block, range(64), source)

A phase runs one function over numbered tasks. A task writes its outputs and then a marker. Each file is written under
a temporary name and renamed, so a killed task leaves nothing behind, and a repeated run over the same folder starts
with the first task that has no marker. `drop` deletes outputs that no task will read again, and keeps their markers.
Tasks get the list of files from the markers, because on a network file system a listing may be out of date.

Outputs are Arrow IPC files, which can be mapped, with one batch per destination: task 5 of the next phase reads batch
5 of every file. With 1,000 blocks and 1,000 partitions a phase has 1,000 files, not a million.
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

_VISIBLE_WITHIN_S = 90.0  # for files of other nodes: NFS may answer from its cache for a minute
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of `ru_maxrss`


@dataclass
class Spill:
    """A folder for intermediate files, a number of partitions, and an executor.

    On a cluster, all nodes must see the same folder.
    """

    folder: Path
    partitions: int
    executor: Executor = "serial"
    workers: int = 1
    label: str = "dedup"
    written: int = field(default=0, repr=False)  # bytes, by the task that has this copy
    shuffled: int = field(default=0, repr=False)  # of these bytes, those dealt to several destinations
    files: dict[str, list[int]] = field(default_factory=dict, repr=False)  # file numbers of each output

    def subfolder(self, name: str) -> Spill:
        """Returns the same settings in a subfolder."""
        return Spill(self.folder / name, self.partitions, self.executor, self.workers, self.label)

    def run(self, phase: str, function: Callable[..., Any], tasks: Sequence[int], *arguments: Any) -> list[Any]:
        """Calls `function(spill, task, *arguments)` for the tasks that are not done.

        Returns:
            The function's result (JSON values) for each task, from this run or an earlier one.
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
        """Reads what each phase took so far.

        Tasks, CPU seconds, bytes, peak resident bytes. `shuffled` bytes were dealt to several destinations.
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
        file, last = self._marker(phase, task), time.monotonic() + _VISIBLE_WITHIN_S
        while not file.exists():
            if time.monotonic() > last:
                raise UserError(
                    f"{file}: a task wrote this file, but it is not visible here. Put it on a disk that all nodes share"
                )
            time.sleep(0.5)
        return json.loads(file.read_text(encoding="utf-8"))

    def write(self, output: str, number: int, columns: Mapping[str, Any], destination: np.ndarray, count: int) -> None:
        """Deals rows to `count` destinations.

        Args:
            output: name of the output.
            number: number of this file, which is that of the task if it writes only one.
            columns: arrays (numpy or Arrow) of the same length.
            destination: destination of each row, below `count`.
            count: number of destinations. Each gets a batch, which may be empty.
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
        """Maps the rows that all tasks dealt to one destination, in task order."""
        return pa.Table.from_batches(list(self.batches(output, destination)))

    def batches(self, output: str, destination: int) -> Iterator[pa.RecordBatch]:
        """Yields each file's batch for one destination. Nothing if no task wrote this output."""
        for number in self.files.get(output, ()):
            file = pa.memory_map(str(self.folder / output / f"{number:05d}.arrow"))
            yield pa.ipc.open_file(file).get_batch(destination)

    def save(self, output: str, name: str, **arrays: np.ndarray) -> None:
        """Saves arrays: one as `.npy`, which can be mapped, several as `.npz`."""
        if len(arrays) == 1:
            with self.writes(output, f"{name}.npy") as file, file.open("wb") as stream:
                np.save(stream, next(iter(arrays.values())))
        else:
            with self.writes(output, f"{name}.npz") as file, file.open("wb") as stream:
                np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def writes(self, output: str, name: str) -> Iterator[Path]:
        """Yields a temporary file. On success it gets its final name, on failure it is removed."""
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
        """Deletes outputs that no pending task needs."""
        for output in outputs:
            shutil.rmtree(self.folder / output, ignore_errors=True)


def _run_task(spill: Spill, phase: str, task: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    started = time.process_time()
    before = {output: len(numbers) for output, numbers in spill.files.items()}
    spill.files = {output: list(numbers) for output, numbers in spill.files.items()}
    result = function(spill, task, *arguments)
    outputs = {output: numbers[before.get(output, 0) :] for output, numbers in spill.files.items()}
    outputs = {output: numbers for output, numbers in outputs.items() if numbers}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    cpu = round(time.process_time() - started, 3)
    cost = {"cpu_s": cpu, "bytes": spill.written, "shuffled": spill.shuffled, "peak_bytes": peak}
    # Do not wait for the disk: after a power cut, neither the data nor the markers could be trusted.
    with spill.writes(f"done/{phase}", f"{task:05d}.json") as file:
        file.write_text(json.dumps({"result": result, "outputs": outputs, **cost}), encoding="utf-8")


def column(rows: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
    """Copies a column of numbers into one writable array."""
    values: Any = rows[name]
    return np.array(values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False))


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """Returns the partition (int64) of each 64-bit key, as in `kernels.partitions.partition`."""
    upper = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return ((upper * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)
