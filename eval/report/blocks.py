"""Building blocks of the page: sections of panels with charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

SAMPLE_KINDS = {"cot": "CoT", "pot": "PoT"}


@dataclass(frozen=True)
class Table:
    """A table of texts. Rows whose first cell is in `marked` are highlighted; `swatches` are series by row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[str] = ()
    swatches: Sequence[str] = ()

    @property
    def numbers(self) -> list[bool]:
        """Whether each column holds numbers, which are right-aligned."""
        return [
            column > 0 and not any(row[column][:1].isalpha() for row in self.rows if len(row) > column)
            for column in range(len(self.header))
        ]


@dataclass(frozen=True)
class Fold:
    """A table that opens when its title is clicked."""

    title: str
    table: Table


@dataclass(frozen=True)
class Listing:
    """Sentences under a heading."""

    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """A title with a chart, a table, listings, or several of these."""

    title: str
    note: str = ""
    chart: Markup | str = ""
    table: Table | None = None
    folds: Sequence[Fold] = ()
    listings: Sequence[Listing] = ()
    wide: bool = False


@dataclass(frozen=True)
class Legend:
    """The meaning of a color."""

    series: str
    label: str


@dataclass(frozen=True)
class Section:
    """A section of the page. `short` is its name in the navigation."""

    id: str
    short: str
    title: str
    lead: str = ""
    remarks: Sequence[str] = ()
    legend: Sequence[Legend] = ()
    panels: Sequence[Panel] = ()
    funnel: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] | None = None
    outcomes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # labels of kept and of rejected samples
    commands: Sequence[str] = ()
    table: Table | None = None
