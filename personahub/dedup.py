"""Dedup: drop near-duplicate personas, by surface form and then by meaning.

    personas_unique:
      run: personahub.dedup
      inputs: {personas: personas_clean}      # against: personas_of_last_month
      config:
        methods:
          - {method: surface, threshold: 0.9}
          - {method: embedding, threshold: 0.9, embedder: {kind: minilm}}

The thresholds are the paper's (arXiv 2406.20094, section 2). The paper approximates with MinHash; `surface` is
exact. `minhash` is there for comparison and for long texts. A method of your own is named by the dotted path of
its class (`personahub.deduplication.method`).

Each method reads what the method before it kept, and looks at all of it at once. In addition to the texts,
`surface` takes about 300 bytes of memory per persona, and `embedding` 256, because its vectors are mapped from a
file. Work that does not fit in memory is cut into partitions (`personahub.deduplication.partitioned`). `keep`
decides which of two near-duplicates survives. The result does not depend on shards or on the order of rows,
unless `keep` is `first`.

The personas of the optional input `against` all stay where they are. They are neither written again nor compared
with each other, but new personas that resemble them are dropped.

A dropped persona is in `rejected/` with the reason `near_duplicate_METHOD`. The detail names the similarity and
the survivor, which a later method may have dropped in turn. The summary holds a sweep over thresholds (without
`against`) and the least similar drops of each method: read these before you trust a threshold. Set `field` to
deduplicate other records, such as problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from personahub.core.forecast import Forecast, Work
from personahub.core.stage import Stage
from personahub.deduplication.config import Config
from personahub.deduplication.partitioned import (
    choose_partitions,
    forecast_partitioned,
    forecast_partitions,
    run_partitioned,
)
from personahub.deduplication.whole import run_whole

VERSION = "2"
INPUTS = ("personas", "against?")
WORK = Work(cpu_seconds=2.3e-05, memory_bytes=1700, disk_bytes=63, measured_by="benchmarks.million")


def run(stage: Stage[Config]) -> None:
    """Decides on all shards, then writes each one."""
    partitions = choose_partitions(stage)
    if partitions is None:
        run_whole(stage)
    else:
        run_partitioned(stage, partitions)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecasts as many rows as come in. The number of near-duplicates is not known beforehand."""
    rows = rows_in["personas"]
    partitions = forecast_partitions(config, rows)
    methods = [method.forecast(rows, partitioned=partitions is not None) for method in config.methods]
    if partitions is None:
        expected = WORK.add_to(rows, Forecast(rows_out=rows))
        memory = expected.memory_bytes + max((method.memory_bytes for method in methods), default=0)
        expected = replace(expected, memory_bytes=memory)
    else:
        expected = forecast_partitioned(rows, partitions, WORK, methods)
    return replace(
        expected,
        cpu_seconds=expected.cpu_seconds + sum(method.cpu_seconds for method in methods),
        notes=(*expected.notes, *(note for method in methods for note in method.notes)),
    )
