"""Run one deduplication by one tool as a whole process, which `dedup.py` starts and times.

    python benchmarks/dedup_tools.py TOOL TEXTS.parquet KEPT.npy

Reads the column `text`, deduplicates at Jaccard 0.9 over words, writes a boolean per row, and prints
its peak resident memory in MB. It runs in the environment that has the tool installed. The other tools
are used as their own documentation shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

THRESHOLD = 0.9
PERMUTATIONS = 128  # the paper's signature size


def personahub(file: pq.ParquetFile) -> np.ndarray:
    """Stream the texts, as `personahub dedup` does."""
    from personahub.core.duplicates import surface

    batches = file.iter_batches(16_384, columns=["text"], use_threads=False)
    result = surface.deduplicate((batch.column(0) for batch in batches), THRESHOLD)
    kept = np.zeros(result.rows, bool)
    kept[result.kept] = True
    return kept


def personahub_minhash(file: pq.ParquetFile) -> np.ndarray:
    """Use MinHash in the paper's setting, and verify the pairs."""
    from personahub.core.duplicates import minhash

    column = file.read(["text"])["text"]
    kept = np.zeros(len(column), bool)
    kept[minhash.deduplicate(column, THRESHOLD).kept] = True
    return kept


def rensa_r(file: pq.ParquetFile) -> np.ndarray:
    return _rensa(file, bands=None)


def rensa_r_8_bands(file: pq.ParquetFile) -> np.ndarray:
    return _rensa(file, bands=8)


def _rensa(file: pq.ParquetFile, bands: int | None) -> np.ndarray:
    from rensa import RMinHashDeduplicator  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    tool = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True, num_bands=bands)
    return np.array(tool.add_pairs((str(i), text.split()) for i, text in enumerate(_texts(file))))


def rensa_rho(file: pq.ParquetFile) -> np.ndarray:
    """rensa's bulk filter. It flags both members of a pair, so the first of a group is lost as well."""
    from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    matrix = RMinHash.digest_matrix_from_token_sets_rho([t.split() for t in _texts(file)], PERMUTATIONS, 42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=8)
    return ~np.array(index.query_duplicate_flags_matrix_one_shot(matrix))


def datasketch(file: pq.ParquetFile) -> np.ndarray:
    from datasketch import MinHash, MinHashLSH  # pyright: ignore[reportMissingImports]

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    texts = _texts(file)
    kept = np.zeros(len(texts), bool)
    words = ([word.encode() for word in text.split()] for text in texts)
    for row, sketch in enumerate(MinHash.generator(words, num_perm=PERMUTATIONS)):
        if not index.query(sketch):
            index.insert(row, sketch, check_duplication=False)
            kept[row] = True
    return kept


def setsimilaritysearch(file: pq.ParquetFile) -> np.ndarray:
    """Find all pairs, then keep the first of each group, which the library leaves to its user."""
    from SetSimilaritySearch import all_pairs  # pyright: ignore[reportMissingImports]

    texts = _texts(file)
    kept = np.ones(len(texts), bool)
    pairs = all_pairs([set(text.split()) for text in texts], "jaccard", THRESHOLD)
    for later, earlier in sorted((max(a, b), min(a, b)) for a, b, _ in pairs):
        if kept[earlier]:
            kept[later] = False
    return kept


def datatrove(file: pq.ParquetFile) -> np.ndarray:
    """datatrove's four MinHash stages in one process, with words instead of its n-grams of five, and clusters."""
    import tempfile

    from datatrove.data import Document  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.dedup import minhash  # pyright: ignore[reportMissingImports]
    from datatrove.utils.hashing import HashConfig  # pyright: ignore[reportMissingImports]
    from datatrove.utils.word_tokenizers import WordTokenizer  # pyright: ignore[reportMissingImports]

    texts = _texts(file)

    class Words(WordTokenizer):
        """Split on spaces, which suffices here; datatrove's English tokenizer takes several times as long."""

        word_tokenize = staticmethod(str.split)
        sent_tokenize = span_tokenize = staticmethod(lambda text: [text])

    config = minhash.MinhashConfig(
        n_grams=1, num_buckets=5, hashes_per_bucket=25, hash_config=HashConfig(precision=64, hash_fc="sha1")
    )
    kept = np.zeros(len(texts), bool)
    with tempfile.TemporaryDirectory() as folder:
        documents = (Document(text=text, id=str(row)) for row, text in enumerate(texts))
        minhash.MinhashDedupSignature(f"{folder}/signatures", config, Words()).run(documents, 0, 1)
        for bucket in range(config.num_buckets):
            minhash.MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config).run(
                None, bucket, config.num_buckets
            )
        minhash.MinhashDedupCluster(f"{folder}/buckets", f"{folder}/removed", config=config).run(None, 0, 1)
        documents = (Document(text=text, id=str(row)) for row, text in enumerate(texts))
        for document in minhash.MinhashDedupFilter(f"{folder}/removed").run(documents, 0, 1):
            kept[int(document.id)] = True
    return kept


def _texts(file: pq.ParquetFile) -> list[str]:
    return file.read(["text"])["text"].to_pylist()


def _peak_mb() -> float:
    """Return the kernel's peak for this program only; `ru_maxrss` also counts what the parent had before."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


TOOLS = {
    tool.__name__: tool
    for tool in (
        personahub, personahub_minhash, rensa_r, rensa_r_8_bands, rensa_rho, datasketch, setsimilaritysearch, datatrove,
    )
}  # fmt: skip

if __name__ == "__main__":
    name, texts, output = sys.argv[1:]
    np.save(output, TOOLS[name](pq.ParquetFile(texts, buffer_size=1 << 20)))
    print(_peak_mb())
