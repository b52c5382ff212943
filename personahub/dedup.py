"""Dedup: near-duplicate personas are dropped, by surface form and then by meaning.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}      # against: personas_of_last_month
      config:
        methods:
          - {method: surface, threshold: 0.9}
          - {method: embedding, threshold: 0.9, embedder: {kind: minilm}}

The thresholds are the paper's (arXiv 2406.20094, section 2); where it approximates with MinHash,
`surface` is exact. `minhash` is there for comparison and for long texts. Each method reads what
the one before kept and looks at all of it at once: about 300 bytes of memory a persona for `surface`
beside the texts, and 256 for `embedding`, whose vectors are in a file that is mapped. What does not fit
is cut into partitions (`personahub.deduplication.partitioned`). Which of two near-duplicates survives is
decided by `keep`, and depends neither on shards nor on order unless it says `first`.

The personas of the optional input `against` all stay where they are: they are not written again
and not compared with each other, but they cover new ones.

A dropped persona is in `rejected/` under `near_duplicate_METHOD`; its detail names the similarity
and the survivor, which a later method may have dropped in turn.
The summary holds a sweep over thresholds (without `against`) and the most doubtful drops of each
method: read these before you trust a threshold. `field` makes the stage serve other records, such as problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.forecast import Forecast, Work
from personahub.core.stage import Stage
from personahub.deduplication import partitioned, whole
from personahub.deduplication.methods import Config, Embedding

VERSION = "1"
INPUTS = ("personas", "against?")
WORK = Work(cpu_seconds=2.3e-05, memory_bytes=1700, disk_bytes=63, measured_by="benchmarks.million")
_EMBEDDING_CPU_SECONDS = 1 / 309  # a persona, by the packaged MiniLM
_EMBEDDING_MEASURED_BY = "python -m benchmarks.embedding_dedup --only-rates"
# Search for near vectors at 0.9: CPU seconds a row and a row squared, through what 100,000 and 1,000,000 rows took,
# and bytes a row beside the vectors, which are mapped from a file.
_SEARCH = {"exact": (6e-6, 2.6e-10, 367), "clustered": (1.31e-4, 9.1e-11, 1045)}
_SEARCH_MEASURED_BY = "python -m benchmarks.embedding_dedup --rows 1000000"


def run(stage: Stage[Config]) -> None:
    """Decide over all shards, then write each one."""
    partitions = partitioned.partitions(stage)
    if partitions is None:
        whole.run(stage)
    else:
        partitioned.run(stage, partitions)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """As many rows as come in: how many are near-duplicates is not known beforehand."""
    rows = rows_in["personas"]
    methods = [method for method in config.methods if isinstance(method, Embedding)]
    notes = tuple(f"embeds up to {rows:,} texts with {describe(method.embedder)}" for method in methods)
    embedding = _EMBEDDING_CPU_SECONDS * rows * sum(_on_this_cpu(method.embedder) for method in methods)
    if embedding:
        notes += (f"{embedding / 3600:,.2f} of the CPU-hours embed, without a GPU ({_EMBEDDING_MEASURED_BY})",)
    searching = sum(rows * _SEARCH[method.search][0] + rows**2 * _SEARCH[method.search][1] for method in methods)
    if searching:
        notes += (f"{searching / 3600:,.2f} of the CPU-hours search for near vectors ({_SEARCH_MEASURED_BY})",)
    expected = partitioned.forecast(config, rows, WORK)
    if expected is None:
        searched = [_SEARCH[method.search][2] for method in methods]
        work = replace(WORK, memory_bytes=WORK.memory_bytes + max(searched, default=0))
        expected = work.of(rows, Forecast(rows_out=rows))
    cpu = expected.cpu_seconds + embedding + searching
    return replace(expected, cpu_seconds=cpu, notes=(*expected.notes, *notes))


def _on_this_cpu(embedder: EmbedderConfig) -> bool:
    return embedder.kind == "minilm" and embedder.device in ("auto", "cpu")
