"""Sampled records, traced back to their web text and forward to their verdict.

    for sample in lineage_samples(artifacts, count=36, seed=0):
        sample["document"], sample["personas"], sample["parts"], sample["samples"], sample["votes"]

If the run verifies problems, the records are problems (`eval.report.problems`). Otherwise they are personas and what was
made with them (`eval.report.unverified`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eval.report.drawn import DOCUMENT, PERSONA, SHORT, column_names, cut, first_rejected, rows_where
from eval.report.problems import problem_samples
from eval.report.summary import made_by
from eval.report.unverified import profile_fields, unverified_samples
from personahub.core.artifact import Artifact
from personahub.core.records import Row

_MAX_HOPS = 12  # the paper uses six; the limit stops at a cycle in a damaged artifact


def lineage_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Returns up to `count` records with their lineage, kept records first.

    Args:
        artifacts: artifacts of all stages, in pipeline order.
        count: total number of records.
        seed: seed of the choice.
    """
    chosen = problem_samples(artifacts, count, seed) or unverified_samples(artifacts, count, seed)
    _attach_personas(chosen, artifacts)
    _attach_documents(chosen, artifacts)
    return chosen


def rejected_examples(artifacts: Sequence[Artifact], per_reason: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Returns the first rejected records by stage and reason. The form is {stage: {reason: [{detail, text}]}}."""
    found = {}
    for artifact in artifacts:
        reasons = first_rejected(artifact, per_reason)
        if reasons:
            found[artifact.manifest.stage] = {
                reason: [{"detail": cut(row["detail"], SHORT), "text": _rejected_text(row)} for row in rows]
                for reason, rows in reasons.items()
            }
    return found


def _rejected_text(row: Row) -> str:
    """Returns the text of a rejected record. Prefers the model's reply to the most informative field."""
    if row["raw"]:
        return cut(row["raw"], PERSONA)
    record = json.loads(row["record"])
    text = next((record[key] for key in ("problem", "persona", "text") if record.get(key)), row["record"])
    return cut(str(text), PERSONA)


def _attach_personas(samples: Sequence[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    """Attaches the chain of personas that leads to the record. It starts at the Text-to-Persona persona."""
    sources = [
        artifact for artifact in artifacts if {"persona", "parent_id", "relation", "hop"} <= column_names(artifact)
    ]
    own = [sample["persona"] for sample in samples if sample["persona"]]
    known: dict[str | None, Row] = {row["id"]: row for row in own if row.get("id")}
    wanted = {sample["persona_id"] for sample in samples}
    for _ in range(_MAX_HOPS):
        known |= rows_where(sources, "id", wanted - set(known))
        wanted = {row.get("parent_id") for row in known.values()} - set(known) - {None}
        if not wanted:
            break
    for sample in samples:
        row = sample["persona"] or known.get(sample["persona_id"])
        sample["profile"] = profile_fields(row.get("profile")) if row else []
        while row is not None and len(sample["personas"]) < _MAX_HOPS:
            step = {key: row.get(key) for key in ("hop", "mode", "granularity", "relation", "model")}
            sample["personas"].insert(0, {**step, "persona": cut(row["persona"], PERSONA)})
            row = known.get(row.get("parent_id"))


def _attach_documents(samples: Sequence[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    ids = {sample["document_id"] for sample in samples}
    rows = rows_where(made_by(artifacts, "personahub.sources"), "id", ids)
    for sample in samples:
        row = rows.get(sample["document_id"] or "")
        if row is not None:
            sample["document"] = {**row, "text": cut(row["text"], DOCUMENT)}
