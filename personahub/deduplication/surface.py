"""The method `surface`: exact Jaccard similarity of the sets of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from personahub.core.duplicates import surface
from personahub.core.duplicates.partitioned import word_join
from personahub.core.duplicates.partitioned.blocks import Blocks
from personahub.core.duplicates.partitioned.decide import Decided
from personahub.core.duplicates.partitioned.spill import Spill
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.word_sets import Texts
from personahub.core.forecast import Forecast
from personahub.deduplication.method import TextMethod

# CPU seconds per row by partitions: `python -m benchmarks.dedup_executors --rows 10000000 --executors serial`.
# In one process they are part of the stage's `WORK`.
_CPU_SECONDS = 4.5e-6


class Surface(TextMethod):
    """Jaccard similarity of the sets of words, at least `threshold`."""

    can_partition: ClassVar[bool] = True

    method: Literal["surface"]  # pyright: ignore[reportIncompatibleVariableOverride]
    threshold: float = Field(default=0.9, gt=0, le=1, description="Minimum similarity of two near-duplicates.")

    def sweep(
        self,
        texts: Texts,
        thresholds: Sequence[float],
        priority: Priority | None = None,
        against: Texts | None = None,
    ) -> list[Deduplication]:
        return surface.sweep(texts, thresholds, priority, against)

    def deduplicate_partitions(
        self, spill: Spill, blocks: Blocks, alive: Path | None, collapse_chains: bool
    ) -> Decided:
        return word_join.deduplicate(spill, blocks, self.threshold, alive, collapse_chains)

    def forecast(self, rows: int, partitioned: bool) -> Forecast:
        if not partitioned:
            return Forecast(rows_out=rows)
        cpu = rows * _CPU_SECONDS
        note = f"{cpu / 3600:,.2f} of the CPU-hours join sets of words (python -m benchmarks.dedup_executors)"
        return Forecast(rows_out=rows, cpu_seconds=cpu, notes=(note,))
