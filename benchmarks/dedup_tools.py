"""One deduplication by one tool, as a whole process; `dedup.py` starts and times it.

    python benchmarks/dedup_tools.py TOOL TEXTS.parquet KEPT.npy

Reads the column `text`, deduplicates at Jaccard 0.9 over words, writes a boolean per row. Runs in the
environment that has the tool installed; the peers are used as their own documentation shows.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow.parquet as pq

THRESHOLD = 0.9
PERMUTATIONS = 128  # the paper's signature size


def personahub(column) -> np.ndarray:
    from personahub.core.duplicates import surface

    kept = np.zeros(len(column), bool)
    kept[surface.deduplicate(column, THRESHOLD).kept] = True
    return kept


def rensa_r(column) -> np.ndarray:
    return _rensa(column, bands=None)


def rensa_r_8_bands(column) -> np.ndarray:
    return _rensa(column, bands=8)


def _rensa(column, bands: int | None) -> np.ndarray:
    from rensa import RMinHashDeduplicator  # pyright: ignore[reportMissingImports]

    tool = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True, num_bands=bands)
    return np.array(tool.add_pairs((str(i), text.split()) for i, text in enumerate(column.to_pylist())))


def rensa_rho(column) -> np.ndarray:
    """Its bulk filter. It flags both members of a pair, so the first of a crowd is lost as well."""
    from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportMissingImports]

    matrix = RMinHash.digest_matrix_from_token_sets_rho([t.split() for t in column.to_pylist()], PERMUTATIONS, 42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=8)
    return ~np.array(index.query_duplicate_flags_matrix_one_shot(matrix))


def datasketch(column) -> np.ndarray:
    from datasketch import MinHash, MinHashLSH  # pyright: ignore[reportMissingImports]

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    kept = np.zeros(len(column), bool)
    words = ([word.encode() for word in text.split()] for text in column.to_pylist())
    for row, sketch in enumerate(MinHash.generator(words, num_perm=PERMUTATIONS)):
        if not index.query(sketch):
            index.insert(row, sketch, check_duplication=False)
            kept[row] = True
    return kept


TOOLS = {tool.__name__: tool for tool in (personahub, rensa_r, rensa_r_8_bands, rensa_rho, datasketch)}

if __name__ == "__main__":
    name, texts, output = sys.argv[1:]
    np.save(output, TOOLS[name](pq.ParquetFile(texts).read(["text"])["text"]))
