"""What the journals of finished and unfinished stages take, and removing those that are not needed to resume.

A stage that is complete has its completions in its records; its journal serves `run --redo` only,
which would otherwise ask, and pay, again. What it cost stays on record beside it, for
`max_cost_usd`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from personahub.core.artifact import MANIFEST
from personahub.core.errors import UserError
from personahub.core.experiments.runner import lock_experiment
from personahub.core.files import write_json
from personahub.core.generation.budget import SPENT, Spent, spent_by_engine
from personahub.core.texts.figures import format_number


@dataclass(frozen=True)
class JournalFolder:
    """The journal of one stage."""

    path: Path
    complete: bool
    completions: int
    size: int  # bytes

    @property
    def stage(self) -> str:
        return f"{self.path.parent.parent.name}/{self.path.parent.name}"


def journals(runs: Path, experiments: Sequence[str] = ()) -> list[JournalFolder]:
    """All journals below `runs` that hold anything, by experiment and stage.

    Raises:
        UserError: there is no such folder or experiment.
    """
    for folder in [runs, *(runs / name for name in experiments)]:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name the one that holds the runs with --runs")
    found = []
    for path in sorted(runs.glob("*/*/journal")):
        if experiments and path.parent.parent.name not in experiments:
            continue
        files = [file for file in path.rglob("*") if file.is_file() and file.name != SPENT]
        lines = sum(_lines(file) for file in files if file.parent == path and file.suffix == ".jsonl")
        if files:
            complete = (path.parent / MANIFEST).exists()
            found.append(JournalFolder(path, complete, lines, sum(file.stat().st_size for file in files)))
    return found


def _lines(file: Path) -> int:
    with file.open("rb") as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(2**20), b""))


def describe_journals(found: Sequence[JournalFolder]) -> str:
    """A table, and what of it can go."""
    if not found:
        return "No journals."
    width = max(len(journal.stage) for journal in found)
    lines = [f"{'stage':<{width}}  {'completions':>12}  {'MB':>9}  needed"]
    for journal in found:
        needed = "for --redo only: the stage is complete" if journal.complete else "to resume"
        lines.append(f"{journal.stage:<{width}}  {journal.completions:>12,}  {journal.size / 1e6:>9,.1f}  {needed}")
    done = [journal for journal in found if journal.complete]
    total, free = (sum(journal.size for journal in some) for some in (found, done))
    lines.append(f"{format_number(total)}B in all, {format_number(free)}B of it of complete stages")
    return "\n".join(lines)


def prune(found: Sequence[JournalFolder]) -> list[JournalFolder]:
    """Remove the journals of complete stages, keeping what they cost on record; those that went.

    Raises:
        UserError: one of the experiments is running.
    """
    gone = []
    for journal in found:
        with lock_experiment(journal.path.parent.parent):
            if (journal.path.parent / MANIFEST).exists():  # it may be being made again since it was found
                remove_completions(journal.path)
                gone.append(journal)
    return gone


def remove_completions(journal: Path) -> None:
    """Remove what the folder of a stage's journal holds but the record of what it cost."""
    record = journal / SPENT
    spent: dict[str, Spent] = {}
    if record.exists():
        recorded = json.loads(record.read_text(encoding="utf-8"))
        spent = {engine: Spent(**values) for engine, values in recorded.items()}
    files = sorted(journal.glob("*.jsonl"))
    for file in files:
        for engine, more in spent_by_engine(file).items():
            spent[engine] = spent.get(engine, Spent()).plus(more)
    # First the record: a kill in between counts something twice, which errs on the side of the budget.
    write_json(record, {engine: asdict(values) for engine, values in sorted(spent.items())})
    for file in files:
        file.unlink()
    shutil.rmtree(journal / "batches", ignore_errors=True)
