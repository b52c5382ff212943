"""The method `minhash`: finds nearly all pairs by Jaccard similarity of n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from personahub.core.duplicates import minhash
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.word_sets import Texts
from personahub.deduplication.method import TextMethod


class MinHash(TextMethod):
    """Jaccard similarity of the sets of word n-grams, at least `threshold`. Finds nearly all such pairs."""

    method: Literal["minhash"]  # pyright: ignore[reportIncompatibleVariableOverride]
    threshold: float = Field(default=0.9, gt=0, le=1, description="Minimum similarity of two near-duplicates.")
    ngram: int = Field(default=1, gt=0, description="Number of consecutive words that form one element of the set.")
    permutations: int = Field(default=minhash.PERMUTATIONS, gt=0, description="Length of a signature.")

    def sweep(
        self,
        texts: Texts,
        thresholds: Sequence[float],
        priority: Priority | None = None,
        against: Texts | None = None,
    ) -> list[Deduplication]:
        return minhash.sweep(texts, thresholds, priority, against, ngram=self.ngram, permutations=self.permutations)
