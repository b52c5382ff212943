"""Phases of tasks that exchange rows through files, so that memory is bounded by a partition.

    spill = Spill(folder, partitions=64, executor="process", workers=8)
    rows = spill.run("sort", sort_block, range(64), source)

A phase runs one function over numbered tasks. A task writes its outputs and then a marker; each is
written under a temporary name and renamed, so a task that was killed has left nothing, and a run
that is repeated over the same folder begins with the first task that has no marker. `drop` deletes
outputs that nobody will read again; their markers stay.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from personahub.core.artifact import temporary_name, writing
from personahub.core.errors import UserError
from personahub.core.executors import Executor, map_tasks
from personahub.core.progress import Progress

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
            map_tasks(
                self.executor,
                _run_task,
                [(f"{phase}-{task:05d}", (self.at("."), phase, task, function, arguments)) for task in pending],
                self.workers,
                lambda _: progress.update(),
            )
        return [json.loads(self._marker(phase, task).read_text(encoding="utf-8"))["result"] for task in tasks]

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

    def write(self, output: str, task: int, columns: Mapping[str, Any], destination: np.ndarray, count: int) -> None:
        """Deal rows to `count` destinations.

        Args:
            output: name of the files.
            task: that writes.
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
        with self.writes(output, f"{task:05d}.arrow") as file, pa.ipc.new_file(str(file), batch.schema) as writer:
            for first, last in itertools.pairwise(ends.tolist()):
                writer.write_batch(batch.slice(first, last - first))
        if count > 1:
            self.shuffled += (self.folder / output / f"{task:05d}.arrow").stat().st_size

    def read(self, output: str, destination: int) -> pa.Table:
        """The rows that all tasks dealt to one destination, in the order of the tasks; mapped, not loaded.

        Raises:
            UserError: no task wrote this output.
        """
        batches = [batch for _, batch in self.batches(output, destination)]
        if not batches:
            raise UserError(f"{self.folder / output}: there are no files; delete {self.folder} and start again")
        return pa.Table.from_batches(batches)

    def batches(self, output: str, destination: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Each task's number and batch for one destination."""
        for file in sorted((self.folder / output).glob("[0-9]*.arrow")):
            yield int(file.stem), pa.ipc.open_file(pa.memory_map(str(file))).get_batch(destination)

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
    result = function(spill, task, *arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _IN_KB
    cpu = round(time.process_time() - started, 3)
    cost = {"cpu_s": cpu, "bytes": spill.written, "shuffled": spill.shuffled, "peak_bytes": peak}
    # Without waiting for the disk: after a power cut the folder's data would be as doubtful as its markers.
    with spill.writes(f"done/{phase}", f"{task:05d}.json") as file:
        file.write_text(json.dumps({"result": result, **cost}), encoding="utf-8")


def column(rows: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
    """A column of numbers as one array that can be written to."""
    values: Any = rows[name]
    return np.array(values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False))


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """The partition (int64) of each 64-bit key. `partition_kernels.partition` agrees."""
    upper = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return ((upper * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)
