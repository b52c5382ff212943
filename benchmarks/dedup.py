"""Surface dedup against its peers: time, memory, recall and precision on personas with planted near-duplicates.

    python -m benchmarks.dedup PERSONAS.jsonl --rows 1000000

Personas are recombined from the heads and tails of the real ones given, and every eighth row is a
near-duplicate of an earlier one: its words shuffled, one word left out, put in or replaced. Texts
are lower case and bare of punctuation, so that all tools see the same words. Each tool is a whole
process, from start to written result, in an environment where the peers are installed on first
use. Time is the best of `--repeats`, taken in turns.

Recall: planted pairs at Jaccard >= 0.9 of which one member at least is dropped; `near` counts only
pairs whose word sets differ. Precision: dropped rows that have a kept row at >= 0.9.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personahub.core.duplicates import surface
from tests.local_data import local_data

PEERS = ("rensa==0.5.0", "datasketch==2.0.0", "numpy", "pyarrow")
SCRIPT = Path(__file__).with_name("dedup_tools.py")
TOOLS = ("personahub", "rensa_r", "rensa_r_8_bands", "rensa_rho", "datasketch")
THRESHOLD = 0.9


@dataclass(frozen=True)
class Pairs:
    """Planted near-duplicates at or above the threshold: rows, the rows they were made from, Jaccard."""

    copy: np.ndarray
    original: np.ndarray
    similarity: np.ndarray


def make(personas: list[str], rows: int, seed: int = 0) -> tuple[list[str], Pairs]:
    """Recombined personas and the near-duplicates planted among them."""
    rng = random.Random(seed)
    sources = [words for persona in personas if (words := surface.words_of(persona))]
    made: list[list[str]] = []
    planted: list[tuple[int, int, float]] = []
    while len(made) < rows:
        if made and rng.random() < 0.13:
            original = rng.randrange(len(made))
            copy = _vary(rng, made[original], rng.choice(rng.choice(sources)))
            a, b = set(copy), set(made[original])
            if a and len(a & b) / len(a | b) >= THRESHOLD:
                planted.append((len(made), original, len(a & b) / len(a | b)))
            made.append(copy or made[original])
        else:
            head, tail = rng.choice(sources), rng.choice(sources)
            made.append(head[: rng.randint(1, len(head))] + tail[rng.randrange(len(tail)) :])
    columns = np.array(planted, dtype=[("copy", int), ("original", int), ("similarity", float)])
    pairs = Pairs(columns["copy"], columns["original"], columns["similarity"])
    return [" ".join(words) for words in made], pairs


def _vary(rng: random.Random, words: list[str], other: str) -> list[str]:
    words = list(words)
    at = rng.randrange(len(words))
    kind = rng.randrange(4)
    if kind == 0:
        rng.shuffle(words)
    elif kind == 1:
        del words[at]
    elif kind == 2:
        words.insert(at, other)
    else:
        words[at] = other
    return words


@dataclass(frozen=True)
class Run:
    """One process: seconds on the clock, seconds of CPU, peak resident MB."""

    wall: float
    cpu: float
    peak_mb: float


def measure(python: Path, tool: str, texts: Path, output: Path) -> Run:
    """Run one tool to its end."""
    started = time.perf_counter()
    process = subprocess.Popen([python, SCRIPT, tool, texts, output])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{tool} failed with exit code {process.returncode}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def judge(texts: pa.ChunkedArray, kept: np.ndarray, pairs: Pairs) -> tuple[float, float, float]:
    """Recall, recall without identical sets, precision."""
    separated = ~(kept[pairs.copy] & kept[pairs.original])
    near = pairs.similarity < 1
    match, _ = surface.nearest(texts.filter(pa.array(~kept)), texts.filter(pa.array(kept)), THRESHOLD)
    return separated.mean(), separated[near].mean(), (match >= 0).mean()


def peers_python(folder: Path) -> Path:
    """Interpreter of the environment that has the peers."""
    python = folder / "peers" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "peers", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("personas", type=Path, nargs="?", default=default, help="JSON lines with a field `persona`")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/dedup"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    personas = [json.loads(line)["persona"] for line in options.personas.read_text(encoding="utf-8").splitlines()]
    made, pairs = make(personas, options.rows)
    file = options.folder / f"texts-{options.rows}.parquet"
    pq.write_table(pa.table({"text": made}), file)
    texts = pq.read_table(file)["text"]
    print(
        f"{options.rows:,} rows, {len(pairs.copy):,} planted pairs, {np.mean(pairs.similarity < 1):.0%} not identical"
    )

    peers = peers_python(options.folder)
    interpreter = {tool: Path(sys.executable) if tool == "personahub" else peers for tool in options.tools}
    surface.deduplicate(["compiles the kernels once, as an installation does"])
    runs: dict[str, list[Run]] = {tool: [] for tool in options.tools}
    for _ in range(options.repeats):
        for tool in options.tools:
            runs[tool].append(measure(interpreter[tool], tool, file, options.folder / f"{tool}.npy"))
    print("| tool | wall s | CPU s | peak MB | kept | recall | near | precision |")
    print("|---|---|---|---|---|---|---|---|")
    for tool in options.tools:
        kept = np.load(options.folder / f"{tool}.npy")
        recall, near, precision = judge(texts, kept, pairs)
        wall, cpu = min(run.wall for run in runs[tool]), min(run.cpu for run in runs[tool])
        peak = max(run.peak_mb for run in runs[tool])
        scores = f"{recall:.4f} | {near:.4f} | {precision:.4f}"
        print(f"| {tool} | {wall:.2f} | {cpu:.2f} | {peak:,.0f} | {kept.sum():,} | {scores} |")


if __name__ == "__main__":
    main()
