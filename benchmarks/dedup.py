"""Compare surface dedup with other tools: time, memory, recall and precision on personas with planted near-duplicates.

    python -m benchmarks.dedup PERSONAS.jsonl --rows 1000000
    python -m benchmarks.dedup --rows 1000000 10000000 --tools personahub      # growth

`dedup_truth` makes the personas and finds all true near-duplicates without our code. Each tool runs as a
whole process, from start to written result. The other tools run in an environment where they are installed on
first use. The time is the best of `--repeats`, taken in turns. Tools that take minutes run once, and a tool
that takes more than `--limit-minutes` is stopped; its row then gives a lower bound of its time.
`personahub_first_start` compiles its kernels, as happens once on a machine.

Recall: pairs at Jaccard >= 0.9 with at least one dropped member; `near` counts only pairs whose word
sets differ. Precision: dropped rows that have a kept row at >= 0.9. The run fails unless both are 1 for
`personahub` and it keeps exactly the rows that a greedy pass over the true pairs keeps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import dedup_truth
from personahub.core.duplicates import surface
from tests.local_data import local_data, require_files

PEERS = (
    "rensa==0.5.0", "datasketch==2.0.0", "SetSimilaritySearch==1.0.1", "datatrove==0.10.1", "regex", "xxhash",
    "tokenizers", "nltk", "numpy", "pyarrow",
)  # fmt: skip
SCRIPT = Path(__file__).with_name("dedup_tools.py")
FIRST_START = "personahub_first_start"
OURS = ("personahub", "personahub_minhash")
TOOLS = (
    "personahub", FIRST_START, "personahub_minhash", "rensa_r", "rensa_r_8_bands", "rensa_rho", "datasketch",
    "datatrove", "setsimilaritysearch",
)  # fmt: skip
ONCE = ("datasketch", "datatrove", "setsimilaritysearch", FIRST_START)
CHECKED = 60  # rows whose partners are also found by brute force


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, CPU seconds, and peak resident MB (None if it was stopped at the limit)."""

    wall: float
    cpu: float
    peak_mb: float | None


def measure(python: Path, tool: str, texts: Path, output: Path, limit_s: float) -> Run:
    """Run one tool to its end, or for `limit_s`."""
    name = tool.removesuffix("_first_start")
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | ({"NUMBA_CACHE_DIR": empty} if tool == FIRST_START else {})
        before, started = os.times(), time.perf_counter()
        command = [python, SCRIPT, name, texts, output]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=limit_s)
        except subprocess.TimeoutExpired:  # `run` has killed it
            done = None
        wall, after = time.perf_counter() - started, os.times()
    if done and done.returncode:
        raise SystemExit(f"{tool} failed with exit code {done.returncode}: {done.stderr.decode()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu, float(done.stdout.split()[-1]) if done else None)


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the environment that has the other tools."""
    python = folder / "peers" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "peers", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def prepare(personas: Path, rows: int, folder: Path) -> Path:
    """Return the file of texts, making it if necessary."""
    file = folder / f"texts-{rows}.parquet"
    if not file.exists():
        lines = personas.read_text(encoding="utf-8").splitlines()
        words = [found for line in lines if (found := surface.words_of(json.loads(line)["persona"]))]
        schema = pa.schema([("text", pa.string())])
        temporary = file.with_suffix(".tmp")
        with pq.ParquetWriter(temporary, schema) as writer:
            for block in dedup_truth.make(words, rows):
                writer.write(pa.record_batch([block], schema=schema))
        temporary.replace(file)
    return file


def truth(file: Path) -> dedup_truth.Truth:
    """Find all true pairs, and check a sample by brute force, half of which are near-duplicates."""
    sets = dedup_truth.word_sets(pq.read_table(file)["text"])
    found = dedup_truth.find_truth(sets)
    rng = np.random.default_rng(1)
    rows = [rng.integers(len(found.leader), size=CHECKED // 2), rng.choice(found.pairs.ravel(), CHECKED // 2)]
    found.check(sets, np.concatenate(rows))
    return found


def compare(file: Path, rows: int, options: argparse.Namespace) -> dict[str, Run]:
    """Run the tools on one file and print a table."""
    peers = Path() if all(map(_is_ours, options.tools)) else peers_python(options.folder)
    runs: dict[str, list[Run]] = {tool: [] for tool in options.tools}
    outputs = {tool: options.folder / f"{tool}.npy" for tool in options.tools}
    for repeat in range(options.repeats):
        for tool in options.tools:
            if not repeat or tool not in ONCE:
                python = Path(sys.executable) if _is_ours(tool) else peers
                runs[tool].append(measure(python, tool, file, outputs[tool], 60 * options.limit_minutes))
    best = {
        tool: Run(min(r.wall for r in done), min(r.cpu for r in done), max((r.peak_mb for r in done), key=_or_infinite))
        for tool, done in runs.items()
    }
    known = None if options.no_truth else truth(file)
    if known is not None:
        near, same = len(known.pairs), int((known.leader != np.arange(rows)).sum())
        print(f"{rows:,} rows; truth: {same:,} rows repeat the words of an earlier one, {near:,} other pairs at >= 0.9")
    print("| tool | wall s | CPU s | peak MB | bytes a row | kept | recall | near | precision |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tool, run in best.items():
        if run.peak_mb is None:
            print(f"| {tool} | > {run.wall:.0f} | > {run.cpu:.0f} | | | stopped | | | |")
            continue
        kept = np.load(outputs[tool])
        scores = [f"{score:.4f}" for score in known.judge(kept)] if known is not None else ["", "", ""]
        size = f"{run.peak_mb:,.0f} | {run.peak_mb * 2**20 / rows:,.0f}"
        print(f"| {tool} | {run.wall:.2f} | {run.cpu:.2f} | {size} | {kept.sum():,} | {' | '.join(scores)} |")
        if known is not None and tool == "personahub" and not np.array_equal(kept, known.kept_first()):
            raise SystemExit(f"{tool} keeps other rows than the independent join")
    if ours := best.get("personahub"):
        for tool, run in best.items():
            if not _is_ours(tool):
                least = "at least " if run.peak_mb is None else ""
                print(
                    f"{tool} takes {least}{run.wall / ours.wall:.1f} times as long, {run.cpu / ours.cpu:.1f} times the CPU"
                )
    return best


def _is_ours(tool: str) -> bool:
    return tool.startswith(OURS)


def _or_infinite(peak_mb: float | None) -> float:
    return math.inf if peak_mb is None else peak_mb


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("personas", type=Path, nargs="?", default=default, help="JSON lines with a field `persona`")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--limit-minutes", type=float, default=60, help="time limit of one run of one tool")
    parser.add_argument("--no-truth", action="store_true", help="measure only time and memory")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/dedup"))
    options = parser.parse_args()
    require_files(options.personas)
    options.folder.mkdir(parents=True, exist_ok=True)
    surface.deduplicate(["compiles the kernels once, as an installation does"])
    done = [(rows, compare(prepare(options.personas, rows, options.folder), rows, options)) for rows in options.rows]
    for (fewer, before), (more, after) in itertools.pairwise(done):
        for tool in (tool for tool in before if before[tool].peak_mb and after[tool].peak_mb):
            growth = after[tool].cpu / before[tool].cpu
            print(f"{tool}: {more / fewer:.0f} times the rows take {growth:.1f} times the CPU")


if __name__ == "__main__":
    main()
