"""The interface of a deduplication method.

A method is one class: its fields are its config, and its functions find near-duplicates. To add one, write the
class in a file of this package and list it in `methods.py`. A class outside the package is named by its dotted
path. A method that compares texts needs one function:

    class SameLength(TextMethod):
        version: Literal["1"] = "1"     # raise it when the same config gives other results

        def sweep(self, texts, thresholds, priority=None, against=None) -> list[Deduplication]: ...

    methods: [{method: my_package.my_module.SameLength, threshold: 0.9}]

A method that compares something else, such as embeddings, derives from `Method` itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from personahub.core.config import FrozenModel
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.word_sets import Texts
from personahub.core.forecast import Forecast

if TYPE_CHECKING:
    from personahub.core.duplicates.partitioned.blocks import Blocks
    from personahub.core.duplicates.partitioned.decide import Decided
    from personahub.core.duplicates.partitioned.spill import Spill


class Comparison(Protocol):
    """The rows of one method to compare: new rows first, then an existing collection."""

    def deduplicate(self, priority: Priority | None = None) -> Deduplication:
        """Decides which new rows stay. Existing rows all stay."""
        ...

    def sweep(self, rows: np.ndarray, thresholds: Sequence[float]) -> list[Deduplication]:
        """Deduplicates some of the new rows at several thresholds."""
        ...

    def summary(self, result: Callable[[], Deduplication], seed: int) -> dict[str, Any]:
        """Returns what the stage's summary should report in addition, such as the recall.

        Args:
            result: returns the decisions. It takes 8 bytes of memory per row, so call it only if needed.
            seed: for random samples.
        """
        ...


class TextColumn(Protocol):
    """Texts that can be read by row."""

    def take(self, indices: Any) -> Any:
        """Returns the texts (a pyarrow array) of some rows."""
        ...


class Method(FrozenModel):
    """A method outside the package, named by the dotted path of its class."""

    can_partition: ClassVar[bool] = False  # whether `deduplicate_partitions` and `compare_partitions` are defined

    method: str = Field(description="Dotted path of the class.")
    threshold: float = Field(default=0.9, description="Least similarity of two near-duplicates.")

    @property
    def name(self) -> str:
        """Short name, for metrics and for the reason `near_duplicate_NAME`."""
        return self.method.rpartition(".")[2]

    def accepts(self, threshold: float) -> bool:
        """Returns whether a threshold of the sweep is in this method's range."""
        return 0 < threshold <= 1

    @abstractmethod
    def prepare(
        self,
        texts: Texts,
        against: Texts | None,
        folder: Path,
        on_progress: Callable[[int], object] | None = None,
    ) -> Comparison:
        """Makes texts comparable, for example by embedding them.

        Args:
            texts: the new rows. An iterator is consumed once.
            against: rows of an existing collection, if there is one.
            folder: for files that the comparison needs. After an interruption the same folder is passed again.
            on_progress: called with the number of rows prepared since the last call.
        """

    def deduplicate_partitions(
        self, spill: Spill, blocks: Blocks, alive: Path | None, collapse_chains: bool
    ) -> Decided:
        """Decides as `Comparison.deduplicate` does, by tasks that exchange files.

        Args:
            spill: runs the tasks and holds their files.
            blocks: the texts, in the order in which they are visited.
            alive: file of one bool per row that says which rows take part. None means all.
            collapse_chains: whether to keep only the first of all rows that are connected by similar pairs.
        """
        raise NotImplementedError

    def compare_partitions(self, decided: Decided, texts: TextColumn) -> Comparison:
        """Returns the rows of `decided`, of which only `sweep` and `summary` are called.

        Args:
            decided: the result of `deduplicate_partitions`.
            texts: the rows that took part.
        """
        raise NotImplementedError

    def forecast(self, rows: int, partitioned: bool) -> Forecast:  # noqa: ARG002
        """Forecasts this method's cost, in addition to reading and writing the records.

        Args:
            rows: texts to compare.
            partitioned: whether the work is cut into partitions. Then `disk_bytes` is scratch space.
        """
        return Forecast(rows_out=rows)


class TextMethod(Method):
    """A method that compares texts as they are."""

    @abstractmethod
    def sweep(
        self,
        texts: Texts,
        thresholds: Sequence[float],
        priority: Priority | None = None,
        against: Texts | None = None,
    ) -> list[Deduplication]:
        """Deduplicates at each threshold, reading the texts once.

        `personahub.core.duplicates.word_sets.strings` yields the texts of any input as strings.
        """

    def prepare(
        self,
        texts: Texts,
        against: Texts | None,
        folder: Path,  # noqa: ARG002
        on_progress: Callable[[int], object] | None = None,  # noqa: ARG002
    ) -> Comparison:
        return TextComparison(self, texts, against)

    def compare_partitions(self, decided: Decided, texts: TextColumn) -> Comparison:  # noqa: ARG002
        return TextComparison(self, texts, None)


@dataclass(frozen=True)
class TextComparison:
    """Texts as they are."""

    method: TextMethod
    texts: Any
    against: Texts | None

    def deduplicate(self, priority: Priority | None = None) -> Deduplication:
        return self.method.sweep(self.texts, [self.method.threshold], priority, self.against)[0]

    def sweep(self, rows: np.ndarray, thresholds: Sequence[float]) -> list[Deduplication]:
        return self.method.sweep(self.texts.take(pa.array(rows)), thresholds)

    def summary(self, result: Callable[[], Deduplication], seed: int) -> dict[str, Any]:  # noqa: ARG002
        return {}
