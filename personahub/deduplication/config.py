"""Config of the dedup stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from personahub.core.config import EXECUTION, StageConfig
from personahub.deduplication.embedding import Embedding
from personahub.deduplication.methods import AnyMethod
from personahub.deduplication.surface import Surface


class Config(StageConfig):
    """Which methods run, in which order, and which of two near-duplicates stays."""

    methods: tuple[AnyMethod, ...] = (Surface(method="surface"), Embedding(method="embedding"))
    field: str = Field(default="persona", description="Name of the text that is compared.")
    keep: Literal["id", "first", "longest", "score"] = Field(
        default="id",
        description="The survivor has the smallest id (a content hash, so no text is favored), comes first in the "
        "input, has the longest text, or has the highest `score_field` (then the smallest id).",
    )
    score_field: str | None = Field(
        default=None, description="Numeric field for `keep: score`. Records without a value come last."
    )
    collapse_chains: bool = Field(
        default=False,
        description="If A is similar to B and B to C, but A is not similar to C, keep only the first of the three. "
        "By default both A and C stay.",
    )
    sweep: tuple[float, ...] = Field(
        default=(0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        description="Thresholds of the sweep in the summary. An empty list skips the sweep.",
    )
    sweep_rows: int = Field(default=20_000, gt=0, description="Number of rows that the sweep samples, by `seed`.")
    examples: int = Field(
        default=5, ge=0, description="Number of least similar drops of each method to show in the summary."
    )
    partitions: Annotated[int | None, EXECUTION] = Field(
        default=None,
        gt=0,
        description="Number of partitions on disk. The work becomes tasks for the executor, with the same result: see "
        "`personahub.deduplication.partitioned`. By default only if one process would need more than half of the "
        "memory.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if (self.keep == "score") != (self.score_field is not None):
            raise ValueError("`keep: score` and `score_field` go together: set both or neither")
        for method in self.methods:
            if self.collapse_chains and not method.can_partition:
                raise ValueError(
                    f"`collapse_chains` needs all similar pairs, which {method.name} does not list: use surface"
                )
        return self
