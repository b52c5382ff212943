"""Run one search over vectors by one tool as a whole process, which `embedding_dedup.py` starts.

    python benchmarks/embedding_dedup_tools.py TOOL VECTORS.npy OUTPUT.npy THRESHOLD

Writes pairs or, for deduplication, a boolean per row; prints CPU seconds, wall seconds and MB of memory of the
search alone.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np


def faiss_flat(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """faiss' exact search, queried in blocks, so that its result lists stay small."""
    import faiss  # pyright: ignore[reportMissingImports]

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    pairs = []
    for first in range(0, len(vectors), 4096):
        limits, _, found = index.range_search(vectors[first : first + 4096], threshold)
        row = first + np.repeat(np.arange(len(limits) - 1), np.diff(limits).astype(int))
        pairs.append(np.stack([row, found], axis=1)[row < found])
    return np.concatenate(pairs)


def exact_pairs(vectors: np.ndarray, threshold: float) -> np.ndarray:
    from personahub.core.duplicates import embedding

    return embedding.pairs(vectors, threshold)[0]


def exact(vectors: np.ndarray, threshold: float) -> np.ndarray:
    from personahub.core.duplicates import embedding

    kept = np.zeros(len(vectors), bool)
    kept[embedding.deduplicate(vectors, threshold).kept] = True
    return kept


def clustered(vectors: np.ndarray, threshold: float) -> np.ndarray:
    from personahub.core.duplicates import clustered

    kept = np.zeros(len(vectors), bool)
    kept[clustered.deduplicate(vectors, threshold).kept] = True
    return kept


def _memory_mb(field: str) -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 1024


TOOLS = {tool.__name__: tool for tool in (faiss_flat, exact_pairs, exact, clustered)}

if __name__ == "__main__":
    tool, vectors, output, threshold = sys.argv[1:]
    matrix = np.load(vectors)
    before, cpu, wall = _memory_mb("VmRSS"), time.process_time(), time.perf_counter()
    result = TOOLS[tool](matrix, float(threshold))
    print(time.process_time() - cpu, time.perf_counter() - wall, _memory_mb("VmHWM") - before)
    np.save(output, result)
