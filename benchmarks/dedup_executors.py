"""Measure dedup by partitions under each executor: the same result as one process, and the cost per row.

    python -m benchmarks.dedup_executors --rows 1000000
    python -m benchmarks.dedup_executors --rows 1000000 5000000 --executors serial       # growth
    python -m benchmarks.dedup_executors --rows 100000 --vectors VECTORS.npy             # by meaning

The personas are those of the `dedup` benchmark, in shards of 100,000. Each run is a separate process. `ray` is
a cluster on this machine, unless RAY_ADDRESS names another. If the rows fit into memory, `one process` is
`surface` (or `clustered`) itself, and the benchmark fails unless all keep the same rows, for the same survivors
at the same similarities.

CPU includes the tasks and the process that starts them, without the start of Python in workers. Memory is the
highest resident memory of any process that runs tasks. Spilled bytes are all bytes that tasks write; shuffled
bytes are those of them that tasks of other blocks or partitions read. `--vectors` takes the output of the
`embedding_dedup` benchmark; further rows are mixtures of two, as there. Texts are then row numbers, and embedding
is a lookup.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import dedup, embedding_dedup
from personahub.core.duplicates import clustered, embedding, surface
from personahub.core.duplicates.partitioned import vector_join, word_join
from personahub.core.duplicates.partitioned.blocks import cut
from personahub.core.duplicates.partitioned.spill import Spill
from personahub.core.duplicates.result import Deduplication
from tests.local_data import local_data, require_files

THRESHOLD = 0.9
ROWS_A_SHARD = 100_000
ONE = "one process"
COLUMNS = ("kept", "dropped", "survivors", "similarities")


@dataclass(frozen=True)
class Shards:
    """Files of up to `ROWS_A_SHARD` texts."""

    folder: str
    rows: tuple[int, ...]

    def read(self, shard: int) -> pa.Table:
        """Read the columns `id` and `text`."""
        text = pq.read_table(f"{self.folder}/{shard:05d}.parquet")["text"].cast(pa.large_string())
        first = sum(self.rows[:shard])
        return pa.table({"id": pa.array(range(first, first + len(text))).cast(pa.string()), "text": text})


def look_up(texts: Sequence[str], file: str) -> np.ndarray:
    """Return the vectors of row numbers."""
    return np.load(file, mmap_mode="r")[np.array(texts, np.int64)]


def shards_of(options: argparse.Namespace, rows: int) -> Shards:
    """Return the texts in shards, writing them if necessary."""
    folder = options.folder / f"{'numbers' if options.vectors else 'shards'}-{rows}"
    counts = [min(ROWS_A_SHARD, rows - first) for first in range(0, rows, ROWS_A_SHARD)]
    if not folder.exists():
        temporary = folder.with_suffix(".tmp")
        temporary.mkdir(parents=True, exist_ok=True)
        if options.vectors:
            whole = pa.table({"text": [str(row) for row in range(rows)]})
        else:
            whole = pq.read_table(dedup.prepare(options.personas, rows, options.folder), memory_map=True)
        for shard in range(len(counts)):
            pq.write_table(whole.slice(shard * ROWS_A_SHARD, ROWS_A_SHARD), temporary / f"{shard:05d}.parquet")
        temporary.rename(folder)
    return Shards(str(folder.resolve()), tuple(counts))


def vectors_of(options: argparse.Namespace, rows: int) -> Path:
    """Return the file of vectors: the given ones, and mixtures of them."""
    file = options.folder.resolve() / f"vectors-of-{rows}.npy"
    if not file.exists():
        np.save(file, embedding_dedup.perturbed(np.load(options.vectors)[:rows], rows))
    return file


def work(options: argparse.Namespace, executor: str, rows: int) -> dict[str, Any]:
    """Run one executor in this process, write its result and return its costs."""
    shards, folder = shards_of(options, rows), options.folder.resolve() / f"spill-{executor.replace(' ', '-')}"
    vectors = vectors_of(options, rows) if options.vectors else None
    shutil.rmtree(folder, ignore_errors=True)
    started, before = time.perf_counter(), time.process_time()
    costs: dict[str, dict[str, float]] = {}
    if executor == ONE:
        result = _in_one_process(options, shards, vectors)
    else:
        partitions = options.partitions or max(4, rows // 1_000_000)
        spill: Any = Spill(folder, partitions, executor, options.workers)  # pyright: ignore[reportArgumentType]
        blocks = cut(spill, shards)
        if vectors is not None:
            make = functools.partial(look_up, file=str(vectors))
            decided = vector_join.deduplicate(spill.subfolder("0"), blocks, THRESHOLD, make, options.search)
        else:
            decided = word_join.deduplicate(spill.subfolder("0"), blocks, THRESHOLD)
        result, costs = decided.load(THRESHOLD), spill.costs()
        if executor == "ray":
            import ray

            ray.shutdown()
    cpu = time.process_time() - before
    if executor != "serial":  # its tasks ran in this process
        cpu += sum(phase["cpu_s"] for phase in costs.values())
    np.savez(options.folder / f"result-{executor.replace(' ', '-')}.npz", **{c: getattr(result, c) for c in COLUMNS})
    shutil.rmtree(folder, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    return {"wall": time.perf_counter() - started, "cpu": cpu, "own_peak": peak, "phases": costs}


def _in_one_process(options: argparse.Namespace, shards: Shards, vectors: Path | None) -> Deduplication:
    if vectors is not None:
        search = clustered.deduplicate if options.search == "clustered" else embedding.deduplicate
        return search(np.load(vectors, mmap_mode="r"), THRESHOLD)
    texts = (chunk for shard in range(len(shards.rows)) for chunk in shards.read(shard)["text"].chunks)
    return surface.deduplicate(texts, THRESHOLD)


def compare(options: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Run the executors on `rows` rows and print the cost of each. Fails if results differ."""
    print(f"\n{rows:,} rows")
    print("| executor | wall s | CPU s | us of CPU a row | peak MB | bytes spilled a row | shuffled | kept |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    first, last = None, {}
    for executor in options.executors:
        arguments = [*sys.argv[1:], "--worker", executor, "--worker-rows", str(rows)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.dedup_executors", *arguments], stdout=subprocess.PIPE, check=True
        )
        last = json.loads(done.stdout.splitlines()[-1])
        phases = last["phases"]
        peak = max([p["peak_bytes"] for p in phases.values()], default=last["own_peak"]) / 2**20
        spilled = sum(p["bytes"] for p in phases.values()) / rows
        shuffled = sum(p["shuffled"] for p in phases.values()) / rows
        with np.load(options.folder / f"result-{executor.replace(' ', '-')}.npz") as saved:
            result = {name: saved[name] for name in COLUMNS}
        kept = len(result["kept"])
        print(
            f"| {executor} | {last['wall']:.1f} | {last['cpu']:.2f} | {1e6 * last['cpu'] / rows:.2f} | {peak:,.0f} | "
            f"{spilled:,.0f} | {shuffled:,.0f} | {kept:,} |",
            flush=True,
        )
        first = first or result
        if not all(np.array_equal(first[name], result[name]) for name in COLUMNS):
            raise SystemExit(f"{executor} decides differently from {options.executors[0]}")
    print("all keep the same rows, for the same survivors at the same similarities")
    return last


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("--personas", type=Path, default=default, help="JSON lines with a field `persona`")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--executors", nargs="+", default=[ONE, "serial", "process", "ray"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, help="default: one per million rows, at least four")
    parser.add_argument("--vectors", type=Path, help="compare these vectors by meaning")
    parser.add_argument("--search", choices=("clustered", "exact"), default="clustered", help="search for --vectors")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/dedup"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--worker-rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.worker:
        print(json.dumps(work(options, options.worker, options.worker_rows)))
        return
    require_files(options.personas)
    for rows in options.rows:
        shards_of(options, rows)
        last = compare(options, rows)
        print("\n| phase | tasks | CPU s | bytes a row | peak MB |\n|---|---|---|---|---|")
        for name, phase in last["phases"].items():
            numbers = f"{phase['cpu_s']:.2f} | {phase['bytes'] / rows:.1f} | {phase['peak_bytes'] / 2**20:,.0f}"
            print(f"| {name} | {phase['tasks']} | {numbers} |")


if __name__ == "__main__":
    main()
