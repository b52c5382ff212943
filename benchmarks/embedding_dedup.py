"""Compare embedding and dedup by cosine with other tools: CPU, memory, and whether the answers are the same.

    python -m benchmarks.embedding_dedup --rows 100000

Three tables: embedding with the packaged MiniLM against sentence-transformers' defaults; all pairs
at cosine >= 0.9 against faiss' exact range search; deduplication, exact and by the nearest eight
clusters. The personas are those of the `dedup` benchmark. Each search is a separate process; faiss has
its own environment, installed on first use. Vectors are computed once per `--folder`.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import dedup_truth
from personahub.core.embedding.config import EmbedderConfig
from personahub.core.embedding.embed import embed
from personahub.core.texts.words import words_of
from tests.local_data import local_data, require_files

PEERS = ("faiss-cpu==1.15.1", "numpy")
SCRIPT = Path(__file__).with_name("embedding_dedup_tools.py")
THRESHOLD = 0.9
ROUNDS = 2  # of the embedding comparison
EMBEDDED = 100_000  # real vectors; the rest are mixtures


@dataclass(frozen=True)
class Run:
    """CPU and wall seconds of a search alone, and the growth of its process's memory while it ran."""

    cpu: float
    wall: float
    peak_mb: float


def rates(texts: list[str]) -> None:
    """Embed the same texts with sentence-transformers and with our embedder, in turns; the best round counts.

    By default the threads of sentence-transformers share each product and busy-wait for each other, which costs
    CPU if other work delays one of them. So it is also measured with one thread.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    from personahub.core.embedding.embed import _packaged_minilm

    model = SentenceTransformer(_packaged_minilm(), device="cpu")

    def peer(texts: list[str], threads: int) -> np.ndarray:
        default = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return model.encode(texts, normalize_embeddings=True)
        finally:
            torch.set_num_threads(default)

    tools: dict[str, Callable[[list[str]], np.ndarray]] = {
        "sentence-transformers, defaults": functools.partial(peer, threads=torch.get_num_threads()),
        "sentence-transformers, one thread": functools.partial(peer, threads=1),
    }
    for dtype in ("int16", "bfloat16", "float32"):
        tools[f"personahub, {dtype}"] = functools.partial(embed, config=EmbedderConfig(device="cpu", dtype=dtype))
    cpu, vectors = dict.fromkeys(tools, float("inf")), {}
    for _ in range(ROUNDS):
        for name, tool in tools.items():
            tool(texts[:64])
            started = time.process_time()
            vectors[name] = tool(texts)
            cpu[name] = min(cpu[name], time.process_time() - started)
    defaults, one_thread = (cpu[name] for name in list(tools)[:2])
    theirs = vectors["sentence-transformers, defaults"]
    print(f"| {len(texts):,} texts | rows per CPU second | times the defaults | times one thread | ", end="")
    print("cosines of pairs differ by at most | on average | a text's cosine at least |\n|---|---|---|---|---|---|---|")
    for name, ours in vectors.items():
        difference, same = np.abs(ours @ ours.T - theirs @ theirs.T), (ours * theirs).sum(axis=1).min()
        print(
            f"| {name} | {len(texts) / cpu[name]:,.0f} | {defaults / cpu[name]:.1f} | {one_thread / cpu[name]:.1f} | "
            f"{difference.max():.5f} | {difference.mean():.5f} | {same:.6f} |"
        )


def search(python: Path, tool: str, vectors: Path, output: Path) -> Run:
    """Run one search in a separate process."""
    done = subprocess.run(
        [python, SCRIPT, tool, vectors, output, str(THRESHOLD)], stdout=subprocess.PIPE, check=True
    ).stdout.split()
    return Run(*map(float, done[-3:]))


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the environment that has faiss."""
    python = folder / "faiss" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "faiss", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def texts_of(personas: Path, rows: int) -> list[str]:
    """Make personas as the `dedup` benchmark does."""
    lines = personas.read_text(encoding="utf-8").splitlines()
    words = [found for line in lines if (found := words_of(json.loads(line)["persona"]))]
    return [text for block in dedup_truth.make(words, rows) for text in block.to_pylist()]


def perturbed(real: np.ndarray, rows: int) -> np.ndarray:
    """Return the real vectors, followed by mixtures of two: 0.4 to 1.2 times one vector added to another."""
    rng = np.random.default_rng(0)
    vectors = np.empty((rows, real.shape[1]), np.float32)
    vectors[: len(real)] = real
    for first in range(len(real), rows, len(real)):
        part = vectors[first : first + len(real)]
        one, other = (real[rng.integers(len(real), size=len(part))] for _ in range(2))
        mixed = one + rng.uniform(0.4, 1.2, (len(part), 1)).astype(np.float32) * other
        part[:] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return vectors


def vectors_of(personas: Path, rows: int, folder: Path) -> Path:
    """Return the file of vectors, making it if necessary; from EMBEDDED on they are mixtures of real ones."""
    file = folder / f"vectors-{rows}.npy"
    if not file.exists():
        if rows > EMBEDDED:
            np.save(file, perturbed(np.load(vectors_of(personas, EMBEDDED, folder)), rows))
        else:
            np.save(file, embed(texts_of(personas, rows), EmbedderConfig(device="cpu")))
    return file


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("personas", type=Path, nargs="?", default=default, help="JSON lines with a field `persona`")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--compared", type=int, default=2_000, help="texts that both tools embed")
    parser.add_argument("--only-rates", action="store_true", help="compare only the embedding itself")
    parser.add_argument("--no-rates", action="store_true", help="do not compare the embedding itself")
    parser.add_argument("--no-faiss", action="store_true", help="skip faiss, which takes 1.5 hours for a million")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/embedding_dedup"))
    options = parser.parse_args()
    require_files(options.personas)
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.no_rates:
        rates(texts_of(options.personas, options.compared))
    if options.only_rates:
        return
    file = vectors_of(options.personas, options.rows, options.folder)
    tools = {"exact_pairs": Path(sys.executable)}
    if not options.no_faiss:
        tools["faiss_flat"] = peers_python(options.folder)
    runs, found = {}, {}
    print(f"\n| all pairs at >= {THRESHOLD} of {options.rows:,} vectors | CPU s | wall s | MB | pairs |")
    print("|---|---|---|---|---|")
    for tool, python in tools.items():
        output = options.folder / f"{tool}.npy"
        run = runs[tool] = search(python, tool, file, output)
        found[tool] = np.load(output)
        print(f"| {tool} | {run.cpu:.1f} | {run.wall:.1f} | {run.peak_mb:,.0f} | {len(found[tool]):,} |", flush=True)
    if not options.no_faiss:
        print(f"faiss takes {runs['faiss_flat'].cpu / runs['exact_pairs'].cpu:.1f} times the CPU")
        compare_pairs(np.load(file, mmap_mode="r"), found["exact_pairs"], found["faiss_flat"])

    print("\n| deduplication | CPU s | wall s | MB | kept | pairs found |\n|---|---|---|---|---|---|")
    for tool in ("exact", "clustered"):
        output = options.folder / f"{tool}.npy"
        run = search(Path(sys.executable), tool, file, output)
        kept = np.load(output)
        covered = ~(kept[found["exact_pairs"][:, 0]] & kept[found["exact_pairs"][:, 1]])
        print(
            f"| {tool} | {run.cpu:.1f} | {run.wall:.1f} | {run.peak_mb:,.0f} | {kept.sum():,} | {covered.mean():.4f} |",
            flush=True,
        )


def compare_pairs(vectors: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Fail unless the two sets of pairs differ only where float32 rounding decides."""
    sets = [set(map(tuple, pairs.tolist())) for pairs in (ours, theirs)]
    differing = np.array(sorted(sets[0] ^ sets[1]), np.int64).reshape(-1, 2)
    cosines = np.einsum("ij,ij->i", *(vectors[differing[:, side]].astype(np.float64) for side in (0, 1)))
    if len(cosines) and np.abs(cosines - THRESHOLD).max() > 1e-6:
        raise SystemExit(f"{len(differing)} pairs are found by only one of the two")
    print(f"the pairs are the same except for {len(differing)} whose cosine is within 1e-6 of {THRESHOLD}")


if __name__ == "__main__":
    main()
