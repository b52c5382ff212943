"""A few dozen problems followed back to the text they came from, and forward to their verdict.

    for sample in lineage_samples(artifacts, count=36, seed=0):
        sample["document"], sample["personas"], sample["problem"], sample["samples"], sample["votes"]

Accepted problems of both splits and rejected ones of every reason are drawn by a hash of their id,
so the same records appear however the run was sharded.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eval.report.summary import made_by
from personahub.core.artifact import Artifact
from personahub.core.identity import derive_seed
from personahub.core.records import Row

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

_LONGEST = {"document": 1500, "solution": 3000, "problem": 2500, "persona": 800, "answer": 300, "detail": 300}
_MAX_HOPS = 12  # the paper takes six; a bound, should a damaged artifact hold a circle


def lineage_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` problems with their lineage: two thirds accepted, one third rejected by a later stage.

    Args:
        artifacts: of all stages, in pipeline order.
        count: how many in all.
        seed: of the choice.
    """
    rejected = _rejected_problems(artifacts, count // 3, seed)
    accepted = _accepted_problems(artifacts, count - len(rejected), seed)
    chosen = [*accepted, *rejected]
    _attach_solutions(chosen, artifacts)
    _attach_votes(chosen, artifacts)
    _attach_personas(chosen, artifacts)
    _attach_documents(chosen, artifacts)
    _attach_graded(chosen, artifacts)
    return chosen


def rejected_examples(artifacts: Sequence[Artifact], per_reason: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The first rejected records of every stage and reason, as {stage: {reason: [{detail, text}]}}."""
    found = {}
    for artifact in artifacts:
        reasons = _first_rejected(artifact, per_reason)
        if reasons:
            found[artifact.manifest.stage] = {
                reason: [{"detail": _cut(row["detail"], "detail"), "text": _rejected_text(row)} for row in rows]
                for reason, rows in reasons.items()
            }
    return found


def _first_rejected(artifact: Artifact, per_reason: int) -> dict[str, list[Row]]:
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


def _rejected_text(row: Row) -> str:
    """What to show of a rejected record: the model's text, else its most telling field."""
    if row["raw"]:
        return _cut(row["raw"], "persona")
    record = json.loads(row["record"])
    telling = next((record[key] for key in ("problem", "persona", "text") if record.get(key)), row["record"])
    return _cut(str(telling), "persona")


def _accepted_problems(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Half of them from the test split, where the students' answers can be shown as well."""
    data = made_by(artifacts, "synth.sft_data")
    if data:
        test = _drawn(data[-1], "test", count // 2, seed)
        train = _drawn(data[-1], "train", count - len(test), seed)
        chosen = dict.fromkeys(test, "test") | dict.fromkeys(train, "train")
        rows = _rows_where(data[-1], "id", list(chosen))
    else:
        verified = made_by(artifacts, "synth.verify")
        chosen = dict.fromkeys(_drawn(verified[-1], None, count, seed), "accepted") if verified else {}
        rows = _rows_where(verified[-1], "id", list(chosen)) if verified else {}
    ordered = sorted(rows, key=lambda id_: derive_seed(seed, "report", id_))
    return [_sample(rows[id_], outcome=chosen[id_], reason=None, detail="") for id_ in ordered]


def _drawn(artifact: Artifact, split: str | None, count: int, seed: int) -> list[str]:
    columns = ["id"] if split is None else ["id", "split"]
    ids = (row["id"] for row in artifact.rows(columns) if split is None or row["split"] == split)
    return heapq.nsmallest(count, ids, key=lambda id_: derive_seed(seed, "report", id_))


def _rejected_problems(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Problems that a stage behind `synth.solutions` rejected, spread over the reasons."""
    piles = []
    for module in ("synth.verify", "synth.decontaminate", "synth.sft_data"):
        for artifact in made_by(artifacts, module):
            for rows in _first_rejected(artifact, 4 * count).values():
                rows.sort(key=lambda row: derive_seed(seed, "report", row["id"]))
                piles.append([(artifact.manifest.stage, row) for row in rows])
    chosen = []
    while any(piles) and len(chosen) < count:
        for pile in piles:
            if pile and len(chosen) < count:
                chosen.append(pile.pop(0))
    return [_rejected_sample(stage, row) for stage, row in chosen]


def _rejected_sample(stage: str, row: Row) -> dict[str, Any]:
    record = json.loads(row["record"])
    return _sample(record, outcome="rejected", reason=f"{stage}: {row['reason']}", detail=row["detail"])


def _sample(row: Row, outcome: str, reason: str | None, detail: str | None) -> dict[str, Any]:
    return {
        "id": row["id"],
        "outcome": outcome,
        "reason": reason,
        "detail": _cut(detail, "detail"),
        "problem": {"text": _cut(row.get("problem"), "problem"), "template": None, "model": None},
        "persona_id": row.get("persona_id"),
        "document_id": row.get("document_id"),
        "answer": _cut(row.get("answer"), "answer"),
        "vote_share": row.get("vote_share"),
        "policy": row.get("policy"),
        "votes": _votes(row),
        "samples": [],
        "personas": [],
        "document": None,
        "graded": [],
    }


def _votes(row: Row) -> list[dict[str, Any]]:
    """Votes with `won`: whether they are in the largest cluster."""
    votes = row.get("votes") or []
    clusters = Counter(vote["cluster"] for vote in votes if vote["cluster"] is not None and vote["cluster"] >= 0)
    largest = max(clusters, key=lambda cluster: (clusters[cluster], -cluster), default=None)
    return [
        {
            **vote,
            "answer": _cut(vote["answer"], "answer") if vote["answer"] is not None else None,
            "won": largest is not None and vote["cluster"] == largest and clusters[largest] > 1,
        }
        for vote in votes
    ]


def _attach_solutions(samples: list[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    rows = _lookup(made_by(artifacts, "synth.solutions"), "id", [sample["id"] for sample in samples])
    for sample in samples:
        row = rows.get(sample["id"])
        if row is not None:
            sample["problem"] |= {"template": row["template"], "model": row["model"]}
            sample["samples"] = [{**each, "text": _cut(each["text"], "solution")} for each in row["samples"]]


def _attach_votes(samples: list[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    rows = _lookup(made_by(artifacts, "synth.verify"), "id", [sample["id"] for sample in samples])
    for sample in samples:
        row = rows.get(sample["id"])
        if row is not None:
            sample["votes"] = _votes(row)
            sample |= {key: row[key] for key in ("vote_share", "policy")}


def _attach_personas(samples: list[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    """The chain from the Text-to-Persona persona to the one the problem was made with."""
    sources = [artifact for artifact in artifacts if _has_personas(artifact)]
    known: dict[str, Row] = {}
    wanted = {sample["persona_id"] for sample in samples if sample["persona_id"]}
    for _ in range(_MAX_HOPS):
        known |= _lookup(sources, "id", wanted)
        wanted = {row["parent_id"] for row in known.values() if row["parent_id"]} - set(known)
        if not wanted:
            break
    for sample in samples:
        row = known.get(sample["persona_id"] or "")
        while row is not None and len(sample["personas"]) < _MAX_HOPS:
            step = {key: row[key] for key in ("hop", "mode", "relation", "model")}
            sample["personas"].insert(0, {**step, "persona": _cut(row["persona"], "persona")})
            row = known.get(row["parent_id"] or "")


def _has_personas(artifact: Artifact) -> bool:
    names = _dataset(artifact).schema.names if artifact.shard_names else []
    return {"persona", "parent_id", "relation", "hop"} <= set(names)


def _attach_documents(samples: list[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    ids = {sample["document_id"] for sample in samples if sample["document_id"]}
    rows = _lookup(made_by(artifacts, "personahub.sources"), "id", ids)
    for sample in samples:
        row = rows.get(sample["document_id"] or "")
        if row is not None:
            sample["document"] = {**row, "text": _cut(row["text"], "document")}


def _attach_graded(samples: list[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    """What each benchmark stage's model answered, for problems of the test split."""
    ids = [sample["id"] for sample in samples if sample["outcome"] == "test"]
    for artifact in made_by(artifacts, "eval.benchmark"):
        rows = _lookup([artifact], "id", ids)
        for sample in samples:
            row = rows.get(sample["id"])
            if row is not None:
                shown = {key: row[key] for key in ("verdict", "rule", "finish_reason")}
                shown["predicted"] = _cut(row["predicted"], "answer") if row["predicted"] is not None else None
                shown["completion"] = _cut(row["completion"], "solution")
                sample["graded"].append({"stage": artifact.manifest.stage, **shown})


def _lookup(artifacts: Sequence[Artifact], column: str, values: Iterable[str]) -> dict[str, Row]:
    """Rows by the value of `column`, from the first artifact that has them."""
    missing = set(values)
    found: dict[str, Row] = {}
    for artifact in artifacts:
        if missing:
            found |= _rows_where(artifact, column, sorted(missing))
            missing -= set(found)
    return found


def _rows_where(artifact: Artifact, column: str, values: Sequence[str]) -> dict[str, Row]:
    if not values or not artifact.shard_names:
        return {}
    from pyarrow.dataset import field

    table = _dataset(artifact).to_table(filter=field(column).isin(list(values)))
    return {row[column]: row for row in reversed(table.to_pylist())}


def _dataset(artifact: Artifact) -> Dataset:
    from pyarrow.dataset import dataset

    return dataset([str(artifact.path / f"{shard}.parquet") for shard in artifact.shard_names], format="parquet")


def _cut(text: str | None, kind: str) -> str:
    if text is None:
        return ""
    limit = _LONGEST[kind]
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"
