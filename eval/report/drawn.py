"""Chooses records for the page by a hash of their id, and collects their details.

    ids = drawn_ids(artifact, count=24, seed=0)
    rows = rows_where([artifact], "id", ids)
    sample = new_sample(rows[ids[0]], [part("Problem", rows[ids[0]]["problem"])], outcome="accepted")

The choice does not depend on how the run was sharded. Every text is truncated to keep the page small.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from personahub.core.artifact import Artifact
from personahub.core.identity import derive_seed
from personahub.core.records import Row

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

_Item = TypeVar("_Item")
# characters shown of a text
DOCUMENT, SOLUTION, PROBLEM, PERSONA, SHORT = 1500, 3000, 2500, 800, 300


def new_sample(
    row: Row, parts: Sequence[dict[str, Any]], outcome: str, reason: str | None = None, detail: str | None = None
) -> dict[str, Any]:
    """Returns a record for the sample browser.

    Its lineage and later results are attached afterwards.

    Args:
        row: the record. Its `persona_id` and `document_id` lead back to its web text.
        parts: its parts, see `part`.
        outcome: kept, accepted, train, test or rejected.
        reason: why it was rejected, after the name of the stage.
        detail: details of the rejection.
    """
    return {
        "id": row.get("id"),
        "outcome": outcome,
        "reason": reason,
        "detail": cut(detail, SHORT),
        "stage": None,  # the stage that kept it; None if a verdict says more
        "parts": list(parts),
        "persona": None,  # the row, if the record is a persona
        "persona_id": row.get("persona_id"),
        "document_id": row.get("document_id"),
        "licence": row.get("licence"),
        "answer": cut(row.get("answer"), SHORT),
        "vote_share": row.get("vote_share"),
        "policy": row.get("policy"),
        "votes": [],
        "samples": [],
        "personas": [],
        "profile": [],
        "document": None,
        "graded": [],
    }


def part(title: str, text: str | None, notes: Sequence[str | None] = (), form: str = "prose", **more: Any) -> Row:
    """Returns a titled part of a record.

    Args:
        title: its heading.
        text: its text. The first line with a letter or digit also represents the record in the list of samples.
        notes: small print next to the heading.
        form: prose, code, reply (a model's text in a box) or talk (with `turns`).
        more: `turns`, as [{speaker, text}]; `gist`, to use instead of the first line.
    """
    shown = cut(text, SOLUTION)
    line = next((line for line in shown.splitlines() if any(map(str.isalnum, line))), shown.strip())
    return {"title": title, "text": shown, "notes": list(notes), "form": form, "gist": line, "turns": (), **more}


def drawn_ids(artifact: Artifact, count: int, seed: int, split: str | None = None) -> list[str]:
    """Chooses the ids of up to `count` records, from one split if it is given."""
    columns = ["id"] if split is None else ["id", "split"]
    ids = (row["id"] for row in artifact.rows(columns) if split is None or row["split"] == split)
    return heapq.nsmallest(count, ids, key=lambda id_: derive_seed(seed, "report", id_))


def drawn_rejected(artifacts: Iterable[Artifact], count: int, seed: int) -> list[tuple[str, Row]]:
    """Chooses rejected records as (stage, row), spread over the reasons.

    Their number is a third of `count`, or up to two thirds if that many are needed to show every reason.
    """
    piles: dict[str, list[tuple[str, Row]]] = {}
    for artifact in artifacts:
        for reason, rows in first_rejected(artifact, 4 * count).items():
            piles.setdefault(reason, []).extend((artifact.manifest.stage, row) for row in rows)
    for pile in piles.values():
        pile.sort(key=lambda entry: derive_seed(seed, "report", entry[1]["id"]))
    return in_turn(list(piles.values()), min(2 * count // 3, max(count // 3, len(piles))))


def in_turn(piles: Sequence[Sequence[_Item]], count: int) -> list[_Item]:
    """Takes up to `count` items from the piles in round-robin order."""
    deepest = max(map(len, piles), default=0)
    return [pile[i] for i in range(deepest) for pile in piles if i < len(pile)][:count]


def first_rejected(artifact: Artifact, per_reason: int) -> dict[str, list[Row]]:
    """Returns the first rejected records of every reason."""
    counts = artifact.manifest.counts.rejected
    wanted = sum(min(number, per_reason) for number in counts.values())
    found: dict[str, list[Row]] = {reason: [] for reason in counts}
    for row in artifact.rejected() if wanted else ():
        rows = found.setdefault(row["reason"], [])
        if len(rows) < per_reason:
            rows.append(row)
            wanted -= 1
        if not wanted:
            break
    return {reason: rows for reason, rows in found.items() if rows}


def rows_where(artifacts: Iterable[Artifact], column: str, values: Iterable[str | None]) -> dict[str, Row]:
    """Finds rows by the value of `column`, each in the first artifact that has it."""
    from pyarrow.dataset import field

    missing = {value for value in values if value is not None}
    found: dict[str, Row] = {}
    for artifact in artifacts:
        if missing and artifact.shard_names:
            table = _dataset(artifact).to_table(filter=field(column).isin(sorted(missing)))
            found |= {row[column]: row for row in reversed(table.to_pylist())}
            missing -= set(found)
    return found


def column_names(artifact: Artifact) -> set[str]:
    """Returns the column names of an artifact; empty if it has no records."""
    return set(_dataset(artifact).schema.names) if artifact.shard_names else set()


def _dataset(artifact: Artifact) -> Dataset:
    from pyarrow.dataset import dataset

    return dataset([str(artifact.path / f"{shard}.parquet") for shard in artifact.shard_names], format="parquet")


def cut(text: str | None, limit: int) -> str:
    """Truncates a text to `limit` characters and says how many are left out."""
    if text is None:
        return ""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"
