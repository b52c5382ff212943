"""Embedding, and dedup by cosine, against their peers: CPU, memory, and whether the answers are the same.

    python -m benchmarks.embedding_dedup --rows 100000

Three tables: embedding with the packaged MiniLM against sentence-transformers' defaults; all pairs
at cosine >= 0.9 against faiss' exact range search; deduplication, exact and by the nearest four
clusters. Personas are those of the `dedup` benchmark. Each search is a process of its own; faiss is
in an environment of its own, installed on first use. Vectors are computed once per `--folder`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import dedup_truth
from personahub.core.duplicates.word_sets import words_of
from personahub.core.embedding import EmbedderConfig, embed
from tests.local_data import local_data

PEERS = ("faiss-cpu==1.15.1", "numpy")
SCRIPT = Path(__file__).with_name("embedding_dedup_tools.py")
THRESHOLD = 0.9
COMPARED = 2_000  # texts embedded by both


@dataclass(frozen=True)
class Run:
    """CPU seconds of a search alone, and its process's growth in memory while it ran."""

    cpu: float
    peak_mb: float


def rates(texts: list[str]) -> None:
    """Embed the same texts with the defaults of sentence-transformers and with ours."""
    from sentence_transformers import SentenceTransformer

    from personahub.core.embedding import _packaged_minilm

    model = SentenceTransformer(_packaged_minilm(), device="cpu")
    embed(texts[:64], EmbedderConfig(device="cpu"))
    model.encode(texts[:64])
    started = time.process_time()
    theirs = model.encode(texts, normalize_embeddings=True)
    their_cpu = time.process_time() - started
    started = time.process_time()
    ours = embed(texts, EmbedderConfig(device="cpu"))
    our_cpu = time.process_time() - started
    difference = np.abs(ours @ ours.T - theirs @ theirs.T)
    print(f"{len(texts):,} texts | rows per CPU second\n---|---")
    print(f"sentence-transformers, defaults | {len(texts) / their_cpu:,.0f}")
    print(f"personahub, bfloat16 | {len(texts) / our_cpu:,.0f} ({their_cpu / our_cpu:.1f} times)")
    print(
        f"cosines of all pairs differ by {difference.max():.4f} at most, by {difference.mean():.5f} on average; "
        f"a text's two vectors have a cosine of {(ours * theirs).sum(axis=1).min():.5f} or more"
    )


def search(python: Path, tool: str, vectors: Path, output: Path) -> Run:
    """One search in a process of its own."""
    done = subprocess.run(
        [python, SCRIPT, tool, vectors, output, str(THRESHOLD)], stdout=subprocess.PIPE, check=True
    ).stdout.split()
    return Run(float(done[-2]), float(done[-1]))


def peers_python(folder: Path) -> Path:
    """Interpreter of the environment that has faiss."""
    python = folder / "faiss" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "faiss", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def texts_of(personas: Path, rows: int) -> list[str]:
    """Personas as the `dedup` benchmark makes them."""
    lines = personas.read_text(encoding="utf-8").splitlines()
    words = [found for line in lines if (found := words_of(json.loads(line)["persona"]))]
    return [text for block in dedup_truth.make(words, rows) for text in block.to_pylist()]


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("personas", type=Path, nargs="?", default=default, help="JSON lines with a field `persona`")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--no-rates", action="store_true", help="do not compare embedding itself")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/embedding_dedup"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    texts = texts_of(options.personas, options.rows)
    if not options.no_rates:
        rates(texts[:COMPARED])
    file = options.folder / f"vectors-{options.rows}.npy"
    if not file.exists():
        np.save(file, embed(texts, EmbedderConfig(device="cpu")))

    peers = peers_python(options.folder)
    runs, found = {}, {}
    for tool, python in (("faiss_flat", peers), ("exact_pairs", Path(sys.executable))):
        output = options.folder / f"{tool}.npy"
        runs[tool], found[tool] = search(python, tool, file, output), np.load(output)
    print(f"\n| all pairs at >= {THRESHOLD} of {options.rows:,} vectors | CPU s | MB | pairs |\n|---|---|---|---|")
    for tool, run in runs.items():
        print(f"| {tool} | {run.cpu:.1f} | {run.peak_mb:,.0f} | {len(found[tool]):,} |")
    print(f"faiss takes {runs['faiss_flat'].cpu / runs['exact_pairs'].cpu:.1f} times the CPU")
    compare_pairs(np.load(file, mmap_mode="r"), found["exact_pairs"], found["faiss_flat"])

    print("\n| deduplication | CPU s | MB | kept | pairs found |\n|---|---|---|---|---|")
    for tool in ("exact", "clustered"):
        output = options.folder / f"{tool}.npy"
        run = search(Path(sys.executable), tool, file, output)
        kept = np.load(output)
        covered = ~(kept[found["exact_pairs"][:, 0]] & kept[found["exact_pairs"][:, 1]])
        print(f"| {tool} | {run.cpu:.1f} | {run.peak_mb:,.0f} | {kept.sum():,} | {covered.mean():.4f} |")


def compare_pairs(vectors: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> None:
    """The two sets of pairs may differ only where float32 rounding decides."""
    sets = [set(map(tuple, pairs.tolist())) for pairs in (ours, theirs)]
    differing = np.array(sorted(sets[0] ^ sets[1]), np.int64).reshape(-1, 2)
    cosines = np.einsum("ij,ij->i", *(vectors[differing[:, side]].astype(np.float64) for side in (0, 1)))
    if len(cosines) and np.abs(cosines - THRESHOLD).max() > 1e-6:
        raise SystemExit(f"{len(differing)} pairs are found by one of the two only")
    print(f"the pairs are the same but for {len(differing)} whose cosine is within 1e-6 of {THRESHOLD}")


if __name__ == "__main__":
    main()
