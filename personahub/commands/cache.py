"""Show or delete the journals of completions.

    personahub cache stats
    personahub cache prune quickstart --yes

While a stage runs, its journal holds every completion, so that a killed run can resume. A complete
stage has its completions in its records; its journal only serves `run --redo`, which would
otherwise request, and pay for, the completions again. `prune` deletes the journals of complete
stages. What they cost stays on record for `max_cost_usd`.
"""

from __future__ import annotations

import argparse
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub cache`."""
    parser.add_argument(
        "action", choices=("stats", "prune"), help="stats: list the journals; prune: delete those of complete stages"
    )
    parser.add_argument(
        "experiments", nargs="*", default=[], metavar="EXPERIMENT", help="Names of experiments (default: all)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="Folder of all experiments (default: runs)"
    )
    parser.add_argument("--yes", action="store_true", help="Delete; without it, prune only lists what it would delete")


def run(options: argparse.Namespace) -> int:
    """List or delete journals."""
    found = find_journals(options.runs, options.experiments)
    if options.action == "stats":
        print(describe_journals(found))
        return 0
    pruned = prune(found) if options.yes else [journal for journal in found if journal.complete]
    completions, megabytes = sum(j.completions for j in pruned), sum(j.size for j in pruned) / 1e6
    for journal in pruned:
        print(journal.stage)
    if options.yes:
        print(f"{completions:,} completions deleted, {megabytes:,.1f} MB; `run --redo` requests them again")
    else:
        print(
            f"--yes would delete {completions:,} completions, {megabytes:,.1f} MB. The stages stay as they are; "
            "only `run --redo` would request, and pay for, these completions again"
        )
    return 0


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


def find_journals(runs: Path, experiments: Sequence[str] = ()) -> list[JournalFolder]:
    """Return all non-empty journals below `runs`, sorted by experiment and stage.

    Raises:
        UserError: the folder or an experiment does not exist.
    """
    for folder in [runs, *(runs / name for name in experiments)]:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; pass the folder of all experiments with --runs")
    found = []
    for path in sorted(runs.glob("*/*/journal")):
        if experiments and path.parent.parent.name not in experiments:
            continue
        files = [file for file in path.rglob("*") if file.is_file() and file.name != SPENT]
        lines = sum(_count_lines(file) for file in files if file.parent == path and file.suffix == ".jsonl")
        if files:
            complete = (path.parent / MANIFEST).exists()
            found.append(JournalFolder(path, complete, lines, sum(file.stat().st_size for file in files)))
    return found


def _count_lines(file: Path) -> int:
    with file.open("rb") as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(2**20), b""))


def describe_journals(found: Sequence[JournalFolder]) -> str:
    """Return a table of journals, with the size of those that can be deleted."""
    if not found:
        return "No journals."
    width = max(len(journal.stage) for journal in found)
    lines = [f"{'stage':<{width}}  {'completions':>12}  {'MB':>9}  needed"]
    for journal in found:
        needed = "only for --redo: the stage is complete" if journal.complete else "to resume"
        lines.append(f"{journal.stage:<{width}}  {journal.completions:>12,}  {journal.size / 1e6:>9,.1f}  {needed}")
    done = [journal for journal in found if journal.complete]
    total, free = (sum(journal.size for journal in some) for some in (found, done))
    lines.append(f"{format_number(total)}B in total, {format_number(free)}B of complete stages")
    return "\n".join(lines)


def prune(found: Sequence[JournalFolder]) -> list[JournalFolder]:
    """Delete the journals of complete stages and keep their cost on record.

    Returns the deleted ones.

    Raises:
        UserError: one of the experiments is running.
    """
    pruned = []
    for journal in found:
        with lock_experiment(journal.path.parent.parent):
            if (journal.path.parent / MANIFEST).exists():  # `run --redo` may have started since the journal was found
                delete_completions(journal.path)
                pruned.append(journal)
    return pruned


def delete_completions(journal: Path) -> None:
    """Delete everything in a stage's journal folder except the record of what it cost."""
    record = journal / SPENT
    spent: dict[str, Spent] = {}
    if record.exists():
        recorded = json.loads(record.read_text(encoding="utf-8"))
        spent = {engine: Spent(**values) for engine, values in recorded.items()}
    files = sorted(journal.glob("*.jsonl"))
    for file in files:
        for engine, more in spent_by_engine(file).items():
            spent[engine] = spent.get(engine, Spent()).plus(more)
    # The record comes first: after a kill in between, some costs count twice, which keeps within the budget.
    write_json(record, {engine: asdict(values) for engine, values in sorted(spent.items())})
    for file in files:
        file.unlink()
    shutil.rmtree(journal / "batches", ignore_errors=True)
